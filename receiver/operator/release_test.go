package operator_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/operator"
)

// Requests change something or copy the ledger only with the right method and from this host.
func TestMethodsOfWritingPaths(t *testing.T) {
	var done atomic.Int64
	l := ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), Decode: func([]byte) *ledger.Event { done.Add(1); return paid("held", "2026-11-23T10:00:00Z", 500) }})
	appendEvent(t, l, &ledger.Event{ID: "evt_held", Type: "x", Source: ledger.Webhook, Received: time.Unix(1, 0), Quarantine: ledger.Undecodable, Raw: []byte("}")})
	op := operator.New(operator.Options{Ledger: l, Log: slog.New(slog.DiscardHandler), Verify: func(context.Context, string) (*check.Report, error) {
		done.Add(1)
		return nil, errors.New("looked through")
	}})
	paths := map[string]string{"/api/summary": "GET, HEAD", "/api/export": "GET", "/api/backup": "GET", "/api/verify": "POST", "/api/events/evt_held/release": "POST", "/api/events/evt_held/dismiss": "POST"}
	for path, allow := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"} {
			if !slices.Contains(strings.Split(allow, ", "), method) {
				w := ask(op.Socket(), method, path, nil)
				if w.Code != 405 || w.Header().Get("Allow") != allow || !strings.Contains(w.Body.String(), `"code":"invalid_request"`) {
					t.Errorf("%s %s: got %d, Allow %q, %s", method, path, w.Code, w.Header().Get("Allow"), w.Body)
				}
			}
			if w := ask(op.TCP(), method, path, nil); w.Code != 401 || !strings.Contains(w.Body.String(), `"code":"unauthorized"`) {
				t.Errorf("%s %s by TCP: got %d %s", method, path, w.Code, w.Body)
			}
		}
		method, _, _ := strings.Cut(allow, ",")
		for what, foreign := range map[string]func(r *http.Request){
			"a foreign host":           func(r *http.Request) { r.Host = "rebound.example" },
			"a foreign origin":         func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
			"a page without one":       func(r *http.Request) { r.Header.Set("Origin", "null") },
			"another port's page":      func(r *http.Request) { r.Header.Set("Origin", "http://localhost:3000") },
			"a fetch across sites":     func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
			"a fetch of the same site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		} {
			if w := ask(op.Socket(), method, path, foreign); w.Code != 403 || !strings.Contains(w.Body.String(), `"code":"forbidden_origin"`) {
				t.Errorf("%s %s by %s: got %d %s", method, path, what, w.Code, w.Body)
			}
		}
	}
	if e, err := l.Event("evt_held"); err != nil || e.Outcome != ledger.Quarantined || e.Quarantine.State != ledger.Attention || done.Load() != 0 {
		t.Errorf("what was refused was done all the same: %+v, %v, %d", e, err, done.Load())
	}
}

// repairable is a ledger whose decoder cannot use the quarantined events until it is repaired.
func repairable(t *testing.T) (l *ledger.Ledger, repair func()) {
	t.Helper()
	var repaired atomic.Bool
	l = ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), Decode: func(raw []byte) *ledger.Event {
		e := paid("held", "2026-11-23T10:00:00Z", 500)
		e.Raw = raw
		if !repaired.Load() {
			e.Quarantine = ledger.Undecodable
		}
		return e
	}})
	appendEvent(t, l, &ledger.Event{ID: "evt_held", Type: "x", Source: ledger.Webhook, Received: time.Unix(1, 0), Quarantine: ledger.Undecodable, Raw: []byte("}")})
	appendEvent(t, l, paid("1", "2026-11-23T10:00:00Z", 7))
	return l, func() { repaired.Store(true) }
}

func TestRelease(t *testing.T) {
	l, repair := repairable(t)
	h := handlerOf(l)
	for _, c := range []struct {
		what, path string
		before     func()
		status     int
		want       []string
	}{
		{"one that is still of no use stays", "/api/events/evt_held/release", nil, 200, []string{`{"object":"event_record","id":"evt_held"`, `"outcome":"quarantined","reason":"undecodable","payment_id":null`}},
		{"it is dismissed", "/api/events/evt_held/dismiss", nil, 200, []string{`"id":"evt_held"`, `"quarantine":{"reason":"undecodable","state":"dismissed"}`}},
		{"and once more", "/api/events/evt_held/dismiss", nil, 200, []string{`"quarantine":{"reason":"undecodable","state":"dismissed"}`}},
		{"what is not there cannot be dismissed", "/api/events/evt_1/dismiss", nil, 409, []string{`"code":"invalid_request"`, `the event is not in quarantine: evt_1 is applied`}},
		{"nor an unknown one", "/api/events/evt_99/dismiss", nil, 404, []string{`"code":"not_found"`}},
		{"nor with a parameter", "/api/events/evt_held/dismiss?force=1", nil, 400, []string{`"code":"invalid_request"`}},
		{"an unknown one", "/api/events/evt_99/release", nil, 404, []string{`"code":"not_found"`, `no event has the id \"evt_99\"`}},
		{"a parameter", "/api/events/evt_held/release?force=1", nil, 400, []string{`"code":"invalid_request"`}},
		{"one that can be used now", "/api/events/evt_held/release", repair, 200, []string{`"id":"evt_held"`, `"outcome":"applied","reason":null,"payment_id":"pi_held"`, `"quarantine":null,"released_from":1,"released_as":null`}},
		{"it once more", "/api/events/evt_held/release", nil, 200, []string{`"id":"evt_held"`, `"outcome":"applied","reason":null,"payment_id":"pi_held"`}},
		{"one that never was there", "/api/events/evt_1/release", nil, 200, []string{`"id":"evt_1"`, `"outcome":"applied","reason":null,"payment_id":"pi_1"`}},
	} {
		if c.before != nil {
			c.before()
		}
		w := ask(h, "POST", c.path, func(r *http.Request) {
			r.Header.Set("Origin", "http://localhost")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		})
		for _, want := range c.want {
			if w.Code != c.status || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: got %d %s, want %d %s", c.what, w.Code, w.Body, c.status, want)
			}
		}
	}
	if p, err := l.Payment("pi_held"); err != nil || p.Events != 1 || *p.AmountReceived != 500 {
		t.Errorf("it is booked as %+v, %v", p, err)
	}
	if s := summaryOf(t, h, ""); s.Health.Status != "ok" || s.Events[ledger.Quarantined] != 0 || s.Events[ledger.Applied] != 2 {
		t.Errorf("the summary says %+v", s)
	}
}

// Without a receiver nothing is released, and the answer says why.
func TestAReadOnlyLedgerReleasesNothing(t *testing.T) {
	dir := t.TempDir()
	writing, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, writing)
	appendEvent(t, writing, &ledger.Event{ID: "evt_held", Type: "x", Source: ledger.Webhook, Received: time.Unix(1, 0), Quarantine: ledger.Undecodable, Raw: []byte("}")})
	stop()
	if err := writing.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, id := range []string{"evt_held", "evt_99"} {
		_, err = operator.Local(l).Post(t.Context(), operator.EventPath(id)+"/release", nil)
		var e *operator.Error
		if !errors.As(err, &e) || e.Status != 409 || e.Code != "invalid_request" || !strings.Contains(e.Message, "start it (tillhook serve)") {
			t.Errorf("%s: got %#v", id, err)
		}
	}
	if e, err := l.Event("evt_held"); err != nil || e.Outcome != ledger.Quarantined {
		t.Errorf("it is %+v, %v", e, err)
	}
	// A client that stops reading a download holds up nothing, either.
	local := operator.Local(l)
	for range 5 {
		var answer io.ReadCloser
		eventually(t, "there is a place", func() bool {
			answer, err = local.Open(t.Context(), "/api/backup", nil)
			return err == nil
		})
		if _, err := io.CopyN(io.Discard, answer, 100); err != nil {
			t.Error(err)
		}
		if err := answer.Close(); err != nil {
			t.Error(err)
		}
	}
}
