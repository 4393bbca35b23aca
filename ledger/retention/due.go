// Package retention decides which raw bodies are older than the retention period. Package ledger
// deletes them; a rebuild leaves them out.
//
// A wrong clock must not delete bodies too early. So the time by which they are deleted comes from
// the rows and from a checkpoint as well as from this machine's clock, and a row that a wrong clock
// dated is recognized by the rows around it.
package retention

import (
	"errors"
	"time"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Checkpoint is the name of the checkpoint that stores the retention time, in Unix milliseconds.
const Checkpoint = "retention-time"

const (
	// expireStep is the number of bodies that are deleted in one transaction.
	expireStep = 256
	// expireScan is the number of bodies that FindOverdue examines.
	expireScan = 2000
	// madeRows is the number of newest rows that NewestMade examines.
	madeRows = 4
)

// Due decides which rows are old enough. Times are Unix milliseconds.
type Due struct {
	before int64
	wall   int64 // this machine's clock
	floor  int64 // the rows examined next arrived after this time; 0 if unknown
}

// NewDue returns a Due for the rows that arrived before a time. wall is the time of this machine's
// clock.
func NewDue(before, wall time.Time) Due {
	return Due{before: before.UnixMilli(), wall: wall.UnixMilli()}
}

// age returns when a row arrived, as far as that is known. A row cannot have arrived before its
// event was created at Stripe, even if this machine's clock said so then. A creation time in the
// future is ignored.
func (d Due) age(r *schema.Row) int64 {
	if created := r.Created * 1000; created <= d.wall {
		return max(r.Received, created)
	}
	return r.Received
}

// Has reports whether a row is old enough.
func (d Due) Has(r *schema.Row) bool { return d.age(r) < d.before }

// pass raises the floor: the rows that come after r arrived after its event was created.
func (d *Due) pass(r *schema.Row) { d.floor = max(d.floor, min(r.Created*1000, d.age(r))) }

// dateSlack is how far out of order the dates of rows may be while the clock is right.
const dateSlack = int64(time.Hour / time.Millisecond)

// behind reports whether a clock that was behind has dated the row, so that it seems to be older
// than an earlier row. A released row has the date of its first delivery, so it is exempt.
func (d Due) behind(r *schema.Row) bool { return r.Released == 0 && d.age(r) < d.floor-dateSlack }

// Overdue is a range of rows that were examined.
type Overdue struct {
	from, To uint64
	Rows     []uint64 // whose bodies are to be deleted
	More     bool     // more may be due
}

// Enough reports whether the range justifies a commit.
func (s *Overdue) Enough() bool { return len(s.Rows) > 0 || s.To-s.from >= expireScan }

// FindOverdue examines the oldest bodies, a limited number at a time, because any number of them
// can be in quarantine and stay. Rows are in the order of arrival. A row that is not due ends the
// search, unless its date is wrong: see lastOverdue.
func FindOverdue(tx *store.Tx, from uint64, d Due) (Overdue, error) {
	s := Overdue{from: from, To: from}
	if r, err := schema.ReadRow(tx, from); err == nil {
		d.pass(r)
	}
	through := uint64(0) // rows up to here are due
	looked := 0
	for e := range tx.Ascend(schema.BucketBodies, schema.SeqKey(from+1)) {
		if s.More = looked == expireScan || len(s.Rows) == expireStep; s.More {
			return s, nil
		}
		looked++
		seq := schema.SeqOf(e.Key)
		r, err := schema.ReadRow(tx, seq)
		switch {
		case err != nil:
		case d.Has(r) && !d.behind(r):
			d.pass(r)
		case seq > through:
			if through = d.lastOverdue(tx, seq, r); through == 0 {
				return s, nil
			}
		}
		switch {
		case errors.Is(err, store.ErrCorrupt): // a rebuild may restore the row from its body
		case err != nil:
			return s, err
		case Expires(r):
			s.Rows = append(s.Rows, seq)
		}
		s.To = seq
	}
	return s, nil
}

// samples is the number of rows that are examined to decide which of two rows has the wrong date.
const samples = 15

// lastOverdue returns the last row that is known to be due although the row at seq, which arrived
// before it, has a date that is not due because a clock that was ahead dated it. It returns 0 if no
// such row is found. A single later row is not sufficient, because a clock that was behind may have
// dated it: most of the rows between the two must be due as well, unless the row at seq is dated in
// the future.
func (d Due) lastOverdue(tx *store.Tx, seq uint64, r *schema.Row) (found uint64) {
	isDue := func(seq uint64) bool {
		r, err := schema.ReadRow(tx, seq)
		return err == nil && d.Has(r) && !d.behind(r) && r.Created*1000 <= r.Received+dateSlack
	}
	last := schema.LastRow(tx)
	for step := uint64(1); seq+step <= last; step *= 2 {
		if isDue(seq + step) {
			found = seq + step
		}
	}
	if found == 0 || d.age(r) > d.wall+dateSlack {
		return found
	}
	n, old := min(samples, found-seq), uint64(0)
	for i := range n {
		if isDue(found - i*(found-seq)/n) {
			old++
		}
	}
	if old < 3 || 2*old <= n {
		return 0
	}
	return found
}

// Expires reports whether the row's body may be deleted because of its age: a body in quarantine
// may not.
func Expires(r *schema.Row) bool { return r.Outcome != schema.Quarantined }

// TimeSeen returns the stored retention time. If there is no stored time, it returns when the
// newest row was received, leaving out rows received after wall, or wall if the ledger is empty.
func TimeSeen(tx *store.Tx, wall time.Time) time.Time {
	if ms, err := schema.ReadCheckpoint(tx, Checkpoint); err == nil && ms != 0 {
		return time.UnixMilli(ms)
	}
	last := schema.LastRow(tx)
	for seq := last; seq > 0 && seq+schema.MaxLooked > last; seq-- {
		if r, err := schema.ReadRow(tx, seq); err == nil && r.Received <= wall.UnixMilli() {
			return time.UnixMilli(r.Received)
		}
	}
	if last == 0 {
		return wall
	}
	return time.UnixMilli(1) // no row has a usable time: nothing is due until time has passed
}

// NewestMade returns the latest time at which Stripe created one of the last rows. It ignores times
// after wall.
func NewestMade(tx *store.Tx, wall time.Time) time.Time {
	newest := int64(0)
	last := schema.LastRow(tx)
	for seq := last; seq > 0 && seq+madeRows > last; seq-- {
		if r, err := schema.ReadRow(tx, seq); err == nil && r.Created <= wall.Unix() {
			newest = max(newest, r.Created)
		}
	}
	return time.Unix(newest, 0)
}
