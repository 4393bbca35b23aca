package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"tillhook/ledger/posting"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Group commit: one goroutine takes the events that were queued during the last sync, posts them in
// one transaction, and answers when it is durable. There is no timer: a single event is committed
// at once, and under load events form groups.

const (
	// maxBatch events go into one transaction, so that one answer does not wait for thousands.
	maxBatch = 2048
	// flushRepeats is how long counted repeats may wait for a commit to go with.
	flushRepeats = 8 * time.Second
	// recoverEvery is the pause between two tries to recover from a failed commit.
	recoverEvery = time.Second
	// checkEvery is the default of [Options.CheckEvery].
	checkEvery = 2 * time.Second
	// maxYields bounds how often other goroutines may run before a batch is closed. Measured with
	// none: 0.89 of the throughput at 64 connections and 1.13 of the processor time, in a ledger of
	// a million events.
	maxYields = 2
)

// committer owns the writing of a ledger. Its fields belong to the goroutine that runs
// [Ledger.Run]; other goroutines use its queue and read what it publishes.
type committer struct {
	*shared
	store   *store.Store
	poster  *posting.Poster
	observe func(CommitStats)
	check   time.Duration // see Options.CheckEvery

	heavy   []*pending        // heavy events that wait besides those in the queue
	flushAt time.Time         // when counted repeats are to be written; zero if none wait
	unknown map[uint64]uint64 // counts of repeats in a commit that failed, and may be durable
}

// shared is what the committer shares with other goroutines.
type shared struct {
	queue     queue
	repeats   repeats
	wake      chan struct{} // wakes the committer after the store was wedged
	idle      chan struct{} // takes a value whenever the committer waits for work
	running   atomic.Bool
	began     atomic.Int64 // Unix nanoseconds at which a disk operation began, 0 for none
	published atomic.Pointer[published]
	wedged    atomic.Pointer[error] // the store can never be written again by this process
}

// published is the state of the ledger after the last commit. It does not change: each commit
// publishes the next one.
type published struct {
	posting.State           // its rows are durable
	lastCommit    time.Time // zero if none succeeded since Open
	failure       *failure  // why events are refused; nil while they are not
}

// failure is why the ledger refuses events.
type failure struct {
	err   error
	final bool // it stays until the file is opened again
}

func (s *shared) failure() *failure { return s.published.Load().failure }

// refuse publishes why events are refused.
func (c *committer) refuse(err error) {
	now := *c.published.Load()
	now.failure = &failure{fmt.Errorf("%w: %w", ErrUnavailable, err), store.NeedsReopen(err)}
	c.published.Store(&now)
}

// load publishes what the file holds.
func (c *committer) load() error {
	return c.store.View(func(tx *store.Tx) error {
		counts, err := schema.ReadCounts(tx)
		if err != nil {
			return err
		}
		now := published{State: posting.State{Last: schema.LastRow(tx), Counts: *counts, Delivered: schema.LastDelivery(tx)}}
		if before := c.published.Load(); before != nil {
			now.lastCommit, now.failure = before.lastCommit, before.failure
		}
		c.published.Store(&now)
		return nil
	})
}

// Run commits what Append brings until ctx ends, then what is still waiting, and returns. It
// returns earlier, with an error, if the file must be opened again before it can be written. It may
// run once.
func (l *Ledger) Run(ctx context.Context) (err error) {
	if l.readOnly {
		return ErrReadOnly
	}
	c := &l.committer
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("the ledger's committer was started twice")
	}
	defer close(c.queue.stopped)
	defer func() {
		if fault := c.store.Leave(); fault != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, fault) // what is known of it by now
		}
	}()
	ticker := time.NewTicker(cmp.Or(c.check, checkEvery))
	defer ticker.Stop()
	for {
		batch, stopping := c.gather(ctx, ticker.C)
		if c.failure() == nil {
			c.checkFile(len(batch) == 0) // or refuses the batch
		}
		batch = c.answerKnown(c.setAside(batch))
		if len(batch) > 0 || c.flushDue() || stopping && c.repeats.rows() > 0 {
			c.commit(batch)
		}
		failed := c.failure()
		if failed != nil && failed.final {
			return failed.err
		}
		if !stopping || len(c.queue.waiting) > 0 || len(c.heavy) > 0 || failed == nil && c.repeats.rows() > 0 {
			continue
		}
		if failed != nil {
			return fmt.Errorf("the ledger stopped while it could not be written: %w", failed.err)
		}
		_ = c.store.Flush() // what it does not flush is in the log, and the next opening reads it
		return nil
	}
}

// onDisk notes that a disk operation begins, until the function that it returns is called: a file
// system can hang.
func (c *committer) onDisk() (end func()) {
	c.began.Store(time.Now().UnixNano())
	return func() { c.began.Store(0) }
}

// checkFile refuses all events if the file is not as the last commit left it.
func (c *committer) checkFile(inside bool) {
	defer c.onDisk()()
	if err := c.store.CheckFile(inside); err != nil {
		c.refuse(err)
		c.observed(CommitStats{Err: err})
	}
}

// gather waits for the next reason to commit or to check the file: an event, repeats that waited
// long enough, the end, a tick. While the ledger refuses events, it answers them with the reason
// and tries to recover once a second.
func (c *committer) gather(ctx context.Context, tick <-chan time.Time) (batch []*pending, stopping bool) {
	c.noteWedged()
	var flush, retry <-chan time.Time
	switch f := c.failure(); {
	case f != nil && (f.final || len(c.heavy) > 0):
		return c.drain(nil), false
	case f != nil:
		retry = time.After(recoverEvery)
	case c.flushDue():
		return c.drain(nil), false
	case len(c.heavy) > 0:
		return c.drain(nil), ctx.Err() != nil
	case !c.flushAt.IsZero():
		flush = time.After(time.Until(c.flushAt))
	}
	for {
		select {
		case p := <-c.queue.waiting:
			c.queue.bytes.Add(-p.weight)
			if f := c.failure(); f != nil {
				p.answer(f.err)
				continue
			}
			return c.drain([]*pending{p}), false
		case <-c.wake:
			if c.noteWedged() {
				return c.drain(nil), false
			}
		case <-c.idle:
		case <-tick:
			if c.failure() == nil {
				return nil, false
			}
		case <-flush:
			return c.drain(nil), false
		case <-retry:
			c.tryRecover()
			if f := c.failure(); f == nil || f.final {
				return nil, false
			}
			retry = time.After(recoverEvery)
		case <-ctx.Done():
			return c.drain(nil), true
		}
	}
}

// noteWedged refuses all events once the store is wedged, and reports whether it is.
func (c *committer) noteWedged() bool {
	err := c.wedged.Load()
	if err != nil {
		c.refuse(*err)
	}
	return err != nil
}

// wedge is called by the store from any goroutine when it can never be written again.
func (s *shared) wedge(err error) {
	s.wedged.Store(&err)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// WaitIdle returns when the commit or recovery in progress has ended, successfully or not. It costs
// no commit. The error is that of ctx, or [ErrClosed] once Run has returned. The watchdog calls it:
// a committer that is stuck in a system call never becomes idle.
func (l *Ledger) WaitIdle(ctx context.Context) error {
	select {
	case l.idle <- struct{}{}:
		return nil
	case <-l.queue.stopped:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain takes what else waits. It waits for no event, but lets goroutines run first that are about
// to bring one: with the processors busy a commit gains nothing by beginning early, and a large one
// costs each event less.
func (c *committer) drain(batch []*pending) []*pending {
	for yielded := 0; len(batch) < maxBatch; {
		select {
		case p := <-c.queue.waiting:
			c.queue.bytes.Add(-p.weight)
			batch = append(batch, p)
			yielded = 0
		default:
			if yielded == maxYields {
				return batch
			}
			yielded++
			runtime.Gosched()
		}
	}
	return batch
}

// setAside takes the heavy events out of a batch, except the one that has waited longest. While the
// ledger refuses events all of them stay in the batch, so that they are answered.
func (c *committer) setAside(batch []*pending) []*pending {
	light := batch[:0]
	for _, p := range batch {
		if p.isHeavy() {
			c.queue.bytes.Add(p.weight) // it waits again
			c.heavy = append(c.heavy, p)
		} else {
			light = append(light, p)
		}
	}
	n := min(len(c.heavy), 1)
	if c.failure() != nil {
		n = len(c.heavy)
	}
	for _, p := range c.heavy[:n] {
		c.queue.bytes.Add(-p.weight)
	}
	light = append(light, c.heavy[:n]...)
	c.heavy = slices.Delete(c.heavy, 0, n)
	return light
}

// flushDue reports whether counted repeats have waited long enough.
func (c *committer) flushDue() bool {
	return !c.flushAt.IsZero() && c.failure() == nil && time.Until(c.flushAt) <= 0
}

// answerKnown answers the repeats of durable events, and returns what is to be posted. Between two
// commits all that the file and the write buffer hold is durable.
func (c *committer) answerKnown(batch []*pending) []*pending {
	if c.failure() != nil || !slices.ContainsFunc(batch, (*pending).isDelivery) {
		return batch
	}
	defer c.onDisk()() // a page may have to be read
	var left []*pending
	looked := 0
	err := c.store.ViewLatest(func(tx *store.Tx) error {
		for _, p := range batch {
			looked++
			if !p.isDelivery() {
				left = append(left, p)
				continue
			}
			switch known, err := c.known(tx, p); {
			case err != nil:
				p.answer(fmt.Errorf("%w: %w", ErrUnavailable, err))
			case known:
				p.answer(nil)
			default:
				left = append(left, p)
			}
		}
		return nil
	})
	if err != nil { // the commit finds it, too
		return append(left, batch[looked:]...)
	}
	return left
}

// known reports whether a delivery is a repeat, counts it and sets its result. The usable form of
// an event in quarantine is not a repeat: it is posted.
func (c *committer) known(tx *store.Tx, p *pending) (known bool, err error) {
	defer store.CatchDamage(&err)
	k, err := posting.FindKnown(tx, &p.Event)
	if err != nil || !k.Repeat {
		return false, err
	}
	p.Result = k.Result()
	c.repeats.add(k.Seq)
	if c.flushAt.IsZero() {
		c.flushAt = time.Now().Add(flushRepeats)
	}
	return true, nil
}

// commit posts a batch and the waiting repeats in one transaction, and answers when it is durable.
func (c *committer) commit(batch []*pending) {
	if f := c.failure(); f != nil {
		for _, p := range batch {
			p.answer(f.err)
		}
		return
	}
	start := time.Now()
	repeats := c.repeats.nextBatch()
	now, err := c.write(batch, repeats)
	if err != nil {
		c.refuse(err)
		c.unknown = repeats
	} else {
		c.publish(now, repeats)
	}
	events := 0
	for _, p := range batch {
		if p.isDelivery() {
			events++
		}
	}
	c.observed(CommitStats{Events: events, Duration: time.Since(start), Err: err})
	if err != nil {
		err = c.failure().err
	}
	for _, p := range batch {
		p.answer(err)
	}
}

func (c *committer) observed(s CommitStats) {
	if c.observe != nil {
		c.observe(s)
	}
}

// write posts a batch in one transaction, and returns the state after it.
func (c *committer) write(batch []*pending, repeats map[uint64]uint64) (posting.State, error) {
	defer c.onDisk()()
	return c.poster.Write(c.store.Write, c.published.Load().State, func(b *posting.Batch) error {
		for _, e := range batch {
			if err := b.Post(&e.Item); err != nil {
				return err
			}
		}
		return b.CountRepeats(repeats)
	})
}

// publish publishes the state after a transaction that is durable, with the repeats in it.
func (c *committer) publish(now posting.State, repeats map[uint64]uint64) {
	c.published.Store(&published{State: now, lastCommit: time.Now()})
	if !c.repeats.subtract(repeats) { // counts that did not fit go into the next transaction
		c.flushAt = time.Time{}
	}
}

// tryRecover makes the file trustworthy after a failed commit and takes events again, or leaves
// things as they are.
func (c *committer) tryRecover() {
	start := time.Now()
	now, err := c.recover()
	switch {
	case c.wedged.Load() != nil:
	case err == nil:
		c.publish(now, nil)
		c.store.ClearMissing()
	default:
		c.refuse(err)
	}
	c.observed(CommitStats{Duration: time.Since(start), Err: err})
}

// recover recovers the file, reads its state again, and proves with an empty commit that it can be
// written. It returns the state after that commit.
func (c *committer) recover() (now posting.State, err error) {
	defer c.onDisk()()
	durable, err := c.store.Recover()
	if err != nil {
		return now, err
	}
	if durable {
		c.repeats.subtract(c.unknown)
	}
	c.unknown = nil
	if err := c.load(); err != nil {
		return now, err
	}
	return c.write(nil, nil)
}
