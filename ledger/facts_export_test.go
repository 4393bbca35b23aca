package ledger

// StoredFacts encodes a row with the facts and returns the facts that are decoded from it.
func StoredFacts(f Facts) (Facts, error) {
	r := row{id: "evt_1", source: Webhook, outcome: Applied, facts: f}
	again, err := decodeRow(r.encode())
	if err != nil {
		return Facts{}, err
	}
	return again.facts, nil
}

// ChangeFacts returns the encoded row with changed facts.
func ChangeFacts(value []byte, change func(*Facts)) ([]byte, error) {
	r, err := decodeRow(value)
	if err != nil {
		return nil, err
	}
	change(&r.facts)
	return r.encode(), nil
}

// StoredPayment encodes a payment with its entries, and decodes them again.
func StoredPayment(p *Payment, entries []Entry) (stored []byte, again *Payment, againEntries []Entry, err error) {
	s := &state{view: p, entries: entries}
	stored = s.encode()
	read, _, err := decodeHead(p.ID, stored)
	if err != nil {
		return nil, nil, nil, err
	}
	return stored, read.view, read.entries, nil
}

// SamePayment reports whether an event that makes q of p leaves the payment unchanged.
func SamePayment(p, q *Payment, entries, after []Entry) bool {
	return (&state{view: p, entries: entries}).sameAs(&state{view: q, entries: after})
}
