package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
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

// moveTotals takes a payment's money as it was out of the totals and adds it as it is.
func (b *booking) moveTotals(before, after *effect) error {
	if before != nil && after != nil && before.view.Account == after.view.Account && slices.Equal(before.movements, after.movements) {
		return nil // most events move no money
	}
	moved := map[string]amounts{}
	if before != nil {
		for _, m := range before.movements {
			key := string(totalKey(m, string(before.view.Account)))
			a := moved[key]
			a.take(m.amounts)
			moved[key] = a
		}
	}
	if after != nil {
		for _, m := range after.movements {
			key := string(totalKey(m, string(after.view.Account)))
			a := moved[key]
			a.add(m.amounts)
			moved[key] = a
		}
	}
	for _, key := range slices.Sorted(maps.Keys(moved)) {
		if moved[key] == (amounts{}) {
			continue
		}
		if err := b.moveTotal([]byte(key), moved[key]); err != nil {
			return err
		}
	}
	return nil
}

func (b *booking) moveTotal(key []byte, by amounts) error {
	value, err := get(b.tx, bucketTotals, key)
	if err != nil {
		return err
	}
	var total amounts
	if value != nil {
		if total, err = decodeAmounts(value); err != nil {
			return err
		}
	}
	total.add(by)
	if total == (amounts{}) {
		return remove(b.tx, bucketTotals, key)
	}
	return put(b.tx, bucketTotals, key, total.encode())
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
		err := l.view(func(tx *bolt.Tx) error {
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
