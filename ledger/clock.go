package ledger

import (
	"context"
	"tillhook/ledger/store"
	"time"
)

const (
	// retentionPace bounds how much faster than time passes the time runs by which bodies are
	// deleted.
	retentionPace = 24
	// retentionMark is that time as it was last written down, Unix milliseconds.
	retentionMark = "retention-time"
	// retentionKept is how often it is written down while nothing is deleted.
	retentionKept = time.Hour
	// madeRows are looked at for when the newest event was made.
	madeRows = 4
	// longJump is by how much the clock must be ahead of it for that to be reported.
	longJump = 24 * time.Hour
)

// retentionTime is the time by which bodies are deleted. It is never ahead of this machine's clock,
// and follows it at most retentionPace times as fast as time passes while the ledger is open, but
// at once up to when the newest events were made by Stripe's clock. So a clock that is 100 days
// ahead for a minute deletes what is due in the next 24 minutes, a machine that boots in 1970
// deletes nothing, and after ten days without a receiver the deletion has caught up with the first
// event, or within ten hours. The ledger keeps it across restarts.
type retentionTime struct {
	at      time.Time // at the last look, or when the ledger was opened
	looked  time.Time // when that was; its monotonic reading outlives changes of this machine's clock
	kept    time.Time // as it was last written down
	written time.Time // when that was; likewise
	jumped  bool      // it was reported that the clock is far ahead
}

// wall returns this machine's time.
func (l *Ledger) wall() time.Time {
	if l.opts.Now != nil {
		return l.opts.Now()
	}
	return time.Now()
}

// begin says where a ledger that is opened stands.
func (t *retentionTime) begin(tx *store.Tx, wall time.Time) {
	t.at, t.looked = timeSeen(tx, wall), time.Now()
}

// now returns the time to delete by. Only one goroutine may call it.
func (t *retentionTime) now(ctx context.Context, l *Ledger) (time.Time, error) {
	wall, looked := l.wall().Round(0), time.Now()
	made := time.Time{}
	if err := l.store.View(func(tx *store.Tx) error { made = newestMade(tx, wall); return nil }); err != nil {
		return time.Time{}, err
	}
	t.at, t.looked = t.at.Add(retentionPace*looked.Sub(t.looked)), looked
	if t.at.Before(made) {
		t.at = made
	}
	if t.at.After(wall) {
		t.at = wall
	}
	if t.written.IsZero() || looked.Sub(t.written) >= retentionKept || t.kept.Sub(t.at) >= retentionKept {
		if err := l.SetCheckpoints(ctx, map[string]int64{retentionMark: t.at.UnixMilli()}); err != nil {
			return time.Time{}, err
		}
		t.written, t.kept = looked, t.at
	}
	l.retentionAt.Store(t.at.UnixNano())
	lag := wall.Sub(t.at)
	l.retentionLag.Store(int64(lag))
	if jumped := lag > longJump; jumped != t.jumped {
		if t.jumped = jumped; jumped && l.opts.ClockJumped != nil {
			l.opts.ClockJumped(lag)
		}
	}
	return t.at, nil
}

// RetentionLag returns how far this machine's clock is ahead of the time by which bodies are
// deleted. It is more than a minute or two where the clock has jumped, or the receiver was off.
// Once the clock is right again it is small at once, before the next look.
func (l *Ledger) RetentionLag() time.Duration {
	return min(time.Duration(l.retentionLag.Load()), l.wall().Sub(time.Unix(0, l.retentionAt.Load())))
}

// newestMade returns when the newest of the last rows was made at Stripe, but for those of the
// future.
func newestMade(tx *store.Tx, wall time.Time) time.Time {
	newest := int64(0)
	last := lastRow(tx)
	for seq := last; seq > 0 && seq+madeRows > last; seq-- {
		if r, err := readRow(tx, seq); err == nil && r.created <= wall.Unix() {
			newest = max(newest, r.created)
		}
	}
	return time.Unix(newest, 0)
}

// timeSeen returns the time to delete by that the ledger keeps or, where it keeps none, when its
// newest row came that is not of the future.
func timeSeen(tx *store.Tx, wall time.Time) time.Time {
	if ms, err := readMark(tx, retentionMark); err == nil && ms != 0 {
		return time.UnixMilli(ms)
	}
	last := lastRow(tx)
	for seq := last; seq > 0 && seq+maxLooked > last; seq-- {
		if r, err := readRow(tx, seq); err == nil && r.received <= wall.UnixMilli() {
			return time.UnixMilli(r.received)
		}
	}
	if last == 0 {
		return wall
	}
	return time.UnixMilli(1) // no row says anything: nothing is due before time has passed
}
