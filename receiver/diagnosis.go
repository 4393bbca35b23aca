package receiver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

const (
	// causeEvery is the time between two searches for the cause of refusals of one kind. Forged
	// requests must cost next to nothing.
	causeEvery = time.Minute
	// recent is how long a refusal is reported.
	recent = time.Hour
	// disproved is how long a refusal is reported if later deliveries verified, or if it did not
	// come from Stripe: otherwise anyone could keep the health from being ok.
	disproved = 30 * time.Second
	// retireAfter is how long a secret must be unused to be reported as removable. Stripe signs
	// with an old one for a day at most. See
	// https://docs.stripe.com/webhooks#roll-endpoint-secrets.
	retireAfter = 24 * time.Hour
	// silence is the time without an event after which that is reported.
	silence = 3 * 24 * time.Hour
)

// bodyIncomplete is the code of a body that ended before its Content-Length.
const bodyIncomplete = "body_incomplete"

// diagnosis counts what was refused and keeps the likely causes.
type diagnosis struct {
	started  time.Time
	verified atomic.Uint64       // deliveries since the start
	last     atomic.Int64        // when the last one came, Unix seconds
	refused  map[string]*refusal // by code; the keys never change
}

// refusal counts refusals of one kind. Its times have monotonic readings, so that a correction of
// this machine's clock does not move them into the future.
type refusal struct {
	count    atomic.Uint64
	last     atomic.Pointer[time.Time]
	stripe   atomic.Pointer[time.Time] // of the last one with Stripe's User-Agent; nil for none
	verified atomic.Uint64             // number of verified deliveries before the last one
	cause    atomic.Pointer[string]
	next     atomic.Pointer[string] // the next step; nil for that of all signatures
}

func newDiagnosis(now time.Time) *diagnosis {
	d := &diagnosis{started: now, refused: map[string]*refusal{bodyIncomplete: {}, addressNotAllowed: {}}}
	for _, code := range stripe.Codes {
		d.refused[string(code)] = &refusal{}
	}
	return d
}

func (d *diagnosis) note(code string, req *http.Request, now time.Time) {
	if req.UserAgent() == stripe.ProbeAgent {
		return // the doctor reports the answer itself
	}
	if r := d.refused[code]; r != nil {
		r.verified.Store(d.verified.Load())
		r.last.Store(&now)
		if isStripes(req) {
			r.stripe.Store(&now)
		}
		r.count.Add(1) // last, so that a reader who sees the count finds the other values
	}
}

// stripeAgent begins the User-Agent of Stripe's deliveries.
const stripeAgent = "Stripe/"

// isStripes reports whether a request has Stripe's User-Agent, which anyone can send.
func isStripes(req *http.Request) bool { return strings.HasPrefix(req.UserAgent(), stripeAgent) }

// Status counts deliveries since the start.
type Status struct {
	Started  time.Time
	Verified uint64 // deliveries, including repeats
	Refused  []Refused
	Secrets  []stripe.SecretUse
}

// Refused counts refused requests of one kind.
type Refused struct {
	Code  string
	Count uint64
	Last  time.Time
	// LastStripe is the time of the last one with Stripe's User-Agent; zero for none.
	LastStripe time.Time
	// Verified is the number of deliveries that verified after the last one.
	Verified uint64
	Cause    string // the likely cause; empty if it was not searched for
	next     string
}

// Status returns the counts since the start.
func (r *Receiver) Status() Status {
	s := Status{Started: r.diagnosis.started, Verified: r.diagnosis.verified.Load(), Secrets: r.Verifier.SecretUses()}
	codes := []string{bodyIncomplete, addressNotAllowed}
	for _, code := range stripe.Codes {
		codes = append(codes, string(code))
	}
	for _, code := range codes {
		f := r.diagnosis.refused[code]
		if n := f.count.Load(); n > 0 {
			refused := Refused{Code: code, Count: n, Last: *f.last.Load(),
				Verified: s.Verified - min(s.Verified, f.verified.Load())}
			if last := f.stripe.Load(); last != nil {
				refused.LastStripe = *last
			}
			if cause := f.cause.Load(); cause != nil {
				refused.Cause = *cause
			}
			if next := f.next.Load(); next != nil {
				refused.next = *next
			}
			s.Refused = append(s.Refused, refused)
		}
	}
	return s
}

// Findings reports whether signatures verify, which secrets are in use, and whether events arrive.
func (r *Receiver) Findings() []health.Finding {
	now, s := r.Now(), r.Status()
	list := []health.Finding{s.signatures(now)}
	if allowed := r.allowed.Load(); allowed != nil && len(*allowed) > 0 {
		list = append(list, s.addresses(now))
	}
	if len(s.Secrets) > 1 {
		list = append(list, s.rotation(now))
	}
	f := health.Finding{Code: health.Deliveries, Severity: health.OK, Message: "No event has arrived yet."}
	at, ok := r.Ledger.LastEvent()
	if last := r.diagnosis.last.Load(); last != 0 && time.Unix(last, 0).After(at) { // a repeat
		at = time.Unix(last, 0)
	}
	if ok {
		f.Message = fmt.Sprintf("The last event arrived %s ago.", span(max(0, now.Sub(at))))
		if now.Sub(at) > silence {
			f.Severity = health.Warn
			f.Message = fmt.Sprintf("No event has arrived for %s, since %s.", span(now.Sub(at)),
				at.UTC().Format("2006-01-02 15:04 UTC"))
			f.Next = "check whether the endpoint is enabled and can be reached: tillhook doctor"
		}
	}
	return append(list, f)
}

// signatures reports refused signatures, except for forged requests that do not matter.
func (s *Status) signatures(now time.Time) health.Finding {
	f := health.Finding{Code: health.Signatures, Severity: health.OK,
		Message: wording.Plural(s.Verified, "delivery") + " verified since the start; none was refused recently."}
	if s.Verified == 0 {
		f.Message = "No delivery has arrived since the start."
	}
	var worst *Refused
	for i := range s.Refused {
		one := &s.Refused[i]
		noise := one.Code == string(stripe.MissingSignature) || one.Code == string(stripe.MalformedSignature)
		if one.Code == addressNotAllowed || !one.matters(now) || noise && s.Verified > 0 {
			continue
		}
		if worst == nil || !noise && one.Count > worst.Count {
			worst = one
		}
	}
	if worst == nil {
		return f
	}
	f.Severity, f.Next = health.Warn, "see the log for when and from where: journalctl -u tillhook"
	f.Message = fmt.Sprintf("%d of %s %s refused as %s, the last one %s ago: %s.", worst.Count,
		wording.Plural(worst.Count+s.Verified, "request"),
		wording.Verb(worst.Count, "was", "were"), worst.Code, span(now.Sub(worst.Last)), worst.Cause)
	if s.Verified == 0 {
		f.Severity = health.Fail
		f.Message = fmt.Sprintf("Every one of %s since the start was refused as %s: %s.",
			wording.Plural(worst.Count, "request"), worst.Code, worst.Cause)
		if worst.Count == 1 {
			f.Message = fmt.Sprintf("The only request since the start was refused as %s: %s.", worst.Code, worst.Cause)
		}
	}
	return f
}

// addresses reports requests in the form of deliveries that were refused because of their address.
func (s *Status) addresses(now time.Time) health.Finding {
	f := health.Finding{Code: health.Addresses, Severity: health.OK,
		Message: "No request in the form of a delivery was refused recently because of its address."}
	at := slices.IndexFunc(s.Refused, func(one Refused) bool { return one.Code == addressNotAllowed })
	if at < 0 || !s.Refused[at].matters(now) {
		return f
	}
	one := s.Refused[at]
	f.Severity, f.Next = health.Warn, one.next
	if s.Verified == 0 && !one.LastStripe.IsZero() {
		f.Severity = health.Fail
	}
	f.Message = fmt.Sprintf("%s in the form of a delivery %s refused because the address is not on the list of "+
		"TILLHOOK_ALLOW_STRIPE_IPS, the last one %s ago: %s.", wording.Plural(one.Count, "request"),
		wording.Verb(one.Count, "was", "were"), span(now.Sub(one.Last)), one.Cause)
	return f
}

// matters reports whether refusals of a kind are still reported. Once a delivery has verified, a
// wrong clock is right again. Anyone can cause any number of the other kinds, so once
// deliveries verify, only requests with Stripe's User-Agent count for longer.
func (one *Refused) matters(now time.Time) bool {
	switch age := now.Sub(one.Last); {
	case age >= 0 && age <= disproved:
		return true
	case one.Verified == 0:
		return age <= recent
	case one.Code == string(stripe.TimestampTooOld), one.Code == string(stripe.TimestampInFuture):
		return false
	}
	return now.Sub(one.LastStripe) <= recent
}

// rotation reports which of several secrets are in use.
func (s *Status) rotation(now time.Time) health.Finding {
	f := health.Finding{Code: health.Rotation, Severity: health.OK}
	var parts, idle []string
	inUse := false
	for i, use := range s.Secrets {
		since := use.Last
		if since.IsZero() {
			since = use.Since
			parts = append(parts, fmt.Sprintf("secret %d has verified nothing in the %s since it was configured", i+1,
				span(now.Sub(since))))
		} else {
			parts = append(parts, fmt.Sprintf("secret %d verified an event %s ago", i+1, span(now.Sub(since))))
		}
		if now.Sub(since) > retireAfter {
			idle = append(idle, fmt.Sprint(i+1))
		} else if !use.Last.IsZero() {
			inUse = true
		}
	}
	f.Message = fmt.Sprintf("Of %d signing secrets, %s.", len(s.Secrets), strings.Join(parts, ", "))
	if inUse && len(idle) > 0 {
		f.Severity = health.Warn
		f.Message += fmt.Sprintf(" No event was signed only with secret %s for more than %s: it can be removed.",
			strings.Join(idle, ", "), span(retireAfter))
		f.Next = "remove it from STRIPE_WEBHOOK_SECRET, unless it belongs to another endpoint that rarely gets events"
	}
	return f
}

// span returns a duration as text, in its largest suitable unit.
func span(d time.Duration) string {
	n, unit := int64(d/time.Second), "second"
	switch {
	case d >= 48*time.Hour:
		n, unit = int64(d/(24*time.Hour)), "day"
	case d >= 2*time.Hour:
		n, unit = int64(d/time.Hour), "hour"
	case d >= 2*time.Minute:
		n, unit = int64(d/time.Minute), "minute"
	}
	return wording.Plural(n, unit)
}

// likelyCause returns in plain words what is probably wrong with a signature and where to look.
// body is nil if it was not read.
func (r *Receiver) likelyCause(rejection *stripe.Rejection, sig stripe.Signature, body []byte,
	req *http.Request) string {
	switch rejection.Code {
	case stripe.MissingSignature:
		return "the sender is not Stripe, or a proxy in front drops the Stripe-Signature header"
	case stripe.MalformedSignature:
		return "the sender is not Stripe, or a proxy in front rewrites the Stripe-Signature header"
	case stripe.TimestampTooOld:
		return rejection.Error() + ": this machine's clock is ahead by that much (timedatectl status), or an old " +
			"delivery is being replayed"
	case stripe.TimestampInFuture:
		return rejection.Error() + ": this machine's clock is behind by that much (timedatectl status)"
	}
	if at, ok := r.Verifier.SignedByRetired(sig, body); ok {
		return "it is signed with a secret that was removed from STRIPE_WEBHOOK_SECRET " + span(time.Since(at)) +
			" ago: put it back until Stripe has stopped using it"
	}
	var said struct {
		Object   string `json:"object"`
		Livemode *bool  `json:"livemode"`
	}
	var wrong *json.UnmarshalTypeError
	if err := json.Unmarshal(body, &said); err != nil && !errors.As(err, &wrong) {
		return "the body is not JSON: the sender is not Stripe, or a proxy in front changes or cuts the body"
	}
	switch {
	case said.Object == "v2.core.event":
		return "the body is a thin event: an event destination with thin payloads sends here, and its secret is not " +
			"in STRIPE_WEBHOOK_SECRET; delete it, or use snapshot payloads"
	case said.Livemode != nil && *said.Livemode != r.Livemode:
		return "the body is of " + ledger.ModeName(*said.Livemode) + " mode and this receiver of " +
			ledger.ModeName(r.Livemode) +
			" mode: each mode has its own endpoints and secrets; make that endpoint send to the receiver of its mode"
	case r.diagnosis.verified.Load() > 0:
		return "other events verify: the sender is not Stripe, or a second endpoint sends here, or the secret was " +
			"rolled; add its secret to STRIPE_WEBHOOK_SECRET, separated by a comma"
	case r.Verifier.SecretsFromCLI():
		return "STRIPE_WEBHOOK_SECRET holds the secret of stripe listen, and the request was signed by an endpoint, " +
			"which has its own (Dashboard, Workbench, Webhooks, your endpoint)"
	case strings.HasPrefix(req.UserAgent(), stripeAgent) && !strings.Contains(string(body[:min(len(body), 16)]), "\n"):
		return "STRIPE_WEBHOOK_SECRET is probably not that of the endpoint that sends here (each has its own, and so " +
			"has stripe listen); " +
			"or else a proxy in front rewrites the body, which is not indented as Stripe's usually is: make it pass " +
			"the body on byte for byte"
	}
	return "no event has verified since the start: STRIPE_WEBHOOK_SECRET is probably that of another endpoint (each " +
		"has its own, and so has stripe listen), or a proxy in front changes the body"
}
