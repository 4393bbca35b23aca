package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// booking is one transaction under way.
type booking struct {
	tx        *txn
	txID      uint64
	last      uint64    // the newest sequence
	delivered *delivery // the newest event that was; nil if none was
	counts    counts
	totals    map[string]amounts // those that became others
	livemode  bool
	bodies    *bodyCodec
	hot       *hotPayments
	writing   bool // something of the present event is in the transaction
}

// fill does everything but commit. What bbolt panics on here is damage like any other: nothing is on
// its way to the disk yet, and rolling back forgets it. At least settle entries that are fresh go to their places.
func (b *booking) fill(batch []*pending, repeats map[uint64]uint64, settle int) (err error) {
	defer damaged(&err)
	for _, name := range [][]byte{bucketEvents, bucketBodies} {
		b.tx.Bucket(name).FillPercent = 1 // they are only ever appended to
	}
	for _, p := range batch {
		p.err, p.result, p.booked = nil, Result{}, false // of a transaction that was given up
		if err := b.book(p); err != nil {
			return err
		}
	}
	if err := b.countRepeats(repeats); err != nil {
		return err
	}
	if err := b.writeSums(); err != nil {
		return err
	}
	return b.tx.fresh.end(b.tx.Tx, settle)
}

// writeSums writes what all events of the transaction come to.
func (b *booking) writeSums() error {
	if err := b.writeTotals(); err != nil {
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
	if p.job != nil {
		if err := p.job(b); err != nil {
			p.err = err
			if b.writing {
				return err
			}
		}
		return nil
	}
	e := &p.event
	seq, known, err := b.rowOf(p)
	if err != nil {
		p.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return nil
	}
	if !known {
		return b.enter(p, 0, nil)
	}
	old, err := readRow(b.tx, seq)
	if err != nil {
		p.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return nil
	}
	if old.outcome == Quarantined && e.Quarantine == "" {
		return b.enter(p, seq, old)
	}
	payment, err := paymentOf(b.tx, &old.facts)
	if err != nil {
		p.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return nil
	}
	if p.release { // a delivery was faster
		p.result = Result{Status: old.outcome, Reason: old.reason, PaymentID: payment, Sequence: seq, Repeat: true}
		return nil
	}
	old.repeats++
	p.result = old.repeat(seq, payment)
	b.writing = true
	return put(b.tx, bucketEvents, seqKey(seq), old.encode())
}

// rowOf finds the row of an event's id. Of one that had none when the batch was looked at, it can only be of this batch.
func (b *booking) rowOf(p *pending) (seq uint64, known bool, err error) {
	if p.absent {
		if _, ok := b.tx.findFresh(freshOf(bucketIDs), b.tx.idKey(p.event.Livemode, p.event.ID)); !ok {
			return 0, false, nil
		}
	}
	return lookupID(b.tx, p.event.Livemode, p.event.ID)
}

// enter writes a new row. old is the row at the sequence from in which the event lies in
// quarantine, nil for a new event.
func (b *booking) enter(p *pending, from uint64, old *row) error {
	e := &p.event
	r := &row{
		id: e.ID, typ: e.Type, account: e.Account, context: e.Context, livemode: e.Livemode, created: e.Created, released: from,
		received: e.Received.UnixMilli(), apiVersion: e.APIVersion, source: e.Source,
		size: p.size, reason: e.Quarantine, facts: e.Facts, outcome: Recorded,
	}
	seq := b.last + 1
	failed := func(err error) error {
		p.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return nil
	}
	var c consequences
	var entry *quarantineEntry
	var err error
	switch {
	case e.Quarantine != "":
		r.outcome, r.facts = Quarantined, Facts{}
		if entry, err = newQuarantineEntry(b.tx, e.ID, e.Livemode, e.Expected, e.Snapshot); err != nil {
			return failed(err)
		}
	case e.Facts.PaymentID() != "":
		if c, err = b.follow(r, seq); err != nil {
			return failed(err)
		}
		r.outcome = outcome(c.changes)
	}
	a, err := b.planQuarantine(r, old, entry)
	if err != nil {
		return failed(err)
	}
	body := p.body
	if old != nil && (p.release || b.sameBody(from, body)) {
		body = bodyOf(from)
	}
	if r.outcome == Quarantined {
		b.reach(bucketQuarantine, seqKey(seq))
	}
	p.result = Result{Status: r.outcome, Reason: r.reason, Sequence: seq, Repeat: old != nil, Unlinked: r.unlinked()}
	if len(c.changes) > 0 {
		p.result.PaymentID = c.changes[0].id
	}
	p.booked = old != nil
	if r.source == Webhook && !p.release {
		b.delivered = &delivery{r.received, r.created * 1000}
	}
	return b.record(r, seq, body, old, &a, &c)
}

// sameBody reports whether a row has the same body as one that is about to be stored. One that
// cannot be read is another.
func (b *booking) sameBody(seq uint64, body []byte) bool {
	stored, err := get(b.tx, bucketBodies, seqKey(seq))
	if err != nil || stored == nil {
		return false
	}
	had, err := b.bodies.decode(stored)
	if err != nil {
		return false
	}
	has, err := b.bodies.decode(body)
	return err == nil && bytes.Equal(had, has)
}

// consequences are all that follows from a row, computed before anything of it is written.
type consequences struct {
	changes []*change
	totals  map[string]amounts
	links   map[string][]link
}

// follow computes what follows from a row about a payment. It writes nothing.
func (b *booking) follow(r *row, seq uint64) (c consequences, err error) {
	if c.changes, err = b.changes(r, seq); err != nil {
		return c, err
	}
	if c.totals, err = b.newTotals(c.changes); err != nil {
		return c, err
	}
	c.links, err = b.newLinks(&r.facts)
	return c, err
}

// record writes a row, its body where there is one, and all that follows from it. old is the row in
// which the same event lies in quarantine; nil if there is none.
func (b *booking) record(r *row, seq uint64, body []byte, old *row, a *quarantinePlan, c *consequences) error {
	b.writing = true
	key := seqKey(seq)
	if err := put(b.tx, bucketEvents, key, r.encode()); err != nil {
		return err
	}
	if body != nil {
		if err := put(b.tx, bucketBodies, key, body); err != nil {
			return err
		}
	}
	if err := put(b.tx, bucketIDs, b.tx.idKey(r.livemode, r.id), binary.AppendUvarint(nil, seq)); err != nil {
		return err
	}
	if err := b.quarantine(r, seq, old, a); err != nil {
		return err
	}
	if r.livemode == b.livemode {
		if err := b.addAccount(r.account, r.context); err != nil {
			return err
		}
	}
	if err := b.link(c.links); err != nil {
		return err
	}
	for _, change := range c.changes {
		if err := b.write(change); err != nil {
			return err
		}
	}
	b.keepTotals(c.totals)
	b.last = seq
	b.counts.event(r, +1)
	return nil
}

// reach goes to the page that a key will be written to, so that damage there is met before anything is written.
func (b *booking) reach(bucket, key []byte) { b.tx.Bucket(bucket).Cursor().Seek(key) }

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
