package stripe_test

import (
	"testing"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// Shapes of the oldest and newest API versions are read in today's terms.
func TestDialects(t *testing.T) {
	const charge = `{"id": "ch_1", "object": "charge", "amount": 4500, "currency": "usd", "created": 1772532000, `
	const dispute = `{"object": "dispute", "charge": "ch_1", "amount": 4500, "currency": "usd", "status": "lost", "created": 1772532000, `
	base := ledger.Charge{ID: "ch_1", Status: "succeeded", Currency: "usd", Amount: 4500, Captured: true, CaptureUnknown: true, Created: 1772532000}
	charges := func(change func(*ledger.Charge)) ledger.Facts {
		return ledger.Facts{Charge: "ch_1", Charges: []ledger.Charge{with(base, change)}}
	}
	for _, c := range []struct {
		name, typ, object string
		want              ledger.Facts
	}{
		{"a charge is paid, before 2015-02-18", "charge.succeeded", charge + `"status": "paid", "paid": true}`, charges(func(*ledger.Charge) {})},
		{"a charge without a status", "charge.succeeded", charge + `"paid": true}`, charges(func(*ledger.Charge) {})},
		{"a charge without a status that failed", "charge.failed", charge + `"paid": false, "captured": false, "failure_code": "card_declined"}`,
			charges(func(c *ledger.Charge) {
				c.Status, c.Captured, c.CaptureUnknown, c.FailureCode = "failed", false, false, "card_declined"
			})},
		{"a status goes before paid", "charge.pending", charge + `"status": "pending", "paid": false}`, charges(func(c *ledger.Charge) { c.Status = "pending" })},
		{"an account pays", "charge.succeeded", charge + `"status": "succeeded", "customer": null, "customer_account": "acct_9"}`,
			charges(func(c *ledger.Charge) { c.Customer = "acct_9" })},
		{"a customer goes before the account", "charge.succeeded", charge + `"status": "succeeded", "customer": "cus_1", "customer_account": "acct_9"}`,
			charges(func(c *ledger.Charge) { c.Customer = "cus_1" })},
		{"a balance transaction", "charge.updated", charge + `"status": "succeeded", "balance_transaction": {"id": "txn_1", "fee": 161, "currency": "usd", "created": 1772532007}}`,
			charges(func(c *ledger.Charge) {
				c.BalanceTransaction = &ledger.Booking{ID: "txn_1", Fee: 161, Currency: "usd", Created: 1772532007}
			})},
		{"a dispute without an id", "charge.dispute.closed", dispute + `"balance_transactions": []}`, ledger.Facts{Charge: "ch_1",
			Disputes: []ledger.Dispute{{ID: "dispute_of_ch_1", Charge: "ch_1", Status: "lost", Currency: "usd", Amount: 4500, Created: 1772532000}}}},
		{"a PaymentIntent without amount and currency", "payment_intent.succeeded", `{"id": "pi_1", "object": "payment_intent", "status": "succeeded",
			"customer": null, "customer_account": "acct_9", "created": 5}`, ledger.Facts{PaymentIntent: "pi_1",
			Intents: []ledger.Intent{{ID: "pi_1", Status: "succeeded", Customer: "acct_9", Created: 5}}}},
		{"a refund's balance transactions", "refund.failed", `{"id": "re_1", "object": "refund", "charge": "ch_1", "status": "failed", "amount": 100, "currency": "usd",
			"balance_transaction": {"id": "txn_1", "created": 7}, "failure_balance_transaction": {"id": "txn_2", "created": 9}}`, ledger.Facts{Charge: "ch_1",
			Refunds: []ledger.Refund{{ID: "re_1", Charge: "ch_1", Status: "failed", Currency: "usd", Amount: 100, Booked: 7, Returned: 9}}}},
	} {
		t.Run(c.name, func(t *testing.T) { checkFacts(t, event(c.typ, c.object), c.want) })
	}
}

// An event belongs to its account, otherwise to the last account in its context.
func TestContexts(t *testing.T) {
	for _, c := range []struct{ fields, account, context string }{
		{`"account": null, "context": "acct_1"`, "acct_1", "acct_1"},
		{`"context": "org_7/acct_1"`, "acct_1", "org_7/acct_1"},
		{`"context": "org_7/acct_1/acct_2"`, "acct_2", "org_7/acct_1/acct_2"},
		{`"account": "acct_3", "context": "org_7/acct_1"`, "acct_3", "org_7/acct_1"},
		{`"context": "org_7"`, "", "org_7"},
		{`"context": null`, "", ""},
		{`"context": ""`, "", ""},
		{`"context": "acct_1/../x y"`, "", ""},
		{`"context": {"id": "acct_1"}`, "", ""},
		{`"context": "/acct_1"`, "", ""},
	} {
		e := stripe.Decode([]byte(`{"id":"evt_1","object":"event","type":"payment_intent.succeeded","livemode":false,`+c.fields+
			`,"data":{"object":{"id":"pi_1","object":"payment_intent","status":"succeeded"}}}`), false)
		if e.Quarantine != "" || e.Account != c.account || e.Context != c.context {
			t.Errorf("%s is read as account %q, context %q, quarantine %q; want %q and %q", c.fields, e.Account, e.Context, e.Quarantine, c.account, c.context)
		}
	}
}
