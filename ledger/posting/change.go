package posting

import (
	"bytes"
	"maps"
	"slices"

	"tillhook/ledger/fold"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// change is one payment before and after an event. before is nil if the payment is new, after is
// nil if no row is left.
type change struct {
	id     string
	before *schema.State
	after  *schema.State
	events []uint64      // the rows before the event
	lost   []uint64      // rows that move to another payment
	gained []uint64      // rows that the payment gains
	cached []*schema.Row // the rows of events, if they are cached
	rows   []*schema.Row // what after is folded from; nil if rows move between payments
}

// changes computes how a new row changes payments: its own payment, and the payments of charges
// that it links to a PaymentIntent for the first time. It writes nothing. The first change is that
// of the row's own payment.
func (b *Batch) changes(r *schema.Row, seq uint64) ([]*change, error) {
	id, err := schema.PaymentOf(b.Tx, &r.Facts)
	if err != nil {
		return nil, err
	}
	own, err := b.before(id)
	if err != nil {
		return nil, err
	}
	list := []*change{own}
	var moved []*schema.Row
	relinked, err := b.relinked(r, id)
	if err != nil {
		return nil, err
	}
	for _, present := range slices.Sorted(maps.Keys(relinked)) {
		c, rows, err := b.split(present, relinked[present])
		if err != nil {
			return nil, err
		}
		if c != nil {
			list, moved = append(list, c), append(moved, rows...)
			own.gained = append(own.gained, c.lost...)
		}
	}
	own.gained = append(own.gained, seq)
	rows, err := own.rowsBefore(b.Tx)
	if err != nil {
		return nil, err
	}
	if len(rows) >= hotLeast {
		if r, err = compact(r); err != nil {
			return nil, err
		}
	}
	all := append(append(rows, moved...), r)
	if own.after = schema.FoldRows(id, b.livemode, all); len(moved) == 0 {
		own.rows = all
	}
	return list, nil
}

// rowsBefore returns the rows that the payment was folded from before the change.
func (c *change) rowsBefore(tx *store.Tx) ([]*schema.Row, error) {
	if c.cached != nil {
		return c.cached, nil
	}
	return schema.ReadRows(tx, c.events)
}

// before returns a change that starts from the current state of a payment.
func (b *Batch) before(id string) (*change, error) {
	if hot := b.cache.find(id); hot != nil {
		return &change{id: id, before: hot.state, events: hot.state.Rows, cached: hot.rows}, nil
	}
	s, err := schema.ReadState(b.Tx, id)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return &change{id: id}, nil
	}
	return &change{id: id, before: s, events: s.Rows}, nil
}

// relinked returns the charges that the row links to its PaymentIntent for the first time, by the
// payment that they belong to now. That payment has the id of the charge itself or, if two
// PaymentIntents name the charge, the greater id of the two: a charge belongs to the least
// PaymentIntent.
func (b *Batch) relinked(r *schema.Row, intent string) (map[string][]string, error) {
	var relinked map[string][]string // nil in most cases
	for _, charge := range r.Facts.LinkedCharges() {
		present, err := schema.PaymentOf(b.Tx, &fold.Facts{Charge: charge})
		if err != nil {
			return nil, err
		}
		if present == charge || intent < present {
			if relinked == nil {
				relinked = map[string][]string{}
			}
			relinked[present] = append(relinked[present], charge)
		}
	}
	return relinked, nil
}

// split takes from a payment the rows that name one of the charges and no PaymentIntent, and
// returns the change and those rows. charges must be sorted. If the payment has no such row, split
// returns a nil change.
func (b *Batch) split(payment string, charges []string) (*change, []*schema.Row, error) {
	c, err := b.before(payment)
	if err != nil || c.before == nil {
		return nil, nil, err
	}
	rows, err := c.rowsBefore(b.Tx)
	if err != nil {
		return nil, nil, err
	}
	var stay, leaving []*schema.Row
	for i, r := range rows {
		if _, named := slices.BinarySearch(charges, r.Facts.Charge); named && r.Facts.PaymentIntent == "" {
			leaving, c.lost = append(leaving, r), append(c.lost, c.events[i])
		} else {
			stay = append(stay, r)
		}
	}
	if len(leaving) == 0 {
		return nil, nil, nil
	}
	if len(stay) > 0 {
		c.after = schema.FoldRows(payment, b.livemode, stay)
	}
	return c, leaving, nil
}

// outcome returns the outcome of the event that made the changes.
func outcome(changes []*change) schema.Outcome {
	own := changes[0]
	if len(changes) == 1 && own.before != nil && own.after.SameAs(own.before) {
		return schema.Unchanged
	}
	return schema.Applied
}

// write writes a changed payment, its index entries and its lists to the transaction, and updates
// the counts and the cache.
func (b *Batch) write(c *change) error {
	if c.before != nil && (c.after == nil || c.after.Created() != c.before.Created()) {
		if err := b.Tx.Delete(schema.BucketPaymentsTime, schema.TimeKey(c.before.Created(), c.id)); err != nil {
			return err
		}
	}
	if c.after != nil && (c.before == nil || c.after.Created() != c.before.Created()) {
		if err := b.Tx.Put(schema.BucketPaymentsTime, schema.TimeKey(c.after.Created(), c.id), nil); err != nil {
			return err
		}
	}
	if err := b.writeIndex(c); err != nil {
		return err
	}
	if c.before != nil {
		b.Counts.AddPayment(c.before, -1)
	}
	if c.after != nil {
		b.Counts.AddPayment(c.after, +1)
	}
	if c.after != nil {
		c.after.Rows = c.sequences()
	}
	b.cache.keep(c)
	if err := schema.WriteLists(b.Tx, c.id, c.before, c.after); err != nil {
		return err
	}
	if c.after == nil {
		return b.Tx.Delete(schema.BucketPayments, []byte(c.id))
	}
	return b.Tx.Put(schema.BucketPayments, []byte(c.id), c.after.Encode())
}

// sequences returns the sequences of the rows that the payment is folded from after the change.
func (c *change) sequences() []uint64 {
	seqs := slices.Concat(c.events, c.gained)
	if len(c.lost) > 0 { // sorted, as c.events is
		seqs = slices.DeleteFunc(seqs, func(seq uint64) bool { _, gone := slices.BinarySearch(c.lost, seq); return gone })
	}
	slices.Sort(seqs)
	return seqs
}

// newLinks returns the other ids that the event newly links to its payment, each with all of its
// links including the new one.
func (b *Batch) newLinks(f *fold.Facts) (map[string][]schema.Link, error) {
	var changed map[string][]schema.Link
	var err error
	f.EachOtherID(func(id string, charge bool) {
		if err != nil {
			return
		}
		links, known := changed[id]
		if !known {
			if links, err = schema.ReadLinks(b.Tx, id); err != nil {
				return
			}
		}
		own := schema.LinkOf(f, charge)
		at, found := slices.BinarySearchFunc(links, own, schema.Link.Compare)
		if !found {
			if changed == nil {
				changed = map[string][]schema.Link{}
			}
			changed[id] = slices.Insert(links, at, own)
		}
	})
	return changed, err
}

// writeLinks writes the links that newLinks returned.
func (b *Batch) writeLinks(links map[string][]schema.Link) error {
	for id, list := range links {
		if err := b.Tx.Put(schema.BucketLinks, []byte(id), schema.EncodeLinks(id, list)); err != nil {
			return err
		}
	}
	return nil
}

// entriesChanged returns the entries of a payment before and after a change, without the unchanged
// ones at the beginning and at the end. If the account changed, it returns all entries, because the
// index values contain the account.
func (c *change) entriesChanged() (before, after []fold.Entry) {
	if c.before != nil {
		before = c.before.Entries
	}
	if c.after != nil {
		after = c.after.Entries
	}
	if c.before == nil || c.after == nil || c.before.Payment.Account != c.after.Payment.Account {
		return before, after
	}
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	return before, after
}

// writeIndex writes the changed index entries of a payment and deletes those that it no longer has.
func (b *Batch) writeIndex(c *change) error {
	var seconds []int64
	before, after := c.entriesChanged()
	for _, list := range [][]fold.Entry{before, after} {
		for i := range list {
			seconds = append(seconds, list[i].At)
		}
	}
	slices.Sort(seconds)
	for _, second := range slices.Compact(seconds) {
		had, has := c.before.MoneyAt(second), c.after.MoneyAt(second)
		var err error
		switch key := schema.TimeKey(second, c.id); {
		case has == nil:
			err = b.Tx.Delete(schema.BucketEntries, key)
		case !bytes.Equal(had, has):
			err = b.Tx.Put(schema.BucketEntries, key, has)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
