package fold

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strings"
)

// Statuses of a refund. https://docs.stripe.com/api/refunds/object#refund_object-status
const (
	refundPending        = "pending"
	refundRequiresAction = "requires_action"
	refundSucceeded      = "succeeded"
	refundFailed         = "failed"
	refundCanceled       = "canceled"
)

// refundRank orders statuses by the life cycle of a refund. A refund can fail after it succeeded.
func refundRank(status string) int {
	switch status {
	case refundPending, refundRequiresAction:
		return 1
	case refundSucceeded:
		return 2
	case refundFailed, refundCanceled:
		return 3
	}
	return 0
}

// refundFacts are all snapshots of one refund.
type refundFacts struct {
	id        string
	snapshots []snapshot[Refund]
	winner    snapshot[Refund]
	charge    string // id, if any snapshot names it
	parent    *chargeFacts
	counted   bool  // the amount is in the payment's currency
	amount    int64 // 0 if unknown
	booked    int64 // time of its balance transaction, 0 if unknown
	returned  int64
	failedAt  int64
	void      bool // it is a void (see void) and moved no money
}

// add adds a snapshot and keeps the one that decides the status in winner.
func (r *refundFacts) add(s snapshot[Refund]) {
	if len(r.snapshots) == 0 || cmp.Or(cmp.Compare(refundRank(s.object.Status), refundRank(r.winner.object.Status)),
		cmp.Compare(s.event.Created, r.winner.event.Created), strings.Compare(s.event.ID, r.winner.event.ID)) > 0 {
		r.winner = s
	}
	r.snapshots = append(r.snapshots, s)
	r.charge = least(r.charge, s.object.Charge)
	r.booked, r.returned = earliest(r.booked, s.object.Booked), earliest(r.returned, s.object.Returned)
	if refundRank(s.object.Status) == 3 {
		r.failedAt = earliest(r.failedAt, s.event.Created)
	}
}

// outgoing reports whether the refund takes money, even if it is still in progress.
func (r *refundFacts) outgoing() bool {
	rank := refundRank(r.winner.object.Status)
	return rank == 1 || rank == 2
}

// reversed reports whether the refund failed or was canceled.
func (r *refundFacts) reversed() bool { return refundRank(r.winner.object.Status) == 3 }

// foldRefunds adds the entries of refunds and of failed refunds, and lists the refunds.
func (f *folder) foldRefunds() {
	only := f.onlyCapturedCharge()
	byTime := make([]*refundFacts, len(f.refunds))
	for i := range f.refunds {
		r := &f.refunds[i]
		byTime[i] = r
		for _, s := range r.snapshots {
			f.checkAmount(s.object.Amount)
		}
		if r.counted = f.checkCurrency(r.winner.object.Currency); r.counted {
			r.amount = max(0, r.winner.object.Amount)
		}
		if r.parent = f.charge(r.charge); r.charge == "" && only != nil {
			r.parent = only
		}
	}
	slices.SortFunc(byTime, func(a, b *refundFacts) int {
		return cmp.Or(cmp.Compare(a.winner.object.Created, b.winner.object.Created), strings.Compare(a.id, b.id))
	})
	for _, r := range byTime {
		if r.parent != nil {
			r.parent.refunds = append(r.parent.refunds, r)
		}
	}
	for i := range f.charges {
		f.foldChargeRefunds(&f.charges[i])
	}
	for _, r := range byTime {
		if r.parent == nil || r.parent.captured() {
			f.addRefundEntries(r)
			f.refundUnknown = f.refundUnknown || r.counted && r.outgoing() && r.winner.object.Amount < 0
		}
		in := r.winner.object
		f.payment.Refunds = append(f.payment.Refunds, PaymentRefund{
			ID: r.id, Amount: orUnknown(in.Amount), Status: OrNull(in.Status), Charge: OrNull(r.charge), Created: OrNullTime(in.Created),
		})
	}
}

// onlyCapturedCharge returns the charge that a refund without a charge belongs to: the only
// captured charge, or without a captured one the only charge. It returns nil if there are several.
func (f *folder) onlyCapturedCharge() (only *chargeFacts) {
	for i := range f.charges {
		if c := &f.charges[i]; c.captured() && c.status() == statusSucceeded {
			if only != nil {
				return nil
			}
			only = c
		}
	}
	if only == nil && len(f.charges) == 1 {
		only = &f.charges[0]
	}
	return only
}

// addRefundEntries adds the entries of a refund object. A refund that failed keeps its entry on the
// day it was made and gets a second one for the day on which the money came back.
func (f *folder) addRefundEntries(r *refundFacts) {
	if r.void || !r.outgoing() && !r.reversed() {
		return
	}
	e := Entry{
		ID: r.id + ":refunded", At: cmp.Or(r.booked, r.winner.object.Created, r.winner.event.Created), Kind: Refunded, Object: r.id,
		Charge: r.charge, Amount: r.amount,
	}
	if r.parent != nil {
		e.Charge = r.parent.id
	}
	f.addEntry(e)
	if r.reversed() {
		e.ID, e.Kind, e.At = r.id+":returned", RefundReturned, cmp.Or(r.returned, r.failedAt, e.At)
		f.addEntry(e)
	}
}

// step is a rise or a fall of a charge's amount_refunded, which is a running total.
type step struct {
	at      int64
	amount  int64 // reduced by what refund objects explain
	total   Sum   // sum of the original amounts up to and with this step
	fetched bool  // at is the time of an API read and not of the refund
}

// foldChargeRefunds adds entries for the refunds of a charge that only its amount_refunded shows,
// and finds the refund object that is a void. Snapshots of a charge that was not captured do not
// count: their amount_refunded is an authorization that ended.
//
// amount_refunded and the refund objects are two views of the same money. Let L be the last
// amount_refunded without the void, D the sum of its falls, S the sum of outgoing refund objects
// and F the sum of failed ones. A failed refund lowers amount_refunded at some endpoints and not at
// others: D is what it was lowered by, and F − D is still part of L. So L − (F − D) − S is
// refunded money without a refund object, and D − F is money that came back without one.
func (f *folder) foldChargeRefunds(c *chargeFacts) {
	voided := f.voidOf(c)
	if voided.amount > 0 {
		f.markVoid(c, voided)
	}
	rises, falls, last := f.steps(c)
	var outgoing, failed, fallen Sum
	for _, r := range c.refunds {
		switch {
		case r.void:
		case r.outgoing():
			outgoing = outgoing.Plus(SumOf(r.amount))
		case r.reversed():
			failed = failed.Plus(SumOf(r.amount))
		}
	}
	for _, fall := range falls {
		fallen = fallen.Plus(SumOf(fall.amount))
	}
	left := SumOf(last).Minus(SumOf(voided.amount)).atLeastZero()
	unexplained := left.Minus(failed.Minus(fallen).atLeastZero()).Minus(outgoing).atLeastZero()
	if unexplained != (Sum{}) || fallen.Minus(failed).IsNegative() && f.refundedAfterFailure(c) {
		f.unexplained = append(f.unexplained, c.id)
	}
	returned := fallen.Minus(failed).atLeastZero()
	risen, fell := newAllocation(rises), newAllocation(falls)
	risen.allocate(voided.amount, voided.at)
	for _, r := range c.refunds {
		if r.void || !r.outgoing() && !r.reversed() {
			continue
		}
		risen.allocate(r.amount, r.winner.object.Created)
		if r.reversed() {
			fell.allocate(r.amount, r.winner.object.Created)
		}
	}
	beyond := f.addStepEntries(c, rises, unexplained.Plus(returned), Refunded)
	if beyond != (Sum{}) && len(falls) > 0 { // no event shows the rise, only the fall
		amount, fits := beyond.Int64()
		f.overflow = f.overflow || !fits
		total := beyond
		if len(rises) > 0 {
			total = total.Plus(rises[len(rises)-1].total)
		}
		f.addEntry(Entry{
			ID: c.id + ":refunded:" + total.String(), At: falls[0].at, Kind: Refunded, Object: c.id, Charge: c.id, Amount: amount,
		})
	}
	f.addStepEntries(c, falls, returned, RefundReturned)
}

// refundedAfterFailure reports whether a charge.refunded event came after one of the charge's
// refunds had failed. If amount_refunded does not show the failure, it does not show either whether
// the refund was made again.
func (f *folder) refundedAfterFailure(c *chargeFacts) bool {
	var failed int64
	for _, r := range c.refunds {
		if r.counted && r.reversed() {
			failed = earliest(failed, r.failedAt)
		}
	}
	return failed != 0 && slices.ContainsFunc(c.counted, func(s snapshot[Charge]) bool {
		return s.event.Type == "charge.refunded" && !s.event.Fetched && s.object.Captured && s.event.Created > failed
	})
}

// addStepEntries adds entries for amount, spread over the steps in their order, and returns the
// rest that the steps cannot take.
func (f *folder) addStepEntries(c *chargeFacts, steps []step, amount Sum, kind Kind) (left Sum) {
	word := ":refunded:"
	if kind == RefundReturned {
		word = ":returned:"
	}
	for _, s := range steps {
		part := s.amount
		if rest, fits := amount.Int64(); fits {
			part = min(part, rest)
		}
		if part == 0 {
			continue
		}
		if s.fetched {
			f.flag(FlagDateApproximate)
		}
		f.addEntry(Entry{ID: c.id + word + s.total.String(), At: s.at, Kind: kind, Object: c.id, Charge: c.id, Amount: part})
		amount = amount.Minus(SumOf(part))
	}
	return amount
}

// allocation subtracts refund objects from the steps of a charge, so that only refunds without an
// object are left. It modifies the steps of its caller.
type allocation struct {
	steps []step
	next  []int // union-find: following next from i ends at the first step with an amount left
}

func newAllocation(steps []step) *allocation {
	t := &allocation{steps: steps}
	if len(steps) > 0 {
		t.next = make([]int, len(steps)+1)
	}
	for i := range t.next {
		t.next[i] = i
	}
	return t
}

// firstOpen returns the first step from i on that has an amount left, or len(steps).
func (t *allocation) firstOpen(i int) int {
	for t.next[i] != i {
		t.next[i] = t.next[t.next[i]] // path halving
		i = t.next[i]
	}
	return i
}

// allocate subtracts a refund from the steps: from those at or after its creation first, then from
// earlier ones.
func (t *allocation) allocate(amount, created int64) {
	if len(t.steps) == 0 {
		return
	}
	first, _ := slices.BinarySearchFunc(t.steps, created, func(s step, created int64) int { return cmp.Compare(s.at, created) })
	amount = t.allocateBetween(first, len(t.steps), amount)
	t.allocateBetween(0, first, amount)
}

// allocateBetween subtracts amount from the steps in [from, end), and returns what they could not
// take.
func (t *allocation) allocateBetween(from, end int, amount int64) int64 {
	for i := t.firstOpen(from); i < end && amount > 0; i = t.firstOpen(i) {
		part := min(amount, t.steps[i].amount)
		t.steps[i].amount -= part
		amount -= part
		if t.steps[i].amount == 0 {
			t.next[i] = i + 1
		}
	}
	return amount
}

// steps returns the rises and falls of the charge's amount_refunded and its last value. A charge
// that was read from the API counts unless it shows less than an event up to its time. It never
// makes a fall: a read with a smaller amount than another read is older.
func (f *folder) steps(c *chargeFacts) (rises, falls []step, last int64) {
	for _, s := range f.refundSnapshots(c) {
		switch sum := s.object.AmountRefunded; {
		case sum > last:
			rises = append(rises, step{at: s.event.Created, amount: sum - last, fetched: s.event.Fetched})
			last = sum
		case sum < last && !s.event.Fetched:
			falls = append(falls, step{at: s.event.Created, amount: last - sum})
			last = sum
		}
	}
	for _, list := range [][]step{rises, falls} {
		var total Sum
		for i := range list {
			total = total.Plus(SumOf(list[i].amount))
			list[i].total = total
		}
	}
	return rises, falls, last
}

// refundSnapshots returns the captured snapshots of a charge by time, without stale reads.
func (f *folder) refundSnapshots(c *chargeFacts) (list []snapshot[Charge]) {
	var shown []chargeShown
	for _, s := range c.counted {
		if !s.object.Captured {
			continue
		}
		if s.object.AmountRefunded < 0 {
			f.refundUnknown = true
			continue
		}
		if s.event.Fetched {
			if shown == nil {
				shown = c.shownByEvents()
			}
			if exceeds(shown, s) {
				continue
			}
		}
		list = append(list, s)
	}
	slices.SortStableFunc(list, func(a, b snapshot[Charge]) int {
		order := cmp.Or(cmp.Compare(a.event.Created, b.event.Created), cmp.Compare(a.object.AmountRefunded, b.object.AmountRefunded))
		if order == 0 && a.event.Fetched != b.event.Fetched {
			if b.event.Fetched {
				return -1
			}
			return 1
		}
		return cmp.Or(order, strings.Compare(a.event.ID, b.event.ID))
	})
	return list
}

// chargeShown is the most that the events of a charge up to a time show.
type chargeShown struct{ at, captured, refunded int64 }

// shownByEvents returns the maxima that events show, by time. The result is never nil.
func (c *chargeFacts) shownByEvents() []chargeShown {
	shown := []chargeShown{}
	for _, s := range c.counted {
		if !s.event.Fetched {
			shown = append(shown, chargeShown{s.event.Created, s.object.AmountCaptured, s.object.AmountRefunded})
		}
	}
	slices.SortFunc(shown, func(a, b chargeShown) int { return cmp.Compare(a.at, b.at) })
	for i := 1; i < len(shown); i++ {
		shown[i].captured, shown[i].refunded = max(shown[i].captured, shown[i-1].captured), max(shown[i].refunded, shown[i-1].refunded)
	}
	return shown
}

// exceeds reports whether events up to the time of an API read show more than the read does.
func exceeds(shown []chargeShown, read snapshot[Charge]) bool {
	after := sort.Search(len(shown), func(i int) bool { return shown[i].at > read.event.Created })
	if after == 0 {
		return false
	}
	most := &shown[after-1]
	return max(0, most.captured) > max(0, read.object.AmountCaptured) || most.refunded > read.object.AmountRefunded
}

// versionWithoutVoidRefunds is the first API version in which the uncaptured part of an
// authorization is no longer reported as a refund.
// https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow
const versionWithoutVoidRefunds = "2025-03-31"

// void is the part of an authorization that was never captured and that Stripe gave back to the
// cardholder at a partial capture. Older API versions report it as a refund, but no money moved.
type void struct {
	amount int64 // 0 if amount_refunded does not include a void
	at     int64 // time of the first snapshot that includes it
}

// lastCapture are the snapshots of a charge after its last capture, which show the greatest
// captured amount.
type lastCapture struct {
	captured   int64
	difference int64              // the charge's amount − captured
	snapshots  []snapshot[Charge] // by time
}

func (c *chargeFacts) lastCapture() (w lastCapture) {
	var amount int64
	for _, s := range c.counted {
		amount, w.captured = max(amount, s.object.Amount), max(w.captured, s.object.AmountCaptured)
	}
	w.difference = amount - w.captured
	for _, s := range c.counted {
		if s.object.Captured && max(0, s.object.AmountCaptured) == w.captured && s.object.AmountRefunded >= 0 {
			w.snapshots = append(w.snapshots, s)
		}
	}
	slices.SortStableFunc(w.snapshots, func(a, b snapshot[Charge]) int {
		return cmp.Or(cmp.Compare(a.event.Created, b.event.Created), strings.Compare(a.event.ID, b.event.ID))
	})
	return w
}

// voidOf returns the void that the charge's amount_refunded includes. The amounts decide and not
// the API version of the event: Stripe reports voids by the version of the request that captured,
// which no event states.
func (f *folder) voidOf(c *chargeFacts) void {
	w := c.lastCapture()
	if w.difference <= 0 || len(w.snapshots) == 0 {
		return void{}
	}
	first := w.snapshots[0]
	in := first.object.AmountRefunded-f.refundedBefore(c, w) >= w.difference
	atCapture := false
	for _, s := range w.snapshots {
		in = in && s.object.AmountRefunded >= w.difference
		atCapture = atCapture || s.event.Type == typeCaptured && !s.event.Fetched
	}
	if in && (atCapture || f.payment.Status != statusRequiresCapture || first.event.APIVersion < versionWithoutVoidRefunds) {
		return void{w.difference, first.event.Created}
	}
	failed := f.failedRefunds(c)
	for _, s := range w.snapshots {
		if SumOf(w.captured).Plus(failed).Minus(SumOf(s.object.AmountRefunded)).IsNegative() { // more refunded than captured
			return void{w.difference, s.event.Created}
		}
	}
	return void{}
}

// failedRefunds returns the sum of the charge's refunds that failed or were canceled.
func (f *folder) failedRefunds(c *chargeFacts) (sum Sum) {
	for _, r := range c.refunds {
		if r.reversed() {
			sum = sum.Plus(SumOf(r.amount))
		}
	}
	return sum
}

// failedBetween returns the sum of the charge's refunds that failed in [from, to].
func (c *chargeFacts) failedBetween(from, to int64) (sum Sum) {
	for _, r := range c.refunds {
		if r.reversed() && r.failedAt != 0 && r.failedAt >= from && r.failedAt <= to {
			sum = sum.Plus(SumOf(r.amount))
		}
	}
	return sum
}

// refundedBefore returns what was refunded of a charge before the first snapshot after its last
// capture. Those refunds moved money, and a void adds to them. A refund that may be the void itself
// is not counted.
func (f *folder) refundedBefore(c *chargeFacts, w lastCapture) int64 {
	at, captured := w.snapshots[0].event.Created, f.lastCaptureTime(c)
	var last *snapshot[Charge]
	for i := range c.counted {
		s := &c.counted[i]
		if s.object.Captured && s.object.AmountCaptured > 0 && s.object.AmountCaptured < w.captured && s.object.AmountRefunded >= 0 &&
			(last == nil || cmp.Or(cmp.Compare(s.event.Created, last.event.Created), cmp.Compare(s.object.AmountRefunded, last.object.AmountRefunded)) > 0) {
			last = s
		}
	}
	var named Sum
	for _, r := range c.refunds {
		created := r.winner.object.Created
		if !r.outgoing() && !(r.reversed() && r.failedAt > at) || created == 0 || created >= at-voidDelay ||
			r.mayBeVoid(w.difference, captured) && created >= captured-voidDelay {
			continue
		}
		named = named.Plus(SumOf(r.amount))
	}
	before, fits := named.Int64()
	if !fits {
		before = math.MaxInt64
	}
	if last != nil {
		// amount_refunded no longer includes refunds that failed since then.
		since, _ := SumOf(last.object.AmountRefunded).Minus(c.failedBetween(last.event.Created, at)).atLeastZero().Int64()
		before = max(before, since)
	}
	return before
}

// voidDelay is how many seconds after the capture Stripe may create the refund that is a void.
const voidDelay = 2

// lastCaptureTime returns the time of the charge's last capture, 0 if unknown.
func (f *folder) lastCaptureTime(c *chargeFacts) (at int64) {
	for _, s := range c.snapshots {
		if s.event.Type == typeCaptured && !s.event.Fetched {
			at = max(at, s.event.Created)
		}
	}
	if totals := c.capturedTotals(); at == 0 && len(totals) > 0 && c.status() == statusSucceeded {
		at, _ = f.captureTime(c, totals, len(totals)-1)
		at = cmp.Or(at, int64(f.payment.Created))
	}
	return at
}

// mayBeVoid reports whether the refund can be a void of the amount: Stripe creates it together with
// the capture.
func (r *refundFacts) mayBeVoid(amount, captured int64) bool {
	in := r.winner.object
	return captured != 0 && r.outgoing() && r.amount == amount && in.Created != 0 && in.Created <= captured+voidDelay &&
		(in.Reason == "" || in.Reason == "expired_uncaptured_charge")
}

// markVoid marks the refund that is the charge's void: the first at the time of the void, otherwise
// the first of all that can be it.
func (f *folder) markVoid(c *chargeFacts, voided void) {
	captured := f.lastCaptureTime(c)
	var found, near *refundFacts // c.refunds is sorted by time, then by id
	for _, r := range c.refunds {
		if !r.mayBeVoid(voided.amount, captured) {
			continue
		}
		in := r.winner.object
		if found == nil || in.Created < found.winner.object.Created {
			found = r
		}
		if in.Created >= voided.at-voidDelay && (near == nil || in.Created < near.winner.object.Created) {
			near = r
		}
	}
	if found = cmp.Or(near, found); found != nil {
		found.void = true
	}
}
