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
	"tillhook/ledger/store"
	"time"
)

// Backups copies a ledger into a folder again and again, and keeps the newest copies. Each is
// checked before it bears its name, and none is deleted before the next one has. Other ledgers can
// have their copies in the same folder.
type Backups struct {
	Ledger *Ledger
	Dir    string
	Every  time.Duration
	Keep   int                                              // how many of this ledger
	Verify func(ctx context.Context, path string) error     // proves a copy sound
	Tell   func(path string, took time.Duration, err error) // is called after every try
}

// backupTime is how a copy's name tells when it was made, in UTC; names sort as times do.
const backupTime = "20060102T150405Z"

// A failed try waits so long for the next one. One that finds no room mostly costs nothing, and is to
// be made soon after there is some; one that has filled a disk, or a quota, waits retryTimes as long
// as that took.
const (
	retryBackup = 10 * time.Minute
	retryRoom   = 30 * time.Second
	retryTimes  = 20
)

// copies are those of one ledger and one kind in a folder: their names are the prefix, the time and
// ".db".
type copies struct{ dir, prefix string }

// backupsOf are the scheduled copies of a ledger.
func backupsOf(dir string, livemode bool, id string) copies {
	return copies{dir, "tillhook-" + ModeName(livemode) + "-" + id + "-"}
}

// beforeMigrations are the copies that were made before the ledger was brought up to date. They are
// apart from the scheduled ones: nothing has proved them sound.
func beforeMigrations(dir string, livemode bool, id string) copies {
	c := backupsOf(dir, livemode, id)
	c.prefix += "old-"
	return c
}

func (c copies) path(at time.Time) string {
	return filepath.Join(c.dir, c.prefix+at.UTC().Format(backupTime)+".db")
}

// time returns when a copy was made, as its name says.
func (c copies) time(path string) (time.Time, error) {
	name := filepath.Base(path)
	return time.Parse(backupTime, name[len(c.prefix):len(name)-len(".db")])
}

// made lists the copies, the oldest first. Other files in the folder are not ours to delete, and
// one that is named for the future, by a clock that was wrong, says nothing about when it was made.
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

// prune deletes the oldest copies until so many are left.
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

// Newest tells when the newest copy was made; ok is false while there is none.
func (b *Backups) Newest() (at time.Time, ok bool) {
	c := b.copies()
	made, err := c.made(time.Now())
	if err != nil || len(made) == 0 {
		return time.Time{}, false
	}
	at, err = c.time(made[len(made)-1])
	return at, err == nil
}

// Others returns how many copies of other ledgers are in the folder. They are left alone.
func (b *Backups) Others() (n int) {
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		return 0 // Run says what is wrong
	}
	for _, e := range entries {
		ok, _ := filepath.Match("tillhook-*-????????T??????Z.db", e.Name())
		if ok && !strings.HasPrefix(e.Name(), b.copies().prefix) {
			n++
		}
	}
	return n
}

// Run makes copies until ctx ends: the first one when the newest there is old enough.
func (b *Backups) Run(ctx context.Context) error {
	// Copies that a process was making when it ended: who runs holds the ledger, so they are nobody else's.
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
			wait = min(b.Every, max(retryRoom, min(retryTimes*took, retryBackup)))
		case err != nil:
			wait = min(b.Every, retryBackup)
		}
	}
}

// once makes one copy and deletes those that are too many. It leaves what is reserved for events on
// the ledger's disk.
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

// backup copies the old file as it is: a version that wrote it can go back to it. A migration that
// fails is tried again at each start, so a copy that is there already is not made again.
func (r *rebuild) backup(ctx context.Context) (string, error) {
	if err := makeBackupDir(r.opts.BackupDir); err != nil {
		return "", err
	}
	// A name shows a whole second: states that follow within one take the next ones, and count as
	// made.
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
		// A name that an older copy has left free would make this one the oldest, and the first to
		// be deleted.
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

// copiesAhead is by how much the names of copies before migrations may be ahead of the clock.
const copiesAhead = time.Minute

// copiedAs reports whether a file is a copy of the ledger as it is, byte for byte. (Meta pages can
// be the same in two states.)
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

// writeFunc is an [io.Writer].
type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }
