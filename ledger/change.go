package ledger

import (
	"maps"
	"slices"
	"tillhook/ledger/store"
)

// change is one payment before and after an event; nil where it is not there.
type change struct {
	id     string
	before *state
	after  *state
	events []uint64 // before
	gone   []uint64 // rows that belong to another payment now
	come   []uint64 // rows that belong to this payment now
	had    []*row   // the rows of events, where they are remembered
	rows   []*row   // those that it is folded from after the change, where it only got more
}

// changes computes what a new row does to payments: to its own, and to those of charges that it links
// to a PaymentIntent for the first time. It writes nothing. The first change is the row's own.
func (b *posting) changes(r *row, seq uint64) ([]*change, error) {
	id, err := paymentOf(b.tx, &r.facts)
	if err != nil {
		return nil, err
	}
	own, err := b.before(id)
	if err != nil {
		return nil, err
	}
	list := []*change{own}
	var moved []*row
	claimed, err := b.claimed(r, id)
	if err != nil {
		return nil, err
	}
	for _, present := range slices.Sorted(maps.Keys(claimed)) {
		c, rows, err := b.leave(present, claimed[present])
		if err != nil {
			return nil, err
		}
		if c != nil {
			list, moved = append(list, c), append(moved, rows...)
			own.come = append(own.come, c.gone...)
		}
	}
	own.come = append(own.come, seq)
	rows, err := own.rowsBefore(b.tx)
	if err != nil {
		return nil, err
	}
	if len(rows) >= hotLeast {
		if r, err = r.compact(); err != nil {
			return nil, err
		}
	}
	all := append(append(rows, moved...), r)
	if own.after = foldRows(id, b.livemode, all); len(moved) == 0 {
		own.rows = all
	}
	return list, nil
}

// rowsBefore returns the rows that the payment was folded from before the change.
func (c *change) rowsBefore(tx *store.Tx) ([]*row, error) {
	if c.had != nil {
		return c.had, nil
	}
	return rowsOf(tx, c.events)
}

// before begins a change with a payment as it is.
func (b *posting) before(id string) (*change, error) {
	if hot := b.hot.find(id); hot != nil {
		return &change{id: id, before: hot.state, events: hot.state.rows, had: hot.rows}, nil
	}
	s, err := readState(b.tx, id)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return &change{id: id}, nil
	}
	return &change{id: id, before: s, events: s.rows}, nil
}

// claimed are the charges that the row links to its PaymentIntent for the first time, by the payment they belong to
// as yet: the one that bears the charge's own id, or, should two PaymentIntents claim a charge, the greater of them.
func (b *posting) claimed(r *row, intent string) (map[string][]string, error) {
	var claimed map[string][]string // mostly none
	for _, charge := range r.facts.LinkedCharges() {
		present, err := paymentOf(b.tx, &Facts{Charge: charge})
		if err != nil {
			return nil, err
		}
		if present == charge || intent < present {
			if claimed == nil {
				claimed = map[string][]string{}
			}
			claimed[present] = append(claimed[present], charge)
		}
	}
	return claimed, nil
}

// leave takes from a payment the rows that name one of the charges, which ascend, and no
// PaymentIntent. It returns nil if there are none.
func (b *posting) leave(payment string, charges []string) (*change, []*row, error) {
	c, err := b.before(payment)
	if err != nil || c.before == nil {
		return nil, nil, err
	}
	rows, err := c.rowsBefore(b.tx)
	if err != nil {
		return nil, nil, err
	}
	var stay, leaving []*row
	for i, r := range rows {
		if _, named := slices.BinarySearch(charges, r.facts.Charge); named && r.facts.PaymentIntent == "" {
			leaving, c.gone = append(leaving, r), append(c.gone, c.events[i])
		} else {
			stay = append(stay, r)
		}
	}
	if len(leaving) == 0 {
		return nil, nil, nil
	}
	if len(stay) > 0 {
		c.after = foldRows(payment, b.livemode, stay)
	}
	return c, leaving, nil
}

// rowsOf reads the rows of a payment.
func rowsOf(tx *store.Tx, seqs []uint64) (rows []*row, err error) {
	for _, seq := range seqs {
		r, err := readRow(tx, seq)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// outcome of the event that made the changes.
func outcome(changes []*change) Outcome {
	own := changes[0]
	if len(changes) == 1 && own.before != nil && own.after.sameAs(own.before) {
		return Unchanged
	}
	return Applied
}

// write puts a changed payment and everything that hangs on it into the transaction.
func (b *posting) write(c *change) error {
	if c.before != nil && (c.after == nil || c.after.created() != c.before.created()) {
		if err := b.tx.Delete(bucketPaymentsTime, timeKey(c.before.created(), c.id)); err != nil {
			return err
		}
	}
	if c.after != nil && (c.before == nil || c.after.created() != c.before.created()) {
		if err := b.tx.Put(bucketPaymentsTime, timeKey(c.after.created(), c.id), nil); err != nil {
			return err
		}
	}
	if err := b.writeIndex(c); err != nil {
		return err
	}
	if c.before != nil {
		b.counts.payment(c.before, -1)
	}
	if c.after != nil {
		b.counts.payment(c.after, +1)
	}
	if c.after != nil {
		c.after.rows = c.sequences()
	}
	b.hot.keep(c)
	if err := writeLists(b.tx, c.id, c.before, c.after); err != nil {
		return err
	}
	if c.after == nil {
		return b.tx.Delete(bucketPayments, []byte(c.id))
	}
	return b.tx.Put(bucketPayments, []byte(c.id), c.after.encode())
}

// sequences are those of the rows that the payment is folded from after the change.
func (c *change) sequences() []uint64 {
	seqs := slices.Concat(c.events, c.come)
	if len(c.gone) > 0 { // ascending, like the events
		seqs = slices.DeleteFunc(seqs, func(seq uint64) bool { _, gone := slices.BinarySearch(c.gone, seq); return gone })
	}
	slices.Sort(seqs)
	return seqs
}

// newLinks are the ids by which an event is to be found, with all links of each that gets one more.
func (b *posting) newLinks(f *Facts) (map[string][]link, error) {
	var changed map[string][]link
	var err error
	f.EachOtherID(func(id string, charge bool) {
		if err != nil {
			return
		}
		links, known := changed[id]
		if !known {
			if links, err = readLinks(b.tx, id); err != nil {
				return
			}
		}
		own := linkOf(f, charge)
		at, found := slices.BinarySearchFunc(links, own, link.compare)
		if !found {
			if changed == nil {
				changed = map[string][]link{}
			}
			changed[id] = slices.Insert(links, at, own)
		}
	})
	return changed, err
}

// writeLinks writes what newLinks computed.
func (b *posting) writeLinks(links map[string][]link) error {
	for id, list := range links {
		if err := b.tx.Put(bucketLinks, []byte(id), encodeLinks(id, list)); err != nil {
			return err
		}
	}
	return nil
}
