package ledger

import (
	"context"
	"errors"
	"slices"
	"time"

	"tillhook/ledger/posting"
	"tillhook/ledger/retention"
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
	var s retention.Overdue
	err = l.store.View(func(tx *store.Tx) error {
		s, err = retention.FindOverdue(tx, l.published.Load().Counts.Expired, retention.NewDue(before, l.wall()))
		return err
	})
	if err != nil || !s.Enough() {
		return 0, s.More, err
	}
	gone := 0
	err = l.do(ctx, func(b *posting.Batch) (func() error, error) {
		var keys, old [][]byte
		for _, seq := range s.Rows {
			r, err := schema.ReadRow(b.Tx, seq)
			if err != nil {
				return nil, err
			}
			if retention.Expires(r) && b.Tx.Has(schema.BucketBodies, schema.SeqKey(seq)) {
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
			b.Counts.Expired = max(b.Counts.Expired, s.To)
			gone = len(keys)
			return nil
		}, nil
	})
	if err != nil {
		return 0, false, err // the job may still run
	}
	return gone, s.More, nil
}
