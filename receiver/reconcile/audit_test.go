package reconcile_test

import (
	"slices"
	"strings"
	"testing"

	"tillhook/receiver/health"
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

// connect returns the endpoint as one for connected accounts.
func connect(e stripe.Endpoint) stripe.Endpoint {
	e.ID, e.Application = "we_connect", "ca_1"
	return e
}

// disabled returns the endpoint as Stripe disables it.
func disabled(e stripe.Endpoint) stripe.Endpoint {
	e.Status = "disabled"
	return e
}

// halved returns the endpoint with half of the types.
func halved(e stripe.Endpoint, half int) stripe.Endpoint {
	e.EnabledEvents = nil
	for i, typ := range stripe.Types {
		if i%2 == half {
			e.EnabledEvents = append(e.EnabledEvents, typ)
		}
	}
	return e
}

func TestAudit(t *testing.T) {
	at := func(url string) stripe.Endpoint {
		return endpoint(func(e *stripe.Endpoint) { e.ID, e.URL = "we_2", url })
	}
	for _, c := range []struct {
		name     string
		all      []stripe.Endpoint
		code     health.Code
		severity health.Severity
		says     string
	}{
		{"nothing", nil, health.Endpoint, health.Fail, "Stripe has no test mode endpoint for " + ours + " (it has 0 endpoints with other URLs)"},
		{"another one", []stripe.Endpoint{at("https://stats.haderer.example/hook")}, health.Endpoint, health.Fail, "it has 1 endpoint with other URLs"},
		{"all is well", []stripe.Endpoint{endpoint(nil)}, "", health.OK, ""},
		{"all events", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.EnabledEvents = []string{"*"} })}, "", health.OK, ""},
		{"disabled", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.Status = "disabled" })}, health.EndpointEnabled, health.Fail, "is disabled at Stripe: it will never receive what happens now"},
		{"the other mode", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.Livemode = true })}, health.EndpointMode, health.Fail, "is of live mode, this receiver of test mode"},
		{"types missing", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.EnabledEvents = stripe.Types[2:] })}, health.EndpointTypes, health.Fail, "does not receive 2 event types about payments: payment_intent.created,payment_intent.requires_action"},
		{"no version", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.APIVersion = "" })}, health.EndpointVersion, health.Warn, "has no API version of its own"},
		{"an unknown version", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.APIVersion = "2031-01-01.ginger" })}, health.EndpointVersion, health.Warn, "2031-01-01.ginger"},
		{"another version of a known train", []stripe.Endpoint{endpoint(func(e *stripe.Endpoint) { e.APIVersion = "2026-09-30.endive" })}, "", health.OK, ""},
		{"a query", []stripe.Endpoint{at(ours + "?version=2026-08-26&key=secret-key")}, "", health.OK, ""},
		{"two queries", []stripe.Endpoint{at(ours + "?version=2026-08-26"), endpoint(nil)}, "", health.OK, ""},
		{"two queries, each with a half of the types", []stripe.Endpoint{halved(at(ours+"?version=2"), 0), halved(endpoint(nil), 1)}, "", health.OK, ""},
		{"a half of the types is disabled", []stripe.Endpoint{halved(at(ours+"?version=2"), 0), halved(endpoint(func(e *stripe.Endpoint) { e.Status = "disabled" }), 1)},
			health.EndpointTypes, health.Fail, "does not receive 14 event types"},
		{"a half of the types is of connected accounts", []stripe.Endpoint{halved(endpoint(nil), 0), halved(connect(endpoint(nil)), 1)}, health.EndpointTypes, health.Fail, "does not receive 28 event types"},
		{"the account's and the connected accounts'", []stripe.Endpoint{endpoint(nil), connect(endpoint(nil))}, "", health.OK, ""},
		{"the old version beside the new", []stripe.Endpoint{at(ours + "?version=2"), endpoint(func(e *stripe.Endpoint) { e.APIVersion = "" })}, health.EndpointVersion, health.Warn, "no API version of its own"},
		{"two of them", []stripe.Endpoint{endpoint(nil), endpoint(func(e *stripe.Endpoint) { e.ID = "we_3" })}, health.EndpointDuplicates, health.Warn, "2 endpoints have this URL (we_1, we_3)"},
		{"a slash", []stripe.Endpoint{at(ours + "/")}, "", health.OK, ""},
		{"a slash and a query", []stripe.Endpoint{at(ours + "/?version=2")}, "", health.OK, ""},
		{"www", []stripe.Endpoint{at("https://www.pay.haderer.example/webhooks/stripe")}, health.EndpointSimilar, health.Fail, "differs only in www"},
		{"the case", []stripe.Endpoint{at("https://Pay.Haderer.example/webhooks/stripe")}, "", health.OK, ""},
		{"a slash too many", []stripe.Endpoint{at("https://pay.haderer.example//webhooks//stripe")}, "", health.OK, ""},
		{"an escape", []stripe.Endpoint{at("https://pay.haderer.example/webhooks/%73tripe")}, "", health.OK, ""},
		{"a dot behind the host", []stripe.Endpoint{at("https://pay.haderer.example./webhooks/stripe")}, "", health.OK, ""},
		{"another path", []stripe.Endpoint{at("https://pay.haderer.example/webhooks/Stripe")}, health.Endpoint, health.Fail, "it sends nothing here"},
		{"http", []stripe.Endpoint{at("http://pay.haderer.example/webhooks/stripe")}, health.EndpointSimilar, health.Fail, "differs only in http instead of https"},
		{"http is reported", []stripe.Endpoint{at("http://pay.haderer.example/webhooks/stripe")}, health.EndpointScheme, health.Fail, "payments are sent unencrypted"},
		{"a default port", []stripe.Endpoint{at("https://pay.haderer.example:443/webhooks/stripe")}, "", health.OK, ""},
		{"a port", []stripe.Endpoint{at("https://pay.haderer.example:8443/webhooks/stripe")}, health.Endpoint, health.Fail, "it sends nothing here"},
		{"ours and a similar one", []stripe.Endpoint{at("https://www.pay.haderer.example/webhooks/stripe"), endpoint(nil)}, health.EndpointSimilar, health.Warn,
			"differs from this receiver's only in www"},
		{"with and without a slash", []stripe.Endpoint{at(ours + "/"), endpoint(nil)}, health.EndpointDuplicates, health.Warn, "2 endpoints have this URL"},
		{"the connected accounts' is disabled", []stripe.Endpoint{endpoint(nil), disabled(connect(endpoint(nil)))}, health.EndpointEnabled, health.Fail,
			"(the events of connected accounts)"},
		{"the account's own is disabled", []stripe.Endpoint{disabled(endpoint(nil)), connect(endpoint(nil))}, health.EndpointEnabled, health.Fail,
			"(the account's own events)"},
		{"a disabled one is no duplicate", []stripe.Endpoint{endpoint(nil), disabled(at(ours))}, "", health.OK, ""},
		{"too many", slices.Repeat([]stripe.Endpoint{at("https://x.example/")}, 16), health.EndpointCount, health.Warn, "The account has 16 endpoints"},
	} {
		a := reconcile.Examine(c.all, ours, false)
		if c.code == "" {
			for _, f := range a.Findings {
				if f.Severity != health.OK {
					t.Errorf("%s: %+v", c.name, f)
				}
			}
			continue
		}
		at := slices.IndexFunc(a.Findings, func(f health.Finding) bool { return f.Code == c.code && f.Severity == c.severity })
		if at < 0 || !strings.Contains(a.Findings[at].Message, c.says) || a.Findings[at].Next == "" {
			t.Errorf("%s: no %s of %s that says %q in %+v", c.name, c.severity, c.code, c.says, a.Findings)
		}
	}
	if a := reconcile.Examine([]stripe.Endpoint{endpoint(nil)}, "", false); a.Endpoint != nil || a.Findings[0].Severity != health.Unknown || !strings.Contains(a.Findings[0].Next, "TILLHOOK_PUBLIC_URL") {
		t.Errorf("without an address: %+v", a)
	}
	two := reconcile.Examine([]stripe.Endpoint{connect(at(ours + "?key=secret-key")), endpoint(nil)}, ours, false)
	for name, want := range map[health.Code]string{
		health.Endpoint:           "Stripe has the endpoint we_1 for " + ours + ", with another query: we_connect with key.",
		health.EndpointScope:      "The endpoint we_1 receives the account's own events. The endpoint we_connect receives the events of connected accounts.",
		health.EndpointDuplicates: "The endpoints we_1, we_connect have this URL, with different queries or for different accounts. Each has its own secret.",
	} {
		if !slices.ContainsFunc(two.Findings, func(f health.Finding) bool { return f.Code == name && f.Message == want }) {
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
		all      []stripe.Destination
		severity health.Severity
	}{
		{[]stripe.Destination{to("snapshot")}, health.OK},
		{[]stripe.Destination{to("thin")}, health.Fail},
		{[]stripe.Destination{to("thin"), to("snapshot")}, health.Warn},
		{[]stripe.Destination{{ID: "ed_2", Payload: "thin"}}, health.Unknown},
		{[]stripe.Destination{disabled(to("thin")), to("snapshot")}, health.OK},
		{[]stripe.Destination{to("thin"), disabled(to("snapshot"))}, health.Fail},
		{[]stripe.Destination{of(to("snapshot"), "@self", "@accounts")}, health.OK},
		{[]stripe.Destination{of(withQuery(to("snapshot")), "@self", "@accounts")}, health.OK},
	} {
		if len(c.all[0].EventsFrom) > 0 {
			if f := reconcile.Payload(c.all, ours); !strings.Contains(f.Message, "The destination ed_1 receives events from @self, @accounts.") {
				t.Errorf("%+v: %+v", c.all, f)
			}
		}
		if f := reconcile.Payload(c.all, ours); f.Severity != c.severity || f.Message == "" || (f.Next == "") != (c.severity == health.OK) {
			t.Errorf("%+v: %+v", c.all, f)
		}
	}
}

// Each round checks the endpoint, sets the metrics, and logs a fault once.
func TestARoundAudits(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.round(reconcile.Request{})
	if f := s.Findings()[1]; f.Code != health.Endpoint || f.Severity != health.Fail {
		t.Errorf("without an endpoint: %+v", f)
	}
	types := make([]any, 0, len(stripe.Types))
	for _, typ := range stripe.Types {
		types = append(types, typ)
	}
	s.account.AddEndpoint(map[string]any{"id": "we_1", "url": ours, "api_version": stripe.PinnedVersion, "enabled_events": types})
	s.round(reconcile.Request{})
	if f := s.Findings()[1]; f.Code != health.Endpoint || f.Severity != health.OK {
		t.Errorf("with one: %+v", f)
	}
	s.account.Endpoint("we_1")["status"] = "disabled"
	s.round(reconcile.Request{})
	if f := s.Findings()[1]; f.Code != health.EndpointEnabled || f.Severity != health.Fail {
		t.Errorf("of a disabled one: %+v", f)
	}
	s.account.Deny("/v1/webhook_endpoints", "rak_webhook_read")
	s.round(reconcile.Request{})
	if f := s.Findings()[1]; f.Severity != health.Unknown || !strings.Contains(f.Next, "Webhook Endpoints: Read") {
		t.Errorf("without the right: %+v", f)
	}
}
