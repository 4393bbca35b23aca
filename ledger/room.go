package ledger

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
)

// ErrNoRoom: a copy or an export would leave too little room on the disk on which events are stored.
var ErrNoRoom = errors.New("not enough room in the data folder")

// RoomForCopy refuses a copy that would take the last of the disk that the ledger is on: beside what is written, the
// reserve must stay free for events.
func (l *Ledger) RoomForCopy() error {
	size, free, reserve, err := l.room()
	if err != nil {
		return err
	}
	if needed := size + reserve; free < needed {
		return fmt.Errorf("%w for a copy of the ledger, which is made there first: %s has %d MiB free of the %d MiB it takes; make room there",
			ErrNoRoom, filepath.Dir(l.path), free>>20, needed>>20)
	}
	return nil
}

// room returns the size of the ledger, what is free on its disk, and how much of that is reserved for events: a quarter
// of the ledger, at least 64 MiB.
func (l *Ledger) room() (size, free, reserve int64, err error) {
	info, err := l.file.Stat()
	if err != nil {
		return 0, 0, 0, err
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(l.path), &disk); err != nil {
		return 0, 0, 0, fmt.Errorf("look for room in the data folder: %w", err)
	}
	return info.Size(), int64(disk.Bavail) * disk.Bsize, max(info.Size()/4, 64<<20), nil
}

// keeper writes to a temporary file as long as the reserve stays free. A reader of a backup writes elsewhere, where
// nothing is reserved.
type keeper struct {
	l   *Ledger
	w   io.Writer
	err error // the first one
}

func (l *Ledger) keepReserve(w io.Writer) *keeper { return &keeper{l: l, w: w} }

func (k *keeper) Write(p []byte) (n int, err error) {
	if k.err == nil && !k.l.readOnly {
		k.err = k.check(int64(len(p)))
	}
	if k.err != nil {
		return 0, k.err
	}
	n, err = k.w.Write(p)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		where := filepath.Dir(k.l.path)
		if k.l.readOnly {
			where = "the folder for temporary files (TMPDIR)"
		}
		err = fmt.Errorf("%w: %s is full; make room there, or export fewer days at once: %w", ErrNoRoom, where, err)
	}
	k.err = err
	return n, err
}

// check returns [ErrNoRoom] if more bytes would take from the reserve.
func (k *keeper) check(more int64) error {
	_, free, reserve, err := k.l.room()
	if err != nil {
		return err
	}
	if free < reserve+more {
		return fmt.Errorf("%w for the answer, which is written there first: %s has %d MiB free, of which %d MiB are reserved for events; "+
			"make room there, or export fewer days at once", ErrNoRoom, filepath.Dir(k.l.path), free>>20, reserve>>20)
	}
	return nil
}
