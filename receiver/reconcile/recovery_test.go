package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/health"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
	"tillhook/receiver/stripe/stripetest"
)

// running runs the reconciler until the returned function is called.
func (s *shop) running() (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, s.every) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
}

// A round that failed because of the ledger is repeated soon after the ledger is writable again.
func TestARoundAfterTheLedgerCameBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, stripetest.Offline())
		s.account.AddEvent(payment(1, "payment_intent.succeeded", time.Now().Unix()-60), "")
		path := s.books.Path()
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		defer s.running()()
		time.Sleep(3 * time.Second)
		if f := s.finding(health.Reconcile); f.Severity != health.Warn || !strings.Contains(f.Message, "the ledger is not available") {
			t.Errorf("while there is no ledger: %+v", f)
		}
		calls := len(s.account.Calls())
		time.Sleep(4 * time.Minute)
		if more := len(s.account.Calls()) - calls; more > 0 {
			t.Errorf("%d calls were made while there was no ledger", more)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if f := s.finding(health.Reconcile); strings.Contains(f.Message, "could not be compared") || s.events() != 1 {
			t.Errorf("half a minute after it came back: %+v, %d events", f, s.events())
		}
	})
}

// A wrong Date is checked again with few calls, so that the finding ends before the next round.
func TestADateThatIsRightAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, stripetest.Offline())
		s.account.SetNow(func() time.Time { return time.Now().Add(year) })
		defer s.running()()
		time.Sleep(3 * time.Minute)
		if f := s.finding(health.Clock); f.Severity != health.Fail {
			t.Errorf("while it is wrong: %+v", f)
		}
		if n := s.checkpoint("reconcile-calls"); n < 5 || n > 40 { // those of a round, and of four or more looks
			t.Errorf("%d calls were made in three minutes", n)
		}
		s.account.SetNow(time.Now)
		time.Sleep(45 * time.Second)
		if f := s.finding(health.Clock); f.Severity != health.OK {
			t.Errorf("when it is right again: %+v", f)
		}
		calls := len(s.account.Calls())
		time.Sleep(10 * time.Minute)
		if more := len(s.account.Calls()) - calls; more > 0 {
			t.Errorf("%d calls were made between two rounds while the clocks agreed", more)
		}
	})
}

// Events missed within a short time are a warning until Stripe delivers again. If misses continue,
// deliveries in between do not end the warning.
func TestMissesThatAreOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, stripetest.Offline())
		n := 0
		event := func() []byte {
			n++
			return payment(n, "payment_intent.succeeded", time.Now().Unix())
		}
		expect := func(when string, severity health.Severity) {
			t.Helper()
			if f := s.finding(health.Reconcile); f.Severity != severity || !strings.Contains(f.Message, "had been missed") {
				t.Errorf("%s: %+v", when, f)
			}
		}
		miss := func() {
			t.Helper()
			s.account.AddEvent(event(), "")
			time.Sleep(time.Second)
			if report := s.round(reconcile.Request{}); report.Recovered != 1 {
				t.Fatalf("the round said %+v", report)
			}
			time.Sleep(time.Second)
		}
		s.deliver(event())
		miss()
		expect("nothing came since", health.Warn)
		s.deliver(event())
		expect("Stripe has delivered since", health.OK)
		time.Sleep(10 * time.Minute)
		miss()
		expect("once more", health.Warn)
		s.deliver(event())
		expect("Stripe has delivered once more", health.OK)
		time.Sleep(time.Hour)
		miss()
		s.deliver(event())
		expect("it goes on", health.Warn)
		time.Sleep(22 * time.Hour)
		expect("hours later", health.Warn)
		time.Sleep(3 * time.Hour)
		if f := s.finding(health.Reconcile); f.Severity != health.OK {
			t.Errorf("a day later: %+v", f)
		}
	})
}

// A ledger that fails again and again does not use up the day's calls.
func TestALedgerThatComesAndGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, stripetest.Offline())
		s.account.AddEvent(payment(1, "payment_intent.succeeded", time.Now().Unix()-60), "")
		path := s.books.Path()
		s.account.Before(func(_ int, r *http.Request) {
			if r.URL.Path == "/v1/events" && os.Rename(path, path+".away") == nil {
				time.AfterFunc(5*time.Second, func() { _ = os.Rename(path+".away", path) }) // a test that has ended needs no file
			}
		})
		stop := s.running()
		time.Sleep(time.Hour)
		if n := len(s.account.Calls()); n > 100 || s.events() != 0 {
			t.Errorf("%d calls were made in an hour, and %d events are there", n, s.events())
		}
		s.account.Before(nil)
		time.Sleep(6 * time.Minute)
		if s.events() != 1 {
			t.Error("the event is not there once the ledger stays")
		}
		stop()
	})
}

// If reading Stripe's time takes several calls, it is read less often.
func TestADateWithoutAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, stripetest.Offline())
		s.account.SetNow(func() time.Time { return time.Now().Add(year) })
		defer s.running()()
		time.Sleep(time.Second)
		s.account.Fail(slices.Repeat([]stripetest.Fault{{Path: "/v1/webhook_endpoints", Cut: true}}, 10_000)...)
		before := len(s.account.Calls())
		time.Sleep(50 * time.Minute)
		if n := len(s.account.Calls()) - before; n > 200 {
			t.Errorf("%d calls were made in 50 minutes without a whole answer", n)
		}
	})
}

// A damaged payment stops only its own events, and nothing counts as compared that was not stored.
func TestADamagedPayment(t *testing.T) {
	t.Parallel()
	begun := time.Now().Unix()
	options := ledger.Options{Dir: t.TempDir()}
	run := func() (books *ledger.Ledger, end func()) {
		books, err := ledger.Open(options)
		if err != nil {
			t.Fatal(err)
		}
		stop := ledgertest.Run(t, books)
		return books, func() {
			stop()
			if err := books.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	books, end := run()
	e := stripe.Decode(payment(1, "payment_intent.succeeded", begun-7200), false)
	e.Source, e.Received = ledger.Webhook, time.Now()
	_, err := books.Append(t.Context(), e)
	end()
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(books.Path(), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("payments")).Put([]byte(e.Facts.PaymentIntent), []byte("noise"))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	books, end = run()
	defer end()
	s := openOn(t, stripetest.Offline(), books)
	s.account.AddEvent(bytes.Replace(payment(1, "payment_intent.created", begun-7000), []byte("evt_3Qb"), []byte("evt_other"), 1), "")
	s.account.AddEvent(payment(2, "payment_intent.succeeded", begun-6000), "")
	report, err := s.Round(t.Context(), reconcile.Request{})
	if !errors.Is(err, ledger.ErrCorrupt) || report.Recovered != 1 {
		t.Errorf("the round said %+v, %v", report, err)
	}
	if at := s.checkpoint("reconciled/"); at != 0 {
		t.Errorf("events count as compared up to %d", at)
	}
}

// A report names recovered events without keeping their bodies in memory. It is not parallel,
// because it measures the heap.
func TestAReportKeepsNoBodies(t *testing.T) {
	s := newShop(t)
	pad := strings.Repeat("x", 1<<19)
	const events = 16
	for n := range events {
		body := strings.Replace(string(payment(n, "payment_intent.succeeded", time.Now().Unix()-3600+int64(n))), `"livemode"`, `"pad":"`+pad+`","livemode"`, 1)
		s.account.AddEvent([]byte(body), "")
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // the first one moves pools only to their victims
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	report := s.round(reconcile.Request{})
	after := heap()
	if report.Recovered != events || len(report.Events) != events {
		t.Errorf("recovered %d, named %d", report.Recovered, len(report.Events))
	}
	if after > before+events/2<<19 {
		t.Errorf("after the round the heap has %d MB, before it %d MB", after>>20, before>>20)
	}
	runtime.KeepAlive(report)
}
