package reconcile

import (
	"context"
	"time"

	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// Either clock can be wrong: this machine's, and the Date of Stripe's answers. What is kept in the
// ledger outlives the fault, so it is dated by the believed time, a value from the future of both
// clocks counts as none, and where the believed time is not sure nothing is dated at all.

// now returns the time up to which events can have been compared. A checkpoint that a wrong clock
// had moved ahead would leave out all that happens until then.
func (r *Reconciler) now() time.Time {
	now, _ := r.API.Clocks().Believed()
	return now
}

// corrected returns this machine's time, or the believed one where Stripe's clock contradicts it.
func (r *Reconciler) corrected() time.Time { return r.API.Clocks().Corrected() }

// clockAgain is how long after an answer with a Date that differs from this machine's clock another
// one is asked for, and how long after that for each call that it took.
const clockAgain = 30 * time.Second

// lookAtClock asks Stripe for its time again while the clocks differ, so that the finding ends soon
// after the fault does and not with the next round. A call that fails is as good, and one that is
// not answered leaves the finding.
func (r *Reconciler) lookAtClock(ctx context.Context) {
	skew, ok := r.API.Skew()
	at, _ := r.API.Answered()
	if !ok || Clock(skew).Severity == health.OK || time.Since(at) < clockAgain || time.Now().Before(r.nextLook) {
		return
	}
	select {
	case <-r.turn:
	case <-ctx.Done():
		return
	}
	defer func() { r.turn <- struct{}{} }()
	w := &round{Reconciler: r, report: &Report{}, pending: map[string]int64{}, begun: r.corrected()}
	w.unshared(true)
	_, _, _ = r.API.Endpoints(stripe.WithBudget(ctx, func() error { return w.spend(ctx) }))
	_ = w.keepAtEnd(ctx) // the next round counts the call
	r.nextLook = time.Now().Add(time.Duration(w.report.Calls) * clockAgain)
	if skew, ok := r.API.Skew(); ok {
		r.Metrics.Skew(skew)
	}
}

const undatedSentence = "this machine's clock and the Date of Stripe's answers contradict each other: " +
	"events were fetched, and how far they were compared is not kept; have this machine's clock set, and " +
	"see whether a proxy changes the Date"

// forgetFuture forgets what a clock that was ahead has left in memory.
func (w *round) forgetFuture() {
	clocks := w.API.Clocks()
	limit := clocks.Later().Add(maxDrift * time.Second)
	if w.answeredAt > limit.Unix() {
		w.answeredAt = 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended.After(limit) {
		w.ended = time.Time{}
		w.Metrics.Reconciled(time.Unix(0, 0))
	}
	if w.gap.found > limit.Unix() && clocks.Agree() {
		w.gap = gap{}
		w.noteMark(gapFound, 0)
	}
}

// datable reports whether it may be kept how far an account with a checkpoint was compared.
//
// A checkpoint ahead of the believed time is replaced once both clocks say that it is of the
// future, and one so old that its events are no longer listed once both say so: until then a clock
// that is wrong for a round must neither lower a checkpoint nor hide or invent a gap.
func datable(c stripe.Clocks, checkpoint int64) bool {
	now, sure := c.Believed()
	switch {
	case !sure:
		return false
	case checkpoint > now.Unix():
		return !c.Contradict() || checkpoint > c.Later().Unix()
	case checkpoint != 0 && checkpoint < now.Add(-reach).Unix():
		return !c.Contradict()
	}
	return true
}
