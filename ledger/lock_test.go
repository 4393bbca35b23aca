package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// holder duplicates the descriptors of a file that hold its lock, and keeps the duplicates open.
// They simulate a child process between fork and exec, which also shares the open file description
// and with it the lock.
type holder struct {
	path string
	end  chan struct{}
	wg   sync.WaitGroup
	held atomic.Int64 // duplicates
}

// maxHeld is the maximum number of duplicates.
const maxHeld = 50

// holdLocks starts a holder. The cleanup of the test closes the duplicates.
func holdLocks(t *testing.T, path string) *holder {
	h := &holder{path: path, end: make(chan struct{})}
	var duplicates []int
	h.wg.Go(func() {
		for h.held.Load() < maxHeld {
			select {
			case <-h.end:
				return
			default:
				duplicates = append(duplicates, h.duplicate(duplicates)...)
				h.held.Store(int64(len(duplicates)))
			}
		}
	})
	t.Cleanup(func() {
		for _, d := range duplicates {
			_ = syscall.Close(d)
		}
	})
	return h
}

// duplicate duplicates the descriptors that hold the lock now, except for earlier duplicates.
func (h *holder) duplicate(before []int) (made []int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || slices.Contains(before, fd) {
			continue
		}
		if target, _ := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); target != h.path {
			continue
		}
		d, err := syscall.Dup(fd)
		if err != nil {
			continue
		}
		info, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", d)) // proc_pid_fdinfo(5)
		if target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d)); target != h.path ||
			!bytes.Contains(info, []byte("\nlock:")) {
			_ = syscall.Close(d)
			continue
		}
		made = append(made, d)
	}
	return made
}

// stop stops duplicating.
func (h *holder) stop() {
	close(h.end)
	h.wg.Wait()
}

// A child process between fork and exec has a copy of every descriptor, and a lock of flock(2)
// lasts until the last copy is closed or the file is unlocked explicitly. Therefore closing a
// ledger must unlock it.
func TestCloseUnlocks(t *testing.T) {
	for name, use := range map[string]func(dir string) error{
		"a reader": func(dir string) error {
			l, err := ledger.OpenReadOnly(dir)
			if err != nil {
				return err
			}
			return errors.Join(l.Check(), l.Close())
		},
		"a writer": func(dir string) error {
			l, err := ledger.Open(ledger.Options{Dir: dir})
			if err != nil {
				return err
			}
			return errors.Join(l.Check(), l.Close())
		},
		"a verification": func(dir string) error {
			_, err := check.Verify(t.Context(), ledger.Path(dir))
			return err
		},
		"a verification of a damaged file": func(dir string) error {
			if err := damageMetaPage(dir); err != nil {
				return err
			}
			if _, err := check.Verify(t.Context(), ledger.Path(dir)); !errors.Is(err, ledger.ErrCorrupt) {
				return err
			}
			return nil
		},
		"a canceled rebuild": func(dir string) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if _, err := ledger.Rebuild(ctx, ledger.Options{Dir: dir}, false); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
		"a refused Open in the other mode": func(dir string) error {
			if _, err := ledger.Open(ledger.Options{Dir: dir, Livemode: true}); !errors.Is(err, ledger.ErrOtherMode) {
				return err
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := sampleLedger(t)
			h := holdLocks(t, ledger.Path(dir))
			var err error
			for end := time.Now().Add(30 * time.Second); err == nil && h.held.Load() == 0 && time.Now().Before(end); {
				err = use(dir)
			}
			h.stop()
			if err != nil {
				t.Fatal(err)
			}
			if h.held.Load() == 0 {
				t.Error("no lock was duplicated: the test shows nothing")
			}
			createAndClose(t, dir)
		})
	}
}

// damageMetaPage damages one meta page, so that Verify ends before bbolt opens the file.
func damageMetaPage(dir string) error {
	f, err := os.OpenFile(ledger.Path(dir), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("noise"), 16)
	return errors.Join(err, f.Close())
}

// Another process can hold the lock for an instant: a child of a killed receiver between fork and
// exec.
func TestLockHeldForAnInstantIsAwaited(t *testing.T) {
	for name, use := range map[string]func(dir string) error{
		"a writer": func(dir string) error {
			l, err := ledger.Open(ledger.Options{Dir: dir})
			if err != nil {
				return err
			}
			return l.Close()
		},
		"a reader": func(dir string) error {
			l, err := ledger.OpenReadOnly(dir)
			if err != nil {
				return err
			}
			return l.Close()
		},
		"a verification": func(dir string) error {
			_, err := check.Verify(t.Context(), ledger.Path(dir))
			return err
		},
		"a rebuild": func(dir string) error {
			_, err := ledger.Rebuild(context.Background(), ledger.Options{Dir: dir}, false)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []int{syscall.LOCK_EX, syscall.LOCK_SH} {
				dir := sampleLedger(t)
				f, err := os.Open(ledger.Path(dir))
				if err != nil {
					t.Fatal(err)
				}
				if err := syscall.Flock(int(f.Fd()), kind); err != nil {
					t.Fatal(err)
				}
				timer := time.AfterFunc(20*time.Millisecond, func() { f.Close() })
				defer timer.Stop()
				if err := use(dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// While child processes are started all the time, a ledger is closed and opened again. No Open is
// refused.
func TestReopenWhileProcessesFork(t *testing.T) {
	dir := sampleLedger(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := exec.Command("true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	rounds := 50
	if *long {
		rounds = 2000
	}
	for range rounds {
		if _, err := check.Verify(t.Context(), ledger.Path(dir)); err != nil {
			t.Fatal(err)
		}
		createAndClose(t, dir)
		l, err := ledger.OpenReadOnly(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		createAndClose(t, dir)
	}
	ledgertest.Start(t, ledger.Options{Dir: dir})
}
