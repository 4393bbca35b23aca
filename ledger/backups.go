package ledger

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Backups copies a ledger into a folder again and again, and keeps the newest copies. Each is checked before it bears
// its name, and none is deleted before the next one has.
type Backups struct {
	Ledger *Ledger
	Dir    string
	Every  time.Duration
	Keep   int                                              // how many of this ledger's mode
	Verify func(ctx context.Context, path string) error     // proves a copy sound
	Tell   func(path string, took time.Duration, err error) // is called after every try
}

// backupTime is how a copy's name tells when it was made, in UTC; names sort as times do.
const backupTime = "20060102T150405Z"

// retryBackup is how long a failed try waits for the next one.
const retryBackup = 10 * time.Minute

func backupPrefix(livemode bool) string { return "tillhook-" + ModeName(livemode) + "-" }

func backupName(livemode bool, at time.Time) string {
	return backupPrefix(livemode) + at.UTC().Format(backupTime) + ".db"
}

// Newest tells when the newest copy was made; ok is false while there is none.
func (b *Backups) Newest() (at time.Time, ok bool) {
	made, err := b.made(time.Now())
	if err != nil || len(made) == 0 {
		return time.Time{}, false
	}
	newest := made[len(made)-1]
	at, err = time.Parse(backupTime, newest[len(backupPrefix(b.Ledger.livemode)):len(newest)-len(".db")])
	return at, err == nil
}

// Run makes copies until ctx ends: the first one when the newest there is old enough.
func (b *Backups) Run(ctx context.Context) error {
	// Copies that a process was making when it ended: who runs holds the ledger, so they are nobody else's.
	removeMatching(b.Dir, backupPrefix(b.Ledger.livemode)+"*.db.new-*")
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
		b.Tell(path, time.Since(begun), err)
		wait = b.Every
		if err != nil {
			wait = min(b.Every, retryBackup)
		}
	}
}

// once makes one copy and deletes those that are too many.
func (b *Backups) once(ctx context.Context, now time.Time) (path string, err error) {
	if err := makeDir(b.Dir); err != nil {
		return "", fmt.Errorf("make the folder for backups (TILLHOOK_BACKUP_DIR): %w", err)
	}
	path = filepath.Join(b.Dir, backupName(b.Ledger.livemode, now))
	fill := func(w io.Writer) error { return b.Ledger.CopyTo(Until(ctx, w)) }
	if err := Save(path, fill, func(made string) error { return b.Verify(ctx, made) }); err != nil {
		return "", err
	}
	made, err := b.made(now)
	if err != nil {
		return path, err
	}
	for len(made) > b.Keep {
		if err := os.Remove(filepath.Join(b.Dir, made[0])); err != nil {
			return path, fmt.Errorf("delete the oldest backup: %w", err)
		}
		made = made[1:]
	}
	return path, nil
}

// made lists the names of the copies, the oldest first. Other files in the folder are not ours to delete, and one that is named
// for the future, by a clock that was wrong, says nothing about when it was made.
func (b *Backups) made(now time.Time) (names []string, err error) {
	newest := backupName(b.Ledger.livemode, now)
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		return nil, fmt.Errorf("look for backups: %w", err)
	}
	for _, e := range entries {
		if ok, _ := filepath.Match(backupPrefix(b.Ledger.livemode)+"????????T??????Z.db", e.Name()); ok && e.Name() <= newest {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}
