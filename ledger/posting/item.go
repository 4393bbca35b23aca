package posting

import (
	"fmt"
	"slices"
	"time"

	"tillhook/ledger/fold"
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
	Account string // the connected or organization account; empty for the platform itself
	// Context is the path for the Stripe-Context header, as events of organizations name it.
	// Otherwise it is empty.
	Context    string
	Livemode   bool   // of the event, or of the receiver if the body has no mode
	Created    int64  // Unix seconds by Stripe's clock; 0 if unknown
	APIVersion string // of the body; empty if it names none
	Source     schema.Source
	Received   time.Time
	Quarantine schema.Reason // why the event cannot be used; empty if it can
	Expected   bool          // nothing is missing because of the quarantine; see [schema.Expected]
	// Snapshot is, for a thin event, the id of the snapshot event: the one that reports the same
	// and contains the object. It is empty if the thin event names none.
	Snapshot string
	Facts    fold.Facts
	Raw      []byte // the body that was signed
}

// Result is what Append did with an event.
type Result struct {
	Status    schema.Outcome // AlreadyProcessed for a repeat
	Reason    schema.Reason  // set if Status is Quarantined
	PaymentID string         // empty if the event is about no payment
	Sequence  uint64         // the event's row
	Repeat    bool           // the id already had a row
	Unlinked  bool           // the event is about money, but names no PaymentIntent and no charge
}

// Check rejects an event that could be written but not read back.
func (e *Event) Check(livemode bool) error {
	if e.Livemode != livemode && e.Quarantine == "" {
		return fmt.Errorf("the event %.40q is of %s mode: a ledger of the other one holds it in quarantine or not at all", e.ID, schema.ModeName(e.Livemode))
	}
	if e.ID == "" || len(e.ID) > fold.MaxID || len(e.Account) > fold.MaxID || len(e.Context) > fold.MaxID || !slices.Contains(schema.Sources[:], e.Source) || e.Quarantine != "" && !slices.Contains(schema.Reasons[:], e.Quarantine) || len(e.Snapshot) > fold.MaxID {
		return fmt.Errorf("the event %.40q of source %q with the reason %q is not one the ledger can hold", e.ID, e.Source, e.Quarantine)
	}
	if err := e.Facts.Check(); err != nil {
		return fmt.Errorf("the event %.40q: %w", e.ID, err)
	}
	return nil
}

// Row returns the row of the event, without the size of its body. The caller decides the outcome.
func (e *Event) Row() schema.Row {
	return schema.Row{
		ID: e.ID, Type: e.Type, Account: e.Account, Context: e.Context, Livemode: e.Livemode, Created: e.Created,
		Received: e.Received.UnixMilli(), APIVersion: e.APIVersion, Source: e.Source, Reason: e.Quarantine, Facts: e.Facts,
		Outcome: schema.Recorded,
	}
}

// Item is an event to be posted, or a job.
type Item struct {
	Event   Event  // without its raw body
	Body    []byte // compressed
	Size    uint64 // of the raw body
	Release bool   // not a delivery: the event was read from its own row
	Job     Job    // nil for an event

	// What posting the item leads to. It is valid once the transaction is durable.
	Result Result
	Left   bool  // the event left quarantine
	Err    error // the item was not posted, which does not concern other items
}

// Job is a change to the ledger other than an event. It reads what it needs and may fail for
// itself; the function that it returns, which may be nil, writes, and fails only with the store,
// for the whole transaction.
type Job func(b *Batch) (apply func() error, err error)
