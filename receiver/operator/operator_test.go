package operator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/operator"
)

// filled returns the API of a ledger of twelve payments, each of one event, and one event in
// quarantine.
func filled(t testing.TB) *operator.Operator {
	t.Helper()
	l := ledgertest.Open(t, false)
	for i := range 12 {
		status := "succeeded"
		if i%3 == 0 {
			status = "processing"
		}
		appendEvent(t, l, &ledger.Event{
			ID: fmt.Sprintf("evt_%02d", i), Type: "payment_intent." + status, Created: int64(1000 + i), Source: ledger.Webhook,
			Received: time.Unix(5000, 0), Raw: fmt.Appendf(nil, `{"n":%d}`, i),
			Facts: ledger.Facts{PaymentIntent: fmt.Sprintf("pi_%02d", i), Intents: []ledger.Intent{{ID: fmt.Sprintf("pi_%02d", i), Status: status, Currency: "eur", Amount: 500, HasAmount: true, HasReceived: true,
				Customer: fmt.Sprintf("cus_%d", i%2), Created: int64(1000 + i), Metadata: map[string]string{"order[1]": fmt.Sprint(i % 4), "html": "</script>&"}}}},
		})
	}
	appendEvent(t, l, &ledger.Event{ID: "evt_held", Type: "x", Source: ledger.Webhook, Received: time.Unix(5000, 0), Quarantine: ledger.Undecodable, Raw: []byte("}[")})
	return operator.New(operator.Options{
		Ledger: l, Listen: "till.haderer.example:9464", Log: slog.New(slog.DiscardHandler),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "figures") }),
	})
}

func appendEvent(t testing.TB, l *ledger.Ledger, e *ledger.Event) {
	t.Helper()
	if _, err := l.Append(context.Background(), e); err != nil {
		t.Fatal(err)
	}
}

func get(h http.Handler, target string, change func(r *http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://localhost"+target, nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestQueries(t *testing.T) {
	handler := filled(t).Socket()
	for _, c := range []struct {
		path   string
		status int
		want   string // ids in order, or the error's code
	}{
		{"/api/payments?limit=3", 200, "pi_11 pi_10 pi_09 more"},
		{"/api/payments?limit=3&starting_after=pi_09", 200, "pi_08 pi_07 pi_06 more"},
		{"/api/payments?limit=100", 200, "pi_11 pi_10 pi_09 pi_08 pi_07 pi_06 pi_05 pi_04 pi_03 pi_02 pi_01 pi_00"},
		{"/api/payments", 200, "pi_11 pi_10 pi_09 pi_08 pi_07 pi_06 pi_05 pi_04 pi_03 pi_02 more"},
		{"/api/payments?limit=4&status=processing", 200, "pi_09 pi_06 pi_03 pi_00"},
		{"/api/payments?customer=cus_1&limit=2", 200, "pi_11 pi_09 more"},
		{"/api/payments?created_gte=1002&created_lt=1004", 200, "pi_03 pi_02"},
		{"/api/payments?created_lt=1002&starting_after=pi_05", 200, "pi_01 pi_00"},
		{"/api/payments?currency=EUR&limit=1", 200, "pi_11 more"},
		{"/api/payments?currency=usd", 200, ""},
		{"/api/payments?account=acct_1", 200, ""},
		{"/api/payments?flag=conflict", 200, ""},
		{"/api/payments?metadata%5Border%5B1%5D%5D=3", 200, "pi_11 pi_07 pi_03"},
		{"/api/payments?metadata[order[1]]=3&metadata[html]=%3C/script%3E%26", 200, "pi_11 pi_07 pi_03"},
		{"/api/payments?metadata[nothing]=3", 200, ""},
		{"/api/events?limit=2", 200, "evt_held evt_11 more"},
		{"/api/events?limit=2&starting_after=evt_11", 200, "evt_10 evt_09 more"},
		{"/api/events?type=payment_intent.processing", 200, "evt_09 evt_06 evt_03 evt_00"},
		{"/api/events?outcome=quarantined", 200, "evt_held"},
		{"/api/events?outcome=recorded", 200, ""},
		{"/api/payments/pi_03/events", 200, "evt_03"},
		{"/api/payments/pi_03/events?outcome=unchanged", 200, ""},

		{"/api/payments?limit=0", 400, "invalid_request"},
		{"/api/payments?limit=101", 400, "invalid_request"},
		{"/api/payments?limit=ten", 400, "invalid_request"},
		{"/api/payments?limit=1&limit=2", 400, "invalid_request"},
		{"/api/payments?stauts=succeeded", 400, "invalid_request"},
		{"/api/payments?metadata=1", 400, "invalid_request"},
		{"/api/payments?metadata[]=1", 400, "invalid_request"},
		{"/api/payments?starting_after=pi_99", 400, "invalid_request"},
		{"/api/payments?page=pi_09", 400, "invalid_request"},
		{"/api/payments?flag=none", 400, "invalid_request"},
		{"/api/payments?created_gte=3&created_lt=2", 400, "invalid_request"},
		{"/api/payments?created_gte=1775001600000", 400, "invalid_request"},
		{"/api/events?page=2", 400, "invalid_request"},
		{"/api/payments?created_gte=today", 400, "invalid_request"},
		{"/api/payments?%zz", 400, "invalid_request"},
		{"/api/events?outcome=lost", 400, "invalid_request"},
		{"/api/events?starting_after=evt_99", 400, "invalid_request"},
		{"/api/events/evt_00?x=1", 400, "invalid_request"},
		{"/api/payments/pi_99", 404, "not_found"},
		{"/api/payments/pi_99/events", 404, "not_found"},
		{"/api/events/evt_99", 404, "not_found"},
		{"/api/events/evt_99/body", 404, "not_found"},
		{"/api/nothing", 404, "not_found"},
		{"/", 404, "not_found"},
		{"/api//payments", 404, "not_found"},
		{"/api/events/../payments", 404, "not_found"},
		{"/api/payments/", 404, "not_found"},
		{"/api/events/%2e%2e", 404, "not_found"},
	} {
		w := get(handler, c.path, nil)
		var answer struct {
			Object  string
			Data    []struct{ ID string }
			HasMore bool `json:"has_more"`
			Error   *operator.Error
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Errorf("%s: %v in %s", c.path, err, w.Body)
			continue
		}
		var got []string
		for _, d := range answer.Data {
			got = append(got, d.ID)
		}
		if answer.HasMore {
			got = append(got, "more")
		}
		if answer.Error != nil {
			got = append(got, answer.Error.Code)
		}
		if w.Code != c.status || strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %d %v, want %d %s", c.path, w.Code, got, c.status, c.want)
		}
		if h := w.Header(); h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: the headers are %v", c.path, h)
		}
		if c.status == 200 && (answer.Object != "list" || answer.Data == nil) {
			t.Errorf("%s: no list in %s", c.path, w.Body)
		}
	}
}

func TestOneOfEach(t *testing.T) {
	handler := filled(t).Socket()
	for path, want := range map[string]string{
		"/api/payments/pi_03":       `"object":"payment","id":"pi_03"`,
		"/api/events/evt_03":        `"object":"event_record","id":"evt_03"`,
		"/api/events/evt_03/body":   `{"n":3}`,
		"/api/events/evt_held/body": `}[`,
		"/metrics":                  "figures",
		"/healthz":                  "ok",
		"/readyz":                   `{"object":"readiness","status":"ready","last_commit":`,
	} {
		if w := get(handler, path, nil); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: got %d %s, want %s", path, w.Code, w.Body, want)
		}
	}
	if w := get(handler, "/api/payments/pi_03", nil); !strings.Contains(w.Body.String(), `"html":"</script>&"`) {
		t.Errorf("metadata is not shown as it is: %s", w.Body)
	}
	w := get(handler, "/api/events", func(r *http.Request) { r.Method = "DELETE" })
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("DELETE gave %d %v", w.Code, w.Header())
	}
}

func TestOnTCPOnlyMetricsAndHealthAnswer(t *testing.T) {
	handler := filled(t).TCP()
	for path, want := range map[string]int{"/metrics": 200, "/healthz": 200, "/readyz": 200,
		"/": 401, "/api/payments": 401, "/api/payments/pi_03": 401, "/api/events/evt_03/body": 401, "/nowhere": 401, "/metrics/": 401, "//metrics": 401} {
		w := get(handler, path, nil)
		if w.Code != want || want == 401 && !strings.Contains(w.Body.String(), `"code":"unauthorized"`) {
			t.Errorf("%s: got %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
}

func TestAnotherSitesPageIsRefused(t *testing.T) {
	op := filled(t)
	for _, c := range []struct {
		what   string
		change func(r *http.Request)
		want   int
	}{
		{"localhost", func(r *http.Request) { r.Host = "localhost:9464" }, 200},
		{"a forwarded port", func(r *http.Request) { r.Host = "127.0.0.1:19464" }, 200},
		{"IPv6", func(r *http.Request) { r.Host = "[::1]:9464" }, 200},
		{"a name it was given", func(r *http.Request) { r.Host = "Till.Haderer.example:9464" }, 200},
		{"no host, as HTTP/1.0 has it", func(r *http.Request) { r.Host = "" }, 200},
		{"its own page", func(r *http.Request) { r.Host = "localhost:9464"; r.Header.Set("Origin", "http://localhost:9464") }, 200},
		{"typed into the address bar", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") }, 200},
		{"its own script", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, 200},
		{"a name that points here", func(r *http.Request) { r.Host = "rebound.example:9464" }, 403},
		{"a name that looks like it", func(r *http.Request) { r.Host = "localhost.evil.example" }, 403},
		{"an address that is not ours", func(r *http.Request) { r.Host = "192.0.2.7" }, 403},
		{"another site", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		{"another port of this machine", func(r *http.Request) { r.Host = "localhost:9464"; r.Header.Set("Origin", "http://localhost:3000") }, 403},
		{"a page without an origin", func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		{"a link on another site", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"a sister site", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
	} {
		for name, handler := range map[string]http.Handler{"socket": op.Socket(), "tcp": op.TCP()} {
			w := get(handler, "/metrics", c.change)
			if w.Code != c.want || c.want == 403 && !strings.Contains(w.Body.String(), `"code":"forbidden_origin"`) {
				t.Errorf("%s at the %s: got %d %s, want %d", c.what, name, w.Code, w.Body, c.want)
			}
		}
	}
}

func TestLocalClient(t *testing.T) {
	l := ledgertest.Open(t, false)
	appendEvent(t, l, &ledger.Event{ID: "evt_1", Type: "x", Source: ledger.Webhook, Received: time.Unix(1, 0), Raw: []byte("raw")})
	c := operator.Local(l)
	if body, err := c.Get(t.Context(), operator.EventPath("evt_1")+"/body", nil); err != nil || string(body) != "raw" {
		t.Errorf("got %q, %v", body, err)
	}
	for _, id := range []string{"evt_2", "../payments", "a/b?c#d%", ".."} {
		_, err := c.Get(t.Context(), operator.EventPath(id), nil)
		if e, ok := err.(*operator.Error); !ok || e.Status != 404 {
			t.Errorf("%q: got %v", id, err)
		}
	}
	if _, err := c.Get(t.Context(), "/metrics", nil); err == nil {
		t.Error("a ledger without a receiver has metrics")
	}
}

func TestReadyzSaysWhyNoEventsAreTaken(t *testing.T) {
	why := "the receiver is stopping"
	handler := operator.New(operator.Options{Ledger: filled(t).Ledger, Log: slog.New(slog.DiscardHandler), NotServing: func() string { return why }}).TCP()
	if w := get(handler, "/readyz", nil); w.Code != 503 || !strings.Contains(w.Body.String(), `"status":"unavailable"`) || !strings.Contains(w.Body.String(), why) {
		t.Errorf("while it stops: %d %s", w.Code, w.Body)
	}
	why = ""
	if w := get(handler, "/readyz", nil); w.Code != 200 {
		t.Errorf("while it serves: %d %s", w.Code, w.Body)
	}
}
