package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// fileFaultTest is a ledger whose file is deleted, moved or changed while the committer runs.
type fileFaultTest struct {
	t      *testing.T
	l      *ledger.Ledger
	path   string
	acked  []string
	ended  chan error
	cancel context.CancelFunc
}

// startFileFaultTest opens a ledger, runs its committer and appends some events.
func startFileFaultTest(t *testing.T, dir string) *fileFaultTest {
	t.Helper()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s := &fileFaultTest{t: t, l: l, path: ledger.Path(dir), ended: make(chan error, 1), cancel: cancel}
	go func() { s.ended <- l.Run(ctx) }()
	for i := range 20 {
		s.acked = append(s.acked, fmt.Sprintf("evt_%d", i))
		mustAppend(t, l, succeeded(s.acked[i], fmt.Sprintf("pi_%d", i/3)))
	}
	return s
}

// requireRefused requires that neither a new event nor a repeat is acknowledged, and that the
// health describes the fault.
func (s *fileFaultTest) requireRefused(says string) {
	s.t.Helper()
	for _, id := range []string{"evt_3", "evt_new"} {
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		if res, err := s.l.Append(ctx, succeeded(id, "pi_new")); err == nil {
			s.t.Errorf("%s was acknowledged: %+v", id, res)
		}
		cancel()
	}
	h := s.l.Health()
	if h.Err == nil || h.Fault == nil || !strings.Contains(h.Fault.What, says) || h.Fault.Next == "" {
		s.t.Errorf("the health is %v, want a fault that contains %q", h.Err, says)
	}
}

// requireEnd requires that Run ends by itself with a fault, so that the next start opens the file
// that is there.
func (s *fileFaultTest) requireEnd() {
	s.t.Helper()
	select {
	case err := <-s.ended:
		if !errors.Is(err, ledger.ErrUnavailable) || !errors.As(err, new(*ledger.FileFault)) {
			s.t.Errorf("Run returned %v", err)
		}
	case <-time.After(60 * time.Second):
		s.t.Fatalf("Run has not ended: %v", s.l.Health().Err)
	}
	s.close()
}

// requireRunning requires that Run does not end because of a fault that can still be undone.
func (s *fileFaultTest) requireRunning() {
	s.t.Helper()
	select {
	case err := <-s.ended:
		s.t.Errorf("Run returned %v", err)
	case <-time.After(1500 * time.Millisecond): // longer than the pause between two attempts
	}
}

func (s *fileFaultTest) close() {
	s.t.Helper()
	if err := s.l.Close(); err != nil {
		s.t.Error(err)
	}
}

// stop stops the committer, closes the ledger and returns the result of Run.
func (s *fileFaultTest) stop() error {
	s.t.Helper()
	s.cancel()
	err := <-s.ended
	s.close()
	return err
}

// requireAcked requires that a file is a sound ledger that holds all acknowledged events.
func (s *fileFaultTest) requireAcked(path string) {
	s.t.Helper()
	mustVerify(s.t, path)
	dir := s.t.TempDir()
	if err := os.WriteFile(ledger.Path(dir), mustRead(s.t, path), 0o600); err != nil {
		s.t.Fatal(err)
	}
	l, err := ledger.OpenReadOnly(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, id := range s.acked {
		if _, err := l.Event(id); err != nil {
			s.t.Errorf("%s was acknowledged and is lost: %v", id, err)
		}
	}
	if err := l.Close(); err != nil {
		s.t.Error(err)
	}
}

// onlyFile returns the path of the only file ledger-*suffix in a directory.
func onlyFile(t *testing.T, dir, suffix string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "ledger-*"+suffix))
	if err != nil || len(found) != 1 {
		t.Fatalf("the directory holds %v, want one file *%s", fileNames(t, dir), suffix)
	}
	return found[0]
}

// makeBackup returns the path of a copy of a ledger with one event.
func makeBackup(t *testing.T) string {
	t.Helper()
	l := ledgertest.Open(t, false)
	mustAppend(t, l, succeeded("evt_of_the_backup", "pi_1"))
	path := filepath.Join(t.TempDir(), "backup.db")
	if err := ledger.Save(path, l.CopyTo, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A ledger that is deleted while it is open is written back with all acknowledged events, and Run
// ends.
func TestDeletedLedgerIsWrittenBack(t *testing.T) {
	t.Parallel()
	t.Run("the file", func(t *testing.T) {
		dir := t.TempDir()
		s := startFileFaultTest(t, dir)
		must(t, os.Remove(s.path))
		s.requireRefused("was deleted")
		s.requireEnd()
		s.requireAcked(s.path)
		if names := fileNames(t, dir); len(names) != 1 {
			t.Errorf("the directory holds %v", names)
		}
	})
	t.Run("its directory", func(t *testing.T) {
		s := startFileFaultTest(t, filepath.Join(t.TempDir(), "data"))
		must(t, os.RemoveAll(filepath.Dir(s.path)))
		s.requireRefused("was deleted")
		s.requireEnd()
		s.requireAcked(s.path)
	})
	t.Run("while no event arrives", func(t *testing.T) {
		s := startFileFaultTest(t, t.TempDir())
		must(t, os.Remove(s.path))
		s.requireEnd()
		s.requireAcked(s.path)
	})
	t.Run("right before Run is stopped", func(t *testing.T) {
		s := startFileFaultTest(t, t.TempDir())
		must(t, os.Remove(s.path))
		if err := s.stop(); !errors.As(err, new(*ledger.FileFault)) || !strings.Contains(err.Error(), "wrote it back") {
			t.Errorf("Run returned %v", err)
		}
		s.requireAcked(s.path)
	})
	t.Run("and another file replaces it", func(t *testing.T) {
		dir, restored := t.TempDir(), makeBackup(t)
		s := startFileFaultTest(t, dir)
		must(t, os.Rename(restored, s.path)) // this deletes the old file
		s.requireRefused("was deleted")
		s.requireEnd()
		s.requireAcked(onlyFile(t, dir, ".deleted"))
		if report := mustVerify(t, s.path); report.Events != 1 {
			t.Errorf("the report of the new file is %+v", report)
		}
	})
}

// A deleted ledger that cannot be written back stays open. It is written back when the directory
// exists again, and no empty ledger is created in its place.
func TestDeletedLedgerStaysOpenWithoutADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startFileFaultTest(t, dir)
	must(t, os.Remove(s.path))
	// A file in place of the directory prevents writing the ledger back.
	must(t, os.Remove(dir), os.WriteFile(dir, nil, 0o600))
	s.requireRefused("was deleted")
	s.requireRunning()
	s.requireRefused("was deleted")
	if next := s.l.Health().Fault.Next; !strings.Contains(next, "do not stop the receiver") {
		t.Errorf("the next step is %q", next)
	}
	must(t, os.Remove(dir), os.Mkdir(dir, 0o700))
	if err := s.stop(); !errors.As(err, new(*ledger.FileFault)) {
		t.Errorf("Run returned %v", err)
	}
	s.requireAcked(s.path)
}

// If a deleted ledger cannot be written back because the disk is full, Run does not end, although
// another file is in its place.
func TestDeletedLedgerStaysOpenOnAFullDisk(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if err := syscall.Mount("none", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a file system needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mount, syscall.MNT_DETACH) })
	s := startFileFaultTest(t, mount)
	restored, filler := filepath.Join(mount, "restored.db"), filepath.Join(mount, "filler")
	must(t, os.WriteFile(restored, mustRead(t, makeBackup(t)), 0o600))
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	must(t, os.Rename(restored, s.path))
	s.requireRefused("was deleted")
	s.requireRunning()
	if next := s.l.Health().Fault.Next; !strings.Contains(next, "do not stop the receiver") ||
		!strings.Contains(next, "free ") {
		t.Errorf("the next step is %q", next)
	}
	must(t, os.Remove(filler))
	s.requireEnd()
	s.requireAcked(onlyFile(t, mount, ".deleted"))
}

// The committer waits for a ledger that was moved. If it is stopped meanwhile, it leaves a note,
// and the next start creates no empty ledger.
func TestMovedLedgerIsAwaited(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"the file", "its directory"} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			s := startFileFaultTest(t, dir)
			from, to := s.path, s.path+".moved"
			if what == "its directory" {
				from, to = dir, dir+"-moved"
			}
			must(t, os.Rename(from, to))
			s.requireRefused("was moved")
			if next := s.l.Health().Fault.Next; !strings.Contains(next, to) {
				t.Errorf("the next step is %q", next)
			}
			s.requireRunning()
			must(t, os.Rename(to, from))
			for end := time.Now().Add(30 * time.Second); s.l.Health().Err != nil && time.Now().Before(end); {
				time.Sleep(10 * time.Millisecond)
			}
			mustAppend(t, s.l, succeeded("evt_later", "pi_later"))
			s.acked = append(s.acked, "evt_later")
			if names := fileNames(t, dir); len(names) != 1 {
				t.Errorf("the directory holds %v", names)
			}

			must(t, os.Rename(from, to))
			if err := s.stop(); !errors.As(err, new(*ledger.FileFault)) {
				t.Errorf("Run returned %v", err)
			}
			if l, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrMissing) {
				t.Errorf("the next Open returned %v, %v", l, err)
			}
			must(t, os.Rename(filepath.Join(to, strings.TrimPrefix(s.path, from)), s.path))
			l := ledgertest.Start(t, ledger.Options{Dir: dir})
			if res := mustAppend(t, l, succeeded("evt_later", "pi_later")); !res.Repeat {
				t.Errorf("an event that was acknowledged returned %+v", res)
			}
			if names := fileNames(t, dir); len(names) != 1 {
				t.Errorf("the directory holds %v", names)
			}
		})
	}
}

// If another file replaces the ledger, Run ends as soon as that file is a complete ledger. The old
// file stays where it was moved.
func TestReplacedLedgerEndsRun(t *testing.T) {
	t.Parallel()
	dir, restored := t.TempDir(), mustRead(t, makeBackup(t))
	s := startFileFaultTest(t, dir)
	must(t, os.Rename(s.path, s.path+".old"), os.WriteFile(s.path, restored[:5000], 0o600))
	s.requireRefused("another file was put in the place")
	s.requireRunning() // an incomplete copy does not count
	must(t, os.WriteFile(s.path, restored, 0o600))
	s.requireEnd()
	s.requireAcked(s.path + ".old")
	if report := mustVerify(t, s.path); report.Events != 1 {
		t.Errorf("the report of the new file is %+v", report)
	}
}

// A file that is deleted, moved or truncated during a commit is noticed before the commit is
// acknowledged, even if the commit extends a truncated file again.
func TestFileLostDuringACommitIsNotAcknowledged(t *testing.T) {
	for what, lose := range map[string]func(path string) error{
		"was deleted":   os.Remove,
		"was moved":     func(path string) error { return os.Rename(path, path+".moved") },
		"was cut short": func(path string) error { return os.Truncate(path, 9*4096) },
	} {
		t.Run(what, func(t *testing.T) {
			for refused := false; !refused; {
				s := startFileFaultTest(t, t.TempDir())
				err := s.l.Write(t.Context(), func() error { return lose(s.path) })
				if !errors.Is(err, ledger.ErrUnavailable) {
					t.Errorf("the commit returned %v", err)
				}
				// If bbolt needed a page that is gone, Run ends. That is another case: try again.
				if refused = what != "was cut short" || !errors.Is(err, ledger.ErrCorrupt); refused {
					s.requireRefused(what)
				}
				s.cancel()
				<-s.ended
				s.close()
			}
		})
	}
}

// If another directory replaces the one of the ledger, the ledger counts as moved.
func TestReplacedDirectoryCountsAsMoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startFileFaultTest(t, dir)
	must(t, os.Rename(dir, dir+"-moved"), os.Mkdir(dir, 0o700))
	s.requireRefused("was moved")
	if l, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrMissing) {
		t.Errorf("Open by another process returned %v, %v", l, err)
	}
	_ = s.stop() // it returns the same fault
	s.requireAcked(ledger.Path(dir + "-moved"))
}

// If the file system is unmounted while the ledger is open, the ledger counts as moved.
func TestUnmountedLedgerCountsAsMoved(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if err := syscall.Mount("none", mount, "tmpfs", 0, "size=80m"); err != nil {
		t.Skipf("mounting a file system needs root: %v", err)
	}
	s := startFileFaultTest(t, mount)
	must(t, syscall.Unmount(mount, syscall.MNT_DETACH))
	s.requireRefused("was unmounted")
	s.requireRunning()
	if err := s.stop(); !errors.As(err, new(*ledger.FileFault)) {
		t.Errorf("Run returned %v", err)
	}
	if l, err := ledger.Open(ledger.Options{Dir: mount}); !errors.Is(err, ledger.ErrMissing) {
		t.Errorf("the next Open returned %v, %v", l, err)
	}
}

// No event is acknowledged after the file was truncated, even if it is extended again.
func TestTruncatedLedgerRefusesEvents(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 4096, 3 * 4096} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir, restored := t.TempDir(), makeBackup(t)
			s := startFileFaultTest(t, dir)
			before, err := os.Stat(s.path)
			must(t, err, os.Truncate(s.path, size))
			s.requireRefused("was cut short")
			if _, err := s.l.Event("evt_1"); !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("reading returned %v", err)
			}
			if size > 0 { // an extended empty file has no meta pages, so it counts as overwritten
				must(t, os.Truncate(s.path, before.Size()))
				s.requireRunning()
				s.requireRefused("was cut short")
			}
			must(t, os.Rename(s.path, s.path+".cut"), os.Rename(restored, s.path))
			s.requireEnd()
		})
	}
}

// If a copy is written over the file in place, Run ends and the next start opens the copy.
func TestOverwrittenLedgerEndsRun(t *testing.T) {
	t.Parallel()
	dir, restored := t.TempDir(), mustRead(t, makeBackup(t))
	s := startFileFaultTest(t, dir)
	info, err := os.Stat(s.path)
	must(t, err)
	f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(restored)
	must(t, err, f.Close())
	if after, err := os.Stat(s.path); err != nil || after.Size() != info.Size() {
		t.Fatalf("the copy changed the size: %v, %v", after, err)
	}
	s.requireRefused("another program wrote to the ledger")
	s.requireEnd()
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	if res := mustAppend(t, l, succeeded("evt_of_the_backup", "pi_1")); !res.Repeat {
		t.Errorf("the event in the copy returned %+v", res)
	}
}

// While the directory cannot be searched, events are refused. Afterwards they are accepted again.
func TestUnsearchableDirectoryIsATemporaryFault(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may search any directory")
	}
	dir := t.TempDir()
	s := startFileFaultTest(t, dir)
	must(t, os.Chmod(dir, 0))
	s.requireRefused("cannot be examined")
	must(t, os.Chmod(dir, 0o700))
	for end := time.Now().Add(30 * time.Second); s.l.Health().Err != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	mustAppend(t, s.l, succeeded("evt_later", "pi_later"))
	must(t, s.stop())
}

// While a process has a deleted ledger open, another one cannot create an empty ledger.
func TestDeletedLedgerStaysLocked(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir}) // no committer runs
	must(t, err, os.Remove(ledger.Path(dir)))
	if other, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("Open by another process returned %v, %v", other, err)
	}
	must(t, l.Close())
}

// An error of lstat(2) is reported as it is, and not as a missing or existing file.
func TestErrorsOfLstatAreReported(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("n", 300))
	if err := ledger.Save(long, nil, nil); !errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, fs.ErrExist) ||
		strings.Contains(err.Error(), "is there already") {
		t.Errorf("Save returned %v", err)
	}
	if _, err := check.Verify(t.Context(), long); !errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Verify returned %v", err)
	}
	if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: long}, false); !errors.Is(err, syscall.ENAMETOOLONG) ||
		errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Rebuild returned %v", err)
	}
}

// BenchmarkCheckFile measures the check of the file. The committer makes it before each batch and
// before it acknowledges the batch.
func BenchmarkCheckFile(b *testing.B) {
	l, err := ledger.Open(ledger.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for b.Loop() {
		if !l.CheckFile() {
			b.Fatal(l.Health().Err)
		}
	}
}
