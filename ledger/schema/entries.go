package schema

import (
	"cmp"
	"fmt"
	"slices"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// The bucket of entries is an index of all money by the time at which it moved. A key is (time,
// payment), and its value is what the payment moved in that second, by currency. The totals for
// days in any time zone are computed from this index, and an export of some days reads only the
// payments that moved money on those days. The index entries of a payment are a function of the
// payment and are written in the same transaction.

// Moved is what a payment moved in one second in one currency.
type Moved struct {
	Currency string
	Amounts
}

// MoneyByTime returns the index values of a payment by their time.
func (s *State) MoneyByTime() map[int64][]byte {
	index := map[int64][]byte{}
	for i := range s.Entries {
		if second := s.Entries[i].At; i == 0 || second != s.Entries[i-1].At {
			index[second] = s.MoneyAt(second)
		}
	}
	return index
}

// MoneyAt returns the index value for the entries of one second, or nil if the payment has no entry
// in that second. A second whose entries cancel out stays in the index, because an export contains
// those entries.
func (s *State) MoneyAt(second int64) []byte {
	if s == nil {
		return nil
	}
	var list []Moved
	from, _ := slices.BinarySearchFunc(s.Entries, second, func(e fold.Entry, second int64) int { return cmp.Compare(e.At, second) })
	for i := from; i < len(s.Entries) && s.Entries[i].At == second; i++ {
		e := &s.Entries[i]
		at, found := slices.BinarySearchFunc(list, e.Currency, func(m Moved, currency string) int { return cmp.Compare(m.Currency, currency) })
		if !found {
			list = slices.Insert(list, at, Moved{Currency: e.Currency})
		}
		list[at].Amounts = list[at].Plus(AmountsOf(e))
	}
	if len(list) == 0 {
		return nil
	}
	return encodeMoved(string(s.Payment.Account), list)
}

func encodeMoved(account string, list []Moved) []byte {
	var e encoder
	e.text(account)
	for i := range list {
		e.text(list[i].Currency)
		e.amounts(&list[i].Amounts)
	}
	return e.buf
}

// DecodeMoved decodes an index value: the account of the payment, and what it moved by currency.
func DecodeMoved(value []byte) (account string, list []Moved, err error) {
	d := decoder{buf: value}
	account = d.text()
	for d.err == nil && len(d.buf) > 0 {
		list = append(list, Moved{d.text(), d.amounts()})
	}
	if err = d.end(); err == nil && len(list) == 0 {
		err = fmt.Errorf("%w: a second of the index of entries without money", store.ErrCorrupt)
	}
	return account, list, err
}
