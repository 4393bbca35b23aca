package ledger

import (
	"context"
	"errors"
	"slices"
	"time"

	"tillhook/ledger/posting"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Retention deletes raw bodies that are older than the retention period. The facts decoded from
// them are kept permanently, and so are bodies in quarantine. It deletes the oldest bodies first,
// in steps that share the transactions of the events that arrive meanwhile. The body of an event
// that left quarantine is deleted together with that of the event's new row, when the new row is
// due.
//
// bbolt writes its whole list of free pages with every commit. So retention pauses while that list
// is long, and a body may be kept longer than the retention period until new events have used the
// free pages.
//
// A wrong clock must not delete bodies too early: see retentionTime.

const (
	// expireStep is the number of bodies that are deleted in one transaction.
	expireStep = 256
	// maxFreePages is the number of free pages at which retention pauses: their list takes 32 KiB.
	maxFreePages = 4096
	// expireEvery is the pause between two searches for bodies that are due.
	expireEvery = time.Minute
	// expirePause is how long retention waits for free pages to be used, or for a ledger that
	// cannot be written.
	expirePause = time.Second
)

// RunRetention deletes bodies that were received longer ago than keep, until ctx ends. It deletes
// nothing if keep is 0.
func (l *Ledger) RunRetention(ctx context.Context, keep time.Duration) error {
	if keep <= 0 {
		<-ctx.Done()
		return nil
	}
	deleted, reported := 0, time.Now()
	for pause := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = expirePause
		if l.store.FreePages() < maxFreePages {
			n, more := 0, false
			now, err := l.retention.now(ctx, l)
			if err == nil {
				n, more, err = l.expire(ctx, now.Add(-keep))
			}
			deleted += n
			switch {
			case errors.Is(err, ErrClosed):
				return nil
			case err == nil && more:
				pause = 0
			case err == nil:
				pause = expireEvery
			} // the committer reports any other error; try again
		}
		if deleted > 0 && (pause == expireEvery || time.Since(reported) > expireEvery) {
			if l.opts.Expired != nil {
				l.opts.Expired(deleted)
			}
			deleted, reported = 0, time.Now()
		}
	}
}

// expire does one step: it deletes bodies that were received before a time. It returns how many it
// deleted, and whether more may be due.
func (l *Ledger) expire(ctx context.Context, before time.Time) (deleted int, more bool, err error) {
	var s overdue
	err = l.store.View(func(tx *store.Tx) error {
		s, err = findOverdue(tx, l.published.Load().counts.Expired, due{before: before.UnixMilli(), wall: l.wall().UnixMilli()})
		return err
	})
	if err != nil || len(s.rows) == 0 && s.to-s.from < scanSlice {
		return 0, s.more, err // nothing justifies a commit
	}
	gone := 0
	err = l.do(ctx, func(b *posting.Batch) (func() error, error) {
		var keys, old [][]byte
		for _, seq := range s.rows {
			r, err := schema.ReadRow(b.Tx, seq)
			if err != nil {
				return nil, err
			}
			if expires(r) && b.Tx.Has(schema.BucketBodies, schema.SeqKey(seq)) {
				keys = append(keys, schema.SeqKey(seq))
				if r.Released != 0 {
					old = append(old, schema.SeqKey(r.Released))
				}
			}
		}
		return func() error {
			for _, key := range slices.Concat(keys, old) {
				if err := b.Tx.Delete(schema.BucketBodies, key); err != nil {
					return err
				}
			}
			b.Counts.Expired = max(b.Counts.Expired, s.to)
			gone = len(keys)
			return nil
		}, nil
	})
	if err != nil {
		return 0, false, err // the job may still run
	}
	return gone, s.more, nil
}

// expires reports whether the row's body may be deleted because of its age: a body in quarantine
// may not.
func expires(r *schema.Row) bool { return r.Outcome != Quarantined }

// overdue is a range of rows that were examined, and those among them whose bodies are to be
// deleted.
type overdue struct {
	from, to uint64
	rows     []uint64
	more     bool
}

// due decides which rows are old enough. Times are Unix milliseconds.
type due struct {
	before int64
	wall   int64 // this machine's clock
	floor  int64 // the rows examined next arrived after this time; 0 if unknown
}

// age returns when a row arrived, as far as that is known. A row cannot have arrived before its
// event was created at Stripe, even if this machine's clock said so then. A creation time in the
// future is ignored.
func (d due) age(r *schema.Row) int64 {
	if created := r.Created * 1000; created <= d.wall {
		return max(r.Received, created)
	}
	return r.Received
}

func (d due) has(r *schema.Row) bool { return d.age(r) < d.before }

// pass raises the floor: the rows that come after r arrived after its event was created.
func (d *due) pass(r *schema.Row) { d.floor = max(d.floor, min(r.Created*1000, d.age(r))) }

// dateSlack is how far out of order the dates of rows may be while the clock is right.
const dateSlack = int64(time.Hour / time.Millisecond)

// behind reports whether a clock that was behind has dated the row, so that it seems to be older
// than an earlier row. A released row has the date of its first delivery, so it is exempt.
func (d due) behind(r *schema.Row) bool { return r.Released == 0 && d.age(r) < d.floor-dateSlack }

// findOverdue examines the oldest bodies, a limited number at a time, because any number of them
// can be in quarantine and stay. Rows are in the order of arrival. A row that is not due ends the
// search, unless its date is wrong: see lastOverdue.
func findOverdue(tx *store.Tx, from uint64, d due) (overdue, error) {
	s := overdue{from: from, to: from}
	if r, err := schema.ReadRow(tx, from); err == nil {
		d.pass(r)
	}
	through := uint64(0) // rows up to here are due
	looked := 0
	for e := range tx.Ascend(schema.BucketBodies, schema.SeqKey(from+1)) {
		if s.more = looked == scanSlice || len(s.rows) == expireStep; s.more {
			return s, nil
		}
		looked++
		seq := schema.SeqOf(e.Key)
		r, err := schema.ReadRow(tx, seq)
		switch {
		case err != nil:
		case d.has(r) && !d.behind(r):
			d.pass(r)
		case seq > through:
			if through = d.lastOverdue(tx, seq, r); through == 0 {
				return s, nil
			}
		}
		switch {
		case errors.Is(err, ErrCorrupt): // a rebuild may restore the row from its body
		case err != nil:
			return s, err
		case expires(r):
			s.rows = append(s.rows, seq)
		}
		s.to = seq
	}
	return s, nil
}

// samples is the number of rows that are examined to decide which of two rows has the wrong date.
const samples = 15

// lastOverdue returns the last row that is known to be due although the row at seq, which arrived
// before it, has a date that is not due because a clock that was ahead dated it. It returns 0 if no
// such row is found. A single later row is not sufficient, because a clock that was behind may have
// dated it: most of the rows between the two must be due as well, unless the row at seq is dated in
// the future.
func (d due) lastOverdue(tx *store.Tx, seq uint64, r *schema.Row) (found uint64) {
	isDue := func(seq uint64) bool {
		r, err := schema.ReadRow(tx, seq)
		return err == nil && d.has(r) && !d.behind(r) && r.Created*1000 <= r.Received+dateSlack
	}
	last := schema.LastRow(tx)
	for step := uint64(1); seq+step <= last; step *= 2 {
		if isDue(seq + step) {
			found = seq + step
		}
	}
	if found == 0 || d.age(r) > d.wall+dateSlack {
		return found
	}
	n, old := min(samples, found-seq), uint64(0)
	for i := range n {
		if isDue(found - i*(found-seq)/n) {
			old++
		}
	}
	if old < 3 || 2*old <= n {
		return 0
	}
	return found
}
