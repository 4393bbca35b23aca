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

// chargeFacts are all snapshots of one charge. Its status, its captured flag and its creation time
// come from all of them, and its amounts from those in the payment's currency.
type chargeFacts struct {
	id        string
	snapshots []snapshot[Charge]
	counted   []snapshot[Charge]    // in the payment's currency
	evidence  map[string]milestones // captured amounts by event type; "" is all types
	refunds   []*refundFacts        // by creation time, then by id
	resolved  int64                 // captured amount of the snapshots that do not have it
}

// charge returns the facts of a charge, or nil if no event holds that charge.
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
		if a, b := rank(s.object.Status), rank(status); i == 0 || a > b || a == b && s.object.Status > status {
			status = s.object.Status
		}
	}
	return status
}

// created returns when the charge was created, 0 if unknown.
func (c *chargeFacts) created() (at int64) {
	for _, s := range c.snapshots {
		at = earliest(at, s.object.Created)
	}
	return at
}

// captured reports whether any snapshot shows the charge as captured.
func (c *chargeFacts) captured() bool {
	return slices.ContainsFunc(c.snapshots, func(s snapshot[Charge]) bool { return s.object.Captured })
}

// authorized reports whether any snapshot shows the charge as authorized and not yet captured.
func (c *chargeFacts) authorized() bool {
	return slices.ContainsFunc(c.snapshots, func(s snapshot[Charge]) bool {
		return s.object.Status == statusSucceeded && !s.object.Captured
	})
}

// chooseCharge picks the charge snapshot that describes the payment where the PaymentIntent does
// not: succeeded before failed before pending, then the later event, then the greater event id. Of
// several charges in one event it is the first.
func (f *folder) chooseCharge() {
	end := func(status string) int { return slices.Index([]string{chargeFailed, statusSucceeded}, status) }
	for i := range f.events {
		by := &f.events[i]
		for j := range by.Facts.Charges {
			c := &by.Facts.Charges[j]
			if f.bestCharge == nil || cmp.Or(cmp.Compare(end(c.Status), end(f.bestCharge.object.Status)),
				cmp.Compare(by.Created, f.bestCharge.event.Created), strings.Compare(by.ID, f.bestCharge.event.ID)) > 0 {
				f.bestCharge = &snapshot[Charge]{c, by}
			}
		}
	}
}

// capturedTotals returns the distinct captured amounts that the snapshots show, ascending. A charge
// that was captured more than once has several.
func (c *chargeFacts) capturedTotals() (totals []int64) {
	for _, s := range c.counted {
		if s.object.AmountCaptured > 0 {
			totals = append(totals, s.object.AmountCaptured)
		}
	}
	slices.Sort(totals)
	return slices.Compact(totals)
}

// milestones are the values of an amount that only grows, ascending. Each has the earliest time at
// which an event shows that value or a greater one.
type milestones []milestone

type milestone struct{ amount, at int64 }

// newMilestones sorts seen, which it owns from then on. Events arrive out of order, so a value is
// dated by the earliest event that shows it or a greater one.
func newMilestones(seen []milestone) milestones {
	slices.SortFunc(seen, func(a, b milestone) int { return cmp.Compare(a.amount, b.amount) })
	for i := len(seen) - 2; i >= 0; i-- {
		seen[i].at = earliest(seen[i].at, seen[i+1].at)
	}
	return seen
}

// reached returns when the amount was reached, 0 if unknown.
func (s milestones) reached(amount int64) int64 {
	i, _ := slices.BinarySearchFunc(s, amount, func(s milestone, amount int64) int { return cmp.Compare(s.amount, amount) })
	if i == len(s) {
		return 0
	}
	return s[i].at
}

// selectCounted selects the snapshots whose money is in the payment's currency.
func (f *folder) selectCounted() {
	for _, s := range f.intents {
		if f.checkCurrency(s.object.Currency) {
			f.countedIntents = append(f.countedIntents, s)
		}
	}
	for i := range f.charges {
		c := &f.charges[i]
		for _, s := range c.snapshots {
			for _, amount := range []int64{s.object.Amount, s.object.AmountCaptured, s.object.AmountRefunded} {
				f.checkAmount(amount)
			}
			if f.checkCurrency(s.object.Currency) {
				c.counted = append(c.counted, s)
			}
		}
	}
}

// foldReceived adds the entries of received money. It reports whether anything is known about that:
// without a charge and without amount_received, what was received is unknown and not 0. Each step
// of a charge's captured amount is one entry, and what the PaymentIntent received beyond the known
// charges is another.
func (f *folder) foldReceived() (known bool) {
	var sum Sum
	for i := range f.charges {
		c := &f.charges[i]
		if c.status() != statusSucceeded {
			continue
		}
		before := int64(0)
		totals := c.capturedTotals()
		for k, total := range totals {
			at, approximate := f.captureTime(c, totals, k)
			if approximate {
				f.flag(FlagDateApproximate)
			}
			f.addEntry(Entry{
				ID: c.id + ":received:" + strconv.FormatInt(total, 10), At: at,
				Kind: Received, Object: c.id, Charge: c.id, Amount: total - before,
			})
			sum, before = sum.Plus(SumOf(total-before)), total
		}
	}
	f.addReceivedBeyondCharges(sum)
	hasReceived := func(s snapshot[Intent]) bool { return s.object.HasReceived && s.object.AmountReceived >= 0 }
	return len(f.charges) > 0 || slices.ContainsFunc(f.intents, hasReceived)
}

// receivedUnknown reports whether an amount that was received is negative and so unknown.
func (f *folder) receivedUnknown() bool {
	for i := range f.charges {
		c := &f.charges[i]
		if c.status() == statusSucceeded && slices.ContainsFunc(c.counted, func(s snapshot[Charge]) bool {
			return s.object.Captured && s.object.AmountCaptured < 0
		}) {
			return true
		}
	}
	return f.payment.Status != statusCanceled && slices.ContainsFunc(f.countedIntents, func(s snapshot[Intent]) bool {
		return s.object.AmountReceived < 0
	})
}

// captureTime returns when the charge's captured amount reached totals[k]. It is approximate if no
// event shows the capture itself. An object that was read from the API is evidence for its content
// only: the time of the read says nothing about the time of the capture.
func (f *folder) captureTime(c *chargeFacts, totals []int64, k int) (at int64, approximate bool) {
	if len(totals) == 1 { // a charge names only one balance transaction, whatever it was captured in
		if at = c.balanceTime(); at != 0 {
			return at, false
		}
	}
	reached := func(typ string) (at int64) { return c.capturedMilestones(typ).reached(totals[k]) }
	if at = reached(typeCaptured); at != 0 {
		return at, false
	}
	if !c.authorized() { // captured when it was created
		if at = reached(typeChargeSucceeded); at == 0 {
			at = f.receivedMilestones(typeIntentSucceeded).reached(totals[k])
		}
		if at == 0 && k == 0 && !f.capturedLater(c) {
			at = c.created()
		}
		if at != 0 {
			return at, false
		}
	}
	at = earliest(reached(""), f.receivedMilestones("").reached(totals[k]))
	return cmp.Or(at, c.created()), true
}

// capturedMilestones returns when events of a type show what was captured of the charge; "" is any
// type.
func (c *chargeFacts) capturedMilestones(typ string) milestones {
	known, ok := c.evidence[typ]
	if !ok {
		var seen []milestone
		for _, s := range c.counted {
			if !s.event.Fetched && (typ == "" || s.event.Type == typ) {
				seen = append(seen, milestone{s.object.AmountCaptured, s.event.Created})
			}
		}
		if c.evidence == nil {
			c.evidence = map[string]milestones{}
		}
		known = newMilestones(seen)
		c.evidence[typ] = known
	}
	return known
}

// receivedMilestones returns when events of a type show what the PaymentIntent received; "" is any
// type.
func (f *folder) receivedMilestones(typ string) milestones {
	known, ok := f.receivedAt[typ]
	if !ok {
		var seen []milestone
		for _, s := range f.countedIntents {
			if !s.event.Fetched && (typ == "" || s.event.Type == typ) {
				seen = append(seen, milestone{s.object.AmountReceived, s.event.Created})
			}
		}
		if f.receivedAt == nil {
			f.receivedAt = map[string]milestones{}
		}
		known = newMilestones(seen)
		f.receivedAt[typ] = known
	}
	return known
}

// capturedLater reports whether anything shows that the charge was not captured in full when it was
// created.
func (f *folder) capturedLater(c *chargeFacts) bool {
	return slices.ContainsFunc(c.snapshots, func(s snapshot[Charge]) bool { return s.object.Status == chargePending }) ||
		f.uncaptured ||
		slices.ContainsFunc(c.counted, func(s snapshot[Charge]) bool {
			return s.object.AmountCaptured > 0 && s.object.AmountCaptured < max(0, s.object.Amount)
		})
}

// balanceTime returns the time of the charge's balance transaction, 0 if unknown.
func (c *chargeFacts) balanceTime() (at int64) {
	for _, s := range c.counted {
		if s.object.BalanceTransaction != nil {
			at = earliest(at, s.object.BalanceTransaction.Created)
		}
	}
	return at
}

// fee returns Stripe's fees. It returns nil unless the fee of each charge that brought money is
// known in the payment's currency.
func (f *folder) fee() *int64 {
	var sum Sum
	known := false
	for i := range f.charges {
		c := &f.charges[i]
		if c.status() != statusSucceeded || len(c.capturedTotals()) == 0 {
			continue
		}
		var booking *BalanceTransaction
		for _, s := range c.counted {
			if b := s.object.BalanceTransaction; b != nil && b.Currency == f.currency && (booking == nil || cmp.Or(cmp.Compare(b.Fee, booking.Fee),
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

// addReceivedBeyondCharges adds an entry for what the PaymentIntent received beyond its known
// charges, because their events are missing or not selected at the endpoint. A canceled
// PaymentIntent keeps nothing: Stripe returns a bank transfer that funded it in part.
func (f *folder) addReceivedBeyondCharges(charges Sum) {
	if f.payment.Status == statusCanceled {
		return
	}
	var received, at, created int64
	for _, s := range f.countedIntents {
		received = max(received, s.object.AmountReceived)
	}
	beyond, _ := SumOf(received).Minus(charges).atLeastZero().Int64()
	if beyond == 0 {
		return
	}
	for _, s := range f.intents {
		created = earliest(created, s.object.Created)
	}
	for _, s := range f.countedIntents {
		if !s.event.Fetched && s.object.AmountReceived == received {
			at = earliest(at, s.event.Created)
		}
	}
	if at == 0 {
		f.flag(FlagDateApproximate)
		at = created
	}
	f.addEntry(Entry{
		ID: f.id + ":received", At: at, Kind: Received, Object: f.id, Charge: string(f.payment.LatestCharge), Amount: beyond,
	})
}
