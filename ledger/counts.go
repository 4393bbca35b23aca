package ledger

import (
	"slices"
)

// counts are kept in the transaction that changes them, so that nobody has to walk the ledger for them.
type counts struct {
	outcomes  [len(Outcomes)]uint64
	reasons   [len(Reasons)]uint64      // of the events in quarantine now
	statuses  [len(Statuses) + 2]uint64 // Stripe's seven, none, other
	conflicts uint64
	expired   uint64 // retention has passed every row up to here
}

// The two statuses in which payments are counted beside Stripe's.
const (
	StatusNone  = "none"  // no PaymentIntent was seen
	StatusOther = "other" // one that Stripe did not document when this was written
)

// event counts a row in (n is 1) or out (n is -1).
func (c *counts) event(r *row, n int) {
	c.outcomes[slices.Index(Outcomes[:], r.outcome)] += uint64(n)
	if r.outcome == Quarantined {
		c.reasons[slices.Index(Reasons[:], r.reason)] += uint64(n)
	}
}

// payment counts a payment in (n is 1) or out (n is -1).
func (c *counts) payment(p *Payment, n int) {
	i := slices.Index(Statuses[:], string(p.Status))
	switch {
	case p.Status == "":
		i = len(Statuses)
	case i < 0:
		i = len(Statuses) + 1
	}
	c.statuses[i] += uint64(n)
	if len(p.Flags) > 0 {
		c.conflicts += uint64(n)
	}
}

func (c *counts) encode() []byte {
	var e encoder
	for _, list := range [][]uint64{c.outcomes[:], c.reasons[:], c.statuses[:]} {
		for _, n := range list {
			e.uint(n)
		}
	}
	e.uint(c.conflicts)
	e.uint(c.expired)
	return e.buf
}

func readCounts(tx *txn) (*counts, error) {
	value, err := get(tx, bucketMeta, metaCounts)
	if err != nil {
		return nil, err
	}
	return decodeCounts(value)
}

func decodeCounts(value []byte) (*counts, error) {
	d := decoder{buf: value}
	var c counts
	for _, list := range [][]uint64{c.outcomes[:], c.reasons[:], c.statuses[:]} {
		for i := range list {
			list[i] = d.uint()
		}
	}
	c.conflicts = d.uint()
	c.expired = d.uint()
	return &c, d.end()
}

// Stats are figures about the ledger as of the last durable commit.
type Stats struct {
	Events      uint64             // rows
	Outcomes    map[Outcome]uint64 // rows by outcome
	Quarantined map[Reason]uint64  // rows in quarantine by reason
	Payments    map[string]uint64  // payments by status: Stripe's, StatusNone, StatusOther
	Conflicts   uint64             // payments with a flag
	FileBytes   int64              // size of the file
	FreeBytes   int64              // of it free for use again
}

// Stats walks nothing: it costs a stat of the file.
func (l *Ledger) Stats() (Stats, error) {
	c := l.counts.Load()
	s := Stats{Outcomes: map[Outcome]uint64{}, Quarantined: map[Reason]uint64{}, Payments: map[string]uint64{}, Conflicts: c.conflicts}
	for i, n := range c.outcomes {
		s.Outcomes[Outcomes[i]] = n
		s.Events += n
	}
	for i, n := range c.reasons {
		s.Quarantined[Reasons[i]] = n
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
	info, err := l.file.Stat()
	if err != nil {
		return s, err
	}
	s.FileBytes = info.Size()
	s.FreeBytes = int64(l.db.Stats().FreeAlloc)
	return s, nil
}
