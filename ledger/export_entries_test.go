package ledger_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/export"
	"tillhook/ledger/ledgertest"
)

const entriesHeader = "entry_id,date,time,entry,payment,object,account,currency,received,received_decimal,refunded,refunded_decimal," +
	"dispute_withdrawn,dispute_withdrawn_decimal,dispute_reinstated,dispute_reinstated_decimal,net,net_decimal,customer,description,charge,late"

// entriesText returns an export of entries, and the sequence that it is as of.
func entriesText(t testing.TB, l *ledger.Ledger, q export.Query) (text string, sequence uint64) {
	t.Helper()
	if q.Table = export.Entries; q.Format == "" {
		q.Format = "csv"
	}
	return exportText(t, l, q)
}

func timezone(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := ledger.Timezone(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// parseTime parses a time as a user writes it.
func parseTime(t testing.TB, text string, zone *time.Location) *int64 {
	t.Helper()
	n, err := ledger.ParseTime(text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return &n
}

// paidCharge returns a charge of an amount in cents that was captured at a time, with the number of
// an order in its metadata.
func paidCharge(id string, at int64, amount int64) *ledger.Event {
	return about("evt_"+id, "charge.succeeded", at,
		ledger.Facts{Charge: "ch_" + id, Charges: []ledger.Charge{{ID: "ch_" + id, Status: "succeeded", Currency: "eur",
			Amount: amount, AmountCaptured: amount, Captured: true, Created: at,
			Metadata: map[string]string{"order_id": "=" + id, "shop": "web"}}}})
}

// The export of the entries of all scenarios is the golden file, byte for byte.
func TestGoldenEntries(t *testing.T) {
	const golden = "../testdata/golden/entries.csv"
	l := ledgertest.Open(t, false)
	all := scenarios(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, e := range all[name].events {
			mustAppend(t, l, e)
		}
	}
	got, _ := entriesText(t, l, export.Query{Zone: timezone(t, "Europe/Berlin"), Metadata: []string{"order_id"}})
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v; go test ./ledger -run TestGoldenEntries -update writes it", err)
	}
	for i, line := range slices.Collect(strings.Lines(got)) {
		if !strings.HasPrefix(string(want), line) {
			t.Fatalf("line %d is\n%s\nwant\n%.400s", i+1, line, want)
		}
		want = want[len(line):]
	}
	if len(want) > 0 {
		t.Errorf("missing lines:\n%s", want)
	}
}

// A day begins at midnight in the timezone, and has 23 or 25 hours twice a year.
func TestExportOfDaysInATimezone(t *testing.T) {
	l := ledgertest.Open(t, false)
	berlin := timezone(t, "Europe/Berlin")
	for i, text := range []string{"2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z",
		"2026-03-29T22:00:00Z",
		"2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"} {
		appendAll(t, l, paidCharge(fmt.Sprint(i), *parseTime(t, text, time.UTC), 100))
	}
	for _, c := range []struct {
		zone     *time.Location
		from, to string
		want     string
	}{
		{berlin, "2026-03-29", "2026-03-30", "2026-03-29T00:00:00+01:00 2026-03-29T23:59:59+02:00"},
		{berlin, "2026-10-25", "2026-10-26", "2026-10-25T00:00:00+02:00 2026-10-25T23:59:59+01:00"},
		{nil, "2026-03-29", "2026-03-30", "2026-03-29T21:59:59Z 2026-03-29T22:00:00Z"},
		{berlin, "2026-10-26", "2026-10-26", ""},
	} {
		zone := c.zone
		if zone == nil {
			zone = time.UTC
		}
		text, _ := entriesText(t, l, export.Query{Zone: c.zone, From: parseTime(t, c.from, zone),
			To: parseTime(t, c.to, zone)})
		rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		var times []string
		for _, row := range rows[1:] {
			if times = append(times, row[2]); row[1] != row[2][:10] {
				t.Errorf("the date of %s is %s", row[2], row[1])
			}
		}
		if got := strings.Join(times, " "); got != c.want {
			t.Errorf("%v, %s to %s: got %s, want %s", c.zone, c.from, c.to, got, c.want)
		}
		page, err := l.Totals(t.Context(), ledger.TotalsQuery{Zone: zone, From: parseTime(t, c.from, zone),
			To: parseTime(t, c.to, zone), Limit: 100})
		totals := page.Data
		if err != nil || (c.want == "") != (len(totals) == 0) ||
			len(totals) == 1 && (string(totals[0].Day) != c.from || totals[0].Received != ledger.SumOf(200)) ||
			len(totals) > 1 {
			t.Errorf("%v, %s to %s: the totals are %+v, %v", c.zone, c.from, c.to, totals, err)
		}
	}
}

// The totals of another timezone than UTC are computed from the entries, so they are limited to 400
// days.
func TestTotalsRefuseTooManyDays(t *testing.T) {
	l := ledgertest.Open(t, false)
	zone := timezone(t, "Pacific/Auckland")
	since := int64(0)
	if totals, err := l.Totals(t.Context(), ledger.TotalsQuery{Zone: zone, From: &since, Limit: 100}); err != nil ||
		totals.Data == nil || len(totals.Data) != 0 {
		t.Errorf("the totals of an empty ledger are %v, %v", totals, err)
	}
	appendAll(t, l, paidCharge("first", *parseTime(t, "2025-01-10", zone), 100),
		paidCharge("last", *parseTime(t, "2026-02-14", zone)-1, 100))
	for _, c := range []struct {
		from, to string
		days     int // days with entries; -1 if the range is too long
	}{
		{"", "", 1}, {"", "2026-02-14", 2}, {"2025-01-10", "", 2}, {"2025-01-10", "2026-02-14", 2},
		{"2025-01-10", "2026-02-15", -1}, {"2025-01-09", "2026-02-14", -1}, {"2025-01-11", "", 1},
		{"2000-01-01", "2030-01-01", -1}, {"0001-01-01", "9999-12-31", -1}, {"2026-01-01", "2025-01-01", 0},
		{"2026-03-01", "", 0},
	} {
		var from, to *int64
		if c.from != "" {
			from = parseTime(t, c.from, zone)
		}
		if c.to != "" {
			to = parseTime(t, c.to, zone)
		}
		totals, err := l.Totals(t.Context(), ledger.TotalsQuery{Zone: zone, From: from, To: to, Limit: 100})
		if c.days < 0 && (!errors.Is(err, ledger.ErrTooManyDays) || !strings.Contains(err.Error(), "400")) ||
			c.days >= 0 && (err != nil || len(totals.Data) != c.days) {
			t.Errorf("from %s to %s: %d totals, %v", c.from, c.to, len(totals.Data), err)
		}
	}
	appendAll(t, l, paidCharge("later", *parseTime(t, "2026-02-14", zone), 100))
	if _, err := l.Totals(t.Context(), ledger.TotalsQuery{Zone: zone, From: &since,
		Limit: 100}); !errors.Is(err, ledger.ErrTooManyDays) {
		t.Errorf("totals of 401 days returned %v", err)
	}
}

// A requested metadata key has a column, and an export for Excel begins with a byte order mark.
func TestExportWithMetadataForExcel(t *testing.T) {
	l := ledgertest.Open(t, false)
	appendAll(t, l, paidCharge("1", 1760000000, 4200))
	for _, table := range []string{export.Entries, export.Payments} {
		q := export.Query{Table: table, Format: "csv", Metadata: []string{"order_id", "none\n"}, Excel: true}
		text, _ := exportText(t, l, q)
		rows := strings.Split(text, "\r\n")
		if !strings.HasPrefix(text, "\ufeff") || !strings.HasSuffix(rows[0], `,metadata_order_id,metadata_none\n`) ||
			!strings.HasSuffix(rows[1], ",'=1,") {
			t.Errorf("got %q", text)
		}
		q.Format, q.Excel = "jsonl", false
		text, _ = exportText(t, l, q)
		if !strings.HasSuffix(text, `,"metadata_order_id":"=1","metadata_none\n":null}`+"\n") ||
			!json.Valid([]byte(text)) {
			t.Errorf("got %s", text)
		}
	}
}

// Verify checks the index of entries, and a rebuild restores it.
func TestVerifyChecksTheIndexOfEntries(t *testing.T) {
	dir := scenarioLedger(t)
	edit(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("entries"))
		key, _ := b.Cursor().First()
		if key == nil {
			return errors.New("there are no entries")
		}
		return b.Delete(key)
	})
	if _, err := check.Verify(t.Context(), ledger.Path(dir)); err == nil ||
		!strings.Contains(err.Error(), "the index of entries at") {
		t.Errorf("with a missing second Verify returned %v", err)
	}
	if _, err := ledger.Rebuild(context.Background(), ledger.Options{Dir: dir}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := check.Verify(t.Context(), ledger.Path(dir)); err != nil {
		t.Error(err)
	}
	edit(t, dir, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("entries"))
		key, value := b.Cursor().First()
		more := append([]byte{0}, key[1:]...)
		return b.Put(more, []byte(ledger.Seal("entries", string(more), string(value[:len(value)-4]))))
	})
	if _, err := check.Verify(t.Context(), ledger.Path(dir)); err == nil ||
		!strings.Contains(err.Error(), "seconds in the index of entries") {
		t.Errorf("with an additional second Verify returned %v", err)
	}
}

// A sequence after the last one is refused. The first and the last sequence are accepted.
func TestExportAsOfAndSinceASequence(t *testing.T) {
	l := ledgertest.Open(t, false)
	appendAll(t, l, paidCharge("1", 1760000000, 4200), paidCharge("2", 1760000001, 100))
	seq := func(n uint64) *uint64 { return &n }
	for _, q := range []export.Query{{AsOf: seq(3)}, {Since: seq(3)}} {
		q.Table, q.Format = export.Entries, "csv"
		if _, err := l.NewExport(q); !errors.Is(err, export.ErrAhead) ||
			!strings.Contains(err.Error(), "its last sequence is 2, and 3 was asked for") {
			t.Errorf("%+v returned %v", q, err)
		}
	}
	for _, c := range []struct {
		query    export.Query
		lines    int
		sequence uint64
	}{{export.Query{AsOf: seq(0)}, 0, 0}, {export.Query{AsOf: seq(1)}, 1, 1},
		{export.Query{AsOf: seq(2)}, 2, 2}, {export.Query{}, 2, 2},
		{export.Query{Since: seq(0)}, 2, 2}, {export.Query{Since: seq(1)}, 1, 2},
		{export.Query{Since: seq(2)}, 0, 2}} {
		text, sequence := entriesText(t, l, c.query)
		rows := strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n")
		if rows[0] != entriesHeader || len(rows)-1 != c.lines || sequence != c.sequence {
			t.Errorf("%+v returned the sequence %d and\n%s", c.query, sequence, text)
		}
	}
}

// After a rebuild decoded a body differently, an export as of an earlier sequence can differ from
// the one made before. The export reports this. A rebuild that decodes all bodies as before has no
// such effect.
func TestExportReportsRedecodedBodies(t *testing.T) {
	dir := scenarioLedger(t)
	changed := false
	opts := ledger.Options{Dir: dir, Decode: func(raw []byte) *ledger.Event {
		e := decode(raw)
		if changed && len(e.Facts.Charges) > 0 {
			e.Facts.Charges[0].FailureCode = "decoded by another decoder"
		}
		return e
	}}
	var last uint64
	for _, c := range []struct{ rebuild, decode, changed bool }{{}, {rebuild: true}, {rebuild: true, decode: true},
		{rebuild: true, decode: true, changed: true}, {rebuild: true, changed: true}} {
		if changed = c.changed; c.rebuild {
			if _, err := ledger.Rebuild(context.Background(), opts, c.decode); err != nil {
				t.Fatal(err)
			}
		}
		l, err := ledger.OpenReadOnly(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, last = entriesText(t, l, export.Query{})
		for _, q := range []export.Query{{AsOf: &last}, {Since: &last}, {}} {
			want := uint64(0)
			if c.changed && (q.AsOf != nil || q.Since != nil) {
				want = last
			}
			q.Table, q.Format = export.Entries, "csv"
			if x, err := l.NewExport(q); err != nil || x.Decoded != want {
				t.Errorf("%+v, %+v: the export reports bodies decoded again up to row %d, want %d, %v", c, q, x.Decoded,
					want, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l := ledgertest.Start(t, opts)
	appendAll(t, l, paidCharge("new", 1760000000, 100))
	last++
	if x, err := l.NewExport(export.Query{Table: export.Entries, Format: "csv", AsOf: &last}); err != nil ||
		x.Decoded != 0 {
		t.Errorf("as of a later row the export reports bodies decoded again up to row %d, %v", x.Decoded, err)
	}
}
