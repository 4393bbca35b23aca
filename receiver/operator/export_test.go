package operator_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/ledger/wording"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

func TestExport(t *testing.T) {
	handler := filled(t).Socket()
	const all = "pi_00 pi_01 pi_02 pi_03 pi_04 pi_05 pi_06 pi_07 pi_08 pi_09 pi_10 pi_11"
	for _, c := range []struct {
		query  string
		status int
		kind   string
		want   string // the payments in order, or a part of the error
	}{
		{"?created=1", 400, "", "unknown parameter"},
		{"?format=xml", 400, "", "format \"xml\" is not csv or jsonl"},
		{"?format=CSV", 400, "", "format \"CSV\" is not csv or jsonl"},
		{"?format=csv&format=jsonl", 400, "", "given 2 times"},
		{"?kind=refunds", 400, "", "kind \"refunds\" is not entries or payments"},
		{"?from=yesterday", 400, "", `from "yesterday" is not a time`},
		{"?to=2026-02-30", 400, "", `to "2026-02-30" is not a time`},
		{"?timezone=Berlin", 400, "", "write a name of the IANA database, such as Europe/Berlin"},
		{"?as_of=1&since=1", 400, "", "as_of and since exclude each other"},
		{"?kind=payments&as_of=1", 400, "", "as_of and since are only for kind=entries"},
		{"?kind=payments&since=1", 400, "", "as_of and since are only for kind=entries"},
		{"?as_of=14", 400, "", "its last sequence is 13, and 14 was asked for; leave it out"},
		{"?since=14", 400, "", "its last sequence is 13, and 14 was asked for; leave it out"},
		{"?as_of=-1", 400, "", "as_of is not a sequence"},
		{"?since=latest", 400, "", "since is not a sequence"},
		{"?excel=yes", 400, "", "excel must be 1 or 0"},
		{"?excel=1&format=jsonl", 400, "", "excel is only for format=csv"},
		{"?metadata=a&metadata=", 400, "", "metadata has more than 50 keys, a repeated key"},
		{"?metadata=a&metadata=b&metadata=a", 400, "", "metadata has more than 50 keys, a repeated key"},
		{"?" + url.Values{"metadata": manyKeys(51)}.Encode(), 400, "", "metadata has more than 50 keys"},
		{"?" + url.Values{"metadata": manyKeys(50)}.Encode() + "&as_of=0", 200, "text/csv; charset=utf-8", ""},
		{"?kind=payments&from=1003&to=1006", 200, "text/csv; charset=utf-8", "pi_03 pi_04 pi_05"},
		{"?kind=payments&format=csv&from=1010", 200, "text/csv; charset=utf-8", "pi_10 pi_11"},
		{"?kind=payments&format=csv&from=1970-01-01T00:16:50Z", 200, "text/csv; charset=utf-8", "pi_10 pi_11"},
		{"?kind=payments&format=csv&from=1970-01-02", 200, "text/csv; charset=utf-8", ""},
		{"?kind=payments&format=csv&from=1970-01-02&timezone=Pacific/Auckland&excel=0", 200, "text/csv; charset=utf-8", ""},
		{"?kind=payments&from=1970-01-01&timezone=Pacific/Auckland", 200, "text/csv; charset=utf-8", all},
		{"?kind=payments&format=jsonl&to=1002", 200, "application/jsonl", "pi_00 pi_01"},
		{"?kind=payments&format=jsonl&to=1970-01-01", 200, "application/jsonl", ""},
		{"?kind=payments&format=jsonl", 200, "application/jsonl", all},
		{"?as_of=0", 200, "text/csv; charset=utf-8", ""},
		{"?since=13&format=jsonl", 200, "application/jsonl", ""},
	} {
		w := get(handler, "/api/export"+c.query, nil)
		if got := exported(t, w); w.Code != c.status || got != c.want && (c.status == 200 || !strings.Contains(got, c.want)) {
			t.Errorf("%s: got %d %s, want %d %s", c.query, w.Code, got, c.status, c.want)
		}
		if h := w.Header(); c.status == 200 && (h.Get("Content-Type") != c.kind || h.Get("Content-Length") != strconv.Itoa(w.Body.Len()) || h.Get("Cache-Control") != "no-store") {
			t.Errorf("%s: %d bytes, and the headers are %v", c.query, w.Body.Len(), h)
		}
		sequence := "13"
		if strings.Contains(c.query, "as_of=0") {
			sequence = "0"
		}
		if got := w.Header().Get("Tillhook-Ledger-Sequence"); c.status == 200 && got != sequence || c.status == 400 && got != "" || w.Header().Get("Tillhook-Ledger-Decoded") != "" {
			t.Errorf("%s: it is as of %q", c.query, got)
		}
	}
}

func manyKeys(n int) (keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprintf("key_%d", i))
	}
	return keys
}

// A metadata key gets one column, whatever characters it has.
func TestExportOfAKeyWithAComma(t *testing.T) {
	w := get(filled(t).Socket(), "/api/export?"+url.Values{"metadata": {"a b", `c,"d`}}.Encode(), nil)
	rows, err := csv.NewReader(w.Body).ReadAll()
	if err != nil || w.Code != 200 || !strings.HasSuffix(strings.Join(rows[0], "|"), `|late|metadata_a b|metadata_c,"d`) {
		t.Errorf("%d, %v, %v", w.Code, rows, err)
	}
}

// exported returns the payments in an export of any format, or the message of an error.
func exported(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var ids []string
	var answer struct{ Error operator.Error }
	switch kind := w.Header().Get("Content-Type"); {
	case strings.HasPrefix(kind, "text/csv"):
		rows, err := csv.NewReader(bytes.NewReader(w.Body.Bytes())).ReadAll()
		if err != nil || len(rows) == 0 {
			t.Fatalf("no table with a first line: %v %v", rows, err)
		}
		at := max(slices.Index(rows[0], "payment"), slices.Index(rows[0], "id"))
		for _, row := range rows[1:] {
			ids = append(ids, row[at])
		}
	case kind == "application/jsonl":
		for line := range bytes.Lines(w.Body.Bytes()) {
			var x struct{ ID, Payment string }
			if err := json.Unmarshal(line, &x); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			ids = append(ids, x.ID+x.Payment)
		}
	default:
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Error.Code != "invalid_request" {
			t.Fatalf("%v in %s", err, w.Body)
		}
		return answer.Error.Message
	}
	return strings.Join(ids, " ")
}

// The entries of a month equal the summary of its days, for all scenarios in every time zone.
func TestAMonthsExportIsItsSummary(t *testing.T) {
	dirs, err := filepath.Glob("../../testdata/scenarios/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no scenarios: ", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			l := ledgertest.Open(t, false)
			files, err := filepath.Glob(filepath.Join(dir, "[0-9]*.json"))
			if err != nil || len(files) == 0 {
				t.Fatal(dir, err)
			}
			for _, file := range files {
				body, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				e := stripe.Decode(body, false)
				e.Source, e.Received = ledger.Webhook, time.Unix(1793000000, 0)
				appendEvent(t, l, e)
			}
			h := handlerOf(l)
			for _, zone := range []string{"UTC", "America/New_York", "Pacific/Auckland"} {
				if lines := monthsAgree(t, h, zone); lines != len(entryLines(t, h, url.Values{})) {
					t.Errorf("%s: the months have %d entries", zone, lines)
				}
			}
		})
	}
}

// entryLine is a line of an export of entries.
type entryLine struct {
	Date, Time              string
	Currency, Account       ledger.OrNull
	Received, Refunded, Net ledger.Sum
	Withdrawn               ledger.Sum `json:"dispute_withdrawn"`
	Reinstated              ledger.Sum `json:"dispute_reinstated"`
}

func entryLines(t *testing.T, h http.Handler, params url.Values) (lines []entryLine) {
	t.Helper()
	params.Set("format", "jsonl")
	w := get(h, "/api/export?"+params.Encode(), nil)
	if w.Code != 200 {
		t.Fatalf("%v: %d %s", params, w.Code, w.Body)
	}
	for text := range bytes.Lines(w.Body.Bytes()) {
		var x entryLine
		if err := json.Unmarshal(text, &x); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, x)
	}
	return lines
}

// monthsAgree compares the exports of all months with the summaries, and returns the number of
// entries.
func monthsAgree(t *testing.T, h http.Handler, zone string) (entries int) {
	t.Helper()
	all := entryLines(t, h, url.Values{"timezone": {zone}})
	if len(all) == 0 {
		return 0
	}
	last := all[len(all)-1].Date
	month, err := time.Parse("2006-01", all[0].Date[:7])
	if err != nil {
		t.Fatal(err)
	}
	for ; month.Format(time.DateOnly) <= last; month = month.AddDate(0, 1, 0) {
		params := url.Values{"timezone": {zone}, "from": {month.Format(time.DateOnly)}, "to": {month.AddDate(0, 1, 0).Format(time.DateOnly)}}
		type line struct {
			day, currency, account ledger.OrNull
		}
		sums := map[line]ledger.Total{}
		for _, x := range entryLines(t, h, params) {
			entries++
			if x.Date < params.Get("from") || x.Date >= params.Get("to") || x.Date != x.Time[:10] {
				t.Errorf("%v: an entry is of %s, %s", params, x.Date, x.Time)
			}
			key := line{ledger.OrNull(x.Date), x.Currency, x.Account}
			s := sums[key]
			sums[key] = ledger.Total{Day: ledger.OrNull(x.Date), Currency: x.Currency, Account: x.Account, Received: s.Received.Plus(x.Received), Refunded: s.Refunded.Plus(x.Refunded),
				Withdrawn: s.Withdrawn.Plus(x.Withdrawn), Reinstated: s.Reinstated.Plus(x.Reinstated), Net: s.Net.Plus(x.Net)}
		}
		totals := summaryOf(t, h, "?"+url.Values{"timezone": params["timezone"], "from": params["from"], "to": params["to"]}.Encode()).Totals
		for _, total := range totals {
			key := line{total.Day, total.Currency, total.Account}
			if sums[key] != total {
				t.Errorf("%v: the summary has %+v, the entries come to %+v", params, total, sums[key])
			}
			delete(sums, key)
		}
		for key, sum := range sums {
			if none := (ledger.Sum{}); sum.Received != none || sum.Refunded != none || sum.Withdrawn != none || sum.Reinstated != none {
				t.Errorf("%v: the summary has no line for %+v", params, key)
			}
		}
	}
	return entries
}

// A text that a terminal obeys reaches no terminal as it is, and means the same to programs.
func TestAnswersCanBeShown(t *testing.T) {
	l := ledgertest.Open(t, false)
	const text = "\u202egnp.exe\u2066\u009b2J\x7f"
	e := paid("1", "2026-11-23T10:00:00Z", 2099)
	e.Facts.Intents[0].Description = text
	appendEvent(t, l, e)
	for _, path := range []string{"/api/payments/pi_1", "/api/payments", "/api/export", "/api/export?kind=payments", "/api/export?format=jsonl", "/api/payments/" + url.PathEscape(text)} {
		answer := get(handlerOf(l), path, nil).Body.String()
		if n := strings.Count(answer, `\u202egnp.exe\u2066\u009b2J\u007f`) + strings.Count(answer, `\\u202egnp.exe\\u2066\\u009b2J\\x7f`); n != 1 {
			t.Errorf("%s: the text is there %d times: %s", path, n, answer)
		}
		for line := range strings.Lines(answer) {
			if line = strings.TrimRight(line, "\r\n"); wording.Escape(line) != line {
				t.Errorf("%s: %q", path, line)
			}
		}
	}
	var p ledger.Payment
	if err := json.Unmarshal(get(handlerOf(l), "/api/payments/pi_1", nil).Body.Bytes(), &p); err != nil || string(p.Description) != text {
		t.Errorf("the description reads as %q, %v", p.Description, err)
	}
}

// Headers state the last row and what a rebuild decoded again.
func TestAnExportsHeaders(t *testing.T) {
	dir := t.TempDir()
	e := paid("1", "2026-11-23T10:00:00Z", 2099)
	opts := ledger.Options{Dir: dir, Decode: func([]byte) *ledger.Event {
		other := *e
		other.APIVersion = "another"
		return &other
	}}
	l, err := ledger.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	appendEvent(t, l, e)
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Rebuild(t.Context(), opts, true); err != nil {
		t.Fatal(err)
	}
	l = ledgertest.Start(t, opts)
	appendEvent(t, l, paid("2", "2026-11-24T10:00:00Z", 500))
	for query, want := range map[string]string{"": "2", "?as_of=2": "2", "?as_of=1": "1 1", "?since=1": "2 1", "?since=0": "2 1", "?since=2": "2", "?kind=payments": "2"} {
		h := get(handlerOf(l), "/api/export"+query, nil).Header()
		if got := strings.TrimSpace(fmt.Sprint(h.Get("Tillhook-Ledger-Sequence"), " ", h.Get("Tillhook-Ledger-Decoded"))); got != want {
			t.Errorf("%q: got %q, want %q", query, got, want)
		}
	}
}

// An export whose client has gone ends, releases its slot, and is not logged as an error of the
// ledger.
func TestACanceledExport(t *testing.T) {
	var log journal
	l := ledgertest.Open(t, false)
	handler := operator.New(operator.Options{Ledger: l, Log: log.logger()}).Socket()
	for _, path := range []string{"/api/export", "/api/export?as_of=0", "/api/export?kind=payments", "/api/backup"} {
		w := get(handler, path, func(r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			*r = *r.WithContext(ctx)
		})
		if w.Code != 503 || !strings.Contains(w.Body.String(), "the client canceled the request") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if text := log.String(); strings.Contains(text, "level=ERROR") || strings.Count(text, `level=INFO msg="an answer was canceled" path=`) != 4 {
		t.Errorf("the log is\n%s", text)
	}
	if w := get(handler, "/api/export", nil); w.Code != 200 {
		t.Errorf("an export afterwards: %d %s", w.Code, w.Body)
	}
}

// An export in progress does not delay shutdown.
func TestAnExportEndsWhenTheReceiverStops(t *testing.T) {
	var log journal
	stopping, stop := context.WithCancel(t.Context())
	stop()
	l := ledgertest.Open(t, false)
	for i := range 12 { // the export rests between its walks, in which it sees that the receiver stops
		id := fmt.Sprintf("pi_%d", i)
		appendEvent(t, l, &ledger.Event{ID: "evt_" + id, Type: "payment_intent.succeeded", Created: 1000, Source: ledger.Webhook, Received: time.Unix(5000, 0),
			Raw: []byte("{}"), Facts: ledger.Facts{PaymentIntent: id, Intents: []ledger.Intent{{ID: id, Status: "succeeded", Currency: "eur", Amount: 500, HasAmount: true, HasReceived: true, Created: 1000}}}})
	}
	handler := operator.New(operator.Options{Ledger: l, Log: log.logger(), Stopping: stopping}).Socket()
	w := get(handler, "/api/export?since=0", nil)
	if w.Code != 503 || !strings.Contains(w.Body.String(), "the receiver is shutting down") || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("%d %s, and the log is\n%s", w.Code, w.Body, log.String())
	}
}

// An export that would take what is reserved for events is refused with a next step, whatever is
// exported.
func TestAnExportOnAFullDiskIsRefused(t *testing.T) {
	var log journal
	l := ledgertest.Open(t, false)
	handler := operator.New(operator.Options{Ledger: l, Log: log.logger()}).Socket()
	ledgertest.FillDisk(t, l)
	for path, next := range map[string]string{
		"/api/export": "free some space there; an export of fewer days needs less", "/api/export?kind=payments": "free some space there; an export of fewer days needs less", "/api/backup": "free some space there",
	} {
		w := get(handler, path, nil)
		if w.Code != 507 || !strings.Contains(w.Body.String(), "not enough disk space") || !strings.Contains(w.Body.String(), next) || log.String() != "" {
			t.Errorf("%s: %d %s, and the log is %s", path, w.Code, w.Body, log.String())
		}
	}
}
