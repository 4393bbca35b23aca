package ledger

import "cmp"

// An event folds its payment anew from all of its events. Of a payment with thousands, reading and
// decoding them takes ten times as long as folding them, and such a payment gets its next event
// soon. So the committer remembers the events of the payments that had many lately. Rows do not
// change and neither do their facts, so what is remembered is what the file holds for as long as no
// transaction fails.

const (
	// hotLeast events make a payment worth remembering.
	hotLeast = 32
	// hotBytes bounds what is remembered, roughly: 15,000 events.
	hotBytes = 24 << 20
)

// hotPayments are the committer's own. A nil one remembers nothing.
type hotPayments struct {
	payments map[string]*hotPayment
	size     int // of all of them
	limit    int // of size; 0 is hotBytes
	uses     uint64
}

// hotPayment is one as of the last change that was written.
type hotPayment struct {
	state *state
	rows  []*row // those of state.rows, in their order
	size  int
	used  uint64 // greater than that of all that were used before
}

// find returns a payment that is remembered, else nil.
func (h *hotPayments) find(id string) *hotPayment {
	if h == nil || h.payments[id] == nil {
		return nil
	}
	h.uses++
	h.payments[id].used = h.uses
	return h.payments[id]
}

// keep remembers a payment as it is after a change, if the change has its rows, and forgets what it
// was before.
func (h *hotPayments) keep(c *change) {
	if h == nil {
		return
	}
	had := h.payments[c.id]
	if had != nil {
		h.drop(c.id)
	}
	if c.after == nil || len(c.rows) < hotLeast {
		return
	}
	size, added := 0, c.rows
	if had != nil { // it only gets more
		size, added = had.size, c.rows[len(had.rows):]
	}
	for _, r := range added {
		size += r.memory()
	}
	limit := cmp.Or(h.limit, hotBytes)
	if size > limit {
		return
	}
	for h.size+size > limit {
		h.dropOldest()
	}
	if h.payments == nil {
		h.payments = map[string]*hotPayment{}
	}
	h.uses++
	h.payments[c.id] = &hotPayment{state: c.after, rows: c.rows, size: size, used: h.uses}
	h.size += size
}

func (h *hotPayments) drop(id string) {
	h.size -= h.payments[id].size
	delete(h.payments, id)
}

func (h *hotPayments) dropOldest() {
	var oldest string
	for id, p := range h.payments {
		if oldest == "" || p.used < h.payments[oldest].used {
			oldest = id
		}
	}
	h.drop(oldest)
}

// clear forgets all: a transaction failed, and what was remembered of it is not in the file.
func (h *hotPayments) clear() { *h = hotPayments{limit: h.limit} }

// memory is roughly what a row takes in memory.
func (r *row) memory() int {
	f := &r.facts
	n := 768 + 384*(len(f.Intents)+len(f.Charges)) + 192*(len(f.Refunds)+len(f.Disputes)) + 64*len(f.Sessions)
	for i := range f.Intents {
		n += 128 * len(f.Intents[i].Metadata)
	}
	for i := range f.Charges {
		n += 128 * len(f.Charges[i].Metadata)
	}
	for i := range f.Disputes {
		n += 64 * len(f.Disputes[i].Transactions)
	}
	return n
}

// compact returns the row as it will be read from the file. The texts of one that just came are
// parts of its body, all of which they would keep in memory.
func (r *row) compact() (*row, error) { return decodeRow(r.encode()) }
