package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// state is a payment as it is stored: the result of folding its events, and the sequences of those
// events.
type state struct {
	view        *Payment
	entries     []Entry  // sorted by time and id
	unexplained []string // charges whose refunded amount exceeds the sum of their known refunds
	paidSession bool     // one of its Checkout Sessions is paid
	rows        []uint64 // the sequences of its events, ascending; they depend on arrival and are not folded
}

// event returns the fields of the row that folding needs.
func (r *row) event() fold.Event {
	return fold.Event{
		ID: r.id, Type: r.typ, Account: r.account, Context: r.context, APIVersion: r.apiVersion, Created: r.created,
		Fetched: r.source == Fetch, Facts: &r.facts,
	}
}

// foldRows computes a payment from all of its rows. The caller sets the field rows.
func foldRows(id string, livemode bool, rows []*row) *state {
	events := make([]fold.Event, len(rows))
	for i, r := range rows {
		events[i] = r.event()
	}
	r := fold.Fold(id, events)
	r.Payment.Livemode = livemode
	return &state{view: r.Payment, entries: r.Entries, unexplained: r.Unexplained, paidSession: r.PaidSession}
}

func (s *state) created() int64 { return int64(s.view.Created) }

// sameAs reports whether two states are equal except for the number of their events and the time of
// the last update.
func (s *state) sameAs(t *state) bool {
	p, q := s.view, t.view
	return p.Account == q.Account && p.Context == q.Context && p.Status == q.Status && p.ChargeStatus == q.ChargeStatus &&
		p.Currency == q.Currency && equal(p.Amount, q.Amount) && p.AmountCapturable == q.AmountCapturable &&
		equal(p.AmountReceived, q.AmountReceived) && equal(p.AmountRefunded, q.AmountRefunded) &&
		equal(p.DisputeWithdrawn, q.DisputeWithdrawn) && equal(p.DisputeReinstated, q.DisputeReinstated) && equal(p.Fee, q.Fee) &&
		p.Customer == q.Customer && p.Description == q.Description && p.LatestCharge == q.LatestCharge &&
		equal(p.LastPaymentError, q.LastPaymentError) && p.Created == q.Created &&
		maps.Equal(p.Metadata, q.Metadata) && slices.Equal(p.Flags, q.Flags) &&
		slices.EqualFunc(p.Refunds, q.Refunds, func(a, b PaymentRefund) bool { return sameRefund(&a, &b) }) && slices.Equal(p.Disputes, q.Disputes) && slices.Equal(s.entries, t.entries)
}

// equal reports whether two pointers are both nil or point to equal values.
func equal[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// encode returns the stored form. Equal states have equal stored forms.
func (s *state) encode() []byte {
	p := s.view
	e := newEncoder(p.ID)
	e.flags(s.paidSession, p.LastPaymentError != nil, p.Livemode)
	for _, text := range []OrNull{p.Account, p.Context, p.Status, p.ChargeStatus, p.Currency, p.Customer, p.Description, p.LatestCharge} {
		e.text(string(text))
	}
	for _, n := range []*int64{p.Amount, p.AmountReceived, p.AmountRefunded, p.DisputeWithdrawn, p.DisputeReinstated, p.AmountNet, p.Fee} {
		e.optional(n)
	}
	for _, n := range []int64{p.AmountCapturable, int64(p.Created), int64(p.Captured), int64(p.Updated)} {
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
	entryList.inline(&e, s.entries)
	unexplainedList.inline(&e, s.unexplained)
	e.uint(uint64(len(s.rows)))
	if len(s.rows) <= maxInline {
		e.sequences(s.rows)
	}
	return e.buf
}

// decodeState decodes a payment and reads its lists that are stored apart.
func decodeState(tx *store.Tx, id string, value []byte) (*state, error) {
	s, lengths, err := decodeHead(id, value)
	if err != nil {
		return nil, err
	}
	return s, s.readLists(tx, lengths)
}

// decodeHead decodes a payment without the lists that are stored apart. It returns their lengths.
func decodeHead(id string, value []byte) (_ *state, lengths [listKinds]uint64, err error) {
	d := newDecoder(id, value)
	p := &Payment{Object: "payment", ID: id, Refunds: []PaymentRefund{}, Disputes: []PaymentDispute{}, Flags: []string{}}
	s := &state{view: p}
	var failed bool
	d.flags(&s.paidSession, &failed, &p.Livemode)
	for _, text := range []*OrNull{&p.Account, &p.Context, &p.Status, &p.ChargeStatus, &p.Currency, &p.Customer, &p.Description, &p.LatestCharge} {
		*text = OrNull(d.text())
	}
	for _, n := range []**int64{&p.Amount, &p.AmountReceived, &p.AmountRefunded, &p.DisputeWithdrawn, &p.DisputeReinstated, &p.AmountNet, &p.Fee} {
		*n = d.optional()
	}
	p.AmountCapturable = d.int()
	for _, t := range []*OrNullTime{&p.Created, &p.Captured, &p.Updated} {
		*t = OrNullTime(d.int())
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
	s.entries, lengths[listEntries] = entryList.outline(&d)
	s.unexplained, lengths[listUnexplained] = unexplainedList.outline(&d)
	rows := d.uint()
	if s.rows = d.sequences(); rows > maxInline {
		lengths[listRows], rows = rows, 0
	}
	if uint64(len(s.rows)) != rows {
		d.fail()
	}
	return s, lengths, d.end()
}

// entry writes an entry. An entry's id begins with the id of its object, which is written only
// once.
func (e *encoder) entry(x *Entry) {
	suffix, _ := strings.CutPrefix(x.ID, x.Object)
	e.byte(byte(slices.Index(fold.Kinds[:], x.Kind)))
	e.text(x.Object)
	e.text(suffix)
	e.text(x.Charge)
	e.text(x.Currency)
	e.int(x.At)
	e.int(x.Amount)
}

func (d *decoder) entry() Entry {
	x := Entry{Kind: pick(d, fold.Kinds[:], int(d.byte())), Object: d.text()}
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

func (e *encoder) paymentError(p *PaymentError) {
	for _, text := range []OrNull{p.Type, p.Code, p.DeclineCode, p.Message} {
		e.text(string(text))
	}
}

func (d *decoder) paymentError() *PaymentError {
	var p PaymentError
	for _, text := range []*OrNull{&p.Type, &p.Code, &p.DeclineCode, &p.Message} {
		*text = OrNull(d.text())
	}
	return &p
}

// readState reads a payment's state. It returns nil if there is no such payment.
func readState(tx *store.Tx, id string) (*state, error) {
	s, _, err := readSized(tx, id)
	return s, err
}

// readSized is readState and also returns the state's size in bytes.
func readSized(tx *store.Tx, id string) (*state, int, error) {
	value, err := tx.Get(bucketPayments, []byte(id))
	if err != nil || value == nil {
		return nil, 0, err
	}
	s, err := decodeState(tx, id, value)
	if err != nil {
		return nil, 0, fmt.Errorf("payment %.80s: %w", id, err)
	}
	return s, len(value), nil
}
