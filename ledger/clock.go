package ledger

import (
	"context"
	"time"

	"tillhook/ledger/retention"
	"tillhook/ledger/store"
)

const (
	// retentionPace is how many times faster than real time the retention time may advance.
	retentionPace = 24
	// retentionKept is the interval at which the checkpoint is written.
	retentionKept = time.Hour
	// longJump is how far the clock must be ahead of the retention time for that to be reported.
	longJump = 24 * time.Hour
)

// retentionTime is the time by which bodies are deleted. It limits what a wrong system clock can
// delete. It is never ahead of the system clock. While the ledger is open, it advances at most
// retentionPace times as fast as real time, but it moves at once to the time at which Stripe
// created the newest events:
//
//   - A system clock that is 100 days ahead for a minute deletes only what is due in the next 24
//     minutes.
//   - A machine that boots in 1970 deletes nothing.
//   - After ten days without a receiver, deletion catches up with the first event, or within ten
//     hours.
//
// The ledger stores the retention time, so that it survives a restart.
type retentionTime struct {
	at      time.Time // at the last call of now, or when the ledger was opened
	looked  time.Time // when that was; its monotonic reading ignores clock changes
	kept    time.Time // the value that was last written
	written time.Time // when it was last written; also with a monotonic reading
	jumped  bool      // a clock far ahead was reported
}

// wall returns the time of the system clock.
func (l *Ledger) wall() time.Time {
	if l.opts.Now != nil {
		return l.opts.Now()
	}
	return time.Now()
}

// begin sets the retention time when the ledger is opened.
func (t *retentionTime) begin(tx *store.Tx, wall time.Time) {
	t.at, t.looked = retention.TimeSeen(tx, wall), time.Now()
}

// now advances the retention time and returns it. Only one goroutine may call it.
func (t *retentionTime) now(ctx context.Context, l *Ledger) (time.Time, error) {
	wall, looked := l.wall().Round(0), time.Now()
	made := time.Time{}
	if err := l.store.View(func(tx *store.Tx) error { made = retention.NewestMade(tx, wall); return nil }); err != nil {
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
		if err := l.SetCheckpoints(ctx, map[string]int64{retention.Checkpoint: t.at.UnixMilli()}); err != nil {
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

// RetentionLag returns how far the system clock is ahead of the retention time. It exceeds a minute
// or two if the clock jumped ahead or the receiver was not running. It becomes small as soon as the
// clock is right again, even before the retention time is next computed.
func (l *Ledger) RetentionLag() time.Duration {
	return min(time.Duration(l.retentionLag.Load()), l.wall().Sub(time.Unix(0, l.retentionAt.Load())))
}
