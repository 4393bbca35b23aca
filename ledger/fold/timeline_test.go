package fold_test

import (
	"math"
	"strings"
	"testing"

	"tillhook/ledger/fold"
)

// Sentences state the amounts of the entries, which the object of the event does not always have.
func TestTimeline(t *testing.T) {
	charge := func(change func(*fold.Charge)) *fold.Facts {
		c := fold.Charge{ID: "ch_1", Status: "succeeded", Currency: "gbp", Amount: 5000, AmountCaptured: 5000,
			Captured: true, Created: 1}
		change(&c)
		return &fold.Facts{Charge: "ch_1", Charges: []fold.Charge{c}}
	}
	captured := func(amount, refunded int64) *fold.Facts {
		return charge(func(c *fold.Charge) { c.AmountCaptured, c.AmountRefunded = amount, refunded })
	}
	unknown := func(currency string, refunded int64) *fold.Facts {
		return charge(func(c *fold.Charge) {
			c.AmountCaptured, c.CaptureUnknown, c.AmountRefunded, c.Currency = 0, true, refunded, currency
		})
	}
	dispute := func(status string, txns ...fold.DisputeTransaction) *fold.Facts {
		return &fold.Facts{Charge: "ch_1", Disputes: []fold.Dispute{{ID: "dp_1", Charge: "ch_1", Status: status,
			Currency: "gbp", Amount: 6500,
			Reason: "fraudulent", Transactions: txns}}}
	}
	withdrawn := fold.DisputeTransaction{ID: "txn_1", Amount: -6500, Currency: "gbp", Created: 3}
	back := fold.DisputeTransaction{ID: "txn_2", Amount: 50, Currency: "gbp", Created: 4}
	again := fold.DisputeTransaction{ID: "txn_3", Amount: -6450, Currency: "gbp", Created: 5}
	euros := fold.DisputeTransaction{ID: "txn_4", Amount: -7000, Currency: "eur", Created: 3}
	few := fold.DisputeTransaction{ID: "txn_5", Amount: 70, Currency: "eur", Created: 4}
	refund := func(status string) *fold.Facts {
		return &fold.Facts{Charge: "ch_1", Refunds: []fold.Refund{{ID: "re_1", Charge: "ch_1", Status: status,
			Currency: "gbp", Amount: 2000, Created: 3}}}
	}
	negative := func(status string) *fold.Facts {
		return &fold.Facts{PaymentIntent: "pi_1", Intents: []fold.Intent{{ID: "pi_1", Status: status, Currency: "gbp",
			Amount: -100, HasAmount: true, AmountReceived: -100, HasReceived: true, AmountCapturable: -100}}}
	}
	reverse := func(f *fold.Facts) *fold.Facts {
		for i := range f.Refunds {
			f.Refunds[i].Amount *= -1
		}
		for i := range f.Disputes {
			f.Disputes[i].Amount *= -1
		}
		return f
	}
	type typedFacts struct {
		typ   string
		facts *fold.Facts
	}
	for _, c := range []struct {
		name   string
		events []typedFacts
		want   string
	}{
		{"a dispute is reinstated in part", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.dispute.funds_withdrawn", dispute("needs_response", withdrawn)},
			{"charge.dispute.closed", dispute("lost", withdrawn, back)},
			{"charge.dispute.funds_reinstated", dispute("lost", withdrawn, back)}},
			"Charged 50.00 GBP. Withdrawn for the dispute: 65.00 GBP. The dispute over 65.00 GBP was lost. Reinstated from the dispute: 0.50 GBP."},
		{"a reinstatement is reported twice", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.dispute.funds_withdrawn", dispute("needs_response", withdrawn)},
			{"charge.dispute.funds_withdrawn", dispute("needs_response", withdrawn)},
			{"charge.dispute.funds_reinstated", dispute("lost", withdrawn, back)},
			{"charge.dispute.funds_reinstated", dispute("lost", withdrawn, back)}},
			"Charged 50.00 GBP. Withdrawn for the dispute: 65.00 GBP. The money for the dispute was withdrawn; an earlier event states the amount. " +
				"Reinstated from the dispute: 0.50 GBP. The money from the dispute was reinstated; an earlier event states the amount."},
		{"a dispute is withdrawn when it is created", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.dispute.created", dispute("needs_response", withdrawn)},
			{"charge.dispute.funds_withdrawn", dispute("needs_response", withdrawn)},
			{"charge.dispute.closed", dispute("won", withdrawn, back)}},
			"Charged 50.00 GBP. The customer disputed 65.00 GBP (fraudulent). Withdrawn for the dispute: 65.00 GBP. " +
				"The dispute over 65.00 GBP was won. Reinstated from the dispute: 0.50 GBP."},
		{"one event has all money of a dispute", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.dispute.updated", dispute("lost", withdrawn, back, again)}},
			"Charged 50.00 GBP. The dispute over 65.00 GBP was lost. Withdrawn for the dispute: 129.50 GBP. Reinstated from the dispute: 0.50 GBP."},
		{"a reinstatement is the first event that has the withdrawal",
			[]typedFacts{{"charge.succeeded", captured(5000, 0)},
				{"charge.dispute.funds_reinstated", dispute("lost", withdrawn, back)}},
			"Charged 50.00 GBP. Withdrawn for the dispute: 65.00 GBP. Reinstated from the dispute: 0.50 GBP."},
		{"an adjustment of a closed dispute in another currency", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.dispute.funds_withdrawn", dispute("needs_response", euros)},
			{"charge.dispute.closed", dispute("lost", euros, few)}},
			"Charged 50.00 GBP. Withdrawn for the dispute: about 65.00 GBP. The dispute over 65.00 GBP was lost. Reinstated from the dispute: about 0.65 GBP."},
		{"a charge with its dispute", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.updated", func() *fold.Facts {
				f := captured(5000, 0)
				f.Disputes = dispute("lost", withdrawn).Disputes
				return f
			}()}, {"charge.dispute.closed", dispute("lost", withdrawn)}},
			"Charged 50.00 GBP. Details of the charge of 50.00 GBP changed. Withdrawn for the dispute: 65.00 GBP. The dispute over 65.00 GBP was lost."},
		{"an inquiry that withdrew money", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.dispute.created", dispute("warning_needs_response", withdrawn)}},
			"Charged 50.00 GBP. Inquiry by the bank about 65.00 GBP (fraudulent). Withdrawn for the dispute: 65.00 GBP."},
		{"a dispute is withdrawn again", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.dispute.funds_withdrawn", dispute("needs_response", withdrawn)},
			{"charge.dispute.funds_reinstated", dispute("lost", withdrawn, back)},
			{"charge.dispute.funds_withdrawn", dispute("lost", withdrawn, back, again)}},
			"Charged 50.00 GBP. Withdrawn for the dispute: 65.00 GBP. Reinstated from the dispute: 0.50 GBP. Withdrawn for the dispute: 64.50 GBP."},
		{"a dispute in another currency is approximate",
			[]typedFacts{{"charge.succeeded", captured(5000, 0)},
				{"charge.dispute.funds_withdrawn", dispute("lost", euros)},
				{"charge.dispute.funds_reinstated", dispute("lost", euros, few)}},
			"Charged 50.00 GBP. Withdrawn for the dispute: about 65.00 GBP. Reinstated from the dispute: about 0.65 GBP."},
		{"an uncounted amount is marked", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.dispute.funds_reinstated", dispute("lost", few)}},
			"Charged 50.00 GBP. Reinstated from the dispute: 0.70 EUR (not counted)."},
		{"an old dispute without transactions",
			[]typedFacts{{"charge.succeeded", captured(5000, 0)}, {"charge.dispute.funds_withdrawn", dispute("lost")}},
			"Charged 50.00 GBP. Withdrawn for the dispute: an unknown amount."},
		{"further captures, and a refund between them",
			[]typedFacts{{"charge.succeeded", charge(func(c *fold.Charge) { c.AmountCaptured, c.Captured = 0, false })},
				{"charge.captured", captured(2000, 0)}, {"charge.refunded", captured(2000, 500)},
				{"charge.captured", captured(5000, 500)}},
			"Authorized 50.00 GBP, not yet captured. Captured 20.00 GBP of 50.00 GBP. Refunded so far: 5.00 GBP of 20.00 GBP. Captured 30.00 GBP more: 50.00 GBP of 50.00 GBP."},
		{"a partial capture without amount_captured",
			[]typedFacts{{"charge.succeeded", charge(func(c *fold.Charge) { c.AmountCaptured, c.Captured = 0, false })},
				{"charge.captured", unknown("gbp", 2000)}, {"charge.refunded", unknown("gbp", 2000)},
				{"charge.refunded", unknown("gbp", 2500)}},
			"Authorized 50.00 GBP, not yet captured. Captured 30.00 GBP of 50.00 GBP. Released 20.00 GBP that was never captured; no money moved. " +
				"Refunded so far: 5.00 GBP of 30.00 GBP."},
		{"a charge in another currency without amount_captured",
			[]typedFacts{{"payment_intent.succeeded",
				&fold.Facts{PaymentIntent: "pi_1", Intents: []fold.Intent{{ID: "pi_1", Status: "succeeded",
					Currency: "eur", Amount: 6000, HasAmount: true, AmountReceived: 6000, HasReceived: true}}}},
				{"charge.succeeded", unknown("gbp", 0)}},
			"Received 60.00 EUR. Charged 50.00 GBP (not counted)."},
		{"a void at a newer endpoint", []typedFacts{{"charge.succeeded",
			charge(func(c *fold.Charge) { c.AmountCaptured, c.Captured = 0, false })},
			{"charge.captured", captured(3000, 2000)}, {"charge.refunded", captured(3000, 2000)},
			{"charge.refunded", captured(3000, 2500)}, {"refund.created", refund("succeeded")}},
			"Authorized 50.00 GBP, not yet captured. Captured 30.00 GBP of 50.00 GBP. Released 20.00 GBP that was never captured; no money moved. " +
				"Refunded so far: 5.00 GBP of 30.00 GBP. Released 20.00 GBP that was never captured, reported by Stripe as a refund; no money moved."},
		{"a refund fails and is made again", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"charge.refunded", captured(5000, 2000)},
			{"refund.failed", refund("failed")}, {"charge.updated", captured(5000, 0)},
			{"charge.refunded", captured(5000, 1500)}},
			"Charged 50.00 GBP. Refunded so far: 20.00 GBP of 50.00 GBP. The refund of 20.00 GBP failed: the money came back. Refunded so far: 0.00 GBP of 50.00 GBP. " +
				"Refunded so far: 15.00 GBP of 50.00 GBP."},
		{"a refund fails without an event of its own",
			[]typedFacts{{"charge.succeeded", captured(5000, 0)}, {"charge.refunded", captured(5000, 2000)},
				{"charge.updated", captured(5000, 0)}},
			"Charged 50.00 GBP. Refunded so far: 20.00 GBP of 50.00 GBP. A refund of 20.00 GBP came back."},
		{"a refund fails before a further capture, without an event of its own",
			[]typedFacts{{"charge.captured", captured(3000, 0)}, {"charge.refunded", captured(3000, 1000)},
				{"charge.captured", captured(5000, 0)}},
			"Captured 30.00 GBP of 50.00 GBP. Refunded so far: 10.00 GBP of 30.00 GBP. Captured 20.00 GBP more: 50.00 GBP of 50.00 GBP. A refund of 10.00 GBP came back."},
		{"a refund fails before a further capture",
			[]typedFacts{{"charge.captured", captured(3000, 0)}, {"charge.refunded", captured(3000, 2000)},
				{"refund.failed", refund("failed")}, {"charge.captured", captured(5000, 0)}},
			"Captured 30.00 GBP of 50.00 GBP. Refunded so far: 20.00 GBP of 30.00 GBP. The refund of 20.00 GBP failed: the money came back. Captured 20.00 GBP more: 50.00 GBP of 50.00 GBP."},
		{"a charge in another currency is not counted",
			[]typedFacts{{"payment_intent.succeeded",
				&fold.Facts{PaymentIntent: "pi_1", Intents: []fold.Intent{{ID: "pi_1", Status: "succeeded",
					Currency: "eur", Amount: 6000, HasAmount: true, AmountReceived: 6000, HasReceived: true,
					LatestCharge: "ch_1"}}}}, {"charge.succeeded", captured(5000, 0)},
				{"charge.refunded", captured(5000, 2000)}},
			"Received 60.00 EUR. Charged 50.00 GBP (not counted). Refunded so far: 20.00 GBP (not counted) of 50.00 GBP."},
		{"a negative amount_received and amount", []typedFacts{{"payment_intent.created", negative("requires_payment_method")},
			{"payment_intent.amount_capturable_updated", negative("requires_capture")},
			{"payment_intent.succeeded", negative("succeeded")}},
			"The payment of an unknown amount was created. An unknown amount can be captured. " +
				"The payment of an unknown amount succeeded; the amount received is unknown."},
		{"a negative amount_received beside a charge", []typedFacts{{"charge.succeeded", captured(5000, 0)},
			{"payment_intent.succeeded", negative("succeeded")}},
			"Charged 50.00 GBP. Received 50.00 GBP."},
		{"negative amounts of a charge", []typedFacts{{"charge.succeeded", captured(-500, 0)}, {"charge.captured", captured(-500, 0)},
			{"charge.refunded", captured(-500, 300)}, {"charge.refunded", captured(-500, -700)}, {"charge.updated", captured(-500, 300)},
			{"charge.failed", charge(func(c *fold.Charge) { c.Amount, c.Status = -5000, "failed" })}},
			"Charged an unknown amount. Captured an unknown amount of 50.00 GBP. Refunded so far: 3.00 GBP of an unknown amount. " +
				"Refunded so far: an unknown amount of an unknown amount. Details of the charge of 50.00 GBP changed. " +
				"A refund of 3.00 GBP came back."},
		{"negative amounts of a refund and of a dispute", []typedFacts{{"refund.created", reverse(refund("succeeded"))},
			{"refund.failed", reverse(refund("failed"))}, {"charge.dispute.closed", reverse(dispute("lost"))},
			{"charge.dispute.updated", dispute("lost", fold.DisputeTransaction{ID: "txn_6", Amount: math.MinInt64, Currency: "gbp"})}},
			"Refunded an unknown amount. The refund of an unknown amount failed: the money came back. The dispute over an unknown amount was lost. " +
				"The dispute over 65.00 GBP was lost. Withdrawn for the dispute: an unknown amount (not counted)."},
		{"the received amount is unknown", []typedFacts{{"payment_intent.succeeded",
			&fold.Facts{PaymentIntent: "pi_1",
				Intents: []fold.Intent{{ID: "pi_1", Status: "succeeded", LatestCharge: "ch_1"}}}}},
			"The payment of an unknown amount succeeded; the amount received is unknown."},
	} {
		t.Run(c.name, func(t *testing.T) {
			var events []fold.Event
			for i, e := range c.events {
				events = append(events, fold.Event{ID: "evt_" + string(rune('a'+i)), Type: e.typ,
					APIVersion: "2025-08-27.basil", Created: int64(i + 1), Facts: e.facts})
			}
			_, sentences := fold.Timeline("ch_1", events)
			if got := strings.Join(sentences, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A refund with the amount of a void, but without a time, does not count as the refund of the void.
func TestRefundWithoutATimeIsNoVoid(t *testing.T) {
	captured := fold.Charge{ID: "ch_1", Status: "succeeded", Currency: "eur", Amount: 5000, AmountCaptured: 3000,
		AmountRefunded: 2000, Captured: true, Created: 1}
	for created, want := range map[int64]int64{0: 2000, 4: 0} {
		r := fold.Fold("ch_1", []fold.Event{
			{ID: "evt_1", Type: "charge.captured", Created: 3,
				Facts: &fold.Facts{Charge: "ch_1", Charges: []fold.Charge{captured}}},
			{ID: "evt_2", Type: "refund.created", Created: 4,
				Facts: &fold.Facts{Charge: "ch_1", Refunds: []fold.Refund{{ID: "re_1", Charge: "ch_1",
					Status: "succeeded", Currency: "eur", Amount: 2000, Created: created}}}},
		})
		if got := *r.Payment.AmountRefunded; got != want {
			t.Errorf("with a refund created at %d: refunded %d, want %d", created, got, want)
		}
	}
}
