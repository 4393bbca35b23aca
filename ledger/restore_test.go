package ledger_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// filled lays a ledger of so many events in a directory, and returns a copy that was made after the
// first of them.
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
		if _, err := ledger.RestoreFrom(dir, backup); !errors.Is(err, ledger.ErrLocked) {
			t.Errorf("while it is held: %v", err)
		}
		if held, err := ledger.IsLocked(dir); err != nil || !held {
			t.Errorf("it is not held: %v", err)
		}
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if held, err := ledger.IsLocked(dir); err != nil || held {
		t.Errorf("it is held: %v", err)
	}
	return backup
}

// A copy takes the place of the ledger under its owner and permissions, and the old file stays
// beside it.
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
	if _, err := ledger.RestoreFrom(dir, filepath.Join(dir, "missing.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := ledger.RestoreFrom(dir, path); err == nil || !strings.Contains(err.Error(), "is the ledger itself") {
		t.Errorf("the ledger in its own place: %v", err)
	}
	damageRow := filepath.Join(t.TempDir(), "noise.db")
	if err := os.WriteFile(damageRow, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.RestoreFrom(dir, damageRow); err == nil {
		t.Error("noise was put in the ledger's place")
	}
	if names := fileNames(t, dir); !slices.Equal(names, []string{"ledger.db"}) || !bytes.Equal(mustRead(t, path), before) {
		t.Errorf("a restore that failed changed something: %v", names)
	}

	done, err := ledger.RestoreFrom(dir, backup)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; info.Mode() != 0o640 || int(uid) != owner {
		t.Errorf("it belongs to %d and has mode %o", uid, info.Mode())
	}
	if report := mustVerify(t, path); report.Events != 1 || done.Path != path {
		t.Errorf("restored %+v, %+v", done, report)
	}
	if !bytes.Equal(mustRead(t, done.Kept), before) || filepath.Dir(done.Kept) != dir || len(fileNames(t, dir)) != 2 {
		t.Errorf("kept %s of %v", done.Kept, fileNames(t, dir))
	}
}

func TestRestoreFromIntoANewDirectory(t *testing.T) {
	backup := createLedger(t, t.TempDir(), "1")
	dir := filepath.Join(t.TempDir(), "new", "data")
	done, err := ledger.RestoreFrom(dir, backup)
	if err != nil || done.Kept != "" || mustVerify(t, done.Path).Events != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if info, err := os.Stat(done.Path); err != nil || info.Mode() != 0o600 || len(fileNames(t, dir)) != 1 {
		t.Errorf("%v, %v, %v", info, err, fileNames(t, dir))
	}
}

// What a file says of itself can be read of every schema.
func TestReadHeader(t *testing.T) {
	dir := t.TempDir()
	createLedger(t, dir, "1")
	live := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: live, Livemode: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.ReadHeader(ledger.Path(live)); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("of one that is held: %v", err)
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
	if report, err := ledger.Verify(ledger.Path(old)); err == nil || !report.Older {
		t.Errorf("the proof of an older one is %+v, %v", report, err)
	}
	if _, err := ledger.ReadHeader(filepath.Join(dir, "missing")); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
}

// Looking for who holds a ledger does not wait for the other end of a pipe in its place.
func TestIsLockedDoesNotWaitForAPipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(ledger.Path(dir), 0o600); err != nil {
		t.Fatal(err)
	}
	looked := make(chan error, 1)
	go func() {
		held, err := ledger.IsLocked(dir)
		if held {
			err = errors.Join(err, errors.New("it is held"))
		}
		looked <- err
	}()
	select {
	case err := <-looked:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits")
	}
}
