package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// decodeUsable is a decoder that can use every body of the function succeeded.
func decodeUsable(raw []byte) *ledger.Event {
	id := strings.Split(string(raw), `"`)[3]
	return succeeded(id, "pi_"+id)
}

// decodeUseless is a decoder that can use no body.
func decodeUseless(raw []byte) *ledger.Event {
	e := decodeUsable(raw)
	e.Quarantine, e.Facts = ledger.Undecodable, ledger.Facts{}
	return e
}

// quarantined returns an event that goes into quarantine.
func quarantined(id string) *ledger.Event {
	e := succeeded(id, "pi_"+id)
	e.Quarantine, e.Source, e.Received = ledger.Undecodable, ledger.Reconcile, time.Unix(1750000000, 0)
	return e
}

func TestRelease(t *testing.T) {
	other := func(raw []byte) *ledger.Event { e := decodeUsable(raw); e.ID = "evt_other"; return e }
	otherMode := func(raw []byte) *ledger.Event { e := decodeUsable(raw); e.Livemode = true; return e }
	for _, c := range []struct {
		name   string
		decode func([]byte) *ledger.Event
		id     string
		row    uint64         // of the result
		status ledger.Outcome // of the result; empty for an error
		after  ledger.Outcome // of the row
		want   error
		says   string
	}{
		{name: "usable now", decode: decodeUsable, id: "evt_2", row: 3, status: ledger.Applied, after: ledger.Applied},
		{name: "still not usable", decode: decodeUseless, id: "evt_2", row: 2, status: ledger.Quarantined,
			after: ledger.Quarantined},
		{name: "decoded as another event", decode: other, id: "evt_2", after: ledger.Quarantined, says: "evt_other"},
		{name: "decoded as an event of the other mode", decode: otherMode, id: "evt_2", after: ledger.Quarantined,
			says: "live mode"},
		{name: "not in quarantine", decode: decodeUsable, id: "evt_1", row: 1, status: ledger.Applied,
			after: ledger.Applied},
		{name: "an unknown event", decode: decodeUsable, id: "evt_9", want: ledger.ErrNotFound},
		{name: "without a decoder", id: "evt_2", after: ledger.Quarantined, want: ledger.ErrNoDecoder},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), Decode: c.decode})
			mustAppend(t, l, succeeded("evt_1", "pi_evt_1"))
			mustAppend(t, l, quarantined("evt_2"))
			mustAppend(t, l, quarantined("evt_2")) // counted as a repeat
			before, _ := l.Event(c.id)
			res, err := l.Release(t.Context(), c.id)
			switch {
			case c.status != "" && (err != nil || res.Status != c.status || res.Sequence != c.row || !res.Repeat):
				t.Errorf("got %+v, %v, want the outcome %s", res, err, c.status)
			case c.status == "" && (err == nil || c.want != nil && !errors.Is(err, c.want) ||
				!strings.Contains(err.Error(), c.says)):
				t.Errorf("got %+v, %v", res, err)
			}
			if before == nil {
				return
			}
			after, err := l.Event(c.id)
			if err != nil {
				t.Fatal(err)
			}
			if after.Outcome != c.after || after.Sequence == before.Sequence && after.Repeats != before.Repeats ||
				c.row != 0 && after.Sequence != c.row ||
				after.Received != before.Received || after.Source != before.Source || after.Size != before.Size {
				t.Errorf("the row was %+v and is %+v, want the outcome %s", before, after, c.after)
			}
			if c.status == ledger.Applied && (res.PaymentID != "pi_"+c.id ||
				*payment(t, l, res.PaymentID).AmountReceived != 4200) {
				t.Errorf("the result %+v names no payment", res)
			}
			if c.status == ledger.Quarantined && res.Reason != ledger.Undecodable {
				t.Errorf("the result %+v has no reason", res)
			}
			if n := mustStats(t, l).Quarantined[ledger.Undecodable]; n != 1 && after.Outcome == ledger.Quarantined ||
				n != 0 && c.id == "evt_2" && c.status == ledger.Applied {
				t.Errorf("the statistics count %d events in quarantine", n)
			}
			if body, err := l.Body(c.id); err != nil || string(body) != `{"id":"`+c.id+`"}` {
				t.Errorf("the body is %q, %v", body, err)
			}
		})
	}
}

// A released event is known when it is delivered again, and every delivery after the first counts
// as one repeat.
func TestReleasedEventIsKnown(t *testing.T) {
	l := ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), Decode: decodeUsable})
	mustAppend(t, l, quarantined("evt_1"))
	if res, err := l.Release(t.Context(), "evt_1"); err != nil || res.Status != ledger.Applied || res.Sequence != 2 {
		t.Fatalf("got %+v, %v", res, err)
	}
	for _, e := range []*ledger.Event{succeeded("evt_1", "pi_evt_1"), quarantined("evt_1")} {
		if res := mustAppend(t, l, e); res.Status != ledger.AlreadyProcessed || res.PaymentID != "pi_evt_1" ||
			res.Sequence != 2 {
			t.Errorf("a delivery after the release returned %+v", res)
		}
	}
	if rec, err := l.Event("evt_1"); err != nil || rec.Repeats != 2 {
		t.Errorf("the record is %+v, %v", rec, err)
	}
	if p := payment(t, l, "pi_evt_1"); p.Events != 1 || *p.AmountReceived != 4200 {
		t.Errorf("the payment is %+v", p)
	}
}

// ReleaseAll tries each event once, oldest first, and more than one page of them.
func TestReleaseAll(t *testing.T) {
	const n = 250
	var tried []string
	l := ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), Decode: func(raw []byte) *ledger.Event {
		e := decodeUsable(raw)
		tried = append(tried, e.ID)
		if len(tried)%5 == 0 {
			return decodeUseless(raw)
		}
		return e
	}})
	for i := range n {
		mustAppend(t, l, quarantined(fmt.Sprintf("evt_%03d", i)))
	}
	sum, err := l.ReleaseAll(t.Context())
	if err != nil || sum != (ledger.ReleaseResult{Released: n - n/5, Left: n / 5}) {
		t.Errorf("got %+v, %v", sum, err)
	}
	if len(tried) != n || tried[0] != "evt_000" || tried[n-1] != "evt_249" {
		t.Errorf("%d events were tried: %v", len(tried), tried)
	}
	if left := mustStats(t, l).Quarantined[ledger.Undecodable]; left != n/5 {
		t.Errorf("%d events are left in quarantine", left)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.ReleaseAll(done); !errors.Is(err, context.Canceled) {
		t.Errorf("with a canceled context ReleaseAll returned %v", err)
	}
}

// Each decoder tries the events in quarantine once.
func TestReleaseOnce(t *testing.T) {
	dir := ledgertest.Dir(t)
	for i, c := range []struct {
		decoder  string
		decode   func([]byte) *ledger.Event
		canceled bool // the release is canceled
		want     ledger.ReleaseResult
		tries    int64
	}{
		{decoder: "1", decode: decodeUseless, want: ledger.ReleaseResult{Left: 2}, tries: 2},
		{decoder: "1", decode: decodeUseless},
		{decoder: "2", decode: decodeUseless, canceled: true, want: ledger.ReleaseResult{Left: 1}, tries: 1},
		{decoder: "2", decode: decodeUseless, want: ledger.ReleaseResult{Left: 2}, tries: 2},
		{decoder: "2", decode: decodeUsable}, // a decoder that can use more must have another name
		{decoder: "3", decode: decodeUsable, want: ledger.ReleaseResult{Released: 2}, tries: 2},
		{decoder: "3", decode: decodeUsable},
		{decoder: "2", decode: decodeUsable}, // an older decoder: nothing is left to try
	} {
		t.Run(fmt.Sprintf("%d decoder %s", i, c.decoder), func(t *testing.T) {
			var tries atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l := ledgertest.Start(t, ledger.Options{Dir: dir, Decoder: c.decoder,
				Decode: func(raw []byte) *ledger.Event {
					tries.Add(1)
					return c.decode(raw)
				}})
			if i == 0 {
				mustAppend(t, l, quarantined("evt_1"))
				mustAppend(t, l, quarantined("evt_2"))
			}
			if c.canceled { // like a crash
				cancel()
				if sum, err := l.ReleaseOnce(ctx); !errors.Is(err, context.Canceled) ||
					sum != (ledger.ReleaseResult{}) {
					t.Errorf("got %+v, %v", sum, err)
				}
				return
			}
			sum, err := l.ReleaseOnce(ctx)
			if err != nil || sum != c.want || tries.Load() != c.tries {
				t.Errorf("got %+v, %v after %d tries, want %+v after %d", sum, err, tries.Load(), c.want, c.tries)
			}
		})
	}
}

// An event that is delivered while it is being released is posted once, and the release does not
// count as a delivery.
func TestReleaseAfterADeliveryIsNoRepeat(t *testing.T) {
	var l *ledger.Ledger
	l = ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), Decode: func(raw []byte) *ledger.Event {
		mustAppend(t, l, succeeded("evt_1", "pi_evt_1")) // a delivery between the two transactions of the release
		return decodeUsable(raw)
	}})
	mustAppend(t, l, quarantined("evt_1"))
	if res, err := l.Release(t.Context(), "evt_1"); err != nil || res.Sequence != 2 || res.PaymentID != "pi_evt_1" ||
		res.Status != ledger.Applied {
		t.Errorf("the release returned %+v, %v", res, err)
	}
	if p := payment(t, l, "pi_evt_1"); p.Events != 1 {
		t.Errorf("the payment is %+v", p)
	}
	if rec, err := l.Event("evt_1"); err != nil || rec.Repeats != 0 || rec.ReleasedFrom != 1 {
		t.Errorf("the record is %+v, %v; the usable form was delivered once", rec, err)
	}
}

// A damaged event stays in quarantine and does not prevent the release of others.
func TestDamagedEventsStayInQuarantine(t *testing.T) {
	for _, bucket := range []string{"bodies", "events"} {
		t.Run(bucket, func(t *testing.T) {
			dir := ledgertest.Dir(t)
			l, err := ledger.Open(ledger.Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			stop := ledgertest.Run(t, l)
			for i := range 3 {
				mustAppend(t, l, quarantined(fmt.Sprintf("evt_%d", i+1)))
			}
			stop()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			edit(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Put(seq(2), []byte("noise")) })
			l, err = ledger.Open(ledger.Options{Dir: dir, Decode: decodeUsable})
			if err != nil {
				t.Fatal(err)
			}
			stop = ledgertest.Run(t, l)
			sum, err := l.ReleaseAll(t.Context())
			if !errors.Is(err, ledger.ErrCorrupt) || sum != (ledger.ReleaseResult{Released: 2, Left: 1}) {
				t.Errorf("got %+v, %v, want the two other events posted", sum, err)
			}
			stop()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The account of an event can be known from the API call instead of the body. It survives a release
// and a rebuild.
func TestAccountSurvivesDecodingAgain(t *testing.T) {
	opts := ledger.Options{Dir: ledgertest.Dir(t), Decode: decodeUsable}
	l, err := ledger.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	for _, e := range []*ledger.Event{succeeded("evt_1", "pi_evt_1"), quarantined("evt_2")} {
		e.Account = "acct_7"
		mustAppend(t, l, e)
	}
	if res, err := l.Release(t.Context(), "evt_2"); err != nil || res.Status != ledger.Applied {
		t.Errorf("the release returned %+v, %v", res, err)
	}
	requireAccount := func(l *ledger.Ledger, when string) {
		t.Helper()
		for _, id := range []string{"evt_1", "evt_2"} {
			e, err := l.Event(id)
			if err != nil || e.Account != "acct_7" {
				t.Errorf("%s %s is of the account %q, %v", when, id, e.Account, err)
			}
			if p, err := l.Payment("pi_" + id); err != nil || p.Account != "acct_7" {
				t.Errorf("%s the payment of %s is of the account %q, %v", when, id, p.Account, err)
			}
		}
		if accounts, err := l.Accounts(); err != nil || len(accounts) != 1 {
			t.Errorf("%s the accounts are %v, %v", when, accounts, err)
		}
	}
	requireAccount(l, "after the release")
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if done, err := ledger.Rebuild(t.Context(), opts, true); err != nil || done.Decoded != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	requireAccount(ledgertest.Start(t, opts), "after the rebuild")
}
