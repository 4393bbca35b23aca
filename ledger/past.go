package ledger

import (
	"context"
	"maps"
	"slices"
	"tillhook/ledger/store"
)

// past reads payments as they were when the journal ended at a row. Rows do not change and are not
// removed, so that view is a function of the rows up to there, whatever came since. What changes is
// only which payment a row belongs to: a row that names only a charge belongs to the least
// PaymentIntent that any row links to the charge, or else to a payment of the charge's own. So a
// row up to there can belong to another payment now, and past finds it there.
type past struct {
	tx       *store.Tx
	livemode bool
	last     uint64                 // the row at which the journal ends
	read     map[string]*presentOne // payments as they are now
}

// presentOne is what there is up to a row of the payment that has an id now.
type presentOne struct {
	rows    []*row
	charges map[string]bool // those that the rows link to its PaymentIntent
}

func (l *Ledger) past(tx *store.Tx, last uint64) *past {
	return &past{tx: tx, livemode: l.livemode, last: last, read: map[string]*presentOne{}}
}

func (p *past) present(id string) (*presentOne, error) {
	if one := p.read[id]; one != nil {
		return one, nil
	}
	s, err := readState(p.tx, id)
	if err != nil {
		return nil, err
	}
	var seqs []uint64
	if s != nil {
		seqs = slices.DeleteFunc(s.rows, func(seq uint64) bool { return seq > p.last })
	}
	rows, err := rowsOf(p.tx, seqs)
	if err != nil {
		return nil, err
	}
	one := &presentOne{rows: rows, charges: map[string]bool{}}
	for _, r := range rows {
		if r.facts.PaymentIntent == id {
			for _, charge := range r.facts.LinkedCharges() {
				one.charges[charge] = true
			}
		}
	}
	p.read[id] = one
	return one, nil
}

// owner returns the payment that the rows of a charge belonged to which name no PaymentIntent.
func (p *past) owner(charge string) (string, error) {
	links, err := readLinks(p.tx, charge)
	if err != nil {
		return "", err
	}
	for _, k := range links { // in order
		if k.kind != linkToIntent {
			continue
		}
		if one, err := p.present(k.target); err != nil || one.charges[charge] {
			return k.target, err
		}
	}
	return charge, nil
}

// payment returns a payment as it was, nil if there was none of that id.
func (p *past) payment(id string) (*state, error) {
	one, err := p.present(id)
	if err != nil {
		return nil, err
	}
	var rows []*row
	for _, r := range one.rows {
		if r.facts.PaymentIntent == id {
			rows = append(rows, r)
		}
	}
	charges := slices.Sorted(maps.Keys(one.charges))
	if !one.charges[id] {
		charges = append(charges, id)
	}
	for _, charge := range charges {
		owner, err := p.owner(charge)
		if err != nil {
			return nil, err
		}
		if owner != id {
			continue
		}
		of, err := p.alone(charge)
		if err != nil {
			return nil, err
		}
		rows = append(rows, of...)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return foldRows(id, p.livemode, rows), nil
}

// alone returns the rows that name a charge and no PaymentIntent, which all belong to one payment
// now.
func (p *past) alone(charge string) (rows []*row, err error) {
	id, err := paymentOf(p.tx, &Facts{Charge: charge})
	if err != nil {
		return nil, err
	}
	one, err := p.present(id)
	if err != nil {
		return nil, err
	}
	for _, r := range one.rows {
		if r.facts.PaymentIntent == "" && r.facts.Charge == charge {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// candidates returns the ids under which the rows of a payment may have been payments: its own, and
// those of the charges that its rows name without a PaymentIntent.
func (p *past) candidates(id string) ([]string, error) {
	one, err := p.present(id)
	if err != nil {
		return nil, err
	}
	ids := []string{id}
	for _, r := range one.rows {
		if r.facts.PaymentIntent == "" && !slices.Contains(ids, r.facts.Charge) {
			ids = append(ids, r.facts.Charge)
		}
	}
	return ids, nil
}

// touched visits the ids of all payments that rows behind one and up to another can have changed:
// those they are about, and those that gained or lost rows because a charge was linked, whichever
// PaymentIntents the charge is linked to. An id can come more than once.
func (l *Ledger) touched(ctx context.Context, after, last uint64, visit func(tx *store.Tx, id string) error) error {
	return l.walkSlices(ctx, bucketEvents, seqKey(after+1), seqKey(last+1), func(tx *store.Tx, _, value []byte) error {
		r, err := decodeRow(value)
		if err != nil {
			return err
		}
		charges := append(r.facts.LinkedCharges(), r.facts.Charge)
		ids := append(charges, r.facts.PaymentIntent)
		for _, charge := range charges {
			links, err := readLinks(tx, charge)
			if err != nil {
				return err
			}
			for _, k := range links {
				if k.kind == linkToIntent {
					ids = append(ids, k.target)
				}
			}
		}
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			if id == "" {
				continue
			}
			if err := visit(tx, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// lastSeen returns the last row that readers see, be it on disk yet or not.
func (l *Ledger) lastSeen() (last uint64, err error) {
	err = l.store.View(func(tx *store.Tx) error {
		last = lastRow(tx)
		return nil
	})
	return last, err
}
