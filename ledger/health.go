package ledger

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Health is the state of the write path of the ledger.
type Health struct {
	LastCommit time.Time // zero if no commit has succeeded since Open
	// Err is why events may not be stored: the last commit failed, the current one hangs, or the
	// last events met damage. It is nil while writing works.
	Err error
	// Fault is what happened to the file, if that is the cause. Err wraps it.
	Fault *FileFault
}

// hangs is how long the disk may take before the ledger counts as unavailable. Senders give up
// waiting soon after that.
const hangs = 4 * time.Second

// maxDamaged is the number of consecutive events that must meet damage before the ledger counts as
// unavailable. If only one payment is damaged, events about other payments are stored in between.
const maxDamaged = 3

// damage describes the damage that the last events met.
type damage struct {
	events int // consecutive events
	last   string
	err    error
}

// noteDamage counts consecutive events that could not be stored because data in the file is
// damaged. Repeated deliveries of the same event count once. Events that were not delivered do not
// count, because they are tried in the order of their payments.
func (l *Ledger) noteDamage(e *Event, err error) {
	met := errors.Is(err, ErrCorrupt)
	if met && e.Source != Webhook {
		return
	}
	if err != nil && !met {
		return // the error does not concern the data in the file
	}
	for {
		old := l.damage.Load()
		var now *damage
		switch {
		case met && old == nil:
			now = &damage{1, e.ID, err}
		case met && old.last == e.ID:
			return
		case met:
			now = &damage{old.events + 1, e.ID, err}
		case old == nil:
			return
		}
		if l.damage.CompareAndSwap(old, now) {
			return
		}
	}
}

// Health returns the state of the write path. It does not access the disk.
func (l *Ledger) Health() Health {
	var h Health
	if began := l.began.Load(); began != 0 {
		if took := time.Since(time.Unix(0, began)); took > hangs {
			h.Err = fmt.Errorf("%w: a disk operation has not returned for %s", ErrUnavailable, took.Round(time.Second))
		}
	}
	h.LastCommit = l.published.Load().lastCommit
	if d := l.damage.Load(); d != nil && d.events >= maxDamaged {
		h.Fault = &FileFault{
			What: fmt.Sprintf("the ledger %s is damaged (%s)", l.Path(), strings.TrimPrefix(d.err.Error(), ErrUnavailable.Error()+": ")),
			Next: "run tillhook verify, which says more; restore a backup, and fetch what came after it: tillhook reconcile",
		}
		h.Err = fmt.Errorf("%w: %w", ErrUnavailable, h.Fault)
	}
	if f := l.failure(); f != nil {
		h.Err, h.Fault = f.err, nil
		errors.As(f.err, &h.Fault)
	}
	return h
}

// Committing reports whether the committer is using the disk, usually for a commit. It does not
// access the disk itself.
func (l *Ledger) Committing() bool { return l.began.Load() != 0 }

// LastEvent returns when the newest event was delivered, not counting events that were fetched. ok
// is false if no event was delivered.
func (l *Ledger) LastEvent() (t time.Time, ok bool) {
	ms := l.published.Load().Delivered.At(l.wall())
	return time.UnixMilli(ms), ms != 0
}
