// Package posting writes into one transaction what follows from an event: its row, its body, its
// payment and the index entries, lists, links, totals and counts that depend on them.
//
// A [Poster] runs a transaction, in which a [Batch] posts events. The committer of package ledger
// posts the events that are waiting, package rebuild those of another file. Both get the same
// result, because the payment that follows from a set of events does not depend on their order.
//
// # Two phases
//
// Posting an event has two phases. plan reads everything that is needed and writes nothing. If it
// fails, or meets a damaged page, only that event fails. It returns a closure, apply, which
// writes and fails only if the store does. An error of apply fails the whole transaction, so an
// event is never posted in part.
//
// # Reading order
//
// item.go has what goes in ([Event], [Item]) and what comes out ([Result]). poster.go has the frame
// of a transaction. posting.go plans and writes a row. change.go finds out how a row changes
// payments, which includes rows that move to another payment because a charge is linked to a
// PaymentIntent. sums.go has the totals, quarantineplan.go the quarantine, and hot.go a cache of
// payments with many events.
package posting

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"tillhook/ledger/fold"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Post plans an event or a job and applies it.
func (b *Batch) Post(e *Item) error {
	e.Err, e.Result, e.Left = nil, Result{}, false // left by a transaction that failed
	apply, err := b.plan(e)
	if err != nil {
		if e.Err = err; e.Job == nil {
			e.Err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
		return nil
	}
	if apply == nil {
		return nil
	}
	return apply()
}

// plan reads everything that an event needs, and returns a closure that writes what follows from
// it. A panic of the store means that this event met a damaged page.
func (b *Batch) plan(e *Item) (apply func() error, err error) {
	defer store.CatchDamage(&err)
	if e.Job != nil {
		return e.Job(b)
	}
	k, err := FindKnown(b.Tx, &e.Event)
	if err != nil {
		return nil, err
	}
	if !k.Repeat {
		return b.planRow(e, k.Seq, k.Row)
	}
	if e.Release { // another delivery already released it
		e.Result = Result{Status: k.Row.Outcome, Reason: k.Row.Reason, PaymentID: k.Payment, Sequence: k.Seq, Repeat: true}
		return nil, nil
	}
	k.Row.Repeats++
	e.Result = k.Result()
	return func() error { return b.Tx.Put(schema.BucketEvents, schema.SeqKey(k.Seq), k.Row.Encode()) }, nil
}

// Known is what a ledger has of an event's id.
type Known struct {
	Seq     uint64      // the row of the id; 0 if it has no row
	Row     *schema.Row // nil if the id has no row
	Repeat  bool        // a delivery changes nothing; false for the usable form of an event in quarantine
	Payment string      // of a repeat: the current id of the event's payment
}

// FindKnown returns what the ledger has of an event's id.
func FindKnown(tx *store.Tx, e *Event) (k Known, err error) {
	seq, found, err := schema.LookupID(tx, e.Livemode, e.ID)
	if err != nil || !found {
		return k, err
	}
	if k.Row, err = schema.ReadRow(tx, seq); err != nil {
		return k, err
	}
	k.Seq = seq
	if k.Row.Outcome == schema.Quarantined && e.Quarantine == "" {
		return k, nil
	}
	k.Repeat = true
	k.Payment, err = schema.PaymentOf(tx, &k.Row.Facts)
	return k, err
}

// Result returns the result of another delivery of the event.
func (k *Known) Result() Result {
	res := Result{Status: schema.AlreadyProcessed, PaymentID: k.Payment, Sequence: k.Seq, Repeat: true}
	if k.Row.Outcome == schema.Quarantined {
		res.Status, res.Reason = schema.Quarantined, k.Row.Reason
	}
	return res
}

// planRow plans a new row. old is the row at the sequence from in which the event is in
// quarantine, nil for a new event.
func (b *Batch) planRow(e *Item, from uint64, old *schema.Row) (apply func() error, err error) {
	ev := &e.Event
	n := &newRow{Row: ev.Row(), seq: b.Last + 1, body: e.Body, old: old}
	r := &n.Row
	r.Released, r.Size = from, e.Size
	var entry *schema.QuarantineEntry
	switch {
	case ev.Quarantine != "":
		r.Outcome, r.Facts = schema.Quarantined, fold.Facts{}
		if entry, err = schema.NewQuarantineEntry(b.Tx, ev.ID, ev.Livemode, ev.Expected, ev.Snapshot); err != nil {
			return nil, err
		}
	case ev.Facts.PaymentID() != "":
		if err := b.planPayments(n); err != nil {
			return nil, err
		}
		r.Outcome = outcome(n.changes)
	}
	if err := b.planRest(n, entry); err != nil {
		return nil, err
	}
	if old != nil && (e.Release || b.sameBody(from, e.Body)) {
		n.body = schema.BodyReference(from)
	}
	e.Result = Result{Status: r.Outcome, Reason: r.Reason, Sequence: n.seq, Repeat: old != nil, Unlinked: r.Unlinked()}
	if len(n.changes) > 0 {
		e.Result.PaymentID = n.changes[0].id
	}
	e.Left = old != nil
	return func() error {
		if r.Source == schema.Webhook && !e.Release {
			b.Delivered = &schema.Delivery{Received: r.Received, Created: r.Created * 1000}
		}
		return b.writeRow(n)
	}, nil
}

// sameBody reports whether a row has the same body as one that is about to be stored. A body that
// cannot be read is a different one.
func (b *Batch) sameBody(seq uint64, body []byte) bool {
	stored, err := b.Tx.Get(schema.BucketBodies, schema.SeqKey(seq))
	if err != nil || stored == nil {
		return false
	}
	had, err := b.bodies.Decode(stored)
	if err != nil {
		return false
	}
	has, err := b.bodies.Decode(body)
	return err == nil && bytes.Equal(had, has)
}

// newRow is a row and all that follows from it, planned before anything of it is written.
type newRow struct {
	schema.Row
	seq        uint64
	body       []byte      // as it is stored; nil if it is not kept
	old        *schema.Row // the row in which the same event is in quarantine; nil if it does not
	changes    []*change
	totals     map[string]schema.Amounts
	links      map[string][]schema.Link
	quarantine quarantinePlan
	account    []byte // key of the account that becomes known, or gets another context; nil for none
}

// planPayments plans what follows for payments from a row about one.
func (b *Batch) planPayments(n *newRow) (err error) {
	if n.changes, err = b.changes(&n.Row, n.seq); err != nil {
		return err
	}
	if n.totals, err = b.newTotals(n.changes); err != nil {
		return err
	}
	n.links, err = b.newLinks(&n.Facts)
	return err
}

// planRest plans what follows from any row. entry is nil unless the row is in quarantine.
func (b *Batch) planRest(n *newRow, entry *schema.QuarantineEntry) (err error) {
	if n.quarantine, err = b.planQuarantine(&n.Row, n.old, entry); err != nil {
		return err
	}
	if n.Outcome == schema.Quarantined {
		b.Tx.Touch(schema.BucketQuarantine, schema.SeqKey(n.seq))
	}
	if n.Livemode == b.livemode {
		n.account = b.newAccount(n.Account, n.Context)
	}
	return nil
}

// writeRow writes a row, its body and all that follows from it.
func (b *Batch) writeRow(n *newRow) error {
	key := schema.SeqKey(n.seq)
	if err := b.Tx.Put(schema.BucketEvents, key, n.Encode()); err != nil {
		return err
	}
	if n.body != nil {
		if err := b.Tx.Put(schema.BucketBodies, key, n.body); err != nil {
			return err
		}
	}
	if err := b.Tx.Put(schema.BucketIDs, schema.IDKey(n.Livemode, n.ID), binary.AppendUvarint(nil, n.seq)); err != nil {
		return err
	}
	if err := b.writeQuarantine(n); err != nil {
		return err
	}
	if n.account != nil {
		if err := b.Tx.Put(schema.BucketMeta, n.account, []byte(n.Context)); err != nil {
			return err
		}
	}
	if err := b.writeLinks(n.links); err != nil {
		return err
	}
	for _, change := range n.changes {
		if err := b.write(change); err != nil {
			return err
		}
	}
	b.keepTotals(n.totals)
	b.Last = n.seq
	b.Counts.AddEvent(&n.Row, +1)
	return nil
}

// CountRepeats writes counted repeats to their rows.
func (b *Batch) CountRepeats(repeats map[uint64]uint64) error {
	for seq, n := range repeats {
		r, err := schema.ReadRow(b.Tx, seq)
		if errors.Is(err, store.ErrCorrupt) {
			continue // a count must not fail the batch; Check reports the damage
		}
		if err != nil {
			return err
		}
		r.Repeats += n
		if err := b.Tx.Put(schema.BucketEvents, schema.SeqKey(seq), r.Encode()); err != nil {
			return err
		}
	}
	return nil
}

// Restore writes a row that has been in a ledger before. It keeps the outcome that the event had
// when it arrived, unless decoding the body again changed whether the row is about a payment. entry
// is nil unless the row is in quarantine.
func (b *Batch) Restore(r *schema.Row, seq uint64, body []byte, entry *schema.QuarantineEntry) (err error) {
	n := &newRow{Row: *r, seq: seq, body: body}
	if r.Released != 0 {
		if n.old, err = schema.ReadRow(b.Tx, r.Released); err != nil {
			return err
		}
		if n.old.Outcome != schema.Quarantined || n.old.ID != r.ID || n.old.Livemode != r.Livemode {
			return fmt.Errorf("%w: it refers to row %d, which is not the same event in quarantine", store.ErrCorrupt, r.Released)
		}
	}
	if r.Outcome != schema.Quarantined && r.Facts.PaymentID() != "" {
		if err := b.planPayments(n); err != nil {
			return err
		}
		if n.Outcome == schema.Recorded {
			n.Outcome = outcome(n.changes)
		}
	} else if r.Outcome != schema.Quarantined {
		n.Outcome = schema.Recorded
	}
	if err := b.planRest(n, entry); err != nil {
		return err
	}
	return b.writeRow(n)
}

// newAccount returns the key to write if the account of an event is new, or if the event has
// another context than the stored one, and nil if nothing changes. A damaged value is left to
// Check: it must not make an event fail.
func (b *Batch) newAccount(account, context string) (key []byte) {
	if account == "" {
		return nil
	}
	key = []byte(schema.AccountPrefix + account)
	if !b.Tx.Has(schema.BucketMeta, key) {
		return key
	}
	known, err := b.Tx.Get(schema.BucketMeta, key)
	if context == "" || err != nil || string(known) == context {
		return nil
	}
	return key
}

// WouldChange reports whether posting an event as the row seq would change its payment in more than
// the number of its events and the time of the last one. It only reads from tx, and does not use
// the cache.
func (p *Poster) WouldChange(tx *store.Tx, e *Event, seq uint64) (bool, error) {
	if e.Quarantine != "" || e.Facts.PaymentID() == "" {
		return false, nil
	}
	b := &Batch{Tx: tx, livemode: p.livemode}
	r := e.Row()
	changes, err := b.changes(&r, seq)
	return err == nil && outcome(changes) == schema.Applied, err
}
