package ledger_test

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"tillhook/ledger"
	"tillhook/ledger/fold"
)

// This part of the model computes the money that was refunded, and that was returned after a
// refund failed.

// refund is a refund, folded from its snapshots.
type refund struct {
	ledger.Refund        // the winning snapshot
	named         string // the charge that its snapshots name
	charge        string // the charge that its entries belong to
	day           int64  // time of the refund
	returned      int64  // time of the return, if the refund failed
	failed        int64  // time of the first event that shows the failure, 0 if unknown
	amount        *big.Int
}

func (r *refund) outgoing() bool {
	return r.Status == "pending" || r.Status == "requires_action" || r.Status == "succeeded"
}

func (r *refund) reversed() bool { return failed(r.Status) }

func failed(status string) bool { return status == "failed" || status == "canceled" }

func compareRefunds(a, b snapshot[ledger.Refund]) int {
	rank := map[string]int{"pending": 1, "requires_action": 1, "succeeded": 2, "failed": 3, "canceled": 3}
	return cmp.Or(cmp.Compare(rank[a.object.Status], rank[b.object.Status]), later(a.event, b.event))
}

// foldRefund folds the snapshots of one refund.
func (b *computation) foldRefund(id string) refund {
	own := ofID(b.refunds, refundID, id)
	winner := greatest(own, compareRefunds)
	r := refund{Refund: winner.object, amount: units(known(winner.object.Amount))}
	for _, s := range own {
		r.named = lesser(r.named, s.object.Charge)
	}
	r.charge = r.named
	if r.charge == "" {
		r.charge = b.chargeOfOthers()
	}
	booked := earliest(own, func(s snapshot[ledger.Refund]) int64 { return s.object.Booked })
	r.day = cmp.Or(booked, winner.object.Created, winner.event.Created)
	bookedBack := earliest(own, func(s snapshot[ledger.Refund]) int64 { return s.object.Returned })
	failure := earliest(own, func(s snapshot[ledger.Refund]) int64 {
		return pickIf(failed(s.object.Status), s.event.Created, 0)
	})
	r.failed, r.returned = failure, cmp.Or(bookedBack, failure, r.day)
	switch {
	case booked != 0:
		b.rule("refund: balance transaction")
	case winner.object.Created == 0:
		b.rule("refund: time of the event")
	}
	switch {
	case !r.reversed():
	case bookedBack != 0:
		b.rule("return: balance transaction")
	case failure != 0:
		b.rule("return: first event of the failure")
	default:
		b.rule("return: time of the refund")
	}
	return r
}

// chargeOfOthers returns the charge of a refund that names none, or "": the only charge that
// succeeded and was captured, or without such a charge, the only charge.
func (b *computation) chargeOfOthers() string {
	all := idsOf(b.charges, chargeID)
	captured := only(all, func(id string) bool { return b.chargeStatus(id) == "succeeded" && b.isCaptured(id) })
	switch {
	case len(captured) == 1:
		b.rule("a refund without a charge belongs to the only captured charge")
		return captured[0]
	case len(captured) == 0 && len(all) == 1:
		b.rule("a refund without a charge belongs to the only charge")
		return all[0]
	}
	return ""
}

// isCaptured reports whether any snapshot shows a charge as captured, in whichever currency.
func (b *computation) isCaptured(charge string) bool {
	return slices.ContainsFunc(b.charges, func(c snapshot[ledger.Charge]) bool {
		return c.object.ID == charge && c.object.Captured
	})
}

// refundAll fills in the refunds of the payment and posts their entries.
func (b *computation) refundAll() {
	var all []refund // by (created, id)
	for _, id := range idsOf(b.refunds, refundID) {
		all = append(all, b.foldRefund(id))
	}
	slices.SortFunc(all, func(x, y refund) int {
		return cmp.Or(cmp.Compare(x.Created, y.Created), cmp.Compare(x.ID, y.ID))
	})
	var counted []refund
	for _, r := range all {
		b.payment.Refunds = append(b.payment.Refunds, ledger.PaymentRefund{
			ID: r.ID, Amount: shown(r.Amount), Status: ledger.OrNull(r.Status), Charge: ledger.OrNull(r.named),
			Created: ledger.OrNullTime(r.Created),
		})
		if !b.counts(r.Currency) {
			b.flag("currency_mismatch")
			b.rule("refund in another currency")
			continue
		}
		if r.outgoing() || r.reversed() {
			counted = append(counted, r)
		}
	}
	for _, r := range counted {
		switch {
		case len(ofID(b.charges, chargeID, r.charge)) == 0:
			b.rule(pickIf(r.charge == "", "a refund without any charge", "a refund of an unseen charge"))
			b.postRefund(r)
		case !b.isCaptured(r.charge):
			b.rule("a refund of an authorization does not count")
		}
	}
	for _, id := range idsOf(b.charges, chargeID) {
		if b.isCaptured(id) {
			b.refundCharge(id, only(counted, func(r refund) bool { return r.charge == id }))
		}
	}
}

// postRefund posts a refund, and its return if the refund failed.
func (b *computation) postRefund(r refund) {
	b.post(fold.Refunded, r.ID+":refunded", r.day, r.ID, r.charge, r.amount)
	if r.reversed() {
		b.post(fold.RefundReturned, r.ID+":returned", r.returned, r.ID, r.charge, r.amount)
	}
}

// refundCharge posts the refunds of one charge, including those that only the running total of the
// charge shows. The argument refunds is sorted by (created, id).
func (b *computation) refundCharge(id string, refunds []refund) {
	voided, voidedFrom := b.void(id, refunds)
	if isPositive(voided) {
		if own := b.voidRefund(id, refunds, voidedFrom); own != "" {
			b.rule("void: its own refund")
			refunds = only(refunds, func(r refund) bool { return r.ID != own })
		}
	}
	outgoing, reversed := units(0), units(0)
	for _, r := range refunds {
		b.postRefund(r)
		if r.reversed() {
			reversed = plus(reversed, r.amount)
		} else {
			outgoing = plus(outgoing, r.amount)
		}
	}
	last, rises, falls := b.walk(id)
	last = notNegative(minus(last, voided))
	fallen := units(0)
	for _, m := range falls {
		fallen = plus(fallen, m.amount)
	}
	unlisted := notNegative(minus(minus(last, notNegative(minus(reversed, fallen))), outgoing))
	returned := notNegative(minus(fallen, reversed))
	if isPositive(unlisted) {
		b.rule("refunds known only from the total")
		b.unexplained = append(b.unexplained, id)
	}
	if isPositive(minus(reversed, fallen)) {
		b.rule("a refund failed and the total did not fall")
		if b.refundedAfterFailure(id, refunds) && !isPositive(unlisted) {
			b.rule("a refund after one that failed is hidden in the total")
			b.unexplained = append(b.unexplained, id)
		}
	}
	if isPositive(voided) && slices.ContainsFunc(rises, func(m *move) bool { return m.at < voidedFrom }) {
		b.rule("void: an earlier rise belongs to a refund")
	}
	deduct(rises, voided, voidedFrom)
	for _, r := range refunds {
		deduct(rises, r.amount, r.Created)
		if r.reversed() {
			deduct(falls, r.amount, r.Created)
		}
	}
	b.postUnlisted(id, plus(unlisted, returned), rises, falls)
	if isPositive(returned) {
		b.rule("returns known only from the total")
	}
	for _, m := range falls {
		amount := smaller(m.left, returned)
		returned = minus(returned, amount)
		b.post(fold.RefundReturned, fmt.Sprintf("%s:returned:%s", id, m.upTo), m.at, id, id, amount)
	}
}

// postUnlisted posts the refunds of a charge that have no refund object, dated by the remaining
// rises of the total.
func (b *computation) postUnlisted(charge string, amount *big.Int, rises, falls []*move) {
	risen := units(0)
	for _, m := range rises {
		risen = m.upTo
		part := smaller(m.left, amount)
		amount = minus(amount, part)
		b.post(fold.Refunded, fmt.Sprintf("%s:refunded:%s", charge, m.upTo), m.at, charge, charge, part)
		if m.fetched && isPositive(part) {
			b.rule("refund dated by a fetch")
			b.flag("date_approximate")
		}
	}
	if isPositive(amount) {
		b.rule("refund dated by a fall")
		b.post(fold.Refunded, fmt.Sprintf("%s:refunded:%s", charge, plus(risen, amount)), falls[0].at, charge, charge,
			amount)
	}
}

// move is a rise or a fall of the amount_refunded of a charge.
type move struct {
	at      int64
	amount  *big.Int
	upTo    *big.Int // sum of all rises or falls up to this one
	left    *big.Int // the part that no refund object explains
	fetched bool
}

// deduct subtracts an amount from what is left of the moves: first of those at or after a time,
// then of the others.
func deduct(moves []*move, amount *big.Int, from int64) {
	for _, after := range []bool{true, false} {
		for _, m := range moves {
			if (m.at >= from) == after {
				part := smaller(m.left, amount)
				m.left, amount = minus(m.left, part), minus(amount, part)
			}
		}
	}
}

// walk returns the last amount_refunded of a charge, and its rises and falls.
func (b *computation) walk(charge string) (last *big.Int, rises, falls []*move) {
	var sums []snapshot[ledger.Charge]
	for _, c := range b.counted(charge) {
		if c.object.Captured && c.object.AmountRefunded >= 0 && !b.staleCharge(c) {
			sums = append(sums, c)
		}
	}
	slices.SortFunc(sums, func(x, y snapshot[ledger.Charge]) int {
		return cmp.Or(
			cmp.Compare(x.event.Created, y.event.Created),
			cmp.Compare(x.object.AmountRefunded, y.object.AmountRefunded),
			cmp.Compare(pickIf(x.fetched(), 1, 0), pickIf(y.fetched(), 1, 0)),
			strings.Compare(x.event.ID, y.event.ID))
	})
	risen, fallen, previous := units(0), units(0), int64(0)
	for _, c := range sums {
		at, sum := c.event.Created, c.object.AmountRefunded
		difference := units(sum - previous) // neither is negative
		switch {
		case sum > previous:
			risen = plus(risen, difference)
			rises = append(rises, &move{at, difference, risen, difference, c.fetched()})
		case sum < previous && c.fetched():
			b.rule("a fetched fall is skipped")
			continue
		case sum < previous:
			difference = minus(units(0), difference)
			fallen = plus(fallen, difference)
			falls = append(falls, &move{at, difference, fallen, difference, false})
		}
		previous = sum
	}
	return units(previous), rises, falls
}

// staleCharge reports whether a charge was fetched and an event up to its time shows more.
func (b *computation) staleCharge(f snapshot[ledger.Charge]) bool {
	if !f.fetched() {
		return false
	}
	for _, c := range b.counted(f.object.ID) {
		if c.fetched() || c.event.Created > f.event.Created {
			continue
		}
		if known(f.object.AmountCaptured) < known(c.object.AmountCaptured) ||
			known(f.object.AmountRefunded) < known(c.object.AmountRefunded) {
			b.rule("a stale fetched charge")
			return true
		}
	}
	return false
}

// mostCaptured returns the greatest captured amount of a charge.
func (b *computation) mostCaptured(charge string) (captured int64) {
	for _, c := range b.counted(charge) {
		captured = max(captured, c.object.AmountCaptured)
	}
	return captured
}

// uncaptured returns the amount of a charge that was authorized and not captured.
func (b *computation) uncaptured(charge string) *big.Int {
	var amount int64
	for _, c := range b.counted(charge) {
		amount = max(amount, c.object.Amount)
	}
	return units(amount - b.mostCaptured(charge)) // neither is negative
}

// void returns the amount that a partial capture released to the cardholder, if the amount_refunded
// of the charge includes it, else 0. From is the time of the first snapshot that includes it.
func (b *computation) void(charge string, refunds []refund) (amount *big.Int, from int64) {
	captured, difference := b.mostCaptured(charge), b.uncaptured(charge)
	full := only(b.counted(charge), func(c snapshot[ledger.Charge]) bool {
		return c.object.Captured && known(c.object.AmountCaptured) == captured && c.object.AmountRefunded >= 0
	})
	if !isPositive(difference) || len(full) == 0 {
		return units(0), 0
	}
	least := first(full)
	if b.voidShown(charge, refunds, full) {
		return difference, least.event.Created
	}
	reversed := units(0)
	for _, r := range refunds {
		if r.reversed() {
			reversed = plus(reversed, r.amount)
		}
	}
	beyond := only(full, func(c snapshot[ledger.Charge]) bool {
		return minus(units(c.object.AmountRefunded), reversed).Cmp(units(captured)) > 0
	})
	if len(beyond) > 0 {
		b.rule("void: more refunded than captured")
		return difference, first(beyond).event.Created
	}
	if slices.ContainsFunc(full, func(c snapshot[ledger.Charge]) bool { return c.object.AmountRefunded > captured }) {
		b.rule("void: no more refunded than captured, without failed refunds")
	}
	return units(0), 0
}

// voidShown reports whether every total after the last capture is large enough for the void, the
// first one together with the refunds before it, and nothing indicates otherwise. The argument full
// has the snapshots after the last capture.
func (b *computation) voidShown(charge string, refunds []refund, full []snapshot[ledger.Charge]) bool {
	difference, least := b.uncaptured(charge), first(full)
	before := b.refundedBefore(charge, refunds, least.event.Created)
	smallest := slices.ContainsFunc(full, func(c snapshot[ledger.Charge]) bool {
		return units(c.object.AmountRefunded).Cmp(difference) < 0
	})
	byEvent := slices.ContainsFunc(full, func(c snapshot[ledger.Charge]) bool {
		return c.event.Type == "charge.captured" && !c.fetched()
	})
	switch {
	case smallest:
		b.rule("void: not in the totals")
		return false
	case minus(units(least.object.AmountRefunded), before).Cmp(difference) < 0:
		b.rule("void: not in the totals, with a refund between captures")
		return false
	case byEvent:
		b.rule("void: charge.captured shows it")
	case b.payment.Status != "requires_capture":
		b.rule("void: the PaymentIntent needs no capture")
	case least.event.APIVersion < "2025-03-31":
		b.rule("void: in the totals by API version")
	default:
		b.rule("void: not in the totals by API version")
		return false
	}
	if isPositive(before) {
		b.rule("void: in the totals, with a refund between captures")
	}
	return true
}

// refundedBefore returns the amount that was refunded of a charge before its last capture, when
// nothing was released yet. It is the greater of two amounts.
//
// The first is the last total before that capture, without the refunds that failed between that
// total and the first total after the capture.
//
// The second is the sum of the refunds that were created more than two seconds before the first
// total after the capture, and that had not failed at its time. That total can be the one that
// shows the void, and the refund that Stripe makes for a void can precede it, so a refund that may
// belong to the void does not count.
func (b *computation) refundedBefore(charge string, refunds []refund, at int64) *big.Int {
	captured := b.mostCaptured(charge)
	earlier := only(b.counted(charge), func(c snapshot[ledger.Charge]) bool {
		amount := c.object.AmountCaptured
		return c.object.Captured && 0 < amount && amount < captured && c.object.AmountRefunded >= 0
	})
	last := greatest(earlier, func(x, y snapshot[ledger.Charge]) int {
		return cmp.Or(cmp.Compare(x.event.Created, y.event.Created),
			cmp.Compare(x.object.AmountRefunded, y.object.AmountRefunded))
	})
	shown, undone, made := units(0), units(0), units(0)
	if last != nil {
		shown = units(last.object.AmountRefunded)
	}
	capturedAt, _ := b.lastCapture(charge)
	for _, r := range refunds {
		if last != nil && r.reversed() && r.failed != 0 && last.event.Created <= r.failed && r.failed <= at {
			undone = plus(undone, r.amount)
		}
		stood := r.outgoing() || r.reversed() && r.failed > at
		switch {
		case !stood || r.Created == 0 || r.Created >= at-2:
		case b.mayBeVoid(charge, r, capturedAt) && r.Created >= capturedAt-2:
			b.rule("void: a refund before the first total may be its own")
		default:
			made = plus(made, r.amount)
		}
	}
	if isPositive(smaller(shown, undone)) && made.Cmp(shown) < 0 {
		b.rule("void: a refund in the total before it failed")
	}
	shown = notNegative(minus(shown, undone))
	if made.Cmp(shown) > 0 {
		b.rule("void: the refunds before it exceed the total before it")
	}
	return larger(shown, made)
}

// first returns the snapshot of the earliest event. Within a second the least id is the first.
func first[T any](all []snapshot[T]) *snapshot[T] {
	return greatest(all, func(x, y snapshot[T]) int { return later(y.event, x.event) })
}

// lastCapture returns the time of the last capture of a charge, or 0 if it is unknown, and whether
// it comes from charge.captured. Without that event it is the time of the last received entry of
// the charge, if there is one.
func (b *computation) lastCapture(charge string) (at int64, byEvent bool) {
	for _, c := range b.counted(charge) {
		if c.event.Type == "charge.captured" && !c.fetched() {
			at = max(at, c.event.Created)
		}
	}
	if at != 0 {
		return at, true
	}
	steps := b.increases(charge)
	if len(steps) == 0 || b.chargeStatus(charge) != "succeeded" {
		return 0, false
	}
	return cmp.Or(b.capturedAt(charge, steps, len(steps)-1), int64(b.payment.Created)), false
}

// mayBeVoid reports whether Stripe may have made a refund for the void of the last capture: the
// refund has the amount of the void, has no other reason, and was created at most two seconds after
// the capture.
func (b *computation) mayBeVoid(charge string, r refund, capturedAt int64) bool {
	return r.outgoing() && r.amount.Cmp(b.uncaptured(charge)) == 0 && r.Created != 0 && capturedAt != 0 &&
		r.Created <= capturedAt+2 &&
		(r.Reason == "" || r.Reason == "expired_uncaptured_charge")
}

// voidRefund returns the id of the refund that Stripe made for a void, or "". The refunds are
// sorted by (created, id), and voidedFrom is the time from which the totals include the void.
func (b *computation) voidRefund(charge string, refunds []refund, voidedFrom int64) string {
	capturedAt, byEvent := b.lastCapture(charge)
	all := only(refunds, func(r refund) bool { return b.mayBeVoid(charge, r, capturedAt) })
	if len(all) == 0 {
		return ""
	}
	if !byEvent {
		b.rule("void: its own refund without charge.captured")
	}
	since := only(all, func(r refund) bool { return r.Created >= voidedFrom-2 })
	if len(since) == 0 {
		return all[0].ID
	}
	if since[0].ID != all[0].ID {
		b.rule("void: its own refund is not the first")
	}
	return since[0].ID
}

// refundedAfterFailure reports whether an event shows that a charge was refunded after one of its
// refunds had failed.
func (b *computation) refundedAfterFailure(charge string, refunds []refund) bool {
	return slices.ContainsFunc(b.counted(charge), func(c snapshot[ledger.Charge]) bool {
		return c.event.Type == "charge.refunded" && !c.fetched() && c.object.Captured &&
			slices.ContainsFunc(refunds, func(r refund) bool {
				return r.reversed() && r.failed != 0 && c.event.Created > r.failed
			})
	})
}
