package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"

	bolt "go.etcd.io/bbolt"
)

// A backup that found no room is made within a minute after there is some.
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
		stop := startBackups(t, &ledger.Backups{Ledger: l, Dir: filepath.Join(dir, "backups"), Every: 24 * time.Hour, Keep: 2})
		time.Sleep(12 * time.Minute)
		if err := os.Truncate(l.Path(), info.Size()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		attempts := stop()
		last := attempts[len(attempts)-1]
		if !errors.Is(attempts[0].err, ledger.ErrNoSpace) || last.err != nil || len(attempts) > 40 {
			t.Errorf("the tries were %+v", attempts)
		}
	})
}

// A try that fills a disk, which takes its time, is not made again at once.
func TestBackupThatFillsTheDiskIsNotRetriedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fill := func(context.Context, string) error { time.Sleep(12 * time.Second); return syscall.ENOSPC }
		b := &ledger.Backups{Ledger: ledgertest.Open(t, false), Dir: t.TempDir(), Every: 24 * time.Hour, Keep: 2, Verify: fill}
		stop := startBackups(t, b)
		time.Sleep(time.Hour)
		if n := len(stop()); n < 6 || n > 20 {
			t.Errorf("%d tries were made in an hour", n)
		}
	})
}

// try is what Backups tells.
type attempt struct {
	at   time.Time
	name string
	err  error
}

// backing runs backups in a bubble of fake time; what it returns stops them and returns the attempts.
func startBackups(t *testing.T, b *ledger.Backups) (stop func() []attempt) {
	t.Helper()
	var attempts []attempt
	b.Tell = func(path string, _ time.Duration, err error) {
		attempts = append(attempts, attempt{time.Now(), filepath.Base(path), err})
	}
	if b.Verify == nil {
		b.Verify = func(_ context.Context, path string) error { _, err := ledger.Verify(path); return err }
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	return func() []attempt {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("backups ended with %v", err)
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
			t.Errorf("%d copies at once", n)
		}
		others := []string{"notes.txt", "tillhook-2026-11-23.db", "tillhook-live-" + l.ID() + "-19990101T000000Z.db", "tillhook-test-" + l.ID() + "-19990101T000000Z.db.old",
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
			if c.err != nil || c.name != "tillhook-test-"+l.ID()+"-"+c.at.UTC().Format("20060102T150405Z")+".db" || i > 0 && (c.at.Sub(attempts[i-1].at) != time.Hour || c.name <= attempts[i-1].name) {
				t.Errorf("try %d: %+v", i, c)
			}
			made = append(made, c.name)
		}
		if len(made) != 11 {
			t.Fatalf("%d copies in ten hours", len(made))
		}
		if n := (&ledger.Backups{Ledger: l, Dir: dir}).Others(); n != 2 {
			t.Errorf("%d copies are of other ledgers", n)
		}
		want := slices.Sorted(slices.Values(append(made[8:], others...)))
		if names := fileNames(t, dir); !slices.Equal(names, want) {
			t.Errorf("the folder holds %v, want %v", names, want)
		}
		if proof := mustVerify(t, filepath.Join(dir, made[10])); proof.Events != 10 {
			t.Errorf("the newest is %+v", proof)
		}
		for _, name := range others {
			if b := mustRead(t, filepath.Join(dir, name)); string(b) != "mine" {
				t.Errorf("%s holds %.20q", name, b)
			}
		}
	})
}

// A start does not make a copy before the newest one is old enough; that of the other mode does not count.
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
			t.Errorf("%+v since %v", attempts, began)
		}
	})
}

// A copy that does not prove sound is told, is not kept, and costs no older one; the next try comes soon.
func TestDamagedBackupIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, dir := ledgertest.Open(t, false), t.TempDir()
		fault := errors.New("a fault")
		var failing atomic.Bool
		stop := startBackups(t, &ledger.Backups{Ledger: l, Dir: dir, Every: time.Hour, Keep: 1, Verify: func(context.Context, string) error {
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
			t.Errorf("the folder held %v and holds %v", before, names)
		}
		failing.Store(false)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		attempts := stop()
		if len(attempts) != 3 || !errors.Is(attempts[1].err, fault) || attempts[2].err != nil || attempts[2].at.Sub(attempts[1].at) != 10*time.Minute {
			t.Errorf("the tries were %+v", attempts)
		}
		if names := fileNames(t, dir); len(names) != 1 || names[0] == before[0] {
			t.Errorf("the folder holds %v", names)
		}
	})
}

// A copy named for the future by a clock that was wrong keeps no copy from being made, and is none of those that are counted.
func TestBackupsIgnoreCopiesDatedInTheFuture(t *testing.T) {
	l := ledgertest.Open(t, false)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tillhook-test-"+l.ID()+"-20990101T000000Z.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 100)
	b := ledger.Backups{Ledger: l, Dir: dir, Every: time.Hour, Keep: 1, Verify: func(context.Context, string) error { return nil },
		Tell: func(_ string, _ time.Duration, err error) { told <- err }}
	if at, ok := b.Newest(); ok {
		t.Errorf("the newest copy is of %v", at)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	select {
	case err := <-told:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("no copy is made")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if at, ok := b.Newest(); !ok || time.Since(at) > time.Minute {
		t.Errorf("the newest copy is of %v, %v", at, ok)
	}
}

// Before a file of an older schema is brought up to date, a copy of it as it is goes where the other copies are.
func TestOldFileIsBackedUpBeforeMigration(t *testing.T) {
	dir, file := olderLedger(t)
	backups := filepath.Join(t.TempDir(), "made", "for", "it")
	l, err := ledger.Open(ledger.Options{Dir: dir, Decode: decode, BackupDir: backups})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// What the copy leaves out is the space behind the last page.
	if names := fileNames(t, backups); len(names) != 1 || filepath.Join(backups, names[0]) != l.Migrated.Backup || !bytes.HasPrefix(file, mustRead(t, l.Migrated.Backup)) {
		t.Errorf("%v was copied to %v", l.Migrated, names)
	}
}

// Receivers that share a folder for backups keep each their own copies.
func TestLedgersShareABackupDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var stops []func() []attempt
		for range 2 {
			stops = append(stops, startBackups(t, &ledger.Backups{Ledger: ledgertest.Open(t, false), Dir: dir, Every: time.Hour, Keep: 2}))
		}
		time.Sleep(10*time.Hour + time.Minute)
		synctest.Wait()
		want := 0
		for _, stop := range stops {
			attempts := stop()
			if len(attempts) != 11 {
				t.Errorf("%d copies", len(attempts))
			}
			for i, c := range attempts {
				if _, err := os.Stat(filepath.Join(dir, c.name)); c.err != nil || (err == nil) != (i >= len(attempts)-2) {
					t.Errorf("copy %d of %d: %v, %v", i, len(attempts), c.err, err)
				}
			}
			want += 2
		}
		if names := fileNames(t, dir); len(names) != want {
			t.Errorf("the folder holds %v", names)
		}
	})
}

// A migration that fails at each start copies the old file once, and not once more in the same
// second. Copies of several states within one second, which is all the time that passes here, are
// kept and deleted in their order.
func TestFailingMigrationBacksUpOnce(t *testing.T) {
	_, old := olderLedger(t)
	synctest.Test(t, func(t *testing.T) { testFailingMigrationBacksUpOnce(t, old) })
}

func testFailingMigrationBacksUpOnce(t *testing.T, old []byte) {
	dir, backups := t.TempDir(), t.TempDir()
	fails := func() {
		t.Helper()
		l, err := ledger.OpenContext(t.Context(), ledger.Options{Dir: dir, BackupDir: backups, BackupKeep: 2, Decode: func([]byte) *ledger.Event {
			return &ledger.Event{Facts: ledger.Facts{Intents: make([]ledger.Intent, 1<<20)}} // what no row can hold
		}})
		if err == nil || errors.Is(err, os.ErrExist) {
			t.Fatalf("a start gave %v, %v", l, err)
		}
	}
	for state := range 4 {
		file := filepath.Join(dir, "ledger.db")
		must(t, os.WriteFile(file, old, 0o600))
		edit(t, dir, func(tx *bolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(fmt.Appendf(nil, "state %d", state))
			return errors.Join(err, tx.Bucket([]byte("events")).Put(seq(2), []byte("noise")), tx.Bucket([]byte("bodies")).Delete(seq(2)))
		})
		content := mustRead(t, file)
		for range 3 {
			fails()
		}
		if names := fileNames(t, backups); len(names) != min(state+1, 2) {
			t.Errorf("after state %d the folder holds %v", state, names)
		} else if !bytes.HasPrefix(content, mustRead(t, filepath.Join(backups, names[len(names)-1]))) {
			t.Errorf("the newest of %v is no copy of state %d", names, state)
		}
		if names := fileNames(t, dir); len(names) != 1 || !bytes.Equal(mustRead(t, file), content) {
			t.Errorf("the folder holds %v, or the ledger was changed", names)
		}
	}
}

// A scheduled backup leaves what is reserved for events.
func TestBackupLeavesTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := ledgertest.Start(t, ledger.Options{Dir: dir})
		ledgertest.FillDisk(t, l)
		stop := startBackups(t, &ledger.Backups{Ledger: l, Dir: filepath.Join(dir, "backups"), Every: time.Hour, Keep: 2})
		synctest.Wait()
		if attempts := stop(); len(attempts) != 1 || !errors.Is(attempts[0].err, ledger.ErrNoSpace) {
			t.Errorf("the tries were %+v", attempts)
		}
	})
}
