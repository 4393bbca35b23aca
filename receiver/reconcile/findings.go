package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// maxSkew is the clock difference above which a finding warns. Signatures tolerate five minutes.
const maxSkew = 30 * time.Second

// Findings returns findings about the comparison with Stripe, the accounts, the endpoint and the
// clock, as of the last round.
func (r *Reconciler) Findings() []health.Finding {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.corrected()
	list := []health.Finding{r.comparisonFinding(time.Now())}
	if f := r.summary.finding(now); f.Severity != health.OK {
		list = append(list, f)
	}
	if f := r.budgetFinding(); f.Severity != health.OK {
		list = append(list, f)
	}
	if r.gap.shown(now.Unix()) {
		list = append(list, r.gap.finding())
	}
	if r.wrongAccount {
		list = append(list, AccountFinding(false, 1))
	}
	if r.audit != nil {
		bad := false
		for _, f := range r.audit.Findings {
			if f.Severity != health.OK {
				list, bad = append(list, f), true
			}
		}
		if !bad {
			list = append(list, health.Finding{Code: health.Endpoint, Severity: health.OK, Message: "The endpoint at Stripe is enabled and receives every event type about payments."})
		}
	}
	if skew, ok := r.API.Skew(); ok {
		list = append(list, ClockFinding(skew))
	}
	return list
}

// How many recent deliveries are looked up at Stripe, and their maximum age: Stripe deletes events.
const (
	maxAsked = 3
	askedAge = eventHistory - 24*time.Hour
)

// Deliveries returns the newest of the given events that Stripe should have: delivered by webhook,
// not quarantined, and not too old.
func Deliveries(page []*ledger.EventRecord, now time.Time) (some []*ledger.EventRecord) {
	for _, e := range page {
		if e.Source == ledger.Webhook && e.Outcome != ledger.Quarantined && now.Sub(time.Unix(int64(e.Created), 0)) < askedAge && len(some) < maxAsked {
			some = append(some, e)
		}
	}
	return some
}

// AccountFinding reports whether the API key belongs to the account whose events arrive here. known
// is true if Stripe has one of the asked deliveries.
func AccountFinding(known bool, asked int) health.Finding {
	f := health.Finding{Code: health.APIAccount, Severity: health.OK, Message: "The API key belongs to the account whose events are delivered here."}
	switch {
	case asked == 0:
		f.Message = "There are no recent deliveries to check the API key's account with."
	case !known:
		f.Severity = health.Warn
		f.Message = "Stripe does not have the last delivered events in the API key's account. The key may be of another account or sandbox than the endpoint, and then that account's payments get into this ledger."
		f.Next = "compare the account of the key with that of the endpoint in the Dashboard; if they differ, stop the receiver and use a key of the endpoint's account. Events of tillhook send are unknown to Stripe too"
	}
	return f
}

// ClockFinding reports a difference between this machine's clock and Stripe's.
func ClockFinding(skew time.Duration) health.Finding {
	f := health.Finding{Code: health.Clock, Severity: health.OK, Message: fmt.Sprintf("This machine's clock agrees with Stripe's (%s).", ahead(skew))}
	if skew.Abs() > maxSkew {
		f.Severity, f.Next = health.Warn, "set the clock: timedatectl set-ntp true"
		f.Message = fmt.Sprintf("This machine's clock is %s Stripe's. From a difference of 300 s on every signature is refused.", ahead(skew))
	}
	if skew.Abs() >= 290*time.Second {
		f.Severity = health.Fail
	}
	if skew.Abs() > stripe.MaxDisagreement {
		f.Message = fmt.Sprintf("This machine's clock is %s Stripe's: one of them is wrong. If it is this one, every signature is "+
			"refused. Events are still fetched, and checkpoints are dated by the clock that past events do not disprove.", ahead(skew))
		f.Next += "; if this machine's clock is right, find the proxy or cache that changes the Date header of Stripe's answers"
	}
	return f
}

func ahead(skew time.Duration) string {
	seconds := int64(skew.Round(time.Second) / time.Second)
	days := wording.Plural(max(seconds, -seconds)/secondsADay, "day")
	switch {
	case seconds > 2*secondsADay:
		return days + " ahead of"
	case seconds < -2*secondsADay:
		return days + " behind"
	case seconds > 0:
		return fmt.Sprintf("%d s ahead of", seconds)
	case seconds < 0:
		return fmt.Sprintf("%d s behind", -seconds)
	}
	return "to the second"
}

// finding reports accounts that are not compared.
func (c *accountSummary) finding(now time.Time) health.Finding {
	f := health.Finding{Code: health.ReconcileAccounts, Severity: health.OK}
	recent := slices.DeleteFunc(slices.Clone(c.disconnected), func(a *account) bool {
		return now.Sub(time.Unix(a.refused, 0)) > disconnectedShown+disconnectedAfter
	})
	switch {
	case c.keyAtFault():
		f.Severity = health.Fail
		f.Message = fmt.Sprintf("%d of %s are not compared with Stripe, because Stripe refuses calls that name them (%s). "+
			"Their missed events are not fetched.", len(c.refused), wording.Plural(c.connected, "connected account"), firstIDs(c.refused))
		f.Next = c.advice() + "; correct that, then run: tillhook reconcile. Disconnected accounts are recognized after 30 days"
	case len(c.refused) > 0 && len(c.suspects) == len(c.refused):
		f.Severity = health.Warn
		f.Message = fmt.Sprintf("Stripe refuses calls that name %s (%s).", wording.Plural(len(c.refused), "connected account"), firstIDs(c.refused))
		f.Next = "check in the Dashboard (Connect) whether it has disconnected from the platform; it is tried with growing pauses. " +
			"It counts as disconnected once Stripe has answered for another account for 24 hours, or after 30 days"
	case len(c.refused) > 0:
		f.Severity = health.Warn
		f.Message = fmt.Sprintf("Stripe refuses calls that name %s (%s), but answers for the others.",
			wording.Plural(len(c.refused), "connected account"), firstIDs(c.refused))
		f.Next = "check in the Dashboard (Connect) whether it has disconnected from the platform; " +
			"it is tried with growing pauses, and after 24 hours it counts as disconnected"
	case c.waiting > 0 && !c.exhausted:
		f.Severity = health.Warn
		f.Message = fmt.Sprintf("Waiting to be compared with Stripe, because it could not be read or was not due for "+
			"over two hours: %d of %s.", c.waiting, wording.Plural(c.connected+1, "account"))
		f.Next = "it is retried automatically; the log has the reason"
	case len(recent) > 0:
		f.Severity = health.Warn
		f.Message = fmt.Sprintf("Stripe has refused calls that name %s (%s) for over a day: "+
			"they count as disconnected from the platform and are tried once a day.",
			wording.Plural(len(recent), "connected account"), firstIDs(recent))
		f.Next = "nothing, if they have disconnected; this finding ends after a week"
	}
	return f
}

// firstIDs names the first few accounts.
func firstIDs(list []*account) string {
	const most = 3
	var names []string
	for _, a := range list[:min(len(list), most)] {
		names = append(names, a.ID)
	}
	if more := len(list) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// budgetFinding reports that no calls are left today. The caller holds the lock.
func (r *Reconciler) budgetFinding() health.Finding {
	f := health.Finding{Code: health.ReconcileBudget, Severity: health.OK}
	if r.used.day != r.today() || r.used.calls < r.available(r.summary.connected > 0) {
		return f
	}
	f.Severity = health.Warn
	f.Message = fmt.Sprintf("The limit of %d calls a day to Stripe's API is used up until %s.",
		r.Calls, r.midnight().Format("2006-01-02 15:04 UTC"))
	if n := r.summary.waiting; n > 0 {
		f.Message += fmt.Sprintf(" %d of %s are waiting until then.", n, wording.Plural(r.summary.connected+1, "account"))
	}
	f.Next = "it continues automatically with the oldest comparison; " +
		"if this happens every day, set a longer TILLHOOK_RECONCILE_EVERY, which needs fewer calls"
	return f
}

// comparisonFinding reports the result of the last rounds. The caller holds the lock.
func (r *Reconciler) comparisonFinding(now time.Time) health.Finding {
	f := health.Finding{Code: health.Reconcile, Severity: health.OK, Message: "Stripe's event list has not been compared with the ledger yet."}
	if !r.completed.IsZero() {
		f.Message = fmt.Sprintf("Stripe's event list was last compared with the ledger at %s.", r.completed.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	var recent []miss
	missed := 0
	for _, m := range r.missed {
		if now.Sub(m.at) <= 24*time.Hour {
			recent, missed = append(recent, m), missed+m.events
		}
	}
	if missed > 0 {
		f.Message += fmt.Sprintf(" In the last 24 hours %s had been missed and %s fetched.", wording.Plural(missed, "event"), wording.Verb(missed, "was", "were"))
	}
	reported := errors.Is(r.failed, errPartly) || errors.Is(r.failed, errBudget) // these have findings of their own
	switch {
	case r.failed != nil && !reported:
		f.Severity, f.Message = health.Warn, fmt.Sprintf("Stripe's event list could not be compared with the ledger: %v.", r.failed)
		f.Next = "it is retried automatically; run tillhook doctor to check whether Stripe answers and accepts the key"
	case missed > 0 && !r.isOver(recent, now):
		f.Severity = health.Warn
		f.Next = "they are stored; find out why Stripe could not deliver them: run tillhook doctor, and see the endpoint's deliveries in the Dashboard"
	}
	return f
}

// missSpan is how long events may keep being missed before deliveries in between are no sign that
// Stripe delivers again.
const missSpan = time.Hour

// isOver reports whether the misses were within a short time, for example while the disk was full,
// and Stripe has delivered since.
func (r *Reconciler) isOver(missed []miss, now time.Time) bool {
	last := missed[len(missed)-1].at
	delivered, ok := r.Ledger.LastEvent()
	// This machine's clock may have been set since the events were missed.
	return ok && delivered.After(now.Round(0).Add(-now.Sub(last))) && last.Sub(missed[0].at) <= missSpan
}
