// Package ledgertest opens ledgers for tests. Each ledger is in a directory of its own, has a
// running committer, and is checked completely when the test ends.
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

// Open opens a ledger in a temporary directory. The test's cleanup stops and checks the ledger.
func Open(t testing.TB, livemode bool) *ledger.Ledger {
	t.Helper()
	return Start(t, ledger.Options{Dir: Dir(t), Livemode: livemode})
}

// Dir returns a directory for the ledger of a test that does not depend on the disk. The directory
// is in memory if enough is free, because a commit there does not wait for a disk: tests with
// thousands of commits run several times as fast. A benchmark gets a directory on disk. The test's
// cleanup removes the directory.
func Dir(t testing.TB) string {
	t.Helper()
	const memory, enough = "/dev/shm", 1 << 30
	var free syscall.Statfs_t
	if _, measures := t.(*testing.B); measures || syscall.Statfs(memory, &free) != nil ||
		int64(free.Bavail)*free.Bsize < enough {
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

// Start opens a ledger with opts and runs its committer. The test's cleanup stops and checks the
// ledger.
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

// Run starts a ledger's committer. The function stop stops the committer and waits until it has
// ended.
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

// FillDisk extends the ledger's file with a hole until the test ends. The reserve for events grows
// with the file, so the disk has less free space than the reserve.
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
