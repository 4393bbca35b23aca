package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// The pages of a rebuilt file are full and hardly any is free, in whatever order the ids arrived. A
// second rebuild makes the file no larger.
func TestRebuildIsCompact(t *testing.T) {
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	l.LimitBuffer(200)
	stop := ledgertest.Run(t, l)
	rng := rand.New(rand.NewPCG(1, 2))
	errs := make(chan error, 3000)
	for i := range cap(errs) {
		e := succeeded(fmt.Sprintf("evt_%016x", rng.Uint64()), fmt.Sprintf("pi_%016x", rng.Uint64()))
		e.Raw = bytes.Repeat([]byte(fmt.Sprintf("%016x ", rng.Uint64())), 20)
		go func() { _, err := l.Append(t.Context(), e); errs <- err }()
		if i%50 == 49 {
			for range 50 {
				must(t, <-errs)
			}
		}
	}
	stop()
	must(t, l.Close())
	path := ledger.Path(dir)
	before := mustVerify(t, path)
	var sizes []int64
	for range 2 {
		done, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false)
		must(t, err)
		after := mustVerify(t, path)
		if done.NewBytes != after.Bytes || after.Bytes != after.Used || after.FreePages > 12 {
			t.Errorf("the rebuild returned %+v, the report is %+v", done, after)
		}
		sizes = append(sizes, after.Used)
		must(t, os.Remove(done.Kept))
	}
	t.Logf("%d bytes were in use before, %d after each rebuild", before.Used, sizes)
	if float64(sizes[0]) > 0.8*float64(before.Used) || sizes[1] > sizes[0] {
		t.Errorf("%d bytes were in use before, %d after each rebuild", before.Used, sizes)
	}
}

// A rebuilt file has the owner, group and mode of the old one.
func TestRebuildKeepsOwnerAndMode(t *testing.T) {
	dir := scenarioLedger(t)
	path := filepath.Join(dir, "ledger.db")
	must(t, os.Chmod(path, 0o640))
	if os.Geteuid() == 0 {
		must(t, os.Chown(path, 64001, 64002))
	}
	var before, after syscall.Stat_t
	must(t, syscall.Stat(path, &before))
	_, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false)
	must(t, err, syscall.Stat(path, &after))
	if before.Ino == after.Ino || before.Uid != after.Uid || before.Gid != after.Gid || before.Mode != after.Mode {
		t.Errorf("the file was %+v and is %+v", before, after)
	}
}

// A rebuild and a migration end when their context is canceled, at any step. They leave the old
// file unchanged and no other files.
func TestRebuildAndMigrationStopOnCancel(t *testing.T) {
	for what, run := range map[string]func(ctx context.Context, opts ledger.Options) error{
		"a rebuild": func(ctx context.Context, opts ledger.Options) error {
			_, err := ledger.Rebuild(ctx, opts, true)
			return err
		},
		"a migration": func(ctx context.Context, opts ledger.Options) error {
			l, err := ledger.OpenContext(ctx, opts)
			if err == nil {
				err = l.Close()
			}
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			_, file := olderLedger(t)
			stops := 0
			for left, step := 0, 1; ; left += step {
				dir := t.TempDir()
				must(t, os.WriteFile(ledger.Path(dir), file, 0o600))
				backups := t.TempDir()
				err := run(&countingContext{Context: context.Background(), limit: int64(left)},
					ledger.Options{Dir: dir, Decode: decode, BackupDir: backups})
				if err == nil {
					break
				}
				stops++
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("canceled at check %d it returned %v", left, err)
				}
				if names := fileNames(t, dir); len(names) != 1 ||
					!bytes.Equal(mustRead(t, filepath.Join(dir, "ledger.db")), file) {
					t.Fatalf("canceled at check %d it left %v, or changed the ledger", left, names)
				}
				for _, name := range fileNames(t, backups) {
					if copied := mustRead(t, filepath.Join(backups, name)); len(copied) < 4*4096 ||
						!bytes.HasPrefix(file, copied) {
						t.Fatalf("canceled at check %d it left the backup %s", left, name)
					}
				}
				step = 1 + left/4
			}
			if stops < 12 {
				t.Errorf("only %d steps checked the context", stops)
			}
		})
	}
}
