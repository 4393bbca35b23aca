package ledger

import (
	"context"
	"slices"
	"time"

	"tillhook/ledger/fold"
	"tillhook/ledger/scan"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// StalePayment is a payment whose state here may differ from its state at Stripe.
type StalePayment struct {
	Payment string
	Account string
	Context string
	Charge  string // the charge whose refunds do not add up; empty for other kinds
	Kind    StaleReason
}

// StaleReason is why a payment may be out of date.
type StaleReason string

// Reasons why a payment may be out of date.
const (
	StaleProcessing StaleReason = "processing" // processing for longer than most banks take
	// StaleCapture means that the payment has awaited capture for longer than an authorization
	// lasts.
	StaleCapture  StaleReason = "requires_capture"
	StaleConflict StaleReason = "conflict" // events report both terminal statuses
	// StaleRefunds means that more was refunded on a charge than its known refunds add up to.
	StaleRefunds StaleReason = "refunds"
)

const (
	// processingTime is how long most payments take if their method does not confirm at once.
	processingTime = 24 * time.Hour
	// captureTime is how long an authorization lasts unless it was extended.
	// https://docs.stripe.com/payments/place-a-hold-on-a-payment-method
	captureTime = 7 * 24 * time.Hour
)

// StalePayments lists payments created at since or later whose state may be out of date at now,
// newest first. A payment appears once for each reason and charge. The list has at most limit
// elements.
func (l *Ledger) StalePayments(ctx context.Context, since, now time.Time, limit int) (list []StalePayment, err error) {
	s := scan.Search{Bucket: schema.BucketPaymentsTime, Floor: schema.TimeKey(since.Unix(), "")}
	err = l.reads.Descend(ctx, &s, func(tx *store.Tx, key []byte) (stop bool, err error) {
		if len(list) >= limit {
			return true, nil
		}
		s, err := schema.ReadState(tx, string(key[8:]))
		if err != nil || s == nil {
			return err != nil, err
		}
		list = append(list, staleReasons(s, now)...)
		return false, nil
	})
	return list[:min(len(list), limit)], err
}

// staleReasons returns the reasons why the payment may be out of date at now.
func staleReasons(s *schema.State, now time.Time) (list []StalePayment) {
	p := s.Payment
	add := func(kind StaleReason, charge string) {
		list = append(list, StalePayment{Payment: p.ID, Account: string(p.Account), Context: string(p.Context), Charge: charge, Kind: kind})
	}
	older := func(than OrNullTime, age time.Duration) bool {
		return than != 0 && now.Sub(time.Unix(int64(than), 0)) > age
	}
	switch {
	case slices.Contains(p.Flags, fold.FlagConflict):
		add(StaleConflict, "")
	case p.Status == "processing" && older(p.Updated, processingTime):
		add(StaleProcessing, "")
	case p.Status == "requires_capture" && older(p.Created, captureTime):
		add(StaleCapture, "")
	}
	for _, charge := range s.Unexplained {
		add(StaleRefunds, charge)
	}
	return list
}

// UnknownReceived returns the number of payments created at from or later and before to that
// Checkout reports as paid although no event states the amount received. It examines only the
// newest 2,000 payments of that period.
func (l *Ledger) UnknownReceived(ctx context.Context, from, to time.Time) (n int, err error) {
	if l.published.Load().Counts.Unknown == 0 {
		return 0, nil
	}
	newest := scan.Search{Bucket: schema.BucketPaymentsTime, Rows: scanSlice, Reached: schema.TimeKey(to.Unix(), ""),
		Floor: schema.TimeKey(from.Unix(), "")}
	err = l.reads.Descend(ctx, &newest, func(tx *store.Tx, key []byte) (stop bool, err error) {
		s, err := schema.ReadState(tx, string(key[8:]))
		if err == nil && s != nil && s.Silent() {
			n++
		}
		return err != nil, err
	})
	return n, err
}

// WouldChange reports whether posting an event now would change its payment in more than the number
// of its events and the time of the last one. It writes nothing. It returns false for an event that
// is about no payment or cannot be used.
func (l *Ledger) WouldChange(e *Event) (would bool, err error) {
	if err := e.Check(l.livemode); err != nil {
		return false, err
	}
	err = l.store.View(func(tx *store.Tx) (err error) {
		defer store.CatchDamage(&err)
		would, err = l.committer.poster.WouldChange(tx, e, l.published.Load().Last+1)
		return err
	})
	return would, err
}

// QuarantinedFor lists the ids of events that are in quarantine for a reason and need attention,
// oldest first: at most limit of them, from the row after the row after. It also returns the last
// row that it examined.
func (l *Ledger) QuarantinedFor(reason Reason, after uint64, limit int) (ids []string, until uint64, err error) {
	if l.published.Load().Counts.Quarantine[slices.Index(Reasons[:], reason)][slices.Index(QuarantineStates[:], Attention)] == 0 {
		return nil, after, nil
	}
	for len(ids) < limit {
		var last uint64
		err := l.store.View(func(tx *store.Tx) error {
			n := 0
			for e := range tx.Ascend(schema.BucketQuarantine, schema.SeqKey(after+1)) {
				if n == scanSlice || len(ids) == limit {
					break
				}
				last = schema.SeqOf(e.Key)
				r, err := schema.ReadRow(tx, last)
				if err != nil {
					return err
				}
				if n++; r.Reason != reason {
					continue
				}
				h, err := schema.ReadQuarantineEntry(tx, last)
				if err != nil {
					return err
				}
				if h != nil && h.State == Attention {
					ids = append(ids, r.ID)
				}
			}
			return nil
		})
		if err != nil || last == 0 {
			return ids, after, err
		}
		after = last
	}
	return ids, after, nil
}
