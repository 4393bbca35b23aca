package reconcile_test

import (
	"slices"
	"strings"
	"testing"

	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
)

const ours = "https://pay.haderer.example/webhooks/stripe"

func endpoint(change func(e *stripe.Endpoint)) stripe.Endpoint {
	e := stripe.Endpoint{ID: "we_1", URL: ours, Status: "enabled", EnabledEvents: stripe.Types[:], APIVersion: stripe.PinnedVersion}
	if change != nil {
		change(&e)
	}
	return e
}

// connect is the endpoint as one for connected accounts.
func connect(e stripe.Endpoint) stripe.Endpoint {
	e.ID, e.Application = "we_connect", "ca_1"
	return e
}

// disabled is the endpoint after Stripe has disabled it.
func disabled(e stripe.Endpoint) stripe.Endpoint {
	e.Status = "disabled"
	return e
}

// halved is the endpoint with one half of the types.
func halved(e stripe.Endpoint, half int) stripe.Endpoint {
	e.EnabledEvents = nil
	for i, typ := range stripe.Types {
		if i%2 == half {
			e.EnabledEvents = append(e.EnabledEvents, typ)
		}
	}
	return e
}

func TestWhatAnAuditSays(t *testing.T) {
	at := func(url string) stripe.Endpoint {
		return endpoint(func(e *stripe.Endpoint) { e.ID, e.URL = "we_2", url })
	}
	for _, c := range []struct {
		name    string
		all     []stripe.Endpoint
		check   string
		verdict string
		says    string
	}{
		{"nothing", nil, reconcile.EndpointFound, stripe.Fail, "Stripe has no test mode endpoint for " + ours + " (it has 0 endpoints of other URLs)"},
		{"another one", []stripe.Endpoint{at("https://stats.haderer.example/hook")}, reconcile.EndpointFound, stripe.Fail, "it has 1 endpoint of other URLs"},
		{"all is well", []stripe.Endpoint{endpoint(nil)}, "", stripe.OK, ""},
		{"all events", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.EnabledEvents = []string{"*"} })}, "", stripe.OK, ""},
		{"disabled", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.Status = "disabled" })}, reconcile.EndpointEnabled, stripe.Fail, "is disabled at Stripe: nothing that happens now is ever sent here"},
		{"the other mode", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.Livemode = true })}, reconcile.EndpointMode, stripe.Fail, "is of live mode, this receiver of test mode"},
		{"types missing", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.EnabledEvents = stripe.Types[2:] })}, reconcile.EndpointTypes, stripe.Fail, "is not sent 2 event types that move money: payment_intent.created,payment_intent.requires_action"},
		{"no version", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.APIVersion = "" })}, reconcile.EndpointVersion, stripe.Warn, "has no API version of its own"},
		{"an unknown version", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.APIVersion = "2031-01-01.ginger" })}, reconcile.EndpointVersion, stripe.Warn, "2031-01-01.ginger"},
		{"another version of a known train", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.APIVersion = "2026-09-30.endive" })}, "", stripe.OK, ""},
		{"a query", []stripe.Endpoint{at(ours + "?version=2026-08-26&key=whoever-may")}, "", stripe.OK, ""},
		{"two queries", []stripe.Endpoint{at(ours + "?version=2026-08-26"), endpoint(nil)}, "", stripe.OK, ""},
		{"two queries, each with a half of the types", []stripe.Endpoint{halved(at(ours+"?version=2"), 0), halved(endpoint(nil), 1)}, "", stripe.OK, ""},
		{"a half of the types is disabled", []stripe.Endpoint{halved(at(ours+"?version=2"), 0), halved(endpoint(func(e *stripe.Endpoint) { e.Status = "disabled" }), 1)},
			reconcile.EndpointTypes, stripe.Fail, "is not sent 14 event types"},
		{"a half of the types is of connected accounts", []stripe.Endpoint{halved(endpoint(nil), 0), halved(connect(endpoint(nil)), 1)}, reconcile.EndpointTypes, stripe.Fail, "is not sent 28 event types"},
		{"the account's and the connected accounts'", []stripe.Endpoint{endpoint(nil), connect(endpoint(nil))}, "", stripe.OK, ""},
		{"the old version beside the new", []stripe.Endpoint{at(ours + "?version=2"), endpoint(func(e *stripe.Endpoint) { e.APIVersion = "" })}, reconcile.EndpointVersion, stripe.Warn, "no API version of its own"},
		{"two of them", []stripe.Endpoint{endpoint(nil), endpoint(func(e *stripe.Endpoint) { e.ID = "we_3" })}, reconcile.EndpointDuplicates, stripe.Warn, "2 endpoints have this URL (we_1, we_3)"},
		{"a slash", []stripe.Endpoint{at(ours + "/")}, "", stripe.OK, ""},
		{"a slash and a query", []stripe.Endpoint{at(ours + "/?version=2")}, "", stripe.OK, ""},
		{"www", []stripe.Endpoint{at("https://www.pay.haderer.example/webhooks/stripe")}, reconcile.EndpointSimilar, stripe.Fail, "differs by www alone"},
		{"the case", []stripe.Endpoint{at("https://Pay.Haderer.example/webhooks/stripe")}, "", stripe.OK, ""},
		{"a slash too many", []stripe.Endpoint{at("https://pay.haderer.example//webhooks//stripe")}, "", stripe.OK, ""},
		{"an escape", []stripe.Endpoint{at("https://pay.haderer.example/webhooks/%73tripe")}, "", stripe.OK, ""},
		{"a dot behind the host", []stripe.Endpoint{at("https://pay.haderer.example./webhooks/stripe")}, "", stripe.OK, ""},
		{"another path", []stripe.Endpoint{at("https://pay.haderer.example/webhooks/Stripe")}, reconcile.EndpointFound, stripe.Fail, "it sends nothing here"},
		{"http", []stripe.Endpoint{at("http://pay.haderer.example/webhooks/stripe")}, reconcile.EndpointSimilar, stripe.Fail, "differs by http instead of https alone"},
		{"http, told too", []stripe.Endpoint{at("http://pay.haderer.example/webhooks/stripe")}, reconcile.EndpointScheme, stripe.Fail, "payments travel in the open"},
		{"a default port", []stripe.Endpoint{at("https://pay.haderer.example:443/webhooks/stripe")}, "", stripe.OK, ""},
		{"a port", []stripe.Endpoint{at("https://pay.haderer.example:8443/webhooks/stripe")}, reconcile.EndpointFound, stripe.Fail, "it sends nothing here"},
		{"ours and a similar one", []stripe.Endpoint{at("https://www.pay.haderer.example/webhooks/stripe"), endpoint(nil)}, reconcile.EndpointSimilar, stripe.Warn,
			"differs from ours by www alone"},
		{"with and without a slash", []stripe.Endpoint{at(ours + "/"), endpoint(nil)}, reconcile.EndpointDuplicates, stripe.Warn, "2 endpoints have this URL"},
		{"the connected accounts' is disabled", []stripe.Endpoint{endpoint(nil), disabled(connect(endpoint(nil)))}, reconcile.EndpointEnabled, stripe.Fail,
			"of the events of connected accounts"},
		{"the account's own is disabled", []stripe.Endpoint{disabled(endpoint(nil)), connect(endpoint(nil))}, reconcile.EndpointEnabled, stripe.Fail,
			"of the account's own events"},
		{"a disabled one is no duplicate", []stripe.Endpoint{endpoint(nil), disabled(at(ours))}, "", stripe.OK, ""},
		{"too many", slices.Repeat([]stripe.Endpoint{at("https://x.example/")}, 16), reconcile.EndpointCount, stripe.Warn, "The account has 16 endpoints"},
	} {
		a := reconcile.Examine(c.all, ours, false)
		if c.check == "" {
			for _, f := range a.Findings {
				if f.Verdict != stripe.OK {
					t.Errorf("%s: %+v", c.name, f)
				}
			}
			continue
		}
		at := slices.IndexFunc(a.Findings, func(f stripe.Finding) bool { return f.Name == c.check && f.Verdict == c.verdict })
		if at < 0 || !strings.Contains(a.Findings[at].Sentence, c.says) || a.Findings[at].Next == "" {
			t.Errorf("%s: no %s of %s that says %q in %+v", c.name, c.verdict, c.check, c.says, a.Findings)
		}
	}
	if a := reconcile.Examine([]stripe.Endpoint{endpoint(nil)}, "", false); a.Endpoint != nil || a.Findings[0].Verdict != stripe.Unknown || !strings.Contains(a.Findings[0].Next, "TILLHOOK_PUBLIC_URL") {
		t.Errorf("without an address: %+v", a)
	}
	two := reconcile.Examine([]stripe.Endpoint{connect(at(ours + "?key=whoever-may")), endpoint(nil)}, ours, false)
	for name, want := range map[string]string{
		reconcile.EndpointFound:      "Stripe has the endpoint we_1 for " + ours + ", of another query: we_connect with key.",
		reconcile.EndpointScope:      "The endpoint we_1 hears the account's own events. The endpoint we_connect hears the events of connected accounts.",
		reconcile.EndpointDuplicates: "The endpoints we_1, we_connect have this URL, with different queries or for different accounts: each has a secret of its own.",
	} {
		if !slices.ContainsFunc(two.Findings, func(f stripe.Finding) bool { return f.Name == name && f.Sentence == want }) {
			t.Errorf("%s is not %q in %+v", name, want, two.Findings)
		}
	}
	disabled := endpoint(func(e *stripe.Endpoint) { e.ID, e.Status = "we_0", "disabled" })
	if a := reconcile.Examine([]stripe.Endpoint{disabled, endpoint(nil)}, ours, false); a.Endpoint == nil || a.Endpoint.ID != "we_1" {
		t.Errorf("of a disabled and an enabled one it took %+v", a.Endpoint)
	}
}

func TestThinPayloads(t *testing.T) {
	to := func(payload string) stripe.Destination {
		d := stripe.Destination{ID: "ed_1", Payload: payload, Webhook: &struct {
			URL string `json:"url"`
		}{ours}}
		return d
	}
	of := func(d stripe.Destination, from ...string) stripe.Destination { d.EventsFrom = from; return d }
	disabled := func(d stripe.Destination) stripe.Destination { d.Status = "disabled"; return d }
	withQuery := func(d stripe.Destination) stripe.Destination { d.Webhook.URL += "?version=2"; return d }
	for _, c := range []struct {
		all     []stripe.Destination
		verdict string
	}{
		{[]stripe.Destination{to("snapshot")}, stripe.OK},
		{[]stripe.Destination{to("thin")}, stripe.Fail},
		{[]stripe.Destination{to("thin"), to("snapshot")}, stripe.Warn},
		{[]stripe.Destination{{ID: "ed_2", Payload: "thin"}}, stripe.Unknown},
		{[]stripe.Destination{disabled(to("thin")), to("snapshot")}, stripe.OK},
		{[]stripe.Destination{to("thin"), disabled(to("snapshot"))}, stripe.Fail},
		{[]stripe.Destination{of(to("snapshot"), "@self", "@accounts")}, stripe.OK},
		{[]stripe.Destination{of(withQuery(to("snapshot")), "@self", "@accounts")}, stripe.OK},
	} {
		if len(c.all[0].EventsFrom) > 0 {
			if f := reconcile.Payload(c.all, ours); !strings.Contains(f.Sentence, "The destination ed_1 hears @self, @accounts.") {
				t.Errorf("%+v: %+v", c.all, f)
			}
		}
		if f := reconcile.Payload(c.all, ours); f.Verdict != c.verdict || f.Sentence == "" || (f.Next == "") != (c.verdict == stripe.OK) {
			t.Errorf("%+v: %+v", c.all, f)
		}
	}
}

// An audit is part of each round: it is measured, told, and logged once.
func TestARoundAudits(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.round(reconcile.Request{})
	if f := s.Findings()[1]; f.Name != reconcile.EndpointFound || f.Verdict != stripe.Fail {
		t.Errorf("without an endpoint: %+v", f)
	}
	types := make([]any, 0, len(stripe.Types))
	for _, typ := range stripe.Types {
		types = append(types, typ)
	}
	s.account.AddEndpoint(map[string]any{"id": "we_1", "url": ours, "api_version": stripe.PinnedVersion, "enabled_events": types})
	s.round(reconcile.Request{})
	if f := s.Findings()[1]; f.Name != reconcile.EndpointFound || f.Verdict != stripe.OK {
		t.Errorf("with one: %+v", f)
	}
	s.account.Endpoint("we_1")["status"] = "disabled"
	s.round(reconcile.Request{})
	if f := s.Findings()[1]; f.Name != reconcile.EndpointEnabled || f.Verdict != stripe.Fail {
		t.Errorf("of a disabled one: %+v", f)
	}
	s.account.Deny("/v1/webhook_endpoints", "rak_webhook_read")
	s.round(reconcile.Request{})
	if f := s.Findings()[1]; f.Verdict != stripe.Unknown || !strings.Contains(f.Next, "Webhook Endpoints: Read") {
		t.Errorf("without the right: %+v", f)
	}
}
