package ledger_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// Only deliveries count for the time of the last event, because events that were fetched do not
// show that the webhook endpoint works.
func TestLastEventIgnoresFetchedEvents(t *testing.T) {
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
	requireLastEvent := func(l *ledger.Ledger, when string) {
		t.Helper()
		if at, ok := l.LastEvent(); !ok || !at.Equal(delivered.Received) {
			t.Errorf("%s the last event is of %v (%v), want %v", when, at, ok, delivered.Received)
		}
	}
	requireLastEvent(first, "at first")
	stop()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	requireLastEvent(ledgertest.Start(t, ledger.Options{Dir: dir}), "after a start")
}

// Looking up an id does not count as a delivery.
func TestLookup(t *testing.T) {
	l := ledgertest.Open(t, false)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	mustAppend(t, l, quarantined("evt_2"))
	for range 3 {
		got, err := l.Lookup([]string{"evt_2", "evt_3", "evt_1"})
		if want := []ledger.IDStatus{ledger.IDQuarantined, ledger.IDUnknown, ledger.IDKnown}; err != nil ||
			!reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	if e, err := l.Event("evt_1"); err != nil || e.Repeats != 0 {
		t.Errorf("the event has %d repeats, %v", e.Repeats, err)
	}
	if ids, until, err := l.QuarantinedFor(ledger.Undecodable, 0, 10); err != nil ||
		!slices.Equal(ids, []string{"evt_2"}) || until != 2 {
		t.Errorf("the events in quarantine are %v up to row %d, %v", ids, until, err)
	}
	if ids, until, err := l.QuarantinedFor(ledger.Undecodable, 2, 10); err != nil || ids != nil || until != 2 {
		t.Errorf("the events in quarantine after row 2 are %v up to row %d, %v", ids, until, err)
	}
	if ids, _, err := l.QuarantinedFor(ledger.ThinEvent, 0, 10); err != nil || ids != nil {
		t.Errorf("the thin events in quarantine are %v, %v", ids, err)
	}
}

// WouldChange reports whether an event would change its payment, and writes nothing.
func TestWouldChange(t *testing.T) {
	l := ledgertest.Open(t, false)
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	other := succeeded("evt_2", "pi_1")
	other.Facts.Intents[0].Description = "changed without an event"
	other.Created += 10
	fetched := succeeded("fetch_pi_1_1790000000", "pi_1")
	fetched.Source = ledger.Fetch
	empty := succeeded("evt_5", "pi_1")
	empty.Facts = ledger.Facts{}
	for _, c := range []struct {
		what string
		e    *ledger.Event
		want bool
	}{
		{"the known state", succeeded("evt_3", "pi_1"), false}, {"another payment", succeeded("evt_4", "pi_4"), true},
		{"a change", other, true},
		{"the known state, fetched", fetched, false}, {"no facts", empty, false},
	} {
		if got, err := l.WouldChange(c.e); err != nil || got != c.want {
			t.Errorf("%s: got %v, %v", c.what, got, err)
		}
	}
	if stats, err := l.Stats(); err != nil || stats.Events != 1 {
		t.Errorf("after WouldChange the ledger has %d events, %v", stats.Events, err)
	}
	if res, err := l.Append(t.Context(), other); err != nil || res.Status != ledger.Applied {
		t.Errorf("appending the change returned %+v, %v", res, err)
	}
	otherMode := succeeded("evt_6", "pi_6")
	otherMode.Livemode = true
	if _, err := l.WouldChange(otherMode); err == nil {
		t.Error("WouldChange accepted an event of the other mode")
	}
}
