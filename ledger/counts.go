package ledger

import (
	"slices"
	"strings"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// counts are running counts. The transaction that changes them also stores them, so that reading
// them does not require a walk through the ledger.
type counts struct {
	outcomes   [len(Outcomes)]uint64
	quarantine [len(Reasons)][len(QuarantineStates)]uint64 // events in quarantine now
	released   uint64                                      // old rows of released events
	statuses   [len(Statuses) + 2]uint64                   // Stripe's, StatusNone, StatusOther
	flags      [len(fold.Flags)]uint64                     // payments by flag
	// money is when the newest row with a PaymentIntent or a charge was received, in Unix
	// milliseconds.
	money uint64
	// silent is the same for rows with only invoices or paid Checkout Sessions. These do not state
	// the amount received.
	silent uint64
	// unknown counts the payments that Checkout reports as paid although no event states the amount
	// received.
	unknown uint64
	expired uint64 // retention has processed every row up to this one
}

// Statuses of payments in addition to those of Stripe.
const (
	StatusNone  = "none"  // no PaymentIntent was seen
	StatusOther = "other" // a status that Stripe did not document when this was written
)

// event adds an event to the counts by outcome (n is 1) or removes it (n is -1). An event that left
// quarantine is counted by its new row.
func (c *counts) event(r *row, n int) {
	c.outcomes[slices.Index(Outcomes[:], r.outcome)] += uint64(n)
	if n < 0 {
		return // the newest row remains the newest
	}
	if len(r.facts.Intents)+len(r.facts.Charges) > 0 {
		c.money = r.newer(c.money)
	} else if r.outcome != Quarantined && r.paidElsewhere() {
		c.silent = r.newer(c.silent)
	}
}

// newer returns when the newest row of a kind was received: than, or the time of r if that is
// later. If than is more than a day later than r, an earlier row was received while the clock was
// ahead, and newer returns the time of r. This does not apply to an event that left quarantine,
// because it keeps its original time.
func (r *row) newer(than uint64) uint64 {
	received := uint64(max(0, r.received))
	if r.released == 0 && than > received+secondsADay*1000 {
		return received
	}
	return max(than, received)
}

// paidElsewhere reports whether the row is about something that was paid by a payment that the row
// does not name.
func (r *row) paidElsewhere() bool {
	paid := slices.ContainsFunc(r.facts.Sessions, func(s Session) bool { return s.PaymentStatus == "paid" })
	return paid || strings.HasPrefix(r.typ, "invoice.") || strings.HasPrefix(r.typ, "invoice_payment.")
}

// quarantined adds an entry in quarantine to the counts (n is 1) or removes it (n is -1).
func (c *counts) quarantined(reason Reason, state QuarantineState, n int) {
	c.quarantine[slices.Index(Reasons[:], reason)][slices.Index(QuarantineStates[:], state)] += uint64(n)
}

// inQuarantine returns the number of events that are in quarantine for a reason.
func (c *counts) inQuarantine(reason Reason) (n uint64) {
	for _, of := range c.quarantine[slices.Index(Reasons[:], reason)] {
		n += of
	}
	return n
}

// notExpected returns the number of events in quarantine whose state is not Expected.
func (c *counts) notExpected() (n uint64) {
	for _, of := range c.quarantine {
		for i, state := range QuarantineStates {
			if state != Expected {
				n += of[i]
			}
		}
	}
	return n
}

// payment adds a payment to the counts (n is 1) or removes it (n is -1).
func (c *counts) payment(s *state, n int) {
	p := s.view
	i := slices.Index(Statuses[:], string(p.Status))
	switch {
	case p.Status == "":
		i = len(Statuses)
	case i < 0:
		i = len(Statuses) + 1
	}
	c.statuses[i] += uint64(n)
	for _, name := range p.Flags {
		c.flags[slices.Index(fold.Flags[:], name)] += uint64(n)
	}
	if s.silent() {
		c.unknown += uint64(n)
	}
}

// silent reports whether Checkout reports the payment as paid although no event states the amount
// received.
func (s *state) silent() bool {
	p := s.view
	unknown := p.AmountReceived == nil && !slices.Contains(p.Flags, fold.FlagOverflow)
	stale := p.AmountReceived != nil && *p.AmountReceived == 0 && p.Status != "succeeded" && p.Status != "canceled"
	return s.paidSession && (unknown || stale)
}

// numbers returns pointers to all counts, in the order in which they are stored.
func (c *counts) numbers() (all []*uint64) {
	lists := [][]uint64{c.outcomes[:], c.statuses[:], c.flags[:]}
	for i := range c.quarantine {
		lists = append(lists, c.quarantine[i][:])
	}
	for _, list := range lists {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	return append(all, &c.money, &c.silent, &c.unknown, &c.expired, &c.released)
}

func (c *counts) encode() []byte {
	var e encoder
	for _, n := range c.numbers() {
		e.uint(*n)
	}
	return e.buf
}

func readCounts(tx *store.Tx) (*counts, error) {
	value, err := tx.Get(bucketMeta, metaCounts)
	if err != nil {
		return nil, err
	}
	return decodeCounts(value)
}

func decodeCounts(value []byte) (*counts, error) {
	d := decoder{buf: value}
	var c counts
	for _, n := range c.numbers() {
		*n = d.uint()
	}
	return &c, d.end()
}
