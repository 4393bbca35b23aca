package ledger_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// The events of cases have times in seconds since midnight. What a case does not name is the same
// in all: PaymentIntent pi_1 and charge ch_1 of 50.00 USD, created 20 and 10 seconds before
// midnight.

func intentAt(id string, at int64, in ledger.Intent) *ledger.Event {
	in.ID, in.Created, in.HasReceived = cmp.Or(in.ID, "pi_1"), cmp.Or(in.Created, midnight-20), true
	if in.Currency = cmp.Or(in.Currency, "usd"); in.Currency == "none" {
		in.Currency = ""
	} else {
		in.Amount, in.HasAmount = cmp.Or(in.Amount, 5000), true
	}
	e := about(id, "payment_intent."+in.Status, midnight+at, ledger.Facts{PaymentIntent: in.ID, Charge: in.LatestCharge})
	e.Facts.Intents = []ledger.Intent{in}
	return e
}

func chargeAt(id, typ string, at int64, c ledger.Charge) *ledger.Event {
	c.ID, c.Status, c.Currency = cmp.Or(c.ID, "ch_1"), cmp.Or(c.Status, "succeeded"), cmp.Or(c.Currency, "usd")
	c.Amount, c.Created, c.Captured = cmp.Or(c.Amount, 5000), cmp.Or(c.Created, midnight-10), c.AmountCaptured != 0
	return about(id, typ, midnight+at, ledger.Facts{PaymentIntent: "pi_1", Charge: c.ID, Charges: []ledger.Charge{c}})
}

func refundAt(id string, at int64, r ledger.Refund) *ledger.Event {
	r.ID, r.Status, r.Currency = cmp.Or(r.ID, "re_1"), cmp.Or(r.Status, "succeeded"), cmp.Or(r.Currency, "usd")
	r.Created = cmp.Or(r.Created, midnight+at)
	if r.Charge = cmp.Or(r.Charge, "ch_1"); r.Charge == "none" {
		r.Charge = ""
	}
	return about(id, "refund.updated", midnight+at, ledger.Facts{PaymentIntent: "pi_1", Charge: r.Charge, Refunds: []ledger.Refund{r}})
}

func disputeAt(id string, at int64, d ledger.Dispute) *ledger.Event {
	d.ID, d.Charge, d.Status = cmp.Or(d.ID, "dp_1"), cmp.Or(d.Charge, "ch_1"), cmp.Or(d.Status, "lost")
	d.Currency, d.Amount, d.Created = cmp.Or(d.Currency, "usd"), cmp.Or(d.Amount, 5000), cmp.Or(d.Created, midnight)
	return about(id, "charge.dispute.updated", midnight+at, ledger.Facts{PaymentIntent: "pi_1", Charge: d.Charge, Disputes: []ledger.Dispute{d}})
}

// untold makes an event one whose PaymentIntent came without its amount_received.
func untold(e *ledger.Event) *ledger.Event {
	e.Facts.Intents[0].AmountReceived, e.Facts.Intents[0].HasReceived = 0, false
	return e
}

// fetched makes an event an object that was read from Stripe's API.
func fetched(e *ledger.Event) *ledger.Event {
	e.Source, e.Type = ledger.Fetch, ""
	return e
}

// Which PaymentIntent snapshot decides when some were read from Stripe's API.
func TestRulesOfReads(t *testing.T) {
	tryRules(t, []ruleCase{
		{
			"a read overrides the events up to its second",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "processing"}),
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "requires_action"})),
			},
			[]string{"pi_1 requires_action: received 0, net 0"},
		},
		{
			"a read overrides older reads",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "canceled"})),
				fetched(intentAt("fetch_2", 4, ledger.Intent{Status: "succeeded", AmountReceived: 5000})),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 date_approximate", "-20 pi_1:received 5000 usd"},
		},
		{
			"a read overrides no later event",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "requires_capture"})),
				intentAt("evt_1", 4, ledger.Intent{Status: "requires_action"}),
			},
			[]string{"pi_1 requires_action: received 0, net 0"},
		},
		{
			"a read that is not terminal is stale after an event that is",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "canceled"}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "requires_action"})),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"a read that is not terminal is stale after an event of its second",
			[]*ledger.Event{
				intentAt("evt_1", 4, ledger.Intent{Status: "canceled"}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "requires_action"})),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"a read that is not terminal is stale after a read that is",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "succeeded", AmountReceived: 5000})),
				fetched(intentAt("fetch_2", 4, ledger.Intent{Status: "processing", AmountReceived: 5000})),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 date_approximate", "-20 pi_1:received 5000 usd"},
		},
		{
			"a read is not stale by a later event",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "processing"})),
				intentAt("evt_1", 2, ledger.Intent{Status: "requires_payment_method"}),
				intentAt("evt_2", 4, ledger.Intent{Status: "canceled"}),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"a read without latest_charge is stale after an event that has one",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", LatestCharge: "ch_1"}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "processing"})),
			},
			[]string{"pi_1 requires_action: received 0, net 0"},
		},
		{
			"a read with less amount_received is stale",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", AmountReceived: 700}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "processing", AmountReceived: 600})),
			},
			[]string{"pi_1 requires_action: received 700, net 700", "3 pi_1:received 700 usd"},
		},
		{
			"a canceled read may have less amount_received",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", AmountReceived: 700}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "canceled"})),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"amounts received in different currencies make no read stale",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", AmountReceived: 700, Currency: "mxn"}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "processing", AmountReceived: 600})),
			},
			[]string{"pi_1 processing: received 600, net 600 currency_mismatch date_approximate", "-20 pi_1:received 600 usd"},
		},
		{
			"a stale read is no frontier",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_payment_method", LatestCharge: "ch_1"}),
				intentAt("evt_2", 5, ledger.Intent{Status: "requires_action"}),
				fetched(intentAt("fetch_1", 6, ledger.Intent{Status: "processing"})),
			},
			[]string{"pi_1 requires_action: received 0, net 0"},
		},
		{
			"two reads of a second that are stale by each other both stand",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "canceled"})),
				fetched(intentAt("fetch_2", 3, ledger.Intent{Status: "processing", LatestCharge: "ch_1"})),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"of two terminal statuses succeeded decides",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				intentAt("evt_2", 4, ledger.Intent{Status: "canceled"}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 conflict", "3 pi_1:received 5000 usd"},
		},
		{
			"of two terminal statuses a read decides",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "canceled"})),
				intentAt("evt_1", 4, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 canceled: received 0, net 0 conflict"},
		},
		{
			"two reads of a second that disagree on the terminal status",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "canceled"})),
				fetched(intentAt("fetch_2", 3, ledger.Intent{Status: "succeeded", AmountReceived: 5000})),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 conflict date_approximate", "-20 pi_1:received 5000 usd"},
		},
	})
}

// How much was received, and on which day.
func TestRulesOfReceived(t *testing.T) {
	booking := func(id string, at int64) *ledger.Booking { return &ledger.Booking{ID: id, Created: midnight + at} }
	tryRules(t, []ruleCase{
		{
			"a capture is dated by its event, not by the authorization",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{}),
				chargeAt("evt_2", "charge.captured", 5, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_3", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "5 ch_1:received:5000 5000 usd"},
		},
		{
			"the balance transaction dates a capture",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.captured", 5, ledger.Charge{AmountCaptured: 5000}),
				fetched(chargeAt("fetch_1", "", 90, ledger.Charge{AmountCaptured: 5000, BalanceTransaction: booking("txn_1", 4)})),
			},
			[]string{"pi_1 -: received 5000, net 5000", "4 ch_1:received:5000 5000 usd"},
		},
		{
			"the balance transaction of several captures dates none",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.captured", 5, ledger.Charge{AmountCaptured: 1000}),
				chargeAt("evt_2", "charge.captured", 7, ledger.Charge{AmountCaptured: 5000, BalanceTransaction: booking("txn_1", 4)}),
			},
			[]string{"pi_1 -: received 5000, net 5000", "5 ch_1:received:1000 1000 usd", "7 ch_1:received:5000 4000 usd"},
		},
		{
			"a later capture is evidence of an earlier one",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.captured", 7, ledger.Charge{AmountCaptured: 5000}),
				chargeAt("evt_2", "charge.updated", 5, ledger.Charge{AmountCaptured: 1000}),
			},
			[]string{"pi_1 -: received 5000, net 5000", "7 ch_1:received:1000 1000 usd", "7 ch_1:received:5000 4000 usd"},
		},
		{
			"without an authorization it is the day of charge.succeeded",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 2, ledger.Charge{AmountCaptured: 5000}),
				chargeAt("evt_2", "charge.refunded", 9, ledger.Charge{AmountCaptured: 5000}),
			},
			[]string{"pi_1 -: received 5000, net 5000", "2 ch_1:received:5000 5000 usd"},
		},
		{
			"a pending charge is no authorization",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.pending", 2, ledger.Charge{Status: "pending"}),
				chargeAt("evt_2", "charge.succeeded", 6, ledger.Charge{AmountCaptured: 5000}),
			},
			[]string{"pi_1 -: received 5000, net 5000", "6 ch_1:received:5000 5000 usd"},
		},
		{
			"without an authorization and charge.succeeded it is the charge's created",
			[]*ledger.Event{
				chargeAt("evt_2", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				fetched(chargeAt("fetch_1", "", 3, ledger.Charge{AmountCaptured: 5000})),
			},
			[]string{"pi_1 -: received 5000, net 5000", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"without an authorization payment_intent.succeeded goes before the charge's created",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}), intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				intentAt("evt_3", 7, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "6 ch_1:received:5000 5000 usd"},
		},
		{
			"an earlier payment_intent.succeeded comes after charge.succeeded",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 7, ledger.Charge{AmountCaptured: 5000}), intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "7 ch_1:received:5000 5000 usd"},
		},
		{
			"a payment_intent.succeeded of less is none of the capture",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}), intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", AmountReceived: 4999}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"payment_intent.succeeded dates each of several captures",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 4, ledger.Charge{AmountCaptured: 1000}), chargeAt("evt_2", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_3", 3, ledger.Intent{Status: "succeeded", AmountReceived: 1000}), intentAt("evt_4", 8, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "3 ch_1:received:1000 1000 usd", "8 ch_1:received:5000 4000 usd"},
		},
		{
			"a PaymentIntent that was read is no payment_intent.succeeded",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				func() *ledger.Event {
					e := intentAt("fetch_2", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000})
					e.Source = ledger.Fetch
					return e
				}(),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"a PaymentIntent that succeeded, in an event of another type",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				func() *ledger.Event {
					e := intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000})
					e.Type = "checkout.session.completed"
					return e
				}(),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"a payment_intent.succeeded in another currency",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", Currency: "mxn", AmountReceived: 5000}),
				intentAt("evt_3", 7, ledger.Intent{Status: "succeeded"}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 currency_mismatch", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"a payment_intent.succeeded without a time",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_2", -midnight, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"only the first capture can be on the charge's created",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 4, ledger.Charge{Amount: 1000, AmountCaptured: 1000}),
				chargeAt("evt_2", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
			},
			[]string{"pi_1 -: received 5000, net 5000 date_approximate", "-10 ch_1:received:1000 1000 usd", "9 ch_1:received:5000 4000 usd"},
		},
		{
			"after an authorization other events date the capture approximately",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{}),
				chargeAt("evt_2", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_3", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 date_approximate", "6 ch_1:received:5000 5000 usd"},
		},
		{
			"the date of a read dates nothing",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{}),
				fetched(chargeAt("fetch_1", "", 90, ledger.Charge{AmountCaptured: 5000})),
			},
			[]string{"pi_1 -: received 5000, net 5000 date_approximate", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"a PaymentIntent alone is received on the day of its success",
			[]*ledger.Event{
				intentAt("evt_1", 1, ledger.Intent{Status: "requires_payment_method"}),
				intentAt("evt_2", 5, ledger.Intent{Status: "succeeded", AmountReceived: 4000}),
				intentAt("evt_3", 8, ledger.Intent{Status: "succeeded", AmountReceived: 4000}),
			},
			[]string{"pi_1 succeeded: received 4000, net 4000", "5 pi_1:received 4000 usd"},
		},
		{
			"a PaymentIntent that was only read is received on the day it was created",
			[]*ledger.Event{fetched(intentAt("fetch_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 4000}))},
			[]string{"pi_1 succeeded: received 4000, net 4000 date_approximate", "-20 pi_1:received 4000 usd"},
		},
		{
			"what the PaymentIntent received beyond its charges is one more entry",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{AmountCaptured: 3000}),
				intentAt("evt_2", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "1 ch_1:received:3000 3000 usd", "5 pi_1:received 2000 usd"},
		},
		{
			"a canceled PaymentIntent keeps what was captured",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{AmountCaptured: 3000}),
				intentAt("evt_2", 5, ledger.Intent{Status: "requires_action", AmountReceived: 5000}),
				intentAt("evt_3", 6, ledger.Intent{Status: "canceled"}),
			},
			[]string{"pi_1 canceled: received 3000, net 3000", "1 ch_1:received:3000 3000 usd"},
		},
		{
			"a charge that failed in the end received nothing",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{AmountCaptured: 3000}),
				chargeAt("evt_2", "charge.failed", 1, ledger.Charge{Status: "failed"}),
			},
			[]string{"pi_1 -: received 0, net 0"},
		},
		{
			"a capture without any time stands on the payment's created",
			[]*ledger.Event{
				func() *ledger.Event {
					e := chargeAt("evt_1", "charge.captured", -midnight, ledger.Charge{AmountCaptured: 5000})
					e.Facts.Charges[0].Created = 0
					return e
				}(),
				refundAt("evt_2", 9, ledger.Refund{Status: "frobnicated"}),
			},
			[]string{"pi_1 -: received 5000, net 5000 date_approximate", "9 ch_1:received:5000 5000 usd"},
		},
	})
}

// What was received is unknown until a charge or a PaymentIntent with its amount_received was seen.
func TestRulesOfUnknownReceived(t *testing.T) {
	silent := untold(intentAt("evt_1", 5, ledger.Intent{Status: "succeeded"}))
	tryRules(t, []ruleCase{
		{"a PaymentIntent without it", []*ledger.Event{silent}, []string{"pi_1 succeeded: received null, net null"}},
		{
			"a PaymentIntent without it that was read",
			[]*ledger.Event{silent, fetched(untold(intentAt("fetch_1", 9, ledger.Intent{Status: "canceled"})))},
			[]string{"pi_1 canceled: received null, net null"},
		},
		{
			"what was refunded and disputed is known without it",
			[]*ledger.Event{
				silent, refundAt("evt_2", 6, ledger.Refund{Amount: 300}),
				disputeAt("evt_3", 7, ledger.Dispute{Transactions: []ledger.Transaction{{ID: "txn_1", Amount: -5000, Currency: "usd", Created: midnight + 7}}}),
			},
			[]string{"pi_1 succeeded: received null, refunded 300, withdrawn 5000, net null", "6 re_1:refunded 300 usd", "7 txn_1 5000 usd"},
		},
		{
			"an earlier PaymentIntent has it",
			[]*ledger.Event{intentAt("evt_0", 3, ledger.Intent{Status: "requires_payment_method"}), silent},
			[]string{"pi_1 succeeded: received 0, net 0"},
		},
		{
			"a PaymentIntent that a read overrides has it",
			[]*ledger.Event{
				intentAt("evt_0", 3, ledger.Intent{Status: "processing"}), fetched(untold(intentAt("fetch_1", 9, ledger.Intent{Status: "succeeded"}))),
			},
			[]string{"pi_1 succeeded: received 0, net 0"},
		},
		{
			"one PaymentIntent has it, and others do not undo it",
			[]*ledger.Event{intentAt("evt_0", 3, ledger.Intent{Status: "succeeded", AmountReceived: 4000}), silent},
			[]string{"pi_1 succeeded: received 4000, net 4000", "3 pi_1:received 4000 usd"},
		},
		{
			"a PaymentIntent in another currency has it",
			[]*ledger.Event{intentAt("evt_0", 3, ledger.Intent{Status: "succeeded", Currency: "mxn", AmountReceived: 4000}), silent},
			[]string{"pi_1 succeeded: received 0, net 0 currency_mismatch"},
		},
		{
			"it is negative",
			[]*ledger.Event{intentAt("evt_0", 3, ledger.Intent{Status: "succeeded", AmountReceived: -1})},
			[]string{"pi_1 succeeded: received 0, net 0 amount"},
		},
		{
			"a charge that received nothing",
			[]*ledger.Event{silent, chargeAt("evt_2", "charge.pending", 6, ledger.Charge{Status: "pending"})},
			[]string{"pi_1 succeeded: received 0, net 0"},
		},
		{
			"a charge in another currency",
			[]*ledger.Event{silent, chargeAt("evt_2", "charge.captured", 6, ledger.Charge{Currency: "mxn", AmountCaptured: 700})},
			[]string{"pi_1 succeeded: received 0, net 0 currency_mismatch"},
		},
		{
			"a charge that was captured",
			[]*ledger.Event{silent, chargeAt("evt_2", "charge.captured", 6, ledger.Charge{AmountCaptured: 5000})},
			[]string{"pi_1 succeeded: received 5000, net 5000", "6 ch_1:received:5000 5000 usd"},
		},
	})
}

// What a payment is where amounts and currencies are missing, negative, too large or do not agree.
func TestRulesOfOddAmounts(t *testing.T) {
	tryRules(t, []ruleCase{
		{
			"a PaymentIntent without a currency has its charge's",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", Currency: "none", AmountReceived: 4000}),
				chargeAt("evt_2", "charge.pending", 3, ledger.Charge{Status: "pending", Currency: "jpy"}),
			},
			[]string{"pi_1 succeeded: received 4000, net 4000", "5 pi_1:received 4000 jpy"},
		},
		{
			"a later PaymentIntent without a currency and an amount does not undo an earlier one",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				intentAt("evt_2", 7, ledger.Intent{Status: "succeeded", Currency: "none", AmountReceived: 5000}),
				chargeAt("evt_3", "charge.succeeded", 4, ledger.Charge{Currency: "mxn", AmountCaptured: 100000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 currency_mismatch", "5 pi_1:received 5000 usd"},
		},
		{
			"a charge in another currency than its PaymentIntent is left out",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000, LatestCharge: "ch_1"}),
				chargeAt("evt_2", "charge.succeeded", 3, ledger.Charge{Currency: "mxn", Amount: 100000, AmountCaptured: 100000, AmountRefunded: 500}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 currency_mismatch", "5 pi_1:received 5000 usd"},
		},
		{
			"a refund of a charge in another currency counts by its own currency",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000, LatestCharge: "ch_1"}),
				chargeAt("evt_2", "charge.succeeded", 3, ledger.Charge{Currency: "mxn", AmountCaptured: 100000, AmountRefunded: 500}),
				refundAt("evt_3", 6, ledger.Refund{Amount: 300}), refundAt("evt_4", 6, ledger.Refund{ID: "re_2", Amount: 500, Currency: "mxn"}),
			},
			[]string{"pi_1 succeeded: received 5000, refunded 300, net 4700 currency_mismatch", "5 pi_1:received 5000 usd", "6 re_1:refunded 300 usd"},
		},
		{
			"a refund in another currency is left out",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				refundAt("evt_2", 6, ledger.Refund{Currency: "mxn", Amount: 300}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 currency_mismatch", "5 pi_1:received 5000 usd"},
		},
		{
			"nothing was seen that could be received",
			[]*ledger.Event{
				refundAt("evt_1", 6, ledger.Refund{Currency: "mxn", Amount: 300}),
				refundAt("evt_2", 6, ledger.Refund{ID: "re_2", Currency: "usd", Amount: 400}),
			},
			[]string{"pi_1 -: received null, refunded 300, net null currency_mismatch", "6 re_1:refunded 300 mxn"},
		},
		{
			"a session alone",
			[]*ledger.Event{about("evt_1", "checkout.session.completed", midnight, ledger.Facts{
				PaymentIntent: "pi_1", Sessions: []ledger.Session{{ID: "cs_1", PaymentStatus: "paid"}},
			})},
			[]string{"pi_1 -: received null, net null"},
		},
		{
			"negative amounts are unknown",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", Amount: -1, AmountReceived: -5000}),
				chargeAt("evt_2", "charge.captured", 3, ledger.Charge{AmountCaptured: 4000}),
				chargeAt("evt_3", "charge.captured", 4, ledger.Charge{AmountCaptured: -4500, AmountRefunded: -9}),
				refundAt("evt_4", 6, ledger.Refund{Amount: -300}),
			},
			[]string{"pi_1 succeeded: received 4000, net 4000 amount", "3 ch_1:received:4000 4000 usd"},
		},
		{
			"a payment whose sums do not fit shows none",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				chargeAt("evt_2", "charge.captured", 3, ledger.Charge{AmountCaptured: math.MaxInt64}),
				chargeAt("evt_3", "charge.captured", 3, ledger.Charge{ID: "ch_2", AmountCaptured: 1}),
			},
			[]string{"pi_1 succeeded: received null, refunded null, withdrawn null, reinstated null, net null overflow"},
		},
		{
			"a net that does not fit, of a payment of which nothing was received",
			[]*ledger.Event{
				refundAt("evt_1", 6, ledger.Refund{Amount: math.MaxInt64}),
				disputeAt("evt_2", 6, ledger.Dispute{Transactions: []ledger.Transaction{{ID: "txn_1", Amount: -2, Currency: "usd"}}}),
			},
			[]string{"pi_1 -: received null, refunded null, withdrawn null, reinstated null, net null overflow"},
		},
		{
			"a sum that just fits",
			[]*ledger.Event{
				chargeAt("evt_2", "charge.captured", 3, ledger.Charge{AmountCaptured: math.MaxInt64 - 1}),
				chargeAt("evt_3", "charge.captured", 4, ledger.Charge{ID: "ch_2", AmountCaptured: 1}),
			},
			[]string{
				"pi_1 -: received 9223372036854775807, net 9223372036854775807",
				"3 ch_1:received:9223372036854775806 9223372036854775806 usd", "4 ch_2:received:1 1 usd",
			},
		},
	})
}

// The currency and amount of a payment, each of the best PaymentIntent that has one, else of the
// charge.
func TestRulesOfTheAmount(t *testing.T) {
	intent := func(id string, at int64, status, currency string, amount int64) *ledger.Event {
		e := intentAt(id, at, ledger.Intent{Status: status})
		in := &e.Facts.Intents[0]
		in.Currency, in.Amount, in.HasAmount = currency, amount, amount != 0
		return e
	}
	charge := chargeAt("evt_9", "charge.pending", 2, ledger.Charge{Status: "pending", Currency: "usd", Amount: 700})
	l := ledgertest.Open(t, false)
	rng := rand.New(rand.NewPCG(19, 23))
	for _, c := range []struct {
		rule   string
		events []*ledger.Event
		want   string
	}{
		{"a later PaymentIntent has neither",
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "usd", 5000), intent("evt_2", 4, "succeeded", "", 0), charge}, "5000 usd"},
		{"a later one has a currency only",
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "usd", 5000), intent("evt_2", 4, "succeeded", "usd", 0), charge}, "5000 usd"},
		{"a later one has an amount only",
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "usd", 5000), intent("evt_2", 4, "succeeded", "", 4000), charge}, "4000 usd"},
		{"the currency of the later one that has one",
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "jpy", 5000), intent("evt_2", 4, "succeeded", "usd", 4000)}, "4000 usd"},
		{"a decided status goes before a later event",
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "usd", 5000), intent("evt_2", 4, "processing", "jpy", 4000)}, "5000 usd"},
		{"the best of those below the winner",
			[]*ledger.Event{
				intent("evt_1", 1, "processing", "usd", 3000), intent("evt_2", 2, "processing", "usd", 4000), intent("evt_3", 1, "succeeded", "", 0),
			}, "4000 usd"},
		{"an amount in another currency than the payment's gives way to the charge's",
			[]*ledger.Event{intent("evt_1", 3, "processing", "jpy", 5000), intent("evt_2", 4, "processing", "usd", 0), charge}, "700 usd"},
		{"an amount in another currency, and no charge",
			[]*ledger.Event{intent("evt_1", 3, "processing", "jpy", 5000), intent("evt_2", 4, "processing", "usd", 0)}, "null usd"},
		{"an amount in another currency hides those below it",
			[]*ledger.Event{
				intent("evt_1", 2, "processing", "usd", 6000), intent("evt_2", 3, "processing", "jpy", 5000), intent("evt_3", 4, "processing", "usd", 0),
			}, "null usd"},
		{"a negative amount is none",
			[]*ledger.Event{intent("evt_1", 3, "processing", "usd", 5000), intent("evt_2", 4, "processing", "usd", -1), charge}, "5000 usd"},
		{"an event that a read overrides does not count",
			[]*ledger.Event{intent("evt_1", 3, "processing", "jpy", 5000), fetched(intent("fetch_1", 4, "processing", "", 0)), charge}, "700 usd"},
		{"no PaymentIntent has either",
			[]*ledger.Event{intent("evt_1", 3, "processing", "", 0), charge}, "700 usd"},
		{"no PaymentIntent has a currency",
			[]*ledger.Event{intent("evt_1", 3, "processing", "", 5000), charge}, "5000 usd"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			text := func(p *ledger.Payment) string { return figure(p.Amount) + " " + string(p.Currency) }
			p := model(c.events)["pi_1"].Payment
			if got := text(&p); got != c.want {
				t.Errorf("the model has %s, want %s", got, c.want)
			}
			orders(rng, c.events, 50, func(order []*ledger.Event) {
				trial, err := l.Try(order)
				if err != nil {
					t.Fatal(err)
				}
				if got := text(trial.Payments[0]); got != c.want {
					t.Fatalf("in the order %v the ledger has %s, want %s", ids(order), got, c.want)
				}
			})
		})
	}
}

// Fields that are no money, each from the snapshot that decides it.
func TestRulesOfFields(t *testing.T) {
	e := intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", LatestCharge: "ch_1", Customer: "cus_1"})
	e.Account, e.Context = "acct_2", "org_1/acct_2"
	later := intentAt("evt_2", 4, ledger.Intent{Status: "requires_payment_method", Currency: "none", AmountCapturable: -3})
	later.Account, later.Context = "acct_1", "org_2/acct_1"
	best := chargeAt("evt_3", "charge.failed", 5, ledger.Charge{Status: "failed", Amount: 700})
	events := []*ledger.Event{e, later, best, chargeAt("evt_4", "charge.pending", 6, ledger.Charge{Status: "pending", Amount: 900})}
	tryAsModelled(t, ledgertest.Open(t, false), rand.New(rand.NewPCG(1, 2)), events)
	p := model(events)["pi_1"].Payment
	if p.Account != "acct_1" || p.Context != "org_1/acct_2" {
		t.Errorf("account %s and context %s are not the least ones", p.Account, p.Context)
	}
	if p.LatestCharge != "ch_1" || p.Customer != "" || p.Status != "requires_payment_method" {
		t.Errorf("latest_charge %s, customer %q, status %s", p.LatestCharge, p.Customer, p.Status)
	}
	if p.ChargeStatus != "failed" || p.Currency != "usd" || *p.Amount != 5000 || p.AmountCapturable != 0 {
		t.Errorf("charge_status %s, %d %s, capturable %d", p.ChargeStatus, *p.Amount, p.Currency, p.AmountCapturable)
	}
	if p.Created != midnight-20 || p.Updated != midnight+6 || p.Events != 4 || p.Captured != 0 {
		t.Errorf("created %d, updated %d, captured %d, %d events", p.Created, p.Updated, p.Captured, p.Events)
	}
}

// Of two charges of an event the first describes the payment: Stripe listed the newest first.
func TestTheFirstChargeOfAnEvent(t *testing.T) {
	e := chargeAt("evt_1", "charge.succeeded", 5, ledger.Charge{ID: "ch_2", Amount: 700, AmountCaptured: 700})
	e.Facts.Charges = append(e.Facts.Charges, ledger.Charge{ID: "ch_1", Status: "succeeded", Currency: "usd", Amount: 900, Created: midnight})
	if p := model([]*ledger.Event{e})["pi_1"].Payment; p.LatestCharge != "ch_2" || *p.Amount != 700 {
		t.Errorf("the payment has the charge %s and the amount %d", p.LatestCharge, *p.Amount)
	}
	tryAsModelled(t, ledgertest.Open(t, false), rand.New(rand.NewPCG(1, 2)), []*ledger.Event{e})
}

// The fee is known only if the balance transaction of each charge that received something was read.
func TestRulesOfFees(t *testing.T) {
	charge := func(id, charge string, captured, fee int64, currency string) *ledger.Event {
		c := ledger.Charge{ID: charge, AmountCaptured: captured}
		if currency != "" {
			c.BalanceTransaction = &ledger.Booking{ID: "txn_" + charge, Created: midnight, Fee: fee, Currency: currency}
		}
		return fetched(chargeAt(id, "", 5, c))
	}
	l := ledgertest.Open(t, false)
	for _, c := range []struct {
		name   string
		events []*ledger.Event
		want   string
	}{
		{"a charge without its balance transaction", []*ledger.Event{charge("evt_1", "ch_1", 5000, 0, "")}, "null"},
		{"a fee of nothing", []*ledger.Event{charge("evt_1", "ch_1", 5000, 0, "usd")}, "0"},
		{"in another currency", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "eur")}, "null"},
		{"two charges", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "usd"), charge("evt_2", "ch_2", 700, 40, "usd")}, "215"},
		{"one of two charges", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "usd"), charge("evt_2", "ch_2", 700, 40, "")}, "null"},
		{"a charge that received nothing", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "usd"), charge("evt_2", "ch_2", 0, 40, "")}, "175"},
		{"two figures of one charge", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "usd"), charge("evt_2", "ch_1", 5000, 180, "usd")}, "180"},
		{"nothing received", []*ledger.Event{charge("evt_1", "ch_1", 0, 175, "usd")}, "null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := figure(model(c.events)["pi_1"].Payment.Fee); got != c.want {
				t.Errorf("the model has the fee %s, want %s", got, c.want)
			}
			tryAsModelled(t, l, rand.New(rand.NewPCG(1, 2)), c.events)
		})
	}
}
