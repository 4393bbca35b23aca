package ledger_test

import (
	"reflect"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// Each reason for a stale payment, and for each a payment that is not stale.
func TestStalePayments(t *testing.T) {
	l := ledgertest.Open(t, false)
	now := time.Unix(1790000000, 0)
	put := func(id, status string, age time.Duration) {
		e := succeeded("evt_"+id, "pi_"+id)
		e.Created = now.Add(-age).Unix()
		in := &e.Facts.Intents[0]
		in.Status, in.Created, in.AmountReceived = status, e.Created, 0
		mustAppend(t, l, e)
	}
	put("recent", "processing", 23*time.Hour)
	put("stuck", "processing", 25*time.Hour)
	put("authorized", "requires_capture", 6*24*time.Hour)
	put("expired", "requires_capture", 8*24*time.Hour)
	put("ancient", "processing", 100*24*time.Hour)
	for id, status := range map[string]string{"evt_a": "succeeded", "evt_b": "canceled"} {
		e := succeeded(id, "pi_both")
		e.Facts.Intents[0].Status, e.Facts.Intents[0].Created = status, now.Unix()-100
		mustAppend(t, l, e)
	}
	charge := func(id string, refunded int64, refunds ...ledger.Refund) {
		e := succeeded("evt_"+id, "pi_"+id)
		e.Facts = ledger.Facts{PaymentIntent: "pi_" + id, Charge: "ch_" + id, Refunds: refunds,
			Charges: []ledger.Charge{{ID: "ch_" + id, Status: "succeeded",
				Currency: "eur", Amount: 1000, AmountCaptured: 1000, AmountRefunded: refunded, Captured: true,
				Created: now.Unix() - 100}}}
		mustAppend(t, l, e)
	}
	refund := func(id, charge, status string, amount int64) ledger.Refund {
		return ledger.Refund{ID: id, Charge: charge, Status: status, Currency: "eur", Amount: amount,
			Created: now.Unix() - 50}
	}
	charge("whole", 300, refund("re_1", "ch_whole", "succeeded", 300))
	charge("unexplained", 300)
	charge("half", 300, refund("re_2", "ch_half", "succeeded", 100))
	charge("failed", 300, refund("re_3", "ch_failed", "failed", 300))
	charge("late", 100, refund("re_4", "ch_late", "succeeded", 300)) // the charge was read before the refund
	want := map[string]ledger.StaleReason{"pi_stuck": ledger.StaleProcessing, "pi_expired": ledger.StaleCapture,
		"pi_both":        ledger.StaleConflict,
		"pi_unexplained": ledger.StaleRefunds, "pi_half": ledger.StaleRefunds}
	list, err := l.StalePayments(t.Context(), now.Add(-90*24*time.Hour), now, 100)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]ledger.StaleReason{}
	for _, d := range list {
		got[d.Payment] = d.Kind
		if (d.Charge != "") != (d.Kind == ledger.StaleRefunds) {
			t.Errorf("%+v", d)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if list, err := l.StalePayments(t.Context(), now.Add(-90*24*time.Hour), now, 2); err != nil || len(list) != 2 {
		t.Errorf("with a limit of 2: %v, %v", list, err)
	}
}
