package fold

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Statuses of a charge. A bank may take back a debit that had succeeded.
// https://docs.stripe.com/api/charges/object#charge_object-status
const (
	chargePending = "pending"
	chargeFailed  = "failed"
)

// Event types that date a capture.
const (
	typeChargeSucceeded = "charge.succeeded"
	typeCaptured        = "charge.captured"
	typeIntentSucceeded = "payment_intent.succeeded"
)

// chargeFacts are all snapshots of one charge.
type chargeFacts struct {
	id        string
	snapshots []snapshot[Charge]
	counted   []snapshot[Charge] // those in the payment's currency
	evidence  map[string]sums    // when events show what was captured, by their type, and of all under ""
	refunds   []*refundFacts     // by the time they were made, and by id
}

// charge returns the facts of a charge of the payment, nil if there are none.
func (f *folder) charge(id string) *chargeFacts {
	i, found := slices.BinarySearchFunc(f.charges, id, func(c chargeFacts, id string) int { return strings.Compare(c.id, id) })
	if !found {
		return nil
	}
	return &f.charges[i]
}

// status returns the furthest status: pending, succeeded, failed.
func (c *chargeFacts) status() (status string) {
	rank := func(status string) int {
		return slices.Index([]string{chargePending, statusSucceeded, chargeFailed}, status)
	}
	for i, s := range c.snapshots {
		if a, b := rank(s.of.Status), rank(status); i == 0 || a > b || a == b && s.of.Status > status {
			status = s.of.Status
		}
	}
	return status
}

// created returns when the charge was made, 0 if unknown.
func (c *chargeFacts) created() (at int64) {
	for _, s := range c.snapshots {
		at = earliest(at, s.of.Created)
	}
	return at
}

// captured reports whether any snapshot says that the charge was captured.
func (c *chargeFacts) captured() bool {
	return slices.ContainsFunc(c.snapshots, func(s snapshot[Charge]) bool { return s.of.Captured })
}

// authorised reports whether the charge was seen before it was captured.
func (c *chargeFacts) authorised() bool {
	return slices.ContainsFunc(c.snapshots, func(s snapshot[Charge]) bool { return s.of.Status == statusSucceeded && !s.of.Captured })
}

// chooseCharge finds the charge snapshot that speaks for the payment where the PaymentIntent is
// silent: money before a refusal, either before a wait, then the latest, and of one event the
// first.
func (f *folder) chooseCharge() {
	end := func(status string) int { return slices.Index([]string{chargeFailed, statusSucceeded}, status) }
	for i := range f.events {
		by := &f.events[i]
		for j := range by.Facts.Charges {
			c := &by.Facts.Charges[j]
			if f.best == nil || cmp.Or(cmp.Compare(end(c.Status), end(f.best.of.Status)),
				cmp.Compare(by.Created, f.best.by.Created), strings.Compare(by.ID, f.best.by.ID)) > 0 {
				f.best = &snapshot[Charge]{c, by}
			}
		}
	}
}

// increases returns the captured amounts that the charge went through, ascending. A multicapture
// has several.
func (c *chargeFacts) increases() (totals []int64) {
	for _, s := range c.counted {
		if s.of.AmountCaptured > 0 {
			totals = append(totals, s.of.AmountCaptured)
		}
	}
	slices.Sort(totals)
	return slices.Compact(totals)
}

// sums say when a sum that only grows was seen: ascending, each with the earliest time of that
// amount or more.
type sums []sum

type sum struct{ amount, at int64 }

// ordered makes sums of what was seen in any order.
func ordered(seen []sum) sums {
	slices.SortFunc(seen, func(a, b sum) int { return cmp.Compare(a.amount, b.amount) })
	for i := len(seen) - 2; i >= 0; i-- {
		seen[i].at = earliest(seen[i].at, seen[i+1].at)
	}
	return seen
}

// reached returns when the sum came to an amount, 0 if unknown.
func (s sums) reached(amount int64) int64 {
	i, _ := slices.BinarySearchFunc(s, amount, func(s sum, amount int64) int { return cmp.Compare(s.amount, amount) })
	if i == len(s) {
		return 0
	}
	return s[i].at
}

// selectCounted keeps apart the snapshots whose money can be added to the payment's.
func (f *folder) selectCounted() {
	for _, s := range f.intents {
		if f.counts(s.of.Currency) {
			f.countedIntents = append(f.countedIntents, s)
		}
	}
	for i := range f.charges {
		c := &f.charges[i]
		for _, s := range c.snapshots {
			for _, amount := range []int64{s.of.Amount, s.of.AmountCaptured, s.of.AmountRefunded} {
				f.known(amount)
			}
			if f.counts(s.of.Currency) {
				c.counted = append(c.counted, s)
			}
		}
	}
}

// receive books what came in, and reports whether anything is known of that at all. An entry stands
// for each step of a charge's captured amount, and one for what the PaymentIntent has received
// beyond the charges that are known.
func (f *folder) receive() (known bool) {
	var sum Sum
	for i := range f.charges {
		c := &f.charges[i]
		if c.status() != statusSucceeded {
			continue
		}
		before := int64(0)
		totals := c.increases()
		for k, total := range totals {
			at, approximate := f.captureTime(c, totals, k)
			if approximate {
				f.flag(FlagDateApproximate)
			}
			f.book(Entry{
				ID: c.id + ":received:" + strconv.FormatInt(total, 10), At: at,
				Kind: Received, Object: c.id, Charge: c.id, Amount: total - before,
			})
			sum, before = sum.Plus(SumOf(total-before)), total
		}
	}
	f.receiveBeyond(sum)
	return len(f.charges) > 0 || slices.ContainsFunc(f.intents, func(s snapshot[Intent]) bool { return s.of.HasReceived })
}

// captureTime returns when the k-th of the captured amounts was reached, and whether that is only
// the earliest time known. What was read from the API is evidence by its content, never by the time
// it was read.
func (f *folder) captureTime(c *chargeFacts, totals []int64, k int) (at int64, approximate bool) {
	if len(totals) == 1 { // of several captures the charge names the balance transaction of one
		if at = c.booked(); at != 0 {
			return at, false
		}
	}
	reached := func(typ string) (at int64) { return c.whenCaptured(typ).reached(totals[k]) }
	if at = reached(typeCaptured); at != 0 {
		return at, false
	}
	if !c.authorised() { // captured as it was made
		if at = reached(typeChargeSucceeded); at == 0 {
			at = f.whenReceived(typeIntentSucceeded).reached(totals[k])
		}
		if at == 0 && k == 0 && !f.capturedLater(c) {
			at = c.created()
		}
		if at != 0 {
			return at, false
		}
	}
	at = earliest(reached(""), f.whenReceived("").reached(totals[k]))
	return cmp.Or(at, c.created()), true
}

// whenCaptured returns when events of a type, or with "" of any, show what was captured of the
// charge.
func (c *chargeFacts) whenCaptured(typ string) sums {
	known, ok := c.evidence[typ]
	if !ok {
		var seen []sum
		for _, s := range c.counted {
			if !s.by.Fetched && (typ == "" || s.by.Type == typ) {
				seen = append(seen, sum{s.of.AmountCaptured, s.by.Created})
			}
		}
		if c.evidence == nil {
			c.evidence = map[string]sums{}
		}
		known = ordered(seen)
		c.evidence[typ] = known
	}
	return known
}

// whenReceived returns when events of a type, or with "" of any, show what the PaymentIntent
// received.
func (f *folder) whenReceived(typ string) sums {
	known, ok := f.received[typ]
	if !ok {
		var seen []sum
		for _, s := range f.countedIntents {
			if !s.by.Fetched && (typ == "" || s.by.Type == typ) {
				seen = append(seen, sum{s.of.AmountReceived, s.by.Created})
			}
		}
		if f.received == nil {
			f.received = map[string]sums{}
		}
		known = ordered(seen)
		f.received[typ] = known
	}
	return known
}

// capturedLater reports whether something shows that the charge did not bring money as it was made.
func (f *folder) capturedLater(c *chargeFacts) bool {
	return slices.ContainsFunc(c.counted, func(s snapshot[Charge]) bool { return s.of.Status == chargePending }) ||
		f.waited ||
		slices.ContainsFunc(c.counted, func(s snapshot[Charge]) bool {
			return s.of.AmountCaptured > 0 && s.of.AmountCaptured < max(0, s.of.Amount)
		})
}

// booked returns when Stripe's balance booked the charge, 0 if unknown.
func (c *chargeFacts) booked() (at int64) {
	for _, s := range c.counted {
		if s.of.Booking != nil {
			at = earliest(at, s.of.Booking.Created)
		}
	}
	return at
}

// fee returns what Stripe kept of the charges; nil unless it is known, in the payment's currency,
// of each that brought money.
func (f *folder) fee() *int64 {
	var sum Sum
	known := false
	for i := range f.charges {
		c := &f.charges[i]
		if c.status() != statusSucceeded || len(c.increases()) == 0 {
			continue
		}
		var booking *BalanceTransaction
		for _, s := range c.counted {
			if b := s.of.Booking; b != nil && b.Currency == f.cur && (booking == nil || cmp.Or(cmp.Compare(b.Fee, booking.Fee),
				strings.Compare(b.ID, booking.ID), cmp.Compare(b.Created, booking.Created)) > 0) {
				booking = b
			}
		}
		if booking == nil {
			return nil
		}
		sum, known = sum.Plus(SumOf(booking.Fee)), true
	}
	if n, fits := sum.Int64(); known && fits {
		return &n
	}
	return nil
}

// receiveBeyond books what the PaymentIntent received beyond its charges: those are not all known,
// or their events are not selected. A canceled PaymentIntent keeps nothing of a transfer that was
// partly funded.
func (f *folder) receiveBeyond(charges Sum) {
	if f.payment.Status == statusCanceled {
		return
	}
	var received, at, created int64
	for _, s := range f.countedIntents {
		received = max(received, s.of.AmountReceived)
	}
	beyond, _ := SumOf(received).Minus(charges).atLeastZero().Int64()
	if beyond == 0 {
		return
	}
	for _, s := range f.intents {
		created = earliest(created, s.of.Created)
	}
	for _, s := range f.countedIntents {
		if !s.by.Fetched && s.of.AmountReceived == received {
			at = earliest(at, s.by.Created)
		}
	}
	if at == 0 {
		f.flag(FlagDateApproximate)
		at = created
	}
	f.book(Entry{ID: f.id + ":received", At: at, Kind: Received, Object: f.id, Charge: string(f.payment.LatestCharge), Amount: beyond})
}
