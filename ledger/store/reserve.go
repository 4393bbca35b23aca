package store

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// ErrNoSpace is returned where a copy or an export would leave too little space on the disk that
// events are stored on.
var ErrNoSpace = errors.New("not enough disk space")

// Reserve is the free space of a store's disk that is kept for events. Copies and exports may not
// take it.
type Reserve struct {
	path string // of the store's file, and not of a link to it

	mu       sync.Mutex
	promised int64 // bytes that copies under way are still going to write
}

// NewReserve returns the reserve of the store at path, nil if that cannot be seen.
func NewReserve(path string) *Reserve {
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return &Reserve{path: resolve(path)}
}

// bytes returns how much must stay free: a quarter of the store, at least 64 MiB.
func (r *Reserve) bytes() int64 {
	size := int64(0)
	if info, err := os.Stat(r.path); err == nil {
		size = info.Size()
	}
	return max(size/4, 64<<20)
}

// shares reports whether a directory is on the disk of the store.
func (r *Reserve) shares(dir string) bool {
	var here, there syscall.Stat_t
	return syscall.Stat(filepath.Dir(r.path), &here) == nil && syscall.Stat(dir, &there) == nil && here.Dev == there.Dev
}

// ReserveWriter writes to a file as long as the reserve stays free.
type ReserveWriter struct {
	reserve  *Reserve // nil where nothing is reserved: on another disk than the store's
	dir      string
	w        io.Writer
	promised int64
	err      error // the first one
}

// Writer returns a writer to w, a file in a directory. A nil reserve reserves nothing.
func (r *Reserve) Writer(dir string, w io.Writer) *ReserveWriter {
	k := &ReserveWriter{dir: dir, w: w}
	if r != nil && r.shares(dir) {
		k.reserve = r
	}
	return k
}

// promise returns [ErrNoSpace] if so many bytes would take from the reserve, or from what was
// promised to others. Of two copies at once for which there is space for one, the second is
// refused, instead of both when the disk is full. Close must be called.
func (k *ReserveWriter) promise(size int64) error {
	if k.reserve == nil {
		return nil
	}
	k.reserve.mu.Lock()
	defer k.reserve.mu.Unlock()
	if err := k.check(size + k.reserve.promised); err != nil {
		return err
	}
	k.promised = size
	k.reserve.promised += size
	return nil
}

// Close gives back what was promised and not written.
func (k *ReserveWriter) Close() {
	if k.reserve != nil {
		k.spend(k.promised)
	}
}

// Err returns the first error.
func (k *ReserveWriter) Err() error { return k.err }

// spend takes bytes off what was promised.
func (k *ReserveWriter) spend(n int64) {
	n = min(n, k.promised)
	k.promised -= n
	k.reserve.mu.Lock()
	k.reserve.promised -= n
	k.reserve.mu.Unlock()
}

func (k *ReserveWriter) Write(p []byte) (n int, err error) {
	if k.err == nil && k.reserve != nil {
		more := int64(len(p))
		if k.promised == 0 {
			k.reserve.mu.Lock()
			more += k.reserve.promised
			k.reserve.mu.Unlock()
		}
		k.err = k.check(more)
	}
	if k.err != nil {
		return 0, k.err
	}
	n, err = k.w.Write(p)
	if k.reserve != nil {
		k.spend(int64(n))
	}
	k.err = diskFull(err, k.dir)
	return n, k.err
}

// check returns [ErrNoSpace] if more bytes would take from the reserve.
func (k *ReserveWriter) check(more int64) error {
	reserve := k.reserve.bytes()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(k.dir, &disk); err != nil {
		return fmt.Errorf("get the free space of %s: %w", k.dir, err)
	}
	if free := int64(disk.Bavail) * disk.Bsize; free < reserve+more {
		return fmt.Errorf("%w: %s has %d MiB free, of which %d MiB are reserved for events, and %d MiB are needed; free some space there",
			ErrNoSpace, k.dir, free>>20, reserve>>20, more>>20+1)
	}
	return nil
}

// diskFull makes an [ErrNoSpace] of a file system's own error; other errors stay as they are.
func diskFull(err error, dir string) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %s is full; free some space there: %w", ErrNoSpace, dir, err)
	}
	return err
}

// Reserved returns a writer to w, a file in a directory, that keeps the reserve of a store that is
// open for writing.
func (s *Store) Reserved(dir string, w io.Writer) *ReserveWriter {
	if s.opts.ReadOnly {
		return (*Reserve)(nil).Writer(dir, w)
	}
	return s.reserve.Writer(dir, w)
}

// CopyInto is [Store.CopyTo] a file in a directory, with the reserve left free.
func (s *Store) CopyInto(ctx context.Context, dir string, w io.Writer) error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	k := s.Reserved(dir, w)
	defer k.Close()
	if err := k.promise(info.Size()); err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(k, 1<<20)
	if err = s.CopyTo(ContextWriter(ctx, buffered)); err == nil {
		err = buffered.Flush()
	}
	return errors.Join(cmp.Or(k.err, err), ctx.Err()) // bbolt does not wrap what the writer returned
}
