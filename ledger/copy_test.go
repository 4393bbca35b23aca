package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// A copy that is made while eight goroutines append is sound, and holds every event that was
// acknowledged before it began.
func TestCopyUnderLoadHoldsAcknowledgedEvents(t *testing.T) {
	l := ledgertest.Open(t, false)
	var stop atomic.Bool
	var mu sync.Mutex
	var acked []string
	var senders sync.WaitGroup
	for i := range 8 {
		senders.Go(func() {
			for j := 0; !stop.Load(); j++ {
				id := fmt.Sprintf("evt_%d_%d", i, j)
				mustAppend(t, l, succeeded(id, fmt.Sprintf("pi_%d_%d", i, j/3)))
				mu.Lock()
				acked = append(acked, id)
				mu.Unlock()
			}
		})
	}
	acknowledged := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(acked)
	}
	defer senders.Wait()
	defer stop.Store(true)
	for round := range 5 {
		for deadline := time.Now().Add(20 * time.Second); len(acknowledged()) < 100*(round+1); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no event is acknowledged")
			}
		}
		before := acknowledged()
		dir := t.TempDir()
		path := filepath.Join(dir, "ledger.db")
		if err := ledger.Save(path, l.CopyTo,
			func(made string) error { _, err := check.Verify(t.Context(), made); return err }); err != nil {
			t.Fatal(err)
		}
		if report := mustVerify(t, path); report.Events < uint64(len(before)) {
			t.Errorf("the copy holds %d events, %d were acknowledged", report.Events, len(before))
		}
		requireEvents(t, dir, before)
	}
}

// requireEvents opens a copy as a ledger of its own. It requires that the copy holds the events and
// accepts a new one.
func requireEvents(t *testing.T, dir string, ids []string) {
	t.Helper()
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	for _, id := range ids {
		if _, err := l.Event(id); err != nil {
			t.Errorf("the copy: %v", err)
		}
	}
	if res := mustAppend(t, l, succeeded("evt_after", "pi_after")); res.Status != ledger.Applied {
		t.Errorf("an event that was appended to the copy returned %+v", res)
	}
}

func TestSave(t *testing.T) {
	l := ledgertest.Open(t, false)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	noDisk := errors.New("no space left")
	damaged := errors.New("a fault")
	for _, c := range []struct {
		name  string
		there bool
		fill  func(w io.Writer) error
		check func(path string) error
		want  error
		says  string
	}{
		{name: "a ledger", fill: l.CopyTo},
		{name: "over a file", there: true, fill: l.CopyTo, says: "is there already"},
		{name: "over a file that is created meanwhile", fill: l.CopyTo, want: os.ErrExist,
			check: func(made string) error {
				return os.WriteFile(filepath.Join(filepath.Dir(made), "copy.db"), []byte("mine"), 0o600)
			}, there: true},
		{name: "a part of a ledger", fill: func(w io.Writer) error {
			if err := l.CopyTo(w); err != nil {
				return err
			}
			return w.(*os.File).Truncate(3 * 4096)
		}, want: ledger.ErrSchema, says: "cut short"},
		{name: "nothing", fill: func(io.Writer) error { return nil }, want: ledger.ErrSchema},
		{name: "another format", fill: func(w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("<html>", 5000))
			return err
		}, want: ledger.ErrSchema},
		{name: "a write error", fill: func(w io.Writer) error { _, _ = io.WriteString(w, "begun"); return noDisk },
			want: noDisk},
		{name: "a failed check", fill: l.CopyTo, check: func(string) error { return damaged }, want: damaged,
			says: "was not kept"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "copy.db")
			if c.there && c.check == nil {
				if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := ledger.Save(path, c.fill, c.check)
			switch good := c.want == nil && c.says == ""; {
			case good:
				if err != nil {
					t.Fatal(err)
				}
				mustVerify(t, path)
				if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
					t.Errorf("the copy is %v, %v", info, err)
				}
			case err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says):
				t.Errorf("got %v", err)
			case c.there:
				if b := mustRead(t, path); string(b) != "mine" {
					t.Errorf("the existing file holds %.40q", b)
				}
			}
			want := []string{"copy.db"}
			if !c.there && err != nil {
				want = nil
			}
			if names := fileNames(t, dir); !slices.Equal(names, want) {
				t.Errorf("the directory holds %v", names)
			}
		})
	}
	if err := ledger.Save(filepath.Join(t.TempDir(), "none", "copy.db"), l.CopyTo,
		nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("saving to a directory that does not exist returned %v", err)
	}
}

func TestSpool(t *testing.T) {
	dir := t.TempDir()
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	f, err := l.Spool(func(w io.Writer) error { _, err := io.WriteString(w, "spooled"); return err })
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != "spooled" {
		t.Errorf("the spooled file holds %q, %v", b, err)
	}
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &stat); err != nil || stat.Nlink != 0 {
		t.Errorf("the file has %d names, %v", stat.Nlink, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	failing := errors.New("no")
	if f, err := l.Spool(func(io.Writer) error { return failing }); !errors.Is(err, failing) || f != nil {
		t.Errorf("got %v, %v", f, err)
	}
	if names := fileNames(t, dir); !slices.Equal(names, []string{"ledger.db"}) {
		t.Errorf("the directory holds %v", names)
	}
}

func TestWithCopy(t *testing.T) {
	dir := t.TempDir()
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	failing := errors.New("no")
	for _, want := range []error{nil, failing} {
		var made string
		err := l.WithCopy(t.Context(), func(path string) error {
			made = path
			if report := mustVerify(t, path); report.Events != 1 {
				t.Errorf("the copy is %+v", report)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
				t.Errorf("the copy is %v, %v", info, err)
			}
			return want
		})
		if !errors.Is(err, want) || made == "" {
			t.Errorf("got %v, want %v", err, want)
		}
		if names := fileNames(t, dir); !slices.Equal(names, []string{"ledger.db"}) {
			t.Errorf("the directory holds %v", names)
		}
	}
}

// A copy holds the ledger as it was at one moment, whatever is written while the copy is read.
func TestCopyIsAConsistentSnapshot(t *testing.T) {
	l := ledgertest.Open(t, false)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	var copied bytes.Buffer
	err := l.CopyTo(writerFunc(func(b []byte) (int, error) {
		mustAppend(t, l, succeeded(fmt.Sprintf("evt_while_%d", copied.Len()), "pi_1"))
		return copied.Write(b)
	}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := ledger.Save(path, func(w io.Writer) error { _, err := io.Copy(w, &copied); return err },
		nil); err != nil {
		t.Fatal(err)
	}
	if report := mustVerify(t, path); report.Events != 1 {
		t.Errorf("the copy is %+v", report)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// If the disk has enough space for one of two concurrent copies, only one is made. A spooled export
// leaves the space that is reserved for a copy.
func TestCopyReservesItsSpace(t *testing.T) {
	mount := t.TempDir()
	// 64 MiB are reserved for events, and the copy needs 16
	if err := syscall.Mount("none", mount, "tmpfs", 0, "size=90m"); err != nil {
		t.Skipf("mounting a file system needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mount, syscall.MNT_DETACH) })
	l := ledgertest.Start(t, ledger.Options{Dir: mount})
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	must(t, os.Truncate(l.Path(), 16<<20)) // a sparse file
	copyTo := func(during func()) error {
		return l.CopyInto(t.Context(), mount, writerFunc(func(b []byte) (int, error) {
			during()
			return len(b), nil
		}))
	}
	var second, third error
	must(t, copyTo(func() {
		second = copyTo(func() {})
		_, third = l.Spool(func(w io.Writer) error { _, err := w.Write(make([]byte, 12<<20)); return err })
	}))
	if !errors.Is(second, ledger.ErrNoSpace) || !errors.Is(third, ledger.ErrNoSpace) {
		t.Errorf("a second copy returned %v, a spooled export %v", second, third)
	}
	must(t, copyTo(func() {}))
	f, err := l.Spool(func(w io.Writer) error { _, err := w.Write(make([]byte, 12<<20)); return err })
	must(t, err, f.Close())
}

// On a full disk a spooled export and a copy return [ledger.ErrNoSpace].
func TestFullDiskIsErrNoSpace(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("none", mount, "tmpfs", 0, "size=80m,nr_inodes=3"); err != nil {
		t.Skipf("mounting a file system needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mount, syscall.MNT_DETACH) })
	l := ledgertest.Start(t, ledger.Options{Dir: mount})
	must(t, os.WriteFile(filepath.Join(mount, "one more"), nil, 0o600))
	if _, err := l.Spool(func(io.Writer) error { return nil }); !errors.Is(err, ledger.ErrNoSpace) {
		t.Errorf("a spooled export returned %v", err)
	}
	if err := l.WithCopy(t.Context(), func(string) error { return nil }); !errors.Is(err, ledger.ErrNoSpace) {
		t.Errorf("a copy returned %v", err)
	}
}
