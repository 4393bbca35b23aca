package schema

import (
	"slices"
	"strings"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// Counts are running counts. The transaction that changes them also stores them, so that reading
// them does not require a walk through the ledger.
type Counts struct {
	Outcomes   [len(Outcomes)]uint64
	Quarantine [len(Reasons)][len(QuarantineStates)]uint64 // events in quarantine now
	Released   uint64                                      // old rows of released events
	Statuses   [len(fold.Statuses) + 2]uint64              // Stripe's, StatusNone, StatusOther
	Flags      [len(fold.Flags)]uint64                     // payments by flag
	// Money is when the newest row with a PaymentIntent or a charge was received, in Unix
	// milliseconds.
	Money uint64
	// Silent is the same for rows with only invoices or paid Checkout Sessions. These do not state
	// the amount received.
	Silent uint64
	// Unknown counts the payments that Checkout reports as paid although no event states the amount
	// received.
	Unknown uint64
	Expired uint64 // retention has processed every row up to this one
}

// Statuses of payments in addition to those of Stripe.
const (
	StatusNone  = "none"  // no PaymentIntent was seen
	StatusOther = "other" // a status that Stripe did not document when this was written
)

// AddEvent adds an event to the counts by outcome (n is 1) or removes it (n is -1). An event that
// left quarantine is counted by its new row.
func (c *Counts) AddEvent(r *Row, n int) {
	c.Outcomes[slices.Index(Outcomes[:], r.Outcome)] += uint64(n)
	if n < 0 {
		return // the newest row remains the newest
	}
	if len(r.Facts.Intents)+len(r.Facts.Charges) > 0 {
		c.Money = r.newer(c.Money)
	} else if r.Outcome != Quarantined && r.paidElsewhere() {
		c.Silent = r.newer(c.Silent)
	}
}

// newer returns when the newest row of a kind was received: than, or the time of r if that is
// later. If than is more than a day later than r, an earlier row was received while the clock was
// ahead, and newer returns the time of r. This does not apply to an event that left quarantine,
// because it keeps its original time.
func (r *Row) newer(than uint64) uint64 {
	received := uint64(max(0, r.Received))
	if r.Released == 0 && than > received+SecondsADay*1000 {
		return received
	}
	return max(than, received)
}

// paidElsewhere reports whether the row is about something that was paid by a payment that the row
// does not name.
func (r *Row) paidElsewhere() bool {
	paid := slices.ContainsFunc(r.Facts.Sessions, func(s fold.Session) bool { return s.PaymentStatus == "paid" })
	return paid || strings.HasPrefix(r.Type, "invoice.") || strings.HasPrefix(r.Type, "invoice_payment.")
}

// AddQuarantined adds an entry in quarantine to the counts (n is 1) or removes it (n is -1).
func (c *Counts) AddQuarantined(reason Reason, state QuarantineState, n int) {
	c.Quarantine[slices.Index(Reasons[:], reason)][slices.Index(QuarantineStates[:], state)] += uint64(n)
}

// InQuarantine returns the number of events that are in quarantine for a reason.
func (c *Counts) InQuarantine(reason Reason) (n uint64) {
	for _, of := range c.Quarantine[slices.Index(Reasons[:], reason)] {
		n += of
	}
	return n
}

// NotExpected returns the number of events in quarantine whose state is not Expected.
func (c *Counts) NotExpected() (n uint64) {
	for _, of := range c.Quarantine {
		for i, state := range QuarantineStates {
			if state != Expected {
				n += of[i]
			}
		}
	}
	return n
}

// AddPayment adds a payment to the counts (n is 1) or removes it (n is -1).
func (c *Counts) AddPayment(s *State, n int) {
	p := s.Payment
	i := slices.Index(fold.Statuses[:], string(p.Status))
	switch {
	case p.Status == "":
		i = len(fold.Statuses)
	case i < 0:
		i = len(fold.Statuses) + 1
	}
	c.Statuses[i] += uint64(n)
	for _, name := range p.Flags {
		c.Flags[slices.Index(fold.Flags[:], name)] += uint64(n)
	}
	if s.Silent() {
		c.Unknown += uint64(n)
	}
}

// Silent reports whether Checkout reports the payment as paid although no event states the amount
// received.
func (s *State) Silent() bool {
	p := s.Payment
	unknown := p.AmountReceived == nil && !slices.Contains(p.Flags, fold.FlagOverflow)
	stale := p.AmountReceived != nil && *p.AmountReceived == 0 && p.Status != "succeeded" && p.Status != "canceled"
	return s.paidSession && (unknown || stale)
}

// numbers returns pointers to all counts, in the order in which they are stored.
func (c *Counts) numbers() (all []*uint64) {
	lists := [][]uint64{c.Outcomes[:], c.Statuses[:], c.Flags[:]}
	for i := range c.Quarantine {
		lists = append(lists, c.Quarantine[i][:])
	}
	for _, list := range lists {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	return append(all, &c.Money, &c.Silent, &c.Unknown, &c.Expired, &c.Released)
}

// Encode returns the stored form of the counts.
func (c *Counts) Encode() []byte {
	var e encoder
	for _, n := range c.numbers() {
		e.uint(*n)
	}
	return e.buf
}

// ReadCounts reads the counts.
func ReadCounts(tx *store.Tx) (*Counts, error) {
	value, err := tx.Get(BucketMeta, MetaCounts)
	if err != nil {
		return nil, err
	}
	return decodeCounts(value)
}

func decodeCounts(value []byte) (*Counts, error) {
	d := decoder{buf: value}
	var c Counts
	for _, n := range c.numbers() {
		*n = d.uint()
	}
	return &c, d.end()
}
