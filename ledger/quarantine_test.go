package ledger_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// allRows returns every row of a ledger, oldest first.
func allRows(t *testing.T, l *ledger.Ledger) (rows []*ledger.EventRecord) {
	t.Helper()
	for below := uint64(0); ; {
		page, err := l.Events(t.Context(), ledger.EventQuery{Limit: 3, Below: below})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Data {
			rows, below = append([]*ledger.EventRecord{e}, rows...), e.Sequence
		}
		if page.Next == "" {
			return rows
		}
	}
}

// withLedger opens a ledger, calls do with it and closes it.
func withLedger(t *testing.T, opts ledger.Options, do func(l *ledger.Ledger)) {
	t.Helper()
	l, err := ledger.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	do(l)
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// However a quarantined event is posted, it gets a new row. The old row does not change.
func TestReleasedEventGetsANewRow(t *testing.T) {
	const body = `{"id":"evt_1"}`
	for _, c := range []struct {
		by      string
		release func(t *testing.T, opts ledger.Options)
		body    string // of the posted event
		shared  bool   // the body is stored only with the old row
	}{
		{"release", func(t *testing.T, opts ledger.Options) {
			withLedger(t, opts, func(l *ledger.Ledger) {
				if res, err := l.Release(t.Context(), "evt_1"); err != nil || res.Sequence != 3 {
					t.Errorf("got %+v, %v", res, err)
				}
				// nothing is left to release
				if res, err := l.Release(t.Context(), "evt_1"); err != nil || res.Sequence != 3 {
					t.Errorf("a second release returned %+v, %v", res, err)
				}
			})
		}, body, true},
		{"another decoder", func(t *testing.T, opts ledger.Options) {
			opts.Decoder = "2"
			for _, want := range []int{1, 0} {
				withLedger(t, opts, func(l *ledger.Ledger) {
					if sum, err := l.ReleaseOnce(t.Context()); err != nil || sum.Released != want {
						t.Errorf("got %+v, %v", sum, err)
					}
				})
			}
		}, body, true},
		{"a delivery of the same body", func(t *testing.T, opts ledger.Options) {
			withLedger(t, opts, func(l *ledger.Ledger) { mustAppend(t, l, succeeded("evt_1", "pi_evt_1")) })
		}, body, true},
		{"a delivery of another body", func(t *testing.T, opts ledger.Options) {
			withLedger(t, opts, func(l *ledger.Ledger) {
				e := succeeded("evt_1", "pi_evt_1")
				e.Raw = []byte(`{"id":"evt_1","repaired":true}`)
				mustAppend(t, l, e)
			})
		}, `{"id":"evt_1","repaired":true}`, false},
		{"a rebuild", func(t *testing.T, opts ledger.Options) {
			if done, err := ledger.Rebuild(t.Context(), opts, true); err != nil || done.Released != 1 ||
				done.Events != 3 {
				t.Errorf("got %+v, %v", done, err)
			}
		}, body, true},
	} {
		t.Run(c.by, func(t *testing.T) {
			opts := ledger.Options{Dir: ledgertest.Dir(t), Decode: decodeUsable, Decoder: "1"}
			path := filepath.Join(opts.Dir, "ledger.db")
			withLedger(t, opts, func(l *ledger.Ledger) {
				mustAppend(t, l, quarantined("evt_1"))
				mustAppend(t, l, succeeded("evt_2", "pi_evt_2"))
				mustAppend(t, l, quarantined("evt_1"))
			})
			before := contents(t, path)
			c.release(t, opts)
			after := contents(t, path)
			for _, bucket := range []string{"events", "bodies"} {
				if !strings.HasPrefix(after[bucket], before[bucket]) || strings.Count(after[bucket], "\n") != 3 {
					t.Errorf("the bucket %s held\n%s\nand holds\n%s", bucket, before[bucket], after[bucket])
				}
			}
			if shared := strings.Contains(after["bodies"],
				fmt.Sprintf("%q %q", seq(3), ledger.Seal("bodies", string(seq(3)), "\x02\x01"))); shared != c.shared {
				t.Errorf("the bodies are\n%s", after["bodies"])
			}
			for range 2 { // before and after a rebuild
				withLedger(t, opts, func(l *ledger.Ledger) {
					rows := allRows(t, l)
					if len(rows) != 3 {
						t.Fatalf("%d rows are listed, want 3", len(rows))
					}
					old, made := rows[0], rows[2]
					if old.ID != "evt_1" || old.Outcome != ledger.Quarantined || old.Reason != "undecodable" ||
						old.Repeats != 1 || old.Quarantine != nil ||
						old.ReleasedAs != 3 || old.ReleasedFrom != 0 || old.PaymentID != "" {
						t.Errorf("the old row is %+v", old)
					}
					if made.ID != "evt_1" || made.Outcome != ledger.Applied || made.Reason != "" ||
						made.Quarantine != nil || made.ReleasedFrom != 1 ||
						made.ReleasedAs != 0 || made.PaymentID != "pi_evt_1" {
						t.Errorf("the new row is %+v", made)
					}
					if got, err := l.Body("evt_1"); err != nil || string(got) != c.body {
						t.Errorf("the body is %q, %v", got, err)
					}
					if e, err := l.Event("evt_1"); err != nil || e.Sequence != 3 {
						t.Errorf("the event is %+v, %v", e, err)
					}
					if s := mustStats(t, l); s.Events != 2 || s.Outcomes[ledger.Applied] != 2 ||
						s.Outcomes[ledger.Quarantined]+s.Quarantined[ledger.Undecodable] != 0 {
						t.Errorf("the statistics are %+v", s)
					}
					if list, err := l.Events(t.Context(),
						ledger.EventQuery{Outcome: ledger.Quarantined, Limit: 10}); err != nil || len(list.Data) != 0 {
						t.Errorf("the events in quarantine are %v, %v", list, err)
					}
					if p := payment(t, l, "pi_evt_1"); p.Events != 1 || *p.AmountReceived != 4200 {
						t.Errorf("the payment is %+v", p)
					}
				})
				if report := mustVerify(t, path); report.Events != 3 || report.Released != 1 ||
					report.Quarantined != 0 {
					t.Errorf("the report is %+v", report)
				}
				if _, err := ledger.Rebuild(t.Context(), opts, false); err != nil {
					t.Fatal(err)
				}
			}
			requireSame(t, contents(t, path), after, "meta")
		})
	}
}

// Within one batch an event is quarantined, posted and repeated.
func TestQuarantineWithinABatch(t *testing.T) {
	opts := ledger.Options{Dir: ledgertest.Dir(t), Decode: decodeUsable}
	l, err := ledger.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	var results []<-chan ledger.Result
	for _, e := range []*ledger.Event{quarantined("evt_1"), quarantined("evt_1"), succeeded("evt_1", "pi_evt_1"),
		quarantined("evt_1"), succeeded("evt_1", "pi_evt_1")} {
		before := l.Queued()
		one := make(chan ledger.Result, 1)
		go func() {
			res, err := l.Append(t.Context(), e)
			if err != nil {
				t.Error(err)
			}
			one <- res
		}()
		for l.Queued() == before {
			time.Sleep(time.Millisecond)
		}
		results = append(results, one)
	}
	stop := ledgertest.Run(t, l)
	for i, want := range []ledger.Result{
		{Status: ledger.Quarantined, Reason: ledger.Undecodable, Sequence: 1},
		{Status: ledger.Quarantined, Reason: ledger.Undecodable, Sequence: 1, Repeat: true},
		{Status: ledger.Applied, PaymentID: "pi_evt_1", Sequence: 2, Repeat: true},
		{Status: ledger.AlreadyProcessed, PaymentID: "pi_evt_1", Sequence: 2, Repeat: true},
		{Status: ledger.AlreadyProcessed, PaymentID: "pi_evt_1", Sequence: 2, Repeat: true},
	} {
		if got := <-results[i]; got != want {
			t.Errorf("delivery %d returned %+v, want %+v", i+1, got, want)
		}
	}
	if rows := allRows(t, l); len(rows) != 2 || rows[0].Repeats != 1 || rows[1].Repeats != 2 {
		t.Errorf("the rows are %+v", rows)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	mustVerify(t, ledger.Path(opts.Dir))
}

// Verify checks that a released row and the row that it refers to belong together.
func TestVerifyChecksReleasedRows(t *testing.T) {
	id := func(seq uint64) []byte { return ledger.Seal("ids", "tevt_1", string(binary.AppendUvarint(nil, seq))) }
	for what, damage := range map[string]func(tx *bolt.Tx) error{
		"the id finds the old row": func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("ids")).Put([]byte("tevt_1"), id(1))
		},
		"the id finds another row": func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("ids")).Put([]byte("tevt_1"), id(2))
		},
		"the old row is in quarantine": func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("quarantine")).Put(seq(1), ledger.Seal("quarantine", string(seq(1)), "\x00\x00"))
		},
		"the shared body is missing": func(tx *bolt.Tx) error { return tx.Bucket([]byte("bodies")).Delete(seq(1)) },
		"the new row has no body":    func(tx *bolt.Tx) error { return tx.Bucket([]byte("bodies")).Delete(seq(3)) },
		"it has the body of another row": func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("bodies")).Put(seq(3), ledger.Seal("bodies", string(seq(3)), "\x02\x02"))
		},
		"an unknown event waits for its snapshot": func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("meta")).Put([]byte("awaits/tevt_9/12345678"),
				ledger.Seal("meta", "awaits/tevt_9/12345678", ""))
		},
		"a waiting event is missing": func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("meta")).Delete(append([]byte("awaits/tevt_8/"), seq(4)...))
		},
		"the snapshot event exists": func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("ids")).Put([]byte("tevt_8"), ledger.Seal("ids", "tevt_8", "\x02"))
		},
		"an unknown state": func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("quarantine")).Put(seq(4), ledger.Seal("quarantine", string(seq(4)), "\x09\x00"))
		},
		"a wrong state": func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("quarantine")).Put(seq(4),
				ledger.Seal("quarantine", string(seq(4)), "\x02\x05evt_8"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			opts := ledger.Options{Dir: ledgertest.Dir(t), Decode: decodeUsable}
			withLedger(t, opts, func(l *ledger.Ledger) {
				mustAppend(t, l, quarantined("evt_1"))
				mustAppend(t, l, succeeded("evt_2", "pi_2"))
				mustAppend(t, l, succeeded("evt_1", "pi_evt_1"))
				mustAppend(t, l, thinEvent("evt_4", "evt_8"))
			})
			mustVerify(t, ledger.Path(opts.Dir))
			edit(t, opts.Dir, damage)
			if report, err := check.Verify(t.Context(), ledger.Path(opts.Dir)); err == nil || report.Sound {
				t.Errorf("Verify reports a sound ledger: %+v", report)
			}
		})
	}
}

// If one row of a released event is damaged, a rebuild creates it again from its body.
func TestRebuildRestoresReleasedRows(t *testing.T) {
	for _, c := range []struct {
		damaged byte
		raw     string // of the usable form
	}{{1, `{"id":"evt_1"}`}, {3, `{"id":"evt_1"}`}, {1, `{"id":"evt_1","repaired":true}`},
		{3, `{"id":"evt_1","repaired":true}`}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			opts := ledger.Options{Dir: ledgertest.Dir(t), Decode: decodeUsable}
			withLedger(t, opts, func(l *ledger.Ledger) {
				mustAppend(t, l, quarantined("evt_1"))
				mustAppend(t, l, succeeded("evt_2", "pi_2"))
				e := succeeded("evt_1", "pi_evt_1")
				e.Raw = []byte(c.raw)
				mustAppend(t, l, e)
			})
			edit(t, opts.Dir, func(tx *bolt.Tx) error {
				return tx.Bucket([]byte("events")).Put(seq(c.damaged), []byte("noise"))
			})
			if done, err := ledger.Rebuild(t.Context(), opts, false); err != nil || done.Recreated != 1 ||
				done.Events != 3 {
				t.Fatalf("got %+v, %v", done, err)
			}
			withLedger(t, opts, func(l *ledger.Ledger) {
				rows := allRows(t, l)
				if len(rows) != 3 || rows[0].Outcome != ledger.Quarantined || rows[0].ReleasedAs != 3 ||
					rows[2].ReleasedFrom != 1 {
					t.Errorf("the rows are %+v", rows)
				}
				if p := payment(t, l, "pi_evt_1"); p.Events != 1 || *p.AmountReceived != 4200 {
					t.Errorf("the payment is %+v", p)
				}
				if body, err := l.Body("evt_1"); err != nil || string(body) != c.raw {
					t.Errorf("the body is %s, %v", body, err)
				}
			})
		})
	}
}

// thinEvent returns a thin event that names its snapshot event.
func thinEvent(id, snapshot string) *ledger.Event {
	return &ledger.Event{ID: id, Type: "v1.payment_intent.succeeded", Source: ledger.Webhook,
		Received:   time.Unix(1760000006, 0),
		Quarantine: ledger.ThinEvent, Snapshot: snapshot, Raw: []byte(`{"id":"` + id + `"}`)}
}

// quarantineStates returns the state of each event in quarantine, and compares them with the
// statistics.
func quarantineStates(t *testing.T, l *ledger.Ledger) string {
	t.Helper()
	list, err := l.Events(t.Context(), ledger.EventQuery{Outcome: ledger.Quarantined, Limit: 100})
	if err != nil || list.Next != "" {
		t.Fatal(list.Next, err)
	}
	counted := map[ledger.Quarantine]uint64{}
	var text strings.Builder
	for _, e := range list.Data {
		counted[*e.Quarantine]++
		fmt.Fprintf(&text, "%s %s\n", e.ID, e.Quarantine.State)
	}
	for reason, of := range mustStats(t, l).States {
		for state, n := range of {
			if counted[ledger.Quarantine{Reason: reason, State: state}] != n {
				t.Errorf("the statistics count %d events as %s, %s, want %d", n, reason, state,
					counted[ledger.Quarantine{Reason: reason, State: state}])
			}
		}
	}
	return text.String()
}

// The state of a quarantined event survives a restart, and a rebuild with and without decoding.
func TestQuarantineStates(t *testing.T) {
	decode := func(raw []byte) *ledger.Event {
		id := strings.Split(string(raw), `"`)[3]
		switch {
		case strings.HasPrefix(id, "ping"):
			e := thinEvent(id, "")
			e.Expected = true
			return e
		case strings.HasPrefix(id, "thin"):
			return thinEvent(id, "evt"+strings.TrimPrefix(id, "thin"))
		case strings.HasPrefix(id, "q"):
			return decodeUseless(raw)
		}
		return decodeUsable(raw)
	}
	opts := ledger.Options{Dir: ledgertest.Dir(t), Decode: decode}
	ping := decode([]byte(`{"id":"ping_1"}`))
	want := `q_2 attention
q_1 dismissed
ping_1 expected
thin_4 dismissed
thin_3 attention
thin_2 expected
thin_1 expected
`
	withLedger(t, opts, func(l *ledger.Ledger) {
		mustAppend(t, l, succeeded("evt_1", "pi_evt_1"))
		for _, e := range []*ledger.Event{thinEvent("thin_1", "evt_1"), thinEvent("thin_2", "evt_2"),
			thinEvent("thin_3", "evt_3"), thinEvent("thin_4", "evt_4"), ping, quarantined("q_1"), quarantined("q_2")} {
			mustAppend(t, l, e)
			mustAppend(t, l, e)
		}
		for _, id := range []string{"thin_4", "q_1", "q_1"} {
			if err := l.Dismiss(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		if ids, _, err := l.QuarantinedFor(ledger.ThinEvent, 0, 10); err != nil ||
			fmt.Sprint(ids) != "[thin_2 thin_3]" {
			t.Errorf("the thin events that need attention are %v, %v", ids, err)
		}
		mustAppend(t, l, succeeded("evt_4", "pi_evt_4")) // a dismissed event stays dismissed
		mustAppend(t, l, succeeded("evt_2", "pi_evt_2"))
		if got := quarantineStates(t, l); got != want {
			t.Errorf("the states are\n%s", got)
		}
		for id, want := range map[string]error{"evt_1": ledger.ErrNotQuarantined, "evt_9": ledger.ErrNotFound} {
			if err := l.Dismiss(t.Context(), id); !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", id, err, want)
			}
		}
	})
	before := contents(t, ledger.Path(opts.Dir))
	for _, again := range []bool{false, true} {
		if _, err := ledger.Rebuild(t.Context(), opts, again); err != nil {
			t.Fatal(err)
		}
		requireSame(t, contents(t, ledger.Path(opts.Dir)), before)
		withLedger(t, opts, func(l *ledger.Ledger) {
			if got := quarantineStates(t, l); got != want {
				t.Errorf("after a rebuild with decode %v the states are\n%s", again, got)
			}
		})
	}
	withLedger(t, opts, func(l *ledger.Ledger) {
		mustAppend(t, l, succeeded("evt_3", "pi_evt_3"))
		if got, want := quarantineStates(t, l),
			strings.Replace(want, "thin_3 attention", "thin_3 expected", 1); got != want {
			t.Errorf("after the last snapshot event the states are\n%s", got)
		}
		if err := l.Check(); err != nil {
			t.Error(err)
		}
	})
}

// A release updates the state of an event that stays in quarantine, if the decoder now expects it
// there or names another snapshot.
func TestReleaseUpdatesTheQuarantineState(t *testing.T) {
	expected, snapshot := false, ""
	l := ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), Decode: func(raw []byte) *ledger.Event {
		e := decodeUseless(raw)
		e.Expected, e.Snapshot = expected, snapshot
		return e
	}})
	for _, id := range []string{"evt_1", "evt_2"} {
		mustAppend(t, l, quarantined(id))
	}
	mustAppend(t, l, succeeded("evt_3", "pi_evt_3"))
	if err := l.Dismiss(t.Context(), "evt_2"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		expected bool
		snapshot string
		want     string
	}{{false, "", "attention"}, {true, "", "expected"}, {false, "evt_9", "attention"}, {false, "evt_3", "expected"}} {
		expected, snapshot = c.expected, c.snapshot
		if sum, err := l.ReleaseAll(t.Context()); err != nil || sum.Left != 2 {
			t.Fatal(sum, err)
		}
		if got := quarantineStates(t, l); got != "evt_2 dismissed\nevt_1 "+c.want+"\n" {
			t.Errorf("%+v: the states are\n%s", c, got)
		}
		if err := l.Check(); err != nil {
			t.Error(err)
		}
	}
}

// An event that was only decoded again does not count for the time of the last delivery.
func TestReleaseIsNoDelivery(t *testing.T) {
	opts := ledger.Options{Dir: ledgertest.Dir(t), Decode: decodeUsable}
	withLedger(t, opts, func(l *ledger.Ledger) {
		early := quarantined("evt_1")
		early.Source, early.Received = ledger.Webhook, time.Unix(1750000000, 0)
		mustAppend(t, l, early)
		mustAppend(t, l, succeeded("evt_2", "pi_evt_2"))
		if res, err := l.Release(t.Context(), "evt_1"); err != nil || res.Status != ledger.Applied {
			t.Fatal(res, err)
		}
		if at, ok := l.LastEvent(); !ok || at.Unix() != 1760000006 {
			t.Errorf("the last event is of %v", at)
		}
	})
	for range 2 {
		withLedger(t, opts, func(l *ledger.Ledger) {
			if at, ok := l.LastEvent(); !ok || at.Unix() != 1760000006 {
				t.Errorf("the last event is of %v", at)
			}
		})
	}
}
