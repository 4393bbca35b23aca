package schema

import (
	"bytes"
	"fmt"
	"slices"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// A payment's state is rewritten with each of its events. If the state contained all of its lists,
// each event of a payment with thousands of events would rewrite thousands of elements. So a list
// of more than maxInline elements is stored in the bucket lists, with each element under a key of
// its own, and an event writes only the elements that it changes. The state contains the lengths of
// the lists.
//
// A key consists of the payment's id, a NUL (which no id contains), the number of the list, and the
// sort key of the element.

// maxInline is the maximum number of elements of a list that is stored in the state itself. Most
// payments have fewer.
const maxInline = 16

// The numbers of the lists, which are part of their keys.
const (
	ListRows = iota
	listRefunds
	listDisputes
	listEntries
	listUnexplained
	listKinds
)

// list describes how the elements of one list are stored.
type list[T any] struct {
	number byte
	key    func(*T) []byte // the sort key, unique in the list; keys are in the order of the list
	encode func(*encoder, *T)
	decode func(*decoder) T // reads what encode wrote
	equal  func(a, b *T) bool
}

var (
	rowList = list[uint64]{
		number: ListRows, key: func(seq *uint64) []byte { return SeqKey(*seq) },
		encode: func(e *encoder, seq *uint64) { e.uint(*seq) }, decode: (*decoder).uint, equal: func(a, b *uint64) bool { return *a == *b },
	}
	refundList = list[fold.PaymentRefund]{
		number: listRefunds, key: func(r *fold.PaymentRefund) []byte { return TimeKey(int64(r.Created), r.ID) },
		encode: (*encoder).paymentRefund, decode: (*decoder).paymentRefund, equal: sameRefund,
	}
	disputeList = list[fold.PaymentDispute]{
		number: listDisputes, key: func(d *fold.PaymentDispute) []byte { return TimeKey(int64(d.Created), d.ID) },
		encode: (*encoder).paymentDispute, decode: (*decoder).paymentDispute,
		equal: func(a, b *fold.PaymentDispute) bool { return *a == *b },
	}
	entryList = list[fold.Entry]{
		number: listEntries,
		key: func(x *fold.Entry) []byte {
			return append(TimeKey(x.At, x.ID), 0, byte(slices.Index(fold.Kinds[:], x.Kind)))
		},
		encode: (*encoder).entry, decode: (*decoder).entry, equal: func(a, b *fold.Entry) bool { return *a == *b },
	}
	unexplainedList = list[string]{
		number: listUnexplained, key: func(id *string) []byte { return []byte(*id) },
		encode: func(e *encoder, id *string) { e.text(*id) }, decode: (*decoder).text, equal: func(a, b *string) bool { return *a == *b },
	}
)

// listsOf returns the prefix of the keys of all lists of a payment.
func listsOf(id string) []byte { return append([]byte(id), 0) }

// keyOf returns the key of an element.
func (l *list[T]) keyOf(id string, element *T) []byte {
	return append(append(listsOf(id), l.number), l.key(element)...)
}

// valueOf returns the stored value of an element.
func (l *list[T]) valueOf(id string, element *T) []byte {
	e := newEncoder(id)
	l.encode(&e, element)
	return e.buf
}

// apart returns the elements if they are stored under keys of their own, and nil if they are stored
// in the state.
func apart[T any](elements []T) []T {
	if len(elements) <= maxInline {
		return nil
	}
	return elements
}

// inline writes the length of a list into a state, and the elements unless they are stored apart.
func (l *list[T]) inline(e *encoder, elements []T) {
	if e.uint(uint64(len(elements))); len(elements) <= maxInline {
		for i := range elements {
			l.encode(e, &elements[i])
		}
	}
}

// outline reads what inline wrote. It returns the elements or, for a list that is stored apart,
// only its length. Otherwise length is 0.
func (l *list[T]) outline(d *decoder) (elements []T, length uint64) {
	n := d.uint()
	if n > maxInline {
		return nil, n
	}
	for range n {
		elements = append(elements, l.decode(d))
	}
	return elements, 0
}

// read returns the elements of a payment's list that is stored apart. A length of 0 means that the
// list is stored in the state.
func (l *list[T]) read(tx *store.Tx, id string, length uint64) (elements []T, err error) {
	if length == 0 {
		return nil, nil
	}
	prefix := append(listsOf(id), l.number)
	for e := range tx.Prefix(BucketLists, prefix) {
		key := e.Key
		value, err := e.Value()
		if err != nil {
			return nil, err
		}
		d := newDecoder(id, value)
		element := l.decode(&d)
		if err := d.end(); err != nil {
			return nil, fmt.Errorf("key %.80q of the lists: %w", key, err)
		}
		if !bytes.Equal(l.key(&element), key[len(prefix):]) {
			return nil, fmt.Errorf("%w: key %.80q of the lists and its value", store.ErrCorrupt, key)
		}
		elements = append(elements, element)
	}
	if uint64(len(elements)) != length {
		return nil, fmt.Errorf("%w: list %d has %d elements, not %d", store.ErrCorrupt, l.number, len(elements), length)
	}
	return elements, nil
}

// write stores the difference between two states of a list. Elements that are stored in the
// payment's state are not written here.
func (l *list[T]) write(tx *store.Tx, id string, before, after []T) error {
	before, after = apart(before), apart(after)
	for len(before) > 0 && len(after) > 0 && l.equal(&before[0], &after[0]) {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && l.equal(&before[len(before)-1], &after[len(after)-1]) {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	for len(before)+len(after) > 0 {
		order := 0
		switch {
		case len(before) == 0:
			order = 1
		case len(after) == 0:
			order = -1
		default:
			order = bytes.Compare(l.key(&before[0]), l.key(&after[0]))
		}
		var err error
		switch {
		case order < 0:
			err = tx.Delete(BucketLists, l.keyOf(id, &before[0]))
		case order > 0 || !l.equal(&before[0], &after[0]):
			err = tx.Put(BucketLists, l.keyOf(id, &after[0]), l.valueOf(id, &after[0]))
		}
		if err != nil {
			return err
		}
		if order <= 0 {
			before = before[1:]
		}
		if order >= 0 {
			after = after[1:]
		}
	}
	return nil
}

// each calls visit with the key and the value of every element that is stored apart.
func (l *list[T]) each(id string, elements []T, visit func(key, value []byte)) {
	elements = apart(elements)
	for i := range elements {
		visit(l.keyOf(id, &elements[i]), l.valueOf(id, &elements[i]))
	}
}

// readLists reads the lists of a state that are stored apart, whose lengths DecodeHead returned.
func (s *State) readLists(tx *store.Tx, lengths [listKinds]uint64) (err error) {
	id := s.Payment.ID
	if lengths[ListRows] > 0 {
		if s.Rows, err = rowList.read(tx, id, lengths[ListRows]); err != nil {
			return err
		}
	}
	if lengths[listRefunds] > 0 {
		if s.Payment.Refunds, err = refundList.read(tx, id, lengths[listRefunds]); err != nil {
			return err
		}
	}
	if lengths[listDisputes] > 0 {
		if s.Payment.Disputes, err = disputeList.read(tx, id, lengths[listDisputes]); err != nil {
			return err
		}
	}
	if lengths[listEntries] > 0 {
		if s.Entries, err = entryList.read(tx, id, lengths[listEntries]); err != nil {
			return err
		}
	}
	if lengths[listUnexplained] > 0 {
		s.Unexplained, err = unexplainedList.read(tx, id, lengths[listUnexplained])
	}
	return err
}

// WriteLists stores the difference between a payment's lists before and after a change. A nil state
// has no lists.
func WriteLists(tx *store.Tx, id string, before, after *State) error {
	none := &State{Payment: &fold.Payment{}}
	if before == nil {
		before = none
	}
	if after == nil {
		after = none
	}
	if err := rowList.write(tx, id, before.Rows, after.Rows); err != nil {
		return err
	}
	if err := refundList.write(tx, id, before.Payment.Refunds, after.Payment.Refunds); err != nil {
		return err
	}
	if err := disputeList.write(tx, id, before.Payment.Disputes, after.Payment.Disputes); err != nil {
		return err
	}
	if err := entryList.write(tx, id, before.Entries, after.Entries); err != nil {
		return err
	}
	return unexplainedList.write(tx, id, before.Unexplained, after.Unexplained)
}

// EachListed calls visit with the key and the value of every element of the payment's lists that is
// stored apart.
func (s *State) EachListed(visit func(key, value []byte)) {
	id := s.Payment.ID
	rowList.each(id, s.Rows, visit)
	refundList.each(id, s.Payment.Refunds, visit)
	disputeList.each(id, s.Payment.Disputes, visit)
	entryList.each(id, s.Entries, visit)
	unexplainedList.each(id, s.Unexplained, visit)
}

// ListsRow reports whether a row belongs to a payment. It does not read a list of rows that is
// stored apart.
func ListsRow(tx *store.Tx, id string, seq uint64) (bool, error) {
	value, err := tx.Get(BucketPayments, []byte(id))
	if err != nil || value == nil {
		return false, err
	}
	s, lengths, err := DecodeHead(id, value)
	if err != nil {
		return false, fmt.Errorf("payment %.80s: %w", id, err)
	}
	if lengths[ListRows] == 0 {
		return slices.Contains(s.Rows, seq), nil
	}
	value, err = tx.Get(BucketLists, rowList.keyOf(id, &seq))
	return value != nil, err
}

func sameRefund(a, b *fold.PaymentRefund) bool {
	return a.ID == b.ID && equal(a.Amount, b.Amount) && a.Status == b.Status && a.Charge == b.Charge && a.Created == b.Created
}

func (e *encoder) paymentRefund(r *fold.PaymentRefund) {
	e.text(r.ID)
	e.optional(r.Amount)
	e.text(string(r.Status))
	e.text(string(r.Charge))
	e.int(int64(r.Created))
}

func (d *decoder) paymentRefund() fold.PaymentRefund {
	return fold.PaymentRefund{ID: d.text(), Amount: d.optional(), Status: fold.OrNull(d.text()), Charge: fold.OrNull(d.text()), Created: fold.OrNullTime(d.int())}
}

func (e *encoder) paymentDispute(p *fold.PaymentDispute) {
	e.text(p.ID)
	e.text(string(p.Status))
	e.int(p.Amount)
	e.text(string(p.Reason))
	e.int(int64(p.Created))
}

func (d *decoder) paymentDispute() fold.PaymentDispute {
	return fold.PaymentDispute{ID: d.text(), Status: fold.OrNull(d.text()), Amount: d.int(), Reason: fold.OrNull(d.text()), Created: fold.OrNullTime(d.int())}
}
