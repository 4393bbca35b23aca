package reconcile

import (
	"context"
	"fmt"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// gap is the span of all gaps of all accounts. It is saved in the ledger, so that a restart does
// not hide it, and reported for gapShown. Times are Unix seconds.
type gap struct {
	from, to int64
	found    int64 // when it was found; 0 without a gap
}

// gapShown is how long a gap is reported.
const gapShown = 30 * 24 * time.Hour

const (
	gapFrom  = "gap-from"
	gapTo    = "gap-to"
	gapFound = "gap-found"
)

// beginning returns when the ledger first knew of an account that was never compared, or 0 if
// unknown. For the key's own account that is the time of the ledger's first row.
func (w *round) beginning(ctx context.Context, a *account) (int64, error) {
	if !a.own() {
		return a.seen, nil
	}
	page, err := w.Ledger.Events(ctx, ledger.EventQuery{Below: firstRow + 1, Limit: 1})
	if err != nil || len(page.Data) == 0 {
		return 0, err
	}
	// The clock may have been behind when the row was received.
	return max(int64(page.Data[0].Received), int64(page.Data[0].Created)), nil
}

// firstRow is the sequence of a ledger's first row.
const firstRow = 1

// findGap reports the gap between begin, up to which an account was compared or when it was first
// seen, and the oldest event that Stripe lists. Both clocks must show the gap, because one wrong
// Date proves nothing. The account was compared at least up to its newest listed event, whatever
// its checkpoint says.
func (w *round) findGap(a *account, begin int64, clocks stripe.Clocks) {
	begin = max(begin, a.newest)
	oldest := clocks.Earlier().Add(-eventHistory)
	if !clocks.Known || begin >= oldest.Unix() {
		return
	}
	found := Gap{a.ID, begin, oldest.Unix()}
	w.report.Gaps = append(w.report.Gaps, found)
	w.reportProblem("gap/"+a.ID,
		"the events of %s from %s to %s can no longer be compared: Stripe lists only the last 30 days", a, stamp(found.From), stamp(found.To))
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.request.DryRun {
		return
	}
	now := w.corrected().Unix()
	g := gap{found.From, found.To, now}
	if old := w.gap; old.shown(now) { // one gap for all
		g.from, g.to = min(g.from, old.from), max(g.to, old.to)
	}
	w.gap = g
	w.noteCheckpoint(gapFrom, g.from)
	w.noteCheckpoint(gapTo, g.to)
	w.noteCheckpoint(gapFound, g.found)
}

func (g gap) shown(now int64) bool {
	return g.found != 0 && now-g.found < int64(gapShown/time.Second)
}

// finding returns the finding about the days that cannot be compared.
func (g gap) finding() health.Finding {
	return health.Finding{Code: health.ReconcileGap, Severity: health.Warn,
		Message: fmt.Sprintf("Events from %s to %s (%s) could not be compared with the ledger: "+
			"reconciling was interrupted for longer than the 30 days that Stripe lists events.",
			stamp(g.from), stamp(g.to), wording.Plural(max(1, int((g.to-g.from+secondsADay/2)/secondsADay)), "day")),
		Next: fmt.Sprintf("compare the payments, refunds and disputes of these days with the Dashboard; charges, refunds "+
			"and disputes created on these days are listed at the next daily check. This finding ends on %s",
			time.Unix(g.found, 0).Add(gapShown).UTC().Format(time.DateOnly))}
}

// stamp formats a Unix time for a message.
func stamp(at int64) string { return time.Unix(at, 0).UTC().Format("2006-01-02 15:04 UTC") }
