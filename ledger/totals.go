package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Totals are kept by day, currency and account in the transaction that moves them. A line that comes to
// nothing is taken out: the totals are a function of the set of events, like everything folded.

const secondsADay = 24 * 60 * 60

// totalKey: day, currency, account. Neither text has a NUL in it.
func totalKey(m movement, account string) []byte {
	day := m.at / secondsADay
	if m.at%secondsADay < 0 {
		day--
	}
	key := binary.BigEndian.AppendUint64(nil, uint64(day)^1<<63)
	return append(append(append(key, m.currency...), 0), account...)
}

func readTotalKey(key []byte) (day int64, currency, account string, err error) {
	if len(key) < 8 {
		return 0, "", "", fmt.Errorf("%w: key of a total", ErrCorrupt)
	}
	c, a, ok := bytes.Cut(key[8:], []byte{0})
	if !ok {
		return 0, "", "", fmt.Errorf("%w: key of a total", ErrCorrupt)
	}
	return int64(binary.BigEndian.Uint64(key) ^ 1<<63), string(c), string(a), nil
}

func (a *amounts) encode() []byte {
	var e encoder
	for _, n := range []int64{a.received, a.refunded, a.withdrawn, a.reinstated} {
		e.int(n)
	}
	return e.buf
}

func decodeAmounts(value []byte) (a amounts, err error) {
	d := decoder{buf: value}
	for _, n := range []*int64{&a.received, &a.refunded, &a.withdrawn, &a.reinstated} {
		*n = d.int()
	}
	return a, d.end()
}

// newTotals computes the totals after changes, those that become others. It writes nothing.
func (b *booking) newTotals(changes []*change) (map[string]amounts, error) {
	var moved map[string]amounts
	for _, c := range changes {
		if c.before.movesAs(c.after) {
			continue // most events move no money
		}
		if moved == nil {
			moved = map[string]amounts{}
		}
		c.before.each(func(key string, m amounts) {
			a := moved[key]
			a.take(m)
			moved[key] = a
		})
		c.after.each(func(key string, m amounts) {
			a := moved[key]
			a.add(m)
			moved[key] = a
		})
	}
	if moved == nil {
		return nil, nil
	}
	totals := map[string]amounts{}
	for key, by := range moved {
		if by == (amounts{}) {
			continue
		}
		total, err := b.total(key)
		if err != nil {
			return nil, err
		}
		total.add(by)
		totals[key] = total
	}
	return totals, nil
}

// movesAs tells whether the totals are the same with the one as with the other.
func (e *effect) movesAs(other *effect) bool {
	if e == nil || other == nil {
		return (e == nil || len(e.movements) == 0) && (other == nil || len(other.movements) == 0)
	}
	return e.view.Account == other.view.Account && slices.Equal(e.movements, other.movements)
}

// each visits what a payment adds to the totals.
func (e *effect) each(visit func(key string, m amounts)) {
	if e == nil {
		return
	}
	for _, m := range e.movements {
		visit(string(totalKey(m, string(e.view.Account))), m.amounts)
	}
}

// total is what a total has come to in this transaction.
func (b *booking) total(key string) (total amounts, err error) {
	if total, ok := b.totals[key]; ok {
		return total, nil
	}
	value, err := get(b.tx, bucketTotals, []byte(key))
	if err != nil || value == nil {
		return total, err
	}
	if total, err = decodeAmounts(value); err != nil {
		return total, fmt.Errorf("the total under %.80q: %w", key, err)
	}
	return total, nil
}

// keepTotals takes over what newTotals computed. Many events of a transaction move the same ones, which are written once.
func (b *booking) keepTotals(totals map[string]amounts) {
	if b.totals == nil && len(totals) > 0 {
		b.totals = map[string]amounts{}
	}
	maps.Copy(b.totals, totals)
}

// writeTotals writes those that became others.
func (b *booking) writeTotals() error {
	for key, total := range b.totals {
		var err error
		if total == (amounts{}) {
			err = remove(b.tx, bucketTotals, []byte(key))
		} else {
			err = put(b.tx, bucketTotals, []byte(key), total.encode())
		}
		if err != nil {
			return err
		}
	}
	b.totals = nil
	return nil
}

// Total is the money of one day in one currency and one account, in the currency's minor unit.
type Total struct {
	Day        string `json:"day"` // 2026-11-23, in UTC
	Currency   OrNull `json:"currency"`
	Account    OrNull `json:"account"`
	Received   int64  `json:"received"`
	Refunded   int64  `json:"refunded"`
	Withdrawn  int64  `json:"withdrawn"`
	Reinstated int64  `json:"reinstated"`
	Net        int64  `json:"net"`
}

// Totals lists the totals from one day on and before another, oldest first; a zero time sets no bound.
func (l *Ledger) Totals(from, to time.Time) ([]Total, error) {
	list := []Total{}
	next := []byte{}
	if !from.IsZero() {
		next = totalKey(movement{at: from.Unix()}, "")[:8]
	}
	var end []byte
	if !to.IsZero() {
		end = totalKey(movement{at: to.Unix()}, "")[:8]
	}
	for next != nil {
		err := l.view(func(tx *txn) error {
			c := tx.Bucket(bucketTotals).Cursor()
			n := 0
			for key, stored := c.Seek(next); ; key, stored = c.Next() {
				if key == nil || end != nil && bytes.Compare(key, end) >= 0 {
					next = nil
					return nil
				}
				if n == scanSlice {
					next = bytes.Clone(key)
					return nil
				}
				t, err := readTotal(key, stored)
				if err != nil {
					return err
				}
				list, n = append(list, t), n+1
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

func readTotal(key, stored []byte) (Total, error) {
	value, err := unseal(bucketTotals, key, stored)
	if err != nil {
		return Total{}, err
	}
	a, err := decodeAmounts(value)
	if err != nil {
		return Total{}, err
	}
	day, currency, account, err := readTotalKey(key)
	return Total{
		Day: time.Unix(day*secondsADay, 0).UTC().Format(time.DateOnly), Currency: OrNull(currency), Account: OrNull(account),
		Received: a.received, Refunded: a.refunded, Withdrawn: a.withdrawn, Reinstated: a.reinstated, Net: a.net(),
	}, err
}
