package store

import "fmt"

// The result of a failed commit is unknown. bbolt writes pages, syncs, writes a meta page and syncs
// again. If the second sync fails, the page cache has the new meta page and the disk may not have
// it: the kernel reports the error once, marks the page clean and does not write it again
// (fsync(2), NOTES). The next transaction would start from the new state and reuse pages that only
// the old state needs. If the disk still has the old meta page, a power failure would then lose
// both.
//
// So after a failed commit nothing is written until Recover has succeeded: both meta pages, as they
// read right after the failure, are written back and synced, which makes what readers see equal to
// what the disk has; then an empty transaction must go through. If the file system shows yet
// another page by then, bbolt panics in that transaction. Its memory cannot be trusted any more, so
// the process ends ([NeedsReopen]), and the next Open makes the file trustworthy.

// failedCommit is what is known of a commit that failed.
type failedCommit struct {
	metas []byte // both meta pages as they read right after it; nil where they could not be read
	tx    uint64 // the transaction, which may be on disk or not; 0 where it never began
}

// syncMetaPages makes what readers see of the file equal to what the disk has. A process that died
// between writing a meta page and syncing it, or after a sync that failed, leaves a page cache that
// is newer than the disk, and a page that the kernel does not write again. So the meta pages are
// written and synced again before their contents are used.
func (s *Store) syncMetaPages() error {
	metas, err := s.readMetaPages()
	if err == nil {
		err = s.writeMetaPages(metas)
	}
	if err == nil {
		err = SyncDir(s.dir())
	}
	return err
}

// noteFailedCommit keeps what the page cache shows of the meta pages at once: the kernel may drop a
// page whose sync failed at any time and then show an older one, which bbolt would not expect.
func (s *Store) noteFailedCommit() {
	s.mustRecover, s.failed = true, failedCommit{}
	if s.wedged.Load() {
		return
	}
	if metas, err := s.readMetaPages(); err == nil {
		s.failed.metas = metas
	}
	if s.buffer.tx > s.durableTx.Load() {
		s.failed.tx = s.buffer.tx
	}
}

// Recover makes the file trustworthy after a failed [Store.Write] or [Store.CheckFile], and reads
// again what it holds. durable reports that the transaction that failed is on disk after all. The
// caller then checks with a Write that the file can be written.
func (s *Store) Recover() (durable bool, err error) {
	if err := s.checkWhileRefused(); err != nil {
		return false, err
	}
	if s.failed.metas == nil {
		if s.failed.metas, err = s.readMetaPages(); err != nil {
			return false, err
		}
	}
	if err := s.writeMetaPages(s.failed.metas); err != nil {
		return false, err
	}
	if err := s.load(); err != nil {
		return false, err
	}
	durable = s.failed.tx != 0 && s.durableTx.Load() >= s.failed.tx
	s.mustRecover, s.failed = false, failedCommit{}
	return durable, nil
}

// ClearMissing removes the note that the file is missing, once it is open or recovered.
func (s *Store) ClearMissing() { clearMissing(s.path) }

func (s *Store) readMetaPages() ([]byte, error) {
	metas := make([]byte, 2*s.pageSize)
	if _, err := s.file.ReadAt(metas, 0); err != nil {
		return nil, fmt.Errorf("read the meta pages: %w", err)
	}
	return metas, nil
}

func (s *Store) writeMetaPages(metas []byte) error {
	if _, err := s.file.WriteAt(metas, 0); err != nil {
		return fmt.Errorf("write the meta pages back: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync the meta pages: %w", err)
	}
	return nil
}
