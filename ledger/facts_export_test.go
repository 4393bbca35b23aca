package ledger

import "tillhook/ledger/schema"

// StoredFacts encodes a row with the facts and returns the facts that are decoded from it.
func StoredFacts(f Facts) (Facts, error) {
	r := schema.Row{ID: "evt_1", Source: Webhook, Outcome: Applied, Facts: f}
	again, err := schema.DecodeRow(r.Encode())
	if err != nil {
		return Facts{}, err
	}
	return again.Facts, nil
}

// ChangeFacts returns the encoded row with changed facts.
func ChangeFacts(value []byte, change func(*Facts)) ([]byte, error) {
	r, err := schema.DecodeRow(value)
	if err != nil {
		return nil, err
	}
	change(&r.Facts)
	return r.Encode(), nil
}

// StoredPayment encodes a payment with its entries, and decodes them again.
func StoredPayment(p *Payment, entries []Entry) (stored []byte, again *Payment, againEntries []Entry, err error) {
	s := &schema.State{Payment: p, Entries: entries}
	stored = s.Encode()
	read, _, err := schema.DecodeHead(p.ID, stored)
	if err != nil {
		return nil, nil, nil, err
	}
	return stored, read.Payment, read.Entries, nil
}

// SamePayment reports whether an event that makes q of p leaves the payment unchanged.
func SamePayment(p, q *Payment, entries, after []Entry) bool {
	return (&schema.State{Payment: p, Entries: entries}).SameAs(&schema.State{Payment: q, Entries: after})
}
