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
	"strings"
	"syscall"
	"time"

	"tillhook/ledger/store"
)

// Backups makes scheduled copies of a ledger in a directory and keeps the newest ones. Each copy is
// verified before it gets its final name, and older copies are deleted only after that. The
// directory may also hold copies of other ledgers.
type Backups struct {
	Ledger *Ledger
	Dir    string
	Every  time.Duration
	Keep   int                                              // the number of copies of this ledger
	Verify func(ctx context.Context, path string) error     // returns an error for a damaged copy
	Tell   func(path string, took time.Duration, err error) // is called after each attempt
}

// backupTime is the layout of the UTC time in the name of a copy. Names sort in the order of their
// times.
const backupTime = "20060102T150405Z"

// Delays after a failed attempt, which never exceed Backups.Every: usually retryBackup. If disk
// space was short, the delay is retryTimes the duration of the attempt, but at least retrySpace and
// at most retryBackup. An attempt that found no space at the start was cheap and can be repeated
// soon after space becomes free. One that filled a disk or a quota was not.
const (
	retryBackup = 10 * time.Minute
	retrySpace  = 30 * time.Second
	retryTimes  = 20
)

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

func (b *Backups) copies() copies { return backupsOf(b.Dir, b.Ledger.livemode, b.Ledger.id) }

// Newest returns when the newest copy was made. ok is false if there is no copy or the directory
// cannot be read.
func (b *Backups) Newest() (at time.Time, ok bool) {
	c := b.copies()
	made, err := c.made(time.Now())
	if err != nil || len(made) == 0 {
		return time.Time{}, false
	}
	at, err = c.time(made[len(made)-1])
	return at, err == nil
}

// Others returns the number of copies of other ledgers in the directory. Run never deletes them.
func (b *Backups) Others() (n int) {
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		return 0 // Run reports the error
	}
	for _, e := range entries {
		ok, _ := filepath.Match("tillhook-*-????????T??????Z.db", e.Name())
		if ok && !strings.HasPrefix(e.Name(), b.copies().prefix) {
			n++
		}
	}
	return n
}

// Run makes copies until ctx ends. It makes the first one at once if no copy exists, or when the
// newest copy is b.Every old.
func (b *Backups) Run(ctx context.Context) error {
	// Remove the unfinished copies of an earlier process. This process holds the ledger, so no
	// other process is copying it.
	store.RemoveMatching(b.Dir, b.copies().prefix+"*.db.new-*")
	wait := time.Duration(0)
	if at, ok := b.Newest(); ok {
		wait = time.Until(at.Add(b.Every))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		begun := time.Now()
		path, err := b.once(ctx, begun)
		if ctx.Err() != nil {
			return nil
		}
		took := time.Since(begun)
		b.Tell(path, took, err)
		wait = b.Every
		switch {
		case errors.Is(err, ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			wait = min(b.Every, max(retrySpace, min(retryTimes*took, retryBackup)))
		case err != nil:
			wait = min(b.Every, retryBackup)
		}
	}
}

// once makes one copy and deletes the oldest copies beyond b.Keep. It leaves the reserve for events
// free on the disk of the ledger.
func (b *Backups) once(ctx context.Context, now time.Time) (path string, err error) {
	if err := makeBackupDir(b.Dir); err != nil {
		return "", err
	}
	path = b.copies().path(now)
	fill := func(w io.Writer) error { return b.Ledger.store.CopyInto(ctx, b.Dir, w) }
	if err := Save(path, fill, func(made string) error { return b.Verify(ctx, made) }); err != nil {
		return "", err
	}
	return path, b.copies().prune(now, b.Keep)
}

func makeBackupDir(dir string) error {
	if err := store.MakeDir(dir); err != nil {
		return fmt.Errorf("make the folder for backups (TILLHOOK_BACKUP_DIR): %w", err)
	}
	return nil
}

// backup copies the old file byte for byte, so that the version that wrote it can open it again. A
// failed migration is tried again at each start, so a copy of the same state is not made twice.
func (r *rebuild) backup(ctx context.Context) (string, error) {
	if err := makeBackupDir(r.opts.BackupDir); err != nil {
		return "", err
	}
	// Names have a resolution of one second. If several states are copied within one second, the
	// later copies are named for the following seconds, so names that are slightly ahead of the
	// clock count.
	now := time.Now().Add(copiesAhead)
	c := beforeMigrations(r.opts.BackupDir, r.livemode, r.id)
	store.RemoveMatching(c.dir, c.prefix+"*.db.new-*")
	made, err := c.made(now)
	if err != nil {
		return "", err
	}
	for _, path := range made {
		if copiedAs(ctx, r.source, path) {
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
	err = Save(path, func(w io.Writer) error { return r.source.CopyFile(ContextWriter(ctx, w)) }, func(made string) error { _, err := store.VerifyPages(ctx, made); return err })
	if err == nil && r.opts.BackupKeep > 0 {
		err = c.prune(now, r.opts.BackupKeep)
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
