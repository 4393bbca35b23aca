package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// booking is one transaction under way.
type booking struct {
	tx       *bolt.Tx
	txID     uint64
	last     uint64 // the newest sequence
	received int64  // when the newest event came, Unix milliseconds
	counts   counts
	livemode bool
	writing  bool // something of the present event is in the transaction
}

// fill does everything but commit. What bbolt panics on here is damage like any other: nothing is on
// its way to the disk yet, and rolling back forgets it.
func (b *booking) fill(batch []*pending, repeats map[uint64]uint64) (err error) {
	defer damaged(&err)
	for _, p := range batch {
		if err := b.book(p); err != nil {
			return err
		}
	}
	if err := b.countRepeats(repeats); err != nil {
		return err
	}
	return put(b.tx, bucketMeta, metaCounts, b.counts.encode())
}

// book writes one event down. All that is read is read before anything is written, so that damage
// found on the way fails this event and leaves the transaction as it was; an error returned ends it.
func (b *booking) book(p *pending) (err error) {
	b.writing = false
	defer func() {
		if b.writing {
			return // fill gives the transaction up
		}
		if r := recover(); r != nil {
			p.err, err = fmt.Errorf("%w: %w: %v", ErrUnavailable, ErrCorrupt, r), nil
		}
	}()
	e := &p.event
	seq, known, err := lookupID(b.tx, e.Livemode, e.ID)
	if err != nil {
		p.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return nil
	}
	if !known {
		return b.enter(p, b.last+1, nil)
	}
	old, err := readRow(b.tx, seq)
	if err != nil {
		p.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return nil
	}
	if old.outcome == Quarantined && e.Quarantine == "" {
		return b.enter(p, seq, old)
	}
	old.repeats++
	p.result = old.repeat(seq)
	b.writing = true
	return put(b.tx, bucketEvents, seqKey(seq), old.encode())
}

// enter writes a new row, or books an event that lay in quarantine in its old one.
func (b *booking) enter(p *pending, seq uint64, old *row) error {
	e := &p.event
	r := &row{
		id: e.ID, typ: e.Type, account: e.Account, livemode: e.Livemode, created: e.Created,
		received: e.Received.UnixMilli(), apiVersion: e.APIVersion, source: e.Source,
		size: p.size, reason: e.Quarantine, facts: e.Facts, outcome: Recorded,
	}
	if old != nil {
		r.received, r.repeats, r.released = old.received, old.repeats+1, true
	}
	var f *folding
	switch {
	case e.Quarantine != "":
		r.outcome, r.facts = Quarantined, Facts{}
	case e.Facts.PaymentID() != "":
		var err error
		if f, err = b.fold(r); err != nil {
			p.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			return nil
		}
		r.outcome = f.outcome
	}
	key := seqKey(seq)
	b.reach(bucketBodies, key)
	b.reach(bucketQuarantine, key)
	if f != nil {
		b.reach(bucketPaymentEvents, paymentEventKey(f.state.id, seq))
		b.reach(bucketPaymentsTime, timeKey(f.oldCreated, f.state.id))
		b.reach(bucketPaymentsTime, timeKey(f.state.created(), f.state.id))
	}
	b.writing = true
	if err := put(b.tx, bucketEvents, key, r.encode()); err != nil {
		return err
	}
	if err := put(b.tx, bucketBodies, key, p.body); err != nil {
		return err
	}
	if err := b.index(r, seq, old); err != nil {
		return err
	}
	if f != nil {
		if err := b.keep(f, seq); err != nil {
			return err
		}
	}
	if old == nil {
		b.last, b.received = seq, r.received
	}
	b.counts.event(r, +1)
	p.result = Result{Status: r.outcome, Reason: r.reason, PaymentID: r.facts.PaymentID(), Sequence: seq, Repeat: old != nil}
	return nil
}

// reach goes to the page that a key will be written to, so that damage there is met before anything is written.
func (b *booking) reach(bucket, key []byte) { b.tx.Bucket(bucket).Cursor().Seek(key) }

// index enters the row in the id index, and in or out of the quarantine.
func (b *booking) index(r *row, seq uint64, old *row) error {
	key := seqKey(seq)
	if old != nil {
		b.counts.event(old, -1)
		return remove(b.tx, bucketQuarantine, key)
	}
	if err := put(b.tx, bucketIDs, idKey(r.livemode, r.id), key); err != nil {
		return err
	}
	if r.outcome == Quarantined {
		return put(b.tx, bucketQuarantine, key, nil)
	}
	return nil
}

// folding is a payment before and after an event.
type folding struct {
	state      *state
	existed    bool
	oldCreated int64
	oldStatus  OrNull
	wasFlagged bool
	view       *Payment
	outcome    Outcome
	alias      string // another id that finds the payment; empty if the event names none
}

// fold computes what a row does to its payment. It writes nothing.
func (b *booking) fold(r *row) (*folding, error) {
	id := r.facts.PaymentID()
	s, err := readState(b.tx, id)
	if err != nil {
		return nil, err
	}
	f := &folding{state: s, existed: s != nil, outcome: Applied}
	if s == nil {
		f.state = &state{id: id}
		f.state.absorb(r)
		f.view = f.state.payment(b.livemode)
	} else {
		before := s.payment(b.livemode)
		f.oldCreated, f.oldStatus, f.wasFlagged = s.created(), before.Status, len(before.Flags) > 0
		s.absorb(r)
		f.view = s.payment(b.livemode)
		if f.view.tellsTheSame(before) {
			f.outcome = Unchanged
		}
	}
	if in := r.facts.Intent; in.LatestCharge != "" {
		present, err := get(b.tx, bucketAliases, []byte(in.LatestCharge))
		if err != nil {
			return nil, err
		}
		if present == nil || id < string(present) { // of several the least, whatever came first
			f.alias = in.LatestCharge
		}
	}
	return f, nil
}

// keep writes a folded payment and its indexes.
func (b *booking) keep(f *folding, seq uint64) error {
	s := f.state
	if err := put(b.tx, bucketPayments, []byte(s.id), s.encode()); err != nil {
		return err
	}
	if f.existed && f.oldCreated != s.created() {
		if err := remove(b.tx, bucketPaymentsTime, timeKey(f.oldCreated, s.id)); err != nil {
			return err
		}
	}
	if !f.existed || f.oldCreated != s.created() {
		if err := put(b.tx, bucketPaymentsTime, timeKey(s.created(), s.id), nil); err != nil {
			return err
		}
	}
	if f.existed {
		b.counts.payment(f.oldStatus, f.wasFlagged, -1)
	}
	b.counts.payment(f.view.Status, len(f.view.Flags) > 0, +1)
	if f.alias != "" {
		if err := put(b.tx, bucketAliases, []byte(f.alias), []byte(s.id)); err != nil {
			return err
		}
	}
	return put(b.tx, bucketPaymentEvents, paymentEventKey(s.id, seq), nil)
}

// countRepeats writes counted repeats to their rows.
func (b *booking) countRepeats(repeats map[uint64]uint64) error {
	for seq, n := range repeats {
		r, err := readRow(b.tx, seq)
		if errors.Is(err, ErrCorrupt) {
			continue // a count is not worth the batch; Check names the damage
		}
		if err != nil {
			return err
		}
		r.repeats += n
		if err := put(b.tx, bucketEvents, seqKey(seq), r.encode()); err != nil {
			return err
		}
	}
	return nil
}

// seqOf reads a sequence back from a key that ends in one.
func seqOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }
