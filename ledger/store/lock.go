package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A lock that another process holds is tried lockTries times, lockStep apart: a quarter of a second
// in all. A receiver keeps its lock for as long as it runs, so this is not for receivers. A child
// of a process that held the lock has a copy of the descriptor from fork until exec closes it, and
// with it the lock, also when the process was killed meanwhile (flock(2): the lock belongs to the
// open file description). That takes microseconds on a quiet machine, and some ten milliseconds
// where the processors are busy. The tries are counted, not timed, so that a process that got no
// processor for a while still makes all of them.
const (
	lockTries = 6
	lockStep  = 50 * time.Millisecond
)

const (
	shared    = syscall.LOCK_SH
	exclusive = syscall.LOCK_EX
)

// retryLocked calls try again as long as it returns [ErrLocked], lockTries times at most.
func retryLocked(try func() error) (err error) {
	for n := range lockTries {
		if n > 0 {
			time.Sleep(lockStep)
		}
		if err = try(); !errors.Is(err, ErrLocked) {
			return err
		}
	}
	return err
}

// lockFile takes or converts the lock on a file. It returns [ErrLocked] if another process holds it
// for longer than an instant.
func lockFile(f *os.File, how int) error {
	return retryLocked(func() error {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("%w: %s", ErrLocked, f.Name())
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return nil
	})
}

// unlockAndClose closes a file and releases its lock. Closing is not enough: a child that was
// forked meanwhile keeps the lock until it has called exec, and the next opening would be refused.
// A file that is closed already stays so.
func unlockAndClose(f *os.File) error {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) // closing reports what is wrong with the file
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// duplicate returns another descriptor of an open file, which shares its lock.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the descriptor of %s: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// IsLocked reports whether another process holds the file at path. A path that names nothing is not
// locked.
func IsLocked(path string) (bool, error) {
	// Opening a pipe that has the path would wait for the pipe's other end.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open the ledger to test its lock: %w", err)
	}
	defer func() { _ = unlockAndClose(f) }() // it was only read
	err = lockFile(f, shared)
	if errors.Is(err, ErrLocked) {
		return true, nil
	}
	return false, err
}
