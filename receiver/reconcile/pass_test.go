package reconcile_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe/stripetest"
)

// thin returns a thin event about a payment. An empty account is the key's own.
func thin(payment, account string) []byte {
	named := "null"
	if account != "" {
		named = fmt.Sprintf("%q", account)
	}
	return fmt.Appendf(nil, `{"id":"evt_%s","object":"v2.core.event","type":"v1.payment_intent.succeeded","livemode":false,`+
		`"created":"2000-01-01T00:00:00.000Z","context":%s,"related_object":{"id":%[1]q,"type":"payment_intent"}}`, payment, named)
}

// held reports whether the thin event about a payment is still in quarantine.
func (s *shop) held(payment string) bool {
	s.t.Helper()
	e, err := s.books.Event("evt_" + payment)
	if err != nil {
		s.t.Fatal(err)
	}
	return e.Quarantine != nil
}

// always makes calls for an account fail with a status from now on.
func (s *shop) always(path, account string, status int) {
	s.account.Fail(slices.Repeat([]stripetest.Fault{{Path: path, Account: account, Status: status}}, 5000)...)
}

// asked returns the number of calls for a payment.
func (s *shop) asked(payment string) (n int) {
	for _, c := range s.account.Calls() {
		if c.Path == "/v1/payment_intents/"+payment {
			n++
		}
	}
	return n
}

// succeeded fails the test unless one of the latest rounds was a success.
func (s *shop) succeeded() {
	s.t.Helper()
	if age := time.Now().Unix() - s.checkpoint("reconcile-success"); age > 2*int64(s.every/time.Second) {
		s.t.Errorf("the last round that was a success was %d s ago", age)
	}
}

// A refused account does not block the thin events of others, and its own are not tried again that
// day.
func TestAThinEventOfARefusedAccount(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		var log bytes.Buffer
		s.options.Log = slog.New(slog.NewTextHandler(&log, nil))
		s.Reconciler = reconcile.New(s.options)
		ids := s.connect(3)
		s.always("/v1/payment_intents", ids[0], 401)
		s.account.Put(intent("pi_own", "succeeded", 4900, time.Now().Unix()-50), "")
		days := map[int64]int{}
		s.account.OnCall(func(c stripetest.Call) {
			if c.Account == ids[0] && strings.HasPrefix(c.Path, "/v1/payment_intents/") {
				days[time.Now().Unix()/86400]++
			}
		})
		ticks := 0
		s.run(50*time.Hour, func(time.Time) {
			if ticks++; ticks != 2 {
				return
			}
			for i := range 3 {
				s.deliver(thin(fmt.Sprintf("pi_refused%d", i), ids[0]))
			}
			s.deliver(thin("pi_own", ""))
			time.Sleep(time.Minute)
			if s.held("pi_own") {
				t.Error("after a minute the own account's is still held")
			}
		})
		for day, n := range days {
			if n > 1 {
				t.Errorf("on day %d it was asked %d times", day, n)
			}
		}
		if len(days) < 3 {
			t.Errorf("it was asked on %d days", len(days))
		}
		if n := strings.Count(log.String(), "thin event evt_pi_refused"); n < 1 || n > 5 {
			t.Errorf("it was logged %d times in 50 hours", n)
		}
		s.succeeded()
	})
}

// A call that may succeed later is repeated in the next round, and not before.
func TestAThinEventOfAnAccountThatFails(t *testing.T) {
	for name, fault := range map[string]stripetest.Fault{"500": {Status: 500}, "cut": {Cut: true}} {
		t.Run(name, func(t *testing.T) {
			inDays(t, func(t *testing.T, s *shop) {
				s.every = time.Hour
				ids := s.connect(3)
				fault.Path, fault.Account = "/v1/payment_intents", ids[0]
				s.account.Fail(slices.Repeat([]stripetest.Fault{fault}, 5000)...)
				for _, account := range []string{ids[0], ids[1], ""} {
					s.account.Put(intent("pi_of"+account, "succeeded", 4900, time.Now().Unix()-50), account)
				}
				begun := time.Now()
				s.run(4*time.Hour+30*time.Minute, func(now time.Time) {
					switch n := s.asked("pi_of" + ids[0]); now.Sub(begun) {
					case 10 * time.Minute:
						for _, account := range []string{ids[0], ids[1], ""} {
							s.deliver(thin("pi_of"+account, account))
						}
						time.Sleep(time.Minute)
						if s.held("pi_of") || s.held("pi_of"+ids[1]) {
							t.Error("after a minute another account's is still held")
						}
						time.Sleep(9 * time.Minute)
					case 50 * time.Minute:
						if n != 5 {
							t.Errorf("before the next round it was asked for %d times", n)
						}
					case 150 * time.Minute:
						if n != 3*5 {
							t.Errorf("after two more rounds it was asked for %d times", n)
						}
						s.account.ClearFaults()
					case 190 * time.Minute:
						if s.held("pi_of" + ids[0]) {
							t.Error("it is still held though the account is well again")
						}
					}
				})
				s.succeeded()
			})
		})
	}
}

// Three payments that always fail block no other payments of connected accounts. They end one pass
// at most.
func TestThinEventsThatAlwaysFail(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(2)
		for i := range 6 {
			id := fmt.Sprintf("pi_%d", i)
			s.account.Put(intent(id, "succeeded", 4900, time.Now().Unix()-50), ids[0])
			s.deliver(thin(id, ids[0]))
			if i < 4 {
				s.always("/v1/payment_intents/"+id, ids[0], 500)
			}
		}
		total := func() (n int) {
			for i := range 4 {
				n += s.asked(fmt.Sprintf("pi_%d", i))
			}
			return n
		}
		s.round(reconcile.Request{})
		if n := total(); n != 3*5 {
			t.Errorf("the first round made %d calls for them", n)
		}
		s.round(reconcile.Request{})
		if s.held("pi_4") || s.held("pi_5") {
			t.Error("after two rounds the others are still held")
		}
		if n := s.asked("pi_3"); n != 5 {
			t.Errorf("the fourth was asked for %d times", n)
		}
	})
}

// An error of the own account is an error of the round, but stops nothing else.
func TestAThinEventOfTheOwnAccountThatFails(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		now := time.Now().Unix()
		s.always("/v1/payment_intents/pi_bad", "", 500)
		for _, id := range []string{"pi_bad", "pi_good"} {
			s.account.Put(intent(id, "succeeded", 4900, now-50), "")
			s.deliver(thin(id, ""))
		}
		s.account.Put(fmt.Appendf(nil, `{"id":"ch_lost","object":"charge","status":"succeeded","captured":true,"amount":1500,"amount_captured":1500,`+
			`"amount_refunded":0,"currency":"eur","payment_intent":"pi_lost","created":%d,"livemode":false}`, now-86400), "")
		_, err := s.Round(t.Context(), reconcile.Request{})
		if err == nil || !strings.Contains(err.Error(), "evt_pi_bad: Stripe answered 500") {
			t.Errorf("the round ended with %v", err)
		}
		if s.held("pi_good") || s.checkpoint("stale-day") == 0 {
			t.Error("it kept others from being asked for")
		}
		if p := s.payment("pi_lost"); *p.AmountReceived != 1500 {
			t.Errorf("the charge that was listed is booked as %+v", p)
		}
		s.account.ClearFaults()
		if s.round(reconcile.Request{}); s.held("pi_bad") {
			t.Error("the next round did not ask for it again")
		}
	})
}

// While the key is not accepted, thin events are kept for a later round of the same day, and not
// tried every few seconds.
func TestAThinEventAndARevokedKey(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.every = time.Hour
		ids := s.connect(2)
		key, begun := s.account.Key, time.Now()
		for id, account := range map[string]string{"pi_own": "", "pi_else": ids[0]} {
			s.account.Put(intent(id, "succeeded", 4900, time.Now().Unix()-50), account)
		}
		s.run(3*time.Hour, func(now time.Time) {
			switch now.Sub(begun) {
			case 10 * time.Minute:
				s.account.SetKey("rk_test_revoked")
				s.deliver(thin("pi_else", ids[0]))
				s.deliver(thin("pi_own", ""))
			case 50 * time.Minute:
				if n := s.asked("pi_else") + s.asked("pi_own"); n != 1 {
					t.Errorf("before the next round they were asked for %d times", n)
				}
				s.account.SetKey(key)
			case 80 * time.Minute:
				if s.held("pi_own") || s.held("pi_else") {
					t.Error("with the key they are still held")
				}
			}
		})
	})
}

// Payments of a disconnected account are not fetched and do not block others.
func TestStalePaymentsOfADisconnectedAccount(t *testing.T) {
	for path, perDay := range map[string]int{"/v1/": 0, "/v1/payment_intents": 1} {
		t.Run(path, func(t *testing.T) {
			inDays(t, func(t *testing.T, s *shop) {
				ids := s.connect(3)
				s.run(2*time.Hour, nil)
				s.always(path, ids[0], 401)
				s.run(2*time.Hour, nil)
				old := time.Now().Add(-3 * 24 * time.Hour).Unix()
				for i, of := range []int{1, 0, 0, 2} { // the newest is asked for first
					id := fmt.Sprintf("pi_%d", i)
					body := made("evt_"+id, "payment_intent.processing", old+int64(i%3), intent(id, "processing", 0, old+int64(i%3)))
					s.deliver([]byte(strings.Replace(string(body), `"type"`, `"account":"`+ids[of]+`","type"`, 1)))
					s.account.Put(intent(id, "succeeded", 4900, old), ids[of])
				}
				if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"stale-day-connected": 0}); err != nil {
					t.Fatal(err)
				}
				s.run(26*time.Hour, nil)
				for id, status := range map[string]string{"pi_0": "succeeded", "pi_1": "processing", "pi_2": "processing", "pi_3": "succeeded"} {
					if p := s.payment(id); string(p.Status) != status {
						t.Errorf("%s is %s, want %s", id, p.Status, status)
					}
				}
				if n := s.asked("pi_1") + s.asked("pi_2"); n > 3*perDay || n < perDay {
					t.Errorf("the account that left was asked %d times", n)
				}
				if day := s.checkpoint("stale-day-connected"); day != time.Now().Unix()/86400 {
					t.Errorf("the checkpoint is of day %d", day)
				}
				s.succeeded()
			})
		})
	}
}

// A stale payment of a connected account whose call failed is tried again in the next round; those
// that were read are not.
func TestAStalePaymentWhoseCallFails(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(2)
		old := time.Now().Add(-3 * 24 * time.Hour).Unix()
		for i, id := range []string{"pi_bad", "pi_good"} {
			body := made("evt_"+id, "payment_intent.processing", old-int64(i), intent(id, "processing", 0, old-int64(i)))
			s.deliver([]byte(strings.Replace(string(body), `"type"`, `"account":"`+ids[i]+`","type"`, 1)))
			s.account.Put(intent(id, "processing", 0, old), ids[i])
		}
		s.always("/v1/payment_intents/pi_bad", ids[0], 500)
		for range 2 {
			s.round(reconcile.Request{})
		}
		if bad, good := s.asked("pi_bad"), s.asked("pi_good"); bad != 2*5 || good != 1 {
			t.Errorf("they were asked for %d times and %d times", bad, good)
		}
		s.account.ClearFaults()
		s.account.Put(intent("pi_bad", "succeeded", 4900, old), ids[0])
		s.round(reconcile.Request{})
		if p := s.payment("pi_bad"); p.Status != "succeeded" {
			t.Errorf("it is %s", p.Status)
		}
		calls := s.asked("pi_bad")
		if s.round(reconcile.Request{}); s.asked("pi_bad") != calls {
			t.Error("it was asked for again after it was read")
		}
	})
}

// A list of one connected account that breaks off does not stop those of others.
func TestAListOfAnotherAccountThatBreaksOff(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(2)
		s.account.Fail(slices.Repeat([]stripetest.Fault{{Path: "/v1/charges", Account: ids[0], Cut: true}}, 100)...)
		s.account.Put(fmt.Appendf(nil, `{"id":"ch_lost","object":"charge","status":"succeeded","captured":true,"amount":1500,"amount_captured":1500,`+
			`"amount_refunded":0,"currency":"eur","payment_intent":"pi_lost","created":%d,"livemode":false}`, time.Now().Unix()-3600), ids[1])
		report, err := s.Round(t.Context(), reconcile.Request{})
		if err == nil || report.Fetched != 1 || s.checkpoint("stale-day-connected") == 0 {
			t.Errorf("the round said %+v, %v", report, err)
		}
	})
}

// If all calls for an account fail, its thin events wait until the account is compared again, and
// are resolved the same day.
func TestAThinEventOfAnAccountThatIsDown(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		ids := s.connect(2)
		s.account.Put(intent("pi_down", "succeeded", 4900, time.Now().Unix()-50), ids[0])
		s.always("/v1/", ids[0], 500)
		begun := time.Now()
		s.run(10*time.Hour, func(now time.Time) {
			switch now.Sub(begun) {
			case 10 * time.Minute:
				s.deliver(thin("pi_down", ids[0]))
			case 2 * time.Hour:
				if n := s.asked("pi_down"); n != 0 {
					t.Errorf("while the account was down it was asked for %d times", n)
				}
				s.account.ClearFaults()
			}
		})
		if s.held("pi_down") {
			t.Error("it is still held")
		}
	})
}

// A thin event with a snapshot event costs one call if the account is refused.
func TestASnapshotOfARefusedAccount(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.every = time.Hour
		ids := s.connect(3)
		calls, ticks := 0, 0
		s.run(50*time.Minute, func(time.Time) {
			if ticks++; ticks != 1 {
				return
			}
			s.account.Refuse(ids[0])
			s.account.OnCall(func(c stripetest.Call) {
				if c.Path != "/v1/account" { // once per key
					calls++
				}
			})
			s.deliver([]byte(strings.Replace(string(thin("pi_left", ids[0])), `"related_object"`, `"snapshot_event":"evt_of_pi_left","related_object"`, 1)))
		})
		if calls != 1 {
			t.Errorf("%d calls were made", calls)
		}
	})
}

// A thin event about an object that cannot be fetched is skipped until the next day.
func TestAThinEventWithoutAnAddress(t *testing.T) {
	inDays(t, func(t *testing.T, s *shop) {
		s.deliver([]byte(strings.Replace(string(thin("pi_odd", "")), `"id":"pi_odd"`, `"id":"pi_../odd"`, 1)))
		if report := s.round(reconcile.Request{}); len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "is skipped") {
			t.Errorf("the round said %+v", report)
		}
		if report := s.round(reconcile.Request{}); len(report.Problems) != 0 {
			t.Errorf("the next round said %+v", report)
		}
	})
}
