package posting

import (
	"fmt"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// An event in quarantine has a row like any other event, with the outcome Quarantined, and an entry
// in the bucket quarantine. When the event becomes usable, it is posted in a new row, which refers
// to the old one. The old row stays unchanged, because a view of the journal up to a sequence must
// never change; only its quarantine entry is removed.
//
// The id index refers to the new row. The new row shares the body of the old row if the bodies are
// equal.

// awaiting returns the rows of the thin events in quarantine that wait for the snapshot event with
// the id.
func (b *Batch) awaiting(livemode bool, id string) (seqs []uint64, err error) {
	if b.Counts.NotExpected() == 0 {
		return nil, nil // the usual case; an expected event waits for nothing
	}
	prefix := schema.AwaitsKey(livemode, id, 0)
	prefix = prefix[:len(prefix)-8]
	for e := range b.Tx.Prefix(schema.BucketMeta, prefix) {
		if len(e.Key) == len(prefix)+8 {
			seqs = append(seqs, schema.SeqOf(e.Key))
		}
	}
	return seqs, nil
}

// quarantinePlan is the change that a new row makes to the quarantine, read before anything is
// written.
type quarantinePlan struct {
	entry *schema.QuarantineEntry // of the row itself; nil unless it is in quarantine
	left  *schema.QuarantineEntry // of the event's old row, which leaves quarantine; nil without one
	met   []waiting               // thin events that waited for this event
}

// waiting is a thin event in quarantine whose snapshot event has arrived.
type waiting struct {
	seq      uint64
	livemode bool
	reason   schema.Reason
	entry    *schema.QuarantineEntry
}

// planQuarantine returns the change that a new row makes to the quarantine. entry is nil unless the
// new row is in quarantine itself.
func (b *Batch) planQuarantine(r *schema.Row, old *schema.Row, entry *schema.QuarantineEntry) (a quarantinePlan, err error) {
	a.entry = entry
	if old != nil {
		if a.left, err = schema.ReadQuarantineEntry(b.Tx, r.Released); err != nil {
			return a, err
		}
		if a.left == nil {
			return a, fmt.Errorf("%w: event row %d has no entry in quarantine", store.ErrCorrupt, r.Released)
		}
		return a, nil // the id is not new, so no thin event waits for it
	}
	seqs, err := b.awaiting(r.Livemode, r.ID)
	if err != nil {
		return a, err
	}
	for _, seq := range seqs {
		thin, err := schema.ReadRow(b.Tx, seq)
		if err != nil {
			return a, err
		}
		h, err := schema.ReadQuarantineEntry(b.Tx, seq)
		if err != nil {
			return a, err
		}
		if h == nil {
			return a, fmt.Errorf("%w: event row %d waits for a snapshot event outside of quarantine", store.ErrCorrupt, seq)
		}
		a.met = append(a.met, waiting{seq, thin.Livemode, thin.Reason, h})
	}
	return a, nil
}

// writeQuarantine writes the planned change to the quarantine.
func (b *Batch) writeQuarantine(n *newRow) error {
	r, old, a := &n.Row, n.old, &n.quarantine
	if a.entry != nil {
		if err := b.addEntry(n.seq, r.Livemode, a.entry); err != nil {
			return err
		}
		b.Counts.AddQuarantined(r.Reason, a.entry.State, +1)
	}
	if old != nil {
		if err := b.removeEntry(r.Released, old.Livemode, a.left); err != nil {
			return err
		}
		b.Counts.AddEvent(old, -1)
		b.Counts.AddQuarantined(old.Reason, a.left.State, -1)
		b.Counts.Released++
	}
	for _, w := range a.met {
		to := &schema.QuarantineEntry{State: stateOnceKnown(w.entry.State)}
		if err := b.ReplaceEntry(w.seq, w.livemode, w.reason, w.entry, to); err != nil {
			return err
		}
	}
	return nil
}

// stateOnceKnown returns the state of a thin event after its snapshot event has arrived.
func stateOnceKnown(before schema.QuarantineState) schema.QuarantineState {
	if before == schema.Dismissed {
		return schema.Dismissed
	}
	return schema.Expected
}

// addEntry adds a quarantine entry, with its key for the awaited snapshot event.
func (b *Batch) addEntry(seq uint64, livemode bool, h *schema.QuarantineEntry) error {
	if h.Awaits != "" {
		if err := b.Tx.Put(schema.BucketMeta, schema.AwaitsKey(livemode, h.Awaits, seq), nil); err != nil {
			return err
		}
	}
	return b.Tx.Put(schema.BucketQuarantine, schema.SeqKey(seq), h.Encode())
}

// removeEntry removes a quarantine entry, with its key for the awaited snapshot event.
func (b *Batch) removeEntry(seq uint64, livemode bool, h *schema.QuarantineEntry) error {
	if h.Awaits != "" {
		if err := b.Tx.Delete(schema.BucketMeta, schema.AwaitsKey(livemode, h.Awaits, seq)); err != nil {
			return err
		}
	}
	return b.Tx.Delete(schema.BucketQuarantine, schema.SeqKey(seq))
}

// ReplaceEntry replaces a quarantine entry and updates the counts.
func (b *Batch) ReplaceEntry(seq uint64, livemode bool, reason schema.Reason, from, to *schema.QuarantineEntry) error {
	if err := b.removeEntry(seq, livemode, from); err != nil {
		return err
	}
	b.Counts.AddQuarantined(reason, from.State, -1)
	b.Counts.AddQuarantined(reason, to.State, +1)
	return b.addEntry(seq, livemode, to)
}
