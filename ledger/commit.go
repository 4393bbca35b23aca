package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// Group commit. One goroutine owns writing: it takes all that queued up while the last sync was
// under way, books it in one transaction and answers after the second sync. There is no timer: a
// lone event is committed at once, and load makes the groups.

const (
	// maxQueued events may wait for the committer; a further one is refused.
	maxQueued = 8192
	// maxQueuedBytes bounds what they hold.
	maxQueuedBytes = 64 << 20
	// queuedOverhead is what a waiting event takes at least.
	queuedOverhead = 512
	// maxBatch events go into one transaction, so that one answer does not wait for thousands.
	maxBatch = 2048
	// flushRepeats is how long counted repeats may wait for a commit to go with.
	flushRepeats = 8 * time.Second
	// maxRepeats rows get their counts in one transaction.
	maxRepeats = 4096
	// heavyObjects in an event's facts make it heavy: of those each commit books one at most, so
	// that no other event waits for several. Stripe's own events have a few dozen.
	heavyObjects = 256
	// probeEvery is the pause between two tries to mend the file.
	probeEvery = time.Second
)

// pending is an event that waits for its commit, or a job of the ledger's own.
type pending struct {
	event   Event  // without its raw body
	body    []byte // compressed
	size    uint64 // of the raw one
	absent  bool   // the event's id had no row when the batch was looked at
	weight  int64  // what it counts for in maxQueuedBytes: the raw size, and some; the facts keep the raw bytes in memory
	release bool   // no delivery: the event was read from its own row
	booked  bool   // the event left quarantine
	job     func(*booking) error
	result  Result
	err     error
	done    chan struct{} // closed when result and err are set
}

// do has a job done in the committer's next transaction and waits until that is durable. The job reads
// before it writes, as book does: an error it returns before it has set writing fails it alone. Where do returns an
// error, the job may still be under way.
func (l *Ledger) do(ctx context.Context, job func(*booking) error) error {
	if l.readOnly {
		return ErrReadOnly
	}
	return l.wait(ctx, &pending{job: job, weight: queuedOverhead, done: make(chan struct{})})
}

func newPending(e *Event, body []byte) *pending {
	p := &pending{event: *e, body: body, size: uint64(len(e.Raw)), weight: int64(len(e.Raw) + queuedOverhead), done: make(chan struct{})}
	p.event.Raw = nil
	return p
}

// isDelivery tells that somebody brought an event.
func (p *pending) isDelivery() bool { return p.job == nil && !p.release }

func (p *pending) answer(err error) {
	if p.err == nil {
		p.err = err
	}
	close(p.done)
}

// failure is why the ledger refuses events at present.
type failure struct {
	err   error
	final bool // nothing will change before the file is opened again
	// unreadable reports that the file does not hold what bbolt takes it to hold: reading it can
	// end the process.
	unreadable bool
}

// Run commits what Append brings until ctx ends, then what is still waiting, and returns. It returns
// earlier, with an error, if the file must be opened again before it can be written. It may run once.
func (l *Ledger) Run(ctx context.Context) (err error) {
	if l.readOnly {
		return ErrReadOnly
	}
	if !l.running.CompareAndSwap(false, true) {
		return errors.New("the ledger's committer was started twice")
	}
	defer close(l.stopped)
	defer func() {
		if fault := l.leaveFile(); fault != nil && errors.As(err, new(*FileFault)) {
			err = fault // what is known of it by now
		} else {
			err = errors.Join(err, fault)
		}
	}()
	ticker := time.NewTicker(cmp.Or(l.opts.LookEvery, lookEvery))
	defer ticker.Stop()
	for {
		batch, stopping := l.gather(ctx, ticker.C)
		if l.failure.Load() == nil {
			l.inPlace(len(batch) == 0) // else it refuses the batch
		}
		batch = l.answerKnown(l.setAside(batch))
		if len(batch) > 0 || l.flushDue() || stopping && l.hasRepeats() {
			l.commit(batch)
		}
		failed := l.failure.Load()
		if failed != nil && failed.final {
			return failed.err
		}
		if !stopping || len(l.queue) > 0 || len(l.heavy) > 0 || failed == nil && l.hasRepeats() {
			continue
		}
		if failed != nil {
			return fmt.Errorf("the ledger stopped while it could not be written: %w", failed.err)
		}
		l.tidy()
		return nil
	}
}

// gather waits for the next reason to commit or to look at the file: an event, repeats that waited
// long enough, the end, a tick of look.
func (l *Ledger) gather(ctx context.Context, look <-chan time.Time) (batch []*pending, stopping bool) {
	var flush, probe <-chan time.Time
	switch f := l.failure.Load(); {
	case f != nil && (f.final || len(l.heavy) > 0):
		return l.drain(nil), false
	case f != nil:
		probe = time.After(probeEvery)
	case l.flushDue():
		return l.drain(nil), false
	case len(l.heavy) > 0:
		return l.drain(nil), ctx.Err() != nil
	case !l.flushAt.IsZero():
		flush = time.After(time.Until(l.flushAt))
	}
	for {
		select {
		case p := <-l.queue:
			l.queuedBytes.Add(-p.weight)
			if f := l.failure.Load(); f != nil {
				p.answer(f.err)
				continue
			}
			return l.drain([]*pending{p}), false
		case <-l.wake:
			if f := l.failure.Load(); f != nil && f.final {
				return l.drain(nil), false
			}
		case <-l.round:
		case <-look:
			if l.failure.Load() == nil {
				return nil, false
			}
		case <-flush:
			return l.drain(nil), false
		case <-probe:
			l.tryToMend()
			if l.failure.Load() == nil || l.failure.Load().final {
				return nil, false
			}
			probe = time.After(probeEvery)
		case <-ctx.Done():
			return l.drain(nil), true
		}
	}
}

// WaitIdle waits until the committer has nothing under way: it has come to the end of a commit, or of a try to mend the
// file, whether that succeeded or not. It costs no commit. The error is that of ctx, or of a committer that has returned.
func (l *Ledger) WaitIdle(ctx context.Context) error {
	select {
	case l.round <- struct{}{}:
		return nil
	case <-l.stopped:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// yields is how often whoever could bring another event may run before a batch is closed.
const yields = 2

// drain takes what waits besides. It waits for nobody, but lets those go first who are about to bring something: with
// the processors busy a commit gains nothing by beginning early, and a large one costs each event less.
func (l *Ledger) drain(batch []*pending) []*pending {
	for yielded := 0; len(batch) < maxBatch; {
		select {
		case p := <-l.queue:
			l.queuedBytes.Add(-p.weight)
			batch = append(batch, p)
			yielded = 0
		default:
			if yielded == yields {
				return batch
			}
			yielded++
			runtime.Gosched()
		}
	}
	return batch
}

// setAside takes the heavy events out of a batch, but for the one that has waited longest. While
// the ledger refuses events all of them stay in the batch, so that they are answered.
func (l *Ledger) setAside(batch []*pending) []*pending {
	light := batch[:0]
	for _, p := range batch {
		if p.isHeavy() {
			l.queuedBytes.Add(p.weight) // it waits again
			l.heavy = append(l.heavy, p)
		} else {
			light = append(light, p)
		}
	}
	n := min(len(l.heavy), 1)
	if l.failure.Load() != nil {
		n = len(l.heavy)
	}
	for _, p := range l.heavy[:n] {
		l.queuedBytes.Add(-p.weight)
	}
	light = append(light, l.heavy[:n]...)
	l.heavy = slices.Delete(l.heavy, 0, n)
	return light
}

// isHeavy reports whether booking the event takes much longer than others.
func (p *pending) isHeavy() bool {
	f := &p.event.Facts
	n := len(f.Intents) + len(f.Charges) + len(f.Refunds) + len(f.Disputes) + len(f.Sessions)
	for i := range f.Disputes {
		n += len(f.Disputes[i].Transactions)
	}
	return n > heavyObjects
}

// flushDue tells that counted repeats have waited long enough.
func (l *Ledger) flushDue() bool {
	return !l.flushAt.IsZero() && l.failure.Load() == nil && time.Until(l.flushAt) <= 0
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
	l.began.Store(start.UnixNano())
	repeats := l.someRepeats()
	b, err := l.write(batch, repeats, 0)
	if err == nil {
		err = l.stillInPlace()
	}
	l.began.Store(0)
	if err != nil {
		l.fail(err, b, repeats)
	} else {
		l.publish(b, repeats)
	}
	events := 0
	for _, p := range batch {
		if p.isDelivery() {
			events++
		}
	}
	l.observe(CommitStats{Events: events, Duration: time.Since(start), Err: err})
	if err != nil {
		err = l.failure.Load().err
	}
	for _, p := range batch {
		p.answer(err)
	}
}

func (l *Ledger) observe(c CommitStats) {
	if l.opts.Observe != nil {
		l.opts.Observe(c)
	}
}

// errPanic marks that bbolt panicked in a commit: what it has in memory is not to be trusted with another one.
var errPanic = errors.New("the ledger must be opened again")

// write writes a transaction. Where a place is damaged that something is to go to, it is written once more, with care:
// nothing was on its way to the disk yet.
func (l *Ledger) write(batch []*pending, repeats map[uint64]uint64, settle int) (*booking, error) {
	b, err := l.tryToWrite(batch, repeats, settle)
	if !errors.Is(err, errUnreachable) || l.fresh.wary {
		return b, err
	}
	l.fresh.wary = true
	if err := l.load(); err != nil {
		return b, err
	}
	return l.tryToWrite(batch, repeats, settle)
}

// tryToWrite is the transaction. An event whose payment cannot be read fails alone; its error stands in it.
func (l *Ledger) tryToWrite(batch []*pending, repeats map[uint64]uint64, settle int) (b *booking, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	begun := false
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %w: %v", errPanic, ErrCorrupt, r)
			l.lock(begun, err)
		}
		if err != nil {
			l.hot.clear()
		}
	}()
	tx, err := l.db.Begin(true)
	begun = true
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // a committed transaction is closed; a failed commit may have left it open
	if err := l.ours(uint64(tx.ID()) - 1); err != nil {
		return nil, err
	}
	l.fresh.begin(uint64(tx.ID()))
	b = &booking{tx: &txn{Tx: tx, fresh: &l.fresh}, txID: uint64(tx.ID()), last: l.durableSeq.Load(), counts: *l.counts.Load(), livemode: l.livemode, bodies: l.bodies, hot: &l.hot}
	if err := b.fill(batch, repeats, settle); err != nil {
		return b, err
	}
	l.offer() // bbolt shows the transaction before it is on disk
	if err := tx.Commit(); err != nil {
		return b, fmt.Errorf("commit: %w", err)
	}
	return b, nil
}

// tidy carries all that is fresh to its place, when nobody waits for a commit: a ledger that was closed in peace has
// everything there. What cannot be settled stays fresh, which is no fault.
func (l *Ledger) tidy() {
	f := &l.fresh
	for stuck := false; !stuck && (f.size() > 0 || f.records > 0); {
		size, records := f.size(), f.records
		if len(f.settling) == 0 && len(f.new) > 0 {
			f.turn()
		}
		b, err := l.write(nil, nil, settleAtEnd)
		if err != nil {
			return // the next start settles the file
		}
		l.publish(b, nil)
		stuck = f.size() >= size && f.records >= records
	}
}

// publish makes a durable transaction known.
func (l *Ledger) publish(b *booking, repeats map[uint64]uint64) {
	l.fresh.done()
	l.durableSeq.Store(b.last)
	l.durableTx.Store(b.txID)
	l.counts.Store(&b.counts)
	if b.delivered != nil {
		l.lastEvent.Store(b.delivered)
	}
	l.lastCommit.Store(time.Now().UnixNano())
	l.written(repeats)
}

// written takes counts that are on disk off those that wait.
func (l *Ledger) written(repeats map[uint64]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for seq, n := range repeats {
		if l.repeats[seq] -= n; l.repeats[seq] == 0 {
			delete(l.repeats, seq)
		}
	}
	if len(l.repeats) == 0 { // else what one transaction does not take goes in the next
		l.flushAt = time.Time{}
	}
}

func (l *Ledger) hasRepeats() bool { return l.waitingRepeats() > 0 }

func (l *Ledger) waitingRepeats() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.repeats)
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
