package reconcile_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
)

// intent returns a PaymentIntent as Stripe has it.
func intent(id, status string, received int64, created int64) []byte {
	return fmt.Appendf(nil, `{"id":%q,"object":"payment_intent","status":%q,"amount":4900,"amount_received":%d,"currency":"eur","created":%d,"livemode":false,"latest_charge":null}`,
		id, status, received, created)
}

// made returns an event about an object.
func made(id, typ string, created int64, object []byte) []byte {
	return fmt.Appendf(nil, `{"id":%q,"object":"event","api_version":"2023-10-16","created":%d,"type":%q,"livemode":false,"data":{"object":%s}}`, id, created, typ, object)
}

func (s *shop) payment(id string) *ledger.Payment {
	s.t.Helper()
	p, err := s.books.Payment(id)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// Stale payments are fetched by id once a day. Objects without news are not stored.
func TestStalePaymentsAreFetched(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now().Unix()
	const day = 86400
	for _, p := range []struct {
		id, status string
		received   int64
		created    int64
		then       string // what it is at Stripe
		thenGot    int64
	}{
		{"pi_stuck", "processing", 0, now - 3*day, "succeeded", 4900},
		{"pi_still", "processing", 0, now - 2*day, "processing", 0},
		{"pi_fresh", "processing", 0, now - 3600, "succeeded", 4900},
		{"pi_held", "requires_capture", 0, now - 8*day, "canceled", 0},
		{"pi_holds", "requires_capture", 0, now - 2*day, "canceled", 0},
	} {
		s.deliver(made("evt_"+p.id, "payment_intent."+p.status, p.created, intent(p.id, p.status, p.received, p.created)))
		s.account.Put(intent(p.id, p.then, p.thenGot, p.created), "")
	}
	s.deliver(made("evt_c1", "payment_intent.succeeded", now-100, intent("pi_both", "succeeded", 4900, now-200)))
	s.deliver(made("evt_c2", "payment_intent.canceled", now-90, intent("pi_both", "canceled", 0, now-200)))
	s.account.Put(intent("pi_both", "succeeded", 4900, now-200), "")
	if p := s.payment("pi_both"); len(p.Flags) != 1 {
		t.Fatalf("it is no conflict: %+v", p)
	}
	before := s.events()
	report := s.round(reconcile.Request{})
	for id, status := range map[string]string{"pi_stuck": "succeeded", "pi_still": "processing", "pi_fresh": "processing", "pi_held": "canceled", "pi_holds": "requires_capture", "pi_both": "succeeded"} {
		if p := s.payment(id); string(p.Status) != status || slices.Contains(p.Flags, "conflict") {
			t.Errorf("%s is %s with the flags %v, want %s", id, p.Status, p.Flags, status)
		}
	}
	if report.Fetched != 3 || s.events() != before+3 {
		t.Errorf("it said %+v, and %d events were written", report, s.events()-before)
	}
	list, err := s.books.PaymentEvents(t.Context(), "pi_stuck", ledger.EventQuery{Limit: 10})
	page := list.Data
	if err != nil || len(page) != 2 || page[0].Source != ledger.Fetch || !strings.HasPrefix(page[0].ID, "fetch_pi_stuck_") || page[0].Outcome != ledger.Applied {
		t.Errorf("its events: %+v, %v", page[0], err)
	}
	calls := len(s.account.Calls())
	s.round(reconcile.Request{})
	for _, c := range s.account.Calls()[calls:] {
		if c.Path != "/v1/webhook_endpoints" && !strings.HasPrefix(c.Path, "/v1/events") {
			t.Errorf("on the same day it asked for %s", c.Path)
		}
	}
}

// A balance transaction has the fee and the day of a payment, which no webhook reports. The nightly
// lists expand it. A key without that permission works without.
func TestBalanceTransactionsAreExpanded(t *testing.T) {
	t.Parallel()
	for _, may := range []bool{true, false} {
		s := newShop(t)
		if !may {
			s.account.Deny("expand/balance_transaction", "rak_balance_transaction_read")
		}
		paid := time.Now().Add(-20 * time.Hour).Unix()
		charge := fmt.Appendf(nil, `{"id":"ch_fee","object":"charge","status":"succeeded","captured":true,"amount":4900,"amount_captured":4900,"amount_refunded":0,
			"currency":"eur","payment_intent":"pi_fee","balance_transaction":"txn_fee","created":%d}`, paid)
		s.deliver(made("evt_f1", "charge.succeeded", paid, charge))
		s.deliver(made("evt_f2", "payment_intent.succeeded", paid, intent("pi_fee", "succeeded", 4900, paid)))
		s.account.Put(charge, "")
		s.account.Put(fmt.Appendf(nil, `{"id":"txn_fee","object":"balance_transaction","fee":167,"currency":"eur","created":%d}`, paid+30), "")
		if p := s.payment("pi_fee"); p.Fee != nil || int64(p.Captured) != paid {
			t.Fatalf("before: fee %v, captured %d", p.Fee, p.Captured)
		}
		report := s.round(reconcile.Request{})
		p := s.payment("pi_fee")
		if may && (p.Fee == nil || *p.Fee != 167 || int64(p.Captured) != paid+30 || report.Fetched != 1) {
			t.Errorf("fee %v, captured %d of %d; it said %+v", p.Fee, p.Captured, paid+30, report)
		}
		if !may && (p.Fee != nil || int64(p.Captured) != paid || len(report.Problems) != 0) {
			t.Errorf("without the permission: fee %v, captured %d of %d; it said %+v", p.Fee, p.Captured, paid, report)
		}
	}
}

// If more was refunded of a charge than is known, all of its refunds are fetched.
func TestRefundsThatDoNotAddUp(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	old := time.Now().Add(-20 * 24 * time.Hour).Unix()
	charge := func(refunded int64) []byte {
		return fmt.Appendf(nil, `{"id":"ch_back","object":"charge","status":"succeeded","captured":true,"amount":4900,"amount_captured":4900,"amount_refunded":%d,"currency":"eur","payment_intent":"pi_back","created":%d}`, refunded, old)
	}
	s.deliver(made("evt_r1", "payment_intent.succeeded", old, intent("pi_back", "succeeded", 4900, old)))
	s.deliver(made("evt_r2", "charge.refunded", old+100, charge(120*30)))
	if p := s.payment("pi_back"); *p.AmountRefunded != 3600 || len(p.Refunds) != 0 {
		t.Fatalf("before: %+v", p)
	}
	for i := range 120 {
		s.account.Put(fmt.Appendf(nil, `{"id":"re_%03d","object":"refund","status":"succeeded","amount":30,"currency":"eur","charge":"ch_back","payment_intent":"pi_back","created":%d}`, i, old+50), "")
	}
	report := s.round(reconcile.Request{})
	if p := s.payment("pi_back"); *p.AmountRefunded != 3600 || len(p.Refunds) != 120 || report.Fetched != 120 {
		t.Errorf("after: %d in %d refunds; it said %+v", p.AmountRefunded, len(p.Refunds), report)
	}
	if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"reconciled-objects/": time.Now().Unix() - 86400, "stale-day": 0}); err != nil {
		t.Fatal(err)
	}
	if report := s.round(reconcile.Request{}); report.Fetched != 0 {
		t.Errorf("the next day it said %+v", report)
	}
}

// Objects for which Stripe failed to generate events are found in the lists of objects.
func TestObjectsWithoutEvents(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := time.Now().Unix()
	s.account.Put(fmt.Appendf(nil, `{"id":"ch_lost","object":"charge","status":"succeeded","captured":true,"amount":1500,"amount_captured":1500,"amount_refunded":0,"currency":"eur","payment_intent":"pi_lost","created":%d,"livemode":false}`, now-86400), "")
	s.account.Put(fmt.Appendf(nil, `{"id":"re_lost","object":"refund","status":"succeeded","amount":500,"currency":"eur","charge":"ch_lost","payment_intent":"pi_lost","created":%d}`, now-3600), "")
	s.account.Put(fmt.Appendf(nil, `{"id":"dp_lost","object":"dispute","status":"needs_response","amount":1000,"currency":"eur","charge":"ch_lost","payment_intent":"pi_lost","reason":"fraudulent","created":%d,
		"balance_transactions":[{"id":"txn_1","amount":-1000,"currency":"eur","created":%d}]}`, now-1800, now-1800), "")
	s.account.Put(fmt.Appendf(nil, `{"id":"ch_old","object":"charge","status":"succeeded","captured":true,"amount":1,"currency":"eur","created":%d}`, now-5*86400), "")
	report := s.round(reconcile.Request{})
	p := s.payment("pi_lost")
	if *p.AmountReceived != 1500 || *p.AmountRefunded != 500 || *p.DisputeWithdrawn != 1000 || p.Events != 3 {
		t.Errorf("booked as %+v", p)
	}
	if report.Fetched != 3 || s.events() != 3 {
		t.Errorf("it said %+v, and %d events were written", report, s.events())
	}
	s.account.Deny("/v1/disputes", "rak_dispute_read")
	if err := s.books.SetCheckpoints(t.Context(), map[string]int64{"reconciled-objects/": time.Now().Unix() - 86400, "stale-day": 0}); err != nil {
		t.Fatal(err)
	}
	if report := s.round(reconcile.Request{}); report.Fetched != 0 || s.events() != 3 || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "disputes of the account are not listed") {
		t.Errorf("the next night it said %+v", report)
	}
}

// The object of a thin event is fetched, and the event leaves quarantine.
func TestThinEventsAreResolved(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	thin, err := os.ReadFile("../../testdata/events/v1.payment_intent.succeeded.json")
	if err != nil {
		t.Fatal(err)
	}
	e := stripe.Decode(thin, false)
	if res := s.deliver(thin); res.Reason != ledger.ThinEvent {
		t.Fatalf("it was taken as %+v", res)
	}
	related := stripe.RelatedObject(thin)
	report := s.round(reconcile.Request{})
	if report.Resolved != 0 || len(report.Problems) != 1 {
		t.Errorf("while its object is missing it said %+v", report)
	}
	s.account.Put(intent(related, "succeeded", 4900, e.Created-10), "")
	if report = s.round(reconcile.Request{}); report.Resolved != 0 || len(report.Problems) != 0 {
		t.Errorf("on the same day it was tried again: %+v", report)
	}
	s.Reconciler = reconcile.New(s.options) // a start tries again, as the next day does
	if report = s.round(reconcile.Request{}); report.Resolved != 1 || report.Fetched != 1 {
		t.Errorf("it said %+v", report)
	}
	p := s.payment(related)
	rec, err := s.books.Event(e.ID)
	if err != nil || rec.Outcome == ledger.Quarantined || rec.Source != ledger.Webhook || string(rec.PaymentID) != related || *p.AmountReceived != 4900 || p.Events != 2 {
		t.Errorf("the event is %+v, the payment %+v, %v", rec, p, err)
	}
	if res := s.deliver(thin); res.Status != ledger.AlreadyProcessed {
		t.Errorf("the next time it was taken as %+v", res)
	}
	if report = s.round(reconcile.Request{}); report.Resolved != 0 {
		t.Errorf("the next round said %+v", report)
	}
}

// The snapshot event of a thin event is fetched and stored. The thin event stays in quarantine as
// expected.
func TestThinEventsFetchTheirSnapshot(t *testing.T) {
	t.Parallel()
	thin, err := os.ReadFile("../../testdata/events/v1.payment_intent.succeeded.json")
	if err != nil {
		t.Fatal(err)
	}
	e := stripe.Decode(thin, false)
	snapshot := made(e.Snapshot, "payment_intent.succeeded", e.Created, intent(stripe.RelatedObject(thin), "succeeded", 4900, e.Created-10))
	for _, c := range []struct {
		what  string
		known bool // the snapshot event came by itself
	}{{"missed", false}, {"known", true}} {
		t.Run(c.what, func(t *testing.T) {
			s := newShop(t)
			s.account.AddEvent(snapshot, "")
			if res := s.deliver(thin); res.Reason != ledger.ThinEvent {
				t.Fatalf("it was taken as %+v", res)
			}
			if c.known {
				s.deliver(snapshot)
			}
			report := s.round(reconcile.Request{})
			asked := 0
			for _, call := range s.account.Calls() {
				if strings.HasPrefix(call.Path, "/v1/payment_intents/") {
					t.Errorf("it asked for %s", call.Path)
				}
				if call.Path == "/v1/events/"+e.Snapshot {
					asked++
				}
			}
			if want := map[bool]int{false: 1, true: 0}[c.known]; report.Resolved != want || asked != want || len(report.Problems) != 0 {
				t.Errorf("it asked %d times and said %+v", asked, report)
			}
			rec, err := s.books.Event(e.ID)
			if err != nil || rec.Quarantine == nil || rec.Quarantine.State != ledger.Expected {
				t.Errorf("the thin event is %+v, %v", rec, err)
			}
			booked, err := s.books.Event(e.Snapshot)
			if err != nil || booked.Outcome != ledger.Applied || (booked.Source == ledger.Reconcile) == c.known {
				t.Errorf("the snapshot event is %+v, %v", booked, err)
			}
			if p := s.payment(stripe.RelatedObject(thin)); *p.AmountReceived != 4900 || p.Events != 1 {
				t.Errorf("the payment is %+v", p)
			}
		})
	}
}
