package ledger

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tillhook/ledger/backup"
	"tillhook/ledger/store"
)

// Backups makes scheduled copies of a ledger in a directory and keeps the newest ones. Each copy is
// verified before it gets its final name, and older copies are deleted only after that. The
// directory may also hold copies of other ledgers.
type Backups struct {
	Ledger *Ledger
	Dir    string
	Every  time.Duration
	Keep   int                                          // the number of copies of this ledger
	Verify func(ctx context.Context, path string) error // returns an error for a damaged copy
	// OnAttempt is called after each attempt. path is empty if no copy was made. Otherwise err says
	// why older copies could not be deleted.
	OnAttempt func(path string, took time.Duration, err error)
}

// Delays after a failed attempt, which never exceed Backups.Every: usually retryBackup. If disk
// space was short, the delay is retryTimes the duration of the attempt, but at least retrySpace and
// at most retryBackup. An attempt that found no space at the start was cheap and can be repeated
// soon after space becomes free. One that filled a disk or a quota was not.
const (
	retryBackup = 10 * time.Minute
	retrySpace  = 30 * time.Second
	retryTimes  = 20
)

func (b *Backups) copies() backup.Copies {
	return backup.Scheduled(b.Dir, b.Ledger.livemode, b.Ledger.id)
}

// Newest returns when the newest copy was made. ok is false if there is no copy or the directory
// cannot be read.
func (b *Backups) Newest() (at time.Time, ok bool) {
	c := b.copies()
	made, err := c.Made(time.Now())
	if err != nil || len(made) == 0 {
		return time.Time{}, false
	}
	at, err = c.Time(made[len(made)-1])
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
		if ok && !strings.HasPrefix(e.Name(), b.copies().Prefix) {
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
	store.RemoveMatching(b.Dir, b.copies().Prefix+"*.db.new-*")
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
		b.OnAttempt(path, took, err)
		wait = b.Every
		switch {
		case path != "":
		case errors.Is(err, ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			wait = min(b.Every, max(retrySpace, min(retryTimes*took, retryBackup)))
		case err != nil:
			wait = min(b.Every, retryBackup)
		}
	}
}

// once makes one copy and deletes the oldest copies beyond b.Keep. It leaves the reserve for events
// free on the disk of the ledger. It returns the path of the copy even if older ones could not be
// deleted.
func (b *Backups) once(ctx context.Context, now time.Time) (path string, err error) {
	if err := backup.MakeDir(b.Dir); err != nil {
		return "", err
	}
	made := b.copies().Path(now)
	fill := func(w io.Writer) error { return b.Ledger.store.CopyInto(ctx, b.Dir, w) }
	if err := Save(made, fill, func(made string) error { return b.Verify(ctx, made) }); err != nil {
		return "", err
	}
	return made, b.copies().Prune(now, b.Keep)
}
