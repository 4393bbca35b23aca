package ledger_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// linkLedger moves the ledger of a directory to another directory, as shop.db, puts a symbolic link
// in its place and returns the path of the file.
func linkLedger(t *testing.T, dir string) (file string) {
	t.Helper()
	file = filepath.Join(ledgertest.Dir(t), "shop.db") // usually on another file system
	must(t, os.WriteFile(file, mustRead(t, ledger.Path(dir)), 0o640))
	must(t, os.Remove(ledger.Path(dir)), os.Symlink(file, ledger.Path(dir)))
	return file
}

// requireLink requires that a directory holds nothing but a symbolic link to file, and that the
// directory of file holds file and the one that was kept of it.
func requireLink(t *testing.T, dir, file, kept string, events uint64) {
	t.Helper()
	if to, err := os.Readlink(ledger.Path(dir)); err != nil || to != file || len(fileNames(t, dir)) != 1 {
		t.Errorf("the directory holds %v, and the link leads to %s, %v", fileNames(t, dir), to, err)
	}
	if names := fileNames(t, filepath.Dir(file)); len(names) != 2 || filepath.Dir(kept) != filepath.Dir(file) {
		t.Errorf("the kept file is %s, and beside the file are %v", kept, names)
	}
	if info, err := os.Lstat(file); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file has the mode %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(kept); err != nil || !info.Mode().IsRegular() {
		t.Errorf("what was kept has the mode %v, %v", info.Mode(), err)
	}
	if n := mustVerify(t, file).Events; n != events {
		t.Errorf("the ledger has %d events, want %d", n, events)
	}
}

// What replaces a ledger that is a symbolic link takes the place of the file that the link leads
// to, and the old file is kept beside that.
func TestLinkedLedgerIsReplacedWhereItIs(t *testing.T) {
	dir := t.TempDir()
	backup := createLedger(t, dir, "1", "2", "3")
	file := linkLedger(t, dir)
	restored, err := ledger.RestoreFrom(t.Context(), dir, backup)
	if err != nil {
		t.Fatal(err)
	}
	requireLink(t, dir, file, restored.Kept, 1)
	if n := mustVerify(t, restored.Kept).Events; n != 3 {
		t.Errorf("the kept file has %d events", n)
	}
	must(t, os.Remove(restored.Kept))

	rebuilt, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false)
	if err != nil {
		t.Fatal(err)
	}
	requireLink(t, dir, file, rebuilt.Kept, 1)
	mustVerify(t, rebuilt.Kept)
	if state, err := ledger.InspectDir(dir); err != nil || !state.File || !state.Writable {
		t.Errorf("the state of the directory is %+v, %v", state, err)
	}
}

// An opening deletes the temporary files beside the file that a link leads to, unless a process
// holds that file by another path.
func TestTemporaryFilesBesideALinkedLedger(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	createLedger(t, dir, "1")
	file := linkLedger(t, dir)
	must(t, os.Symlink(file, ledger.Path(other)))
	left := file + ".new-1"
	must(t, os.WriteFile(left, nil, 0o600))
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if names := fileNames(t, filepath.Dir(file)); !slices.Equal(names, []string{"shop.db"}) {
		t.Errorf("beside the file are %v", names)
	}
	must(t, os.WriteFile(left, nil, 0o600))
	if _, err := ledger.Open(ledger.Options{Dir: other}); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("another path of an open file: %v", err)
	}
	if _, err := os.Lstat(left); err != nil {
		t.Error("a temporary file of the process that holds the ledger was deleted")
	}
	must(t, l.Close())
}

// A link that leads to nothing, as while a file system is not mounted, is an error with a next
// step, and is never replaced.
func TestDanglingLedgerLink(t *testing.T) {
	backup := createLedger(t, t.TempDir(), "1")
	above := t.TempDir()
	dir := filepath.Join(above, "data")
	must(t, os.Mkdir(dir, 0o700), os.Symlink("../big/ledger.db", ledger.Path(dir)))
	ctx, opts := t.Context(), ledger.Options{Dir: dir}
	for name, use := range map[string]func() error{
		"Open":         func() error { _, err := ledger.Open(opts); return err },
		"OpenReadOnly": func() error { _, err := ledger.OpenReadOnly(dir); return err },
		"CheckRestore": func() error { return ledger.CheckRestore(dir, backup) },
		"RestoreFrom":  func() error { _, err := ledger.RestoreFrom(ctx, dir, backup); return err },
		"Rebuild":      func() error { _, err := ledger.Rebuild(ctx, opts, false); return err },
		"ReadHeader":   func() error { _, err := ledger.ReadHeader(ledger.Path(dir)); return err },
		"Verify":       func() error { _, err := check.Verify(ctx, ledger.Path(dir)); return err },
		"InspectDir":   func() error { _, err := ledger.InspectDir(dir); return err },
	} {
		var fault *ledger.PathFault
		err := use()
		if !errors.Is(err, ledger.ErrMissing) || !errors.As(err, &fault) || !strings.Contains(fault.Next, "mount") ||
			!strings.Contains(err.Error(), "symbolic link to "+filepath.Join(above, "big", "ledger.db")+", which does not exist") {
			t.Errorf("%s: %v", name, err)
		}
		if names := fileNames(t, dir); !slices.Equal(names, []string{"ledger.db"}) || len(fileNames(t, above)) != 1 {
			t.Errorf("%s left %v", name, names)
		}
	}
}

// The receiver notices what happens to a linked ledger: to the file, to the link and to both.
func TestFaultsOfALinkedLedger(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (s *fileFaultTest, file string) {
		dir := t.TempDir()
		createLedger(t, dir, "of_before")
		file = linkLedger(t, dir)
		return startFileFaultTest(t, dir), file
	}
	t.Run("the file is deleted", func(t *testing.T) {
		s, file := start(t)
		must(t, os.Remove(file))
		s.requireRefused("was deleted")
		s.requireEnd()
		s.requireAcked(file)
		if to, err := os.Readlink(s.path); err != nil || to != file {
			t.Errorf("the link leads to %s, %v", to, err)
		}
	})
	t.Run("the link is replaced", func(t *testing.T) {
		s, file := start(t)
		must(t, os.Rename(makeBackup(t), s.path))
		s.requireRefused("another file was put in the place")
		s.requireEnd()
		s.requireAcked(file)
	})
	t.Run("both are deleted", func(t *testing.T) {
		s, file := start(t)
		must(t, os.Remove(s.path), os.Remove(file))
		s.requireRefused("was deleted")
		s.requireEnd()
		s.requireAcked(s.path)
	})
	t.Run("its file system is unmounted", func(t *testing.T) {
		s, file := start(t)
		must(t, os.Rename(file, file+".away"))
		s.requireRefused("was moved")
		s.requireRunning()
		if err := s.stop(); !errors.As(err, new(*ledger.FileFault)) {
			t.Errorf("Run returned %v", err)
		}
		if _, err := ledger.Open(ledger.Options{Dir: filepath.Dir(s.path)}); !errors.Is(err, ledger.ErrMissing) {
			t.Errorf("the next Open returned %v", err)
		}
		s.requireAcked(file + ".away")
	})
}

// A relative link is followed as the kernel does: from the directory that holds it, which can
// itself be behind a link.
func TestRelativeLinkBehindALink(t *testing.T) {
	above := t.TempDir()
	real := filepath.Join(above, "disk", "data")
	must(t, os.MkdirAll(real, 0o700))
	createLedger(t, real, "1", "2")
	file := filepath.Join(above, "disk", "big.db")
	dir := filepath.Join(above, "data")
	must(t, os.Rename(ledger.Path(real), file), os.Symlink("../big.db", ledger.Path(real)), os.Symlink(real, dir))
	done, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false)
	if err != nil || done.Path != ledger.Path(dir) || filepath.Dir(done.Kept) != filepath.Dir(file) {
		t.Fatalf("%+v, %v", done, err)
	}
	var a, b syscall.Stat_t
	if must(t, syscall.Stat(ledger.Path(dir), &a), syscall.Lstat(file, &b)); a.Ino != b.Ino {
		t.Errorf("the new file is not at %s", file)
	}
}
