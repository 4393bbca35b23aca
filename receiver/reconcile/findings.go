package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// maxSkew is how far the clocks may differ before it is said. Signatures bear five minutes.
const maxSkew = 30 * time.Second

// Findings tell how things stand between Stripe and the ledger, as of the last round: what is wrong, or that all is well.
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
			list = append(list, health.Finding{Code: health.Endpoint, Severity: health.OK, Message: "The endpoint at Stripe is enabled and is sent every event type that moves money."})
		}
	}
	if skew, ok := r.API.Skew(); ok {
		list = append(list, ClockFinding(skew))
	}
	return list
}

// maxAsked of the last deliveries are asked for, and how old they may be: Stripe forgets events.
const (
	maxAsked = 3
	askedAge = eventHistory - 24*time.Hour
)

// Deliveries are the last events, of those given, that Stripe should know: what came by itself, was used, and is not too old.
func Deliveries(page []*ledger.EventRecord, now time.Time) (some []*ledger.EventRecord) {
	for _, e := range page {
		if e.Source == ledger.Webhook && e.Outcome != ledger.Quarantined && now.Sub(time.Unix(int64(e.Created), 0)) < askedAge && len(some) < maxAsked {
			some = append(some, e)
		}
	}
	return some
}

// AccountFinding says what it means that the key's account knows one of so many events that were delivered, or none.
func AccountFinding(known bool, asked int) health.Finding {
	f := health.Finding{Code: health.APIAccount, Severity: health.OK, Message: "The API key's account knows what was delivered here."}
	switch {
	case asked == 0:
		f.Message = "Nothing was delivered of late by which the API key's account could be reported."
	case !known:
		f.Severity = health.Warn
		f.Message = "The API key's account does not know the last events that were delivered here: the key may be of another account or sandbox than the endpoint, and then brings that one's payments into these books."
		f.Next = "compare the account of the key with that of the endpoint in the Dashboard; where they differ, stop the receiver and use a key of the endpoint's. Events that were made up (tillhook send) are not known either"
	}
	return f
}

// Clock says what a skew means.
func ClockFinding(skew time.Duration) health.Finding {
	f := health.Finding{Code: health.Clock, Severity: health.OK, Message: fmt.Sprintf("This machine's clock agrees with Stripe's (%s).", ahead(skew))}
	if skew.Abs() > maxSkew {
		f.Severity, f.Next = health.Warn, "have the clock set: timedatectl set-ntp true"
		f.Message = fmt.Sprintf("This machine's clock is %s Stripe's: at 300 s every signature is refused.", ahead(skew))
	}
	if skew.Abs() >= 290*time.Second {
		f.Severity = health.Fail
	}
	if skew.Abs() > stripe.MaxDisagreement {
		f.Message = fmt.Sprintf("This machine's clock is %s Stripe's: one of the two is wrong. If it is this one every signature is "+
			"refused. Events are still fetched, and what is kept is dated by the clock that past events do not disprove.", ahead(skew))
		f.Next += "; if this machine's clock is right, see what changes the Date header of Stripe's answers (a proxy, a cache)"
	}
	return f
}

func ahead(skew time.Duration) string {
	seconds := int64(skew.Round(time.Second) / time.Second)
	days := ledger.Plural(max(seconds, -seconds)/secondsADay, "day")
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

// finding says which accounts are not compared.
func (c *accountSummary) finding(now time.Time) health.Finding {
	f := health.Finding{Code: health.ReconcileAccounts, Severity: health.OK}
	recent := slices.DeleteFunc(slices.Clone(c.disconnected), func(a *account) bool {
		return now.Sub(time.Unix(a.refused, 0)) > disconnectedShown+disconnectedAfter
	})
	switch {
	case c.keyAtFault():
		f.Severity = health.Fail
		f.Message = fmt.Sprintf("%d of %s are not compared with Stripe: it refuses calls that name them (%s). "+
			"What they miss is not fetched.", len(c.refused), ledger.Plural(c.connected, "connected account"), firstIDs(c.refused))
		f.Next = c.advice() + "; correct that, then: tillhook reconcile. Accounts that have disconnected count as such after 30 days"
	case len(c.refused) > 0 && len(c.suspects) == len(c.refused):
		f.Severity = health.Warn
		f.Message = fmt.Sprintf("Stripe refuses calls that name %s (%s).", ledger.Plural(len(c.refused), "connected account"), firstIDs(c.refused))
		f.Next = "see in the Dashboard (Connect) whether it has disconnected from the platform; it is asked ever more rarely. " +
			"It counts as disconnected once Stripe has answered for another account for 24 hours, or after 30 days"
	case len(c.refused) > 0:
		f.Severity = health.Warn
		f.Message = fmt.Sprintf("Stripe refuses calls that name %s (%s), and answers for the others.",
			ledger.Plural(len(c.refused), "connected account"), firstIDs(c.refused))
		f.Next = "see in the Dashboard (Connect) whether it has disconnected from the platform; " +
			"it is asked ever more rarely, and after 24 hours it counts as disconnected"
	case c.waiting > 0 && !c.exhausted:
		f.Severity = health.Warn
		f.Message = fmt.Sprintf("%d of %s wait to be compared with Stripe: they could not be read, "+
			"or their turn has not come for over two hours.", c.waiting, ledger.Plural(c.connected+1, "account"))
		f.Next = "it is tried again by itself; the log says why"
	case len(recent) > 0:
		f.Severity = health.Warn
		f.Message = fmt.Sprintf("Stripe has refused calls that name %s (%s) for over a day: "+
			"they count as disconnected from the platform and are asked for once a day.",
			ledger.Plural(len(recent), "connected account"), firstIDs(recent))
		f.Next = "nothing, if they have disconnected; this is shown for a week"
	}
	return f
}

// some names the first few accounts.
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

// budgetFinding says that no more calls are made today. It is called with the lock held.
func (r *Reconciler) budgetFinding() health.Finding {
	f := health.Finding{Code: health.ReconcileBudget, Severity: health.OK}
	if r.used.day != r.today() || r.used.calls < r.available(r.summary.connected > 0) {
		return f
	}
	f.Severity = health.Warn
	f.Message = fmt.Sprintf("The %d calls to Stripe's API that a day may have are used up until %s.",
		r.Calls, r.midnight().Format("2006-01-02 15:04 UTC"))
	if n := r.summary.waiting; n > 0 {
		f.Message += fmt.Sprintf(" %d of %s wait until then.", n, ledger.Plural(r.summary.connected+1, "account"))
	}
	f.Next = "it goes on by itself, with the account that was compared longest ago; " +
		"if this happens every day, a longer TILLHOOK_RECONCILE_EVERY needs fewer calls"
	return f
}

// comparison says how the last rounds went. It is called with the lock held.
func (r *Reconciler) comparisonFinding(now time.Time) health.Finding {
	f := health.Finding{Code: health.Reconcile, Severity: health.OK, Message: "Stripe's list of events has not been compared with the ledger yet."}
	if !r.completed.IsZero() {
		f.Message = fmt.Sprintf("Stripe's list of events was last compared with the ledger at %s.", r.completed.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	var recent []miss
	missed := 0
	for _, m := range r.missed {
		if now.Sub(m.at) <= 24*time.Hour {
			recent, missed = append(recent, m), missed+m.events
		}
	}
	if missed > 0 {
		f.Message += fmt.Sprintf(" In the last day %s had been missed and %s fetched.", ledger.Plural(missed, "event"), ledger.Verb(missed, "was", "were"))
	}
	reported := errors.Is(r.failed, errPartly) || errors.Is(r.failed, errBudget) // by findings of their own
	switch {
	case r.failed != nil && !reported:
		f.Severity, f.Message = health.Warn, fmt.Sprintf("Stripe's list of events could not be compared with the ledger: %v.", r.failed)
		f.Next = "it is tried again by itself; tillhook doctor tells whether Stripe answers here and accepts the key"
	case missed > 0 && !r.isOver(recent, now):
		f.Severity = health.Warn
		f.Next = "they are booked; find out why Stripe could not deliver them: tillhook doctor, and the endpoint's deliveries in the Dashboard"
	}
	return f
}

// missSpan is how long events may be missed again and again before deliveries that come in between
// do not count as a sign that all is well.
const missSpan = time.Hour

// overcome reports whether misses were those of one short time, such as one in which the disk was
// full, and Stripe has delivered since.
func (r *Reconciler) isOver(missed []miss, now time.Time) bool {
	last := missed[len(missed)-1].at
	delivered, ok := r.Ledger.LastEvent()
	// This machine's clock may have been another one when the events were missed.
	return ok && delivered.After(now.Round(0).Add(-now.Sub(last))) && last.Sub(missed[0].at) <= missSpan
}
