package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// posting is one transaction in which events are posted. Posting an event has two phases: plan
// reads everything and may fail for that event only, apply writes and fails only with the store,
// for the whole transaction.
type posting struct {
	tx        *store.Tx
	last      uint64           // the newest sequence
	delivered *schema.Delivery // of the newest event that was delivered; nil if none was
	counts    schema.Counts
	totals    map[string]schema.Amounts // those that changed
	livemode  bool
	bodies    *schema.BodyCodec
	hot       *hotPayments
}

// post plans an event or a job and applies it.
func (b *posting) post(e *item) error {
	e.err, e.result, e.left = nil, Result{}, false // of a transaction that was given up
	apply, err := b.plan(e)
	if err != nil {
		if e.err = err; e.job == nil {
			e.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil
	}
	if apply == nil {
		return nil
	}
	return apply()
}

// plan reads everything that an event needs, and returns the function that writes what follows from
// it. A panic of the store is damage that this event has met.
func (b *posting) plan(e *item) (apply func() error, err error) {
	defer store.CatchDamage(&err)
	if e.job != nil {
		return e.job(b)
	}
	seq, known, err := b.rowOf(e)
	if err != nil {
		return nil, err
	}
	if !known {
		return b.planRow(e, 0, nil)
	}
	old, err := schema.ReadRow(b.tx, seq)
	if err != nil {
		return nil, err
	}
	if old.Outcome == Quarantined && e.event.Quarantine == "" {
		return b.planRow(e, seq, old)
	}
	payment, err := schema.PaymentOf(b.tx, &old.Facts)
	if err != nil {
		return nil, err
	}
	if e.release { // a delivery was faster
		e.result = Result{Status: old.Outcome, Reason: old.Reason, PaymentID: payment, Sequence: seq, Repeat: true}
		return nil, nil
	}
	old.Repeats++
	e.result = repeatOf(old, seq, payment)
	return func() error { return b.tx.Put(schema.BucketEvents, schema.SeqKey(seq), old.Encode()) }, nil
}

// rowOf finds the row of an event's id. If the id had no row when the batch was looked up, its row
// can only be of this batch.
func (b *posting) rowOf(e *item) (seq uint64, known bool, err error) {
	if e.absent && !b.tx.Buffered(schema.BucketIDs, schema.IDKey(e.event.Livemode, e.event.ID)) {
		return 0, false, nil
	}
	return schema.LookupID(b.tx, e.event.Livemode, e.event.ID)
}

// planRow plans a new row. old is the row at the sequence from in which the event lies in
// quarantine, nil for a new event.
func (b *posting) planRow(e *item, from uint64, old *schema.Row) (apply func() error, err error) {
	ev := &e.event
	n := &newRow{Row: ev.row(), seq: b.last + 1, body: e.body, old: old}
	r := &n.Row
	r.Released, r.Size = from, e.size
	var entry *schema.QuarantineEntry
	switch {
	case ev.Quarantine != "":
		r.Outcome, r.Facts = Quarantined, Facts{}
		if entry, err = schema.NewQuarantineEntry(b.tx, ev.ID, ev.Livemode, ev.Expected, ev.Snapshot); err != nil {
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
	if old != nil && (e.release || b.sameBody(from, e.body)) {
		n.body = schema.BodyReference(from)
	}
	e.result = Result{Status: r.Outcome, Reason: r.Reason, Sequence: n.seq, Repeat: old != nil, Unlinked: r.Unlinked()}
	if len(n.changes) > 0 {
		e.result.PaymentID = n.changes[0].id
	}
	e.left = old != nil
	return func() error {
		if r.Source == Webhook && !e.release {
			b.delivered = &schema.Delivery{Received: r.Received, Created: r.Created * 1000}
		}
		return b.writeRow(n)
	}, nil
}

// sameBody reports whether a row has the same body as one that is about to be stored. A body that
// cannot be read is a different one.
func (b *posting) sameBody(seq uint64, body []byte) bool {
	stored, err := b.tx.Get(schema.BucketBodies, schema.SeqKey(seq))
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
	old        *schema.Row // the row in which the same event lies in quarantine; nil if it does not
	changes    []*change
	totals     map[string]schema.Amounts
	links      map[string][]schema.Link
	quarantine quarantinePlan
	account    []byte // key of the account that becomes known, or gets another context; nil for none
}

// planPayments plans what follows for payments from a row about one.
func (b *posting) planPayments(n *newRow) (err error) {
	if n.changes, err = b.changes(&n.Row, n.seq); err != nil {
		return err
	}
	if n.totals, err = b.newTotals(n.changes); err != nil {
		return err
	}
	n.links, err = b.newLinks(&n.Facts)
	return err
}

// planRest plans what follows from any row. entry is nil unless the row lies in quarantine.
func (b *posting) planRest(n *newRow, entry *schema.QuarantineEntry) (err error) {
	if n.quarantine, err = b.planQuarantine(&n.Row, n.old, entry); err != nil {
		return err
	}
	if n.Outcome == Quarantined {
		b.tx.Touch(schema.BucketQuarantine, schema.SeqKey(n.seq))
	}
	if n.Livemode == b.livemode {
		n.account = b.newAccount(n.Account, n.Context)
	}
	return nil
}

// writeRow writes a row, its body and all that follows from it.
func (b *posting) writeRow(n *newRow) error {
	key := schema.SeqKey(n.seq)
	if err := b.tx.Put(schema.BucketEvents, key, n.Encode()); err != nil {
		return err
	}
	if n.body != nil {
		if err := b.tx.Put(schema.BucketBodies, key, n.body); err != nil {
			return err
		}
	}
	if err := b.tx.Put(schema.BucketIDs, schema.IDKey(n.Livemode, n.ID), binary.AppendUvarint(nil, n.seq)); err != nil {
		return err
	}
	if err := b.writeQuarantine(n); err != nil {
		return err
	}
	if n.account != nil {
		if err := b.tx.Put(schema.BucketMeta, n.account, []byte(n.Context)); err != nil {
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
	b.last = n.seq
	b.counts.AddEvent(&n.Row, +1)
	return nil
}

// countRepeats writes counted repeats to their rows.
func (b *posting) countRepeats(repeats map[uint64]uint64) error {
	for seq, n := range repeats {
		r, err := schema.ReadRow(b.tx, seq)
		if errors.Is(err, ErrCorrupt) {
			continue // a count is not worth the batch; Check names the damage
		}
		if err != nil {
			return err
		}
		r.Repeats += n
		if err := b.tx.Put(schema.BucketEvents, schema.SeqKey(seq), r.Encode()); err != nil {
			return err
		}
	}
	return nil
}

// repeatOf returns the result of another delivery of the event of row r. payment is the current id
// of the event's payment.
func repeatOf(r *schema.Row, seq uint64, payment string) Result {
	res := Result{Status: AlreadyProcessed, PaymentID: payment, Sequence: seq, Repeat: true}
	if r.Outcome == Quarantined {
		res.Status, res.Reason = Quarantined, r.Reason
	}
	return res
}

// restore writes a row that has been in a ledger before. It keeps the outcome that the event had
// when it arrived, unless decoding the body again changed whether the row is about a payment. entry
// is nil unless the row is in quarantine.
func (b *posting) restore(r *schema.Row, seq uint64, body []byte, entry *schema.QuarantineEntry) (err error) {
	n := &newRow{Row: *r, seq: seq, body: body}
	if r.Released != 0 {
		if n.old, err = schema.ReadRow(b.tx, r.Released); err != nil {
			return err
		}
		if n.old.Outcome != Quarantined || n.old.ID != r.ID || n.old.Livemode != r.Livemode {
			return fmt.Errorf("%w: it refers to row %d, which is not the same event in quarantine", ErrCorrupt, r.Released)
		}
	}
	if r.Outcome != Quarantined && r.Facts.PaymentID() != "" {
		if err := b.planPayments(n); err != nil {
			return err
		}
		if n.Outcome == Recorded {
			n.Outcome = outcome(n.changes)
		}
	} else if r.Outcome != Quarantined {
		n.Outcome = Recorded
	}
	if err := b.planRest(n, entry); err != nil {
		return err
	}
	return b.writeRow(n)
}

// newAccount returns the key to write if the account of an event is new, or if the event has
// another context than the stored one, and nil if nothing changes. A damaged value is left to
// Check: it must not make an event fail.
func (b *posting) newAccount(account, context string) (key []byte) {
	if account == "" {
		return nil
	}
	key = []byte(schema.AccountPrefix + account)
	if !b.tx.Has(schema.BucketMeta, key) {
		return key
	}
	known, err := b.tx.Get(schema.BucketMeta, key)
	if context == "" || err != nil || string(known) == context {
		return nil
	}
	return key
}

// wouldChange reports whether posting an event as the row seq would change its payment in more than
// the number of its events and the time of the last one. It writes nothing.
func (b *posting) wouldChange(e *Event, seq uint64) (bool, error) {
	if e.Quarantine != "" || e.Facts.PaymentID() == "" {
		return false, nil
	}
	r := e.row()
	changes, err := b.changes(&r, seq)
	return err == nil && outcome(changes) == Applied, err
}
