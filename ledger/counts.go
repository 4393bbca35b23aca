package ledger

import (
	"slices"
	"strings"
	"time"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// counts are kept in the transaction that changes them, so that nobody has to walk the ledger for them.
type counts struct {
	outcomes   [len(Outcomes)]uint64
	quarantine [len(Reasons)][len(QuarantineStates)]uint64 // the events in quarantine now
	released   uint64                                      // rows of events that left quarantine, and have another row now
	statuses   [len(Statuses) + 2]uint64                   // Stripe's seven, none, other
	flags      [len(fold.Flags)]uint64                     // payments by flag
	money      uint64                                      // when the newest row of a PaymentIntent or a charge was received, Unix milliseconds
	silent     uint64                                      // the same of invoices and of paid Checkout Sessions alone: they do not say what was received
	unknown    uint64                                      // payments that Checkout calls paid, and of which nothing else is known
	expired    uint64                                      // retention has passed every row up to here
}

// The two statuses in which payments are counted beside Stripe's.
const (
	StatusNone  = "none"  // no PaymentIntent was seen
	StatusOther = "other" // one that Stripe did not document when this was written
)

// event counts an event by its outcome, in (n is 1) or out (n is -1). One that left quarantine is
// counted by its new row.
func (c *counts) event(r *row, n int) {
	c.outcomes[slices.Index(Outcomes[:], r.outcome)] += uint64(n)
	if n < 0 {
		return // the newest one stays the newest
	}
	if len(r.facts.Intents)+len(r.facts.Charges) > 0 {
		c.money = r.newer(c.money)
	} else if r.outcome != Quarantined && r.paidElsewhere() {
		c.silent = r.newer(c.silent)
	}
}

// newer returns the later of when the row and an earlier one of its kind were received. One that
// was received more than a day after a row that came later was dated by a clock that was ahead.
func (r *row) newer(than uint64) uint64 {
	received := uint64(max(0, r.received))
	if r.released == 0 && than > received+secondsADay*1000 {
		return received
	}
	return max(than, received)
}

// paidElsewhere reports whether the row is about something that was paid by a payment it does not
// name.
func (r *row) paidElsewhere() bool {
	paid := slices.ContainsFunc(r.facts.Sessions, func(s Session) bool { return s.PaymentStatus == "paid" })
	return paid || strings.HasPrefix(r.typ, "invoice.") || strings.HasPrefix(r.typ, "invoice_payment.")
}

// quarantined counts an entry in quarantine in or out.
func (c *counts) quarantined(reason Reason, state QuarantineState, n int) {
	c.quarantine[slices.Index(Reasons[:], reason)][slices.Index(QuarantineStates[:], state)] += uint64(n)
}

// inQuarantine is how many events lie in quarantine for a reason.
func (c *counts) inQuarantine(reason Reason) (n uint64) {
	for _, of := range c.quarantine[slices.Index(Reasons[:], reason)] {
		n += of
	}
	return n
}

// notExpected is how many events lie in quarantine in another state than Expected.
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

// payment counts a payment in (n is 1) or out (n is -1).
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

// silent reports whether Checkout calls the payment paid, and no event says what was received.
func (s *state) silent() bool {
	p := s.view
	unknown := p.AmountReceived == nil && !slices.Contains(p.Flags, fold.FlagOverflow)
	stale := p.AmountReceived != nil && *p.AmountReceived == 0 && p.Status != "succeeded" && p.Status != "canceled"
	return s.paidSession && (unknown || stale)
}

// numbers are all counts in the order they are stored in.
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

// Stats are figures about the ledger as of the last durable commit.
type Stats struct {
	Events      uint64                                // each once
	Outcomes    map[Outcome]uint64                    // events by outcome; Quarantined are those that lie there now
	Quarantined map[Reason]uint64                     // events in quarantine now by reason
	States      map[Reason]map[QuarantineState]uint64 // the same by reason and state
	Payments    map[string]uint64                     // payments by status: Stripe's, StatusNone, StatusOther
	Flagged     map[string]uint64                     // payments by flag
	LastMoney   time.Time                             // when the newest event of a PaymentIntent or a charge was received; zero if none was
	LastSilent  time.Time                             // the same of invoices, and of paid Checkout Sessions that name no payment
	Unknown     uint64                                // payments that Checkout calls paid, of which no event says what was received
	FileBytes   int64                                 // size of the file
	FreeBytes   int64                                 // of it free for use again
}

// Stats walks nothing: it costs a stat of the file.
func (l *Ledger) Stats() (Stats, error) {
	c := &l.published.Load().counts
	s := Stats{Outcomes: map[Outcome]uint64{}, Quarantined: map[Reason]uint64{}, States: map[Reason]map[QuarantineState]uint64{}, Payments: map[string]uint64{}, Flagged: map[string]uint64{},
		Unknown: c.unknown, LastMoney: timeOf(c.money), LastSilent: timeOf(c.silent)}
	for i, n := range c.flags {
		s.Flagged[fold.Flags[i]] = n
	}
	for i, n := range c.outcomes {
		s.Outcomes[Outcomes[i]] = n
		s.Events += n
	}
	for i, reason := range Reasons {
		s.Quarantined[reason], s.States[reason] = c.inQuarantine(reason), map[QuarantineState]uint64{}
		for j, n := range c.quarantine[i] {
			s.States[reason][QuarantineStates[j]] = n
		}
	}
	for i, n := range c.statuses {
		switch {
		case i < len(Statuses):
			s.Payments[Statuses[i]] = n
		case i == len(Statuses):
			s.Payments[StatusNone] = n
		default:
			s.Payments[StatusOther] = n
		}
	}
	sizes, err := l.store.Sizes(nil)
	s.FileBytes, s.FreeBytes = sizes.Bytes, sizes.FreeBytes
	return s, err
}

// timeOf returns a time in Unix milliseconds, of which 0 is none.
func timeOf(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}
