package ledger_test

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/export"
	"tillhook/ledger/ledgertest"
	"tillhook/ledger/wording"
)

const paymentsHeader = "id,account,created,captured,status,currency,amount,amount_decimal,received,received_decimal,refunded,refunded_decimal," +
	"dispute_withdrawn,dispute_withdrawn_decimal,dispute_reinstated,dispute_reinstated_decimal,net,net_decimal,fee,fee_decimal,customer,description,latest_charge,flags"

// paymentsText returns an export of payments.
func paymentsText(t *testing.T, l *ledger.Ledger, format string, from, to *int64) string {
	t.Helper()
	text, _ := exportText(t, l, export.Query{Table: export.Payments, Format: format, From: from, To: to})
	return text
}

// exportText returns an export, and the sequence that it is as of.
func exportText(t testing.TB, l *ledger.Ledger, q export.Query) (text string, sequence uint64) {
	t.Helper()
	x, err := l.NewExport(q)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := x.Write(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return out.String(), x.Sequence
}

// chargeEvent returns an event about a charge of a PaymentIntent, with the balance transaction that
// has the fee.
func chargeEvent(payment, charge, currency string, amount, captured int64, fee *ledger.Booking) *ledger.Event {
	return about("evt_"+charge, "charge.succeeded", 1760000010,
		ledger.Facts{PaymentIntent: payment, Charge: charge, Charges: []ledger.Charge{{
			ID: charge, Status: "succeeded", Currency: currency, Amount: amount, AmountCaptured: captured,
			Captured: captured > 0, Created: 1760000000, BalanceTransaction: fee,
		}}})
}

// appendAll appends events and fills in the fields that make an event complete.
func appendAll(t *testing.T, l *ledger.Ledger, events ...*ledger.Event) {
	t.Helper()
	for _, e := range events {
		e.Source, e.Raw = cmp.Or(e.Source, ledger.Webhook), []byte("{}")
		e.Received = time.Unix(1760000100, 0)
		mustAppend(t, l, e)
	}
}

func withDescription(payment, text string) *ledger.Event {
	e := succeeded("evt_"+payment, payment)
	e.Facts.Intents[0].Description, e.Facts.Intents[0].Customer = text, "cus_1"
	return e
}

// The export of payments of each kind, byte for byte.
func TestExportOfPaymentsAsCSV(t *testing.T) {
	yen := succeeded("evt_yen", "pi_yen")
	yen.Facts.Intents[0].Currency, yen.Facts.Intents[0].Created = "jpy", 1760000001
	dinar := succeeded("evt_dinar", "pi_dinar")
	dinar.Facts.Intents[0].Currency, dinar.Facts.Intents[0].Created = "kwd", 1760000002
	dinar.Account = "acct_1"
	unknown := about("evt_unknown", "checkout.session.completed", 0,
		ledger.Facts{PaymentIntent: "pi_unknown", Sessions: []ledger.Session{{ID: "cs_1", PaymentStatus: "paid"}}})
	lost := about("evt_lost", "charge.dispute.funds_withdrawn", 1760000050,
		ledger.Facts{PaymentIntent: "pi_lost", Charge: "ch_pi_lost", Disputes: []ledger.Dispute{{
			ID: "dp_1", Charge: "ch_pi_lost", Status: "lost", Currency: "eur", Amount: 4200, Created: 1760000040,
			Transactions: []ledger.Transaction{
				{ID: "txn_1", Amount: -4200, Currency: "eur", Created: 1760000040},
				{ID: "txn_2", Amount: -1505, Currency: "eur", Created: 1760000041}}}}})
	conflict := succeeded("evt_conflict", "pi_conflict")
	conflict.Facts.Intents[0].Status = "canceled"
	l := ledgertest.Open(t, false)
	appendAll(t, l, yen, dinar, unknown, succeeded("evt_pi_lost", "pi_lost"), lost,
		withDescription("pi_conflict", "paid, and \"canceled\"\nboth"), conflict)
	want := []string{
		paymentsHeader,
		`pi_unknown,,,,,,,,,,0,,0,,0,,,,,,,,,`,
		`pi_conflict,,2025-10-09T08:53:20Z,2025-10-09T08:53:25Z,succeeded,eur,4200,42.00,4200,42.00,0,0.00,0,0.00,0,0.00,4200,42.00,,,cus_1,"paid, and ""canceled""\nboth",ch_pi_conflict,conflict`,
		`pi_lost,,2025-10-09T08:53:20Z,2025-10-09T08:53:25Z,succeeded,eur,4200,42.00,4200,42.00,0,0.00,5705,57.05,0,0.00,-1505,-15.05,,,,,ch_pi_lost,`,
		`pi_yen,,2025-10-09T08:53:21Z,2025-10-09T08:53:25Z,succeeded,jpy,4200,4200,4200,4200,0,0,0,0,0,0,4200,4200,,,,,ch_pi_yen,`,
		`pi_dinar,acct_1,2025-10-09T08:53:22Z,2025-10-09T08:53:25Z,succeeded,kwd,4200,4.200,4200,4.200,0,0.000,0,0.000,0,0.000,4200,4.200,,,,,ch_pi_dinar,`,
		"",
	}
	if got := paymentsText(t, l, "csv", nil, nil); got != strings.Join(want, "\r\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\r\n"))
	}
	if got := paymentsText(t, ledgertest.Open(t, false), "csv", nil, nil); got != paymentsHeader+"\r\n" {
		t.Errorf("the export of an empty ledger is %q", got)
	}
}

// A text that a spreadsheet would treat as a formula gets a prefix that prevents this. A negative
// number is not changed. In many countries spreadsheets split lines at semicolons, even between
// quotes.
func TestExportHasNoFormulas(t *testing.T) {
	texts := map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@sum": "'@sum", "a=1": "a=1", " =1": " =1", "'=1": "'=1", "": "",
		"überwiesen": "überwiesen",
		`="a","b"`:   `'="a","b"`, "a;b": "a;b", "a;=1": "a;'=1", "=1;@2;;-3;x": "'=1;'@2;;'-3;x",
		`a; "=1"`: `a;' "=1"`,
		`;""+1`:   `;'""+1`, "a; b=1": "a; b=1", ";": ";",
		// A text never has more than one line, and no control characters.
		"\tx": `\tx`, "\rx": `\rx`, "\nx": `\nx`, "one\r\n=two": `one\r\n=two`,
		"a\u202eb\x1b[2J\u0085\u2028": `a\u202eb\u001b[2J\u0085\u2028`,
	}
	l := ledgertest.Open(t, false)
	want := map[string]string{}
	for i, text := range slices.Sorted(maps.Keys(texts)) {
		id := fmt.Sprintf("pi_%02d", i)
		appendAll(t, l, withDescription(id, text))
		want[id] = texts[text]
	}
	for _, table := range []string{export.Payments, export.Entries} {
		text, _ := exportText(t, l, export.Query{Table: table, Format: "csv"})
		if got := strings.Count(text, "\n"); got != len(texts)+1 || strings.Count(text, "\r\n") != got {
			t.Errorf("%d lines of %d texts", got, len(texts))
		}
		rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil || len(rows) != len(texts)+1 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		at, id := slices.Index(rows[0], "description"), max(slices.Index(rows[0], "payment"), 0)
		for _, row := range rows[1:] {
			if row[at] != want[row[id]] {
				t.Errorf("%s: got %q, want %q", row[id], row[at], want[row[id]])
			}
		}
		lines, _ := exportText(t, l, export.Query{Table: table, Format: "jsonl"})
		for line := range strings.Lines(lines) {
			var x struct{ Description string }
			if err := json.Unmarshal([]byte(line), &x); err != nil ||
				wording.Escape(line) != strings.TrimSuffix(line, "\n")+`\n` {
				t.Errorf("%q is not escaped JSON, %v", line, err)
			}
			if _, ok := texts[x.Description]; !ok {
				t.Errorf("%q is not one of the descriptions", x.Description)
			}
		}
	}
}

// A payment has a fee if the fee of each captured charge is known, in the currency of the payment.
func TestExportOfFees(t *testing.T) {
	fee := func(amount int64, currency string) *ledger.Booking {
		return &ledger.Booking{Fee: amount, Currency: currency}
	}
	l := ledgertest.Open(t, false)
	want := map[string]string{}
	for i, c := range []struct {
		charges []*ledger.Event
		fee     string
	}{
		{[]*ledger.Event{chargeEvent("pi_0", "ch_00", "eur", 4200, 4200, fee(120, "eur"))}, "120"},
		{[]*ledger.Event{chargeEvent("pi_1", "ch_10", "eur", 4200, 4200, fee(0, "eur"))}, "0"},
		{[]*ledger.Event{chargeEvent("pi_2", "ch_20", "eur", 4200, 4200, nil)}, ""},
		{[]*ledger.Event{chargeEvent("pi_3", "ch_30", "eur", 4200, 4200, fee(130, "usd"))}, ""},
		{[]*ledger.Event{chargeEvent("pi_4", "ch_40", "eur", 2000, 2000, fee(60, "eur")),
			chargeEvent("pi_4", "ch_41", "eur", 2200, 2200, fee(61, "eur"))}, "121"},
		{[]*ledger.Event{chargeEvent("pi_5", "ch_50", "eur", 2000, 2000, fee(60, "eur")),
			chargeEvent("pi_5", "ch_51", "eur", 2200, 2200, nil)}, ""},
		// not captured
		{[]*ledger.Event{chargeEvent("pi_6", "ch_60", "eur", 2000, 2000, fee(60, "eur")),
			chargeEvent("pi_6", "ch_61", "eur", 2200, 0, nil)}, "60"},
		{[]*ledger.Event{chargeEvent("pi_7", "ch_70", "eur", 2200, 0, fee(9, "eur"))}, ""},
	} {
		appendAll(t, l, c.charges...)
		want[fmt.Sprintf("pi_%d", i)] = c.fee
	}
	rows, err := csv.NewReader(strings.NewReader(paymentsText(t, l, "csv", nil, nil))).ReadAll()
	if err != nil || len(rows) != len(want)+1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	at := slices.Index(rows[0], "fee")
	for _, row := range rows[1:] {
		if row[at] != want[row[0]] {
			t.Errorf("%s: the fee is %q, want %q", row[0], row[at], want[row[0]])
		}
	}
}

// The lower bound is inclusive and the upper bound is exclusive. Both are optional.
func TestExportBetweenTwoTimes(t *testing.T) {
	l := ledgertest.Open(t, false)
	for _, at := range []int64{-5, 1, 100, 101, 102} {
		e := succeeded(fmt.Sprintf("evt_%d", at), fmt.Sprintf("pi_%d", at))
		e.Facts.Intents[0].Created = at
		appendAll(t, l, e)
	}
	at := func(n int64) *int64 { return &n }
	for _, c := range []struct {
		from, to *int64
		want     string
	}{
		{nil, nil, "-5 1 100 101 102"},
		{at(100), nil, "100 101 102"},
		{nil, at(101), "-5 1 100"},
		{at(100), at(102), "100 101"},
		{at(100), at(100), ""},
		{at(102), at(100), ""},
		{at(0), at(2), "1"},
		{at(-5), at(0), "-5"},
		{at(103), nil, ""},
	} {
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(paymentsText(t, l, "csv", c.from, c.to)), "\r\n")[1:] {
			id, _, _ := strings.Cut(line, ",")
			got = append(got, strings.TrimPrefix(id, "pi_"))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("from %s to %s: got %v, want %s", asText(c.from), asText(c.to), got, c.want)
		}
	}
}

// CSV and JSON Lines hold the same data of all scenarios, in the same order.
func TestBothFormatsHoldTheSame(t *testing.T) {
	dir := scenarioLedger(t)
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	text := paymentsText(t, l, "csv", nil, nil)
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	w := csv.NewWriter(&again)
	w.UseCRLF = true
	if err := w.WriteAll(rows); err != nil || again.String() != text {
		t.Errorf("the CSV changed when it was read and written again: %v", err)
	}
	if strings.Join(rows[0], ",") != paymentsHeader {
		t.Errorf("the columns are %v", rows[0])
	}
	lines := json.NewDecoder(strings.NewReader(paymentsText(t, l, "jsonl", nil, nil)))
	lines.UseNumber()
	n := 0
	for ; ; n++ {
		var line map[string]any
		if err := lines.Decode(&line); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if len(line) != len(rows[0]) {
			t.Errorf("line %d has %d fields", n, len(line))
		}
		for i, column := range rows[0] {
			if got := cell(line[column]); got != rows[n+1][i] {
				t.Errorf("line %d: %s is %q, in CSV %q", n, column, got, rows[n+1][i])
			}
		}
	}
	all := scenarios(t)
	if n != len(rows)-1 || n != len(all)+1 { // one payment more: a refund that belongs to no scenario
		t.Errorf("%d lines and %d rows of %d payments", n, len(rows)-1, len(all))
	}
	net := map[string]string{}
	for _, row := range rows[1:] {
		net[row[0]] = row[slices.Index(rows[0], "net")]
	}
	for name, s := range all {
		want := ""
		if s.want.Net != nil {
			want = fmt.Sprint(*s.want.Net)
		}
		if net[s.want.Payment] != want {
			t.Errorf("%s: net is %q, want %q", name, net[s.want.Payment], want)
		}
	}
}

// cell returns a JSON value in the form that it has in CSV.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		var words []string
		for _, word := range v {
			words = append(words, fmt.Sprint(word))
		}
		return strings.Join(words, " ")
	}
	return fmt.Sprint(v)
}

// firstWrite calls do at the first write.
type firstWrite struct {
	strings.Builder
	do func()
}

func (d *firstWrite) Write(p []byte) (int, error) {
	if d.do != nil {
		d.do()
		d.do = nil
	}
	return d.Builder.Write(p)
}

// A payment whose id and time change while an export is written is in the export once.
func TestExportIsAConsistentSnapshot(t *testing.T) {
	l := ledgertest.Open(t, false)
	charge := func(event, id string, created int64) *ledger.Event {
		return &ledger.Event{ID: event, Type: "charge.succeeded", Created: created, Source: ledger.Webhook,
			Received: time.Now(), Raw: []byte(event),
			Facts: ledger.Facts{Charge: id, Charges: []ledger.Charge{{ID: id, Status: "succeeded", Currency: "eur",
				Amount: 100, AmountCaptured: 100, Captured: true, Created: created}}}}
	}
	link := func(event, intent, id string, created int64) {
		e := succeeded(event, intent)
		e.Facts.Charge, e.Facts.Intents[0].LatestCharge, e.Facts.Intents[0].Created = id, id, created
		mustAppend(t, l, e)
	}
	mustAppend(t, l, charge("e1", "ch_first", 1600000000))
	mustAppend(t, l, charge("e2", "ch_last", 1800000000))
	out := &firstWrite{do: func() {
		link("e3", "pi_first", "ch_last", 1500000000)
		link("e4", "pi_last", "ch_first", 1900000000)
	}}
	x, err := l.NewExport(export.Query{Table: export.Payments, Format: "jsonl"})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Write(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"ch_first", "ch_last"} {
		if n := strings.Count(out.String(), `"latest_charge":"`+id+`"`); n != 1 {
			t.Errorf("%s is in the export %d times", id, n)
		}
	}
}
