package schema

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// Totals are stored by day, currency and account, and by currency and account over all days, so
// that no request has to add up days. They are written in the transaction of the events that change
// them. A total whose amounts are all 0 is removed, so that totals depend only on the set of
// events, like everything that is folded.

// Amounts are sums of entries. refunded is net of returned refunds, so it may be negative.
type Amounts struct{ Received, Refunded, Withdrawn, Reinstated fold.Sum }

// Plus returns the sums of a and b.
func (a Amounts) Plus(b Amounts) Amounts {
	return Amounts{a.Received.Plus(b.Received), a.Refunded.Plus(b.Refunded), a.Withdrawn.Plus(b.Withdrawn), a.Reinstated.Plus(b.Reinstated)}
}

// Minus returns a without b.
func (a Amounts) Minus(b Amounts) Amounts {
	return Amounts{a.Received.Minus(b.Received), a.Refunded.Minus(b.Refunded), a.Withdrawn.Minus(b.Withdrawn), a.Reinstated.Minus(b.Reinstated)}
}

// Net returns the money that remains after refunds and disputes.
func (a Amounts) Net() fold.Sum {
	return a.Received.Minus(a.Refunded).Minus(a.Withdrawn).Plus(a.Reinstated)
}

// AmountsOf returns the amount of an entry as amounts.
func AmountsOf(e *fold.Entry) (a Amounts) {
	switch n := fold.SumOf(e.Amount); e.Kind {
	case fold.Received:
		a.Received = n
	case fold.Refunded:
		a.Refunded = n
	case fold.RefundReturned:
		a.Refunded = a.Refunded.Minus(n)
	case fold.DisputeWithdrawn:
		a.Withdrawn = n
	case fold.DisputeReinstated:
		a.Reinstated = n
	}
	return a
}

// SecondsADay is the length of a UTC day.
const SecondsADay = 24 * 60 * 60

// DayKey returns the prefix of the keys of the totals of a UTC day. at is any time on that day, in
// Unix seconds.
func DayKey(at int64) []byte {
	day := at / SecondsADay
	if at%SecondsADay < 0 {
		day--
	}
	return binary.BigEndian.AppendUint64(nil, uint64(day)^1<<63)
}

// TotalKey returns the key of a total: day, currency, account. Neither text contains a NUL.
func TotalKey(at int64, currency, account string) []byte {
	return append(append(append(DayKey(at), currency...), 0), account...)
}

// MaxDay is the number of the last day whose first second fits into an int64.
const MaxDay = math.MaxInt64 / SecondsADay

// AllDays takes the place of the day's number in the key of a total over all days. No day has this
// number, because a day's number is a time in seconds divided by SecondsADay.
const AllDays = math.MinInt64

// AllDaysKey returns the key of a total over all days.
func AllDaysKey(currency, account string) []byte {
	return append(append(append(make([]byte, 8), currency...), 0), account...)
}

// IsAllDays reports whether key is the key of a total over all days.
func IsAllDays(key []byte) bool { return bytes.Compare(key, FirstDay) < 0 }

// FirstDay is less than the key of any day's total, and greater than the key of any total over all
// days.
var FirstDay = []byte{0, 0, 0, 0, 0, 0, 0, 1}

// ReadTotalKey decodes a key of a total. day is [AllDays] for a total over all days.
func ReadTotalKey(key []byte) (day int64, currency, account string, err error) {
	if len(key) < 8 {
		return 0, "", "", fmt.Errorf("%w: key of a total", store.ErrCorrupt)
	}
	c, a, ok := bytes.Cut(key[8:], []byte{0})
	if !ok {
		return 0, "", "", fmt.Errorf("%w: key of a total", store.ErrCorrupt)
	}
	return int64(binary.BigEndian.Uint64(key) ^ 1<<63), string(c), string(a), nil
}

// Encode returns the stored form of a total.
func (a *Amounts) Encode() []byte {
	var e encoder
	e.amounts(a)
	return e.buf
}

// DecodeAmounts decodes a total.
func DecodeAmounts(value []byte) (Amounts, error) {
	d := decoder{buf: value}
	a := d.amounts()
	return a, d.end()
}

func (e *encoder) amounts(a *Amounts) {
	for _, n := range []fold.Sum{a.Received, a.Refunded, a.Withdrawn, a.Reinstated} {
		e.int(n.Hi)
		e.uint(n.Lo)
	}
}

func (d *decoder) amounts() (a Amounts) {
	for _, n := range []*fold.Sum{&a.Received, &a.Refunded, &a.Withdrawn, &a.Reinstated} {
		n.Hi, n.Lo = d.int(), d.uint()
	}
	return a
}

// TotalKeys returns the keys of the totals that include an entry of the payment: the total of its
// day and the total over all days.
func (s *State) TotalKeys(e *fold.Entry) [2]string {
	account := string(s.Payment.Account)
	return [2]string{string(TotalKey(e.At, e.Currency, account)), string(AllDaysKey(e.Currency, account))}
}
