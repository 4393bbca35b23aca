package ledger_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// allTotals returns the totals of all days, read in small pages.
func allTotals(t *testing.T, l *ledger.Ledger) (list []ledger.Total, err error) {
	t.Helper()
	since := int64(math.MinInt64)
	list = []ledger.Total{}
	q := ledger.TotalsQuery{From: &since, Limit: 3}
	for {
		page, err := l.Totals(t.Context(), q)
		if list = append(list, page.Data...); err != nil || page.Next == "" {
			return list, err
		}
		q.Page = page.Next
	}
}

// collectPages requests page after page and returns all rows, and the number of pages that ended at
// a bound. It checks each page against its limit.
func collectPages[T any](t *testing.T, request func(page string) (ledger.Page[T], int, error),
	between func()) (list []T, bounded int) {
	t.Helper()
	for next, n := "", 0; ; n++ {
		page, limit, err := request(next)
		if err != nil || len(page.Data) > limit || n > 10_000 {
			t.Fatalf("page %d has %d rows of %d, %v", n, len(page.Data), limit, err)
		}
		list = append(list, page.Data...)
		if page.ScannedTo != 0 {
			bounded++
		}
		if next = page.Next; next == "" {
			return list, bounded
		}
		between()
	}
}

// shop appends random events of payments that differ in every property that a query can filter by.
type shop struct {
	t   *testing.T
	l   *ledger.Ledger
	rng *rand.Rand
	n   int
}

func (s *shop) append() {
	i := s.n
	s.n++
	pick := func(of ...string) string { return of[s.rng.IntN(len(of))] }
	id := fmt.Sprintf("%04d", s.rng.IntN(1000)*10+i%10)
	at := 1760000000 + s.rng.Int64N(40)*3600
	e := succeeded(fmt.Sprintf("evt_%d", i), "pi_"+id)
	e.Account, e.Type, e.Created = pick("", "acct_1", "acct_2"),
		pick("payment_intent.succeeded", "payment_intent.processing"), at
	in := &e.Facts.Intents[0]
	in.Status, in.Currency, in.Customer, in.Created = pick("succeeded", "processing", "canceled"), pick("eur", "jpy"),
		pick("cus_1", "cus_2", ""), at
	in.Metadata = map[string]string{"order": pick("1", "2", "3")}
	if s.rng.IntN(10) == 0 {
		e.Facts, e.Quarantine = ledger.Facts{}, ledger.Undecodable
	}
	mustAppend(s.t, s.l, e)
}

// The pages of a list together are the whole list, for every filter and page size, while events are
// appended, and however early a page ends.
func TestPagesTogetherAreTheList(t *testing.T) {
	s := &shop{t: t, l: ledgertest.Open(t, false), rng: rand.New(rand.NewPCG(1, 2))}
	for range 300 {
		s.append()
	}
	low, high := int64(1760000000+7*3600), int64(1760000000+31*3600)
	payments := []ledger.PaymentQuery{{}, {Status: "processing"}, {Currency: "jpy"}, {Customer: "cus_1"},
		{Account: "acct_2"}, {Flag: "conflict"},
		{Metadata: map[string]string{"order": "3"}}, {CreatedGTE: &low}, {CreatedLT: &high},
		{CreatedGTE: &low, CreatedLT: &high, Currency: "eur"}, {Customer: "cus_none"}}
	events := []ledger.EventQuery{{}, {Type: "payment_intent.processing"}, {Outcome: ledger.Applied},
		{Outcome: ledger.Quarantined},
		{Outcome: ledger.Quarantined, Type: "payment_intent.succeeded"}, {Type: "none"}}
	early := 0
	between := func() { // new payments only: a payment that changes can move to a part of the list that was already read
		if s.rng.IntN(8) != 0 {
			return
		}
		e := succeeded(fmt.Sprintf("evt_meanwhile_%d", s.n), fmt.Sprintf("pi_meanwhile_%d", s.n))
		e.Facts.Intents[0].Created = 1760000000 + s.rng.Int64N(40)*3600
		s.n++
		mustAppend(t, s.l, e)
	}
	usual := func() { s.l.LimitReads(math.MaxInt, math.MaxInt, math.MaxInt, 1000) }
	small := func() {
		s.l.LimitReads(5+s.rng.IntN(60), 1+s.rng.IntN(20000), 1+s.rng.IntN(5000), 1+s.rng.IntN(40))
	}
	for round := range 22 {
		q, eq := payments[round%len(payments)], events[round%len(events)]
		q.Limit, eq.Limit = math.MaxInt, math.MaxInt
		usual()
		wantPayments, err := s.l.Payments(t.Context(), q)
		if err != nil || wantPayments.Next != "" {
			t.Fatal(err)
		}
		small()
		gotPayments, bounded := collectPages(t, func(next string) (ledger.Page[*ledger.Payment], int, error) {
			q.Page, q.Limit = next, 1+s.rng.IntN(30)
			page, err := s.l.Payments(t.Context(), q)
			return page, q.Limit, err
		}, between)
		early += bounded
		known := map[string]bool{}
		for _, p := range wantPayments.Data {
			known[p.ID] = true
		}
		gotPayments = slices.DeleteFunc(gotPayments, func(p *ledger.Payment) bool {
			return !known[p.ID] && strings.HasPrefix(p.ID, "pi_meanwhile_")
		})
		if got, want := asJSON(t, gotPayments), asJSON(t, wantPayments.Data); got != want {
			t.Fatalf("%+v: the pages together are %s, want %s", q, got, want)
		}
		usual()
		wantEvents, err := s.l.Events(t.Context(), eq)
		if err != nil || wantEvents.Next != "" {
			t.Fatal(err)
		}
		small()
		gotEvents, bounded := collectPages(t, func(next string) (ledger.Page[*ledger.EventRecord], int, error) {
			eq.Page, eq.Limit = next, 1+s.rng.IntN(30)
			page, err := s.l.Events(t.Context(), eq)
			return page, eq.Limit, err
		}, between)
		early += bounded
		if got, want := asJSON(t, gotEvents), asJSON(t, wantEvents.Data); got != want {
			t.Fatalf("%+v: the pages together are %s, want %s", eq, got, want)
		}
	}
	if early < 50 {
		t.Errorf("only %d pages ended at a bound", early)
	}
}

// The events of a payment have pages, also if the id of the payment changes between two pages.
func TestPagesOfEventsOfAPayment(t *testing.T) {
	l := ledgertest.Open(t, false)
	chargeEvent := func(n int) *ledger.Event {
		e := succeeded(fmt.Sprintf("evt_%03d", n), "")
		e.Facts = ledger.Facts{Charge: "ch_1",
			Charges: []ledger.Charge{{ID: "ch_1", Status: "succeeded", Currency: "eur", Amount: 100,
				Created: 1760000000 + int64(n)}}}
		return e
	}
	for n := range 100 {
		mustAppend(t, l, chargeEvent(n))
	}
	l.LimitReads(7, math.MaxInt, math.MaxInt, 3)
	merged := false
	list, bounded := collectPages(t, func(next string) (ledger.Page[*ledger.EventRecord], int, error) {
		page, err := l.PaymentEvents(t.Context(), "ch_1", ledger.EventQuery{Page: next, Limit: 10})
		return page, 10, err
	}, func() {
		if !merged {
			mustAppend(t, l, succeeded("evt_intent", "pi_1")) // its charge is ch_pi_1
			e := succeeded("evt_link", "pi_1")
			e.Facts.Charge, e.Facts.Intents[0].LatestCharge = "ch_1", "ch_1"
			mustAppend(t, l, e)
			merged = true
		}
	})
	if len(list) != 100 || list[0].ID != "evt_099" || list[99].ID != "evt_000" || bounded < 14 {
		t.Errorf("%d events, %d pages ended at the bound", len(list), bounded)
	}
	if p, err := l.Payment("ch_1"); err != nil || p.ID != "pi_1" {
		t.Errorf("the payment is %+v, %v", p, err)
	}
}

// A query examines a limited number of rows and reports how far it has come. It ends when its
// context is canceled.
func TestSearchIsBounded(t *testing.T) {
	const n, bound = 500, 120
	l := ledgertest.Open(t, false)
	for i := range n {
		e := succeeded(fmt.Sprintf("evt_%d", i), fmt.Sprintf("pi_%d", i))
		e.Facts.Intents[0].Created, e.Received = 1760000000+int64(i), time.Unix(1770000000+int64(i), 0)
		mustAppend(t, l, e)
	}
	since := int64(0)
	for i := range n {
		e := succeeded(fmt.Sprintf("evt_many_%d", i), "pi_many")
		e.Received = time.Unix(1780000000+int64(i), 0)
		e.Facts.Intents[0].Created = 1750000000
		mustAppend(t, l, e)
	}
	l.LimitReads(bound, math.MaxInt, math.MaxInt, 50)
	for name, search := range map[string]func(ctx context.Context) (next string, at ledger.OrNullTime, rows int,
		err error){
		"payments": func(ctx context.Context) (string, ledger.OrNullTime, int, error) {
			p, err := l.Payments(ctx, ledger.PaymentQuery{Customer: "cus_none", CreatedGTE: &since, Limit: 10})
			return p.Next, p.ScannedTo - 1760000000, len(p.Data), err
		},
		"events": func(ctx context.Context) (string, ledger.OrNullTime, int, error) {
			p, err := l.Events(ctx, ledger.EventQuery{Type: "none", Limit: 10})
			return p.Next, p.ScannedTo - 1780000000, len(p.Data), err
		},
		"a payment's events": func(ctx context.Context) (string, ledger.OrNullTime, int, error) {
			p, err := l.PaymentEvents(ctx, "pi_many", ledger.EventQuery{Type: "none", Limit: 10})
			return p.Next, p.ScannedTo - 1780000000, len(p.Data), err
		},
	} {
		ctx := &countingContext{Context: t.Context(), limit: math.MaxInt64}
		next, at, rows, err := search(ctx)
		if err != nil || next == "" || at != n-bound || rows != 0 {
			t.Errorf("%s: examined down to %d of %d, then %q, %v", name, at, n, next, err)
		}
		if asked := ctx.calls.Load(); asked < bound/100 || asked > 2*bound {
			t.Errorf("%s: the query checked its context %d times", name, asked)
		}
		ctx = &countingContext{Context: t.Context(), limit: 70}
		if _, _, _, err := search(ctx); !errors.Is(err, context.Canceled) || ctx.calls.Load() > 75 {
			t.Errorf("%s: a query that was canceled meanwhile returned %v after %d checks", name, err, ctx.calls.Load())
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, _, err := search(canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a query with a canceled context returned %v", name, err)
		}
	}
	l.LimitReads(math.MaxInt, 1, math.MaxInt, 50)
	if page, err := l.Payments(t.Context(), ledger.PaymentQuery{Customer: "cus_none", Limit: 10}); err != nil ||
		page.ScannedTo != 1760000000+n-1 {
		t.Errorf("a query with a limit of one byte examined rows down to %d, %v", page.ScannedTo, err)
	}
	// A page of large payments ends early, but has at least one.
	l.LimitReads(math.MaxInt, math.MaxInt, 1, 50)
	if page, err := l.Payments(t.Context(), ledger.PaymentQuery{Limit: 10}); err != nil || len(page.Data) != 1 ||
		page.Next == "" || page.ScannedTo != 0 {
		t.Errorf("a page has %d large payments, want 1, %v", len(page.Data), err)
	}
}

func TestCursorsOfOtherListsAreRefused(t *testing.T) {
	l := ledgertest.Open(t, false)
	for i := range 3 {
		mustAppend(t, l, succeeded(fmt.Sprintf("evt_%d", i), fmt.Sprintf("pi_%d", i)))
		mustAppend(t, l, paidCharge(fmt.Sprint(i), 1760000000+int64(i)*86400, 100))
	}
	since := int64(0)
	payments := func(page string) (string, error) {
		p, err := l.Payments(t.Context(), ledger.PaymentQuery{Page: page, Limit: 1})
		return p.Next, err
	}
	events := func(page string) (string, error) {
		p, err := l.Events(t.Context(), ledger.EventQuery{Page: page, Limit: 1})
		return p.Next, err
	}
	days := func(page string) (string, error) {
		p, err := l.Totals(t.Context(), ledger.TotalsQuery{From: &since, Page: page, Limit: 1})
		return p.Next, err
	}
	sums := func(page string) (string, error) {
		p, err := l.Totals(t.Context(), ledger.TotalsQuery{Page: page, Limit: 1})
		return p.Next, err
	}
	mustAppend(t, l, func() *ledger.Event {
		e := paidCharge("usd", 1760000000, 5)
		e.Facts.Charges[0].Currency = "usd"
		return e
	}())
	lists := []func(string) (string, error){payments, events, days, sums}
	for i, list := range lists {
		cursor, err := list("")
		if err != nil || cursor == "" {
			t.Fatal(i, cursor, err)
		}
		for j, other := range lists {
			if _, err := other(cursor); (err == nil) != (i == j) || err != nil && !errors.Is(err, ledger.ErrCursor) {
				t.Errorf("the cursor of list %d returned %v in list %d", i, err, j)
			}
		}
		for _, bad := range []string{"x", "pi_1", "2", cursor[1:], cursor + "!", "AAAAAAAAAAAAAAAA"} {
			if _, err := list(bad); !errors.Is(err, ledger.ErrCursor) {
				t.Errorf("list %d accepted the cursor %q: %v", i, bad, err)
			}
		}
	}
}

// Totals are what moved within the bounds, also where these are within a day.
func TestTotalsOfPartsOfDays(t *testing.T) {
	l := ledgertest.Open(t, false)
	rng := rand.New(rand.NewPCG(5, 6))
	const begin, days = 1760054400, 6 // 2025-10-10
	var times []int64
	for i := range 120 {
		times = append(times, begin+rng.Int64N(days*24)*3600-rng.Int64N(2))
		mustAppend(t, l, paidCharge(fmt.Sprint(i), times[i], 1))
	}
	for range 300 {
		zone := []*time.Location{time.UTC, timezone(t, "Asia/Kolkata")}[rng.IntN(2)]
		bounds := [2]int64{begin + rng.Int64N(days*24)*3600, begin + rng.Int64N(days*24)*3600}
		slices.Sort(bounds[:])
		q := ledger.TotalsQuery{From: &bounds[0], To: &bounds[1], Zone: zone}
		if rng.IntN(3) == 0 {
			q.From, bounds[0] = nil, math.MinInt64
		} else if rng.IntN(3) == 0 {
			q.To, bounds[1] = nil, math.MaxInt64
		}
		want := map[ledger.OrNull]int64{}
		for _, at := range times {
			if at >= bounds[0] && at < bounds[1] {
				want[ledger.OrNull(time.Unix(at, 0).In(zone).Format(time.DateOnly))]++
			}
		}
		list, _ := collectPages(t, func(next string) (ledger.Page[ledger.Total], int, error) {
			q.Page, q.Limit = next, 1+rng.IntN(3)
			page, err := l.Totals(t.Context(), q)
			return page, q.Limit, err
		}, func() {})
		got := map[ledger.OrNull]int64{}
		for _, total := range list {
			n, _ := total.Received.Int64()
			got[total.Day] += n
		}
		if !maps.Equal(got, want) {
			t.Fatalf("from %d to %d in %s: got %v, want %v", bounds[0], bounds[1], zone, got, want)
		}
	}
}

// Totals have pages like other lists. Without bounds each line is the sum over all days.
func TestPagesOfTotals(t *testing.T) {
	s := &shop{t: t, l: ledgertest.Open(t, false), rng: rand.New(rand.NewPCG(3, 4))}
	for i := range 200 {
		e := paidCharge(fmt.Sprint(i), 1760000000+s.rng.Int64N(400*3600), 100+int64(i))
		e.Account, e.Facts.Charges[0].Currency = fmt.Sprintf("acct_%d", s.rng.IntN(4)),
			[]string{"eur", "usd", "jpy"}[s.rng.IntN(3)]
		mustAppend(t, s.l, e)
	}
	since, until := int64(1760000000+50*3600), int64(1760000000+350*3600)
	kolkata := timezone(t, "Asia/Kolkata")
	for i, q := range []ledger.TotalsQuery{{}, {From: &since}, {To: &until}, {From: &since, To: &until},
		{From: &since, To: &until, Zone: kolkata}, {From: &since, Zone: kolkata}} {
		q.Limit = math.MaxInt
		want, err := s.l.Totals(t.Context(), q)
		if err != nil || want.Next != "" || len(want.Data) < 10 {
			t.Fatal(i, len(want.Data), err)
		}
		for range 5 {
			got, _ := collectPages(t, func(next string) (ledger.Page[ledger.Total], int, error) {
				q.Page, q.Limit = next, 1+s.rng.IntN(20)
				page, err := s.l.Totals(t.Context(), q)
				return page, q.Limit, err
			}, func() {})
			if !reflect.DeepEqual(got, want.Data) {
				t.Fatalf("query %d: the pages together are %+v, want %+v", i, got, want.Data)
			}
		}
	}
	type line struct{ currency, account ledger.OrNull }
	sums := map[line]ledger.Sum{}
	days, err := allTotals(t, s.l)
	for _, d := range days {
		sums[line{d.Currency, d.Account}] = sums[line{d.Currency, d.Account}].Plus(d.Net)
	}
	all, err2 := s.l.Totals(t.Context(), ledger.TotalsQuery{Limit: 100})
	for _, total := range all.Data {
		if total.Day != "" || sums[line{total.Currency, total.Account}] != total.Net {
			t.Errorf("the sum over all days is %+v, the days add up to %v", total,
				sums[line{total.Currency, total.Account}])
		}
	}
	if err := cmp.Or(err, err2); err != nil || len(all.Data) != len(sums) || len(sums) != 12 {
		t.Errorf("%d sums over all days, want %d, %v", len(all.Data), len(sums), err)
	}
}

// Only one slice of a long read runs at a time. While events arrive, the next slice waits for as
// long as the last one took.
func TestSlicesOfLongReadsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := ledger.Open(ledger.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var running, most atomic.Int64
		all := func(slices int) time.Duration {
			began := time.Now()
			var done sync.WaitGroup
			for range slices {
				done.Go(func() {
					if err := l.Slice(t.Context(), func() {
						most.Store(max(most.Load(), running.Add(1)))
						time.Sleep(time.Second)
						running.Add(-1)
					}); err != nil {
						t.Error(err)
					}
				})
			}
			done.Wait()
			return time.Since(began)
		}
		if took := all(4); took != 4*time.Second || most.Load() != 1 {
			t.Errorf("four slices took %v, %d at once", took, most.Load())
		}
		l.SetLastCommit(time.Now().Add(time.Hour)) // as if events arrived until then
		if took := all(4); took != 8*time.Second {
			t.Errorf("while events arrive four slices took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := l.Slice(ctx,
			func() { t.Error("the slice ran too early") }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a slice whose context ended while it waited returned %v", err)
		}
	})
}
