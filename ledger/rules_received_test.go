package ledger_test

import (
	"math/rand/v2"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// The received amount and its day.
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
				fetched(chargeAt("fetch_1", "", 90,
					ledger.Charge{AmountCaptured: 5000, BalanceTransaction: booking("txn_1", 4)})),
			},
			[]string{"pi_1 -: received 5000, net 5000", "4 ch_1:received:5000 5000 usd"},
		},
		{
			"a balance transaction does not date several captures",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.captured", 5, ledger.Charge{AmountCaptured: 1000}),
				chargeAt("evt_2", "charge.captured", 7,
					ledger.Charge{AmountCaptured: 5000, BalanceTransaction: booking("txn_1", 4)}),
			},
			[]string{"pi_1 -: received 5000, net 5000", "5 ch_1:received:1000 1000 usd",
				"7 ch_1:received:5000 4000 usd"},
		},
		{
			"a later capture dates an earlier one",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.captured", 7, ledger.Charge{AmountCaptured: 5000}),
				chargeAt("evt_2", "charge.updated", 5, ledger.Charge{AmountCaptured: 1000}),
			},
			[]string{"pi_1 -: received 5000, net 5000", "7 ch_1:received:1000 1000 usd",
				"7 ch_1:received:5000 4000 usd"},
		},
		{
			"without an authorization charge.succeeded dates the capture",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 2, ledger.Charge{AmountCaptured: 5000}),
				chargeAt("evt_2", "charge.refunded", 9, ledger.Charge{AmountCaptured: 5000}),
			},
			[]string{"pi_1 -: received 5000, net 5000", "2 ch_1:received:5000 5000 usd"},
		},
		{
			"a pending charge is not an authorization",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.pending", 2, ledger.Charge{Status: "pending"}),
				chargeAt("evt_2", "charge.succeeded", 6, ledger.Charge{AmountCaptured: 5000}),
			},
			[]string{"pi_1 -: received 5000, net 5000", "6 ch_1:received:5000 5000 usd"},
		},
		{
			"without an authorization and charge.succeeded the creation of the charge dates the capture",
			[]*ledger.Event{
				chargeAt("evt_2", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				fetched(chargeAt("fetch_1", "", 3, ledger.Charge{AmountCaptured: 5000})),
			},
			[]string{"pi_1 -: received 5000, net 5000", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"without an authorization payment_intent.succeeded takes precedence over the creation of the charge",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				intentAt("evt_3", 7, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "6 ch_1:received:5000 5000 usd"},
		},
		{
			"charge.succeeded takes precedence over an earlier payment_intent.succeeded",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 7, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "7 ch_1:received:5000 5000 usd"},
		},
		{
			"a payment_intent.succeeded with a smaller amount does not date the capture",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", AmountReceived: 4999}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"payment_intent.succeeded dates each of several captures",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 4, ledger.Charge{AmountCaptured: 1000}),
				chargeAt("evt_2", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_3", 3, ledger.Intent{Status: "succeeded", AmountReceived: 1000}),
				intentAt("evt_4", 8, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "3 ch_1:received:1000 1000 usd",
				"8 ch_1:received:5000 4000 usd"},
		},
		{
			"a fetched PaymentIntent does not date the capture",
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
			"a succeeded PaymentIntent in an event of another type does not date the capture",
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
			"a payment_intent.succeeded in another currency does not date the capture",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", Currency: "mxn", AmountReceived: 5000}),
				intentAt("evt_3", 7, ledger.Intent{Status: "succeeded"}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 currency_mismatch", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"a payment_intent.succeeded without a time does not date the capture",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_2", -midnight, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"the creation of the charge dates only the first capture",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 4, ledger.Charge{Amount: 1000, AmountCaptured: 1000}),
				chargeAt("evt_2", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
			},
			[]string{"pi_1 -: received 5000, net 5000 date_approximate", "-10 ch_1:received:1000 1000 usd",
				"9 ch_1:received:5000 4000 usd"},
		},
		{
			"after an authorization the dates of other events are approximate",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{}),
				chargeAt("evt_2", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000}),
				intentAt("evt_3", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 date_approximate", "6 ch_1:received:5000 5000 usd"},
		},
		{
			"the time of a fetch dates nothing",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{}),
				fetched(chargeAt("fetch_1", "", 90, ledger.Charge{AmountCaptured: 5000})),
			},
			[]string{"pi_1 -: received 5000, net 5000 date_approximate", "-10 ch_1:received:5000 5000 usd"},
		},
		{
			"a PaymentIntent without charges is dated by its success",
			[]*ledger.Event{
				intentAt("evt_1", 1, ledger.Intent{Status: "requires_payment_method"}),
				intentAt("evt_2", 5, ledger.Intent{Status: "succeeded", AmountReceived: 4000}),
				intentAt("evt_3", 8, ledger.Intent{Status: "succeeded", AmountReceived: 4000}),
			},
			[]string{"pi_1 succeeded: received 4000, net 4000", "5 pi_1:received 4000 usd"},
		},
		{
			"a PaymentIntent that was only fetched is dated by its creation",
			[]*ledger.Event{fetched(intentAt("fetch_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 4000}))},
			[]string{"pi_1 succeeded: received 4000, net 4000 date_approximate", "-20 pi_1:received 4000 usd"},
		},
		{
			"money that the PaymentIntent received beyond its charges is an additional entry",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{AmountCaptured: 3000}),
				intentAt("evt_2", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "1 ch_1:received:3000 3000 usd",
				"5 pi_1:received 2000 usd"},
		},
		{
			"a canceled PaymentIntent keeps the captured amount",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{AmountCaptured: 3000}),
				intentAt("evt_2", 5, ledger.Intent{Status: "requires_action", AmountReceived: 5000}),
				intentAt("evt_3", 6, ledger.Intent{Status: "canceled"}),
			},
			[]string{"pi_1 canceled: received 3000, net 3000", "1 ch_1:received:3000 3000 usd"},
		},
		{
			"a charge that finally failed received nothing",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{AmountCaptured: 3000}),
				chargeAt("evt_2", "charge.failed", 1, ledger.Charge{Status: "failed"}),
			},
			[]string{"pi_1 -: received 0, net 0"},
		},
		{
			"a capture without any time is dated by the creation of the payment",
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

// The received amount is unknown unless there is a charge, or a PaymentIntent with its
// amount_received.
func TestRulesOfUnknownReceived(t *testing.T) {
	silent := withoutReceived(intentAt("evt_1", 5, ledger.Intent{Status: "succeeded"}))
	tryRules(t, []ruleCase{
		{"a PaymentIntent without amount_received", []*ledger.Event{silent},
			[]string{"pi_1 succeeded: received null, net null"}},
		{
			"a fetched PaymentIntent without amount_received",
			[]*ledger.Event{silent, fetched(withoutReceived(intentAt("fetch_1", 9,
				ledger.Intent{Status: "canceled"})))},
			[]string{"pi_1 canceled: received null, net null"},
		},
		{
			"refunds and disputes are known without amount_received",
			[]*ledger.Event{
				silent, refundAt("evt_2", 6, ledger.Refund{Amount: 300}),
				disputeAt("evt_3", 7, ledger.Dispute{Transactions: []ledger.Transaction{{ID: "txn_1", Amount: -5000,
					Currency: "usd", Created: midnight + 7}}}),
			},
			[]string{"pi_1 succeeded: received null, refunded 300, withdrawn 5000, net null", "6 re_1:refunded 300 usd",
				"7 txn_1 5000 usd"},
		},
		{
			"an earlier PaymentIntent has amount_received",
			[]*ledger.Event{intentAt("evt_0", 3, ledger.Intent{Status: "requires_payment_method"}), silent},
			[]string{"pi_1 succeeded: received 0, net 0"},
		},
		{
			"an overridden PaymentIntent has amount_received",
			[]*ledger.Event{
				intentAt("evt_0", 3, ledger.Intent{Status: "processing"}),
				fetched(withoutReceived(intentAt("fetch_1", 9, ledger.Intent{Status: "succeeded"}))),
			},
			[]string{"pi_1 succeeded: received 0, net 0"},
		},
		{
			"an amount_received counts although another PaymentIntent has none",
			[]*ledger.Event{intentAt("evt_0", 3, ledger.Intent{Status: "succeeded", AmountReceived: 4000}), silent},
			[]string{"pi_1 succeeded: received 4000, net 4000", "3 pi_1:received 4000 usd"},
		},
		{
			"a PaymentIntent in another currency has amount_received",
			[]*ledger.Event{intentAt("evt_0", 3,
				ledger.Intent{Status: "succeeded", Currency: "mxn", AmountReceived: 4000}), silent},
			[]string{"pi_1 succeeded: received 0, net 0 currency_mismatch"},
		},
		{
			"a negative amount_received",
			[]*ledger.Event{intentAt("evt_0", 3, ledger.Intent{Status: "succeeded", AmountReceived: -1})},
			[]string{"pi_1 succeeded: received null, net null amount"},
		},
		{
			"a charge that received nothing",
			[]*ledger.Event{silent, chargeAt("evt_2", "charge.pending", 6, ledger.Charge{Status: "pending"})},
			[]string{"pi_1 succeeded: received 0, net 0"},
		},
		{
			"a charge in another currency",
			[]*ledger.Event{silent, chargeAt("evt_2", "charge.captured", 6,
				ledger.Charge{Currency: "mxn", AmountCaptured: 700})},
			[]string{"pi_1 succeeded: received 0, net 0 currency_mismatch"},
		},
		{
			"a charge that was captured",
			[]*ledger.Event{silent, chargeAt("evt_2", "charge.captured", 6, ledger.Charge{AmountCaptured: 5000})},
			[]string{"pi_1 succeeded: received 5000, net 5000", "6 ch_1:received:5000 5000 usd"},
		},
	})
}

// A negative amount is unknown. A sum is unknown too if it would be 0 without that amount.
func TestRulesOfNegativeAmounts(t *testing.T) {
	created := intentAt("evt_0", 1, ledger.Intent{Status: "requires_payment_method"})
	negative := intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: -100})
	captured := func(id string, at, amount int64) *ledger.Event {
		return chargeAt(id, "charge.captured", at, ledger.Charge{AmountCaptured: amount})
	}
	tryRules(t, []ruleCase{
		{"amount_received beside an earlier 0", []*ledger.Event{created, negative},
			[]string{"pi_1 succeeded: received null, net null amount"}},
		{"amount_received beside a known one",
			[]*ledger.Event{negative, intentAt("evt_2", 4, ledger.Intent{Status: "succeeded", AmountReceived: 700})},
			[]string{"pi_1 succeeded: received 700, net 700 amount", "4 pi_1:received 700 usd"}},
		{"amount_received of a canceled PaymentIntent that had received 0",
			[]*ledger.Event{created, intentAt("evt_1", 5, ledger.Intent{Status: "canceled", AmountReceived: -100})},
			[]string{"pi_1 canceled: received 0, net 0 amount"}},
		{"amount_received in another currency",
			[]*ledger.Event{intentAt("evt_1", 5, ledger.Intent{Status: "succeeded"}), intentAt("evt_2", 4,
				ledger.Intent{Status: "succeeded", Currency: "mxn", AmountReceived: -100})},
			[]string{"pi_1 succeeded: received 0, net 0 amount currency_mismatch"}},
		{"amount_captured", []*ledger.Event{captured("evt_1", 5, -500)},
			[]string{"pi_1 -: received null, net null amount"}},
		{"amount_captured beside an authorization",
			[]*ledger.Event{chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{}), captured("evt_2", 5, -500)},
			[]string{"pi_1 -: received null, net null amount"}},
		{"amount_captured beside amount_received",
			[]*ledger.Event{captured("evt_1", 5, -500),
				intentAt("evt_2", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000})},
			[]string{"pi_1 succeeded: received 5000, net 5000 amount", "6 pi_1:received 5000 usd"}},
		{"amount_captured of a charge that failed",
			[]*ledger.Event{chargeAt("evt_1", "charge.failed", 5, ledger.Charge{Status: "failed", AmountCaptured: -500})},
			[]string{"pi_1 -: received 0, net 0 amount"}},
		{"amount_captured of an authorization",
			[]*ledger.Event{func() *ledger.Event {
				e := captured("evt_1", 5, -500)
				e.Facts.Charges[0].Captured = false
				return e
			}()},
			[]string{"pi_1 -: received 0, net 0 amount"}},
		{"the amount of a captured charge without amount_captured",
			[]*ledger.Event{withoutCaptured(chargeAt("evt_1", "charge.captured", 5, ledger.Charge{Amount: -700}))},
			[]string{"pi_1 -: received null, net null amount"}},
		{"the amount of a refund", []*ledger.Event{fullCapture("evt_1", "charge.captured", 1, 0),
			refundAt("evt_2", 5, ledger.Refund{Amount: -700})},
			[]string{"pi_1 -: received 5000, refunded null, net null amount", "1 ch_1:received:5000 5000 usd"}},
		{"the amount of a refund beside a known one", []*ledger.Event{fullCapture("evt_1", "charge.captured", 1, 0),
			refundAt("evt_2", 5, ledger.Refund{Amount: -700}), refundAt("evt_3", 6, ledger.Refund{ID: "re_2", Amount: 300})},
			[]string{"pi_1 -: received 5000, refunded 300, net 4700 amount", "1 ch_1:received:5000 5000 usd",
				"6 re_2:refunded 300 usd"}},
		{"the amount of a refund that failed", []*ledger.Event{fullCapture("evt_1", "charge.captured", 1, 0),
			refundAt("evt_2", 5, ledger.Refund{Amount: -700, Status: "failed"})},
			[]string{"pi_1 -: received 5000, net 5000 amount", "1 ch_1:received:5000 5000 usd"}},
		{"the amount of a refund of an authorization", []*ledger.Event{chargeAt("evt_1", "charge.expired", 1, ledger.Charge{}),
			refundAt("evt_2", 5, ledger.Refund{Amount: -700})},
			[]string{"pi_1 -: received 0, net 0 amount"}},
		{"the amount of a refund in another currency", []*ledger.Event{fullCapture("evt_1", "charge.captured", 1, 0),
			refundAt("evt_2", 5, ledger.Refund{Amount: -700, Currency: "mxn"})},
			[]string{"pi_1 -: received 5000, net 5000 amount currency_mismatch", "1 ch_1:received:5000 5000 usd"}},
		{"amount_refunded", []*ledger.Event{fullCapture("evt_1", "charge.captured", 1, 0),
			fullCapture("evt_2", "charge.refunded", 5, -700)},
			[]string{"pi_1 -: received 5000, refunded null, net null amount", "1 ch_1:received:5000 5000 usd"}},
		{"amount_refunded of an authorization",
			[]*ledger.Event{chargeAt("evt_1", "charge.refunded", 5, ledger.Charge{AmountRefunded: -700})},
			[]string{"pi_1 -: received 0, net 0 amount"}},
	})
}

// The fee is known if the balance transaction of each charge with received money is known.
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
		{"a fee of zero", []*ledger.Event{charge("evt_1", "ch_1", 5000, 0, "usd")}, "0"},
		{"in another currency", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "eur")}, "null"},
		{"two charges", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "usd"),
			charge("evt_2", "ch_2", 700, 40, "usd")}, "215"},
		{"one of two charges", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "usd"),
			charge("evt_2", "ch_2", 700, 40, "")}, "null"},
		{"a charge that received nothing", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "usd"),
			charge("evt_2", "ch_2", 0, 40, "")}, "175"},
		{"two fees of one charge", []*ledger.Event{charge("evt_1", "ch_1", 5000, 175, "usd"),
			charge("evt_2", "ch_1", 5000, 180, "usd")}, "180"},
		{"nothing received", []*ledger.Event{charge("evt_1", "ch_1", 0, 175, "usd")}, "null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := figure(model(c.events)["pi_1"].Payment.Fee); got != c.want {
				t.Errorf("the model has the fee %s, want %s", got, c.want)
			}
			checkAgainstModel(t, l, rand.New(rand.NewPCG(1, 2)), c.events)
		})
	}
}
