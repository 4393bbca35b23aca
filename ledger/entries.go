package ledger

import (
	"cmp"
	"fmt"
	"slices"
)

// The bucket entries is an index of all money by the time at which it moved. A key is (time,
// payment), and its value is what the payment moved in that second, by currency. The totals for
// days in any time zone are computed from this index, and an export of some days reads only the
// payments that moved money on those days. The index entries of a payment are a function of the
// payment and are written in the same transaction.

// moved is what a payment moved in one second in one currency.
type moved struct {
	currency string
	amounts
}

// index returns the index values of a payment by their time.
func (s *state) index() map[int64][]byte {
	index := map[int64][]byte{}
	for i := range s.entries {
		if second := s.entries[i].At; i == 0 || second != s.entries[i-1].At {
			index[second] = s.indexAt(second)
		}
	}
	return index
}

// indexAt returns the index value for the entries of one second, or nil if the payment has no entry
// in that second. A second whose entries cancel out stays in the index, because an export contains
// those entries.
func (s *state) indexAt(second int64) []byte {
	if s == nil {
		return nil
	}
	var list []moved
	from, _ := slices.BinarySearchFunc(s.entries, second, func(e Entry, second int64) int { return cmp.Compare(e.At, second) })
	for i := from; i < len(s.entries) && s.entries[i].At == second; i++ {
		e := &s.entries[i]
		at, found := slices.BinarySearchFunc(list, e.Currency, func(m moved, currency string) int { return cmp.Compare(m.currency, currency) })
		if !found {
			list = slices.Insert(list, at, moved{currency: e.Currency})
		}
		list[at].amounts = list[at].plus(amountsOf(e))
	}
	if len(list) == 0 {
		return nil
	}
	return encodeMoved(string(s.view.Account), list)
}

func encodeMoved(account string, list []moved) []byte {
	var e encoder
	e.text(account)
	for i := range list {
		e.text(list[i].currency)
		for _, n := range []Sum{list[i].received, list[i].refunded, list[i].withdrawn, list[i].reinstated} {
			e.int(n.Hi)
			e.uint(n.Lo)
		}
	}
	return e.buf
}

func decodeMoved(value []byte) (account string, list []moved, err error) {
	d := decoder{buf: value}
	account = d.text()
	for d.err == nil && len(d.buf) > 0 {
		m := moved{currency: d.text()}
		for _, n := range []*Sum{&m.received, &m.refunded, &m.withdrawn, &m.reinstated} {
			n.Hi, n.Lo = d.int(), d.uint()
		}
		list = append(list, m)
	}
	if err = d.end(); err == nil && len(list) == 0 {
		err = fmt.Errorf("%w: a second of the index of entries without money", ErrCorrupt)
	}
	return account, list, err
}
