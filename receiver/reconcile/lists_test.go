package reconcile_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/health"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe/stripetest"
)

// endless is a Stripe with one list that never ends: each page leads to another of n.
type endless struct {
	base   http.RoundTripper
	path   string
	circle int // pages after which it begins again; 0 for never
	bytes  int // of each event
	calls  int
}

func (e *endless) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != e.path {
		return e.base.RoundTrip(r)
	}
	e.calls++
	n, _ := strconv.Atoi(strings.TrimLeft(r.FormValue("starting_after"), "evt_"))
	if n++; e.circle > 0 && n > e.circle {
		n = 1
	}
	created := time.Now().Unix() - 5
	if from, err := strconv.ParseInt(r.FormValue("created[gte]"), 10, 64); err == nil && e.path == "/v1/events" {
		created = from
	}
	w := httptest.NewRecorder()
	fmt.Fprintf(w, `{"object":"list","has_more":true,"data":[{"id":"evt_%d","object":"event","type":"payment_intent.succeeded","created":%d,"livemode":false,
		"data":{"object":{"id":"pi_%[1]d","object":"payment_intent","status":"succeeded","amount":1,"amount_received":1,"currency":"eur","description":%[3]q}}}]}`,
		n, created, strings.Repeat("x", e.bytes))
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// A list without an end costs a small part of the day's calls and is reported.
func TestEndlessListsAndTheBudget(t *testing.T) {
	for _, path := range []string{"/v1/events", "/v1/charges", "/v1/webhook_endpoints"} {
		for _, circle := range []int{2, 50, 0} {
			t.Run(fmt.Sprintf("%s/%d", path, circle), func(t *testing.T) {
				inDays(t, func(t *testing.T, s *shop) {
					e := &endless{base: s.account, path: path, circle: circle}
					s.options.API.Transport = e
					s.run(12*time.Hour, nil)
					reported := s.finding(health.Reconcile).Message
					if path == "/v1/charges" {
						reported = fmt.Sprint(s.round(reconcile.Request{}).Problems, e.calls > 0)
					}
					if !strings.Contains(reported, "does not end") && path != "/v1/charges" {
						t.Errorf("it is reported as %s", reported)
					}
					if calls := s.checkpoint("reconcile-calls"); calls > 6000 || calls < int64(e.calls)/2 {
						t.Errorf("%d of its pages were read, %d calls are counted", e.calls, calls)
					}
				})
			})
		}
	}
}

// An endless list of endpoints costs a few calls. Events are compared as usual.
func TestEndlessEndpoints(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.options.API.Transport = &endless{base: s.account, path: "/v1/webhook_endpoints", circle: 2}
		compared := 0
		s.account.Before(func(_ int, r *http.Request) {
			if r.URL.Path == "/v1/events" {
				compared++
			}
		})
		s.run(3*time.Hour, nil)
		if compared < 12 {
			t.Errorf("in 3 hours events were listed %d times", compared)
		}
	})
}

// The pages of a list are bounded in memory, also within one second: a part is stored before the
// next is read.
func TestLargeEvents(t *testing.T) {
	for _, apart := range []int64{0, 5} {
		t.Run(fmt.Sprint(apart), func(t *testing.T) { inDays(t, func(t *testing.T, s *shop) { s.readLargeEvents(apart) }) })
	}
}

// readLargeEvents fetches large events that are apart seconds from each other.
func (s *shop) readLargeEvents(apart int64) {
	const n, size = 250, 100 << 10
	created := time.Now().Unix() - 3600
	for i := range n {
		body := strings.Replace(string(payment(i, "payment_intent.succeeded", created+int64(i)*apart)), `"status"`,
			fmt.Sprintf(`"description":%q,"status"`, strings.Repeat(fmt.Sprintf("%03d ", i), size/4)), 1)
		s.account.AddEvent([]byte(body), "")
	}
	booked := uint64(0)
	s.account.Before(func(_ int, r *http.Request) {
		if r.URL.Path == "/v1/events" {
			booked = s.events()
		}
	})
	report := s.round(reconcile.Request{})
	if report.Recovered != n || s.events() != n {
		s.t.Errorf("it said %+v", report)
	}
	if booked < 50 {
		s.t.Errorf("%d were booked when the last page was read", booked)
	}
}

// An invalid event in a list is reported and moves nothing; the events around it are stored.
func TestAnEventThatIsNone(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		now := time.Now().Unix()
		s.options.API.Transport = spoiled{s.account}
		s.account.AddEvent(payment(1, "payment_intent.succeeded", now-30), "")
		report := s.round(reconcile.Request{})
		if report.Recovered != 1 || !strings.Contains(fmt.Sprint(report.Problems), "cannot be read and was skipped") {
			t.Errorf("it said %+v", report)
		}
		if at := s.checkpoint("reconciled-newest/"); at != now-30 {
			t.Errorf("the newest event is of %s", time.Unix(at, 0).UTC())
		}
	})
}

// spoiled is a Stripe with invalid entries in its list of events.
type spoiled struct{ http.RoundTripper }

func (s spoiled) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(r)
	if err != nil || r.URL.Path != "/v1/events" {
		return resp, err
	}
	var list map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, err
	}
	list["data"] = append([]any{7, map[string]any{"id": "evt_odd", "object": "event", "created": 99999999999}}, list["data"].([]any)...)
	w := httptest.NewRecorder()
	if err := json.NewEncoder(w).Encode(list); err != nil {
		return nil, err
	}
	w.Header().Set("Date", resp.Header.Get("Date"))
	resp = w.Result()
	resp.Request = r
	return resp, nil
}

// An unreadable endpoint is reported, and this receiver's endpoint is still checked.
func TestAnUnreadableEndpoint(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.account.AddEndpoint(map[string]any{"id": "we_odd", "url": 7})
		s.account.AddEndpoint(map[string]any{"id": "we_1", "url": "https://pay.haderer.example/webhooks/stripe"})
		report := s.round(reconcile.Request{})
		if !strings.Contains(fmt.Sprint(report.Problems), "we_odd") {
			t.Errorf("it said %+v", report)
		}
		for _, f := range s.Findings() {
			if f.Severity == health.Fail {
				t.Errorf("ours is reported as %+v", f)
			}
		}
	})
}

// Retries count as calls.
func TestRetriesAreCounted(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		busy := stripetest.Fault{Status: 429, RetryAfter: "0"}
		s.account.Fail(busy, busy, busy)
		report := s.round(reconcile.Request{})
		if n := len(s.account.Calls()); report.Calls != n || s.checkpoint("reconcile-calls") != int64(n) {
			t.Errorf("%d calls were made; it said %+v", n, report)
		}
	})
}
