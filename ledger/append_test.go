package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

func TestConcurrentRepeatsPostOnce(t *testing.T) {
	l := ledgertest.Open(t, false)
	var statuses sync.Map
	var group sync.WaitGroup
	gate := make(chan struct{})
	for range 100 {
		group.Go(func() {
			<-gate
			res, err := l.Append(t.Context(), succeeded("evt_1", "pi_1"))
			if err != nil {
				t.Error(err)
				return
			}
			n, _ := statuses.LoadOrStore(res.Status, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		})
	}
	close(gate)
	group.Wait()
	for status, want := range map[ledger.Outcome]int64{ledger.Applied: 1, ledger.AlreadyProcessed: 99} {
		n, ok := statuses.Load(status)
		if !ok || n.(*atomic.Int64).Load() != want {
			t.Errorf("%s: got %v, want %d", status, n, want)
		}
	}
	rec, err := l.Event("evt_1")
	if err != nil {
		t.Fatal(err)
	}
	if rec.Repeats != 99 {
		t.Errorf("%d repeats counted, want 99", rec.Repeats)
	}
	if p, err := l.Payment("pi_1"); err != nil || p.Events != 1 || *p.AmountReceived != 4200 {
		t.Errorf("the payment is %+v, %v", p, err)
	}
}

func TestQueuedEventsShareOneCommit(t *testing.T) {
	var commits, events atomic.Int64
	release := make(chan struct{})
	l := ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t), Observe: func(c ledger.CommitStats) {
		if commits.Add(1) == 1 {
			<-release // the other events queue up during the first commit
		}
		events.Add(int64(c.Events))
	}})
	const n = 200
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if _, err := l.Append(t.Context(),
				succeeded(fmt.Sprintf("evt_%d", i), fmt.Sprintf("pi_%d", i))); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			for commits.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}
	for l.Queued() < n-1 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	group.Wait()
	if commits.Load() != 2 || events.Load() != n {
		t.Errorf("%d events in %d commits, want %d in 2", events.Load(), commits.Load(), n)
	}
}

func TestRunCommitsTheQueueBeforeItEnds(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	dir := ledgertest.Dir(t)
	l, err := ledger.Open(ledger.Options{Dir: dir, Observe: func(ledger.CommitStats) {
		once.Do(func() { close(begun); <-release })
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	const n = 100
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if _, err := l.Append(t.Context(), succeeded(fmt.Sprintf("evt_%d", i), "pi_1")); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			<-begun
		}
	}
	for l.Queued() < n-1 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	close(release)
	group.Wait()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if p, err := l.Payment("pi_1"); err != nil || p.Events != n {
		t.Errorf("the payment is %+v, %v", p, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestAppendReportsRecordedAndUnchanged(t *testing.T) {
	l := ledgertest.Open(t, false)
	other := &ledger.Event{ID: "evt_c", Type: "customer.created", Source: ledger.Webhook,
		Received: time.Unix(1760000000, 0), Raw: []byte("{}")}
	if res := mustAppend(t, l, other); res.Status != ledger.Recorded || res.PaymentID != "" {
		t.Errorf("an event without a payment returned %+v", res)
	}
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	late := succeeded("evt_0", "pi_1")
	late.Type, late.Created = "payment_intent.processing", 1760000001
	late.Facts.Intents[0].Status, late.Facts.Intents[0].AmountReceived = "processing", 0
	if res := mustAppend(t, l, late); res.Status != ledger.Unchanged || res.PaymentID != "pi_1" {
		t.Errorf("a late payment_intent.processing event returned %+v", res)
	}
	p, err := l.Payment("pi_1")
	if err != nil {
		t.Fatal(err)
	}
	if p.Status != "succeeded" || *p.AmountReceived != 4200 || p.Events != 2 {
		t.Errorf("after the late event the payment is %+v", p)
	}
}

func TestQuarantinedEventCanBePostedLater(t *testing.T) {
	dir := ledgertest.Dir(t)
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	for i, reason := range ledger.Reasons {
		id := fmt.Sprintf("evt_%d", i)
		quarantined := succeeded(id, "pi_"+id)
		quarantined.Quarantine, quarantined.Raw = reason, []byte("the first body")
		for range 2 {
			res := mustAppend(t, l, quarantined)
			if res.Status != ledger.Quarantined || res.Reason != reason || res.PaymentID != "" {
				t.Errorf("%s: returned %+v", reason, res)
			}
		}
		if _, err := l.Payment("pi_" + id); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s: a quarantined event created a payment: %v", reason, err)
		}
		if n := mustStats(t, l).Quarantined[reason]; n != 1 {
			t.Errorf("%s: the statistics count %d events in quarantine, want 1", reason, n)
		}

		usable := succeeded(id, "pi_"+id)
		if res := mustAppend(t, l, usable); res.Status != ledger.Applied || res.Sequence != uint64(2*i+2) {
			t.Errorf("%s: the usable form of the event returned %+v", reason, res)
		}
		if res := mustAppend(t, l, usable); res.Status != ledger.AlreadyProcessed || res.PaymentID != "pi_"+id {
			t.Errorf("%s: a repeat of the posted event returned %+v", reason, res)
		}
		if res := mustAppend(t, l, quarantined); res.Status != ledger.AlreadyProcessed {
			t.Errorf("%s: the unusable form, sent again, returned %+v", reason, res)
		}
		body, err := l.Body(id)
		if err != nil || string(body) != string(usable.Raw) {
			t.Errorf("%s: the body of the posted event is %q, %v", reason, body, err)
		}
		if n := mustStats(t, l).Quarantined[reason]; n != 0 {
			t.Errorf("%s: the statistics still count %d events in quarantine", reason, n)
		}
	}
	if s := mustStats(t, l); s.Events != 3 || s.Outcomes[ledger.Applied] != 3 {
		t.Errorf("the statistics are %+v", s)
	}
}

// Repeats cause no commit of their own. The committer writes all counts of repeats within 10 s,
// however many there are.
func TestRepeatsAreWrittenWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commits atomic.Int64
		l := ledgertest.Start(t, ledger.Options{Dir: ledgertest.Dir(t),
			Observe: func(ledger.CommitStats) { commits.Add(1) }})
		const n = 6000 // more than one transaction writes
		send := func(want ledger.Outcome) {
			var group sync.WaitGroup
			for i := range n {
				group.Go(func() {
					e := succeeded(fmt.Sprintf("evt_%d", i), fmt.Sprintf("pi_%d", i))
					if i%2 == 0 {
						e.Quarantine = ledger.WrongMode
					}
					res, err := l.Append(t.Context(), e)
					if err != nil || i%2 == 1 && res.Status != want || i%2 == 0 && res.Status != ledger.Quarantined {
						t.Errorf("got %+v, %v", res, err)
					}
				})
			}
			group.Wait()
		}
		send(ledger.Applied)
		commits.Store(0)
		send(ledger.AlreadyProcessed)
		if c := commits.Load(); c != 0 || l.WaitingRepeats() != n {
			t.Errorf("%d repeats caused %d commits, and %d are not written yet", n, c, l.WaitingRepeats())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if c := commits.Load(); c != 2 || l.WaitingRepeats() != 0 {
			t.Errorf("after 10 s there were %d commits, and %d repeats are not written yet", c, l.WaitingRepeats())
		}
	})
}

func mustStats(t *testing.T, l *ledger.Ledger) ledger.Stats {
	t.Helper()
	s, err := l.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBodiesReadBackByteForByte(t *testing.T) {
	l := ledgertest.Open(t, false)
	bodies := map[string][]byte{
		"evt_empty": {},
		"evt_bytes": {0, 1, 2, 255, 254},
		"evt_large": []byte(strings.Repeat(`{"line":"a real invoice has many"},`, 30000)),
	}
	for id, raw := range bodies {
		mustAppend(t, l, &ledger.Event{ID: id, Source: ledger.Webhook, Quarantine: ledger.Undecodable,
			Received: time.Unix(1, 0), Raw: raw})
	}
	for id, raw := range bodies {
		got, err := l.Body(id)
		if err != nil || string(got) != string(raw) {
			t.Errorf("%s: read back %d bytes of %d, %v", id, len(got), len(raw), err)
		}
	}
	if _, err := l.Body("evt_none"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("the body of an unknown event returned %v", err)
	}
}

func TestPagesListEverythingOnce(t *testing.T) {
	l := ledgertest.Open(t, false)
	const n = 57
	for i := range n {
		e := succeeded(fmt.Sprintf("evt_%02d", i), fmt.Sprintf("pi_%02d", i))
		e.Facts.Intents[0].Created = 1760000000 + int64(i%7) // several payments have the same time
		if i%5 == 0 {
			e.Facts.Intents[0].Currency = "jpy"
		}
		mustAppend(t, l, e)
	}
	var last *ledger.Payment
	seen := map[string]bool{}
	q := ledger.PaymentQuery{Limit: 10}
	for more := true; more; {
		page, err := l.Payments(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		more = page.Next != ""
		for _, p := range page.Data {
			if last != nil && (p.Created > last.Created || p.Created == last.Created && p.ID >= last.ID) {
				t.Errorf("%s, created %d, is listed after %s, created %d", p.ID, p.Created, last.ID, last.Created)
			}
			if seen[p.ID] {
				t.Errorf("%s is on two pages", p.ID)
			}
			seen[p.ID], last = true, p
		}
		q.After = last.ID
	}
	if len(seen) != n {
		t.Errorf("%d payments on the pages, want %d", len(seen), n)
	}

	gte, lt := int64(1760000002), int64(1760000004)
	page, err := l.Payments(t.Context(), ledger.PaymentQuery{Limit: 100, Currency: "jpy", CreatedGTE: &gte,
		CreatedLT: &lt})
	if err != nil || page.Next != "" {
		t.Fatal(page.Next, err)
	}
	want := 0
	for i := 0; i < n; i += 5 {
		if at := 1760000000 + int64(i%7); at >= gte && at < lt {
			want++
		}
	}
	if len(page.Data) != want {
		t.Errorf("the filter found %d payments, want %d", len(page.Data), want)
	}

	var events []string
	eq := ledger.EventQuery{Limit: 20}
	for more := true; more; {
		page, err := l.Events(t.Context(), eq)
		if err != nil {
			t.Fatal(err)
		}
		more = page.Next != ""
		for _, e := range page.Data {
			events = append(events, e.ID)
		}
		eq.After = events[len(events)-1]
	}
	if len(events) != n || events[0] != "evt_56" || events[n-1] != "evt_00" {
		t.Errorf("the events are listed as %v", events)
	}
	_, paymentsErr := l.Payments(t.Context(), ledger.PaymentQuery{After: "pi_none", Limit: 1})
	_, eventsErr := l.Events(t.Context(), ledger.EventQuery{After: "evt_none", Limit: 1})
	if !errors.Is(paymentsErr, ledger.ErrCursor) || !errors.Is(eventsErr, ledger.ErrCursor) {
		t.Errorf("unknown cursors returned %v and %v", paymentsErr, eventsErr)
	}
}

func TestPaymentEventsListsOnlyItsOwnEvents(t *testing.T) {
	l := ledgertest.Open(t, false)
	for i, id := range []string{"pi_1", "pi_10", "pi_1", "pi_2", "pi_1"} {
		mustAppend(t, l, succeeded(fmt.Sprintf("evt_%d", i), id))
	}
	page, err := l.PaymentEvents(t.Context(), "ch_pi_1", ledger.EventQuery{Limit: 2})
	if err != nil || page.Next == "" || len(page.Data) != 2 || page.Data[0].ID != "evt_4" ||
		page.Data[1].ID != "evt_2" {
		t.Fatalf("the first page is %v, %v", page, err)
	}
	for _, q := range []ledger.EventQuery{{Limit: 2, After: page.Data[1].ID}, {Limit: 2, Page: page.Next}} {
		page, err = l.PaymentEvents(t.Context(), "pi_1", q)
		if err != nil || page.Next != "" || len(page.Data) != 1 || page.Data[0].ID != "evt_0" {
			t.Fatalf("the last page is %v, %v", page, err)
		}
	}
}

func TestDecimal(t *testing.T) {
	for _, c := range []struct {
		amount   int64
		currency string
		want     string
	}{
		{2099, "usd", "20.99"}, {3800, "jpy", "3800"}, {12340, "kwd", "12.340"}, {5, "eur", "0.05"}, {0, "eur", "0.00"},
		{-7, "bhd", "-0.007"}, {-2099, "USD", "-20.99"}, {150000, "isk", "1500.00"}, {370000, "ugx", "3700.00"},
		{999999999999, "idr", "9999999999.99"}, {-9223372036854775808, "jpy", "-9223372036854775808"},
	} {
		if got := ledger.Decimal(c.amount, c.currency); got != c.want {
			t.Errorf("%d %s is %q, want %q", c.amount, c.currency, got, c.want)
		}
	}
}

// No committer runs, so the queue fills up. Append then refuses events at once, and the queued ones
// are given up when their context ends.
func TestFullQueueRefusesAtOnce(t *testing.T) {
	for what, c := range map[string]struct {
		size int // of a body
		most int // events in the queue
	}{"many": {2, 8192}, "large": {1 << 20, 70}} {
		t.Run(what, func(t *testing.T) {
			l, err := ledger.Open(ledger.Options{Dir: ledgertest.Dir(t)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			raw := make([]byte, c.size) // it compresses to almost nothing, but the decoded event need not be small
			var group sync.WaitGroup
			overloaded := make(chan struct{}, c.most+100)
			for i := range c.most + 50 {
				group.Go(func() {
					_, err := l.Append(ctx, &ledger.Event{ID: fmt.Sprintf("evt_%d", i), Source: ledger.Webhook,
						Received: time.Unix(1, 0), Raw: raw})
					switch {
					case errors.Is(err, ledger.ErrOverloaded):
						overloaded <- struct{}{}
					case !errors.Is(err, ledger.ErrUnavailable) || !errors.Is(err, context.Canceled):
						t.Errorf("got %v", err)
					}
				})
			}
			for range 50 {
				select {
				case <-overloaded:
				case <-time.After(10 * time.Second):
					t.Fatal("the queue accepted more events than its limit")
				}
			}
			cancel()
			group.Wait()
			if n := l.Queued(); n == 0 || n > c.most {
				t.Errorf("%d events are queued", n)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
