package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"tillhook/ledger/posting"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// ErrNotQuarantined is returned if the event is stored but is not in quarantine.
var ErrNotQuarantined = errors.New("the event is not in quarantine")

// Quarantine describes an event that is in quarantine now.
type Quarantine struct {
	Reason Reason          `json:"reason"`
	State  QuarantineState `json:"state"`
}

// Dismiss records that a person has looked at an event in quarantine. The event stays in quarantine
// and no longer raises an alarm. Dismiss returns [ErrNotFound] for an unknown id and
// [ErrNotQuarantined] for an event that is not in quarantine.
func (l *Ledger) Dismiss(ctx context.Context, id string) error {
	return l.change(ctx, id, func(_ *store.Tx, _ *schema.Row, h *schema.QuarantineEntry) (*schema.QuarantineEntry, error) {
		return &schema.QuarantineEntry{State: Dismissed, Awaits: h.Awaits}, nil
	})
}

// reclassify decides again whether an event that stays in quarantine is expected there, because
// another decoder may come to a different result.
func (l *Ledger) reclassify(ctx context.Context, e *Event) error {
	return l.change(ctx, e.ID, func(tx *store.Tx, r *schema.Row, h *schema.QuarantineEntry) (*schema.QuarantineEntry, error) {
		to, err := schema.NewQuarantineEntry(tx, r.ID, r.Livemode, e.Expected, e.Snapshot)
		if err == nil && h.State == Dismissed {
			to.State = Dismissed
		}
		return to, err
	})
}

// change replaces the entry of an event in quarantine. It makes no commit if the entry stays the
// same.
func (l *Ledger) change(ctx context.Context, id string,
	decide func(tx *store.Tx, r *schema.Row, h *schema.QuarantineEntry) (*schema.QuarantineEntry, error)) error {
	find := func(tx *store.Tx) (seq uint64, r *schema.Row, from, to *schema.QuarantineEntry, err error) {
		if seq, err = l.find(tx, id); err != nil {
			return seq, nil, nil, nil, err
		}
		if r, err = schema.ReadRow(tx, seq); err != nil {
			return seq, nil, nil, nil, err
		}
		if from, err = schema.ReadQuarantineEntry(tx, seq); err != nil {
			return seq, nil, nil, nil, err
		}
		if from == nil {
			return seq, nil, nil, nil, fmt.Errorf("%w: %s is %s", ErrNotQuarantined, id, r.Outcome)
		}
		to, err = decide(tx, r, from)
		return seq, r, from, to, err
	}
	same := false
	err := l.store.View(func(tx *store.Tx) error {
		_, _, from, to, err := find(tx)
		same = err == nil && *from == *to
		return err
	})
	if err != nil || same {
		return err
	}
	return l.do(ctx, func(b *posting.Batch) (func() error, error) {
		seq, r, from, to, err := find(b.Tx)
		if err != nil || *from == *to {
			return nil, err
		}
		return func() error { return b.ReplaceEntry(seq, r.Livemode, r.Reason, from, to) }, nil
	})
}

// OrNullSequence is the sequence of a row. In JSON, 0 (no row) is null.
type OrNullSequence uint64

// MarshalJSON returns null for 0.
func (n OrNullSequence) MarshalJSON() ([]byte, error) {
	if n == 0 {
		return []byte("null"), nil
	}
	return strconv.AppendUint(nil, uint64(n), 10), nil
}
