package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// State is a payment as it is stored: the result of folding its events, and the sequences of those
// events.
type State struct {
	Payment     *fold.Payment
	Entries     []fold.Entry // sorted by time and id
	Unexplained []string     // charges whose refunded amount exceeds the sum of their known refunds
	paidSession bool         // one of its Checkout Sessions is paid
	Rows        []uint64     // the sequences of its events, ascending; they depend on arrival and are not folded
}

// FoldEvent returns the fields of the row that folding needs.
func (r *Row) FoldEvent() fold.Event {
	return fold.Event{
		ID: r.ID, Type: r.Type, Account: r.Account, Context: r.Context, APIVersion: r.APIVersion, Created: r.Created,
		Fetched: r.Source == Fetch, Facts: &r.Facts,
	}
}

// FoldRows computes a payment from all of its rows. The caller sets the field rows.
func FoldRows(id string, livemode bool, rows []*Row) *State {
	events := make([]fold.Event, len(rows))
	for i, r := range rows {
		events[i] = r.FoldEvent()
	}
	r := fold.Fold(id, events)
	r.Payment.Livemode = livemode
	return &State{Payment: r.Payment, Entries: r.Entries, Unexplained: r.Unexplained, paidSession: r.PaidSession}
}

// Created returns when the payment was created, in Unix seconds.
func (s *State) Created() int64 { return int64(s.Payment.Created) }

// SameAs reports whether two states are equal except for the number of their events and the time of
// the last update.
func (s *State) SameAs(t *State) bool {
	p, q := s.Payment, t.Payment
	return p.Account == q.Account && p.Context == q.Context && p.Status == q.Status && p.ChargeStatus == q.ChargeStatus &&
		p.Currency == q.Currency && equal(p.Amount, q.Amount) && equal(p.AmountCapturable, q.AmountCapturable) &&
		equal(p.AmountReceived, q.AmountReceived) && equal(p.AmountRefunded, q.AmountRefunded) &&
		equal(p.DisputeWithdrawn, q.DisputeWithdrawn) && equal(p.DisputeReinstated, q.DisputeReinstated) && equal(p.Fee, q.Fee) &&
		p.Customer == q.Customer && p.Description == q.Description && p.LatestCharge == q.LatestCharge &&
		equal(p.LastPaymentError, q.LastPaymentError) && p.Created == q.Created &&
		maps.Equal(p.Metadata, q.Metadata) && slices.Equal(p.Flags, q.Flags) &&
		slices.EqualFunc(p.Refunds, q.Refunds, func(a, b fold.PaymentRefund) bool { return sameRefund(&a, &b) }) && slices.Equal(p.Disputes, q.Disputes) && slices.Equal(s.Entries, t.Entries)
}

// equal reports whether two pointers are both nil or point to equal values.
func equal[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// Encode returns the stored form. Equal states have equal stored forms.
func (s *State) Encode() []byte {
	p := s.Payment
	e := newEncoder(p.ID)
	e.flags(s.paidSession, p.LastPaymentError != nil, p.Livemode)
	for _, text := range []fold.OrNull{p.Account, p.Context, p.Status, p.ChargeStatus, p.Currency, p.Customer, p.Description, p.LatestCharge} {
		e.text(string(text))
	}
	for _, n := range []*int64{p.Amount, p.AmountCapturable, p.AmountReceived, p.AmountRefunded, p.DisputeWithdrawn, p.DisputeReinstated, p.AmountNet, p.Fee} {
		e.optional(n)
	}
	for _, n := range []int64{int64(p.Created), int64(p.Captured), int64(p.Updated)} {
		e.int(n)
	}
	e.uint(p.Events)
	e.texts(p.Metadata)
	if p.LastPaymentError != nil {
		e.paymentError(p.LastPaymentError)
	}
	refundList.inline(&e, p.Refunds)
	disputeList.inline(&e, p.Disputes)
	encodeAll(&e, p.Flags, func(e *encoder, name *string) { e.text(*name) })
	entryList.inline(&e, s.Entries)
	unexplainedList.inline(&e, s.Unexplained)
	e.uint(uint64(len(s.Rows)))
	if len(s.Rows) <= maxInline {
		e.sequences(s.Rows)
	}
	return e.buf
}

// DecodeState decodes a payment and reads its lists that are stored apart.
func DecodeState(tx *store.Tx, id string, value []byte) (*State, error) {
	s, lengths, err := DecodeHead(id, value)
	if err != nil {
		return nil, err
	}
	return s, s.readLists(tx, lengths)
}

// DecodeHead decodes a payment without the lists that are stored apart. It returns their lengths.
func DecodeHead(id string, value []byte) (_ *State, lengths [listKinds]uint64, err error) {
	d := newDecoder(id, value)
	p := &fold.Payment{Object: "payment", ID: id, Refunds: []fold.PaymentRefund{}, Disputes: []fold.PaymentDispute{}, Flags: []string{}}
	s := &State{Payment: p}
	var failed bool
	d.flags(&s.paidSession, &failed, &p.Livemode)
	for _, text := range []*fold.OrNull{&p.Account, &p.Context, &p.Status, &p.ChargeStatus, &p.Currency, &p.Customer, &p.Description, &p.LatestCharge} {
		*text = fold.OrNull(d.text())
	}
	for _, n := range []**int64{&p.Amount, &p.AmountCapturable, &p.AmountReceived, &p.AmountRefunded, &p.DisputeWithdrawn, &p.DisputeReinstated, &p.AmountNet, &p.Fee} {
		*n = d.optional()
	}
	for _, t := range []*fold.OrNullTime{&p.Created, &p.Captured, &p.Updated} {
		*t = fold.OrNullTime(d.int())
	}
	p.Events = d.uint()
	if p.Metadata = d.texts(); p.Metadata == nil {
		p.Metadata = map[string]string{}
	}
	if failed {
		p.LastPaymentError = d.paymentError()
	}
	refunds, length := refundList.outline(&d)
	p.Refunds, lengths[listRefunds] = append(p.Refunds, refunds...), length
	disputes, length := disputeList.outline(&d)
	p.Disputes, lengths[listDisputes] = append(p.Disputes, disputes...), length
	p.Flags = append(p.Flags, decodeAll(&d, d.text)...)
	s.Entries, lengths[listEntries] = entryList.outline(&d)
	s.Unexplained, lengths[listUnexplained] = unexplainedList.outline(&d)
	rows := d.uint()
	if s.Rows = d.sequences(); rows > maxInline {
		lengths[ListRows], rows = rows, 0
	}
	if uint64(len(s.Rows)) != rows {
		d.fail()
	}
	return s, lengths, d.end()
}

// entry writes an entry. An entry's id begins with the id of its object, which is written only
// once.
func (e *encoder) entry(x *fold.Entry) {
	suffix, _ := strings.CutPrefix(x.ID, x.Object)
	e.byte(byte(slices.Index(fold.Kinds[:], x.Kind)))
	e.text(x.Object)
	e.text(suffix)
	e.text(x.Charge)
	e.text(x.Currency)
	e.int(x.At)
	e.int(x.Amount)
}

func (d *decoder) entry() fold.Entry {
	x := fold.Entry{Kind: pick(d, fold.Kinds[:], int(d.byte())), Object: d.text()}
	x.ID = x.Object + d.text()
	x.Charge, x.Currency = d.text(), d.text()
	x.At, x.Amount = d.int(), d.int()
	return x
}

// optional writes an integer that may be unknown (nil).
func (e *encoder) optional(n *int64) {
	if e.flags(n != nil); n != nil {
		e.int(*n)
	}
}

func (d *decoder) optional() *int64 {
	var known bool
	if d.flags(&known); !known {
		return nil
	}
	n := d.int()
	return &n
}

func (e *encoder) paymentError(p *fold.PaymentError) {
	for _, text := range []fold.OrNull{p.Type, p.Code, p.DeclineCode, p.Message} {
		e.text(string(text))
	}
}

func (d *decoder) paymentError() *fold.PaymentError {
	var p fold.PaymentError
	for _, text := range []*fold.OrNull{&p.Type, &p.Code, &p.DeclineCode, &p.Message} {
		*text = fold.OrNull(d.text())
	}
	return &p
}

// ReadState reads a payment's state. It returns nil if there is no such payment.
func ReadState(tx *store.Tx, id string) (*State, error) {
	s, _, err := ReadSizedState(tx, id)
	return s, err
}

// ReadSizedState is ReadState and also returns the state's size in bytes.
func ReadSizedState(tx *store.Tx, id string) (*State, int, error) {
	value, err := tx.Get(BucketPayments, []byte(id))
	if err != nil || value == nil {
		return nil, 0, err
	}
	s, err := DecodeState(tx, id, value)
	if err != nil {
		return nil, 0, fmt.Errorf("payment %.80s: %w", id, err)
	}
	return s, len(value), nil
}
