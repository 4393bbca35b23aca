package stripe_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// Objects of the scenario in the shape of API version 2020-08-27.
var (
	oldIntent = ledger.Intent{
		ID: "pi_3wgfSxKvHadernBlyhA0hSwg", Status: "succeeded", Currency: "eur", Amount: 4250, HasAmount: true, AmountReceived: 4250, HasReceived: true,
		Customer: "cus_UhPapierrNGg5f", Description: "Order 2352: ledger book, ruled", Created: 1783329495,
		Metadata: map[string]string{"order_id": "2352", "channel": "till"},
	}
	oldCharge = ledger.Charge{
		ID: "ch_3wgfSxKvHadernBl507eSWBV", Status: "succeeded", Currency: "eur", Amount: 4250, AmountCaptured: 4250, Captured: true,
		Customer: "cus_UhPapierrNGg5f", Description: "Order 2352: ledger book, ruled", Created: 1783329586,
		Metadata: map[string]string{"order_id": "2352", "channel": "till"},
	}
	oldRefunds = []ledger.Refund{
		{ID: "re_3wgfSxKvHadernBlzDmYF0zv", Charge: "ch_3wgfSxKvHadernBl507eSWBV", Status: "succeeded", Currency: "eur", Amount: 425, Reason: "duplicate", Created: 1784107186},
		{ID: "re_3wgfSxKvHadernBl2B6K32ph", Charge: "ch_3wgfSxKvHadernBl507eSWBV", Status: "succeeded", Currency: "eur", Amount: 850, Reason: "requested_by_customer", Created: 1783761586},
	}
)

func TestOldShape(t *testing.T) {
	const (
		scene  = "../scenarios/old_shape_2022/"
		failed = "ch_3wgfSxKvHadernBlwphiG77T"
	)
	check := func(name string, want ledger.Facts) {
		t.Run(name, func(t *testing.T) { checkFacts(t, sample(t, scene+name), want) })
	}
	open := with(oldIntent, func(in *ledger.Intent) { in.Status, in.AmountReceived = "requires_payment_method", 0 })
	check("01-payment_intent.created", ledger.Facts{PaymentIntent: oldIntent.ID, Intents: []ledger.Intent{open}})
	declined := with(oldCharge, func(c *ledger.Charge) {
		c.ID, c.Status, c.AmountCaptured, c.Captured, c.FailureCode, c.Created = failed, "failed", 0, false, "card_declined", 1783329523
	})
	check("02-payment_intent.payment_failed", ledger.Facts{
		PaymentIntent: oldIntent.ID, Charge: failed,
		Intents: []ledger.Intent{with(open, func(in *ledger.Intent) {
			in.LastError = &ledger.PaymentError{Type: "card_error", Code: "card_declined", DeclineCode: "generic_decline", Message: "Your card was declined."}
		})},
		Charges: []ledger.Charge{declined},
	})
	check("03-payment_intent.succeeded", ledger.Facts{
		PaymentIntent: oldIntent.ID, Charge: oldCharge.ID, Intents: []ledger.Intent{oldIntent}, Charges: []ledger.Charge{oldCharge, declined},
	})
	check("04-charge.refunded", ledger.Facts{
		PaymentIntent: oldIntent.ID, Charge: oldCharge.ID, Refunds: oldRefunds[1:],
		Charges: []ledger.Charge{with(oldCharge, func(c *ledger.Charge) { c.AmountRefunded = 850 })},
	})
	both := ledger.Facts{
		PaymentIntent: oldIntent.ID, Charge: oldCharge.ID, Refunds: oldRefunds,
		Charges: []ledger.Charge{with(oldCharge, func(c *ledger.Charge) { c.AmountRefunded = 1275 })},
	}
	check("05-charge.refunded", both)
	checkFacts(t, altered(t, scene+"05-charge.refunded", `"has_more": false`, `"has_more": true`), both)
}

func TestExpandedLinks(t *testing.T) {
	const scene = "../scenarios/expanded_links/"
	charge := ledger.Charge{
		ID: "ch_3wiY7HKvHadernBlMjnm7ul0", Status: "succeeded", Currency: "eur", Amount: 2980, AmountCaptured: 2980, Captured: true,
		Customer: "cus_UhPapier4ZI2Hy", Description: "Order 2359: slate and chalk set", Created: 1783777932,
		Metadata: map[string]string{"order_id": "2359", "channel": "shop"},
	}
	intent := ledger.Intent{
		ID: "pi_3wiY7HKvHadernBlXfezK0AX", Status: "succeeded", Currency: "eur", Amount: 2980, HasAmount: true, AmountReceived: 2980, HasReceived: true,
		Customer: charge.Customer, Description: charge.Description, Metadata: charge.Metadata, LatestCharge: charge.ID, Created: 1783777899,
	}
	checkFacts(t, sample(t, scene+"02-charge.succeeded"), ledger.Facts{
		PaymentIntent: intent.ID, Charge: charge.ID, Charges: []ledger.Charge{charge}, Intents: []ledger.Intent{intent},
	})
	checkFacts(t, sample(t, scene+"04-refund.created"), ledger.Facts{
		PaymentIntent: intent.ID, Charge: charge.ID,
		Refunds: []ledger.Refund{{ID: "re_3wiY7HKvHadernBlNnElpfzk", Charge: charge.ID, Status: "succeeded", Currency: "eur", Amount: 745, Reason: "requested_by_customer", Created: 1783950732}},
		Charges: []ledger.Charge{with(charge, func(c *ledger.Charge) { c.AmountRefunded = 745 })},
	})
}

// Values in the place where old API versions list charges and refunds.
func TestLists(t *testing.T) {
	second := obj(set(refundJSON, "id", `"re_2"`), `"charge": "ch_2"`)
	refunds := []ledger.Refund{
		with(refund1, func(f *ledger.Refund) { f.Charge = "ch_1" }),
		with(refund1, func(f *ledger.Refund) { f.ID, f.Charge = "re_2", "ch_2" }),
	}
	one, both := `[`+obj(refundJSON)+`]`, `[`+obj(refundJSON)+`, `+second+`]`
	for _, c := range []struct {
		refunds string
		want    []ledger.Refund
	}{
		{`{"object": "list", "data": ` + both + `, "has_more": false, "total_count": 2}`, refunds},
		{`{"has_more": true, "total_count": 12, "data": ` + both + `}`, refunds},
		{both, refunds}, // the oldest API versions
		{one, refunds[:1]},
		{`[null, "re_2", 7, [` + second + `], {}, ` + obj(refundJSON) + `]`, refunds[:1]},
		{`[` + obj(set(refundJSON, "amount", "2.5")) + `, ` + second + `]`, refunds[1:]},
		{`[` + obj(refundJSON) + `, ` + obj(set(refundJSON, "currency", "978")) + `]`, refunds[:1]},
		{`{"data": [], "has_more": false}`, nil},
		{`{"data": null}`, nil},
		{`{"data": "re_1"}`, nil},
		{`{"data": ` + obj(refundJSON) + `}`, nil},
		{`{"has_more": true}`, nil},
		{`[]`, nil},
		{`null`, nil},
		{`"re_1"`, nil},
	} {
		t.Run(c.refunds, func(t *testing.T) {
			want := ledger.Facts{PaymentIntent: "pi_1", Charge: "ch_1", Charges: []ledger.Charge{charge1}, Refunds: c.want}
			checkFacts(t, event("charge.refunded", obj(chargeJSON, `"payment_intent": "pi_1", "refunds": `+c.refunds)), want)
			checkFacts(t, event("charge.refunded", obj(`"refunds": `+c.refunds, chargeJSON, `"payment_intent": "pi_1"`)), want)
		})
	}
	charge2 := with(charge1, func(c *ledger.Charge) { c.ID, c.Status = "ch_2", "failed" })
	charges := `[` + obj(set(set(chargeJSON, "id", `"ch_2"`), "status", `"failed"`)) + `, ` + obj(set(chargeJSON, "status", "null")) + `, ` +
		obj(chargeJSON, `"refunds": `+one+`, "dispute": `+obj(disputeJSON)) + `]`
	for _, list := range []string{charges, `{"object": "list", "has_more": true, "data": ` + charges + `}`} {
		want := ledger.Facts{
			PaymentIntent: "pi_1", Charge: "ch_2", Intents: []ledger.Intent{intent1}, Charges: []ledger.Charge{charge2, charge1}, Refunds: refunds[:1],
			Disputes: []ledger.Dispute{with(dispute1, func(d *ledger.Dispute) { d.Charge = "ch_1" })},
		}
		checkFacts(t, event("payment_intent.succeeded", obj(`"charges": `+list, intentJSON)), want)
	}
}

// twoFields is an object with a repeated field, and the same object without the repetition.
type twoFields struct{ typ, twice, once string }

func checkTwoFields(t *testing.T, cases []twoFields) {
	for _, c := range cases {
		t.Run(c.twice, func(t *testing.T) {
			checkFacts(t, event(c.typ, c.twice), stripe.Decode(event(c.typ, c.once), false).Facts)
		})
	}
}

// The last of two fields with the same name counts, and nothing of the first is left.
func TestTheLastOfTwoFields(t *testing.T) {
	checkTwoFields(t, []twoFields{
		{"charge.succeeded", obj(`"amount_captured": 5, "amount_captured": null`, chargeJSON), obj(chargeJSON)},
		{"charge.succeeded", obj(chargeJSON, `"metadata": {"a": "b"}, "metadata": {}`), obj(chargeJSON)},
		{"charge.succeeded", obj(chargeJSON, `"payment_intent": "pi_1", "payment_intent": null`), obj(chargeJSON)},
		{"charge.succeeded", obj(chargeJSON, `"refunds": [{"id": "re_1", "amount": 1}], "refunds": []`), obj(chargeJSON)},
		{"charge.dispute.closed", obj(disputeJSON, `"balance_transactions": [{"id": "txn_1", "amount": 1}], "balance_transactions": null`), obj(disputeJSON)},
		{"payment_intent.succeeded", obj(`"amount_received": 5, "amount_received": null`, intentJSON), obj(intentJSON)},
	})
}

// The first of two fields does not matter, even if it is unreadable.
func TestTheFirstOfTwoFields(t *testing.T) {
	checkTwoFields(t, []twoFields{
		{"charge.succeeded", obj(`"amount": "x"`, chargeJSON), obj(chargeJSON)},
		{"charge.succeeded", obj(`"id": 7`, chargeJSON), obj(chargeJSON)},
		{"charge.succeeded", obj(`"currency": 978`, chargeJSON), obj(chargeJSON)},
		{"charge.succeeded", obj(`"captured": false, "captured": null`, chargeJSON), obj(chargeJSON)},
		{"charge.succeeded", obj(chargeJSON, `"refunds": {"data": [{"id": "re_1", "amount": 1}], "data": []}`), obj(chargeJSON)},
		{"charge.succeeded", obj(chargeJSON, `"balance_transaction": {"fee": 1.5, "fee": 25, "currency": "eur"}`),
			obj(chargeJSON, `"balance_transaction": {"fee": 25, "currency": "eur"}`)},
		{"refund.created", obj(`"amount": 2.5`, refundJSON), obj(refundJSON)},
		{"charge.dispute.closed", obj(disputeJSON, `"balance_transactions": [7], "balance_transactions": []`), obj(disputeJSON)},
		{"payment_intent.succeeded", obj(`"amount": "x"`, intentJSON), obj(intentJSON)},
		{"payment_intent.succeeded", obj(intentJSON, `"charges": {"data": [`+obj(chargeJSON)+`], "data": null}`), obj(intentJSON)},
	})
}

// The last of two fields counts however many fields are between them, and however long the name is.
func TestTheLastOfTwoDistantFields(t *testing.T) {
	for _, n := range []int{0, 1, 40, 125, 126, 127, 128, 300} {
		between := make([]string, n)
		for i := range between {
			between[i] = fmt.Sprintf(`"a%05d": %d`, i, i) // as long as "amount"
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			twice := obj(append([]string{`"amount": "x"`}, append(between, chargeJSON)...)...)
			checkFacts(t, event("charge.succeeded", twice), stripe.Decode(event("charge.succeeded", obj(chargeJSON)), false).Facts)
		})
	}
	for _, n := range []int{40, 124, 125, 126, 127, 200} {
		name := strings.Repeat("a", n)
		checkTwoFields(t, []twoFields{{"charge.succeeded", obj(chargeJSON, `"metadata": {"`+name+`": "1", "`+name+`": "2"}`),
			obj(chargeJSON, `"metadata": {"`+name+`": "2"}`)}})
	}
}

// Invalid UTF-8 becomes U+FFFD everywhere.
func TestInvalidUTF8(t *testing.T) {
	e := stripe.Decode(event("charge.succeeded", obj(chargeJSON, `"description": "a`+"\xff"+`", "metadata": {"b`+"\xff"+`": "c`+"\xff"+`", "list": ["d`+"\xff"+`"]}`)), false)
	want := with(charge1, func(c *ledger.Charge) {
		c.Description, c.Metadata = "a\ufffd", map[string]string{"b\ufffd": "c\ufffd", "list": "[\"d\ufffd\"]"}
	})
	if len(e.Facts.Charges) != 1 || !reflect.DeepEqual(e.Facts.Charges[0], want) {
		t.Errorf("got  %+v\nwant %+v", e.Facts.Charges, want)
	}
}
