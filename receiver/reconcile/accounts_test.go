package reconcile_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/receiver/health"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
	"tillhook/receiver/stripe/stripetest"
)

// inDays runs a test with fake time.
func inDays(t *testing.T, test func(t *testing.T, s *shop)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, open(t, stripetest.Offline())) })
}

// connect delivers an event of each of n connected accounts, which makes the accounts known.
func (s *shop) connect(n int) (ids []string) {
	s.t.Helper()
	for i := range n {
		id := fmt.Sprintf("acct_%03d", i)
		ids = append(ids, id)
		body := payment(900000+i, "payment_intent.succeeded", time.Now().Unix()-60)
		s.account.AddEvent(body, id)
		s.deliver([]byte(strings.Replace(string(body), `"livemode"`, `"account":"`+id+`","livemode"`, 1)))
	}
	s.account.AddEvent(payment(899999, "payment_intent.succeeded", time.Now().Unix()-60), "")
	s.deliver(payment(899999, "payment_intent.succeeded", time.Now().Unix()-60))
	return ids
}

// run runs the reconciler for a time. meanwhile, if not nil, is called every ten minutes.
func (s *shop) run(d time.Duration, meanwhile func(now time.Time)) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, s.every) }()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(10 * time.Minute)
		if meanwhile != nil {
			meanwhile(time.Now())
		}
	}
	cancel()
	if err := <-done; err != nil {
		s.t.Error(err)
	}
}

// metric returns the lines of a metric.
func (s *shop) metric(name string) (lines []string) {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.options.Metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "tillhook_"+name) {
			lines = append(lines, strings.TrimSpace(strings.TrimPrefix(line, "tillhook_"+name)))
		}
	}
	return lines
}

// finding returns the finding with a code, or a zero one.
func (s *shop) finding(code health.Code) (f health.Finding) {
	for _, f = range s.Findings() {
		if f.Code == code {
			return f
		}
	}
	return health.Finding{}
}

// A day of a platform with 300 accounts, ten of which have events that are not delivered.
func TestThreeHundredAccounts(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(300)
		asked := map[string][]time.Time{}
		total, lists := 0, 0
		s.account.OnCall(func(c stripetest.Call) {
			total++
			if c.Path == "/v1/events" {
				asked[c.Account] = append(asked[c.Account], time.Now())
			}
			if c.Path == "/v1/charges" {
				lists++
			}
		})
		made, ticks := 0, 0
		begun := time.Now()
		s.run(24*time.Hour, func(now time.Time) {
			if ticks++; ticks%3 != 0 {
				return
			}
			for _, id := range ids[:10] {
				s.account.AddEvent(payment(made, "payment_intent.succeeded", now.Unix()-1), id)
				made++
			}
		})
		if total >= 10000 {
			t.Errorf("%d calls", total)
		}
		for account, times := range asked {
			every := time.Hour
			if account == "" {
				every = 15 * time.Minute
			}
			last := begun
			for _, at := range append(times, begun.Add(24*time.Hour)) {
				if at.Sub(last) > every+time.Minute {
					t.Errorf("%q was not compared from %s to %s", account, last, at)
				}
				last = at
			}
			// A round may begin at the very instant at which the day ends.
			within := slices.IndexFunc(append(times, begun.Add(24*time.Hour)), func(at time.Time) bool { return !at.Before(begun.Add(24 * time.Hour)) })
			if account > ids[9] && within > 24 {
				t.Errorf("%q, where nothing happens, was asked %d times", account, within)
			}
		}
		if len(asked) != 301 {
			t.Errorf("%d accounts were asked", len(asked))
		}
		if lists > 2*(301) {
			t.Errorf("charges were listed %d times", lists)
		}
		if n := int(s.events()) - 301; n < made-10*2 || n > made {
			t.Errorf("%d of %d events were recovered", n, made)
		}
		if got := s.metric("reconcile_accounts"); !slices.Equal(got, []string{`{state="compared"} 301`, `{state="refused"} 0`, `{state="waiting"} 0`}) {
			t.Errorf("the metric is %v", got)
		}
		t.Logf("%d calls, %d of them lists of charges", total, lists)
	})
}

// The first round of an account with few events needs one call, not one per day.
func TestTheFirstRoundIsShort(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for i := range 90 {
		s.account.AddEvent(payment(i, "payment_intent.succeeded", time.Now().Add(-time.Duration(i)*7*time.Hour).Unix()), "")
	}
	if report := s.round(reconcile.Request{}); report.Recovered != 90 || report.Calls > 6 {
		t.Errorf("it said %+v", report)
	}
}

// Objects are listed once a day, those of a connected account only if it has had events.
func TestNightlyLists(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(5)
		s.every = time.Hour
		s.run(2*24*time.Hour-30*time.Minute, nil) // not at midnight: then a round begins as this ends, or not
		asked := map[string]int{}
		s.account.OnCall(func(c stripetest.Call) {
			if c.Path == "/v1/charges" {
				asked[c.Account]++
			}
		})
		n := 0
		s.run(4*24*time.Hour, func(now time.Time) {
			if n++; n%12 == 0 {
				s.account.AddEvent(payment(n, "payment_intent.succeeded", now.Unix()-1), ids[2])
			}
		})
		if asked[""] != 4 || asked[ids[2]] < 3 || asked[ids[2]] > 4 || len(asked) != 2 {
			t.Errorf("charges were listed %v", asked)
		}
	})
}

// A key without permission for connected accounts is reported in health and metrics, and no round
// counts as a success.
func TestAKeyWithoutConnect(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.connect(3)
		s.account.Refuse()
		s.run(40*time.Hour, nil)
		f := s.finding(health.ReconcileAccounts)
		if f.Severity != health.Fail || !strings.Contains(f.Message, "3 of 3 connected accounts are not compared") || !strings.Contains(f.Next, "Connect permission Events: Read") {
			t.Errorf("it is reported as %+v", f)
		}
		if got := s.metric("reconcile_accounts"); !slices.Equal(got, []string{`{state="compared"} 1`, `{state="refused"} 3`, `{state="waiting"} 0`}) {
			t.Errorf("the metric is %v", got)
		}
		if got := s.metric("reconcile_last_success_timestamp_seconds"); !slices.Equal(got, []string{" 0"}) && !slices.Equal(got, []string{"0"}) {
			t.Errorf("the last success is %v", got)
		}
		report, err := s.Round(t.Context(), reconcile.Request{})
		if err == nil || !strings.Contains(err.Error(), "3 of 4 accounts were not compared") || report.Accounts != 1 {
			t.Errorf("a round said %+v, %v", report, err)
		}
		if f := s.finding(health.APIAccount); f.Severity != "" {
			t.Errorf("it is taken for a key of another account: %+v", f)
		}
		// Once the key has the permission, all are compared within the hour.
		s.account.Accept()
		s.run(75*time.Minute, nil)
		if f := s.finding(health.ReconcileAccounts); f.Severity != "" {
			t.Errorf("with the permission it is reported as %+v", f)
		}
	})
}

// One disconnected account of many is a warning, is tried with growing pauses, and does not stop
// rounds from succeeding.
func TestAnAccountThatLeft(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(4)
		s.run(2*time.Hour, nil)
		s.account.Refuse(ids[1])
		calls := 0
		s.account.OnCall(func(c stripetest.Call) {
			if c.Account == ids[1] {
				calls++
			}
		})
		s.run(3*time.Hour, nil)
		if f := s.finding(health.ReconcileAccounts); f.Severity != health.Warn || !strings.Contains(f.Message, ids[1]) || !strings.Contains(f.Next, "after 24 hours it counts as disconnected") {
			t.Errorf("at first it is reported as %+v", f)
		}
		s.Reconciler = reconcile.New(s.options) // a restart forgets nothing of it
		s.run(45*time.Hour, nil)
		if f := s.finding(health.ReconcileAccounts); f.Severity != health.Warn || !strings.Contains(f.Message, "count as disconnected") {
			t.Errorf("after two days it is reported as %+v", f)
		}
		if age := time.Now().Unix() - s.checkpoint("reconcile-success"); age > 3600 {
			t.Errorf("the last success was %d s ago", age)
		}
		s.every = time.Hour
		s.run(18*24*time.Hour, nil)
		if calls > 32 {
			t.Errorf("in 20 days it was asked %d times", calls)
		}
		if f := s.finding(health.ReconcileAccounts); f.Severity != "" {
			t.Errorf("after 20 days it is reported as %+v", f)
		}
		if got := s.metric("reconcile_accounts"); !slices.Contains(got, `{state="refused"} 1`) {
			t.Errorf("the metric is %v", got)
		}
		// It comes back, after our clock was wrong when it was last asked.
		if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"refused-asked/" + ids[1]: time.Now().Unix() + 1e7}); err != nil {
			t.Fatal(err)
		}
		s.account.Accept()
		s.run(25*time.Hour, nil)
		calls = 0
		s.run(10*time.Hour, nil)
		if calls < 9 || calls > 11 || s.checkpoint("refused-since/"+ids[1]) != 0 {
			t.Errorf("after it came back it was asked %d times in 10 hours", calls)
		}
	})
}

// With too few calls for all accounts the oldest comparison comes first, and the key's own account
// is always compared.
func TestNoAccountStarves(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.options.Calls, s.every = 200, 6*time.Hour
		s.Reconciler = reconcile.New(s.options)
		ids := s.connect(300)
		asked, perDay := map[string]int{}, map[int]int{}
		begun := time.Now()
		s.account.OnCall(func(c stripetest.Call) {
			perDay[int(time.Since(begun)/(24*time.Hour))]++
			if c.Path == "/v1/events" {
				asked[c.Account]++
			}
		})
		s.run(3*24*time.Hour-time.Hour, nil)
		for _, id := range ids {
			if asked[id] == 0 {
				t.Errorf("%s was never asked", id)
			}
		}
		if asked[""] != 12 {
			t.Errorf("the own account was asked %d times in 12 rounds", asked[""])
		}
		for day, n := range perDay {
			if n > 200 {
				t.Errorf("%d calls on day %d", n, day)
			}
		}
	})
}

// An account with a large backlog does not use up the calls of the others, and is read in the end.
func TestALargeBacklog(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.options.Calls, s.every = 100, 6*time.Hour
		s.Reconciler = reconcile.New(s.options)
		s.connect(40)
		const backlog = 3000
		for i := range backlog {
			s.account.AddEvent(payment(i, "payment_intent.succeeded", time.Now().Add(-20*24*time.Hour).Unix()+int64(i)), "acct_000")
		}
		asked := map[string]bool{}
		s.account.OnCall(func(c stripetest.Call) { asked[c.Account] = true })
		s.run(23*time.Hour, nil)
		if len(asked) < 41 {
			t.Errorf("on the first day %d of 41 accounts were asked", len(asked))
		}
		s.run(2*24*time.Hour, nil)
		if n := s.events(); n < 41+100 {
			t.Errorf("after three days %d events are in the ledger", n)
		}
		s.options.Calls = 2000
		s.Reconciler = reconcile.New(s.options)
		s.run(24*time.Hour, nil)
		if n := s.events(); n != backlog+41 {
			t.Errorf("with more calls %d events are in the ledger", n)
		}
	})
}

// The finding about a used up budget has its end, also after a restart.
func TestAUsedUpDay(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.options.Calls = 200
		s.Reconciler = reconcile.New(s.options)
		s.connect(30)
		s.run(20*time.Hour, nil)
		for range 2 {
			f := s.finding(health.ReconcileBudget)
			if f.Severity != health.Warn || !strings.Contains(f.Message, "The limit of 200 calls a day to Stripe's API is used up until 2000-01-02 00:00 UTC.") {
				t.Errorf("it is reported as %+v", f)
			}
			s.Reconciler = reconcile.New(s.options)
			if _, err := s.Round(t.Context(), reconcile.Request{}); err == nil {
				t.Error("a round went well without calls")
			}
		}
		s.run(5*time.Hour, nil)
		if f := s.finding(health.ReconcileBudget); f.Severity != "" {
			t.Errorf("on the next day it is reported as %+v", f)
		}
	})
}

// A pause of over 30 days is reported with its days for a month, also after a restart.
func TestAPauseLongerThanStripeRemembers(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.round(reconcile.Request{}) // on 2000-01-01
		time.Sleep(40 * 24 * time.Hour)
		report := s.round(reconcile.Request{DryRun: true})
		if len(report.Gaps) != 1 || s.finding(health.ReconcileGap).Severity != "" {
			t.Errorf("a dry run said %+v", report)
		}
		report = s.round(reconcile.Request{})
		if len(report.Gaps) != 1 || report.Gaps[0].To-report.Gaps[0].From != 10*86400+600 || len(report.Problems) != 1 {
			t.Errorf("the round said %+v", report)
		}
		s.Reconciler = reconcile.New(s.options)
		report = s.round(reconcile.Request{})
		f := s.finding(health.ReconcileGap)
		if f.Severity != health.Warn || !strings.Contains(f.Message, "Events from 1999-12-31 23:50 UTC to 2000-01-11 00:00 UTC (10 days)") || len(report.Gaps) != 0 {
			t.Errorf("it is reported as %+v; the round said %+v", f, report)
		}
		s.every = 6 * time.Hour
		s.run(29*24*time.Hour, nil)
		if f := s.finding(health.ReconcileGap); f.Severity == "" {
			t.Error("after 29 days it is not reported")
		}
		s.run(2*24*time.Hour, nil)
		if f := s.finding(health.ReconcileGap); f.Severity != "" {
			t.Errorf("after 31 days it is reported as %+v", f)
		}
	})
}

// The time of the last success survives a restart. With a key that never worked it is 0 from the
// start.
func TestTheAlertThatGoesQuiet(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		const success, audit = "reconcile_last_success_timestamp_seconds", "endpoint_audit_last_success_timestamp_seconds"
		key := s.account.Key
		s.account.Key = "rk_test_revoked"
		s.run(time.Hour, nil)
		for _, name := range []string{success, audit} {
			if got := s.metric(name); !slices.Equal(got, []string{"0"}) {
				t.Errorf("%s of a key that never worked is %q", name, got)
			}
		}
		s.account.Key = key
		s.run(time.Hour, nil)
		before := s.metric(success)
		s.account.Key = "rk_test_revoked"
		s.options.Metrics = newMetrics()
		s.Reconciler = reconcile.New(s.options)
		s.run(3*time.Hour, nil)
		if got := s.metric(success); len(got) != 1 || got[0] == "0" || strings.Split(got[0], "e")[1] != strings.Split(before[0], "e")[1] {
			t.Errorf("after a restart the last success is %q, it was %q", got, before)
		}
		if got := s.metric(audit); len(got) != 1 || got[0] == "0" {
			t.Errorf("after a restart the last audit is %q", got)
		}
		if f := s.Findings()[0]; f.Severity != health.Warn || !strings.Contains(f.Message, "401") {
			t.Errorf("it is reported as %+v", f)
		}
	})
}

// The same problem is logged twice a day, whatever request ids Stripe's answers have.
func TestProblemsAreLoggedOnce(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		var log strings.Builder
		s.options.Log = slog.New(slog.NewTextHandler(&log, nil))
		s.Reconciler = reconcile.New(s.options)
		s.connect(3)
		s.account.Refuse("acct_001")
		for range 3 {
			s.round(reconcile.Request{})
		}
		if n := strings.Count(log.String(), "account acct_001 is skipped"); n != 1 {
			t.Errorf("it was logged %d times:\n%s", n, log.String())
		}
		log.Reset()
		s.account.Deny("/v1/events", "rak_event_read")
		s.run(6*time.Hour, nil)
		if n := strings.Count(log.String(), "could not compare"); n != 1 {
			t.Errorf("a round that failed was logged %d times:\n%s", n, log.String())
		}
	})
}

// An account with new events is compared each round while calls are left, otherwise once an hour.
func TestSpareCalls(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(2)
		s.options.Calls = 1000
		s.Reconciler = reconcile.New(s.options)
		time.Sleep(12 * time.Hour)
		calls := 0
		s.account.OnCall(func(c stripetest.Call) {
			if c.Path == "/v1/events" && c.Account == ids[0] {
				calls++
			}
		})
		n := 0
		busy := func(now time.Time) {
			n++
			s.account.AddEvent(payment(n, "payment_intent.succeeded", now.Unix()-1), ids[0])
		}
		s.run(4*time.Hour, busy)
		if calls < 13 || calls > 17 {
			t.Errorf("with calls to spare it was asked %d times in 4 hours", calls)
		}
		if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"reconcile-calls": 500}); err != nil {
			t.Fatal(err)
		}
		s.Reconciler = reconcile.New(s.options)
		calls = 0
		s.run(4*time.Hour, busy)
		if calls < 3 || calls > 6 {
			t.Errorf("without calls to spare it was asked %d times in 4 hours", calls)
		}
	})
}

// Thin events of the key's own account name it in their context. It is no connected account: calls
// for it name no account, and it is compared once.
func TestTheOwnAccountInAContext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what string
		set  func(*stripetest.Account)
		key  bool // the first round learns the key's account
	}{
		{"the key may read its account", func(*stripetest.Account) {}, true},
		{"the key may not, and Stripe names the account", func(a *stripetest.Account) { a.Deny("/v1/account", "rak_accounts_kyc_basic_read") }, true},
		{"Stripe does not answer that call", func(a *stripetest.Account) {
			a.Fail(stripetest.Fault{Path: "/v1/account", Status: 400})
		}, false},
		{"Stripe has a fault", func(a *stripetest.Account) {
			for range 5 { // all attempts of one call
				a.Fail(stripetest.Fault{Path: "/v1/account", Status: 500})
			}
		}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newShop(t)
			c.set(s.account)
			thin, err := os.ReadFile("../../testdata/events/v1.payment_intent.succeeded.json")
			if err != nil {
				t.Fatal(err)
			}
			related := stripe.RelatedObject(thin)
			now := time.Now().Unix()
			s.account.Put(intent(related, "succeeded", 4900, now-100), "")
			s.deliver(thin)
			report := s.round(reconcile.Request{})
			if !c.key { // the event waits, and Stripe is asked again
				if report.Resolved != 0 || report.Accounts != 1 {
					t.Errorf("the first round reported %+v", report)
				}
				report = s.round(reconcile.Request{})
			}
			if report.Resolved != 1 || report.Accounts != 1 {
				t.Errorf("the round reported %+v", report)
			}
			p, err := s.books.Payment(related)
			if err != nil || (p.Account != "" || p.Context != "") {
				t.Errorf("the payment is of the account %q in the context %q, %v", p.Account, p.Context, err)
			}
			if at := s.Progress(); at.Compared != 1 || len(at.Connected) != 0 {
				t.Errorf("compared %d accounts, connected %v", at.Compared, at.Connected)
			}
			asked := 0
			for _, call := range s.account.Calls() {
				if call.Path == "/v1/account" {
					asked++
				} else if c.key && (call.Account != "" || call.Context != "") {
					t.Errorf("%s named the account %q in the context %q", call.Path, call.Account, call.Context)
				}
			}
			s.round(reconcile.Request{})
			if later := s.account.Calls(); c.key && (asked != 1 || slices.ContainsFunc(later, func(call stripetest.Call) bool { return call.Context != "" })) {
				t.Errorf("Stripe was asked %d times for the account", asked)
			}
		})
	}
}

// Members of an organization are called with the context of their events, and recovered events
// belong to them.
func TestMembersOfAnOrganization(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now().Unix()
	s.deliver([]byte(strings.Replace(string(payment(1, "payment_intent.succeeded", now-100)), `"livemode"`, `"context":"org_1/acct_7","livemode"`, 1)))
	s.account.AddEvent(payment(2, "payment_intent.succeeded", now-90), "acct_7")
	report := s.round(reconcile.Request{})
	p, err := s.books.Payment("pi_3QbMissed0000002")
	if err != nil || p.Account != "acct_7" || report.Recovered != 1 {
		t.Errorf("booked as %+v, %v; it said %+v", p, err, report)
	}
	asked := 0
	for _, c := range s.account.Calls() {
		if c.Account != "" && c.Context != "org_1/acct_7" {
			t.Errorf("%s was asked for %q in the context %q", c.Path, c.Account, c.Context)
		}
		if c.Context != "" {
			asked++
		}
	}
	if asked == 0 {
		t.Error("the member was not asked for")
	}
}
