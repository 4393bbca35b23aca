package ledger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/export"
	"tillhook/ledger/ledgertest"
)

// pastExport is an export that was made as of a sequence, and must be the same when it is made
// again.
type pastExport struct {
	query    export.Query
	text     string
	sequence uint64
}

func (v *pastExport) asOf(t testing.TB, l *ledger.Ledger) string {
	t.Helper()
	q := v.query
	q.AsOf = &v.sequence
	text, _ := entriesText(t, l, q)
	return text
}

// signedLines counts equal lines of exports, ignoring the column late. A removed line counts as -1,
// and its amounts have the opposite sign.
func signedLines(texts ...string) map[string]int {
	sums := map[string]int{}
	for _, text := range texts {
		for line := range strings.Lines(text) {
			var x map[string]any
			d := json.NewDecoder(strings.NewReader(line))
			d.UseNumber()
			if err := d.Decode(&x); err != nil {
				panic(err)
			}
			sign := 1
			if x["late"] == "removed" {
				sign = -1
				for name, v := range x {
					if n, ok := v.(json.Number); ok {
						x[name] = json.Number(opposite(string(n)))
					}
					if s, ok := v.(string); ok && strings.HasSuffix(name, "_decimal") {
						x[name] = opposite(s)
					}
				}
			}
			delete(x, "late")
			key, err := json.Marshal(x)
			if err != nil {
				panic(err)
			}
			if sums[string(key)] += sign; sums[string(key)] == 0 {
				delete(sums, string(key))
			}
		}
	}
	return sums
}

// opposite returns a number with the opposite sign.
func opposite(n string) string {
	if rest, ok := strings.CutPrefix(n, "-"); ok {
		return rest
	}
	if strings.Trim(n, "0.") == "" {
		return n
	}
	return "-" + n
}

// exportSimulation is a ledger that receives events, is restarted, deletes bodies, releases events
// and is rebuilt.
type exportSimulation struct {
	*rand.Rand
	dir     string
	l       *ledger.Ledger
	stop    func()
	pool    []*ledger.Event
	arrived int                      // number of events of the pool that were appended
	usable  map[string]*ledger.Event // the usable form of each event, by its body
}

func newExportSimulation(seed uint64, n int, dir string) *exportSimulation {
	l := &exportSimulation{Rand: rand.New(rand.NewPCG(seed, 23)), dir: dir, usable: map[string]*ledger.Event{}}
	for range n {
		l.pool = append(l.pool, l.randomEvent(len(l.pool)))
	}
	for _, e := range l.pool {
		e.Raw = []byte(`{"id":"` + e.ID + `"}`)
		l.usable[string(e.Raw)] = e
	}
	return l
}

func (l *exportSimulation) options() ledger.Options {
	return ledger.Options{Dir: l.dir, Decode: func(raw []byte) *ledger.Event {
		e := *l.usable[string(raw)]
		e.Raw = raw
		return &e
	}}
}

func (l *exportSimulation) open(t *testing.T) {
	t.Helper()
	var err error
	if l.l, err = ledger.Open(l.options()); err != nil {
		t.Fatal(err)
	}
	l.l.LimitBuffer(1 + l.IntN(60))
	l.stop = ledgertest.Run(t, l.l)
}

func (l *exportSimulation) close(t *testing.T) {
	t.Helper()
	l.stop()
	if err := l.l.Check(); err != nil {
		t.Error(err)
	}
	if err := l.l.Close(); err != nil {
		t.Fatal(err)
	}
}

// step appends some events, of which some cannot be used yet, or does something else with the
// ledger.
func (l *exportSimulation) step(t *testing.T) {
	t.Helper()
	switch l.IntN(12) {
	case 0:
		l.close(t)
		l.open(t)
	case 1:
		if err := l.l.Expire(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
	case 2, 3:
		if _, err := l.l.ReleaseAll(t.Context()); err != nil {
			t.Fatal(err)
		}
	case 4:
		l.close(t)
		if _, err := ledger.Rebuild(context.Background(), l.options(), false); err != nil {
			t.Fatal(err)
		}
		l.open(t)
	default:
		for range 1 + l.IntN(8) {
			l.append(t)
		}
	}
}

// append appends the next event of the pool, or repeats one. Some events are quarantined.
func (l *exportSimulation) append(t *testing.T) {
	t.Helper()
	e := pick(l.Rand, l.pool[:max(l.arrived, 1)]...)
	if l.arrived < len(l.pool) && l.IntN(4) > 0 {
		e = l.pool[l.arrived]
		l.arrived++
	}
	if l.IntN(6) == 0 {
		quarantined := *e
		quarantined.Quarantine, quarantined.Facts = ledger.Undecodable, ledger.Facts{}
		e = &quarantined
	}
	mustAppend(t, l.l, e)
}

// An export as of a sequence is byte for byte the same as when it was made, whatever happened since
// then: charges that were later linked to a PaymentIntent, or to a lesser one, releases from
// quarantine, restarts, deleted bodies and rebuilds. The export together with the changes since
// then is the present export.
func TestExportAsOfIsReproducible(t *testing.T) {
	t.Parallel()
	runs, steps := 3, 30
	if *long {
		runs, steps = 30, 100
	}
	for seed := range runs {
		later := 0 // thousands of events that are appended at the end
		if seed == 0 {
			later = 1
		}
		l := newExportSimulation(uint64(seed), 200+1000*later, t.TempDir())
		l.open(t)
		var views []pastExport
		for range steps {
			v := pastExport{query: export.Query{Format: "jsonl", Metadata: []string{"order"}}}
			if l.IntN(2) == 0 {
				from, to := midnight-l.Int64N(4), midnight+l.Int64N(4)
				v.query.From, v.query.To = &from, &to
			}
			v.text, v.sequence = entriesText(t, l.l, v.query)
			views = append(views, v)
			l.step(t)
		}
		for before := l.arrived; l.arrived < before+1000*later; {
			l.append(t)
		}
		for i, v := range views {
			if got := v.asOf(t, l.l); got != v.text {
				t.Fatalf("run %d: the export as of %d is\n%s\nand was\n%s", seed, v.sequence, got, v.text)
			}
			if i%3 != 0 {
				continue
			}
			q := v.query
			present, _ := entriesText(t, l.l, q)
			q.Since = &v.sequence
			changes, _ := entriesText(t, l.l, q)
			if got, want := asJSON(t, signedLines(v.text, changes)), asJSON(t, signedLines(present)); got != want {
				t.Fatalf("run %d: the export as of %d\n%s\nand the changes since\n%s\nadd up to\n%s\nbut the present export is\n%s", seed, v.sequence, v.text, changes, got, present)
			}
		}
		l.close(t)
	}
}

// randomEvent returns an event about one of a few charges, which several PaymentIntents or none
// name.
func (l *exportSimulation) randomEvent(n int) *ledger.Event {
	// groups of 40 events share ids
	name := func(prefix string, of int) string { return fmt.Sprintf("%s_%d_%d", prefix, n/40, l.IntN(of)) }
	charge := name(pick(l.Rand, "ch", "py"), 4)
	e := about(fmt.Sprintf("evt_shared_%d", n), "charge.updated", midnight+l.Int64N(6), ledger.Facts{Charge: charge})
	e.Source, e.Received = ledger.Webhook, time.Unix(1760000100, 0)
	switch l.IntN(4) {
	case 0:
		e.Facts.Disputes = []ledger.Dispute{{ID: name("dp", 3), Charge: charge,
			Status: pick(l.Rand, "needs_response", "lost", "won"), Currency: "usd",
			Amount: 700, Created: midnight, Transactions: []ledger.Transaction{{ID: name("txn", 4),
				Amount: pick[int64](l.Rand, -700, -200, 700), Currency: "usd",
				Created: midnight + l.Int64N(3)}}}}
		if l.IntN(2) == 0 {
			e.Facts.PaymentIntent = name("pi", 4)
		}
		e.Account = pick(l.Rand, "", "", "acct_1", "acct_2")
	case 1:
		e.Facts.PaymentIntent = name("pi", 4)
		e.Facts.Intents = []ledger.Intent{{ID: e.Facts.PaymentIntent, Status: "succeeded", Currency: "usd", Amount: 700,
			HasAmount: true, AmountReceived: 700, HasReceived: true,
			LatestCharge: charge, Description: pick(l.Rand, "", "one", "other"), Created: midnight,
			Metadata: map[string]string{"order": pick(l.Rand, "1", "2")}}}
	case 2:
		e.Facts.Refunds = []ledger.Refund{{ID: name("re", 6), Charge: charge,
			Status: pick(l.Rand, "succeeded", "pending", "failed"), Currency: "usd",
			Amount: 100, Created: midnight + 1}}
	default:
		e.Facts.Charges = []ledger.Charge{{ID: charge, Status: "succeeded", Currency: "usd", Amount: 700,
			AmountCaptured: 700, Captured: true, Created: midnight,
			AmountRefunded: pick[int64](l.Rand, 0, 100)}}
	}
	return e
}

// An export that is made while events are appended is consistent: made again as of its sequence it
// is the same.
func TestExportDuringAppends(t *testing.T) {
	events := newExportSimulation(29, 200, "").pool
	for n := range 3 { // the same events with other ids
		for _, e := range newExportSimulation(uint64(30+n), 200, "").pool {
			e.ID = fmt.Sprintf("%s_%d", e.ID, n)
			events = append(events, e)
		}
	}
	l := ledgertest.Open(t, false)
	l.LimitBuffer(64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, e := range events {
			mustAppend(t, l, e)
		}
	})
	var views []pastExport
	for i := 0; i < 40 || len(views) == 0 || views[len(views)-1].sequence < uint64(len(events)/2); i++ {
		v := pastExport{query: export.Query{Format: "jsonl"}}
		v.text, v.sequence = entriesText(t, l, v.query)
		if n := len(views); n > 0 && i%3 == 0 { // repeat an earlier export while events are appended
			if got := views[n/2].asOf(t, l); got != views[n/2].text {
				t.Errorf("the export as of %d changed while events were appended", views[n/2].sequence)
			}
		}
		views = append(views, v)
	}
	wg.Wait()
	sequences := map[uint64]bool{}
	for _, v := range views {
		sequences[v.sequence] = true
		if got := v.asOf(t, l); got != v.text {
			t.Errorf("the export as of %d is\n%s\nand was\n%s", v.sequence, got, v.text)
		}
	}
	if len(sequences) < 5 {
		t.Errorf("only %d exports have different sequences", len(sequences))
	}
}
