package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// succeeded returns a payment_intent.succeeded event of 42.00 EUR.
func succeeded(id, payment string) *ledger.Event {
	return &ledger.Event{
		ID: id, Type: "payment_intent.succeeded", Created: 1760000005, APIVersion: "2023-10-16", Source: ledger.Webhook,
		Received: time.Unix(1760000006, 0), Raw: []byte(`{"id":"` + id + `"}`),
		Facts: ledger.Facts{PaymentIntent: payment, Charge: "ch_" + payment, Intents: []ledger.Intent{{
			ID: payment, Status: "succeeded", Currency: "eur", Amount: 4200, HasAmount: true, AmountReceived: 4200,
			HasReceived: true,
			Created:     1760000000, LatestCharge: "ch_" + payment, Metadata: map[string]string{"order": "1"},
		}}},
	}
}

func mustAppend(t *testing.T, l *ledger.Ledger, e *ledger.Event) ledger.Result {
	t.Helper()
	res, err := l.Append(t.Context(), e)
	if err != nil {
		t.Fatalf("append %s: %v", e.ID, err)
	}
	return res
}

func TestReopenedLedgerHoldsItsEvents(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "open")
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	e := succeeded("evt_1", "pi_1")
	if res := mustAppend(t, l, e); res.Status != ledger.Applied || res.PaymentID != "pi_1" || res.Sequence != 1 {
		t.Fatalf("a new event returned %+v", res)
	}
	if res := mustAppend(t, l, e); res.Status != ledger.AlreadyProcessed || res.PaymentID != "pi_1" {
		t.Fatalf("a repeat returned %+v", res)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	for path, mode := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, l.Path(): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), mode)
		}
	}

	l = ledgertest.Start(t, ledger.Options{Dir: dir})
	if res := mustAppend(t, l, e); res.Status != ledger.AlreadyProcessed {
		t.Fatalf("after a restart the event returned %+v", res)
	}
	rec, err := l.Event("evt_1")
	if err != nil {
		t.Fatal(err)
	}
	if rec.Repeats != 2 || rec.Sequence != 1 || rec.Outcome != ledger.Applied || rec.Size != uint64(len(e.Raw)) {
		t.Errorf("the record is %+v", rec)
	}
	body, err := l.Body("evt_1")
	if err != nil || string(body) != string(e.Raw) {
		t.Errorf("the body is %q, %v", body, err)
	}
	for _, id := range []string{"pi_1", "ch_pi_1"} {
		p, err := l.Payment(id)
		if err != nil {
			t.Fatal(err)
		}
		if p.ID != "pi_1" || *p.AmountNet != 4200 || p.Status != "succeeded" || p.Events != 1 {
			t.Errorf("%s returned the payment %+v", id, p)
		}
	}
	if at, ok := l.LastEvent(); !ok || !at.Equal(e.Received) {
		t.Errorf("the last event was received at %v, %v", at, ok)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Run("a second process", func(t *testing.T) {
		dir := t.TempDir()
		ledgertest.Start(t, ledger.Options{Dir: dir})
		start := time.Now()
		if _, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrLocked) {
			t.Errorf("a second Open returned %v, want ErrLocked", err)
		}
		if _, err := ledger.OpenReadOnly(dir); !errors.Is(err, ledger.ErrLocked) {
			t.Errorf("OpenReadOnly while a writer has the file returned %v, want ErrLocked", err)
		}
		if took := time.Since(start); took > 10*time.Second { // 0.5 s on an idle machine
			t.Errorf("both were refused only after %v", took)
		}
	})
	t.Run("a ledger of the other mode", func(t *testing.T) {
		dir := t.TempDir()
		createAndClose(t, dir)
		_, err := ledger.Open(ledger.Options{Dir: dir, Livemode: true})
		if !errors.Is(err, ledger.ErrOtherMode) {
			t.Fatalf("got %v, want ErrOtherMode", err)
		}
		if want := "holds test mode payments, the configuration says live"; !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not contain %q", err, want)
		}
		createAndClose(t, dir) // the refused Open has released the lock
	})
	t.Run("a missing ledger for a reader", func(t *testing.T) {
		if _, err := ledger.OpenReadOnly(t.TempDir()); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
	t.Run("another program's bbolt file", func(t *testing.T) {
		dir := t.TempDir()
		db, err := bolt.Open(filepath.Join(dir, "ledger.db"), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.Open(ledger.Options{Dir: dir}); !errors.Is(err, ledger.ErrSchema) {
			t.Errorf("got %v, want ErrSchema", err)
		}
	})
	t.Run("a file of another format", func(t *testing.T) {
		for want, content := range map[string]string{"another program": strings.Repeat("not a ledger\n", 2000),
			"its beginning is damaged": "x", "is empty": ""} {
			dir := t.TempDir()
			path := filepath.Join(dir, "ledger.db")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			requireRefused(t, dir, want)
			if after, err := os.ReadFile(path); err != nil || string(after) != content {
				t.Errorf("%s: the refused file was changed, %v", want, err)
			}
		}
	})
	t.Run("a named pipe", func(t *testing.T) {
		dir := t.TempDir()
		if err := syscall.Mkfifo(filepath.Join(dir, "ledger.db"), 0o600); err != nil {
			t.Fatal(err)
		}
		requireRefused(t, dir, "is not a regular file")
	})
	t.Run("a truncated file", func(t *testing.T) {
		for size := int64(1); size < 5*4096; size += 1024 {
			dir := sampleLedger(t)
			if err := os.Truncate(filepath.Join(dir, "ledger.db"), size); err != nil {
				t.Fatal(err)
			}
			requireRefused(t, dir, "")
		}
	})
	t.Run("a file of a newer version", func(t *testing.T) {
		dir := t.TempDir()
		createAndClose(t, dir)
		db, err := bolt.Open(filepath.Join(dir, "ledger.db"), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("meta")).Put([]byte("schema"), ledger.Seal("meta", "schema", "c"))
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		_, err = ledger.Open(ledger.Options{Dir: dir})
		if !errors.Is(err, ledger.ErrSchema) || !strings.Contains(err.Error(), "schema 99") {
			t.Errorf("got %v, want ErrSchema naming schema 99", err)
		}
	})
}

// requireRefused requires that neither Open nor OpenReadOnly accepts the file, with an error that
// contains want.
func requireRefused(t *testing.T, dir, want string) {
	t.Helper()
	_, writer := ledger.Open(ledger.Options{Dir: dir})
	_, reader := ledger.OpenReadOnly(dir)
	for _, err := range []error{writer, reader} {
		if !errors.Is(err, ledger.ErrSchema) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrSchema that contains %q", err, want)
		}
	}
}

// Truncating the file while it is open causes errors and does not end the process.
func TestTruncatingAnOpenFileIsAnError(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	var group sync.WaitGroup
	for i := range 300 {
		group.Go(func() { mustAppend(t, l, succeeded(fmt.Sprintf("evt_%03d", i), "pi_1")) })
	}
	group.Wait()
	if err := os.Truncate(l.Path(), 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Event("evt_150"); !errors.Is(err, ledger.ErrCorrupt) && !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("reading returned %v", err)
	}
	if _, err := l.Append(t.Context(), succeeded("evt_150", "pi_1")); !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("an append returned %v", err)
	}
	cancel()
	if err := <-ended; !errors.As(err, new(*ledger.FileFault)) {
		t.Errorf("Run returned %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// Without its meta pages bbolt panics and keeps its locks. Run ends, so that the process can be
// restarted, and Close does not wait for the locks.
func TestEmptyingAnOpenFileEndsRun(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Run(context.Background()) }()
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	if err := os.Truncate(l.Path(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Event("evt_1"); err == nil { // before the committer has checked the file
		t.Error("an event was read from an empty file")
	}
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := l.Append(ctx, succeeded(fmt.Sprintf("evt_%d", 2+i), "pi_1")); err == nil ||
			errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("append %d returned %v", i, err)
		}
		cancel()
	}
	select {
	case err := <-ended:
		if !errors.Is(err, ledger.ErrUnavailable) {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run has not ended")
	}
	if l.Health().Err == nil {
		t.Error("the health reports no fault")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// createAndClose opens a test mode ledger, which creates it if it is missing, and closes it.
func createAndClose(t *testing.T, dir string) {
	t.Helper()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenDeletesAHalfCreatedFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ledger.db.new-17"), []byte("half a ledger"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	if _, err := os.Stat(filepath.Join(dir, "ledger.db.new-17")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half created file is still there: %v", err)
	}
}

// If Open fails because the disk is full, it leaves no file, and deletes those that earlier starts
// left.
func TestOpenOnAFullDiskLeavesNothing(t *testing.T) {
	mount := t.TempDir()
	if err := syscall.Mount("none", mount, "tmpfs", 0, "size=12k"); err != nil {
		t.Skipf("mounting a file system needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mount, syscall.MNT_DETACH) })
	for range 2 {
		if err := os.WriteFile(filepath.Join(mount, "ledger.db.new-17"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := ledger.Open(ledger.Options{Dir: mount}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Open returned %v, %v", l, err)
		}
		if names := fileNames(t, mount); len(names) != 0 {
			t.Errorf("the directory holds %v", names)
		}
	}
}

func TestReadOnlyLedgerRefusesWrites(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := ledger.OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Payment("pi_1"); err != nil {
		t.Error(err)
	}
	if err := reader.Check(); err != nil {
		t.Error(err)
	}
	if _, err := reader.Append(t.Context(), succeeded("evt_2", "pi_2")); !errors.Is(err, ledger.ErrReadOnly) {
		t.Errorf("an append returned %v, want ErrReadOnly", err)
	}
	if err := reader.Run(t.Context()); !errors.Is(err, ledger.ErrReadOnly) {
		t.Errorf("Run returned %v, want ErrReadOnly", err)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
}

func TestAppendAfterRunIsRefused(t *testing.T) {
	l, err := ledger.Open(ledger.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), succeeded("evt_1", "pi_1")); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAppendRefusesTheOtherMode(t *testing.T) {
	l := ledgertest.Open(t, true)
	if res, err := l.Append(t.Context(), succeeded("a", "pi_a")); err == nil {
		t.Errorf("a test mode event in a live mode ledger returned %+v", res)
	}
	if n := mustStats(t, l).Events; n != 0 {
		t.Errorf("%d events are stored", n)
	}
}
