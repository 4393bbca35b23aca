package reconcile

import (
	"context"
	"fmt"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// gap is a time whose events can no longer be compared, of any account. It is kept in the ledger,
// so that a restart does not hide it, and reported for gapShown. Times are Unix seconds.
type gap struct {
	from, to int64
	found    int64 // 0 where there is none
}

// gapShown is how long a gap is reported.
const gapShown = 30 * 24 * time.Hour

const (
	gapFrom  = "gap-from"
	gapTo    = "gap-to"
	gapFound = "gap-found"
)

// beginning returns when the ledger first knew of an account that was never compared; 0 where that
// is not known. For the key's own account that is when the ledger's first row came.
func (w *round) beginning(ctx context.Context, a *account) (int64, error) {
	if !a.own() {
		return a.seen, nil
	}
	page, err := w.Ledger.Events(ctx, ledger.EventQuery{Below: firstRow + 1, Limit: 1})
	if err != nil || len(page.Data) == 0 {
		return 0, err
	}
	// A clock that was behind may have dated it.
	return max(int64(page.Data[0].Received), int64(page.Data[0].Created)), nil
}

// firstRow is the sequence of a ledger's first row.
const firstRow = 1

// findGap reports and remembers the time between one up to which an account was compared, or from
// which it is known, and the oldest event that Stripe lists. Both clocks must say so: one Date of
// another year is no gap. Up to the newest event that was listed the account was compared, whatever
// a clock made of its checkpoint.
func (w *round) findGap(a *account, begin int64, clocks stripe.Clocks) {
	begin = max(begin, a.newest)
	oldest := clocks.Earlier().Add(-reach)
	if !clocks.Known || begin >= oldest.Unix() {
		return
	}
	found := Gap{a.ID, begin, oldest.Unix()}
	w.report.Gaps = append(w.report.Gaps, found)
	w.problem("gap/"+a.ID,
		"the events of %s from %s to %s can no longer be compared: Stripe lists those of the last 30 days", a, stamp(found.From), stamp(found.To))
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.request.DryRun {
		return
	}
	now := w.corrected().Unix()
	g := gap{found.From, found.To, now}
	if old := w.gap; old.shown(now) { // one report of all
		g.from, g.to = min(g.from, old.from), max(g.to, old.to)
	}
	w.gap = g
	w.noteMark(gapFrom, g.from)
	w.noteMark(gapTo, g.to)
	w.noteMark(gapFound, g.found)
}

func (g gap) shown(now int64) bool {
	return g.found != 0 && now-g.found < int64(gapShown/time.Second)
}

// finding says which days cannot be compared.
func (g gap) finding() health.Finding {
	return health.Finding{Code: health.ReconcileGap, Severity: health.Warn,
		Message: fmt.Sprintf("Events from %s to %s (%s) could not be compared with the ledger: "+
			"reconciling was interrupted for longer than the 30 days that Stripe lists events.",
			stamp(g.from), stamp(g.to), ledger.Plural(max(1, int((g.to-g.from+secondsADay/2)/secondsADay)), "day")),
		Next: fmt.Sprintf("compare the payments, refunds and disputes of these days with the Dashboard; charges, refunds "+
			"and disputes that were created then are listed at the next daily check. This is shown until %s",
			time.Unix(g.found, 0).Add(gapShown).UTC().Format(time.DateOnly))}
}

// stamp formats a Unix time for a sentence.
func stamp(at int64) string { return time.Unix(at, 0).UTC().Format("2006-01-02 15:04 UTC") }
