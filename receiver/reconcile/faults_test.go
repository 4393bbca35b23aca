package reconcile_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe/stripetest"
)

// The calls of a failed or stopped round count, and those of a killed process.
func TestCallsAreCountedWhateverHappens(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.account.Fail(stripetest.Fault{Path: "/v1/events", Status: 402})
	if _, err := s.Round(t.Context(), reconcile.Request{}); err == nil {
		t.Fatal("the round did not fail")
	}
	if n := s.checkpoint("reconcile-calls"); n != 2 {
		t.Errorf("after a round that failed %d calls are counted, want 2", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	during := int64(0)
	s.account.Before(func(n int, r *http.Request) {
		if r.URL.Path == "/v1/events" {
			during = s.checkpoint("reconcile-calls")
			cancel()
		}
	})
	if _, err := s.Round(ctx, reconcile.Request{}); err == nil {
		t.Fatal("the round was not stopped")
	}
	if n := s.checkpoint("reconcile-calls"); n != 4 || during < 4 {
		t.Errorf("after a round that was stopped %d calls are counted, want 4; during it %d", n, during)
	}
}

// A Date in the future moves no checkpoint past this machine's clock, and a checkpoint there is
// ignored.
func TestAClockFromTheFuture(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now()
	s.account.SetNow(func() time.Time { return time.Now().Add(10 * 365 * 24 * time.Hour) })
	s.round(reconcile.Request{})
	if at := s.checkpoint("reconciled/"); at > time.Now().Unix()-600 || s.checkpoint("reconciled-daily/") > time.Now().Unix() {
		t.Errorf("the checkpoint is %d s ahead", at-now.Unix())
	}
	s.account.SetNow(time.Now)
	s.account.AddEvent(payment(1, "payment_intent.succeeded", now.Unix()-30), "")
	if report := s.round(reconcile.Request{}); report.Recovered != 1 {
		t.Errorf("with the right clock it said %+v", report)
	}
	if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"reconciled/": now.Unix() + 86400}); err != nil {
		t.Fatal(err)
	}
	s.account.AddEvent(payment(2, "payment_intent.succeeded", now.Unix()-3*86400), "")
	if report := s.round(reconcile.Request{}); report.Recovered != 1 || s.checkpoint("reconciled/") > time.Now().Unix() {
		t.Errorf("with a checkpoint from the future it said %+v", report)
	}
}

// circle is a Stripe whose lists return to their beginning.
type circle struct {
	base  http.RoundTripper
	path  string
	calls int
}

func (c *circle) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != c.path || c.calls > 1000 {
		return c.base.RoundTrip(r)
	}
	c.calls++
	next := map[string]string{"": "a", "a": "b", "b": "a"}[r.FormValue("starting_after")]
	w := httptest.NewRecorder()
	fmt.Fprintf(w, `{"object":"list","has_more":true,"data":[{"id":%q,"object":"event","type":"payment_intent.succeeded","created":%d,"livemode":false,"data":{"object":{}}}]}`,
		next, time.Now().Unix()-5)
	return w.Result(), nil
}

func TestListsThatDoNotEnd(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, path := range []string{"/v1/events", "/v1/charges"} {
		c := &circle{base: s.account, path: path}
		s.options.API.Transport = c
		report, err := s.Round(t.Context(), reconcile.Request{})
		if reported := fmt.Sprint(err, report.Problems); !strings.Contains(reported, "does not end") || c.calls > 10 {
			t.Errorf("%s was asked for %d times: %s", path, c.calls, reported)
		}
	}
}

// An unreadable object, or an unreadable list, hides nothing else.
func TestAnObjectThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now().Unix()
	s.account.Put(fmt.Appendf(nil, `{"id":"ch_odd","object":"charge","amount":{},"created":%d}`, now-50), "")
	s.account.Put(fmt.Appendf(nil, `{"id":"ch_good","object":"charge","status":"succeeded","captured":true,"amount":1500,"amount_captured":1500,"amount_refunded":0,"currency":"eur","payment_intent":"pi_good","created":%d}`, now-100), "")
	s.account.Put(fmt.Appendf(nil, `{"id":"dp_good","object":"dispute","status":"needs_response","amount":1000,"currency":"eur","charge":"ch_good","payment_intent":"pi_good","created":%d}`, now-90), "")
	s.options.API.Transport = &circle{base: s.account, path: "/v1/refunds"}
	report := s.round(reconcile.Request{})
	if p := s.payment("pi_good"); *p.AmountReceived != 1500 || len(p.Disputes) != 1 || report.Fetched != 2 {
		t.Errorf("booked as %+v; it said %+v", p, report)
	}
	if reported := fmt.Sprint(report.Problems); !strings.Contains(reported, "ch_odd") || !strings.Contains(reported, "refunds of the account are not listed") {
		t.Errorf("the problems are %s", reported)
	}
}

// If Stripe's clock is behind, events are listed up to its present, and a later checkpoint is
// ignored.
func TestAStripeBehindUs(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.round(reconcile.Request{})
	then := time.Now().Add(-time.Hour)
	s.account.SetNow(func() time.Time { return then })
	s.account.AddEvent(payment(1, "payment_intent.succeeded", then.Unix()-5*86400), "")
	if report := s.round(reconcile.Request{}); report.Recovered != 1 || s.checkpoint("reconciled/") > then.Unix()-590 {
		t.Errorf("it said %+v, the checkpoint is %d s before Stripe's present", report, then.Unix()-s.checkpoint("reconciled/"))
	}
}
