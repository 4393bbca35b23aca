package ledger

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Retention deletes raw bodies that are older than they are to be kept; what they said is kept
// permanently, and so is a body in quarantine. It goes from the oldest on, in steps that share the
// transactions of the events that come meanwhile. The body of an event that left quarantine is
// deleted with that of its new row, when that is due.
//
// bbolt writes its whole list of free pages with every commit. So the deleting waits while that is long
// already: a body may stay a while longer than it should, until intake has used the space.

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

// KeepBodies deletes bodies that were received longer ago than keep, until ctx ends. A keep of 0 keeps all.
func (l *Ledger) KeepBodies(ctx context.Context, keep time.Duration) error {
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
		if l.db.Stats().FreePageN < maxFreePages {
			n, more, err := l.expire(ctx, time.Now().Add(-keep))
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
	err = l.view(func(tx *txn) error {
		s, err = findOverdue(tx, l.counts.Load().expired, before)
		return err
	})
	if err != nil || len(s.rows) == 0 && s.to-s.from < scanSlice {
		return 0, s.more, err // nothing that is worth a commit
	}
	gone := 0
	err = l.do(ctx, func(b *booking) error {
		var keys, old [][]byte
		for _, seq := range s.rows {
			r, err := readRow(b.tx, seq)
			if err != nil {
				return err
			}
			if r.expires() && b.tx.Bucket(bucketBodies).Get(seqKey(seq)) != nil {
				keys = append(keys, seqKey(seq))
				if r.released != 0 {
					old = append(old, seqKey(r.released))
				}
			}
		}
		b.writing = true
		for _, key := range slices.Concat(keys, old) {
			if err := remove(b.tx, bucketBodies, key); err != nil {
				return err
			}
		}
		b.counts.expired = max(b.counts.expired, s.to)
		gone = len(keys)
		return nil
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

// findOverdue looks at the oldest bodies, some at a time: what lies in quarantine stays, however much it is. Rows
// are in the order of arrival, but for the seconds that a request may take.
func findOverdue(tx *txn, from uint64, before time.Time) (overdue, error) {
	s := overdue{from: from, to: from}
	c := tx.Bucket(bucketBodies).Cursor()
	key, _ := c.Seek(seqKey(from + 1))
	for looked := 0; key != nil; looked++ {
		if s.more = looked == scanSlice || len(s.rows) == expireStep; s.more {
			return s, nil
		}
		seq := seqOf(key)
		r, err := readRow(tx, seq)
		switch {
		case errors.Is(err, ErrCorrupt): // its body may be what it can be mended from
		case err != nil:
			return s, err
		case r.received >= before.UnixMilli():
			return s, nil
		case r.expires():
			s.rows = append(s.rows, seq)
		}
		s.to = seq
		key, _ = c.Next()
	}
	return s, nil
}
