package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"tillhook/ledger/fold"
)

// amounts are sums of entries. refunded is net of returned refunds, so it may be negative.
type amounts struct{ received, refunded, withdrawn, reinstated Sum }

func (a amounts) plus(b amounts) amounts {
	return amounts{a.received.Plus(b.received), a.refunded.Plus(b.refunded), a.withdrawn.Plus(b.withdrawn), a.reinstated.Plus(b.reinstated)}
}

func (a amounts) minus(b amounts) amounts {
	return amounts{a.received.Minus(b.received), a.refunded.Minus(b.refunded), a.withdrawn.Minus(b.withdrawn), a.reinstated.Minus(b.reinstated)}
}

// net returns the money that remains after refunds and disputes.
func (a amounts) net() Sum { return a.received.Minus(a.refunded).Minus(a.withdrawn).Plus(a.reinstated) }

// amountsOf returns the amount of an entry as amounts.
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

const secondsADay = 24 * 60 * 60

// dayKey returns the prefix of the keys of the totals of a UTC day. at is any time on that day, in
// Unix seconds.
func dayKey(at int64) []byte {
	day := at / secondsADay
	if at%secondsADay < 0 {
		day--
	}
	return binary.BigEndian.AppendUint64(nil, uint64(day)^1<<63)
}

// totalKey returns the key of a total: day, currency, account. Neither text contains a NUL.
func totalKey(at int64, currency, account string) []byte {
	return append(append(append(dayKey(at), currency...), 0), account...)
}

// maxDay is the number of the last day whose first second fits into an int64.
const maxDay = math.MaxInt64 / secondsADay

// allDays takes the place of the day's number in the key of a total over all days. No day has this
// number, because a day's number is a time in seconds divided by secondsADay.
const allDays = math.MinInt64

// allDaysKey returns the key of a total over all days.
func allDaysKey(currency, account string) []byte {
	return append(append(append(make([]byte, 8), currency...), 0), account...)
}

func isAllDays(key []byte) bool { return bytes.Compare(key, firstDay) < 0 }

// firstDay is less than the key of any day's total, and greater than the key of any total over all
// days.
var firstDay = []byte{0, 0, 0, 0, 0, 0, 0, 1}

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

// totalKeys returns the keys of the totals that include an entry of the payment: the total of its
// day and the total over all days.
func (s *state) totalKeys(e *Entry) [2]string {
	account := string(s.view.Account)
	return [2]string{string(totalKey(e.At, e.Currency, account)), string(allDaysKey(e.Currency, account))}
}
