package reconcile_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tillhook/receiver/health"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
	"tillhook/receiver/stripe/stripetest"
)

// wrong is how far the clocks are wrong. The test's own time is the true one.
type wrong struct{ ours, date atomic.Int64 }

func (w *wrong) wall() time.Time { return time.Now().Add(time.Duration(w.ours.Load())).Round(0) }

// set makes this machine's clock and the Date of Stripe's answers wrong.
func (w *wrong) set(ours, date time.Duration) {
	w.ours.Store(int64(ours))
	w.date.Store(int64(date))
}

// dated is a Stripe behind a proxy that changes the Date of its answers.
type dated struct {
	http.RoundTripper
	by *wrong
}

func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Header.Set("Date", time.Now().Add(time.Duration(d.by.date.Load())).UTC().Format(http.TimeFormat))
	}
	return resp, err
}

// restart forgets everything that is not in the ledger. Afterwards the clocks are those of w.
func (s *shop) restart(w *wrong) {
	s.t.Helper()
	base, err := url.Parse(s.account.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	api := stripe.NewAPI(s.account.Key, base, "test")
	api.Pause, api.Backoff, api.Transport, api.Wall = 0, time.Millisecond, dated{s.account, w}, w.wall
	s.options.API, s.options.Metrics = api, newMetrics()
	s.Reconciler = reconcile.New(s.options)
}

const year = 365 * 24 * time.Hour

// healed checks that wrong clocks have left nothing behind.
func (s *shop) healed(when string) {
	s.t.Helper()
	now := time.Now().Unix()
	for _, name := range []string{"reconciled/", "reconciled-daily/", "reconciled-newest/", "reconciled-objects/", "reconcile-success", "audit-success", "gap-found"} {
		if at := s.checkpoint(name); at > now {
			s.t.Errorf("%s: %s is %s ahead", when, name, time.Duration(at-now)*time.Second)
		}
	}
	if at := s.checkpoint("reconciled/"); now-at > 3600 {
		s.t.Errorf("%s: the checkpoint is %s old", when, time.Duration(now-at)*time.Second)
	}
	if at := s.checkpoint("reconcile-success"); now-at > 3600 {
		s.t.Errorf("%s: the last success was %s ago", when, time.Duration(now-at)*time.Second)
	}
	if day := s.checkpoint("reconcile-day"); day != now/86400 {
		s.t.Errorf("%s: the calls are counted for day %d, it is %d", when, day, now/86400)
	}
	if f := s.finding(health.ReconcileGap); f.Code != "" {
		s.t.Errorf("%s: it is reported of a gap: %s", when, f.Message)
	}
	for _, code := range []health.Code{health.Clock, health.Reconcile, health.ReconcileAccounts, health.ReconcileBudget} {
		// What a round recovered is reported for a day.
		if f := s.finding(code); f.Severity != health.OK && f.Code != "" && !strings.Contains(f.Message, "had been missed") {
			s.t.Errorf("%s: it is reported: %s", when, f.Message)
		}
	}
}

// A wrong clock, for a round or for days, with or without a restart, leaves no gap, no checkpoint
// that hides events, and no time in the future.
func TestClocksThatAreWrong(t *testing.T) {
	for _, by := range []time.Duration{-30 * year, -45 * 24 * time.Hour, -2 * time.Hour, 3 * 24 * time.Hour, 10 * year} {
		for _, which := range []string{"ours", "date"} {
			for _, restarts := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%v", which, by, restarts), func(t *testing.T) {
					inDays(t, func(t *testing.T, s *shop) { s.surviveClock(which, by, restarts) })
				})
			}
		}
	}
}

func (s *shop) surviveClock(which string, by time.Duration, restarts bool) {
	t, w, made := s.t, &wrong{}, 0
	time.Sleep(20 * year) // so that a clock can be behind
	s.restart(w)
	missed := func() {
		s.account.AddEvent(payment(made, "payment_intent.succeeded", time.Now().Unix()-60), "")
		made++
	}
	rounds := func(n int) {
		for range n {
			missed()
			time.Sleep(15 * time.Minute)
			_, _ = s.Round(t.Context(), reconcile.Request{})
		}
	}
	s.deliver(payment(800000, "payment_intent.succeeded", time.Now().Unix()-60))
	rounds(8)
	for _, long := range []int{1, 4 * 24 * 3} {
		if which == "ours" {
			w.set(by, 0)
		} else {
			w.set(0, by)
		}
		if restarts {
			s.restart(w)
		}
		calls := len(s.account.Calls())
		rounds(long)
		if f := s.finding(health.Clock); f.Severity != health.Fail {
			t.Errorf("while it was wrong it was reported as %+v", f)
		}
		if n := int(s.events()) - 1; n < made-1 {
			t.Errorf("while it was wrong for %d rounds %d of %d events were fetched", long, n, made)
		}
		if calls = len(s.account.Calls()) - calls; calls > 20+8*long {
			t.Errorf("%d rounds cost %d calls", long, calls)
		}
		w.set(0, 0)
		if restarts {
			s.restart(w)
		}
		missed()
		for range 2 {
			if _, err := s.Round(t.Context(), reconcile.Request{}); err != nil {
				t.Errorf("when it was right again: %v", err)
			}
		}
		s.healed(fmt.Sprintf("after %d rounds", long))
		if n := int(s.events()) - 1; n != made {
			t.Errorf("when it was right again %d of %d events were there", n, made)
		}
	}
}

// Both clocks go wrong and right at random, with restarts and pauses. In the end every event is
// there, and no false report was made.
func TestClocksAtRandom(t *testing.T) {
	seeds := uint64(6)
	if *long {
		seeds = 200
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inDays(t, func(t *testing.T, s *shop) { s.surviveAtRandom(rand.New(rand.NewPCG(seed, 15))) })
		})
	}
}

func (s *shop) surviveAtRandom(rng *rand.Rand) {
	t, w, made := s.t, &wrong{}, 0
	offsets := []time.Duration{0, 0, 0, -40 * year, -year, -40 * 24 * time.Hour, -time.Hour, time.Hour, 20 * 24 * time.Hour, 8 * year}
	time.Sleep(25 * year)
	s.restart(w)
	for day := range 40 {
		if ours := offsets[rng.IntN(len(offsets))]; rng.IntN(2) == 0 {
			w.set(ours, 0)
		} else {
			w.set(0, ours)
		}
		if day == 0 {
			w.set(0, 0)
		}
		for range 1 + rng.IntN(4) {
			if rng.IntN(3) == 0 {
				s.restart(w)
			}
			for range rng.IntN(3) {
				s.account.AddEvent(payment(made, "payment_intent.succeeded", time.Now().Unix()-int64(rng.IntN(300))), "")
				made++
			}
			_, _ = s.Round(t.Context(), reconcile.Request{})
			time.Sleep(time.Duration(rng.IntN(600)) * time.Minute)
		}
	}
	w.set(0, 0)
	for range 2 {
		if _, err := s.Round(t.Context(), reconcile.Request{}); err != nil {
			t.Errorf("when both were right again: %v", err)
		}
	}
	s.healed("in the end")
	if n := int(s.events()); n != made {
		t.Errorf("%d of %d events are there", n, made)
	}
}

// undatedHTTP is a Stripe whose answers have no Date.
type undatedHTTP struct{ http.RoundTripper }

func (u undatedHTTP) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := u.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Header.Del("Date")
	}
	return resp, err
}

// Without a Date, or with one that is as wrong as this machine's clock, nothing contradicts the
// clock. The effects still heal, and a gap is reported only if both clocks show it.
func TestNothingContradictsTheClock(t *testing.T) {
	for _, by := range []time.Duration{-30 * year, -40 * 24 * time.Hour, 40 * 24 * time.Hour, 10 * year} {
		for _, date := range []string{"none", "wrong"} {
			t.Run(fmt.Sprintf("%s/%s", by, date), func(t *testing.T) {
				inDays(t, func(t *testing.T, s *shop) {
					w := &wrong{}
					time.Sleep(31 * year)
					s.restart(w)
					s.account.AddEvent(payment(0, "payment_intent.succeeded", time.Now().Unix()-60), "")
					s.round(reconcile.Request{})
					w.set(by, by)
					s.restart(w)
					if date == "none" {
						s.options.API.Transport = undatedHTTP{s.options.API.Transport}
					}
					for range 3 {
						if report, _ := s.Round(t.Context(), reconcile.Request{}); date == "none" && len(report.Gaps) != 0 {
							t.Errorf("without a Date it said %+v", report.Gaps)
						}
						time.Sleep(15 * time.Minute)
					}
					w.set(0, 0)
					s.restart(w)
					s.account.AddEvent(payment(1, "payment_intent.succeeded", time.Now().Add(-2*time.Hour).Unix()), "")
					for range 2 {
						s.round(reconcile.Request{})
						time.Sleep(15 * time.Minute)
					}
					s.healed("in the end")
					if n := s.events(); n != 2 {
						t.Errorf("%d events are there, want 2", n)
					}
				})
			})
		}
	}
}

// A real gap is reported even if the first round after it has a wrong clock.
func TestAGapBehindAWrongDate(t *testing.T) {
	for _, by := range []time.Duration{-10 * year, 10 * year} {
		t.Run(by.String(), func(t *testing.T) {
			inDays(t, func(t *testing.T, s *shop) {
				w := &wrong{}
				time.Sleep(20 * year)
				s.restart(w)
				s.deliver(payment(0, "payment_intent.succeeded", time.Now().Unix()-60))
				s.account.AddEvent(payment(0, "payment_intent.succeeded", time.Now().Unix()-60), "")
				s.round(reconcile.Request{})
				time.Sleep(50 * 24 * time.Hour)
				w.set(0, by)
				s.restart(w)
				if report := s.round(reconcile.Request{}); by < 0 && len(report.Gaps) != 0 {
					t.Errorf("while the Date was wrong by %s it said %+v", by, report.Gaps)
				}
				w.set(0, 0)
				time.Sleep(15 * time.Minute)
				s.round(reconcile.Request{})
				if f := s.finding(health.ReconcileGap); !strings.Contains(f.Message, "(20 days)") {
					t.Errorf("after a Date wrong by %s it is reported as %+v", by, f)
				}
			})
		})
	}
}

// The times of refused accounts are dated by the believed clock.
func TestARefusalAndAClockOfAnotherYear(t *testing.T) {
	for _, by := range []time.Duration{-10 * year, 10 * year} {
		t.Run(by.String(), func(t *testing.T) {
			inDays(t, func(t *testing.T, s *shop) {
				w := &wrong{}
				time.Sleep(20 * year)
				s.restart(w)
				ids := s.connect(3)
				s.run(2*time.Hour, nil)
				w.set(by, 0)
				s.account.Refuse(ids[1])
				s.restart(w)
				s.run(3*time.Hour, nil)
				w.set(0, 0)
				s.restart(w)
				s.run(2*time.Hour, nil)
				if f := s.finding(health.ReconcileAccounts); f.Severity != health.Warn || strings.Contains(f.Message, "count as disconnected") || !strings.Contains(f.Message, ids[1]) {
					t.Errorf("it is reported as %+v", f)
				}
				if at, now := s.checkpoint("refused-since/"+ids[1]), time.Now().Unix(); at > now || now-at > 6*3600 {
					t.Errorf("it is refused since %s", time.Unix(at, 0))
				}
				s.account.Accept()
				s.run(26*time.Hour, nil)
				s.healed("in the end")
			})
		})
	}
}

// A clock that jumps neither renews the calls of a day nor blocks those of the next day.
func TestTheBudgetAndClocksThatJump(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		w := &wrong{}
		time.Sleep(20 * year)
		s.options.Calls = 60
		s.restart(w)
		s.connect(20)
		calls := 0
		s.account.OnCall(func(stripetest.Call) { calls++ })
		s.options.API.Transport = undatedHTTP{s.account} // nothing contradicts the clock
		s.run(2*time.Hour, nil)
		w.set(10*year, 0)
		s.run(time.Hour, nil)
		w.set(0, 0)
		before := calls
		s.run(time.Hour, nil)
		if calls > before+1 {
			t.Errorf("a clock that jumped renewed the calls: %d more", calls-before)
		}
		before = calls
		s.run(25*time.Hour, nil)
		if calls < before+20 {
			t.Errorf("the next day had %d calls", calls-before)
		}
		if f := s.finding(health.Reconcile); strings.Contains(f.Message, "at 203") {
			t.Errorf("a success of the future is reported: %s", f.Message)
		}
	})
}

// A receiver whose calls were used up by a clock ahead of time does not wait for that clock's
// midnight.
func TestAMidnightOfAnotherYear(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		w := &wrong{}
		time.Sleep(20 * year)
		s.options.Calls = 40
		s.restart(w)
		s.options.API.Transport = undatedHTTP{s.account}
		w.set(10*year, 0)
		var calls atomic.Int64
		s.account.OnCall(func(stripetest.Call) { calls.Add(1) })
		ticks, before := 0, int64(0)
		s.run(3*24*time.Hour, func(time.Time) {
			if ticks++; ticks == 6*12 {
				w.set(0, 0)
				before = calls.Load()
			}
		})
		if after := calls.Load() - before; before < 20 || after < 20 {
			t.Errorf("it called %d times before the clock was right, and %d in the days after", before, after)
		}
	})
}
