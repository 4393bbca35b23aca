package schema

import (
	"encoding/binary"
	"fmt"
	"slices"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// Row is a stored event without its body.
type Row struct {
	ID, Type, Account, Context, APIVersion string
	Livemode                               bool
	Created                                int64 // Unix seconds, 0 if unknown
	Received                               int64 // Unix milliseconds
	Source                                 Source
	Outcome                                Outcome
	Reason                                 Reason
	Released                               uint64 // the row in which the event was in quarantine before, or 0
	Size                                   uint64
	Repeats                                uint64
	Facts                                  fold.Facts
}

// Unlinked reports whether the event concerns money but names no payment.
func (r *Row) Unlinked() bool { return r.Facts.AboutPayment() && r.Facts.PaymentID() == "" }

// Encode returns the stored form of the row.
func (r *Row) Encode() []byte {
	e := encoder{buf: make([]byte, 0, 256)}
	e.flags(r.Livemode, r.Released != 0)
	if r.Released != 0 {
		e.uint(r.Released)
	}
	e.byte(byte(slices.Index(Outcomes[:], r.Outcome)))
	e.byte(byte(slices.Index(Reasons[:], r.Reason) + 1))
	e.byte(byte(slices.Index(Sources[:], r.Source)))
	e.text(r.ID)
	e.shared = sharedPart(r.ID)
	e.text(r.Type)
	e.text(r.Account)
	e.text(r.Context)
	e.text(r.APIVersion)
	e.int(r.Created)
	e.int(r.Received)
	e.uint(r.Size)
	e.uint(r.Repeats)
	e.facts(&r.Facts)
	return e.buf
}

// DecodeRow decodes a row of the present schema.
func DecodeRow(value []byte) (*Row, error) {
	d := decoder{buf: value}
	var r Row
	var released bool
	d.flags(&r.Livemode, &released)
	if released {
		if r.Released = d.uint(); r.Released == 0 {
			d.fail()
		}
	}
	r.Outcome = pick(&d, Outcomes[:], int(d.byte()))
	if reason := int(d.byte()); reason > 0 {
		r.Reason = pick(&d, Reasons[:], reason-1)
	}
	r.Source = pick(&d, Sources[:], int(d.byte()))
	r.ID = d.text()
	d.shared = sharedPart(r.ID)
	r.Type = d.text()
	r.Account = d.text()
	r.Context = d.text()
	r.APIVersion = d.text()
	r.Created = d.int()
	r.Received = d.int()
	r.Size = d.uint()
	r.Repeats = d.uint()
	d.facts(&r.Facts)
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

func (e *encoder) facts(f *fold.Facts) {
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

func (d *decoder) facts(f *fold.Facts) {
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
	f.Sessions = decodeAll(d, func() fold.Session { return fold.Session{ID: d.text(), PaymentStatus: d.text()} })
}

func encodeAll[T any](e *encoder, list []T, one func(*encoder, *T)) {
	e.uint(uint64(len(list)))
	for i := range list {
		one(e, &list[i])
	}
}

func (e *encoder) session(s *fold.Session) {
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

func (e *encoder) intent(in *fold.Intent) {
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

func (d *decoder) intent() fold.Intent {
	var in fold.Intent
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

func (e *encoder) charge(c *fold.Charge) {
	e.flags(c.Captured, c.BalanceTransaction != nil, c.CaptureUnknown)
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

func (d *decoder) charge() fold.Charge {
	var c fold.Charge
	var booked bool
	d.flags(&c.Captured, &booked, &c.CaptureUnknown)
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

func (e *encoder) posting(b *fold.BalanceTransaction) {
	if b != nil {
		e.int(b.Fee)
		e.text(b.Currency)
		e.text(b.ID)
		e.int(b.Created)
	}
}

func (d *decoder) posting(known bool) *fold.BalanceTransaction {
	if !known {
		return nil
	}
	return &fold.BalanceTransaction{Fee: d.int(), Currency: d.text(), ID: d.text(), Created: d.int()}
}

func (e *encoder) refund(f *fold.Refund) {
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

func (d *decoder) refund() fold.Refund {
	return fold.Refund{
		ID: d.text(), Charge: d.text(), Status: d.text(), Currency: d.text(), Amount: d.int(), Reason: d.text(), Created: d.int(),
		Booked: d.int(), Returned: d.int(),
	}
}

func (e *encoder) dispute(p *fold.Dispute) {
	e.text(p.ID)
	e.text(p.Charge)
	e.text(p.Status)
	e.text(p.Currency)
	e.int(p.Amount)
	e.text(p.Reason)
	e.int(p.Created)
	encodeAll(e, p.Transactions, func(e *encoder, t *fold.DisputeTransaction) {
		e.text(t.ID)
		e.int(t.Amount)
		e.text(t.Currency)
		e.int(t.Created)
	})
}

func (d *decoder) dispute() fold.Dispute {
	return fold.Dispute{
		ID: d.text(), Charge: d.text(), Status: d.text(), Currency: d.text(), Amount: d.int(), Reason: d.text(), Created: d.int(),
		Transactions: decodeAll(d, func() fold.DisputeTransaction {
			return fold.DisputeTransaction{ID: d.text(), Amount: d.int(), Currency: d.text(), Created: d.int()}
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

// LastRow returns the newest row's sequence, or 0 if the ledger is empty.
func LastRow(tx *store.Tx) uint64 {
	if key := tx.Last(BucketEvents); key != nil {
		return SeqOf(key)
	}
	return 0
}

// ReadRows reads the rows of the given sequences.
func ReadRows(tx *store.Tx, seqs []uint64) (rows []*Row, err error) {
	keys := make([][]byte, len(seqs))
	for i, seq := range seqs {
		keys[i] = SeqKey(seq)
	}
	values, err := tx.GetAll(BucketEvents, keys)
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

// ReadRow reads a row. It returns an error if the row does not exist.
func ReadRow(tx *store.Tx, seq uint64) (*Row, error) {
	r, _, err := ReadSizedRow(tx, seq)
	return r, err
}

// ReadSizedRow is ReadRow and also returns the row's size in bytes.
func ReadSizedRow(tx *store.Tx, seq uint64) (*Row, int, error) {
	value, err := tx.Get(BucketEvents, SeqKey(seq))
	if err != nil {
		return nil, 0, err
	}
	r, err := decodeStoredRow(seq, value)
	return r, len(value), err
}

// decodeStoredRow decodes the value of a row that must exist; nil is a missing row.
func decodeStoredRow(seq uint64, value []byte) (*Row, error) {
	if value == nil {
		return nil, fmt.Errorf("%w: event row %d is missing", store.ErrCorrupt, seq)
	}
	r, err := DecodeRow(value)
	if err != nil {
		return nil, fmt.Errorf("event row %d: %w", seq, err)
	}
	return r, nil
}

// SeqOf reads a sequence back from a key that ends in one.
func SeqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }
