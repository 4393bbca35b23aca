package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Group commit. One goroutine owns writing: it takes all that queued up while the last sync was
// under way, books it in one transaction and answers after the second sync. There is no timer: a
// lone event is committed at once, and load makes the groups.
//
// A failed commit is "unknown". bbolt writes pages, syncs, writes a meta page, syncs again. If the
// second sync fails, the page cache shows the new meta page and the disk may not have it; the kernel
// reports such an error once and calls the page clean (fsync(2), NOTES). The next transaction would
// build on a state the disk may not have and reuse pages of the one it has. So after any failed
// commit nothing is taken until mend has succeeded: both meta pages are written back as they read
// and synced, which makes what readers see what the disk has, and an empty commit has gone through.

const (
	// maxQueued events may wait for the committer; a further one is refused.
	maxQueued = 8192
	// maxQueuedBytes bounds what they hold.
	maxQueuedBytes = 64 << 20
	// queuedOverhead stands for what a waiting event takes beside its body.
	queuedOverhead = 512
	// maxBatch events go into one transaction, so that one answer does not wait for thousands.
	maxBatch = 2048
	// flushRepeats is how long counted repeats may wait for a commit to go with.
	flushRepeats = 8 * time.Second
	// maxRepeats rows get their counts in one transaction.
	maxRepeats = 4096
	// probeEvery is the pause between two tries to mend the file.
	probeEvery = time.Second
)

// pending is an event that waits for its commit.
type pending struct {
	event  *Event
	body   []byte // compressed
	size   uint64 // of the raw one
	result Result
	err    error
	done   chan struct{} // closed when result and err are set
}

func (p *pending) answer(err error) {
	if p.err == nil {
		p.err = err
	}
	close(p.done)
}

// failure is why the ledger refuses events at present.
type failure struct{ err error }

// Run commits what Append brings until ctx ends, then what is still waiting, and returns. It may run once.
func (l *Ledger) Run(ctx context.Context) error {
	if l.readOnly {
		return ErrReadOnly
	}
	if !l.running.CompareAndSwap(false, true) {
		return errors.New("the ledger's committer was started twice")
	}
	defer close(l.stopped)
	for {
		batch, stopping := l.gather(ctx)
		if len(batch) > 0 || l.hasRepeats() {
			l.commit(batch)
		}
		failed := l.failure.Load()
		if !stopping || len(l.queue) > 0 || failed == nil && l.hasRepeats() {
			continue
		}
		if failed != nil {
			return fmt.Errorf("the ledger stopped while it could not be written: %w", failed.err)
		}
		return nil
	}
}

// gather waits for the next reason to commit: an event, repeats that waited long enough, the end.
func (l *Ledger) gather(ctx context.Context) (batch []*pending, stopping bool) {
	var flush, probe <-chan time.Time
	if l.failure.Load() != nil {
		probe = time.After(probeEvery)
	}
	for {
		select {
		case p := <-l.queue:
			l.queuedBytes.Add(-int64(len(p.body) + queuedOverhead))
			if f := l.failure.Load(); f != nil {
				p.answer(f.err)
				continue
			}
			return l.drain([]*pending{p}), false
		case <-l.wake:
			if flush == nil {
				flush = time.After(flushRepeats)
			}
		case <-flush:
			flush = nil
			if l.failure.Load() == nil && l.hasRepeats() {
				return nil, false
			}
		case <-probe:
			if err := l.mend(); err != nil {
				l.failure.Store(&failure{fmt.Errorf("%w: %w", ErrUnavailable, err)})
				probe = time.After(probeEvery)
				continue
			}
			l.failure.Store(nil)
			probe = nil
		case <-ctx.Done():
			return l.drain(nil), true
		}
	}
}

// drain takes what waits besides, without waiting for more.
func (l *Ledger) drain(batch []*pending) []*pending {
	for len(batch) < maxBatch {
		select {
		case p := <-l.queue:
			l.queuedBytes.Add(-int64(len(p.body) + queuedOverhead))
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

// commit books a batch and the waiting repeats in one transaction and answers when it is on disk.
func (l *Ledger) commit(batch []*pending) {
	if f := l.failure.Load(); f != nil {
		for _, p := range batch {
			p.answer(f.err)
		}
		return
	}
	start := time.Now()
	repeats := l.someRepeats()
	b, err := l.write(batch, repeats)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		l.failure.Store(&failure{err})
	} else {
		l.publish(b, repeats)
	}
	if l.opts.Observe != nil {
		l.opts.Observe(Commit{Events: len(batch), Duration: time.Since(start), Err: err})
	}
	for _, p := range batch {
		p.answer(err)
	}
}

// write is the transaction. An event whose payment cannot be read fails alone; its error stands in it.
func (l *Ledger) write(batch []*pending, repeats map[uint64]uint64) (*booking, error) {
	tx, err := l.db.Begin(true)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	b := &booking{tx: tx, txID: uint64(tx.ID()), last: l.durableSeq.Load(), counts: *l.counts.Load(), livemode: l.livemode}
	for _, p := range batch {
		if err = b.book(p); err != nil {
			break
		}
	}
	if err == nil {
		err = b.countRepeats(repeats)
	}
	if err == nil {
		err = put(tx, bucketMeta, metaCounts, b.counts.encode())
	}
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return b, nil
}

// publish makes a durable transaction known.
func (l *Ledger) publish(b *booking, repeats map[uint64]uint64) {
	l.durableSeq.Store(b.last)
	l.durableTx.Store(b.txID)
	l.counts.Store(&b.counts)
	if b.received != 0 {
		l.lastEvent.Store(b.received)
	}
	l.lastCommit.Store(time.Now().UnixNano())
	l.mu.Lock()
	defer l.mu.Unlock()
	for seq, n := range repeats {
		if l.repeats[seq] -= n; l.repeats[seq] == 0 {
			delete(l.repeats, seq)
		}
	}
}

// mend makes the file trustworthy after a failed commit, and takes over what it then holds.
func (l *Ledger) mend() error {
	metas := make([]byte, 2*l.db.Info().PageSize)
	if _, err := l.file.ReadAt(metas, 0); err != nil {
		return fmt.Errorf("read the meta pages: %w", err)
	}
	if _, err := l.file.WriteAt(metas, 0); err != nil {
		return fmt.Errorf("write the meta pages back: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("sync the meta pages: %w", err)
	}
	if err := l.load(); err != nil {
		return err
	}
	if err := l.db.Update(func(*bolt.Tx) error { return nil }); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	l.lastCommit.Store(time.Now().UnixNano())
	return nil
}

func (l *Ledger) hasRepeats() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.repeats) > 0
}

// someRepeats copies out what one transaction takes of the waiting repeats.
func (l *Ledger) someRepeats() map[uint64]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	some := make(map[uint64]uint64, min(len(l.repeats), maxRepeats))
	for seq, n := range l.repeats {
		if len(some) == maxRepeats {
			break
		}
		some[seq] = n
	}
	return some
}

// booking is one transaction under way.
type booking struct {
	tx       *bolt.Tx
	txID     uint64
	last     uint64 // the newest sequence
	received int64  // when the newest event came, Unix milliseconds
	counts   counts
	livemode bool
}

// book writes one event down. All that is read is read before anything is written, so that damage
// found on the way fails this event and leaves the transaction as it was; an error returned ends it.
func (b *booking) book(p *pending) error {
	e := p.event
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
	return put(b.tx, bucketEvents, seqKey(seq), old.encode())
}

// enter writes a new row, or books an event that lay in quarantine in its old one.
func (b *booking) enter(p *pending, seq uint64, old *row) error {
	e := p.event
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
