package ledger

import (
	"context"
	"errors"
	"slices"
	"tillhook/ledger/store"
	"time"
)

// Retention deletes raw bodies that are older than they are to be kept; what they said is kept
// permanently, and so is a body in quarantine. It goes from the oldest on, in steps that share the
// transactions of the events that come meanwhile. The body of an event that left quarantine is
// deleted with that of its new row, when that is due.
//
// bbolt writes its whole list of free pages with every commit. So the deleting waits while that is long
// already: a body may stay a while longer than it should, until intake has used the space.
//
// A clock that is wrong must not cost bodies: see retentionTime.

const (
	// expireStep bodies are deleted in one transaction.
	expireStep = 256
	// maxFreePages is how many pages may be free before deleting waits: their list takes 32 KiB.
	maxFreePages = 4096
	// expireEvery is the pause between two looks for what is due.
	expireEvery = time.Minute
	// expirePause is how long deleting waits for free pages to be used, or for a ledger that cannot be written.
	expirePause = time.Second
)

// RunRetention deletes bodies that were received longer ago than keep, until ctx ends. A keep of 0 keeps all.
func (l *Ledger) RunRetention(ctx context.Context, keep time.Duration) error {
	if keep <= 0 {
		<-ctx.Done()
		return nil
	}
	deleted, told := 0, time.Now()
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
			} // another error is the committer's to tell; try again
		}
		if deleted > 0 && (pause == expireEvery || time.Since(told) > expireEvery) {
			if l.opts.Expired != nil {
				l.opts.Expired(deleted)
			}
			deleted, told = 0, time.Now()
		}
	}
}

// expire does one step: it deletes bodies received before a time, and tells how many, and whether more may be due.
func (l *Ledger) expire(ctx context.Context, before time.Time) (deleted int, more bool, err error) {
	var s overdue
	err = l.store.View(func(tx *store.Tx) error {
		s, err = findOverdue(tx, l.published.Load().counts.expired, due{before: before.UnixMilli(), wall: l.wall().UnixMilli()})
		return err
	})
	if err != nil || len(s.rows) == 0 && s.to-s.from < scanSlice {
		return 0, s.more, err // nothing that is worth a commit
	}
	gone := 0
	err = l.do(ctx, func(b *posting) (func() error, error) {
		var keys, old [][]byte
		for _, seq := range s.rows {
			r, err := readRow(b.tx, seq)
			if err != nil {
				return nil, err
			}
			if r.expires() && b.tx.Has(bucketBodies, seqKey(seq)) {
				keys = append(keys, seqKey(seq))
				if r.released != 0 {
					old = append(old, seqKey(r.released))
				}
			}
		}
		return func() error {
			for _, key := range slices.Concat(keys, old) {
				if err := b.tx.Delete(bucketBodies, key); err != nil {
					return err
				}
			}
			b.counts.expired = max(b.counts.expired, s.to)
			gone = len(keys)
			return nil
		}, nil
	})
	if err != nil {
		return 0, false, err // the job may still be under way
	}
	return gone, s.more, nil
}

// expires reports whether the body can be deleted because of its row's age.
func (r *row) expires() bool { return r.outcome != Quarantined }

// overdue is a stretch of rows that were looked at, and those among them whose bodies are to go.
type overdue struct {
	from, to uint64
	rows     []uint64
	more     bool
}

// due says which rows are old enough. Times are Unix milliseconds.
type due struct {
	before int64
	wall   int64 // this machine's clock
	floor  int64 // what comes after the rows that were passed came after this; 0 where it is not known
}

// age returns when a row came, as far as it is known: not before its event was made at Stripe,
// whatever this machine's clock said then.
func (d due) age(r *row) int64 {
	if created := r.created * 1000; created <= d.wall {
		return max(r.received, created)
	}
	return r.received
}

func (d due) has(r *row) bool { return d.age(r) < d.before }

// pass takes what a row says of those that come after it: they came after its event was made.
func (d *due) pass(r *row) { d.floor = max(d.floor, min(r.created*1000, d.age(r))) }

// dateSlack is by how much the dates of rows may be out of order where the clock is right.
const dateSlack = int64(time.Hour / time.Millisecond)

// behind reports whether a clock that was behind has dated the row: before one that came earlier. A
// released row has the date of its first delivery.
func (d due) behind(r *row) bool { return r.released == 0 && d.age(r) < d.floor-dateSlack }

// findOverdue looks at the oldest bodies, some at a time: what lies in quarantine stays, however
// much it is. Rows are in the order of arrival. One that is not due ends the search, unless its
// date is wrong: see lastOverdue.
func findOverdue(tx *store.Tx, from uint64, d due) (overdue, error) {
	s := overdue{from: from, to: from}
	if r, err := readRow(tx, from); err == nil {
		d.pass(r)
	}
	through := uint64(0) // rows up to here are due
	looked := 0
	for e := range tx.Ascend(bucketBodies, seqKey(from+1)) {
		if s.more = looked == scanSlice || len(s.rows) == expireStep; s.more {
			return s, nil
		}
		looked++
		seq := seqOf(e.Key)
		r, err := readRow(tx, seq)
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
		case errors.Is(err, ErrCorrupt): // its body may be what it can be mended from
		case err != nil:
			return s, err
		case r.expires():
			s.rows = append(s.rows, seq)
		}
		s.to = seq
	}
	return s, nil
}

// samples are looked at to find which of two rows has the wrong date.
const samples = 15

// lastOverdue returns the last row that is known to be due although the row at seq, which came
// before it, is dated as if it were not: a clock that was ahead has dated that one. It returns 0
// where there is none. So that one row which a clock that was behind has dated does not count, most
// of the rows between the two must be due as well, unless the row at seq is of the future.
func (d due) lastOverdue(tx *store.Tx, seq uint64, r *row) (found uint64) {
	isDue := func(seq uint64) bool {
		r, err := readRow(tx, seq)
		return err == nil && d.has(r) && !d.behind(r) && r.created*1000 <= r.received+dateSlack
	}
	last := lastRow(tx)
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
