package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// booking is one transaction under way.
type booking struct {
	tx       *txn
	txID     uint64
	last     uint64 // the newest sequence
	received int64  // when the newest event was delivered, Unix milliseconds; 0 if none was
	counts   counts
	totals   map[string]amounts // those that became others
	livemode bool
	writing  bool // something of the present event is in the transaction
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

// enter writes a new row, or books an event that lay in quarantine in its old one.
func (b *booking) enter(p *pending, seq uint64, old *row) error {
	e := &p.event
	r := &row{
		id: e.ID, typ: e.Type, account: e.Account, context: e.Context, livemode: e.Livemode, created: e.Created,
		received: e.Received.UnixMilli(), apiVersion: e.APIVersion, source: e.Source,
		size: p.size, reason: e.Quarantine, facts: e.Facts, outcome: Recorded,
	}
	if old != nil {
		r.received, r.repeats, r.released = old.received, old.repeats, true
		if !p.release {
			r.repeats++
		}
	}
	var c consequences
	var err error
	switch {
	case e.Quarantine != "":
		r.outcome, r.facts = Quarantined, Facts{}
	case e.Facts.Named() != "":
		if c, err = b.follow(r, seq); err != nil {
			p.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			return nil
		}
		r.outcome = outcome(c.changes)
	}
	if old != nil || r.outcome == Quarantined {
		b.reach(bucketQuarantine, seqKey(seq))
	}
	p.result = Result{Status: r.outcome, Reason: r.reason, Sequence: seq, Repeat: old != nil, Unlinked: r.unlinked()}
	if len(c.changes) > 0 {
		p.result.PaymentID = c.changes[0].id
	}
	p.booked = old != nil
	return b.record(r, seq, p.body, old, &c)
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

// record writes a row, its body where there is one, and all that follows from it. old is the row as it was in
// quarantine; nil for a new one.
func (b *booking) record(r *row, seq uint64, body []byte, old *row, c *consequences) error {
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
	if err := b.index(r, seq, old); err != nil {
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
	if old == nil {
		b.last = seq
	}
	if old == nil && r.source == Webhook {
		b.received = r.received
	}
	b.counts.event(r, +1)
	if old != nil && b.counts.expired >= seq {
		b.counts.expired = seq - 1 // its body is no longer kept from deletion
	}
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
	if err := put(b.tx, bucketIDs, b.tx.idKey(r.livemode, r.id), binary.AppendUvarint(nil, seq)); err != nil {
		return err
	}
	if r.outcome == Quarantined {
		return put(b.tx, bucketQuarantine, key, nil)
	}
	return nil
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
