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

// refundRank orders statuses as a refund goes through them; the way back from succeeded to failed
// is real.
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
	charge    string // that any snapshot names
	of        *chargeFacts
	counted   bool  // its money is in the payment's currency
	amount    int64 // 0 if unknown
	booked    int64 // by Stripe's balance
	returned  int64
	failedAt  int64
	release   bool // it stands for what a partial capture released, and moved no money
}

func (r *refundFacts) add(s snapshot[Refund]) {
	if len(r.snapshots) == 0 || cmp.Or(cmp.Compare(refundRank(s.of.Status), refundRank(r.winner.of.Status)),
		cmp.Compare(s.by.Created, r.winner.by.Created), strings.Compare(s.by.ID, r.winner.by.ID)) > 0 {
		r.winner = s
	}
	r.snapshots = append(r.snapshots, s)
	r.charge = least(r.charge, s.of.Charge)
	r.booked, r.returned = earliest(r.booked, s.of.Booked), earliest(r.returned, s.of.Returned)
	if refundRank(s.of.Status) == 3 {
		r.failedAt = earliest(r.failedAt, s.by.Created)
	}
}

// outgoing reports whether the refund takes money, though it may still be in progress.
func (r *refundFacts) outgoing() bool {
	rank := refundRank(r.winner.of.Status)
	return rank == 1 || rank == 2
}

// reversed reports whether the refund failed or was canceled.
func (r *refundFacts) reversed() bool { return refundRank(r.winner.of.Status) == 3 }

// refund books what went back to the customer, and what came back of that.
func (f *folder) refund() {
	only := f.onlyCapturedCharge()
	byTime := make([]*refundFacts, len(f.refunds))
	for i := range f.refunds {
		r := &f.refunds[i]
		byTime[i] = r
		for _, s := range r.snapshots {
			f.known(s.of.Amount)
		}
		if r.counted = f.counts(r.winner.of.Currency); r.counted {
			r.amount = max(0, r.winner.of.Amount)
		}
		if r.of = f.charge(r.charge); r.charge == "" && only != nil {
			r.of = only
		}
	}
	slices.SortFunc(byTime, func(a, b *refundFacts) int {
		return cmp.Or(cmp.Compare(a.winner.of.Created, b.winner.of.Created), strings.Compare(a.id, b.id))
	})
	for _, r := range byTime {
		if r.of != nil {
			r.of.refunds = append(r.of.refunds, r)
		}
	}
	for i := range f.charges {
		f.refundCharge(&f.charges[i])
	}
	for _, r := range byTime {
		if r.of == nil || r.of.captured() {
			f.bookRefund(r)
		}
		p := PaymentRefund{ID: r.id, Status: OrNull(r.winner.of.Status), Charge: OrNull(r.charge), Created: OrNullTime(r.winner.of.Created)}
		if r.winner.of.Amount >= 0 {
			p.Amount = &r.winner.of.Amount
		}
		f.payment.Refunds = append(f.payment.Refunds, p)
	}
}

// onlyCapturedCharge is the charge that a refund belongs to if it names none: the only one that was
// captured, and where none was the only one; nil if there are several.
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

// bookRefund books a refund that is known by its id. One that failed stays on its day and comes
// back on another.
func (f *folder) bookRefund(r *refundFacts) {
	if r.release || !r.outgoing() && !r.reversed() {
		return
	}
	e := Entry{
		ID: r.id + ":refunded", At: cmp.Or(r.booked, r.winner.of.Created, r.winner.by.Created), Kind: Refunded, Object: r.id,
		Charge: r.charge, Amount: r.amount,
	}
	if r.of != nil {
		e.Charge = r.of.id
	}
	f.book(e)
	if r.reversed() {
		e.ID, e.Kind, e.At = r.id+":returned", RefundReturned, cmp.Or(r.returned, r.failedAt, e.At)
		f.book(e)
	}
}

// step is a rise or a fall of a charge's cumulative amount_refunded.
type step struct {
	at      int64
	amount  int64 // without what refunds known by their ids explain, in the end
	total   Sum   // of all steps up to and with this one
	fetched bool  // at is when the charge was read, which is not when its money moved
}

// refundCharge books the refunds of a charge that only its amount_refunded shows, and finds among
// its refunds the one that stands for a release. Snapshots of a charge that was not captured count
// for nothing here: only an authorisation ended.
//
// The sum L, its falls D, the refunds S and the failed refunds F are four views of one thing. A
// refund that failed may have lowered amount_refunded (then D shows it) or not (then F beyond D is
// taken off L).
func (f *folder) refundCharge(c *chargeFacts) {
	released := f.released(c)
	if released.amount > 0 {
		f.markRelease(c, released)
	}
	rises, falls, last := f.steps(c)
	var outgoing, failed, fallen Sum
	for _, r := range c.refunds {
		switch {
		case r.release:
		case r.outgoing():
			outgoing = outgoing.Plus(SumOf(r.amount))
		case r.reversed():
			failed = failed.Plus(SumOf(r.amount))
		}
	}
	for _, fall := range falls {
		fallen = fallen.Plus(SumOf(fall.amount))
	}
	left := SumOf(last).Minus(SumOf(released.amount)).atLeastZero()
	unexplained := left.Minus(failed.Minus(fallen).atLeastZero()).Minus(outgoing).atLeastZero()
	if unexplained != (Sum{}) || fallen.Minus(failed).IsNegative() && f.refundedAfterFailure(c) {
		f.open = append(f.open, c.id)
	}
	returned := fallen.Minus(failed).atLeastZero()
	risen, fell := newTaking(rises), newTaking(falls)
	risen.take(released.amount, released.at)
	for _, r := range c.refunds {
		if r.release || !r.outgoing() && !r.reversed() {
			continue
		}
		risen.take(r.amount, r.winner.of.Created)
		if r.reversed() {
			fell.take(r.amount, r.winner.of.Created)
		}
	}
	beyond := f.bookSteps(c, rises, unexplained.Plus(returned), Refunded)
	if beyond != (Sum{}) && len(falls) > 0 { // it rose and fell without an event of the rise
		amount, fits := beyond.Int64()
		f.over = f.over || !fits
		total := beyond
		if len(rises) > 0 {
			total = total.Plus(rises[len(rises)-1].total)
		}
		f.book(Entry{ID: c.id + ":refunded:" + total.String(), At: falls[0].at, Kind: Refunded, Object: c.id, Charge: c.id, Amount: amount})
	}
	f.bookSteps(c, falls, returned, RefundReturned)
}

// refundedAfterFailure reports whether the charge said that it was refunded after one of its
// refunds had failed. Where the sum did not show the failure it does not show whether the refund
// was made again.
func (f *folder) refundedAfterFailure(c *chargeFacts) bool {
	var failed int64
	for _, r := range c.refunds {
		if r.counted && r.reversed() {
			failed = earliest(failed, r.failedAt)
		}
	}
	return failed != 0 && slices.ContainsFunc(c.counted, func(s snapshot[Charge]) bool {
		return s.by.Type == "charge.refunded" && !s.by.Fetched && s.of.Captured && s.by.Created > failed
	})
}

// bookSteps books an amount on the steps in their order, and returns what is left of it.
func (f *folder) bookSteps(c *chargeFacts, steps []step, amount Sum, kind Kind) (left Sum) {
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
		f.book(Entry{ID: c.id + word + s.total.String(), At: s.at, Kind: kind, Object: c.id, Charge: c.id, Amount: part})
		amount = amount.Minus(SumOf(part))
	}
	return amount
}

// taking takes what is known by its id off the steps of a charge, which it does not own.
type taking struct {
	steps []step
	next  []int // next[i] leads to the first step from i on of which something is left: it is that one, or one before it
}

func newTaking(steps []step) *taking {
	t := &taking{steps: steps}
	if len(steps) > 0 {
		t.next = make([]int, len(steps)+1)
	}
	for i := range t.next {
		t.next[i] = i
	}
	return t
}

// left returns the first step from i on of which something is left.
func (t *taking) left(i int) int {
	for t.next[i] != i {
		t.next[i] = t.next[t.next[i]] // so that the way is shorter the next time
		i = t.next[i]
	}
	return i
}

// take takes a refund off the steps: off those at or after the time it was created first, then off
// the others.
func (t *taking) take(amount, created int64) {
	if len(t.steps) == 0 {
		return
	}
	first, _ := slices.BinarySearchFunc(t.steps, created, func(s step, created int64) int { return cmp.Compare(s.at, created) })
	amount = t.between(first, len(t.steps), amount)
	t.between(0, first, amount)
}

// between takes an amount off the steps from one on and before another, and returns what it could
// not take.
func (t *taking) between(from, end int, amount int64) int64 {
	for i := t.left(from); i < end && amount > 0; i = t.left(i) {
		part := min(amount, t.steps[i].amount)
		t.steps[i].amount -= part
		amount -= part
		if t.steps[i].amount == 0 {
			t.next[i] = i + 1
		}
	}
	return amount
}

// steps returns how the charge's amount_refunded rose and fell, and what it came to. A charge that
// was read from the API counts unless it shows less than an event up to its time; that it shows
// less than another read is no fall.
func (f *folder) steps(c *chargeFacts) (rises, falls []step, last int64) {
	for _, s := range f.refundSnapshots(c) {
		switch sum := s.of.AmountRefunded; {
		case sum > last:
			rises = append(rises, step{at: s.by.Created, amount: sum - last, fetched: s.by.Fetched})
			last = sum
		case sum < last && !s.by.Fetched:
			falls = append(falls, step{at: s.by.Created, amount: last - sum})
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

// refundSnapshots returns the captured snapshots of a charge in the order of their time.
func (f *folder) refundSnapshots(c *chargeFacts) (list []snapshot[Charge]) {
	var shown []chargeShown
	for _, s := range c.counted {
		if !s.of.Captured || s.of.AmountRefunded < 0 {
			continue
		}
		if s.by.Fetched {
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
		order := cmp.Or(cmp.Compare(a.by.Created, b.by.Created), cmp.Compare(a.of.AmountRefunded, b.of.AmountRefunded))
		if order == 0 && a.by.Fetched != b.by.Fetched {
			if b.by.Fetched {
				return -1
			}
			return 1
		}
		return cmp.Or(order, strings.Compare(a.by.ID, b.by.ID))
	})
	return list
}

// chargeShown is the most that the events of a charge up to a time show.
type chargeShown struct{ at, captured, refunded int64 }

// shownByEvents returns what the events show, by time. It is not nil.
func (c *chargeFacts) shownByEvents() []chargeShown {
	shown := []chargeShown{}
	for _, s := range c.counted {
		if !s.by.Fetched {
			shown = append(shown, chargeShown{s.by.Created, s.of.AmountCaptured, s.of.AmountRefunded})
		}
	}
	slices.SortFunc(shown, func(a, b chargeShown) int { return cmp.Compare(a.at, b.at) })
	for i := 1; i < len(shown); i++ {
		shown[i].captured, shown[i].refunded = max(shown[i].captured, shown[i-1].captured), max(shown[i].refunded, shown[i-1].refunded)
	}
	return shown
}

// exceeds reports whether events show more than a read of the charge does that was made after them.
func exceeds(shown []chargeShown, read snapshot[Charge]) bool {
	after := sort.Search(len(shown), func(i int) bool { return shown[i].at > read.by.Created })
	if after == 0 {
		return false
	}
	most := &shown[after-1]
	return max(0, most.captured) > max(0, read.of.AmountCaptured) || most.refunded > read.of.AmountRefunded
}

// versionOfRelease is the first API version in which the part of an authorisation that was not
// captured is no refund any more.
// https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow
const versionOfRelease = "2025-03-31"

// release is what a partial capture released, as far as that is in the charge's amount_refunded.
type release struct {
	amount int64 // 0 if nothing was released, or if it is not in the sum
	at     int64 // when the sum first had it
}

// wholeCapture are the snapshots of a charge that show the greatest captured amount: they tell what
// the last capture released.
type wholeCapture struct {
	captured   int64
	difference int64              // of the charge's amount and what was captured
	snapshots  []snapshot[Charge] // by time
}

func (c *chargeFacts) wholeCapture() (w wholeCapture) {
	var amount int64
	for _, s := range c.counted {
		amount, w.captured = max(amount, s.of.Amount), max(w.captured, s.of.AmountCaptured)
	}
	w.difference = amount - w.captured
	for _, s := range c.counted {
		if s.of.Captured && max(0, s.of.AmountCaptured) == w.captured && s.of.AmountRefunded >= 0 {
			w.snapshots = append(w.snapshots, s)
		}
	}
	slices.SortStableFunc(w.snapshots, func(a, b snapshot[Charge]) int {
		return cmp.Or(cmp.Compare(a.by.Created, b.by.Created), strings.Compare(a.by.ID, b.by.ID))
	})
	return w
}

// released finds out what of the charge's amount_refunded was only released. The charge's own
// figures decide: at Stripe the version of the request does, and the event's is the endpoint's.
func (f *folder) released(c *chargeFacts) release {
	w := c.wholeCapture()
	if w.difference <= 0 || len(w.snapshots) == 0 {
		return release{}
	}
	first := w.snapshots[0]
	in := first.of.AmountRefunded-f.refundedBefore(c, w) >= w.difference
	atCapture := false
	for _, s := range w.snapshots {
		in = in && s.of.AmountRefunded >= w.difference
		atCapture = atCapture || s.by.Type == typeCaptured && !s.by.Fetched
	}
	if in && (atCapture || f.payment.Status != statusRequiresCapture || first.by.APIVersion < versionOfRelease) {
		return release{w.difference, first.by.Created}
	}
	failed := f.failedOf(c)
	for _, s := range w.snapshots {
		if SumOf(w.captured).Plus(failed).Minus(SumOf(s.of.AmountRefunded)).IsNegative() { // no more can be refunded than was captured
			return release{w.difference, s.by.Created}
		}
	}
	return release{}
}

// failedOf returns the sum of the charge's refunds that failed or were canceled.
func (f *folder) failedOf(c *chargeFacts) (sum Sum) {
	for _, r := range c.refunds {
		if r.reversed() {
			sum = sum.Plus(SumOf(r.amount))
		}
	}
	return sum
}

// failedBetween returns the sum of the charge's refunds that failed from one time up to another.
func (c *chargeFacts) failedBetween(from, to int64) (sum Sum) {
	for _, r := range c.refunds {
		if r.reversed() && r.failedAt != 0 && r.failedAt >= from && r.failedAt <= to {
			sum = sum.Plus(SumOf(r.amount))
		}
	}
	return sum
}

// refundedBefore returns what was refunded of a charge before the first snapshot that shows its
// last capture: those refunds are real, and a release adds to them. That snapshot may come of the
// release itself, so a refund that can stand for the release is not counted.
func (f *folder) refundedBefore(c *chargeFacts, w wholeCapture) int64 {
	at, captured := w.snapshots[0].by.Created, f.lastCaptured(c)
	var last *snapshot[Charge]
	for i := range c.counted {
		s := &c.counted[i]
		if s.of.Captured && s.of.AmountCaptured > 0 && s.of.AmountCaptured < w.captured && s.of.AmountRefunded >= 0 &&
			(last == nil || cmp.Or(cmp.Compare(s.by.Created, last.by.Created), cmp.Compare(s.of.AmountRefunded, last.of.AmountRefunded)) > 0) {
			last = s
		}
	}
	var named Sum
	for _, r := range c.refunds {
		created := r.winner.of.Created
		if !r.outgoing() && !(r.reversed() && r.failedAt > at) || created == 0 || created >= at-releaseDelay ||
			r.mayRelease(w.difference, captured) && created >= captured-releaseDelay {
			continue
		}
		named = named.Plus(SumOf(r.amount))
	}
	before, fits := named.Int64()
	if !fits {
		before = math.MaxInt64
	}
	if last != nil {
		// What has failed since then is out of the sum again.
		since, _ := SumOf(last.of.AmountRefunded).Minus(c.failedBetween(last.by.Created, at)).atLeastZero().Int64()
		before = max(before, since)
	}
	return before
}

// releaseDelay is how long after the capture Stripe makes the refund that stands for what was
// released, in seconds.
const releaseDelay = 2

// lastCaptured returns when the charge's last capture was made, 0 if unknown.
func (f *folder) lastCaptured(c *chargeFacts) (at int64) {
	for _, s := range c.snapshots {
		if s.by.Type == typeCaptured && !s.by.Fetched {
			at = max(at, s.by.Created)
		}
	}
	if totals := c.increases(); at == 0 && len(totals) > 0 && c.status() == statusSucceeded {
		at, _ = f.captureTime(c, totals, len(totals)-1)
		at = cmp.Or(at, int64(f.payment.Created))
	}
	return at
}

// mayRelease reports whether the refund can stand for an amount that a capture of its charge
// released: Stripe makes such a refund with the capture.
func (r *refundFacts) mayRelease(amount, captured int64) bool {
	in := r.winner.of
	return captured != 0 && r.outgoing() && r.amount == amount && in.Created != 0 && in.Created <= captured+releaseDelay &&
		(in.Reason == "" || in.Reason == "expired_uncaptured_charge")
}

// markRelease marks the refund that stands for what a partial capture released.
func (f *folder) markRelease(c *chargeFacts, released release) {
	captured := f.lastCaptured(c)
	var found, near *refundFacts // of one second the least id, which comes first
	for _, r := range c.refunds {
		if !r.mayRelease(released.amount, captured) {
			continue
		}
		in := r.winner.of
		if found == nil || in.Created < found.winner.of.Created {
			found = r
		}
		if in.Created >= released.at-releaseDelay && (near == nil || in.Created < near.winner.of.Created) {
			near = r
		}
	}
	if found = cmp.Or(near, found); found != nil {
		found.release = true
	}
}
