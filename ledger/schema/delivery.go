package schema

import (
	"time"

	"tillhook/ledger/store"
)

// Delivery holds the times at which an event was delivered here and created at Stripe, in Unix
// milliseconds.
type Delivery struct{ Received, Created int64 }

// At returns the time of the delivery. If that is in the future, because the clock was ahead, it
// returns the time at which the event was created, which is usually close, or 0 if that is in the
// future too.
func (d *Delivery) At(now time.Time) int64 {
	limit := now.Add(time.Minute).UnixMilli()
	switch {
	case d == nil:
		return 0
	case d.Received <= limit:
		return d.Received
	case d.Created <= limit:
		return d.Created
	}
	return 0
}

// LastDelivery returns the newest webhook delivery among the last MaxLooked rows, or nil if none of
// them is one. It skips damaged rows, so that they do not prevent a start; Check reports them.
func LastDelivery(tx *store.Tx) *Delivery {
	last := LastRow(tx)
	for seq := last; seq > 0 && seq+MaxLooked > last; seq-- {
		if r, err := ReadRow(tx, seq); err == nil && r.Source == Webhook && r.delivered(tx) {
			return &Delivery{r.Received, r.Created * 1000}
		}
	}
	return nil
}

// delivered reports whether the row was made by a delivery. The row of an event that was released
// from quarantine was not: it has the time of the delivery that put the event there.
func (r *Row) delivered(tx *store.Tx) bool {
	if r.Released == 0 {
		return true
	}
	old, err := ReadRow(tx, r.Released)
	return err == nil && old.Received != r.Received
}

// MaxLooked is the number of rows that LastDelivery examines. A longer run of fetched rows is rare.
const MaxLooked = 10000
