package ledger

import (
	"encoding/binary"
	"fmt"
	"slices"
	"tillhook/ledger/store"
)

// row is a stored event without its body.
type row struct {
	id, typ, account, context, apiVersion string
	livemode                              bool
	created                               int64 // Unix seconds, 0 if unknown
	received                              int64 // Unix milliseconds
	source                                Source
	outcome                               Outcome
	reason                                Reason
	released                              uint64 // the row in which the event was in quarantine before, or 0
	size                                  uint64
	repeats                               uint64
	facts                                 Facts
}

// unlinked reports whether the event concerns money but names no payment.
func (r *row) unlinked() bool { return r.facts.AboutPayment() && r.facts.PaymentID() == "" }

func (r *row) encode() []byte {
	e := encoder{buf: make([]byte, 0, 256)}
	e.flags(r.livemode, r.released != 0)
	if r.released != 0 {
		e.uint(r.released)
	}
	e.byte(byte(slices.Index(Outcomes[:], r.outcome)))
	e.byte(byte(slices.Index(Reasons[:], r.reason) + 1))
	e.byte(byte(slices.Index(sources[:], r.source)))
	e.text(r.id)
	e.shared = sharedPart(r.id)
	e.text(r.typ)
	e.text(r.account)
	e.text(r.context)
	e.text(r.apiVersion)
	e.int(r.created)
	e.int(r.received)
	e.uint(r.size)
	e.uint(r.repeats)
	e.facts(&r.facts)
	return e.buf
}

func decodeRow(value []byte) (*row, error) {
	d := decoder{buf: value}
	var r row
	var released bool
	d.flags(&r.livemode, &released)
	if released {
		if r.released = d.uint(); r.released == 0 {
			d.fail()
		}
	}
	r.outcome = pick(&d, Outcomes[:], int(d.byte()))
	if reason := int(d.byte()); reason > 0 {
		r.reason = pick(&d, Reasons[:], reason-1)
	}
	r.source = pick(&d, sources[:], int(d.byte()))
	r.id = d.text()
	d.shared = sharedPart(r.id)
	r.typ = d.text()
	r.account = d.text()
	r.context = d.text()
	r.apiVersion = d.text()
	r.created = d.int()
	r.received = d.int()
	r.size = d.uint()
	r.repeats = d.uint()
	d.facts(&r.facts)
	return &r, d.end()
}

// pick returns names[i], or fails the decoder if there is no such name.
func pick[T any](d *decoder, names []T, i int) T {
	if i >= len(names) {
		d.fail()
		i = 0
	}
	return names[i]
}

func (e *encoder) facts(f *Facts) {
	states := f.AboutPayment() || f.PaymentID() != ""
	if e.flags(states); !states {
		return
	}
	e.text(f.PaymentIntent)
	e.text(f.Charge)
	encodeAll(e, f.Intents, (*encoder).intent)
	encodeAll(e, f.Charges, (*encoder).charge)
	encodeAll(e, f.Refunds, (*encoder).refund)
	encodeAll(e, f.Disputes, (*encoder).dispute)
	encodeAll(e, f.Sessions, (*encoder).session)
}

func (d *decoder) facts(f *Facts) {
	var states bool
	if d.flags(&states); !states {
		return
	}
	f.PaymentIntent = d.text()
	f.Charge = d.text()
	f.Intents = decodeAll(d, d.intent)
	f.Charges = decodeAll(d, d.charge)
	f.Refunds = decodeAll(d, d.refund)
	f.Disputes = decodeAll(d, d.dispute)
	f.Sessions = decodeAll(d, func() Session { return Session{ID: d.text(), PaymentStatus: d.text()} })
}

func encodeAll[T any](e *encoder, list []T, one func(*encoder, *T)) {
	e.uint(uint64(len(list)))
	for i := range list {
		one(e, &list[i])
	}
}

func (e *encoder) session(s *Session) {
	e.text(s.ID)
	e.text(s.PaymentStatus)
}

func decodeAll[T any](d *decoder, one func() T) []T {
	n := d.uint()
	if n > uint64(len(d.buf)) { // an element takes at least one byte; do not allocate for more
		d.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	list := make([]T, 0, n)
	for range n {
		list = append(list, one())
	}
	return list
}

func (e *encoder) intent(in *Intent) {
	e.flags(in.HasAmount, in.LastError != nil, in.HasReceived)
	e.text(in.ID)
	e.text(in.Status)
	e.text(in.Currency)
	e.int(in.Amount)
	e.int(in.AmountCapturable)
	e.int(in.AmountReceived)
	e.text(in.Customer)
	e.text(in.Description)
	e.texts(in.Metadata)
	e.text(in.LatestCharge)
	e.int(in.Created)
	if in.LastError != nil {
		e.paymentError(in.LastError)
	}
}

func (d *decoder) intent() Intent {
	var in Intent
	var failed bool
	d.flags(&in.HasAmount, &failed, &in.HasReceived)
	in.ID = d.text()
	in.Status = d.text()
	in.Currency = d.text()
	in.Amount = d.int()
	in.AmountCapturable = d.int()
	in.AmountReceived = d.int()
	in.Customer = d.text()
	in.Description = d.text()
	in.Metadata = d.texts()
	in.LatestCharge = d.text()
	in.Created = d.int()
	if failed {
		in.LastError = d.paymentError()
	}
	return in
}

func (e *encoder) charge(c *Charge) {
	e.flags(c.Captured, c.BalanceTransaction != nil)
	e.text(c.ID)
	e.text(c.Status)
	e.text(c.Currency)
	e.int(c.Amount)
	e.int(c.AmountCaptured)
	e.int(c.AmountRefunded)
	e.text(c.Customer)
	e.text(c.Description)
	e.texts(c.Metadata)
	e.text(c.FailureCode)
	e.int(c.Created)
	e.posting(c.BalanceTransaction)
}

func (d *decoder) charge() Charge {
	var c Charge
	var booked bool
	d.flags(&c.Captured, &booked)
	c.ID = d.text()
	c.Status = d.text()
	c.Currency = d.text()
	c.Amount = d.int()
	c.AmountCaptured = d.int()
	c.AmountRefunded = d.int()
	c.Customer = d.text()
	c.Description = d.text()
	c.Metadata = d.texts()
	c.FailureCode = d.text()
	c.Created = d.int()
	c.BalanceTransaction = d.posting(booked)
	return c
}

func (e *encoder) posting(b *Booking) {
	if b != nil {
		e.int(b.Fee)
		e.text(b.Currency)
		e.text(b.ID)
		e.int(b.Created)
	}
}

func (d *decoder) posting(known bool) *Booking {
	if !known {
		return nil
	}
	return &Booking{Fee: d.int(), Currency: d.text(), ID: d.text(), Created: d.int()}
}

func (e *encoder) refund(f *Refund) {
	e.text(f.ID)
	e.text(f.Charge)
	e.text(f.Status)
	e.text(f.Currency)
	e.int(f.Amount)
	e.text(f.Reason)
	e.int(f.Created)
	e.int(f.Booked)
	e.int(f.Returned)
}

func (d *decoder) refund() Refund {
	return Refund{
		ID: d.text(), Charge: d.text(), Status: d.text(), Currency: d.text(), Amount: d.int(), Reason: d.text(), Created: d.int(),
		Booked: d.int(), Returned: d.int(),
	}
}

func (e *encoder) dispute(p *Dispute) {
	e.text(p.ID)
	e.text(p.Charge)
	e.text(p.Status)
	e.text(p.Currency)
	e.int(p.Amount)
	e.text(p.Reason)
	e.int(p.Created)
	encodeAll(e, p.Transactions, func(e *encoder, t *Transaction) { e.text(t.ID); e.int(t.Amount); e.text(t.Currency); e.int(t.Created) })
}

func (d *decoder) dispute() Dispute {
	return Dispute{
		ID: d.text(), Charge: d.text(), Status: d.text(), Currency: d.text(), Amount: d.int(), Reason: d.text(), Created: d.int(),
		Transactions: decodeAll(d, func() Transaction {
			return Transaction{ID: d.text(), Amount: d.int(), Currency: d.text(), Created: d.int()}
		}),
	}
}

// sequences writes ascending sequences, each as the difference from the one before. They must be
// the last field of a value, because their number is not stored.
func (e *encoder) sequences(seqs []uint64) {
	last := uint64(0)
	for _, seq := range seqs {
		e.uint(seq - last)
		last = seq
	}
}

func (d *decoder) sequences() (seqs []uint64) {
	for last := uint64(0); len(d.buf) > 0; {
		more := d.uint()
		if more == 0 || last+more < last {
			d.fail()
			return nil
		}
		last += more
		seqs = append(seqs, last)
	}
	return seqs
}

// lastRow returns the newest row's sequence, or 0 if the ledger is empty.
func lastRow(tx *store.Tx) uint64 {
	if key := tx.Last(bucketEvents); key != nil {
		return seqOf(key)
	}
	return 0
}

// rowsOf reads the rows of the given sequences.
func rowsOf(tx *store.Tx, seqs []uint64) (rows []*row, err error) {
	keys := make([][]byte, len(seqs))
	for i, seq := range seqs {
		keys[i] = seqKey(seq)
	}
	values, err := tx.GetAll(bucketEvents, keys)
	if err != nil {
		return nil, err
	}
	for i, value := range values {
		r, err := decodeStoredRow(seqs[i], value)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// readRow reads a row. It returns an error if the row does not exist.
func readRow(tx *store.Tx, seq uint64) (*row, error) {
	r, _, err := readSizedRow(tx, seq)
	return r, err
}

// readSizedRow is readRow and also returns the row's size in bytes.
func readSizedRow(tx *store.Tx, seq uint64) (*row, int, error) {
	value, err := tx.Get(bucketEvents, seqKey(seq))
	if err != nil {
		return nil, 0, err
	}
	r, err := decodeStoredRow(seq, value)
	return r, len(value), err
}

// decodeStoredRow decodes the value of a row that must exist; nil is a missing row.
func decodeStoredRow(seq uint64, value []byte) (*row, error) {
	if value == nil {
		return nil, fmt.Errorf("%w: event row %d is missing", ErrCorrupt, seq)
	}
	r, err := decodeRow(value)
	if err != nil {
		return nil, fmt.Errorf("event row %d: %w", seq, err)
	}
	return r, nil
}

// seqOf reads a sequence back from a key that ends in one.
func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }
