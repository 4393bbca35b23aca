package ledger

import (
	"time"

	"tillhook/ledger/fold"
)

// Stats are figures about the ledger as of the last durable commit.
type Stats struct {
	Events uint64 // each event once
	// Outcomes are the events by outcome. Quarantined counts only those in quarantine now.
	Outcomes    map[Outcome]uint64
	Quarantined map[Reason]uint64                     // events in quarantine now, by reason
	States      map[Reason]map[QuarantineState]uint64 // the same by reason and state
	// Payments are the payments by status: those of Stripe, StatusNone and StatusOther.
	Payments map[string]uint64
	Flagged  map[string]uint64 // payments by flag
	// LastMoney is when the newest event of a PaymentIntent or a charge was received. It is zero if
	// there was no such event.
	LastMoney time.Time
	// LastSilent is the same for invoices and for paid Checkout Sessions that name no payment.
	LastSilent time.Time
	// Unknown counts the payments that Checkout reports as paid although no event states the amount
	// received.
	Unknown   uint64
	FileBytes int64 // size of the file
	FreeBytes int64 // bytes of the file that are free for reuse
}

// Stats returns the current figures. It reads no entries and only calls stat on the file.
func (l *Ledger) Stats() (Stats, error) {
	c := &l.published.Load().Counts
	s := Stats{Outcomes: map[Outcome]uint64{}, Quarantined: map[Reason]uint64{}, States: map[Reason]map[QuarantineState]uint64{}, Payments: map[string]uint64{}, Flagged: map[string]uint64{},
		Unknown: c.Unknown, LastMoney: timeOf(c.Money), LastSilent: timeOf(c.Silent)}
	for i, n := range c.Flags {
		s.Flagged[fold.Flags[i]] = n
	}
	for i, n := range c.Outcomes {
		s.Outcomes[Outcomes[i]] = n
		s.Events += n
	}
	for i, reason := range Reasons {
		s.Quarantined[reason], s.States[reason] = c.InQuarantine(reason), map[QuarantineState]uint64{}
		for j, n := range c.Quarantine[i] {
			s.States[reason][QuarantineStates[j]] = n
		}
	}
	for i, n := range c.Statuses {
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

// timeOf returns the time of Unix milliseconds, or the zero time for 0.
func timeOf(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}
