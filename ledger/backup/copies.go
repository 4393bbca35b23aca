// Package backup names, lists and deletes the copies of ledgers in a directory, and makes the copy
// that precedes a migration.
//
// A directory may hold copies of several ledgers. The name of a copy contains the id of its ledger,
// and copies of other ledgers are never touched.
package backup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// backupTime is the layout of the UTC time in the name of a copy. Names sort in the order of their
// times.
const backupTime = "20060102T150405Z"

// Copies describes the copies of one ledger and of one kind in a directory. The name of a copy is
// the prefix, the time and ".db".
type Copies struct{ Dir, Prefix string }

// Scheduled returns the scheduled copies of a ledger.
func Scheduled(dir string, livemode bool, id string) Copies {
	return Copies{dir, "tillhook-" + schema.ModeName(livemode) + "-" + id + "-"}
}

// BeforeMigrations returns the copies that were made before a ledger was migrated to a newer
// schema. They are kept apart from the scheduled copies, because only their pages were verified.
func BeforeMigrations(dir string, livemode bool, id string) Copies {
	c := Scheduled(dir, livemode, id)
	c.Prefix += "old-"
	return c
}

// Path returns the path of a copy that is made at a time.
func (c Copies) Path(at time.Time) string {
	return filepath.Join(c.Dir, c.Prefix+at.UTC().Format(backupTime)+".db")
}

// Time returns the time in the name of a copy.
func (c Copies) Time(path string) (time.Time, error) {
	name := filepath.Base(path)
	return time.Parse(backupTime, name[len(c.Prefix):len(name)-len(".db")])
}

// Made returns the paths of the copies, oldest first. It leaves out other files, which this program
// must not delete, and copies whose name is later than now: a clock that was ahead named them, so
// the name does not say when they were made.
func (c Copies) Made(now time.Time) (paths []string, err error) {
	newest := c.Path(now)
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("list the backups: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(c.Dir, e.Name())
		if ok, _ := filepath.Match(c.Prefix+"????????T??????Z.db", e.Name()); ok && path <= newest {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// Prune deletes the oldest copies until keep of them are left. If one cannot be deleted, Prune
// still deletes the others.
func (c Copies) Prune(now time.Time, keep int) error {
	made, err := c.Made(now)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range made[:max(0, len(made)-keep)] {
		if err := os.Remove(path); err != nil {
			errs = append(errs, fmt.Errorf("delete an old backup: %w", err))
		}
	}
	return errors.Join(errs...)
}

// MakeDir makes a directory for copies.
func MakeDir(dir string) error {
	if err := store.MakeDir(dir); err != nil {
		return fmt.Errorf("make the folder for backups (TILLHOOK_BACKUP_DIR): %w", err)
	}
	return nil
}

// Add copies a ledger byte for byte, so that the version that wrote it can open it again, and
// returns the path of the copy. A failed migration is tried again at each start, so a copy of the
// same state is not made twice. Afterwards add deletes the oldest copies until keep of them are
// left; 0 keeps all.
func (c Copies) Add(ctx context.Context, source *store.Store, keep int) (string, error) {
	if err := MakeDir(c.Dir); err != nil {
		return "", err
	}
	// Names have a resolution of one second. If several states are copied within one second, the
	// later copies are named for the following seconds, so names that are slightly ahead of the
	// clock count.
	now := time.Now().Add(copiesAhead)
	store.RemoveMatching(c.Dir, c.Prefix+"*.db.new-*")
	made, err := c.Made(now)
	if err != nil {
		return "", err
	}
	for _, path := range made {
		if copiedAs(ctx, source, path) {
			return path, nil
		}
	}
	at := time.Now()
	if n := len(made); n > 0 && c.Path(at) <= made[n-1] {
		// The name for the current time may be free because an older copy was pruned. With that
		// name, this copy would sort as the oldest, and the oldest is deleted first.
		newest, err := c.Time(made[n-1])
		if err != nil {
			return "", fmt.Errorf("read the time in the name of the backup %s: %w", made[n-1], err)
		}
		at = newest.Add(time.Second)
	}
	path := c.Path(at)
	err = store.Save(path, func(w io.Writer) error { return source.CopyFile(store.ContextWriter(ctx, w)) }, func(made string) error { _, err := store.VerifyPages(ctx, made); return err })
	if err == nil && keep > 0 {
		err = c.Prune(now, keep)
	}
	return path, err
}

// copiesAhead is how far the name of a copy made before a migration may be ahead of the clock.
const copiesAhead = time.Minute

// copiedAs reports whether the file at path is a byte-for-byte copy of the current state of the
// ledger. It compares the whole file, because the meta pages can be equal in two states.
func copiedAs(ctx context.Context, s *store.Store, path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	copied := bufio.NewReaderSize(f, 1<<20)
	same := func(p []byte) (int, error) {
		other, err := copied.Peek(len(p))
		if err == nil && !bytes.Equal(p, other) {
			err = errors.New("not the same")
		}
		if err != nil {
			return 0, err
		}
		return copied.Discard(len(p))
	}
	if err := s.CopyFile(store.ContextWriter(ctx, writeFunc(same))); err != nil {
		return false
	}
	_, err = copied.ReadByte()
	return err == io.EOF
}

// writeFunc is a function that implements [io.Writer].
type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }
