package export

import (
	"context"
	"maps"
	"slices"

	"tillhook/ledger/fold"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// past reads payments as they were when the journal ended at a given row. Rows do not change and
// are not removed, so that view is a function of the rows up to there, whatever was added later.
// Only the payment that a row belongs to can change: a row that names a charge but no PaymentIntent
// belongs to the least PaymentIntent that any row links to the charge or, if no row does, to a
// payment with the charge's own id. So a row of the view may belong to another payment now, and
// past looks for it there.
type past struct {
	tx       *store.Tx
	livemode bool
	last     uint64                 // the row at which the journal ends
	read     map[string]*presentOne // current payments by id
}

// presentOne holds the rows of the view that belong to a given payment now.
type presentOne struct {
	rows    []*schema.Row
	charges map[string]bool // charges that the rows link to the PaymentIntent with the payment's id
}

func (x *Export) past(tx *store.Tx, last uint64) *past {
	return &past{tx: tx, livemode: x.livemode, last: last, read: map[string]*presentOne{}}
}

func (p *past) present(id string) (*presentOne, error) {
	if one := p.read[id]; one != nil {
		return one, nil
	}
	s, err := schema.ReadState(p.tx, id)
	if err != nil {
		return nil, err
	}
	var seqs []uint64
	if s != nil {
		seqs = slices.DeleteFunc(s.Rows, func(seq uint64) bool { return seq > p.last })
	}
	rows, err := schema.ReadRows(p.tx, seqs)
	if err != nil {
		return nil, err
	}
	one := &presentOne{rows: rows, charges: map[string]bool{}}
	for _, r := range rows {
		if r.Facts.PaymentIntent == id {
			for _, charge := range r.Facts.LinkedCharges() {
				one.charges[charge] = true
			}
		}
	}
	p.read[id] = one
	return one, nil
}

// owner returns the payment to which the rows that name the charge but no PaymentIntent belonged in
// the view.
func (p *past) owner(charge string) (string, error) {
	links, err := schema.ReadLinks(p.tx, charge)
	if err != nil {
		return "", err
	}
	for _, k := range links { // sorted, so the least PaymentIntent comes first
		if k.Kind != schema.LinkToIntent {
			continue
		}
		if one, err := p.present(k.Target); err != nil || one.charges[charge] {
			return k.Target, err
		}
	}
	return charge, nil
}

// payment returns a payment as it was, or nil if no payment had the id.
func (p *past) payment(id string) (*schema.State, error) {
	one, err := p.present(id)
	if err != nil {
		return nil, err
	}
	var rows []*schema.Row
	for _, r := range one.rows {
		if r.Facts.PaymentIntent == id {
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
		of, err := p.withoutIntent(charge)
		if err != nil {
			return nil, err
		}
		rows = append(rows, of...)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return schema.FoldRows(id, p.livemode, rows), nil
}

// withoutIntent returns the rows that name the charge but no PaymentIntent. All of them belong to
// the same payment now.
func (p *past) withoutIntent(charge string) (rows []*schema.Row, err error) {
	id, err := schema.PaymentOf(p.tx, &fold.Facts{Charge: charge})
	if err != nil {
		return nil, err
	}
	one, err := p.present(id)
	if err != nil {
		return nil, err
	}
	for _, r := range one.rows {
		if r.Facts.PaymentIntent == "" && r.Facts.Charge == charge {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// candidates returns the ids under which the rows of a payment may have been payments: the
// payment's own id, and the ids of the charges that its rows name without a PaymentIntent.
func (p *past) candidates(id string) ([]string, error) {
	one, err := p.present(id)
	if err != nil {
		return nil, err
	}
	ids := []string{id}
	for _, r := range one.rows {
		if r.Facts.PaymentIntent == "" && !slices.Contains(ids, r.Facts.Charge) {
			ids = append(ids, r.Facts.Charge)
		}
	}
	return ids, nil
}

// touched calls visit with the id of every payment that the rows after one row and up to another
// can have changed: the payments that the rows are about, and those that gained or lost rows
// because a charge was linked, whichever PaymentIntents the charge is linked to. It may visit an id
// more than once.
func (x *Export) touched(ctx context.Context, after, last uint64, visit func(tx *store.Tx, id string) error) error {
	return x.reads.Walk(ctx, schema.BucketEvents, schema.SeqKey(after+1), schema.SeqKey(last+1), func(tx *store.Tx, _, value []byte) error {
		r, err := schema.DecodeRow(value)
		if err != nil {
			return err
		}
		charges := append(r.Facts.LinkedCharges(), r.Facts.Charge)
		ids := append(charges, r.Facts.PaymentIntent)
		for _, charge := range charges {
			links, err := schema.ReadLinks(tx, charge)
			if err != nil {
				return err
			}
			for _, k := range links {
				if k.Kind == schema.LinkToIntent {
					ids = append(ids, k.Target)
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

// lastSeen returns the last row that readers see, whether or not it is on disk yet.
func (x *Export) lastSeen() (last uint64, err error) {
	err = x.store.View(func(tx *store.Tx) error {
		last = schema.LastRow(tx)
		return nil
	})
	return last, err
}
