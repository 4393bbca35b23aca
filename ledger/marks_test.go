package ledger_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

func TestMarksOutliveARestart(t *testing.T) {
	dir := ledgertest.Dir(t)
	first, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, first)
	if n, err := first.Checkpoint("a"); n != 0 || err != nil {
		t.Errorf("a mark that nobody set is %d, %v", n, err)
	}
	for _, marks := range []map[string]int64{{"a": 7, "b": -1}, {"a": 1790000000}} {
		if err := first.SetCheckpoints(t.Context(), marks); err != nil {
			t.Fatal(err)
		}
	}
	e := succeeded("evt_1", "pi_1")
	e.Account = "acct_b"
	mustAppend(t, first, e)
	e = succeeded("evt_2", "pi_2")
	e.Account = "acct_a"
	mustAppend(t, first, e)
	foreign := succeeded("evt_3", "pi_3")
	foreign.Account, foreign.Livemode, foreign.Quarantine = "acct_c", true, ledger.WrongMode
	mustAppend(t, first, foreign)
	stop()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	for name, want := range map[string]int64{"a": 1790000000, "b": -1, "c": 0} {
		if n, err := l.Checkpoint(name); n != want || err != nil {
			t.Errorf("mark %s is %d, %v; want %d", name, n, err, want)
		}
	}
	if accounts, err := l.Accounts(); err != nil || !slices.Equal(accounts, []ledger.Account{{ID: "acct_a"}, {ID: "acct_b"}}) {
		t.Errorf("the accounts are %v, %v", accounts, err)
	}
}

// What was fetched did not come by itself: it does not end a silence.
func TestTheLastEventCameByItself(t *testing.T) {
	dir := ledgertest.Dir(t)
	first, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, first)
	if _, ok := first.LastEvent(); ok {
		t.Error("an empty ledger has a last event")
	}
	delivered := succeeded("evt_1", "pi_1")
	mustAppend(t, first, delivered)
	for i, source := range []ledger.Source{ledger.Reconcile, ledger.Fetch} {
		e := succeeded([]string{"evt_2", "fetch_pi_1_1790000000"}[i], "pi_1")
		e.Source, e.Received = source, delivered.Received.Add(24*time.Hour)
		mustAppend(t, first, e)
	}
	is := func(l *ledger.Ledger, when string) {
		t.Helper()
		if at, ok := l.LastEvent(); !ok || !at.Equal(delivered.Received) {
			t.Errorf("%s the last event came at %v (%v), want %v", when, at, ok, delivered.Received)
		}
	}
	is(first, "at first")
	stop()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	is(ledgertest.Start(t, ledger.Options{Dir: dir}), "after a start")
}

// Whoever asks whether an id is known does not count as a delivery.
func TestWhatIsKnownOfIDs(t *testing.T) {
	l := ledgertest.Open(t, false)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	mustAppend(t, l, held("evt_2"))
	for range 3 {
		got, err := l.Lookup([]string{"evt_2", "evt_3", "evt_1"})
		if want := []ledger.IDStatus{ledger.IDQuarantined, ledger.IDUnknown, ledger.IDKnown}; err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	if e, err := l.Event("evt_1"); err != nil || e.Repeats != 0 {
		t.Errorf("it has %d repeats, %v", e.Repeats, err)
	}
	if ids, until, err := l.QuarantinedFor(ledger.Undecodable, 0, 10); err != nil || !slices.Equal(ids, []string{"evt_2"}) || until != 2 {
		t.Errorf("held: %v up to %d, %v", ids, until, err)
	}
	if ids, until, err := l.QuarantinedFor(ledger.Undecodable, 2, 10); err != nil || ids != nil || until != 2 {
		t.Errorf("held behind it: %v up to %d, %v", ids, until, err)
	}
	if ids, _, err := l.QuarantinedFor(ledger.ThinEvent, 0, 10); err != nil || ids != nil {
		t.Errorf("held thin events: %v, %v", ids, err)
	}
}

// What an event would tell is what it tells once it is booked, and asking writes nothing.
func TestWhatAnEventWouldTell(t *testing.T) {
	l := ledgertest.Open(t, false)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	other := succeeded("evt_2", "pi_1")
	other.Facts.Intents[0].Description = "changed without an event"
	other.Created += 10
	fetched := succeeded("fetch_pi_1_1790000000", "pi_1")
	fetched.Source = ledger.Fetch
	about := succeeded("evt_5", "pi_1")
	about.Facts = ledger.Facts{}
	for _, c := range []struct {
		what string
		e    *ledger.Event
		want bool
	}{
		{"what is known", succeeded("evt_3", "pi_1"), false}, {"another payment", succeeded("evt_4", "pi_4"), true}, {"a change", other, true},
		{"what is known, fetched", fetched, false}, {"nothing", about, false},
	} {
		if got, err := l.WouldChange(c.e); err != nil || got != c.want {
			t.Errorf("%s tells: %v, %v", c.what, got, err)
		}
	}
	if stats, err := l.Stats(); err != nil || stats.Events != 1 {
		t.Errorf("asking wrote %d events, %v", stats.Events, err)
	}
	if res, err := l.Append(t.Context(), other); err != nil || res.Status != ledger.Applied {
		t.Errorf("booked as %+v, %v", res, err)
	}
	foreign := succeeded("evt_6", "pi_6")
	foreign.Livemode = true
	if _, err := l.WouldChange(foreign); err == nil {
		t.Error("an event of the other mode was asked of")
	}
}

// The kinds of doubts, each with what is not one yet.
func TestDoubts(t *testing.T) {
	l := ledgertest.Open(t, false)
	now := time.Unix(1790000000, 0)
	put := func(id, status string, age time.Duration) {
		e := succeeded("evt_"+id, "pi_"+id)
		e.Created = now.Add(-age).Unix()
		in := &e.Facts.Intents[0]
		in.Status, in.Created, in.AmountReceived = status, e.Created, 0
		mustAppend(t, l, e)
	}
	put("fresh", "processing", 23*time.Hour)
	put("stuck", "processing", 25*time.Hour)
	put("holds", "requires_capture", 6*24*time.Hour)
	put("held", "requires_capture", 8*24*time.Hour)
	put("ancient", "processing", 100*24*time.Hour)
	for id, status := range map[string]string{"evt_a": "succeeded", "evt_b": "canceled"} {
		e := succeeded(id, "pi_both")
		e.Facts.Intents[0].Status, e.Facts.Intents[0].Created = status, now.Unix()-100
		mustAppend(t, l, e)
	}
	charge := func(id string, refunded int64, refunds ...ledger.Refund) {
		e := succeeded("evt_"+id, "pi_"+id)
		e.Facts = ledger.Facts{PaymentIntent: "pi_" + id, Charge: "ch_" + id, Refunds: refunds, Charges: []ledger.Charge{{ID: "ch_" + id, Status: "succeeded",
			Currency: "eur", Amount: 1000, AmountCaptured: 1000, AmountRefunded: refunded, Captured: true, Created: now.Unix() - 100}}}
		mustAppend(t, l, e)
	}
	refund := func(id, charge, status string, amount int64) ledger.Refund {
		return ledger.Refund{ID: id, Charge: charge, Status: status, Currency: "eur", Amount: amount, Created: now.Unix() - 50}
	}
	charge("whole", 300, refund("re_1", "ch_whole", "succeeded", 300))
	charge("untold", 300)
	charge("half", 300, refund("re_2", "ch_half", "succeeded", 100))
	charge("failed", 300, refund("re_3", "ch_failed", "failed", 300))
	charge("late", 100, refund("re_4", "ch_late", "succeeded", 300)) // the charge was read before
	want := map[string]ledger.StaleReason{"pi_stuck": ledger.StaleProcessing, "pi_held": ledger.StaleCapture, "pi_both": ledger.StaleConflict,
		"pi_untold": ledger.StaleRefunds, "pi_half": ledger.StaleRefunds}
	list, err := l.StalePayments(t.Context(), now.Add(-90*24*time.Hour), now, 100)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]ledger.StaleReason{}
	for _, d := range list {
		got[d.Payment] = d.Kind
		if (d.Charge != "") != (d.Kind == ledger.StaleRefunds) {
			t.Errorf("%+v", d)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if list, err := l.StalePayments(t.Context(), now.Add(-90*24*time.Hour), now, 2); err != nil || len(list) != 2 {
		t.Errorf("of at most 2: %v, %v", list, err)
	}
}
