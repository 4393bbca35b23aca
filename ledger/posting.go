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

// fill posts a batch and writes counted repeats and the sums.
func (b *posting) fill(batch []*pending, repeats map[uint64]uint64) error {
	for _, e := range batch {
		e.err, e.result, e.left = nil, Result{}, false // of a transaction that was given up
		if err := b.post(e); err != nil {
			return err
		}
	}
	if err := b.countRepeats(repeats); err != nil {
		return err
	}
	return b.writeSums()
}

// writeSums writes what all events of the transaction add up to.
func (b *posting) writeSums() error {
	if err := b.writeTotals(); err != nil {
		return err
	}
	return b.tx.Put(schema.BucketMeta, schema.MetaCounts, b.counts.Encode())
}

// post plans an event or a job and applies it.
func (b *posting) post(e *pending) error {
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
func (b *posting) plan(e *pending) (apply func() error, err error) {
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
func (b *posting) rowOf(e *pending) (seq uint64, known bool, err error) {
	if e.absent && !b.tx.Buffered(schema.BucketIDs, schema.IDKey(e.event.Livemode, e.event.ID)) {
		return 0, false, nil
	}
	return schema.LookupID(b.tx, e.event.Livemode, e.event.ID)
}

// planRow plans a new row. old is the row at the sequence from in which the event lies in
// quarantine, nil for a new event.
func (b *posting) planRow(e *pending, from uint64, old *schema.Row) (apply func() error, err error) {
	ev := &e.event
	n := &newRow{
		Row: schema.Row{
			ID: ev.ID, Type: ev.Type, Account: ev.Account, Context: ev.Context, Livemode: ev.Livemode, Created: ev.Created, Released: from,
			Received: ev.Received.UnixMilli(), APIVersion: ev.APIVersion, Source: ev.Source,
			Size: e.size, Reason: ev.Quarantine, Facts: ev.Facts, Outcome: Recorded,
		},
		seq: b.last + 1, body: e.body, old: old,
	}
	r := &n.Row
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
