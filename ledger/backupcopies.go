package ledger

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

	"tillhook/ledger/store"
)

// backupTime is the layout of the UTC time in the name of a copy. Names sort in the order of their
// times.
const backupTime = "20060102T150405Z"

// copies describes the copies of one ledger and of one kind in a directory. The name of a copy is
// the prefix, the time and ".db".
type copies struct{ dir, prefix string }

// backupsOf returns the scheduled copies of a ledger.
func backupsOf(dir string, livemode bool, id string) copies {
	return copies{dir, "tillhook-" + ModeName(livemode) + "-" + id + "-"}
}

// beforeMigrations returns the copies that were made before a ledger was migrated to a newer
// schema. They are kept apart from the scheduled copies, because only their pages were verified.
func beforeMigrations(dir string, livemode bool, id string) copies {
	c := backupsOf(dir, livemode, id)
	c.prefix += "old-"
	return c
}

func (c copies) path(at time.Time) string {
	return filepath.Join(c.dir, c.prefix+at.UTC().Format(backupTime)+".db")
}

// time returns the time in the name of a copy.
func (c copies) time(path string) (time.Time, error) {
	name := filepath.Base(path)
	return time.Parse(backupTime, name[len(c.prefix):len(name)-len(".db")])
}

// made returns the paths of the copies, oldest first. It leaves out other files, which this program
// must not delete, and copies whose name is later than now: a clock that was ahead named them, so
// the name does not say when they were made.
func (c copies) made(now time.Time) (paths []string, err error) {
	newest := c.path(now)
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("look for backups: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(c.dir, e.Name())
		if ok, _ := filepath.Match(c.prefix+"????????T??????Z.db", e.Name()); ok && path <= newest {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// prune deletes the oldest copies until keep of them are left.
func (c copies) prune(now time.Time, keep int) error {
	made, err := c.made(now)
	if err != nil {
		return err
	}
	for len(made) > keep {
		if err := os.Remove(made[0]); err != nil {
			return fmt.Errorf("delete the oldest backup: %w", err)
		}
		made = made[1:]
	}
	return nil
}

func makeBackupDir(dir string) error {
	if err := store.MakeDir(dir); err != nil {
		return fmt.Errorf("make the folder for backups (TILLHOOK_BACKUP_DIR): %w", err)
	}
	return nil
}

// add copies a ledger byte for byte, so that the version that wrote it can open it again, and
// returns the path of the copy. A failed migration is tried again at each start, so a copy of the
// same state is not made twice. Afterwards add deletes the oldest copies until keep of them are
// left; 0 keeps all.
func (c copies) add(ctx context.Context, source *store.Store, keep int) (string, error) {
	if err := makeBackupDir(c.dir); err != nil {
		return "", err
	}
	// Names have a resolution of one second. If several states are copied within one second, the
	// later copies are named for the following seconds, so names that are slightly ahead of the
	// clock count.
	now := time.Now().Add(copiesAhead)
	store.RemoveMatching(c.dir, c.prefix+"*.db.new-*")
	made, err := c.made(now)
	if err != nil {
		return "", err
	}
	for _, path := range made {
		if copiedAs(ctx, source, path) {
			return path, nil
		}
	}
	at := time.Now()
	if n := len(made); n > 0 && c.path(at) <= made[n-1] {
		// The name for the current time may be free because an older copy was pruned. With that
		// name, this copy would sort as the oldest, and the oldest is deleted first.
		newest, err := c.time(made[n-1])
		if err != nil {
			return "", fmt.Errorf("read the time in the name of the backup %s: %w", made[n-1], err)
		}
		at = newest.Add(time.Second)
	}
	path := c.path(at)
	err = Save(path, func(w io.Writer) error { return source.CopyFile(ContextWriter(ctx, w)) }, func(made string) error { _, err := store.VerifyPages(ctx, made); return err })
	if err == nil && keep > 0 {
		err = c.prune(now, keep)
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
	if err := s.CopyFile(ContextWriter(ctx, writeFunc(same))); err != nil {
		return false
	}
	_, err = copied.ReadByte()
	return err == io.EOF
}

// writeFunc is a function that implements [io.Writer].
type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }
