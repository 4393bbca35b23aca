package ledger_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"tillhook/ledger"
	"tillhook/ledger/fold"
)

// This part of the model computes the fields of a payment that one snapshot decides, and the money
// that was received.

func terminal(status string) bool { return status == "succeeded" || status == "canceled" }

// intentCreated returns the time at which the PaymentIntent was created, or 0 if it is unknown.
func (b *computation) intentCreated() int64 {
	return earliest(b.intents, func(in snapshot[ledger.Intent]) int64 { return in.object.Created })
}

// describe fills in the fields that one snapshot decides.
func (b *computation) describe() {
	best := greatest(b.charges, compareCharges)
	if best != nil {
		b.payment.ChargeStatus = ledger.OrNull(b.chargeStatus(best.object.ID))
	}
	p := &b.payment
	p.AmountCapturable = shown(0)
	standing := b.standing()
	decided := b.decided(standing)
	winner := greatest(standing, compareIntents(decided))
	if winner == nil {
		if best != nil {
			b.rule("payment described by its charge")
			c := best.object
			p.Currency, p.Customer, p.Description = ledger.OrNull(c.Currency), ledger.OrNull(c.Customer),
				ledger.OrNull(c.Description)
			p.LatestCharge = ledger.OrNull(c.ID)
			maps.Copy(p.Metadata, c.Metadata)
			p.Amount = shown(c.Amount)
		}
		return
	}
	in := winner.object
	p.Status, p.Customer, p.Description = ledger.OrNull(in.Status), ledger.OrNull(in.Customer),
		ledger.OrNull(in.Description)
	p.LastPaymentError = in.LastError
	maps.Copy(p.Metadata, in.Metadata)
	if !terminal(in.Status) {
		p.AmountCapturable = shown(in.AmountCapturable)
	}
	withCharge := only(standing, func(in snapshot[ledger.Intent]) bool { return in.object.LatestCharge != "" })
	if last := greatest(withCharge, compareIntents(decided)); last != nil {
		p.LatestCharge = ledger.OrNull(last.object.LatestCharge)
		if in.LatestCharge == "" {
			b.rule("latest_charge of another snapshot than the winner")
		}
	}
	b.describeAmount(standing, best)
}

// describeAmount fills in the currency and the amount. API versions of 2026 promise neither, so
// each comes from the best PaymentIntent snapshot that has it, else from the best charge.
func (b *computation) describeAmount(standing []snapshot[ledger.Intent], best *snapshot[ledger.Charge]) {
	p, order := &b.payment, compareIntents(b.decided(standing))
	winner := greatest(standing, order)
	withCurrency := only(standing, func(in snapshot[ledger.Intent]) bool { return in.object.Currency != "" })
	if last := greatest(withCurrency, order); last != nil {
		p.Currency = ledger.OrNull(last.object.Currency)
		if winner.object.Currency == "" {
			b.rule("currency of another snapshot than the winner")
		}
	} else if best != nil {
		b.rule("currency of the best charge")
		p.Currency = ledger.OrNull(best.object.Currency)
	}
	withAmount := only(standing, func(in snapshot[ledger.Intent]) bool {
		return in.object.HasAmount && in.object.Amount >= 0
	})
	last := greatest(withAmount, order)
	if last != nil && (last.object.Currency == "" || last.object.Currency == string(p.Currency)) {
		p.Amount = shown(last.object.Amount)
		if !winner.object.HasAmount || winner.object.Amount < 0 {
			b.rule("amount of another snapshot than the winner")
		}
		return
	}
	if last != nil {
		b.rule("the amount is in another currency than the payment")
	}
	if best != nil && best.object.Currency == string(p.Currency) && best.object.Amount >= 0 {
		b.rule("amount of the best charge")
		p.Amount = shown(best.object.Amount)
	}
}

// shown returns an amount in the form of a payment or refund: nil if it is negative and so unknown.
func shown(amount int64) *int64 {
	if amount < 0 {
		return nil
	}
	return &amount
}

// standing returns the PaymentIntent snapshots that can decide. A fetched snapshot overrides all
// others up to its time, unless it is stale.
func (b *computation) standing() []snapshot[ledger.Intent] {
	current := only(b.intents, func(in snapshot[ledger.Intent]) bool { return !b.stale(in) })
	if len(current) < len(b.intents) {
		b.rule("stale fetch")
	}
	if len(current) == 0 && len(b.intents) > 0 {
		b.rule("every fetch is stale")
		current = b.intents
	}
	var frontier int64
	for _, in := range current {
		if in.fetched() {
			frontier = max(frontier, in.event.Created)
		}
	}
	standing := only(current, func(in snapshot[ledger.Intent]) bool {
		at := in.event.Created
		return frontier == 0 || at > frontier || at == frontier && in.fetched()
	})
	if len(standing) < len(current) {
		b.rule("a fetched PaymentIntent overrides others")
	}
	return standing
}

// stale reports whether a snapshot was fetched and another one up to its time shows more.
func (b *computation) stale(f snapshot[ledger.Intent]) bool {
	if !f.fetched() {
		return false
	}
	stale := false
	for _, g := range b.intents {
		if g.event.Created > f.event.Created {
			continue
		}
		if terminal(g.object.Status) && !terminal(f.object.Status) {
			b.rule("stale: not terminal")
			stale = true
		}
		if g.object.LatestCharge != "" && f.object.LatestCharge == "" {
			b.rule("stale: no latest_charge")
			stale = true
		}
		sameCurrency := g.object.Currency == f.object.Currency || g.object.Currency == "" || f.object.Currency == ""
		if known(g.object.AmountReceived) > known(f.object.AmountReceived) && f.object.Status != "canceled" &&
			sameCurrency {
			b.rule("stale: less received")
			stale = true
		}
	}
	return stale
}

// decided returns the terminal status of the payment, or "" if no snapshot is terminal.
func (b *computation) decided(standing []snapshot[ledger.Intent]) string {
	kinds, fetchedKinds := map[string]bool{}, map[string]bool{}
	for _, in := range standing {
		if terminal(in.object.Status) {
			kinds[in.object.Status] = true
			if in.fetched() {
				fetchedKinds[in.object.Status] = true
			}
		}
	}
	if len(kinds) == 2 {
		b.flag("conflict")
		if len(fetchedKinds) == 1 {
			b.rule("a fetch decides between succeeded and canceled")
			kinds = fetchedKinds
		}
	}
	switch {
	case kinds["succeeded"]:
		return "succeeded"
	case kinds["canceled"]:
		return "canceled"
	}
	return ""
}

// compareIntents returns the order of PaymentIntent snapshots, given the terminal status of the
// payment.
func compareIntents(decided string) func(a, b snapshot[ledger.Intent]) int {
	statuses := []string{
		"requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture",
		"succeeded", "canceled",
	}
	isDecided := func(in snapshot[ledger.Intent]) int {
		return pickIf(decided != "" && in.object.Status == decided, 1, 0)
	}
	isNotCreation := func(in snapshot[ledger.Intent]) int {
		return pickIf(in.event.Type != "payment_intent.created", 1, 0)
	}
	return func(a, b snapshot[ledger.Intent]) int {
		return cmp.Or(
			cmp.Compare(isDecided(a), isDecided(b)),
			cmp.Compare(a.event.Created, b.event.Created),
			cmp.Compare(isNotCreation(a), isNotCreation(b)),
			cmp.Compare(slices.Index(statuses, a.object.Status), slices.Index(statuses, b.object.Status)),
			cmp.Compare(a.event.ID, b.event.ID))
	}
}

// compareCharges is the order in which charge snapshots describe a payment.
func compareCharges(a, b snapshot[ledger.Charge]) int {
	rank := func(c snapshot[ledger.Charge]) int {
		return slices.Index([]string{"failed", "succeeded"}, c.object.Status)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), later(a.event, b.event), cmp.Compare(b.index, a.index))
}

// chargeStatus returns the furthest status of a charge.
func (b *computation) chargeStatus(id string) string {
	statuses := []string{"pending", "succeeded", "failed"}
	furthest := *greatest(ofID(b.charges, chargeID, id), func(a, b snapshot[ledger.Charge]) int {
		x, y := a.object.Status, b.object.Status
		return cmp.Or(cmp.Compare(slices.Index(statuses, x), slices.Index(statuses, y)), cmp.Compare(x, y))
	})
	return furthest.object.Status
}

// countedIntents returns the PaymentIntent snapshots whose currency counts.
func (b *computation) countedIntents() []snapshot[ledger.Intent] {
	return only(b.intents, func(in snapshot[ledger.Intent]) bool { return b.counts(in.object.Currency) })
}

// counted returns the snapshots of a charge whose currency counts.
func (b *computation) counted(charge string) []snapshot[ledger.Charge] {
	return only(ofID(b.charges, chargeID, charge),
		func(c snapshot[ledger.Charge]) bool { return b.counts(c.object.Currency) })
}

// receive posts the received money: each increase of the captured amount of a charge, and the money
// that the PaymentIntent received beyond that.
func (b *computation) receive() {
	captured := units(0)
	for _, id := range idsOf(b.charges, chargeID) {
		if b.chargeStatus(id) != "succeeded" {
			continue
		}
		before := int64(0)
		steps := b.increases(id)
		if len(steps) > 1 {
			b.rule("several captures")
		}
		for i, step := range steps {
			entry := fmt.Sprintf("%s:received:%d", id, step)
			b.post(fold.Received, entry, b.capturedAt(id, steps, i), id, id, units(step-before))
			captured = plus(captured, units(step-before))
			before = step
		}
	}
	counted := b.countedIntents()
	var received int64
	for _, in := range counted {
		received = max(received, in.object.AmountReceived)
	}
	if b.payment.Status == "canceled" && received > 0 {
		b.rule("a canceled PaymentIntent received nothing")
		received = 0
	}
	rest := minus(units(received), captured)
	if !isPositive(rest) {
		return
	}
	b.rule("received beyond the charges")
	at := earliest(counted, func(in snapshot[ledger.Intent]) int64 {
		return pickIf(!in.fetched() && in.object.AmountReceived == received, in.event.Created, 0)
	})
	if at == 0 {
		b.rule("received beyond the charges, dated by the creation")
		b.flag("date_approximate")
		at = b.intentCreated()
	}
	b.post(fold.Received, b.id+":received", at, b.id, string(b.payment.LatestCharge), rest)
}

// resolveCaptures gives the charge snapshots without amount_captured the amount that was captured.
// In the years without that field a charge could be captured only once, so they all get the same.
func (b *computation) resolveCaptures() {
	lacking := only(b.charges, func(c snapshot[ledger.Charge]) bool {
		return c.object.CaptureUnknown && b.counts(c.object.Currency)
	})
	captured := map[string]int64{}
	for _, id := range idsOf(lacking, chargeID) {
		captured[id] = b.resolveCapture(id, ofID(lacking, chargeID, id))
	}
	for i := range b.charges {
		if c := &b.charges[i].object; c.CaptureUnknown && b.counts(c.Currency) {
			c.AmountCaptured = captured[c.ID]
		}
	}
}

// resolveCapture returns the captured amount of a charge. The argument lacking has its snapshots
// without amount_captured.
func (b *computation) resolveCapture(id string, lacking []snapshot[ledger.Charge]) int64 {
	byAmount := func(x, y snapshot[ledger.Charge]) int { return cmp.Compare(x.object.Amount, y.object.Amount) }
	whole := greatest(lacking, byAmount).object.Amount
	if shown := b.increases(id); len(shown) > 0 { // no snapshot in lacking has an amount yet
		b.rule("capture unknown: another snapshot has it")
		return shown[len(shown)-1]
	}
	capturedCharges := only(idsOf(b.charges, chargeID), func(id string) bool {
		return b.chargeStatus(id) == "succeeded" && b.isCaptured(id)
	})
	paid := greatest(b.countedIntents(), func(x, y snapshot[ledger.Intent]) int {
		return cmp.Compare(x.object.AmountReceived, y.object.AmountReceived)
	})
	sole := slices.Equal(capturedCharges, []string{id}) ||
		len(capturedCharges) == 0 && len(idsOf(b.charges, chargeID)) == 1
	if sole && paid != nil && paid.object.AmountReceived > 0 && b.payment.Status != "canceled" {
		b.rule("capture unknown: amount_received")
		return min(whole, paid.object.AmountReceived)
	}
	var shares []int64
	for _, c := range lacking {
		if amount := c.object.Amount; c.event.Type == "charge.captured" && !c.fetched() && amount > 0 {
			if released := known(c.object.AmountRefunded); released < amount {
				shares = append(shares, amount-released)
			}
		}
	}
	if len(shares) > 0 {
		b.rule("capture unknown: charge.captured")
		return slices.Max(shares)
	}
	b.rule("capture unknown: the whole amount")
	return whole
}

// knowsReceived reports whether the received amount is known: from a charge, or from a
// PaymentIntent that came with its amount_received, in whichever currency.
func (b *computation) knowsReceived() bool {
	reported := slices.ContainsFunc(b.intents, func(in snapshot[ledger.Intent]) bool {
		return in.object.HasReceived && shown(in.object.AmountReceived) != nil
	})
	if len(b.intents) > 0 && !reported {
		b.rule(pickIf(len(b.charges) > 0, "received: known from a charge", "received: unknown"))
	}
	return reported || len(b.charges) > 0
}

// hidesReceived reports whether an amount that was received is negative, and so unknown.
func (b *computation) hidesReceived() bool {
	hidden := slices.ContainsFunc(b.charges, func(c snapshot[ledger.Charge]) bool {
		return c.object.AmountCaptured < 0 && c.object.Captured && b.counts(c.object.Currency) &&
			b.chargeStatus(c.object.ID) == "succeeded"
	})
	for _, in := range b.countedIntents() {
		hidden = hidden || in.object.AmountReceived < 0 && b.payment.Status != "canceled"
	}
	if hidden {
		b.rule("received: a negative amount")
	}
	return hidden
}

// hidesRefunds reports whether a negative amount of a refund, or amount_refunded, is unknown.
func (b *computation) hidesRefunds() bool {
	hidden := slices.ContainsFunc(b.charges, func(c snapshot[ledger.Charge]) bool {
		return c.object.AmountRefunded < 0 && c.object.Captured && b.counts(c.object.Currency)
	})
	for _, id := range idsOf(b.refunds, refundID) {
		r := b.foldRefund(id)
		ofAuthorization := len(ofID(b.charges, chargeID, r.charge)) > 0 && !b.isCaptured(r.charge)
		hidden = hidden || r.Amount < 0 && r.outgoing() && b.counts(r.Currency) && !ofAuthorization
	}
	if hidden {
		b.rule("refunded: a negative amount")
	}
	return hidden
}

// increases returns the different captured amounts of a charge, sorted.
func (b *computation) increases(charge string) []int64 {
	var steps []int64
	for _, c := range b.counted(charge) {
		if c.object.AmountCaptured > 0 {
			steps = append(steps, c.object.AmountCaptured)
		}
	}
	slices.Sort(steps)
	return slices.Compact(steps)
}

// capturedAt returns the time of one increase of the captured amount.
func (b *computation) capturedAt(charge string, steps []int64, i int) int64 {
	own, step := b.counted(charge), steps[i]
	if at := b.bookedAt(own); at != 0 && len(steps) == 1 {
		b.rule("captured: balance transaction")
		return at
	}
	first := func(types ...string) int64 {
		return earliest(own, func(c snapshot[ledger.Charge]) int64 {
			if c.fetched() || c.object.AmountCaptured < step ||
				len(types) > 0 && !slices.Contains(types, c.event.Type) {
				return 0
			}
			return c.event.Created
		})
	}
	all := ofID(b.charges, chargeID, charge) // statuses count in any currency
	created := earliest(all, func(c snapshot[ledger.Charge]) int64 { return c.object.Created })
	if at := first("charge.captured"); at != 0 {
		b.rule("captured: charge.captured")
		return at
	}
	authorized := slices.ContainsFunc(all, func(c snapshot[ledger.Charge]) bool {
		return c.object.Status == "succeeded" && !c.object.Captured
	})
	if !authorized {
		if at := first("charge.succeeded"); at != 0 {
			b.rule("captured: charge.succeeded")
			return at
		}
		success := earliest(b.countedIntents(), func(in snapshot[ledger.Intent]) int64 {
			reported := in.event.Type == "payment_intent.succeeded" && !in.fetched() && in.object.AmountReceived >= step
			return pickIf(reported, in.event.Created, 0)
		})
		if success != 0 {
			b.rule("captured: payment_intent.succeeded")
			return success
		}
		if i == 0 && created != 0 && b.capturedLater(charge) {
			b.rule("captured: later than the creation of the charge")
		} else if i == 0 && created != 0 {
			b.rule("captured: creation of the charge")
			return created
		}
	}
	b.flag("date_approximate")
	byIntent := earliest(b.countedIntents(), func(in snapshot[ledger.Intent]) int64 {
		return pickIf(!in.fetched() && in.object.AmountReceived >= step, in.event.Created, 0)
	})
	at := lesser(first(), byIntent)
	b.rule(pickIf(at == 0, "captured: no event", "captured: other evidence"))
	return cmp.Or(at, created)
}

// capturedLater reports whether a charge was captured later than it was created.
func (b *computation) capturedLater(charge string) bool {
	return slices.ContainsFunc(ofID(b.charges, chargeID, charge), func(c snapshot[ledger.Charge]) bool {
		return c.object.Status == "pending"
	}) || slices.ContainsFunc(b.counted(charge), func(c snapshot[ledger.Charge]) bool {
		return c.object.AmountCaptured > 0 && c.object.AmountCaptured < known(c.object.Amount)
	}) || slices.ContainsFunc(b.intents, func(in snapshot[ledger.Intent]) bool {
		return in.object.Status == "requires_capture" || in.object.Status == "processing"
	})
}

// addFees returns the sum of the fees, or nil unless the fee of each charge with received money is
// known in the currency of the payment.
func (b *computation) addFees() *big.Int {
	var sum *big.Int
	for _, id := range idsOf(b.charges, chargeID) {
		if b.chargeStatus(id) != "succeeded" || len(b.increases(id)) == 0 {
			continue
		}
		var bookings []ledger.Booking
		for _, c := range b.counted(id) {
			if c.object.BalanceTransaction != nil && c.object.BalanceTransaction.Currency == b.currency {
				bookings = append(bookings, *c.object.BalanceTransaction)
			}
		}
		last := greatest(bookings, func(x, y ledger.Booking) int {
			return cmp.Or(cmp.Compare(x.Fee, y.Fee), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Created, y.Created))
		})
		if last == nil {
			return nil
		}
		sum = plus(pickIf(sum == nil, units(0), sum), units(last.Fee))
	}
	return sum
}

// bookedAt returns the time of the least balance transaction of a charge by (created, id), or 0 if
// it has none.
func (b *computation) bookedAt(own []snapshot[ledger.Charge]) int64 {
	var bookings []ledger.Booking
	for _, c := range own {
		if c.object.BalanceTransaction != nil && c.object.BalanceTransaction.Created != 0 {
			bookings = append(bookings, *c.object.BalanceTransaction)
		}
	}
	least := greatest(bookings, func(a, b ledger.Booking) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(b.ID, a.ID))
	})
	if least == nil {
		return 0
	}
	return least.Created
}
