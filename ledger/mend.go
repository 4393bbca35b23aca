package ledger

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// A failed commit is "unknown". bbolt writes pages, syncs, writes a meta page, syncs again. If the
// second sync fails, the page cache shows the new meta page and the disk may not have it; the kernel
// reports such an error once and calls the page clean (fsync(2), NOTES). The next transaction would
// build on a state the disk may not have and reuse pages of the one it has. So after any failed
// commit nothing is taken until mend has succeeded: both meta pages, as they read right after the
// failure, are written back and synced, which makes what readers see what the disk has, and an
// empty commit has gone through. A file system that shows yet another page by then makes bbolt panic in
// that commit; what bbolt has in memory is of no use any more, so Run ends, and the next start settles it.

// unsettled is what is known of a commit that failed.
type unsettled struct {
	metas   []byte            // both meta pages as they read right after it
	txID    uint64            // of the transaction, which may be on disk or not
	repeats map[uint64]uint64 // the counts in it
}

// settle makes what readers see of the file what the disk has. A process that died between writing a
// meta page and syncing it, or after a sync that failed, leaves a page cache that shows more than the disk
// holds, and a page that counts as written: so the meta pages are written again, and synced, before
// anything they show is believed.
func (l *Ledger) settle() error {
	metas, err := l.readMetas()
	if err == nil {
		err = l.writeMetas(metas)
	}
	if err == nil {
		err = syncDir(filepath.Dir(l.path))
	}
	return err
}

// fail refuses all events from now on. It keeps what the page cache shows of the meta pages at once: the kernel may
// drop a page whose sync failed at any time and then shows an older one, which bbolt would not expect.
func (l *Ledger) fail(err error, b *booking, repeats map[uint64]uint64) {
	l.failure.Store(&failure{err: fmt.Errorf("%w: %w", ErrUnavailable, err), final: errors.Is(err, errPanic)})
	l.unsettled = unsettled{}
	if l.locked.Load() {
		return
	}
	if metas, err := l.readMetas(); err == nil {
		l.unsettled.metas = metas
	}
	if b != nil {
		l.unsettled.txID, l.unsettled.repeats = b.txID, repeats
	}
}

// tryToMend mends the file after a failed commit and takes events again, or leaves things as they are.
func (l *Ledger) tryToMend() {
	start := time.Now()
	l.began.Store(start.UnixNano())
	err := l.putRight()
	if err == nil {
		err = l.mend()
	}
	l.began.Store(0)
	if err == nil && !l.locked.Load() {
		l.failure.Store(nil)
		clearMissing(l.path)
	}
	l.observe(CommitStats{Duration: time.Since(start), Err: err})
}

// mend makes the file trustworthy after a failed commit, and takes over what it then holds.
func (l *Ledger) mend() error {
	if l.unsettled.metas == nil {
		metas, err := l.readMetas()
		if err != nil {
			return err
		}
		l.unsettled.metas = metas
	}
	if err := l.writeMetas(l.unsettled.metas); err != nil {
		return err
	}
	if err := l.load(); err != nil {
		return err
	}
	if l.unsettled.txID != 0 && l.durableTx.Load() >= l.unsettled.txID {
		l.written(l.unsettled.repeats) // the commit that failed is on disk after all
	}
	l.unsettled.txID, l.unsettled.repeats = 0, nil
	b, err := l.write(nil, nil, 0)
	if err != nil {
		l.fail(err, nil, nil)
		return err
	}
	l.publish(b, nil)
	l.unsettled = unsettled{}
	return nil
}

func (l *Ledger) readMetas() ([]byte, error) {
	metas := make([]byte, 2*l.pageSize)
	if _, err := l.file.ReadAt(metas, 0); err != nil {
		return nil, fmt.Errorf("read the meta pages: %w", err)
	}
	return metas, nil
}

func (l *Ledger) writeMetas(metas []byte) error {
	if _, err := l.file.WriteAt(metas, 0); err != nil {
		return fmt.Errorf("write the meta pages back: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("sync the meta pages: %w", err)
	}
	return nil
}
