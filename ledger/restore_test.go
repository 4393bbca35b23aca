package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// createLedger creates a ledger with events, and returns a copy that was made after the first
// event.
func createLedger(t *testing.T, dir string, ids ...string) (backup string) {
	t.Helper()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	backup = filepath.Join(t.TempDir(), "till.db")
	for i, id := range ids {
		mustAppend(t, l, succeeded("evt_"+id, "pi_"+id))
		if i > 0 {
			continue
		}
		var copied bytes.Buffer
		if err := errors.Join(l.CopyTo(&copied), os.WriteFile(backup, copied.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.RestoreFrom(t.Context(), dir, backup); !errors.Is(err, ledger.ErrLocked) {
			t.Errorf("restoring to an open ledger returned %v", err)
		}
		if locked, err := ledger.IsLocked(dir); err != nil || !locked {
			t.Errorf("an open ledger is not locked: %v", err)
		}
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if locked, err := ledger.IsLocked(dir); err != nil || locked {
		t.Errorf("a closed ledger is locked: %v", err)
	}
	return backup
}

// RestoreFrom replaces the ledger by a copy, with the owner and the mode of the old file. The old
// file is kept beside it.
func TestRestoreFrom(t *testing.T) {
	dir := t.TempDir()
	backup := createLedger(t, dir, "1", "2", "3")
	owner := os.Getuid()
	if owner == 0 {
		owner = 65534
	}
	path := ledger.Path(dir)
	if err := errors.Join(os.Chmod(path, 0o640), os.Chown(path, owner, -1)); err != nil {
		t.Fatal(err)
	}
	before := mustRead(t, path)
	if _, err := ledger.RestoreFrom(t.Context(), dir, filepath.Join(dir, "missing.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := ledger.RestoreFrom(t.Context(), dir, path); err == nil || !strings.Contains(err.Error(), "is the ledger itself") {
		t.Errorf("the ledger itself: %v", err)
	}
	noise := filepath.Join(t.TempDir(), "noise.db")
	if err := os.WriteFile(noise, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.RestoreFrom(t.Context(), dir, noise); err == nil {
		t.Error("a file of zeros replaced the ledger")
	}
	if names := fileNames(t, dir); !slices.Equal(names, []string{"ledger.db"}) ||
		!bytes.Equal(mustRead(t, path), before) {
		t.Errorf("a failed restore changed the ledger or the directory, which holds %v", names)
	}

	done, err := ledger.RestoreFrom(t.Context(), dir, backup)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; info.Mode() != 0o640 || int(uid) != owner {
		t.Errorf("the new file has the owner %d and the mode %o", uid, info.Mode())
	}
	if report := mustVerify(t, path); report.Events != 1 || done.Path != path {
		t.Errorf("the restore returned %+v, the report is %+v", done, report)
	}
	if !bytes.Equal(mustRead(t, done.Kept), before) || filepath.Dir(done.Kept) != dir || len(fileNames(t, dir)) != 2 {
		t.Errorf("the restore kept %s, the directory holds %v", done.Kept, fileNames(t, dir))
	}
}

func TestRestoreFromIntoANewDirectory(t *testing.T) {
	backup := createLedger(t, t.TempDir(), "1")
	dir := filepath.Join(t.TempDir(), "new", "data")
	done, err := ledger.RestoreFrom(t.Context(), dir, backup)
	if err != nil || done.Kept != "" || mustVerify(t, done.Path).Events != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if info, err := os.Stat(done.Path); err != nil || info.Mode() != 0o600 || len(fileNames(t, dir)) != 1 {
		t.Errorf("%v, %v, %v", info, err, fileNames(t, dir))
	}
}

// ReadHeader reads files of every schema.
func TestReadHeader(t *testing.T) {
	dir := t.TempDir()
	createLedger(t, dir, "1")
	live := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: live, Livemode: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.ReadHeader(ledger.Path(live)); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("of an open ledger: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	old, _ := olderLedger(t)
	for path, want := range map[string]ledger.Header{dir: {}, live: {Livemode: true}, old: {Older: true}} {
		if got, err := ledger.ReadHeader(ledger.Path(path)); err != nil || got != want {
			t.Errorf("got %+v, want %+v, %v", got, want, err)
		}
	}
	if report, err := check.Verify(t.Context(), ledger.Path(old)); err == nil || !report.Older {
		t.Errorf("the report of an older ledger is %+v, %v", report, err)
	}
	if _, err := ledger.ReadHeader(filepath.Join(dir, "missing")); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("of a missing ledger: %v", err)
	}
}

// If a named pipe is in the place of the ledger, IsLocked does not wait for its other end.
func TestIsLockedDoesNotWaitForAPipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(ledger.Path(dir), 0o600); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		locked, err := ledger.IsLocked(dir)
		if locked {
			err = errors.Join(err, errors.New("the pipe is locked"))
		}
		result <- err
	}()
	select {
	case err := <-result:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("IsLocked has not returned")
	}
}

// A restore replaces files only. It refuses a named pipe without waiting for its other end, and
// whatever else has the path of the ledger.
func TestRestoreFromReplacesOnlyFiles(t *testing.T) {
	backup := createLedger(t, t.TempDir(), "1")
	for name, put := range map[string]func(path string) error{
		"a named pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a socket": func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return l.Close()
		},
		"a directory":      func(path string) error { return os.Mkdir(path, 0o700) },
		"a link to itself": func(path string) error { return os.Symlink(filepath.Base(path), path) },
	} {
		dir := t.TempDir()
		if err := put(ledger.Path(dir)); err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() {
			_, err := ledger.RestoreFrom(t.Context(), dir, backup)
			result <- err
		}()
		select {
		case err := <-result:
			var fault *ledger.PathFault
			if !errors.As(err, &fault) || fault.Path != ledger.Path(dir) || fault.Next == "" {
				t.Errorf("%s: %v", name, err)
			}
			if err := ledger.CheckRestore(dir, backup); !errors.As(err, &fault) {
				t.Errorf("%s is restored over: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: RestoreFrom has not returned", name)
		}
		if names := fileNames(t, dir); !slices.Equal(names, []string{"ledger.db"}) {
			t.Errorf("%s: the directory holds %v", name, names)
		}
	}
}

// A restore whose context has ended leaves the directory as it was.
func TestRestoreFromStops(t *testing.T) {
	dir := t.TempDir()
	backup := createLedger(t, dir, "1", "2")
	before := mustRead(t, ledger.Path(dir))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ledger.RestoreFrom(ctx, dir, backup); !errors.Is(err, context.Canceled) {
		t.Errorf("the restore returned %v", err)
	}
	if names := fileNames(t, dir); len(names) != 1 || !bytes.Equal(mustRead(t, ledger.Path(dir)), before) {
		t.Errorf("the restore left %v", names)
	}
}
