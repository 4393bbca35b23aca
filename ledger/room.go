package ledger

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

// ErrNoRoom: a copy or an export would leave too little room on the disk on which events are
// stored.
var ErrNoRoom = errors.New("not enough room on the disk")

// room is the free space of the disk that a ledger is on. Part of it is reserved for events:
// nothing else may take that.
type room struct {
	path string // of the ledger

	mu       sync.Mutex
	promised int64 // bytes that copies under way are still going to write
}

// reserve returns how much must stay free for events: a quarter of the ledger, at least 64 MiB.
func (r *room) reserve() int64 {
	size := int64(0)
	if info, err := os.Stat(r.path); err == nil {
		size = info.Size()
	}
	return max(size/4, 64<<20)
}

// shares reports whether a folder is on the disk of the ledger.
func (r *room) shares(dir string) bool {
	var here, there syscall.Stat_t
	return syscall.Stat(filepath.Dir(r.path), &here) == nil && syscall.Stat(dir, &there) == nil && here.Dev == there.Dev
}

// keeper writes to a file as long as the reserve for events stays free.
type keeper struct {
	room     *room // nil where nothing is reserved: on another disk than the ledger's
	dir      string
	w        io.Writer
	promised int64
	err      error // the first one
}

// keep returns a writer to w, a file in a folder. r is nil where nothing is reserved.
func (r *room) keep(dir string, w io.Writer) *keeper {
	k := &keeper{dir: dir, w: w}
	if r != nil && r.shares(dir) {
		k.room = r
	}
	return k
}

// promise returns [ErrNoRoom] if so many bytes would take from the reserve, or from what was
// promised to others. Of two copies at once for which there is room for one, the second is refused,
// instead of both when the disk is full. Close must be called.
func (k *keeper) promise(size int64) error {
	if k.room == nil {
		return nil
	}
	k.room.mu.Lock()
	defer k.room.mu.Unlock()
	if err := k.check(size + k.room.promised); err != nil {
		return err
	}
	k.promised = size
	k.room.promised += size
	return nil
}

// Close gives back what was promised and not written.
func (k *keeper) Close() {
	if k.room != nil {
		k.spend(k.promised)
	}
}

// spend takes bytes off what was promised.
func (k *keeper) spend(n int64) {
	n = min(n, k.promised)
	k.promised -= n
	k.room.mu.Lock()
	k.room.promised -= n
	k.room.mu.Unlock()
}

func (k *keeper) Write(p []byte) (n int, err error) {
	if k.err == nil && k.room != nil {
		more := int64(len(p))
		if k.promised == 0 {
			k.room.mu.Lock()
			more += k.room.promised
			k.room.mu.Unlock()
		}
		k.err = k.check(more)
	}
	if k.err != nil {
		return 0, k.err
	}
	n, err = k.w.Write(p)
	if k.room != nil {
		k.spend(int64(n))
	}
	k.err = noRoom(err, k.dir)
	return n, k.err
}

// check returns [ErrNoRoom] if more bytes would take from the reserve.
func (k *keeper) check(more int64) error {
	reserve := k.room.reserve()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(k.dir, &disk); err != nil {
		return fmt.Errorf("look for room in %s: %w", k.dir, err)
	}
	if free := int64(disk.Bavail) * disk.Bsize; free < reserve+more {
		return fmt.Errorf("%w: %s has %d MiB free, of which %d MiB are reserved for events, and %d MiB are needed; make room there; an export of fewer days needs less",
			ErrNoRoom, k.dir, free>>20, reserve>>20, more>>20+1)
	}
	return nil
}

// noRoom makes an [ErrNoRoom] of a file system's own error.
func noRoom(err error, dir string) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %s is full; make room there; an export of fewer days needs less: %w", ErrNoRoom, dir, err)
	}
	return err
}

// KeepReserve returns a writer to w, a file in a folder, that returns [ErrNoRoom] before it takes
// what is reserved for the events of a receiver with that data folder.
func KeepReserve(dataDir, dir string, w io.Writer) io.Writer {
	r := &room{path: Path(dataDir)}
	if _, err := os.Stat(r.path); err != nil {
		r = nil // there is none that can be seen
	}
	return r.keep(dir, w)
}

// keep returns a writer to w, a file in a folder, that leaves the reserve of a ledger that events
// are written to.
func (l *Ledger) keep(dir string, w io.Writer) *keeper {
	if l.readOnly {
		return (*room)(nil).keep(dir, w)
	}
	return l.room.keep(dir, w)
}

// copyInto is CopyTo a file in a folder, with the reserve left free.
func (l *Ledger) copyInto(ctx context.Context, dir string, w io.Writer) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	k := l.keep(dir, w)
	defer k.Close()
	if err := k.promise(info.Size()); err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(k, 1<<20)
	if err = l.CopyTo(ContextWriter(ctx, buffered)); err == nil {
		err = buffered.Flush()
	}
	return errors.Join(cmp.Or(k.err, err), ctx.Err()) // the database does not wrap what the writer returned
}
