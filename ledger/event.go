package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Outcome is what came of an event. It belongs to the event's arrival: another order of arrival may
// give other outcomes, and the same payment.
type Outcome string

const (
	Applied     Outcome = "applied"     // it changed its payment
	Unchanged   Outcome = "unchanged"   // it is about a payment, and told nothing new
	Recorded    Outcome = "recorded"    // it is not about a payment, or names none
	Quarantined Outcome = "quarantined" // it is authentic and cannot be used; see Reason

	// AlreadyProcessed answers a repeat of a known event. It is never stored: the row keeps its first outcome.
	AlreadyProcessed Outcome = "already_processed"
)

// Outcomes are those an event can be stored with, in the order the counts are kept in.
var Outcomes = [...]Outcome{Applied, Unchanged, Recorded, Quarantined}

// Reason is why an authentic event lies in quarantine; empty for one that does not.
type Reason string

const (
	WrongMode   Reason = "wrong_mode"  // a test event at a live receiver, or the reverse
	ThinEvent   Reason = "thin_event"  // it names an object and does not hold it
	Undecodable Reason = "undecodable" // its body is not what Stripe documents
)

// Reasons are all of them, in the order the codes are kept in.
var Reasons = [...]Reason{WrongMode, ThinEvent, Undecodable}

// Source is the door an event came by.
type Source string

const (
	Webhook   Source = "webhook"   // Stripe posted it
	Reconcile Source = "reconcile" // it was missed, and read from Stripe's list of events
	Fetch     Source = "fetch"     // an object read from Stripe's API, made an event of ours
)

// FetchedPrefix begins the ids of events that were made of objects read from Stripe's API, and of no others.
const FetchedPrefix = "fetch_"

var sources = [...]Source{Webhook, Reconcile, Fetch}

// Event is one verified event, ready to be written down. Append does not change it; the caller leaves it
// unchanged for good, Raw too, because an Append whose context has ended may still be under way.
type Event struct {
	ID         string // Stripe's, of the form [A-Za-z0-9_.-]{1,255}; or sha256_<hex of Raw> where it has none
	Type       string // empty if it has none
	Account    string // the connected or organisation account; empty for the platform's own
	Context    string // the path that Stripe-Context takes, as events of organisations name it; else empty
	Livemode   bool   // of the event; the receiver's own where the body names none
	Created    int64  // Unix seconds by Stripe's clock; 0 if it has none
	APIVersion string // the version the body was rendered in; empty if it names none
	Source     Source
	Received   time.Time
	Quarantine Reason // why it cannot be used; empty if it can
	Expected   bool   // nothing is missing because it lies in quarantine; see [Expected]
	Snapshot   string // of a thin event: the id of the event that tells the same with its object; empty if it names none
	Facts      Facts
	Raw        []byte // the body as it was signed
}

// Result is what Append did with an event.
type Result struct {
	Status    Outcome // AlreadyProcessed for a repeat
	Reason    Reason  // set if Status is Quarantined
	PaymentID string  // empty if the event is about none
	Sequence  uint64  // the event's row
	Repeat    bool    // the id had a row before
	Unlinked  bool    // it is about money and names neither a PaymentIntent nor a charge
}

// Append writes the event down once and folds it into its payment, in one transaction with its id.
// It returns when that is on disk, or when ctx ends: the event may then still get in, so an error
// means "unknown" unless it is [ErrOverloaded] or [ErrClosed]. A repeat of a known event is counted
// and costs no commit. An event that lies in quarantine and can be used now is booked in a new row,
// which refers to its old one.
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
	p := newPending(e, l.bodies.encode(e.Raw))
	if err := l.queue.wait(ctx, p); err != nil {
		l.noteDamage(e, err)
		return Result{}, err // p may still be under way
	}
	l.noteDamage(e, nil)
	return p.result, nil
}

// check refuses what could be written and never read again.
func (e *Event) check(livemode bool) error {
	if e.Livemode != livemode && e.Quarantine == "" {
		return fmt.Errorf("the event %.40q is of %s mode: a ledger of the other one holds it in quarantine or not at all", e.ID, ModeName(e.Livemode))
	}
	if e.ID == "" || len(e.ID) > maxID || len(e.Account) > maxID || len(e.Context) > maxID || !slices.Contains(sources[:], e.Source) || e.Quarantine != "" && !slices.Contains(Reasons[:], e.Quarantine) || len(e.Snapshot) > maxID {
		return fmt.Errorf("the event %.40q of source %q with the reason %q is not one the ledger can hold", e.ID, e.Source, e.Quarantine)
	}
	if err := e.Facts.Check(); err != nil {
		return fmt.Errorf("the event %.40q: %w", e.ID, err)
	}
	return nil
}

// Health is the state of the ledger's writing side.
type Health struct {
	LastCommit time.Time // zero if there was none since Open
	// Err is why the last commit failed, that the one under way hangs, or that the last events met
	// damage; nil while writing works.
	Err error
	// Fault is what happened to the file, where that is why; it is in Err, too.
	Fault *FileFault
}

// hangs is how long a commit may take before the ledger counts as unavailable: soon nobody waits for it any more.
const hangs = 4 * time.Second

// maxDamaged events in a row that meet damage make the ledger unavailable: where one payment is
// damaged, events about others are stored in between.
const maxDamaged = 3

// damage is what the last events met.
type damage struct {
	events int // in a row
	last   string
	err    error
}

// noteDamage counts events that could not be stored because what the file holds is damaged. One that
// is delivered again is one; one that is fetched does not count, because those are tried in the order
// of their payments.
func (l *Ledger) noteDamage(e *Event, err error) {
	met := errors.Is(err, ErrCorrupt)
	if met && e.Source != Webhook {
		return
	}
	if err != nil && !met {
		return // it says nothing about the file
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

// Health tells whether the last commit succeeded. It touches no disk.
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

// Committing tells that a commit is under way. It touches no disk.
func (l *Ledger) Committing() bool { return l.began.Load() != 0 }

// LastEvent is when the newest event was delivered by itself, not fetched; ok is false where none was.
func (l *Ledger) LastEvent() (t time.Time, ok bool) {
	ms := l.published.Load().lastEvent.at(l.wall())
	return time.UnixMilli(ms), ms != 0
}
