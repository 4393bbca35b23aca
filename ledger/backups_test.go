package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// A backup that failed for lack of space is made within a minute after space is free.
func TestBackupIsRetriedOnceSpaceIsFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := ledgertest.Start(t, ledger.Options{Dir: dir, CheckEvery: time.Hour})
		info, err := os.Stat(l.Path())
		if err != nil {
			t.Fatal(err)
		}
		ledgertest.FillDisk(t, l)
		stop := startBackups(t, &ledger.Backups{Ledger: l, Dir: filepath.Join(dir, "backups"), Every: 24 * time.Hour,
			Keep: 2})
		time.Sleep(12 * time.Minute)
		if err := os.Truncate(l.Path(), info.Size()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		attempts := stop()
		last := attempts[len(attempts)-1]
		if !errors.Is(attempts[0].err, ledger.ErrNoSpace) || last.err != nil || len(attempts) > 40 {
			t.Errorf("the attempts were %+v", attempts)
		}
	})
}

// An attempt that fills a disk, which takes long, is not repeated at once.
func TestBackupThatFillsTheDiskIsNotRetriedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fill := func(context.Context, string) error { time.Sleep(12 * time.Second); return syscall.ENOSPC }
		b := &ledger.Backups{Ledger: ledgertest.Open(t, false), Dir: t.TempDir(), Every: 24 * time.Hour, Keep: 2,
			Verify: fill}
		stop := startBackups(t, b)
		time.Sleep(time.Hour)
		if n := len(stop()); n < 6 || n > 20 {
			t.Errorf("%d attempts were made in an hour", n)
		}
	})
}

// attempt is one call of Backups.OnAttempt.
type attempt struct {
	at   time.Time
	name string
	err  error
}

// startBackups runs backups. The function stop ends them and returns the attempts. Call it in a
// bubble of fake time.
func startBackups(t *testing.T, b *ledger.Backups) (stop func() []attempt) {
	t.Helper()
	var attempts []attempt
	b.OnAttempt = func(path string, _ time.Duration, err error) {
		attempts = append(attempts, attempt{time.Now(), filepath.Base(path), err})
	}
	if b.Verify == nil {
		b.Verify = func(_ context.Context, path string) error { _, err := check.Verify(t.Context(), path); return err }
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	return func() []attempt {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Backups.Run returned %v", err)
		}
		return attempts
	}
}

func TestBackupsRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledgertest.Open(t, false)
		dir := filepath.Join(t.TempDir(), "made", "too")
		stop := startBackups(t, &ledger.Backups{Ledger: l, Dir: dir, Every: time.Hour, Keep: 3})
		synctest.Wait()
		if n := len(fileNames(t, dir)); n != 1 {
			t.Errorf("%d copies after the start, want 1", n)
		}
		others := []string{"notes.txt", "tillhook-2026-11-23.db", "tillhook-live-" + l.ID() + "-19990101T000000Z.db",
			"tillhook-test-" + l.ID() + "-19990101T000000Z.db.old",
			"tillhook-test-" + l.ID() + "-old-19990101T000000Z.db", "tillhook-test-0123456789ab-19990101T000000Z.db"}
		for _, name := range others {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			mustAppend(t, l, succeeded(fmt.Sprintf("evt_%d", i), "pi_1"))
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		attempts := stop()
		var made []string
		for i, c := range attempts {
			if c.err != nil || c.name != "tillhook-test-"+l.ID()+"-"+c.at.UTC().Format("20060102T150405Z")+".db" ||
				i > 0 && (c.at.Sub(attempts[i-1].at) != time.Hour || c.name <= attempts[i-1].name) {
				t.Errorf("attempt %d: %+v", i, c)
			}
			made = append(made, c.name)
		}
		if len(made) != 11 {
			t.Fatalf("%d copies in ten hours", len(made))
		}
		if n := (&ledger.Backups{Ledger: l, Dir: dir}).Others(); n != 2 {
			t.Errorf("%d copies are of other ledgers, want 2", n)
		}
		want := slices.Sorted(slices.Values(append(made[8:], others...)))
		if names := fileNames(t, dir); !slices.Equal(names, want) {
			t.Errorf("the directory holds %v, want %v", names, want)
		}
		if report := mustVerify(t, filepath.Join(dir, made[10])); report.Events != 10 {
			t.Errorf("the newest copy is %+v", report)
		}
		for _, name := range others {
			if b := mustRead(t, filepath.Join(dir, name)); string(b) != "mine" {
				t.Errorf("%s holds %.20q", name, b)
			}
		}
	})
}

// After a start the next copy is made only when the newest one is old enough. A copy of a ledger of
// the other mode does not count.
func TestBackupsWaitUntilTheNewestIsOldEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, dir := ledgertest.Open(t, false), t.TempDir()
		began := time.Now()
		for mode, ago := range map[string]time.Duration{"test": 20 * time.Minute, "live": time.Minute} {
			name := "tillhook-" + mode + "-" + l.ID() + "-" + began.Add(-ago).UTC().Format("20060102T150405Z") + ".db"
			if err := os.WriteFile(filepath.Join(dir, name), []byte("a copy"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		stop := startBackups(t, &ledger.Backups{Ledger: l, Dir: dir, Every: time.Hour, Keep: 5})
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		attempts := stop()
		if len(attempts) != 1 || attempts[0].err != nil || attempts[0].at.Sub(began) != 40*time.Minute {
			t.Errorf("the attempts were %+v, the start was at %v", attempts, began)
		}
	})
}

// A copy that fails its verification is reported and not kept, and no older copy is deleted. The
// next attempt follows soon.
func TestDamagedBackupIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, dir := ledgertest.Open(t, false), t.TempDir()
		fault := errors.New("a fault")
		var failing atomic.Bool
		stop := startBackups(t, &ledger.Backups{Ledger: l, Dir: dir, Every: time.Hour, Keep: 1,
			Verify: func(context.Context, string) error {
				if failing.Load() {
					return fault
				}
				return nil
			}})
		synctest.Wait()
		before := fileNames(t, dir)
		failing.Store(true)
		time.Sleep(time.Hour + 5*time.Minute)
		synctest.Wait()
		if names := fileNames(t, dir); !slices.Equal(names, before) || len(before) != 1 {
			t.Errorf("the directory held %v and holds %v", before, names)
		}
		failing.Store(false)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		attempts := stop()
		if len(attempts) != 3 || !errors.Is(attempts[1].err, fault) || attempts[2].err != nil ||
			attempts[2].at.Sub(attempts[1].at) != 10*time.Minute {
			t.Errorf("the attempts were %+v", attempts)
		}
		if names := fileNames(t, dir); len(names) != 1 || names[0] == before[0] {
			t.Errorf("the directory holds %v", names)
		}
	})
}

// A wrong clock has named a copy for the future. The copy does not stop new ones from being made,
// and is not counted.
func TestBackupsIgnoreCopiesDatedInTheFuture(t *testing.T) {
	l := ledgertest.Open(t, false)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tillhook-test-"+l.ID()+"-20990101T000000Z.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 100)
	b := ledger.Backups{Ledger: l, Dir: dir, Every: time.Hour, Keep: 1,
		Verify:    func(context.Context, string) error { return nil },
		OnAttempt: func(_ string, _ time.Duration, err error) { results <- err }}
	if at, ok := b.Newest(); ok {
		t.Errorf("the newest copy is of %v", at)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	select {
	case err := <-results:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("no copy was made")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if at, ok := b.Newest(); !ok || time.Since(at) > time.Minute {
		t.Errorf("the newest copy is of %v, %v", at, ok)
	}
}

// A copy that was made counts, although an older one cannot be deleted, and the next one is made at
// its time.
func TestBackupsGoOnIfAnOldOneStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledgertest.Open(t, false)
		dir := t.TempDir()
		old := filepath.Join(dir, "tillhook-test-"+l.ID()+"-19990101T000000Z.db", "file")
		if err := errors.Join(os.Mkdir(filepath.Dir(old), 0o700), os.WriteFile(old, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		stop := startBackups(t, &ledger.Backups{Ledger: l, Dir: dir, Every: time.Hour, Keep: 1})
		time.Sleep(150 * time.Minute)
		synctest.Wait()
		attempts := stop()
		if len(attempts) != 3 {
			t.Errorf("%d attempts in two and a half hours: %+v", len(attempts), attempts)
		}
		for _, a := range attempts {
			if a.err == nil || !strings.HasPrefix(a.name, "tillhook-test-"+l.ID()) {
				t.Errorf("the attempt is %+v", a)
			}
		}
		if names := fileNames(t, dir); len(names) != 2 {
			t.Errorf("the copies are %v", names)
		}
	})
}

// Before a file of an older schema is migrated, a copy of it is made in the directory for backups.
func TestOldFileIsBackedUpBeforeMigration(t *testing.T) {
	dir, file := olderLedger(t)
	backups := filepath.Join(t.TempDir(), "made", "for", "it")
	l, err := ledger.Open(ledger.Options{Dir: dir, Decode: decode, BackupDir: backups})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// The copy ends with the last page that is in use.
	if names := fileNames(t, backups); len(names) != 1 || filepath.Join(backups, names[0]) != l.Migrated.Backup ||
		!bytes.HasPrefix(file, mustRead(t, l.Migrated.Backup)) {
		t.Errorf("the migration is %v, the copies are %v", l.Migrated, names)
	}
}

// Each ledger keeps its own copies in a shared directory.
func TestLedgersShareABackupDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var stops []func() []attempt
		for range 2 {
			stops = append(stops, startBackups(t,
				&ledger.Backups{Ledger: ledgertest.Open(t, false), Dir: dir, Every: time.Hour, Keep: 2}))
		}
		time.Sleep(10*time.Hour + time.Minute)
		synctest.Wait()
		want := 0
		for _, stop := range stops {
			attempts := stop()
			if len(attempts) != 11 {
				t.Errorf("%d copies, want 11", len(attempts))
			}
			for i, c := range attempts {
				if _, err := os.Stat(filepath.Join(dir, c.name)); c.err != nil ||
					(err == nil) != (i >= len(attempts)-2) {
					t.Errorf("copy %d of %d: %v, %v", i, len(attempts), c.err, err)
				}
			}
			want += 2
		}
		if names := fileNames(t, dir); len(names) != want {
			t.Errorf("the directory holds %v", names)
		}
	})
}

// A migration that fails at each start copies the old file only once. Copies of several states of
// the file are made within one second here, because fake time stands still. They are kept and
// deleted in their order.
func TestFailingMigrationBacksUpOnce(t *testing.T) {
	_, old := olderLedger(t)
	synctest.Test(t, func(t *testing.T) { testFailingMigrationBacksUpOnce(t, old) })
}

func testFailingMigrationBacksUpOnce(t *testing.T, old []byte) {
	dir, backups := t.TempDir(), t.TempDir()
	failToOpen := func() {
		t.Helper()
		l, err := ledger.OpenContext(t.Context(),
			ledger.Options{Dir: dir, BackupDir: backups, BackupKeep: 2, Decode: func([]byte) *ledger.Event {
				return &ledger.Event{Facts: ledger.Facts{Intents: make([]ledger.Intent, 1<<20)}} // no row can hold this
			}})
		if err == nil || errors.Is(err, os.ErrExist) {
			t.Fatalf("Open returned %v, %v", l, err)
		}
	}
	for state := range 4 {
		file := filepath.Join(dir, "ledger.db")
		must(t, os.WriteFile(file, old, 0o600))
		edit(t, dir, func(tx *bolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "state %d", state))
			return errors.Join(err, tx.Bucket([]byte("events")).Put(seq(2), []byte("noise")),
				tx.Bucket([]byte("bodies")).Delete(seq(2)))
		})
		content := mustRead(t, file)
		for range 3 {
			failToOpen()
		}
		if names := fileNames(t, backups); len(names) != min(state+1, 2) {
			t.Errorf("after state %d the directory holds %v", state, names)
		} else if !bytes.HasPrefix(content, mustRead(t, filepath.Join(backups, names[len(names)-1]))) {
			t.Errorf("the newest of %v is not a copy of state %d", names, state)
		}
		if names := fileNames(t, dir); len(names) != 1 || !bytes.Equal(mustRead(t, file), content) {
			t.Errorf("the directory holds %v, or the ledger was changed", names)
		}
	}
}

// A scheduled backup leaves the reserve for events free.
func TestBackupLeavesTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := ledgertest.Start(t, ledger.Options{Dir: dir})
		ledgertest.FillDisk(t, l)
		stop := startBackups(t, &ledger.Backups{Ledger: l, Dir: filepath.Join(dir, "backups"), Every: time.Hour,
			Keep: 2})
		synctest.Wait()
		if attempts := stop(); len(attempts) != 1 || !errors.Is(attempts[0].err, ledger.ErrNoSpace) {
			t.Errorf("the attempts were %+v", attempts)
		}
	})
}
