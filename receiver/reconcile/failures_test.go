package reconcile_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/health"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe/stripetest"
)

// An unreadable account does not stop the others from being compared.
func TestAnUnreadableAccount(t *testing.T) {
	for name, fault := range map[string]stripetest.Fault{
		"cut":         {Cut: true},
		"gateway":     {HTML: true},
		"blocked":     {HTML: true, Status: 403},
		"slow":        {Slow: 40 * time.Second},
		"bad request": {Status: 400},
	} {
		t.Run(name, func(t *testing.T) {
			inDays(t, func(t *testing.T, s *shop) {
				ids := s.connect(10)
				s.run(3*time.Hour, nil)
				fault.Path, fault.Account = "/v1/events", ids[3]
				s.account.Fail(slices.Repeat([]stripetest.Fault{fault}, 5000)...)
				asked := 0
				s.account.OnCall(func(c stripetest.Call) {
					if c.Account == ids[3] {
						asked++
					}
				})
				made := 0
				s.run(12*time.Hour, func(now time.Time) {
					made++
					s.account.AddEvent(payment(made, "payment_intent.succeeded", now.Unix()-1), ids[8])
				})
				if n := int(s.events()) - 11; n < made-8 {
					t.Errorf("%d of %d events of another account were recovered", n, made)
				}
				if asked > 5*2*6 {
					t.Errorf("it was asked %d times in 12 hours", asked)
				}
				if got := s.metric("reconcile_accounts"); !slices.Contains(got, `{state="waiting"} 1`) || !slices.Contains(got, `{state="refused"} 0`) {
					t.Errorf("the metric is %v", got)
				}
			})
		})
	}
}

// If the accounts of a platform fail one after the other, the round ends.
func TestThreeUnreadableAccounts(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(10)
		for _, id := range ids {
			s.account.Fail(slices.Repeat([]stripetest.Fault{{Path: "/v1/events", Account: id, Status: 400}}, 10)...)
		}
		asked := map[string]bool{}
		s.account.OnCall(func(c stripetest.Call) { asked[c.Account] = true })
		if _, err := s.Round(t.Context(), reconcile.Request{}); err == nil || len(asked) != 4 {
			t.Errorf("%d accounts were asked: %v", len(asked), err)
		}
	})
}

// An unreadable page of all types is read again by types about payments.
func TestAnUnreadablePage(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(1)
		s.account.AddEvent(payment(1, "payment_intent.succeeded", time.Now().Unix()-100), ids[0])
		s.account.Fail(slices.Repeat([]stripetest.Fault{{Path: "/v1/events", Account: ids[0], Cut: true}}, 5)...)
		if report := s.round(reconcile.Request{}); report.Recovered != 1 {
			t.Errorf("the round said %+v", report)
		}
	})
}

// A key that is revoked during a round marks no account as refused.
func TestAKeyRevokedDuringARound(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(50)
		s.run(2*time.Hour, nil)
		success := s.checkpoint("reconcile-success")
		key, calls := s.account.Key, 0
		s.account.Before(func(_ int, r *http.Request) {
			if r.Header.Get("Stripe-Account") == "" {
				return
			}
			if calls++; calls == 30 {
				s.account.Key = "rk_test_revoked"
			}
		})
		report, err := s.Round(t.Context(), reconcile.Request{})
		if err == nil || !strings.Contains(err.Error(), "401") || len(report.Problems) != 0 {
			t.Errorf("the round said %+v, %v", report, err)
		}
		for _, id := range ids {
			if s.checkpoint("refused-since/"+id) != 0 {
				t.Errorf("%s counts as refused", id)
			}
		}
		if s.checkpoint("reconcile-success") != success {
			t.Error("the round counts as a success")
		}
		s.account.Key = key
		if report := s.round(reconcile.Request{}); report.Accounts != 51 {
			t.Errorf("with the key the round said %+v", report)
		}
	})
}

// One disconnected account of two is not the key's fault. A single disconnected account does not
// stop rounds from succeeding.
func TestOneOfFewLeft(t *testing.T) {
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inDays(t, func(t *testing.T, s *shop) {
				ids := s.connect(n)
				s.run(3*time.Hour, nil)
				s.account.Refuse(ids[n-1])
				s.run(20*time.Hour, nil)
				if f := s.finding(health.ReconcileAccounts); f.Severity != health.Warn || strings.Contains(f.Next, "permission") {
					t.Errorf("it is reported as %+v", f)
				}
				if age := time.Now().Unix() - s.checkpoint("reconcile-success"); age > 3600 {
					t.Errorf("the last success was %d s ago", age)
				}
			})
		})
	}
}

// A refusal for a missing permission is the key's fault, even with one account.
func TestAKeyThatLacksAPermission(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(1)
		s.run(2*time.Hour, nil)
		s.options.API.Transport = unpermitted{s.account}
		s.run(2*time.Hour, nil)
		if f := s.finding(health.ReconcileAccounts); f.Severity != health.Fail || !strings.Contains(f.Next, "Connect permission Events: Read") {
			t.Errorf("it is reported as %+v", f)
		}
		if s.checkpoint("refused-since/"+ids[0]) == 0 {
			t.Error("the account does not count as refused")
		}
	})
}

// unpermitted is a Stripe whose key is not allowed to read connected accounts.
type unpermitted struct{ http.RoundTripper }

func (u unpermitted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Stripe-Account") == "" {
		return u.RoundTripper.RoundTrip(r)
	}
	return answerWith(r, 403, `{"error":{"type":"invalid_request_error","message":"The provided key does not have the required permissions for this endpoint. Having the 'rak_event_read' permission would allow this request to continue."}}`)
}

// answerWith answers a request in place of Stripe.
func answerWith(r *http.Request, status int, body string) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.WriteHeader(status)
	fmt.Fprint(w, body)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// After a missing permission is restored, all accounts are read at once, and none counts as
// disconnected.
func TestAPermissionThatComesBack(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(20)
		s.run(2*time.Hour, nil)
		s.account.Refuse()
		s.run(40*time.Hour, nil)
		s.account.Refuse(ids[5])
		body := payment(800000, "payment_intent.succeeded", time.Now().Unix()-60)
		s.deliver([]byte(strings.Replace(string(body), `"livemode"`, `"account":"acct_new","livemode"`, 1)))
		s.run(50*time.Minute, nil)
		if got := s.metric("reconcile_accounts"); !slices.Contains(got, `{state="compared"} 21`) || !slices.Contains(got, `{state="refused"} 1`) {
			t.Errorf("the metric is %v", got)
		}
		if f := s.finding(health.ReconcileAccounts); strings.Contains(f.Message, "count as disconnected") {
			t.Errorf("it is reported as %+v", f)
		}
	})
}

// A round over a short time does not end the failure of one over a longer time.
func TestAShortRoundAfterAFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what   string
		before bool // a round compared everything before the failure
		since  time.Duration
		ends   bool
	}{
		{"an hour of 30 days", false, time.Hour, false},
		{"all of them", false, 30 * 24 * time.Hour, true},
		{"less than since the last comparison", true, time.Minute, false},
		{"more than since the last comparison", true, time.Hour, true},
		{"the next round", true, 0, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			severity := func() health.Severity {
				list := s.Findings()
				return list[slices.IndexFunc(list, func(f health.Finding) bool { return f.Code == health.Reconcile })].Severity
			}
			if c.before {
				s.round(reconcile.Request{})
			}
			s.account.Fail(stripetest.Fault{Path: "/v1/events", Status: 400})
			if _, err := s.Round(t.Context(), reconcile.Request{}); err == nil || severity() != health.Warn {
				t.Fatalf("the round ended with %v, the finding is %s", err, severity())
			}
			s.round(reconcile.Request{Since: c.since})
			if want := map[bool]health.Severity{true: health.OK, false: health.Warn}[c.ends]; severity() != want {
				t.Errorf("after the round the finding is %s, want %s", severity(), want)
			}
			s.round(reconcile.Request{})
			if severity() != health.OK {
				t.Errorf("after a whole round the finding is %s", severity())
			}
		})
	}
}

// An account that returns with more events than a round may read is no longer refused.
func TestBackWithABacklog(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.options.Calls = 140
		s.Reconciler = reconcile.New(s.options)
		ids := s.connect(2)
		s.run(2*time.Hour, nil)
		s.account.Refuse(ids[0])
		s.every = 6 * time.Hour
		s.run(3*24*time.Hour, nil)
		for i := range 9000 {
			s.account.AddEvent(payment(i, "payment_intent.succeeded", time.Now().Add(-2*24*time.Hour).Unix()+int64(i)*18), ids[0])
		}
		s.account.Accept()
		s.run(30*time.Hour, nil)
		if s.checkpoint("refused-since/"+ids[0]) != 0 || s.events() < 100 {
			t.Errorf("it counts as refused; %d events are in the ledger", s.events())
		}
	})
}

// After a restart with a used up budget the state of the accounts is still shown.
func TestARestartOnAUsedUpDay(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.options.Calls = 2000
		s.Reconciler = reconcile.New(s.options)
		s.connect(300)
		s.run(14*time.Hour, nil)
		before := s.metric("reconcile_accounts")
		s.options.Metrics = newMetrics()
		s.Reconciler = reconcile.New(s.options)
		shows := func(when string) {
			if after := s.metric("reconcile_accounts"); !slices.Equal(before, after) {
				t.Errorf("the metric was %v and %s is %v", before, when, after)
			}
		}
		s.account.Before(func(int, *http.Request) { shows("during the first round") })
		s.run(10*time.Minute, nil)
		shows("after it")
		if f := s.finding(health.ReconcileBudget); !strings.Contains(f.Message, "of 301 accounts are waiting until then") {
			t.Errorf("it is reported as %+v", f)
		}
	})
}

// delayed answers late.
type delayed struct {
	http.RoundTripper
	by time.Duration
}

func (d delayed) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(d.by)
	return d.RoundTripper.RoundTrip(r)
}

// While the backlog of another account is read, the key's own account is compared when it is due.
func TestTheOwnAccountBesideABacklog(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(3)
		s.options.API.Transport = delayed{s.account, 20 * time.Second}
		for i := range 6000 {
			s.account.AddEvent(payment(i, "payment_intent.succeeded", time.Now().Add(-25*24*time.Hour).Unix()+int64(i)*340), ids[0])
		}
		last, longest := time.Now(), time.Duration(0)
		s.account.OnCall(func(c stripetest.Call) {
			if c.Path == "/v1/events" && c.Account == "" {
				longest, last = max(longest, time.Since(last)), time.Now()
			}
		})
		s.run(3*time.Hour, nil)
		if longest > 20*time.Minute {
			t.Errorf("the own account waited for %s", longest)
		}
		if n := s.events(); n < 6000 {
			t.Errorf("%d events are in the ledger", n)
		}
	})
}

// A refused account is tried with growing pauses even if this machine's clock is ahead of Stripe's.
func TestARefusalAndAClockAhead(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(3)
		s.account.SetNow(func() time.Time { return time.Now().Add(-6 * time.Hour) })
		s.account.Refuse(ids[1])
		calls := 0
		s.account.OnCall(func(c stripetest.Call) {
			if c.Account == ids[1] {
				calls++
			}
		})
		s.run(5*time.Hour, nil)
		if calls < 3 || calls > 5 {
			t.Errorf("in 5 hours it was asked %d times", calls)
		}
	})
}

// When the calls for connected accounts are used up, some are left for the objects of the own
// account.
func TestAThinEventOnAUsedUpDay(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.options.Calls = 2000
		s.Reconciler = reconcile.New(s.options)
		s.connect(300)
		s.run(8*time.Hour, nil)
		for _, account := range []string{`"acct_000"`, "null"} {
			s.deliver(fmt.Appendf(nil, `{"id":"evt_thin_%d","object":"v2.core.event","type":"v1.payment_intent.succeeded","livemode":false,`+
				`"created":"2000-01-01T00:00:00.000Z","context":%s,"related_object":{"id":"pi_thin","type":"payment_intent"}}`, len(account), account))
		}
		s.account.Put(fmt.Appendf(nil, `{"id":"pi_thin","object":"payment_intent","status":"succeeded","amount":4900,"amount_received":4900,`+
			`"currency":"eur","created":%d,"latest_charge":null}`, time.Now().Unix()-50), "")
		s.run(time.Hour, nil)
		if e, err := s.books.Event("evt_thin_4"); err != nil || e.Quarantine != nil {
			t.Errorf("the own account's is %+v, %v", e, err)
		}
		if e, err := s.books.Event("evt_thin_10"); err != nil || e.Quarantine == nil {
			t.Errorf("the connected account's is %+v, %v", e, err)
		}
		if n := s.checkpoint("reconcile-calls"); n >= 2000 {
			t.Errorf("%d calls were made", n)
		}
	})
}

// A thin event that arrives between two rounds does not wait for the next, and is tried once.
func TestAThinEventBetweenRounds(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.every = time.Hour
		s.account.Put(fmt.Appendf(nil, `{"id":"pi_here","object":"payment_intent","status":"succeeded","amount":4900,"amount_received":4900,`+
			`"currency":"eur","created":%d,"latest_charge":null}`, time.Now().Unix()-50), "")
		begun := time.Now()
		s.run(50*time.Minute, func(now time.Time) {
			switch now.Sub(begun) {
			case 10 * time.Minute:
				for _, id := range []string{"pi_gone", "pi_here"} {
					s.deliver(fmt.Appendf(nil, `{"id":"evt_%s","object":"v2.core.event","type":"v1.payment_intent.succeeded","livemode":false,`+
						`"created":"2000-01-01T00:00:00.000Z","context":null,"related_object":{"id":%[1]q,"type":"payment_intent"}}`, id))
				}
			case 20 * time.Minute:
				for id, quarantined := range map[string]bool{"evt_pi_here": false, "evt_pi_gone": true} {
					if e, err := s.books.Event(id); err != nil || (e.Quarantine != nil) != quarantined {
						t.Errorf("after ten minutes %s is %+v, %v", id, e, err)
					}
				}
			}
		})
		asked := 0
		for _, call := range s.account.Calls() {
			if call.Path == "/v1/payment_intents/pi_gone" {
				asked++
			}
		}
		if asked != 1 {
			t.Errorf("what Stripe does not have was asked for %d times", asked)
		}
	})
}

// The gap of an account that was never compared starts when the account became known.
func TestAKeyThatComesAfterFortyDays(t *testing.T) {
	for _, what := range []string{"own", "connected"} {
		t.Run(what, func(t *testing.T) {
			inDays(t, func(t *testing.T, s *shop) {
				s.connect(1)
				s.every = 12 * time.Hour
				key := s.account.Key
				if what == "own" {
					s.account.Key = "rk_test_other"
				}
				s.account.Refuse()
				s.run(time.Hour, nil)
				time.Sleep(40*24*time.Hour - 2*time.Hour) // rounds in between fail the same way
				s.run(time.Hour, nil)
				s.account.Key = key
				s.account.Accept()
				report := s.round(reconcile.Request{})
				last := report.Gaps[len(report.Gaps)-1]
				if wrong := last.To - last.From - 10*86400; wrong < -3600 || wrong > 3600 || (len(report.Gaps) == 2) != (what == "own") {
					t.Errorf("the gaps are %+v", report.Gaps)
				}
				if f := s.finding(health.ReconcileGap); !strings.Contains(f.Message, "(10 days)") {
					t.Errorf("it is reported as %+v", f)
				}
				if report := s.round(reconcile.Request{}); len(report.Gaps) != 0 {
					t.Errorf("the next round has the gaps %+v", report.Gaps)
				}
			})
		})
	}
}
