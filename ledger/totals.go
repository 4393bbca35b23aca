package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tillhook/ledger/fold"
)

// Totals are kept by day, currency and account in the transaction that moves them. A line that comes
// to nothing is removed: the totals are a function of the set of events, like everything folded.

const secondsADay = 24 * 60 * 60

// amounts are sums of entries. refunded is less what came back, so that it may be negative.
type amounts struct{ received, refunded, withdrawn, reinstated Sum }

func (a amounts) plus(b amounts) amounts {
	return amounts{a.received.Plus(b.received), a.refunded.Plus(b.refunded), a.withdrawn.Plus(b.withdrawn), a.reinstated.Plus(b.reinstated)}
}

func (a amounts) minus(b amounts) amounts {
	return amounts{a.received.Minus(b.received), a.refunded.Minus(b.refunded), a.withdrawn.Minus(b.withdrawn), a.reinstated.Minus(b.reinstated)}
}

// net returns what is left of it.
func (a amounts) net() Sum { return a.received.Minus(a.refunded).Minus(a.withdrawn).Plus(a.reinstated) }

// amountsOf returns an entry as amounts.
func amountsOf(e *Entry) (a amounts) {
	switch n := fold.SumOf(e.Amount); e.Kind {
	case fold.Received:
		a.received = n
	case fold.Refunded:
		a.refunded = n
	case fold.RefundReturned:
		a.refunded = a.refunded.Minus(n)
	case fold.DisputeWithdrawn:
		a.withdrawn = n
	case fold.DisputeReinstated:
		a.reinstated = n
	}
	return a
}

// dayKey begins the keys of the totals of the day, in UTC, of a time in Unix seconds.
func dayKey(at int64) []byte {
	day := at / secondsADay
	if at%secondsADay < 0 {
		day--
	}
	return binary.BigEndian.AppendUint64(nil, uint64(day)^1<<63)
}

// totalKey returns the key of a total: day, currency, account. Neither text has a NUL in it.
func totalKey(at int64, currency, account string) []byte {
	return append(append(append(dayKey(at), currency...), 0), account...)
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
	for _, n := range []Sum{a.received, a.refunded, a.withdrawn, a.reinstated} {
		e.int(n.Hi)
		e.uint(n.Lo)
	}
	return e.buf
}

func decodeAmounts(value []byte) (a amounts, err error) {
	d := decoder{buf: value}
	for _, n := range []*Sum{&a.received, &a.refunded, &a.withdrawn, &a.reinstated} {
		n.Hi, n.Lo = d.int(), d.uint()
	}
	return a, d.end()
}

// newTotals computes the totals after changes, those that become others. It writes nothing.
func (b *booking) newTotals(changes []*change) (map[string]amounts, error) {
	var moved map[string]amounts
	for _, c := range changes {
		before, after := c.entriesChanged() // of most events none
		if moved == nil && len(before)+len(after) > 0 {
			moved = map[string]amounts{}
		}
		for i := range before {
			key := c.before.totalKey(&before[i])
			moved[key] = moved[key].minus(amountsOf(&before[i]))
		}
		for i := range after {
			key := c.after.totalKey(&after[i])
			moved[key] = moved[key].plus(amountsOf(&after[i]))
		}
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
		totals[key] = total.plus(by)
	}
	return totals, nil
}

// totalKey returns the key of the total that an entry of the payment is part of.
func (s *state) totalKey(e *Entry) string {
	return string(totalKey(e.At, e.Currency, string(s.view.Account)))
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
	Day        string `json:"day"` // 2026-11-23
	Currency   OrNull `json:"currency"`
	Account    OrNull `json:"account"`
	Received   Sum    `json:"received"`
	Refunded   Sum    `json:"refunded"`
	Withdrawn  Sum    `json:"withdrawn"`
	Reinstated Sum    `json:"reinstated"`
	Net        Sum    `json:"net"`
}

// Totals lists the totals from one day on and before another, oldest first; a zero time sets no bound.
func (l *Ledger) Totals(from, to time.Time) ([]Total, error) {
	list := []Total{}
	next := []byte{}
	if !from.IsZero() {
		next = dayKey(from.Unix())
	}
	var end []byte
	if !to.IsZero() {
		end = dayKey(to.Unix())
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

// MaxDays is how many days of another time zone than UTC can be summed at once.
const MaxDays = 400

// ErrTooManyDays: more than [MaxDays] days were asked for.
var ErrTooManyDays = errors.New("too many days")

// TotalsIn lists the totals of the days of a time zone as [Ledger.Totals] does those of UTC, for the money that moved at or
// after one time and before another (Unix seconds; nil sets no bound). It reads every entry of those days, and
// returns [ErrTooManyDays] if there are more than [MaxDays].
func (l *Ledger) TotalsIn(zone *time.Location, from, to *int64) ([]Total, error) {
	first, last, err := l.entryTimes(from, to)
	bounded := from != nil && to != nil
	if err != nil || first > last && !bounded || bounded && *from >= *to {
		return []Total{}, err
	}
	if from != nil {
		first = *from
	}
	if to != nil {
		last = *to - 1
	}
	begin, _ := DayOf(first, zone)
	_, end := DayOf(last, zone)
	if last-first > MaxDays*secondsADay+secondsADay || end-begin > MaxDays*secondsADay+secondsADay/2 || last-first < 0 {
		return nil, fmt.Errorf("%w: in another time zone than UTC at most %d are summed at once; set from and to so that there are no more between them",
			ErrTooManyDays, MaxDays)
	}
	type line struct{ day, currency, account string }
	sums := map[line]amounts{}
	err = l.walkIndex(context.Background(), from, to, func(_ *txn, at int64, _ string, value []byte) error {
		account, list, err := decodeMoved(value)
		for _, m := range list {
			key := line{dayName(at, zone), m.currency, account}
			sums[key] = sums[key].plus(m.amounts)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	list := []Total{}
	for key, a := range sums {
		if a != (amounts{}) { // as the kept totals have it
			list = append(list, a.total(key.day, key.currency, key.account))
		}
	}
	slices.SortFunc(list, func(a, b Total) int {
		return cmp.Or(strings.Compare(a.Day, b.Day), cmp.Compare(a.Currency, b.Currency), cmp.Compare(a.Account, b.Account))
	})
	return list, nil
}

// dayName returns the day that a time lies in.
func dayName(at int64, zone *time.Location) string {
	return time.Unix(at, 0).In(zone).Format(time.DateOnly)
}

// entryTimes returns the first and the last time at which money moved within the bounds; the first is after the last if none did.
func (l *Ledger) entryTimes(from, to *int64) (first, last int64, err error) {
	var low, high []byte
	if from != nil {
		low = timeKey(*from, "")
	}
	if to != nil {
		high = timeKey(*to, "")
	}
	first, last = 1, 0
	err = l.view(func(tx *txn) error {
		for key := range tx.ascend(bucketEntries, low) {
			if high != nil && bytes.Compare(key, high) >= 0 {
				return nil
			}
			first, _, err = readTimeKey(key)
			break
		}
		for key := range tx.descend(bucketEntries, high) {
			if err == nil && bytes.Compare(key, low) >= 0 {
				last, _, err = readTimeKey(key)
			}
			break
		}
		return err
	})
	return first, last, err
}

// total names the sums of a day.
func (a amounts) total(day, currency, account string) Total {
	return Total{
		Day: day, Currency: OrNull(currency), Account: OrNull(account),
		Received: a.received, Refunded: a.refunded, Withdrawn: a.withdrawn, Reinstated: a.reinstated, Net: a.net(),
	}
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
	return a.total(time.Unix(day*secondsADay, 0).UTC().Format(time.DateOnly), currency, account), err
}
