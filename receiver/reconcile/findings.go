package reconcile

import (
	"fmt"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// maxSkew is how far the clocks may differ before it is said. Signatures bear five minutes.
const maxSkew = 30 * time.Second

// Findings tell how things stand between Stripe and the ledger, as of the last round: what is wrong, or that all is well.
func (r *Reconciler) Findings() []stripe.Finding {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []stripe.Finding{r.comparison(time.Now())}
	if r.stranger {
		list = append(list, Acquainted(false, 1))
	}
	if r.audit != nil {
		bad := false
		for _, f := range r.audit.Findings {
			if f.Verdict != stripe.OK {
				list, bad = append(list, f), true
			}
		}
		if !bad {
			list = append(list, stripe.Finding{Name: EndpointFound, Verdict: stripe.OK, Sentence: "The endpoint at Stripe is enabled and is sent every event type that moves money."})
		}
	}
	if c, ok := r.API.Clock(); ok {
		list = append(list, Clock(c.Skew))
	}
	return list
}

// maxAsked of the last deliveries are asked for, and how old they may be: Stripe forgets events.
const (
	maxAsked = 3
	askedAge = reach - 24*time.Hour
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

// Acquainted says what it means that the key's account knows one of so many events that were delivered, or none.
func Acquainted(known bool, asked int) stripe.Finding {
	f := stripe.Finding{Name: "api_account", Verdict: stripe.OK, Sentence: "The API key's account knows what was delivered here."}
	switch {
	case asked == 0:
		f.Sentence = "Nothing was delivered of late by which the API key's account could be told."
	case !known:
		f.Verdict = stripe.Warn
		f.Sentence = "The API key's account does not know the last events that were delivered here: the key may be of another account or sandbox than the endpoint, and then brings that one's payments into these books."
		f.Next = "compare the account of the key with that of the endpoint in the Dashboard; where they differ, stop the receiver and use a key of the endpoint's. Events that were made up (tillhook send) are not known either"
	}
	return f
}

// Clock says what a skew means.
func Clock(skew time.Duration) stripe.Finding {
	f := stripe.Finding{Name: "clock", Verdict: stripe.OK, Sentence: fmt.Sprintf("This machine's clock agrees with Stripe's (%s).", ahead(skew))}
	if skew.Abs() > maxSkew {
		f.Verdict, f.Next = stripe.Warn, "have the clock set: timedatectl set-ntp true"
		f.Sentence = fmt.Sprintf("This machine's clock is %s Stripe's: at 300 s every signature is refused.", ahead(skew))
	}
	if skew.Abs() >= 290*time.Second {
		f.Verdict = stripe.Fail
	}
	return f
}

func ahead(skew time.Duration) string {
	seconds := int64(skew.Round(time.Second) / time.Second)
	switch {
	case seconds > 0:
		return fmt.Sprintf("%d s ahead of", seconds)
	case seconds < 0:
		return fmt.Sprintf("%d s behind", -seconds)
	}
	return "to the second"
}

// comparison says how the last rounds went. It is called with the lock held.
func (r *Reconciler) comparison(now time.Time) stripe.Finding {
	f := stripe.Finding{Name: "reconcile", Verdict: stripe.OK, Sentence: "Stripe's list of events has not been compared with the ledger yet."}
	if !r.ended.IsZero() {
		f.Sentence = fmt.Sprintf("Stripe's list of events was last compared with the ledger at %s.", r.ended.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	missed := 0
	for _, m := range r.missed {
		if now.Sub(m.at) <= 24*time.Hour {
			missed += m.events
		}
	}
	switch {
	case r.failed != nil:
		f.Verdict, f.Sentence = stripe.Warn, fmt.Sprintf("Stripe's list of events could not be compared with the ledger: %v.", r.failed)
		f.Next = "tillhook doctor tells more; it is tried again by itself"
	case missed > 0:
		f.Verdict = stripe.Warn
		f.Sentence += fmt.Sprintf(" In the last day %s had been missed and %s fetched.", plural(missed, "event"), map[bool]string{true: "was", false: "were"}[missed == 1])
		f.Next = "they are booked; find out why Stripe could not deliver them: tillhook doctor, and the endpoint's deliveries in the Dashboard"
	}
	return f
}
