package reconcile

import (
	"context"
	"time"

	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// Either clock can be wrong: this machine's, or the Date of Stripe's answers. Checkpoints in the
// ledger outlive the fault. So they are dated by the believed time, a checkpoint in the future of
// both clocks is ignored, and if the believed time is uncertain no checkpoint is saved.

// now returns the time up to which events can have been compared. A checkpoint that a wrong clock
// has moved ahead would skip all events until then.
func (r *Reconciler) now() time.Time {
	now, _ := r.API.Clocks().Believed()
	return now
}

// corrected returns this machine's time, or the believed time if Stripe's clock contradicts it.
func (r *Reconciler) corrected() time.Time { return r.API.Clocks().Corrected() }

// clockRetryAfter is the pause between calls that read Stripe's clock while the clocks differ,
// times the number of attempts of the last call.
const clockRetryAfter = 30 * time.Second

// refreshClock reads Stripe's clock again while the clocks differ, so that the finding ends soon
// after the fault and not with the next round. An error answer serves as well; without an answer
// the finding stays.
func (r *Reconciler) refreshClock(ctx context.Context) {
	skew, ok := r.API.Skew()
	at, _ := r.API.Answered()
	if !ok || ClockFinding(skew).Severity == health.OK || time.Since(at) < clockRetryAfter || time.Now().Before(r.nextClockCheck) {
		return
	}
	select {
	case <-r.token:
	case <-ctx.Done():
		return
	}
	defer func() { r.token <- struct{}{} }()
	w := &round{Reconciler: r, report: &Report{}, pending: map[string]int64{}, begun: r.corrected()}
	w.limitToDay(true)
	_, _, _ = r.API.Endpoints(stripe.WithBudget(ctx, func() error { return w.spend(ctx) }))
	_ = w.saveAtEnd(ctx) // otherwise the next round counts the call
	r.nextClockCheck = time.Now().Add(time.Duration(w.report.Calls) * clockRetryAfter)
	if skew, ok := r.API.Skew(); ok {
		r.Metrics.Skew(skew)
	}
}

const undatedSentence = "this machine's clock and the Date of Stripe's answers contradict each other: " +
	"events were fetched, but how far they were compared is not saved; set this machine's clock, and " +
	"check whether a proxy changes the Date header"

// forgetFuture resets values in memory that a clock ahead of time has left.
func (w *round) forgetFuture() {
	clocks := w.API.Clocks()
	limit := clocks.Later().Add(maxDrift * time.Second)
	if w.answeredAt > limit.Unix() {
		w.answeredAt = 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.completed.After(limit) {
		w.completed = time.Time{}
		w.Metrics.Reconciled(time.Unix(0, 0))
	}
	if w.gap.found > limit.Unix() && clocks.Agree() {
		w.gap = gap{}
		w.noteCheckpoint(gapFound, 0)
	}
}

// datable reports whether a checkpoint of an account may be saved.
//
// A checkpoint ahead of the believed time is replaced only if it is in the future of both clocks,
// and one that is older than Stripe's list only if both clocks agree. Otherwise a clock that is
// wrong for one round could lower a checkpoint, or hide or invent a gap.
func datable(c stripe.Clocks, checkpoint int64) bool {
	now, sure := c.Believed()
	switch {
	case !sure:
		return false
	case checkpoint > now.Unix():
		return !c.Contradict() || checkpoint > c.Later().Unix()
	case checkpoint != 0 && checkpoint < now.Add(-eventHistory).Unix():
		return !c.Contradict()
	}
	return true
}
