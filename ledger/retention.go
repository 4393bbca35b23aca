package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Retention deletes raw bodies that are older than they are to be kept; what they said stays for good,
// and so does a body in quarantine. It goes from the oldest on, in steps that share the transactions of
// the events that come meanwhile.
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
	for pause := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = expirePause
		if l.db.Stats().FreePageN < maxFreePages {
			more, err := l.expire(ctx, time.Now().Add(-keep))
			switch {
			case errors.Is(err, ErrClosed):
				return nil
			case err == nil && more:
				pause = 0
			case err == nil:
				pause = expireEvery
			} // another error is the committer's to tell; try again
		}
	}
}

// expire does one step: it deletes bodies received before a time, and tells whether more may be due.
func (l *Ledger) expire(ctx context.Context, before time.Time) (more bool, err error) {
	if due, err := l.anyExpired(before); !due || err != nil {
		return false, err // without a commit
	}
	err = l.do(ctx, func(b *booking) error {
		keys, last, err := b.due(before, expireStep)
		if err != nil {
			return err
		}
		more = len(keys) == expireStep
		b.writing = true
		for _, key := range keys {
			if err := remove(b.tx, bucketBodies, key); err != nil {
				return err
			}
		}
		b.counts.expired = max(b.counts.expired, last)
		return nil
	})
	return more, err
}

// anyExpired looks whether there is a body to delete.
func (l *Ledger) anyExpired(before time.Time) (due bool, err error) {
	err = l.view(func(tx *bolt.Tx) error {
		b := &booking{tx: tx, counts: *l.counts.Load()}
		keys, _, err := b.due(before, 1)
		due = len(keys) > 0
		return err
	})
	return due, err
}

// due lists the keys of the oldest bodies that were received before a time, and the last row looked at. Rows
// are in the order of arrival, but for the seconds that a request may take.
func (b *booking) due(before time.Time, most int) (keys [][]byte, last uint64, err error) {
	c := b.tx.Bucket(bucketBodies).Cursor()
	last = b.counts.expired
	for key, _ := c.Seek(seqKey(last + 1)); key != nil && len(keys) < most; key, _ = c.Next() {
		r, err := readRow(b.tx, seqOf(key))
		if errors.Is(err, ErrCorrupt) {
			continue // its body may be what it can be mended from
		}
		if err != nil {
			return nil, 0, err
		}
		if r.received >= before.UnixMilli() {
			break
		}
		last = seqOf(key)
		if r.outcome != Quarantined {
			keys = append(keys, binary.BigEndian.AppendUint64(nil, last))
		}
	}
	return keys, last, nil
}
