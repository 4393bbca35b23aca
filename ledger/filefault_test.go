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
	"tillhook/ledger/ledgertest"
)

// losing is a ledger whose file something happens to while its committer runs.
type fileFaultTest struct {
	t      *testing.T
	l      *ledger.Ledger
	path   string
	acked  []string
	ended  chan error
	cancel context.CancelFunc
}

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

// refused demands that neither a new event nor a repeat is acknowledged, and what the health says.
func (s *fileFaultTest) requireRefused(says string) {
	s.t.Helper()
	for _, id := range []string{"evt_3", "evt_new"} {
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		if res, err := s.l.Append(ctx, succeeded(id, "pi_new")); err == nil {
			s.t.Errorf("%s is answered %+v", id, res)
		}
		cancel()
	}
	h := s.l.Health()
	if h.Err == nil || h.Fault == nil || !strings.Contains(h.Fault.What, says) || h.Fault.Next == "" {
		s.t.Errorf("the health is %v, want that the ledger %s", h.Err, says)
	}
}

// ends demands that the committer ends by itself, so that the next start opens what is there.
func (s *fileFaultTest) requireEnd() {
	s.t.Helper()
	select {
	case err := <-s.ended:
		if !errors.Is(err, ledger.ErrUnavailable) || !errors.As(err, new(*ledger.FileFault)) {
			s.t.Errorf("the committer ended with %v", err)
		}
	case <-time.After(60 * time.Second):
		s.t.Fatalf("the committer goes on: %v", s.l.Health().Err)
	}
	s.close()
}

// goesOn demands that the committer does not end for what can be undone.
func (s *fileFaultTest) requireRunning() {
	s.t.Helper()
	select {
	case err := <-s.ended:
		s.t.Errorf("the committer ended with %v", err)
	case <-time.After(1500 * time.Millisecond): // longer than between two tries
	}
}

func (s *fileFaultTest) close() {
	s.t.Helper()
	if err := s.l.Close(); err != nil {
		s.t.Error(err)
	}
}

// stops has the committer end.
func (s *fileFaultTest) stop() error {
	s.t.Helper()
	s.cancel()
	err := <-s.ended
	s.close()
	return err
}

// keeps demands that a file is a sound ledger with all that was acknowledged in it.
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

// beside returns the one file of the folder with that end.
func onlyFile(t *testing.T, dir, end string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "ledger-*"+end))
	if err != nil || len(found) != 1 {
		t.Fatalf("the folder holds %v, want one file *%s", fileNames(t, dir), end)
	}
	return found[0]
}

// backup puts a copy of a ledger of one event somewhere.
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

// A ledger that is deleted under the receiver is written back with all that was acknowledged, and
// Run ends for the next start.
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
			t.Errorf("the folder holds %v", names)
		}
	})
	t.Run("its folder", func(t *testing.T) {
		s := startFileFaultTest(t, filepath.Join(t.TempDir(), "data"))
		must(t, os.RemoveAll(filepath.Dir(s.path)))
		s.requireRefused("was deleted")
		s.requireEnd()
		s.requireAcked(s.path)
	})
	t.Run("while nothing comes", func(t *testing.T) {
		s := startFileFaultTest(t, t.TempDir())
		must(t, os.Remove(s.path))
		s.requireEnd()
		s.requireAcked(s.path)
	})
	t.Run("right before the end", func(t *testing.T) {
		s := startFileFaultTest(t, t.TempDir())
		must(t, os.Remove(s.path))
		if err := s.stop(); !errors.As(err, new(*ledger.FileFault)) || !strings.Contains(err.Error(), "wrote it back") {
			t.Errorf("the committer ended with %v", err)
		}
		s.requireAcked(s.path)
	})
	t.Run("and another file takes its place", func(t *testing.T) {
		dir, restored := t.TempDir(), makeBackup(t)
		s := startFileFaultTest(t, dir)
		must(t, os.Rename(restored, s.path)) // which deletes the old one
		s.requireRefused("was deleted")
		s.requireEnd()
		s.requireAcked(onlyFile(t, dir, ".deleted"))
		if proof := mustVerify(t, s.path); proof.Events != 1 {
			t.Errorf("the file that was put in its place is %+v", proof)
		}
	})
}

// A deleted ledger that cannot be written back is kept open, and the next start does not begin an
// empty one.
func TestDeletedLedgerStaysOpenWithoutADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startFileFaultTest(t, dir)
	must(t, os.Remove(s.path))
	// A folder of the ledger's name, with something in it, keeps the file from being written back there.
	must(t, os.Remove(dir), os.WriteFile(dir, nil, 0o600))
	s.requireRefused("was deleted")
	s.requireRunning()
	s.requireRefused("was deleted")
	if next := s.l.Health().Fault.Next; !strings.Contains(next, "do not stop the receiver") {
		t.Errorf("what to do is %q", next)
	}
	must(t, os.Remove(dir), os.Mkdir(dir, 0o700))
	if err := s.stop(); !errors.As(err, new(*ledger.FileFault)) {
		t.Errorf("the committer ended with %v", err)
	}
	s.requireAcked(s.path)
}

// A deleted ledger for which there is no room is not given up for the file that took its place.
func TestDeletedLedgerStaysOpenOnAFullDisk(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if err := syscall.Mount("none", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a file system takes root: %v", err)
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
	if next := s.l.Health().Fault.Next; !strings.Contains(next, "do not stop the receiver") || !strings.Contains(next, "free ") {
		t.Errorf("what to do is %q", next)
	}
	must(t, os.Remove(filler))
	s.requireEnd()
	s.requireAcked(onlyFile(t, mount, ".deleted"))
}

// A ledger that was moved is waited for. An end meanwhile leaves a note, and no empty ledger begins
// in its place.
func TestMovedLedgerIsAwaited(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"the file", "its folder"} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			s := startFileFaultTest(t, dir)
			from, to := s.path, s.path+".moved"
			if what == "its folder" {
				from, to = dir, dir+"-moved"
			}
			must(t, os.Rename(from, to))
			s.requireRefused("was moved")
			if next := s.l.Health().Fault.Next; !strings.Contains(next, to) {
				t.Errorf("what to do is %q", next)
			}
			s.requireRunning()
			must(t, os.Rename(to, from))
			for end := time.Now().Add(30 * time.Second); s.l.Health().Err != nil && time.Now().Before(end); {
				time.Sleep(10 * time.Millisecond)
			}
			mustAppend(t, s.l, succeeded("evt_later", "pi_later"))
			s.acked = append(s.acked, "evt_later")
			if names := fileNames(t, dir); len(names) != 1 {
				t.Errorf("the folder holds %v", names)
			}

			must(t, os.Rename(from, to))
			if err := s.stop(); !errors.As(err, new(*ledger.FileFault)) {
				t.Errorf("the committer ended with %v", err)
			}
			if l, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrMissing) {
				t.Errorf("the next start gave %v, %v", l, err)
			}
			must(t, os.Rename(filepath.Join(to, strings.TrimPrefix(s.path, from)), s.path))
			l := ledgertest.Start(t, ledger.Options{Dir: dir})
			if res := mustAppend(t, l, succeeded("evt_later", "pi_later")); !res.Repeat {
				t.Errorf("an event that was acknowledged gave %+v", res)
			}
			if names := fileNames(t, dir); len(names) != 1 {
				t.Errorf("the folder holds %v", names)
			}
		})
	}
}

// A ledger that another file replaces ends Run once that is a whole ledger. The old file is left
// where it was moved.
func TestReplacedLedgerEndsRun(t *testing.T) {
	t.Parallel()
	dir, restored := t.TempDir(), mustRead(t, makeBackup(t))
	s := startFileFaultTest(t, dir)
	must(t, os.Rename(s.path, s.path+".old"), os.WriteFile(s.path, restored[:5000], 0o600))
	s.requireRefused("another file was put in the place")
	s.requireRunning() // half a copy is none
	must(t, os.WriteFile(s.path, restored, 0o600))
	s.requireEnd()
	s.requireAcked(s.path + ".old")
	if proof := mustVerify(t, s.path); proof.Events != 1 {
		t.Errorf("the new file is %+v", proof)
	}
}

// What happens to the file during a commit is noticed before that is acknowledged, also where the
// commit makes a file that was cut short longer again.
func TestFileLostDuringACommitIsNotAcknowledged(t *testing.T) {
	for what, lose := range map[string]func(path string) error{
		"was deleted":   os.Remove,
		"was moved":     func(path string) error { return os.Rename(path, path+".moved") },
		"was cut short": func(path string) error { return os.Truncate(path, 9*4096) },
	} {
		t.Run(what, func(t *testing.T) {
			s := startFileFaultTest(t, t.TempDir())
			err := s.l.Write(t.Context(), func() error { return lose(s.path) })
			if !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("the commit gave %v", err)
			}
			if what != "was cut short" || !errors.Is(err, ledger.ErrCorrupt) { // else a page that bbolt needs was cut off, and Run ends
				s.requireRefused(what)
			}
			s.cancel()
			<-s.ended
			s.close()
		})
	}
}

// A folder that another one replaces is a ledger that was moved.
func TestReplacedDirectoryCountsAsMoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := startFileFaultTest(t, dir)
	must(t, os.Rename(dir, dir+"-moved"), os.Mkdir(dir, 0o700))
	s.requireRefused("was moved")
	if l, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrMissing) {
		t.Errorf("another process was given %v, %v", l, err)
	}
	_ = s.stop() // the fault again
	s.requireAcked(ledger.Path(dir + "-moved"))
}

// A file system that is unmounted under the receiver is a ledger that was moved.
func TestUnmountedLedgerCountsAsMoved(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if err := syscall.Mount("none", mount, "tmpfs", 0, "size=80m"); err != nil {
		t.Skipf("mounting a file system takes root: %v", err)
	}
	s := startFileFaultTest(t, mount)
	must(t, syscall.Unmount(mount, syscall.MNT_DETACH))
	s.requireRefused("was unmounted")
	s.requireRunning()
	if err := s.stop(); !errors.As(err, new(*ledger.FileFault)) {
		t.Errorf("the committer ended with %v", err)
	}
	if l, err := ledger.Open(ledger.Options{Dir: mount}); !errors.Is(err, ledger.ErrMissing) {
		t.Errorf("the next start gave %v, %v", l, err)
	}
}

// Nothing is acknowledged to a ledger that was cut short, also where it grows again.
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
				t.Errorf("reading gives %v", err)
			}
			if size > 0 { // else the meta pages are another program's
				must(t, os.Truncate(s.path, before.Size()))
				s.requireRunning()
				s.requireRefused("was cut short")
			}
			must(t, os.Rename(s.path, s.path+".cut"), os.Rename(restored, s.path))
			s.requireEnd()
		})
	}
}

// A ledger that is overwritten by a copy in place ends Run, and the next start opens the copy.
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
		t.Errorf("the event of the copy gave %+v", res)
	}
}

// A folder that cannot be looked at is a fault that goes away.
func TestUnsearchableDirectoryIsATemporaryFault(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may search any folder")
	}
	dir := t.TempDir()
	s := startFileFaultTest(t, dir)
	must(t, os.Chmod(dir, 0))
	s.requireRefused("cannot be looked at")
	must(t, os.Chmod(dir, 0o700))
	for end := time.Now().Add(30 * time.Second); s.l.Health().Err != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	mustAppend(t, s.l, succeeded("evt_later", "pi_later"))
	must(t, s.stop())
}

// A second process does not begin an empty ledger while one holds the file that was deleted.
func TestDeletedLedgerStaysLocked(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir}) // and no committer
	must(t, err, os.Remove(ledger.Path(dir)))
	if other, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("another process was given %v, %v", other, err)
	}
	must(t, l.Close())
}

// What stood in a name's way is told as what it is.
func TestErrorsOfLstatAreReported(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("n", 300))
	if err := ledger.Save(long, nil, nil); !errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, fs.ErrExist) || strings.Contains(err.Error(), "is there already") {
		t.Errorf("saving gives %v", err)
	}
	if _, err := ledger.Verify(long); !errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("verifying gives %v", err)
	}
	if _, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: long}, false); !errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("rebuilding gives %v", err)
	}
}

// BenchmarkCheckFile measures what looking at the file costs: once before each batch, and once before it
// is acknowledged.
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
