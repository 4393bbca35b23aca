package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tillhook/ledger/schema"
)

// Event is one verified event to be stored. Append does not change it. The caller must not change
// it either, including Raw and even after Append has returned, because an Append whose context has
// ended may still be in progress.
type Event struct {
	// ID is Stripe's id, of the form [A-Za-z0-9_.-]{1,255}, or sha256_<hex of Raw> if the event has
	// no id.
	ID      string
	Type    string // empty if the event has none
	Account string // the connected or organisation account; empty for the platform itself
	// Context is the path for the Stripe-Context header, as events of organisations name it.
	// Otherwise it is empty.
	Context    string
	Livemode   bool   // of the event, or of the receiver if the body has no mode
	Created    int64  // Unix seconds by Stripe's clock; 0 if unknown
	APIVersion string // of the body; empty if it names none
	Source     Source
	Received   time.Time
	Quarantine Reason // why the event cannot be used; empty if it can
	Expected   bool   // nothing is missing because of the quarantine; see [Expected]
	// Snapshot is, for a thin event, the id of the snapshot event: the one that reports the same
	// and contains the object. It is empty if the thin event names none.
	Snapshot string
	Facts    Facts
	Raw      []byte // the body that was signed
}

// Result is what Append did with an event.
type Result struct {
	Status    Outcome // AlreadyProcessed for a repeat
	Reason    Reason  // set if Status is Quarantined
	PaymentID string  // empty if the event is about no payment
	Sequence  uint64  // the event's row
	Repeat    bool    // the id already had a row
	Unlinked  bool    // the event is about money, but names no PaymentIntent and no charge
}

// Append stores the event once and folds it into its payment, in one transaction. It returns when
// the transaction is durable or when ctx ends. If ctx ends, the event may still be stored, so an
// error means "unknown" unless it is [ErrOverloaded] or [ErrClosed]. A repeat of a known event is
// counted and needs no commit. An event that is in quarantine and can be used now is posted in a
// new row, which refers to its old one.
func (l *Ledger) Append(ctx context.Context, e *Event) (Result, error) {
	if l.readOnly {
		return Result{}, ErrReadOnly
	}
	if err := e.check(l.livemode); err != nil {
		return Result{}, err
	}
	if f := l.failure(); f != nil {
		return Result{}, f.err
	}
	p := newPending(e, l.bodies.Encode(e.Raw))
	if err := l.queue.wait(ctx, p); err != nil {
		l.noteDamage(e, err)
		return Result{}, err // p may still be in progress
	}
	l.noteDamage(e, nil)
	return p.result, nil
}

// check rejects an event that could be written but not read back.
func (e *Event) check(livemode bool) error {
	if e.Livemode != livemode && e.Quarantine == "" {
		return fmt.Errorf("the event %.40q is of %s mode: a ledger of the other one holds it in quarantine or not at all", e.ID, ModeName(e.Livemode))
	}
	if e.ID == "" || len(e.ID) > maxID || len(e.Account) > maxID || len(e.Context) > maxID || !slices.Contains(schema.Sources[:], e.Source) || e.Quarantine != "" && !slices.Contains(Reasons[:], e.Quarantine) || len(e.Snapshot) > maxID {
		return fmt.Errorf("the event %.40q of source %q with the reason %q is not one the ledger can hold", e.ID, e.Source, e.Quarantine)
	}
	if err := e.Facts.Check(); err != nil {
		return fmt.Errorf("the event %.40q: %w", e.ID, err)
	}
	return nil
}

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
			h.Err = fmt.Errorf("%w: the disk has been asked for something for %s", ErrUnavailable, took.Round(time.Second))
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
	ms := l.published.Load().lastEvent.At(l.wall())
	return time.UnixMilli(ms), ms != 0
}
