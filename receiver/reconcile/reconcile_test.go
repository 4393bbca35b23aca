package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/metrics"
	"tillhook/receiver/health"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
	"tillhook/receiver/stripe/stripetest"
)

// shop is a ledger, its Stripe account, and a reconciler.
type shop struct {
	*reconcile.Reconciler
	t       *testing.T
	account *stripetest.Account
	books   *ledger.Ledger
	options reconcile.Options
	every   time.Duration // of rounds that run by themselves
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := open(t, stripetest.New(t))
	s.options.API.Transport = nil
	return s
}

func newMetrics() *metrics.Metrics { return metrics.New(metrics.Names{Types: stripe.Types[:]}) }

// open returns a shop whose Stripe is called without a network.
func open(t *testing.T, account *stripetest.Account) *shop {
	t.Helper()
	return openOn(t, account, ledgertest.Start(t, ledger.Options{
		Dir:        ledgertest.Dir(t),
		CheckEvery: 100 * year, // each of the years that some tests let pass would be millions of looks at the file
		Decode:     func(raw []byte) *ledger.Event { return stripe.Decode(raw, false) },
	}))
}

// openOn is open with a ledger that the caller runs and closes.
func openOn(t *testing.T, account *stripetest.Account, books *ledger.Ledger) *shop {
	t.Helper()
	s := &shop{t: t, account: account, every: 15 * time.Minute, books: books}
	base, err := url.Parse(s.account.URL)
	if err != nil {
		t.Fatal(err)
	}
	api := stripe.NewAPI(s.account.Key, base, "test")
	api.Pause, api.Backoff, api.Transport = 0, time.Millisecond, account
	s.options = reconcile.Options{API: api, Ledger: s.books, Metrics: newMetrics(), Log: slog.New(slog.DiscardHandler), URL: "https://pay.haderer.example/webhooks/stripe"}
	s.Reconciler = reconcile.New(s.options)
	return s
}

// payment returns an event about the n-th payment of the shop.
func payment(n int, typ string, created int64) []byte {
	return fmt.Appendf(nil, `{"id":"evt_3QbMissed%07d","object":"event","api_version":"2023-10-16","created":%d,"type":%q,"livemode":false,
		"data":{"object":{"id":"pi_3QbMissed%07[1]d","object":"payment_intent","status":"succeeded","amount":4900,"amount_received":4900,"currency":"eur","created":%[2]d,"latest_charge":null}}}`,
		n, created, typ)
}

func (s *shop) round(q reconcile.Request) *reconcile.Report {
	s.t.Helper()
	report, err := s.Round(s.t.Context(), q)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

// deliver delivers an event as the webhook handler stores it.
func (s *shop) deliver(body []byte) ledger.Result {
	s.t.Helper()
	e := stripe.Decode(body, false)
	e.Source, e.Received = ledger.Webhook, time.Now()
	res, err := s.books.Append(s.t.Context(), e)
	if err != nil {
		s.t.Error(err)
	}
	return res
}

func (s *shop) events() uint64 {
	s.t.Helper()
	stats, err := s.books.Stats()
	if err != nil {
		s.t.Fatal(err)
	}
	return stats.Events
}

func (s *shop) checkpoint(name string) int64 {
	s.t.Helper()
	n, err := s.books.Checkpoint(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// After an hour without deliveries Stripe's retries arrive while events are fetched. Each counts
// once.
func TestAnHourThatWasMissed(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const missed = 1000
	now := time.Now().Unix()
	bodies := make([][]byte, missed)
	for i := range bodies {
		bodies[i] = payment(i, stripe.Types[i%8], now-3600+int64(i)*3)
		s.account.AddEvent(bodies[i], "")
	}
	if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"reconciled/": now - 3600}); err != nil {
		t.Fatal(err)
	}
	var retries sync.WaitGroup
	for from := range 4 {
		retries.Go(func() {
			for i := from; i < missed; i += 4 * 3 {
				s.deliver(bodies[missed-1-i])
			}
		})
	}
	report := s.round(reconcile.Request{})
	retries.Wait()
	if n := s.events(); n != missed {
		t.Errorf("%d events are in the ledger, want %d; the round said %+v", n, missed, report)
	}
	page, err := s.books.Payments(t.Context(), ledger.PaymentQuery{Limit: 2 * missed})
	if err != nil || len(page.Data) != missed {
		t.Fatalf("%d payments, %v", len(page.Data), err)
	}
	for _, p := range page.Data {
		if p.Events != 1 || *p.AmountReceived != 4900 {
			t.Errorf("booked as %+v", p)
		}
	}
	if report.Listed != missed || report.Recovered == 0 {
		t.Errorf("the round said %+v", report)
	}
	if report := s.round(reconcile.Request{}); report.Recovered != 0 || s.events() != missed {
		t.Errorf("the next round said %+v", report)
	}
	for i := range bodies { // what Stripe had or had not delivered, the ledger did not count as repeats
		e, err := s.books.Event(fmt.Sprintf("evt_3QbMissed%07d", i))
		if err != nil || e.Repeats > 1 || e.Source == ledger.Reconcile && e.Repeats > 1 {
			t.Fatalf("%+v, %v", e, err)
		}
	}
}

// The checkpoint stays ten minutes before now, and before everything that was not read.
func TestTheCheckpoint(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now()
	s.account.AddEvent(payment(1, "charge.pending", 0), "")
	s.account.AddEvent(payment(2, "payment_intent.succeeded", now.Unix()-60), "")
	if report := s.round(reconcile.Request{}); report.Recovered != 1 || report.From > time.Now().Add(-30*24*time.Hour).Unix()+2 {
		t.Errorf("the first round said %+v", report)
	}
	first := s.checkpoint("reconciled/")
	if want := now.Add(-10 * time.Minute).Unix(); first < want-5 || first > time.Now().Unix()-600 {
		t.Errorf("the checkpoint is %d, want %d", first, want)
	}
	// An event that appears late, made nine minutes ago, is found.
	s.account.AddEvent(payment(3, "payment_intent.succeeded", now.Unix()-540), "")
	if report := s.round(reconcile.Request{}); report.Recovered != 1 || report.From > first-3599 || report.From < first-3700 {
		t.Errorf("the second round said %+v, the checkpoint was %d", report, first)
	}
	// A checkpoint from long ago, and a day of Stripe's in which two slices cannot be read.
	old := now.Add(-5 * 24 * time.Hour).Unix()
	if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"reconciled/": old}); err != nil {
		t.Fatal(err)
	}
	for i := range 1500 { // so many that the days are read in parts
		s.account.AddEvent(payment(100+i, "payment_intent.succeeded", old+int64(i)*200), "")
	}
	lists := 0
	s.account.Before(func(_ int, r *http.Request) {
		if r.URL.Path == "/v1/events" {
			if lists++; lists == 22 {
				s.account.Fail(stripetest.Fault{Path: "/v1/events", Status: 402})
			}
		}
	})
	s.account.AddEvent(payment(4, "payment_intent.succeeded", now.Add(-20*time.Hour).Unix()), "")
	report, err := s.Round(t.Context(), reconcile.Request{})
	if err == nil || report.Recovered == 0 {
		t.Errorf("the round that failed said %+v", report)
	}
	stopped := s.checkpoint("reconciled/")
	if stopped <= old || stopped >= now.Add(-20*time.Hour).Unix() {
		t.Errorf("the checkpoint is %d after a failure, want between %d and the event that was not read", stopped, old)
	}
	if f := s.Findings()[0]; f.Severity != health.Warn || !strings.Contains(f.Message, "Stripe answered 402") {
		t.Errorf("it is reported as %+v", f)
	}
	booked := report.Recovered
	if report := s.round(reconcile.Request{}); report.Recovered != 1501-booked || s.checkpoint("reconciled/") < first {
		t.Errorf("the round after it said %+v", report)
	}
	// Asked for less than is missing, a round does not move the checkpoint over the gap.
	if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"reconciled/": old}); err != nil {
		t.Fatal(err)
	}
	if s.round(reconcile.Request{Since: time.Hour}); s.checkpoint("reconciled/") != old {
		t.Errorf("the checkpoint is %d", s.checkpoint("reconciled/"))
	}
}

// Once a day a round looks back further.
func TestTheLargeOverlap(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.round(reconcile.Request{})
	yesterday := time.Now().Add(-40 * time.Hour).Unix()
	s.account.AddEvent(payment(1, "payment_intent.succeeded", yesterday), "")
	if report := s.round(reconcile.Request{}); report.Recovered != 0 {
		t.Errorf("the round of the same day said %+v", report)
	}
	if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"reconciled-daily/": time.Now().Unix() - 86400}); err != nil {
		t.Fatal(err)
	}
	if report := s.round(reconcile.Request{}); report.Recovered != 1 {
		t.Errorf("the round of the next day said %+v", report)
	}
}

// A list that changes while it is read, and one that is too long to be read at once.
func TestManyEventsAtOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now().Unix()
	const many = 2300
	for i := range many {
		s.account.AddEvent(payment(i, "payment_intent.succeeded", now-1000+int64(i)/300), "")
	}
	added := many
	s.account.Before(func(_ int, r *http.Request) {
		if r.URL.Path == "/v1/events" && added < many+40 {
			s.account.AddEvent(payment(added, "payment_intent.succeeded", now), "")
			s.account.AddEvent(payment(added+1, "payment_intent.succeeded", now-1000), "")
			added += 2
		}
	})
	s.round(reconcile.Request{Since: 2 * time.Hour})
	s.account.Before(nil)
	calls := s.account.Calls()
	s.round(reconcile.Request{Since: 2 * time.Hour})
	if n := s.events(); int(n) != added || added != many+40 {
		t.Errorf("%d events are in the ledger, want %d of %d", n, added, many+40)
	}
	asked := map[string]int{} // pages of the first round by slice
	for _, c := range calls {
		if from, to := number(t, c.Params.Get("created[gte]")), number(t, c.Params.Get("created[lt]")); c.Path == "/v1/events" && to-from > 1 {
			asked[fmt.Sprint(c.Params["types[]"], from, to)]++
		}
	}
	most := 0
	for _, pages := range asked {
		most = max(most, pages)
	}
	if most != 10 {
		t.Errorf("of a slice that could be halved %d pages were asked for", most)
	}
}

func number(t *testing.T, text string) (n int64) {
	t.Helper()
	if text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Stripe fails for a while; the result is the same.
func TestABadDayOfStripes(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now().Unix()
	for i := range 600 {
		s.account.AddEvent(payment(i, "payment_intent.succeeded", now-3000+int64(i)), "")
	}
	s.account.Fail(stripetest.Fault{Status: 429, RetryAfter: "0"}, stripetest.Fault{Cut: true}, stripetest.Fault{Status: 500},
		stripetest.Fault{HTML: true}, stripetest.Fault{Slow: 20 * time.Millisecond}, stripetest.Fault{Cut: true}, stripetest.Fault{Status: 503})
	if report := s.round(reconcile.Request{}); report.Recovered != 600 || s.events() != 600 {
		t.Errorf("the round said %+v, and %d events are in the ledger", report, s.events())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.account.Fail(stripetest.Fault{Slow: time.Hour})
	if _, err := s.Round(ctx, reconcile.Request{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a round that was broken off: %v", err)
	}
	if f := s.Findings()[0]; f.Severity != health.Warn || strings.Contains(f.Message, "could not be compared") {
		t.Errorf("what was broken off is reported as %+v", f)
	}
	s.round(reconcile.Request{}) // the turn was given back
}

// A round over a part of the missing events does not claim that everything was compared.
func TestAPartOfTheList(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.round(reconcile.Request{Since: time.Hour})
	if f := s.Findings()[0]; f.Severity != health.OK || !strings.Contains(f.Message, "has not been compared") {
		t.Errorf("after a part: %+v", f)
	}
	s.round(reconcile.Request{})
	if f := s.Findings()[0]; f.Severity != health.OK || !strings.Contains(f.Message, "was last compared") {
		t.Errorf("after the whole: %+v", f)
	}
}

// A connected account's events are listed in its name, and a disconnected account is skipped.
func TestConnectedAccounts(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now().Unix()
	first := strings.Replace(string(payment(1, "payment_intent.succeeded", now-100)), `"livemode"`, `"account":"acct_7","livemode"`, 1)
	s.deliver([]byte(first))
	s.account.AddEvent(payment(2, "payment_intent.succeeded", now-90), "acct_7")
	s.account.AddEvent(payment(3, "payment_intent.succeeded", now-80), "")
	s.account.AddEvent(payment(4, "payment_intent.succeeded", now-70), "acct_stranger")
	report := s.round(reconcile.Request{})
	if report.Recovered != 2 || report.Accounts != 2 {
		t.Errorf("the round said %+v", report)
	}
	p, err := s.books.Payment("pi_3QbMissed0000002")
	if err != nil || p.Account != "acct_7" {
		t.Errorf("the connected account's: %+v, %v", p, err)
	}
	s.account.Fail(slices.Repeat([]stripetest.Fault{{Account: "acct_7", Status: 403}}, 20)...)
	s.account.AddEvent(payment(5, "payment_intent.succeeded", now-60), "")
	report, err = s.Round(t.Context(), reconcile.Request{})
	if err == nil || report.Recovered != 1 || report.Accounts != 1 || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "acct_7") {
		t.Errorf("the round without it said %+v, %v", report, err)
	}
}

// A failing connected account stops no other, but the round is no success.
func TestAnAccountThatFails(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now().Unix()
	for i, account := range []string{"acct_1", "acct_2"} {
		s.deliver([]byte(strings.Replace(string(payment(i, "payment_intent.succeeded", now-100)), `"livemode"`, `"account":"`+account+`","livemode"`, 1)))
		s.account.AddEvent(payment(10+i, "payment_intent.succeeded", now-90), account)
	}
	s.account.Fail(slices.Repeat([]stripetest.Fault{{Account: "acct_1", Status: 402}}, 10)...)
	report, err := s.Round(t.Context(), reconcile.Request{})
	if err == nil || !strings.Contains(err.Error(), "account acct_1: Stripe answered 402") || report.Recovered != 1 || s.checkpoint("reconciled/acct_1") != 0 || s.checkpoint("reconciled/acct_2") == 0 {
		t.Errorf("it said %+v, %v", report, err)
	}
}

// A key whose account has none of the deliveries may be of another account. That is reported.
func TestAKeyOfAnotherAccount(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now().Unix()
	reported := func() (severity health.Severity) {
		for _, f := range s.Findings() {
			if f.Code == "api_account" {
				severity = f.Severity
			}
		}
		return severity
	}
	if s.round(reconcile.Request{}); reported() != "" {
		t.Errorf("of an empty ledger it says %s", reported())
	}
	for i := range 5 {
		s.deliver(payment(i, "payment_intent.succeeded", now-100))
	}
	if s.round(reconcile.Request{}); reported() != health.Warn {
		t.Errorf("of events that the account does not know it says %q", reported())
	}
	s.account.AddEvent(payment(4, "payment_intent.succeeded", now-100), "")
	if s.round(reconcile.Request{}); reported() != "" {
		t.Errorf("of one that it knows it says %q", reported())
	}
	calls := len(s.account.Calls())
	s.round(reconcile.Request{})
	for _, c := range s.account.Calls()[calls:] {
		if strings.HasPrefix(c.Path, "/v1/events/") {
			t.Errorf("it asked again for %s", c.Path)
		}
	}
	const other = "rk_test_51QbOfAnotherAccount"
	s.account.SetKey(other)
	s.options.API.SetKey(other)
	for i := range 5 {
		s.deliver(payment(10+i, "payment_intent.succeeded", now-50))
	}
	if s.round(reconcile.Request{}); reported() != health.Warn {
		t.Errorf("of a key that took the place of the first it says %q", reported())
	}
}

func TestADryRunWritesNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for i := range 3 {
		s.account.AddEvent(payment(i, "payment_intent.succeeded", time.Now().Unix()-3000), "")
	}
	report := s.round(reconcile.Request{DryRun: true, Since: 2 * time.Hour})
	want := []string{"evt_3QbMissed0000000", "evt_3QbMissed0000001", "evt_3QbMissed0000002"}
	if report.Recovered != 3 || !reflect.DeepEqual(report.Events, want) || s.events() != 0 || s.checkpoint("reconciled/") != 0 {
		t.Errorf("it said %+v; %d events, the checkpoint %d", report, s.events(), s.checkpoint("reconciled/"))
	}
}

// The calls of a day are bounded across restarts.
func TestTheDailyBudget(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.options.Calls = 20
	for i := range 2500 {
		s.account.AddEvent(payment(i, "payment_intent.succeeded", time.Now().Unix()-3000), "")
	}
	for range 2 {
		s.Reconciler = reconcile.New(s.options)
		if _, err := s.Round(t.Context(), reconcile.Request{}); err == nil || !strings.Contains(err.Error(), "are used up (20 of 20)") {
			t.Errorf("the round ended with %v", err)
		}
		if n := len(s.account.Calls()); n != 20 {
			t.Errorf("Stripe was asked %d times", n)
		}
	}
}
