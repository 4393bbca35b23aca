package ledger

import (
	"tillhook/ledger/store"
	"time"
)

// delivery holds the times at which an event was delivered here and created at Stripe, in Unix
// milliseconds.
type delivery struct{ received, created int64 }

// at returns the time of the delivery. If that is in the future, because the clock was ahead, it
// returns the time at which the event was created, which is usually close, or 0 if that is in the
// future too.
func (d *delivery) at(now time.Time) int64 {
	limit := now.Add(time.Minute).UnixMilli()
	switch {
	case d == nil:
		return 0
	case d.received <= limit:
		return d.received
	case d.created <= limit:
		return d.created
	}
	return 0
}

// lastDelivery returns the newest webhook delivery among the last maxLooked rows, or nil if none of
// them is one. It skips damaged rows, so that they do not prevent a start; Check reports them.
func lastDelivery(tx *store.Tx) *delivery {
	last := lastRow(tx)
	for seq := last; seq > 0 && seq+maxLooked > last; seq-- {
		if r, err := readRow(tx, seq); err == nil && r.source == Webhook && r.delivered(tx) {
			return &delivery{r.received, r.created * 1000}
		}
	}
	return nil
}

// delivered reports whether the row was made by a delivery. The row of an event that was released
// from quarantine was not: it has the time of the delivery that put the event there.
func (r *row) delivered(tx *store.Tx) bool {
	if r.released == 0 {
		return true
	}
	old, err := readRow(tx, r.released)
	return err == nil && old.received != r.received
}

// maxLooked is the number of rows that lastDelivery examines. A longer run of fetched rows is rare.
const maxLooked = 10000
