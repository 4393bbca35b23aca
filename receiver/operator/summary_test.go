package operator_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

// paid returns an event of a payment that was received at a time.
func paid(id, at string, amount int64) *ledger.Event {
	created, err := time.Parse(time.RFC3339, at)
	if err != nil {
		panic(err)
	}
	return &ledger.Event{ID: "evt_" + id, Type: "payment_intent.succeeded", Created: created.Unix(), Source: ledger.Webhook, Received: created, Raw: []byte("{}"),
		Facts: ledger.Facts{PaymentIntent: "pi_" + id, Intents: []ledger.Intent{{ID: "pi_" + id, Status: "succeeded", Currency: "eur", Amount: amount, HasAmount: true,
			AmountReceived: amount, HasReceived: true, Created: created.Unix()}}}}
}

// statusOf returns another event of that payment with another status.
func statusOf(e *ledger.Event, status string) *ledger.Event {
	other := *e
	other.ID, other.Type = e.ID+"_"+status, "payment_intent."+status
	other.Facts.Intents = slices.Clone(e.Facts.Intents)
	other.Facts.Intents[0].Status, other.Facts.Intents[0].AmountReceived = status, 0
	return &other
}

func handlerOf(l *ledger.Ledger) http.Handler {
	return operator.New(operator.Options{Ledger: l, Log: slog.New(slog.DiscardHandler)}).Socket()
}

// summaryOf requests a summary and fails for fields that are not in the design.
func summaryOf(t *testing.T, h http.Handler, query string) operator.Summary {
	t.Helper()
	w := get(h, "/api/summary"+query, nil)
	var s operator.Summary
	in := json.NewDecoder(w.Body)
	in.DisallowUnknownFields()
	if err := in.Decode(&s); err != nil || w.Code != 200 {
		t.Fatalf("%s: got %d, %v", query, w.Code, err)
	}
	return s
}

func TestTheFormOfASummary(t *testing.T) {
	l := ledgertest.Open(t, false)
	appendEvent(t, l, paid("1", "2026-11-23T10:00:00Z", 2099))
	before := time.Now().Unix()
	w := get(handlerOf(l), "/api/summary", nil)
	var s map[string]json.RawMessage
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != 200 {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	var generated int64
	if err := json.Unmarshal(s["generated"], &generated); err != nil || generated < before || generated > time.Now().Unix() {
		t.Errorf("it was generated at %s, %v", s["generated"], err)
	}
	for name, want := range map[string]string{
		"object":    `"summary"`,
		"mode":      `"test"`,
		"totals":    `[{"day":null,"currency":"eur","account":null,"received":2099,"refunded":0,"withdrawn":0,"reinstated":0,"net":2099}]`,
		"has_more":  `false`,
		"next_page": `null`,
		"payments":  `{"canceled":0,"none":0,"other":0,"processing":0,"requires_action":0,"requires_capture":0,"requires_confirmation":0,"requires_payment_method":0,"succeeded":1}`,
		"events":    `{"applied":1,"quarantined":0,"recorded":0,"unchanged":0}`,
		"health": `{"status":"ok","findings":[{"code":"storage","severity":"ok","message":"The ledger can be written.","next":null,"since":null},` +
			`{"code":"quarantine","severity":"ok","message":"The quarantine is empty.","next":null,"since":null},` +
			`{"code":"conflicts","severity":"ok","message":"No payment has contradictory figures.","next":null,"since":null},` +
			`{"code":"received_unknown","severity":"ok","message":"The events that state received amounts arrive.","next":null,"since":null}]}`,
	} {
		if got := string(s[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if len(s) != 9 {
		t.Errorf("it has %d fields: %s", len(s), w.Body)
	}
	if s := summaryOf(t, handlerOf(ledgertest.Open(t, true)), ""); s.Mode != "live" || s.Totals == nil || len(s.Totals) != 0 {
		t.Errorf("of an empty ledger of live mode it is %+v", s)
	}
}

func TestASummarysDays(t *testing.T) {
	l := ledgertest.Open(t, false)
	for i, at := range []string{"2026-03-31T23:59:59Z", "2026-04-01T00:00:00Z", "2026-04-01T23:59:59Z", "2026-04-02T00:00:00Z"} {
		appendEvent(t, l, paid(string(rune('a'+i)), at, 1<<i))
	}
	h := handlerOf(l)
	for _, c := range []struct{ query, want string }{
		{"", ":15"},
		{"?limit=1", ":15"},
		{"?timezone=Europe/Berlin", ":15"},
		{"?to=2100-01-01", "2026-03-31:1 2026-04-01:6 2026-04-02:8"},
		{"?from=2026-04-01", "2026-04-01:6 2026-04-02:8"},
		{"?to=2026-04-01", "2026-03-31:1"},
		{"?from=2026-04-01&to=2026-04-02", "2026-04-01:6"},
		{"?from=2026-04-01&to=2026-04-01", ""},
		{"?from=2026-04-01T00:00:00Z&to=2026-04-02T00:00:00Z", "2026-04-01:6"},
		{"?from=2026-04-01T00:00:00%2B02:00&to=2026-04-02T00:00:00Z", "2026-03-31:1 2026-04-01:6"}, // still the 31st in UTC
		{"?from=1775001600&to=1775088000", "2026-04-01:6"},
		{"?from=1775001599&to=1775001600", "2026-03-31:1"},
		{"?from=1775087999", "2026-04-01:4 2026-04-02:8"}, // the last second of a day belongs to that day
		{"?from=0&to=1", ""},
		{"?to=0", ""},
		{"?from=-1", "2026-03-31:1 2026-04-01:6 2026-04-02:8"},
		{"?from=9999-12-31", ""},
		{"?timezone=UTC&from=2026-04-01&to=2026-04-02", "2026-04-01:6"},
		{"?timezone=Europe/Berlin&from=2026-01-01", "2026-04-01:3 2026-04-02:12"},
		{"?timezone=America/New_York&from=2026-01-01", "2026-03-31:3 2026-04-01:12"},
		{"?timezone=America/New_York&from=2026-04-01", "2026-04-01:12"},
		{"?timezone=America/New_York&to=2026-04-01", "2026-03-31:3"},
		{"?timezone=Europe/Berlin&from=2026-04-01T20:00:00Z&to=2026-04-01T20:00:01Z", ""},
		{"?from=2026-04-01T00:00:01Z&to=2026-04-02T00:00:01Z", "2026-04-01:4 2026-04-02:8"},
		{"?to=2026-04-01T23:59:59Z", "2026-03-31:1 2026-04-01:2"},
		{"?timezone=Asia/Tokyo&from=2026-04-01T00:00:01%2B09:00&to=2026-04-02T08:59:59%2B09:00", "2026-04-01:3"},
		{"?timezone=Europe/Berlin&from=2026-03-31T22:00:00Z&to=2026-04-01T22:00:00Z", "2026-04-01:3"},
		{"?timezone=Europe/Berlin&from=2026-03-01&to=2026-03-31", ""},
	} {
		var got []string
		for _, total := range summaryOf(t, h, c.query).Totals {
			got = append(got, string(total.Day)+":"+total.Received.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %s", c.query, got, c.want)
		}
	}
	for _, query := range []string{"?timezone=Berlin", "?timezone=Europe/Berlin&from=2024-01-01&to=2026-04-01", "?since=2026-04-01", "?from=yesterday", "?from=2026-13-01", "?to=2026-04-01T00:00:00", "?to=1.5", "?from=99999999999999999999",
		"?from=2026-04-01&from=2026-04-02", "?limit=0", "?limit=1001", "?page=x", "?%zz",
		"?from=2026-04-02&to=2026-04-01", "?from=9223372036854775807", "?to=-9223372036854775808", "?from=1775001600000", "?to=10000-01-01"} {
		w := get(h, "/api/summary"+query, nil)
		if w.Code != 400 || !strings.Contains(w.Body.String(), `{"error":{"code":"invalid_request"`) {
			t.Errorf("%s: got %d %s", query, w.Code, w.Body)
		}
	}
}

// told is a ledger that was told every payment's life in testdata/scenarios.
func booked(t *testing.T) *ledger.Ledger {
	t.Helper()
	files, err := filepath.Glob("../../testdata/scenarios/*/[0-9]*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios: ", err)
	}
	l := ledgertest.Open(t, false)
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e := stripe.Decode(body, false)
		e.Source, e.Received = ledger.Webhook, time.Unix(1793000000, 0)
		appendEvent(t, l, e)
	}
	return l
}

// The totals are what all payments come to, by currency and account; and so are the lines that the
// accountant gets.
func TestTotalsArePaymentsSums(t *testing.T) {
	type books struct{ currency, account ledger.OrNull }
	type sums struct{ received, refunded, withdrawn, reinstated, net int64 }
	h := handlerOf(booked(t))
	totals, payments, lines := map[books]sums{}, map[books]sums{}, map[books]sums{}
	add := func(to map[books]sums, b books, s sums) {
		was := to[b]
		now := sums{was.received + s.received, was.refunded + s.refunded, was.withdrawn + s.withdrawn, was.reinstated + s.reinstated, was.net + s.net}
		if to[b] = now; now == (sums{}) {
			delete(to, b)
		}
	}
	for _, x := range summaryOf(t, h, "").Totals {
		add(totals, books{x.Currency, x.Account}, sums{small(t, x.Received), small(t, x.Refunded), small(t, x.Withdrawn), small(t, x.Reinstated), small(t, x.Net)})
	}
	count := 0
	for params := (url.Values{"limit": {"100"}}); ; {
		var page operator.List[ledger.Payment]
		if err := json.Unmarshal(get(h, "/api/payments?"+params.Encode(), nil).Body.Bytes(), &page); err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Data {
			count++
			add(payments, books{p.Currency, p.Account}, sums{orZero(p.AmountReceived), orZero(p.AmountRefunded), orZero(p.DisputeWithdrawn), orZero(p.DisputeReinstated), orZero(p.AmountNet)})
			params.Set("starting_after", p.ID)
		}
		if !page.HasMore {
			break
		}
	}
	for line := range bytes.Lines(get(h, "/api/export?kind=payments&format=jsonl", nil).Body.Bytes()) {
		var x struct {
			Currency, Account       ledger.OrNull
			Received, Refunded, Net int64
			DisputeWithdrawn        int64 `json:"dispute_withdrawn"`
			DisputeReinstated       int64 `json:"dispute_reinstated"`
		}
		if err := json.Unmarshal(line, &x); err != nil {
			t.Fatal(err)
		}
		add(lines, books{x.Currency, x.Account}, sums{x.Received, x.Refunded, x.DisputeWithdrawn, x.DisputeReinstated, x.Net})
	}
	if count < 20 || len(totals) < 3 || len(totals) != len(payments) || len(totals) != len(lines) {
		t.Errorf("%d payments in %d sums, %d exported, %d totals", count, len(payments), len(lines), len(totals))
	}
	for b, want := range payments {
		if totals[b] != want || lines[b] != want {
			t.Errorf("%+v: the payments come to %+v, the totals to %+v, the export to %+v", b, want, totals[b], lines[b])
		}
	}
}

// small returns a sum that fits 64 bits.
func small(t *testing.T, s ledger.Sum) int64 {
	t.Helper()
	n, fits := s.Int64()
	if !fits {
		t.Fatalf("%s does not fit", s)
	}
	return n
}

// orZero returns an amount, or 0 if it is unknown.
func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func TestHealthMessages(t *testing.T) {
	held := func(id string, why ledger.Reason) *ledger.Event {
		return &ledger.Event{ID: id, Type: "x", Source: ledger.Webhook, Received: time.Unix(1, 0), Quarantine: why, Raw: []byte("}")}
	}
	expected := func(id string) *ledger.Event {
		e := held(id, ledger.ThinEvent)
		e.Expected = true
		return e
	}
	twice := paid("1", "2026-11-23T10:00:00Z", 500)
	for _, c := range []struct {
		what   string
		events []*ledger.Event
		status health.Severity
		code   health.Code
		want   health.Finding
	}{
		{"in quarantine", []*ledger.Event{held("evt_1", ledger.Undecodable), held("evt_2", ledger.WrongMode), held("evt_3", ledger.WrongMode)}, "warn", "quarantine",
			health.Finding{Severity: health.Warn, Message: "Events that could not be used are in quarantine: 2 wrong_mode, 1 undecodable.",
				Next: "look at them (tillhook events --outcome quarantined), then: tillhook events release ID, or tillhook events dismiss ID"}},
		{"some expected in quarantine", []*ledger.Event{held("evt_1", ledger.Undecodable), expected("evt_2"), expected("evt_3")}, "warn", "quarantine",
			health.Finding{Severity: health.Warn, Message: "Events that could not be used are in quarantine: 1 undecodable.",
				Next: "look at them (tillhook events --outcome quarantined), then: tillhook events release ID, or tillhook events dismiss ID"}},
		{"expected in quarantine", []*ledger.Event{expected("evt_2"), expected("evt_3")}, "ok", "quarantine",
			health.Finding{Severity: health.OK, Message: "Nothing in quarantine needs attention; it holds 2 events that are expected or were dismissed."}},
		{"a conflict", []*ledger.Event{twice, statusOf(twice, "canceled")}, "warn", "conflicts",
			health.Finding{Severity: health.Warn, Message: "Payments whose figures need a look, by flag: 1 conflict.", Next: "find them in tillhook payments and compare them with Stripe's Dashboard"}},
		{"nothing", []*ledger.Event{twice, statusOf(twice, "processing")}, "ok", "conflicts", health.Finding{Severity: health.OK, Message: "No payment has contradictory figures."}},
	} {
		l := ledgertest.Open(t, false)
		for _, e := range c.events {
			appendEvent(t, l, e)
		}
		h := summaryOf(t, handlerOf(l), "").Health
		if c.want.Code = c.code; h.Status != c.status || !slices.Contains(h.Findings, c.want) {
			t.Errorf("%s: got %+v, want %s and %+v", c.what, h, c.status, c.want)
		}
	}
}

// A full disk: every write past the limit fails with EFBIG, and later it does not.
func TestASummaryOfAFullDisk(t *testing.T) {
	l := ledgertest.Open(t, false)
	limit := func(size uint64) {
		if err := unix.Prlimit(0, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}, nil); err != nil {
			t.Error(err)
		}
	}
	defer limit(unix.RLIM_INFINITY)
	// The limit is that of the whole process, whose own log of the test must stay below it.
	large := paid("1", "2026-11-23T10:00:00Z", 500)
	large.Raw = make([]byte, 2<<20)
	if _, err := rand.Read(large.Raw); err != nil {
		t.Fatal(err)
	}
	limit(1 << 20)
	if _, err := l.Append(t.Context(), large); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("an event was taken by a full disk: %v", err)
	}
	h := summaryOf(t, handlerOf(l), "").Health
	limit(unix.RLIM_INFINITY)
	if s := h.Findings[0]; h.Status != "fail" || s.Code != health.Storage || s.Severity != "fail" || s.Next == "" || !strings.Contains(s.Message, "every event is answered 503") ||
		!strings.Contains(s.Message, "file too large") {
		t.Errorf("got %+v", h)
	}
	eventually(t, "the disk is good again, and the summary says so", func() bool { return summaryOf(t, handlerOf(l), "").Health.Status == "ok" })
}

// Invoices and Checkout Sessions without other events do not state received amounts, and that is
// reported. It is not where the events that say it arrive, too.
func TestUnknownReceivedIsReported(t *testing.T) {
	now := time.Now()
	event := func(id, typ string, received time.Time, facts ledger.Facts) *ledger.Event {
		return &ledger.Event{ID: id, Type: typ, Created: received.Unix(), Source: ledger.Webhook, Received: received, Facts: facts, Raw: []byte("{}")}
	}
	hour := now.Add(-time.Hour)
	charge := func(received time.Time) *ledger.Event {
		return event("evt_ch", "charge.succeeded", received, ledger.Facts{Charge: "ch_1", Charges: []ledger.Charge{{ID: "ch_1", Status: "succeeded", Currency: "eur",
			Amount: 100, AmountCaptured: 100, Captured: true, Created: received.Unix()}}})
	}
	session := func(intent string, received time.Time) *ledger.Event {
		return event("evt_cs", "checkout.session.completed", received, ledger.Facts{PaymentIntent: intent, Sessions: []ledger.Session{{ID: "cs_1", PaymentStatus: "paid"}}})
	}
	intent := event("evt_pi", "payment_intent.succeeded", hour, ledger.Facts{PaymentIntent: "pi_1", Intents: []ledger.Intent{{ID: "pi_1", Status: "succeeded",
		Currency: "eur", Amount: 100, HasAmount: true, AmountReceived: 100, HasReceived: true, Created: hour.Unix()}}})
	begun := event("evt_pc", "payment_intent.created", hour, ledger.Facts{PaymentIntent: "pi_1", Intents: []ledger.Intent{{ID: "pi_1", Status: "requires_payment_method",
		Currency: "eur", Amount: 100, HasAmount: true, HasReceived: true, Created: hour.Unix()}}})
	madeAgo := func(e *ledger.Event) *ledger.Event { e.Created = now.AddDate(0, -5, 0).Unix(); return e }
	for _, c := range []struct {
		name   string
		events []*ledger.Event
		says   string
	}{
		{"only invoices", []*ledger.Event{event("evt_in", "invoice.paid", hour, ledger.Facts{})}, "Events of invoices or of Checkout arrive"},
		{"only payments of invoices", []*ledger.Event{event("evt_ip", "invoice_payment.paid", hour, ledger.Facts{})}, "Events of invoices or of Checkout arrive"},
		{"a subscription's sessions only", []*ledger.Event{session("", hour)}, "Events of invoices or of Checkout arrive"},
		{"a charge of long ago", []*ledger.Event{charge(now.AddDate(-2, 0, 0)), event("evt_in", "invoice.paid", hour, ledger.Facts{})}, "Events of invoices or of Checkout arrive"},
		{"invoices of long ago", []*ledger.Event{event("evt_in", "invoice.paid", now.AddDate(0, -2, 0), ledger.Facts{})}, ""},
		{"invoices and charges", []*ledger.Event{charge(hour), event("evt_in", "invoice.paid", hour, ledger.Facts{})}, ""},
		{"a payment's session only", []*ledger.Event{charge(hour), session("pi_1", hour)}, "Of payments of the last days (1) only Checkout Sessions"},
		{"a session of a moment ago", []*ledger.Event{charge(hour), session("pi_1", now)}, ""},
		{"a session of before the types were selected", []*ledger.Event{charge(hour), session("pi_1", now.AddDate(0, 0, -20))}, ""},
		{"a payment's session of a moment ago, only", []*ledger.Event{session("pi_1", now)}, "Events of invoices or of Checkout arrive"},
		{"a payment's session that was made long ago", []*ledger.Event{madeAgo(session("pi_1", now))}, "Events of invoices or of Checkout arrive"},
		{"a session and the beginning of its payment", []*ledger.Event{session("pi_1", hour), begun}, "Of payments of the last days (1) only Checkout Sessions"},
		{"a session and its payment", []*ledger.Event{session("pi_1", hour), intent}, ""},
		{"only other events", []*ledger.Event{event("evt_cu", "customer.created", hour, ledger.Facts{})}, ""},
	} {
		l := ledgertest.Open(t, false)
		for _, e := range c.events {
			appendEvent(t, l, e)
		}
		h := summaryOf(t, handlerOf(l), "").Health
		at := slices.IndexFunc(h.Findings, func(s health.Finding) bool { return s.Code == health.ReceivedUnknown })
		if at < 0 || (h.Findings[at].Severity != "ok") != (c.says != "") || !strings.HasPrefix(h.Findings[at].Message, c.says) || c.says != "" && h.Findings[at].Next == "" {
			t.Errorf("%s: health is %+v, want %q", c.name, h, c.says)
		}
	}
}
