// Package ledgertest opens ledgers for tests. Each lies in a folder of its own, has its committer
// running, and is checked from the first page to the last sum when the test ends.
package ledgertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"tillhook/ledger"
)

// Open opens a ledger in a temporary folder. The test's cleanup stops and checks it.
func Open(t testing.TB, livemode bool) *ledger.Ledger {
	t.Helper()
	return Start(t, ledger.Options{Dir: Dir(t), Livemode: livemode})
}

// Dir returns a folder for a ledger whose test is not about the disk. It is in memory if there is
// enough, because a commit there waits for no disk: tests that commit thousands of times are several
// times as fast. Benchmarks get one on the disk. The test's cleanup removes it.
func Dir(t testing.TB) string {
	t.Helper()
	const memory, enough = "/dev/shm", 1 << 30
	var free syscall.Statfs_t
	if _, measures := t.(*testing.B); measures || syscall.Statfs(memory, &free) != nil || int64(free.Bavail)*free.Bsize < enough {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "tillhook-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Start opens a ledger as opts say and runs its committer. The test's cleanup stops and checks it.
func Start(t testing.TB, opts ledger.Options) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	stop := Run(t, l)
	t.Cleanup(func() {
		stop()
		if err := l.Check(); err != nil {
			t.Errorf("the ledger is not sound: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Run starts a ledger's committer and returns what stops it and waits for its end.
func Run(t testing.TB, l *ledger.Ledger) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the committer ended with an error: %v", err)
		}
	}
}

// FillDisk makes the ledger's file so large, with a hole, that no disk has free what is reserved
// for events, until the test ends.
func FillDisk(t testing.TB, l *ledger.Ledger) {
	t.Helper()
	var disk syscall.Statfs_t
	err := syscall.Statfs(filepath.Dir(l.Path()), &disk)
	info, statErr := os.Stat(l.Path())
	if err := errors.Join(err, statErr); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(l.Path(), info.Size()+5*int64(disk.Bavail)*disk.Bsize); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Truncate(l.Path(), info.Size()); err != nil {
			t.Error(err)
		}
	})
}
