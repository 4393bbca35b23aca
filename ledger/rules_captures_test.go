package ledger_test

import (
	"testing"

	"tillhook/ledger"
)

// The amount that was refunded before the last capture is not a void, whether a total or only
// refund objects show it.
func TestRulesOfVoidsBesideRefunds(t *testing.T) {
	tryRules(t, []ruleCase{
		{
			"a refund before the last capture that fails after it",
			[]*ledger.Event{
				capturedOf100("evt_1", "charge.captured", 1, 3000, 0),
				capturedOf100("evt_2", "charge.refunded", 10, 3000, 1000),
				refundAt("evt_3", 10, ledger.Refund{Amount: 1000}),
				capturedOf100("evt_4", "charge.captured", 20, 6000, 5000),
				refundAt("evt_5", 40, ledger.Refund{Amount: 1000, Status: "failed", Created: midnight + 10}),
				capturedOf100("evt_6", "charge.updated", 41, 6000, 4000),
			},
			[]string{
				"pi_1 -: received 6000, net 6000", "1 ch_1:received:3000 3000 usd", "10 re_1:refunded 1000 usd",
				"20 ch_1:received:6000 3000 usd", "40 re_1:returned 1000 usd",
			},
		},
		{
			"a refund before the last capture that only a refund object shows",
			[]*ledger.Event{
				capturedOf100("evt_1", "charge.captured", 1, 3000, 0),
				refundAt("evt_2", day, ledger.Refund{Amount: 3000}),
				capturedOf100("evt_3", "charge.captured", day+20, 7000, 3000),
			},
			[]string{
				"pi_1 -: received 7000, refunded 3000, net 4000",
				"1 ch_1:received:3000 3000 usd", "86400 re_1:refunded 3000 usd", "86420 ch_1:received:7000 4000 usd",
			},
		},
		{
			"a refund that failed before the last capture does not exclude the void",
			[]*ledger.Event{
				capturedOf100("evt_1", "charge.captured", 1, 3000, 0),
				capturedOf100("evt_2", "charge.captured", 30, 7000, 3000),
				refundAt("evt_3", 20, ledger.Refund{Amount: 3000, Status: "failed", Created: midnight + 10}),
			},
			[]string{
				"pi_1 -: received 7000, net 7000", "1 ch_1:received:3000 3000 usd", "10 re_1:refunded 3000 usd",
				"20 re_1:returned 3000 usd", "30 ch_1:received:7000 4000 usd",
			},
		},
		{
			"a failed refund that remains in the total does not raise it above the captured amount",
			[]*ledger.Event{
				capturedOf50("evt_1", "charge.captured", 1, 0), capturedOf50("evt_2", "charge.refunded", 4, 2000),
				refundAt("evt_3", 6, ledger.Refund{Amount: 2000, Status: "failed", Created: midnight + 4}),
				capturedOf50("evt_4", "charge.refunded", 9, 3500),
			},
			[]string{
				"pi_1 -: received 3000, refunded 1500, net 1500", "1 ch_1:received:3000 3000 usd",
				"4 re_1:refunded 2000 usd",
				"6 re_1:returned 2000 usd", "9 ch_1:refunded:3500 1500 usd",
			},
		},
	})
}

// A refund in the last total before the last capture can fail before the first total after it. It
// is then not in the totals, and does not exclude the void.
func TestRulesOfRefundsThatFailBetweenCaptures(t *testing.T) {
	// between is a payment of which 10.00 USD were refunded between two captures. The last capture,
	// at second 20, has the given total of refunds.
	between := func(total int64, more ...*ledger.Event) []*ledger.Event {
		return append(more, capturedOf100("evt_1", "charge.captured", 1, 3000, 0),
			capturedOf100("evt_2", "charge.refunded", 10, 3000, 1000),
			capturedOf100("evt_3", "charge.captured", 20, 6000, total))
	}
	failed := func(at int64) *ledger.Event {
		return refundAt("evt_4", at, ledger.Refund{Amount: 1000, Status: "failed", Created: midnight + 10})
	}
	received, later := "1 ch_1:received:3000 3000 usd", "20 ch_1:received:6000 3000 usd"
	tryRules(t, []ruleCase{
		{
			"it fails between the totals",
			between(4000, failed(15)),
			[]string{"pi_1 -: received 6000, net 6000", received, "10 re_1:refunded 1000 usd",
				"15 re_1:returned 1000 usd", later},
		},
		{
			"it fails in the second of the total before",
			between(4000, failed(10)),
			[]string{"pi_1 -: received 6000, net 6000", received, "10 re_1:refunded 1000 usd",
				"10 re_1:returned 1000 usd", later},
		},
		{
			"it fails in the second of the last capture",
			between(4000, failed(20)),
			[]string{"pi_1 -: received 6000, net 6000", received, "10 re_1:refunded 1000 usd", later,
				"20 re_1:returned 1000 usd"},
		},
		{
			// The total after the capture still includes it: the rest is less than the void.
			"it fails after the last capture",
			between(4000, failed(21)),
			[]string{
				"pi_1 -: received 6000, refunded 3000, net 3000", received, "10 re_1:refunded 1000 usd", later,
				"20 ch_1:refunded:4000 3000 usd", "21 re_1:returned 1000 usd",
			},
		},
		{
			// The total after the failure is of another refund.
			"it failed before the total before",
			between(4000, refundAt("evt_4", 9, ledger.Refund{Amount: 1000, Status: "failed", Created: midnight + 5})),
			[]string{
				"pi_1 -: received 6000, refunded 3000, net 3000", received, "5 re_1:refunded 1000 usd",
				"9 re_1:returned 1000 usd", later,
				"20 ch_1:refunded:4000 3000 usd",
			},
		},
		{
			"the first event of the failure decides",
			between(4000, failed(30), fetched(refundAt("fetch_1", 15,
				ledger.Refund{Amount: 1000, Status: "canceled", Created: midnight + 10}))),
			[]string{"pi_1 -: received 6000, net 6000", received, "10 re_1:refunded 1000 usd",
				"15 re_1:returned 1000 usd", later},
		},
		{
			"no event of the failure has a time",
			between(4000, failed(-midnight)),
			[]string{
				"pi_1 -: received 6000, refunded 3000, net 3000", received, "10 re_1:refunded 1000 usd",
				"10 re_1:returned 1000 usd", later,
				"20 ch_1:refunded:4000 3000 usd",
			},
		},
		{
			"it is in another currency",
			between(4000, refundAt("evt_4", 15,
				ledger.Refund{Amount: 1000, Status: "failed", Currency: "mxn", Created: midnight + 10})),
			[]string{
				"pi_1 -: received 6000, refunded 4000, net 2000 currency_mismatch", received,
				"10 ch_1:refunded:1000 1000 usd", later,
				"20 ch_1:refunded:4000 3000 usd",
			},
		},
		{
			"two fail, with more than the total before",
			between(4000, failed(15), refundAt("evt_5", 16,
				ledger.Refund{ID: "re_2", Amount: 700, Status: "canceled", Created: midnight + 11})),
			[]string{
				"pi_1 -: received 6000, net 6000", received, "10 re_1:refunded 1000 usd", "11 re_2:refunded 700 usd",
				"15 re_1:returned 1000 usd", "16 re_2:returned 700 usd", later,
			},
		},
		{
			"one of two fails, and the other remains in the totals",
			between(4600, refundAt("evt_4", 15, ledger.Refund{Amount: 400, Status: "failed", Created: midnight + 10}),
				refundAt("evt_5", 10, ledger.Refund{ID: "re_2", Amount: 600})),
			[]string{
				"pi_1 -: received 6000, refunded 600, net 5400", received, "10 re_1:refunded 400 usd",
				"10 re_2:refunded 600 usd",
				"15 re_1:returned 400 usd", later,
			},
		},
		{
			// Of the total of 40.00 the capture can have released only 34.00, but the void would be
			// 40.00.
			"one of two fails, and the other excludes the void",
			between(4000, refundAt("evt_4", 15, ledger.Refund{Amount: 400, Status: "failed", Created: midnight + 10}),
				refundAt("evt_5", 10, ledger.Refund{ID: "re_2", Amount: 600})),
			[]string{
				"pi_1 -: received 6000, refunded 3600, net 2400", received, "10 re_1:refunded 400 usd",
				"10 re_2:refunded 600 usd",
				"15 re_1:returned 400 usd", later, "20 ch_1:refunded:4000 3000 usd",
			},
		},
	})
}

// The refund object that Stripe makes for a void.
func TestRulesOfRefundsOfVoids(t *testing.T) {
	paid := intentAt("evt_2", 5, ledger.Intent{Status: "succeeded", AmountReceived: 3000})
	authorized := chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{})
	received := "5 ch_1:received:3000 3000 usd"
	tryRules(t, []ruleCase{
		{
			"without charge.captured the refund of the void is recognized by the time of the capture",
			[]*ledger.Event{
				authorized, paid, refundAt("evt_3", 5, ledger.Refund{Amount: 2000}),
				capturedOf50("evt_4", "charge.refunded", 6, 2000),
			},
			[]string{"pi_1 succeeded: received 3000, net 3000 date_approximate", received},
		},
		{
			"without charge.captured a refund three seconds after the capture counts",
			[]*ledger.Event{
				authorized, paid, refundAt("evt_3", 8, ledger.Refund{Amount: 2000}),
				capturedOf50("evt_4", "charge.refunded", 8, 2000),
			},
			[]string{"pi_1 succeeded: received 3000, refunded 2000, net 1000 date_approximate", received,
				"8 re_1:refunded 2000 usd"},
		},
		{
			"an earlier refund of the same amount does not belong to the void",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", "2023-10-16", 3, 1000, 0),
				refundAt("evt_2", 10, ledger.Refund{Amount: 300}),
				capturedTo("evt_3", "charge.refunded", "2023-10-16", 10, 1000, 300),
				capturedTo("evt_4", "charge.captured", "2023-10-16", 20, 4700, 600),
				refundAt("evt_5", 20, ledger.Refund{ID: "re_2", Amount: 300}),
			},
			[]string{
				"pi_1 -: received 4700, refunded 300, net 4400",
				"3 ch_1:received:1000 1000 usd", "10 re_1:refunded 300 usd", "20 ch_1:received:4700 3700 usd",
			},
		},
		{
			"if all refunds are before the first total, the first one belongs to the void",
			[]*ledger.Event{
				authorized, paid, refundAt("evt_3", 5, ledger.Refund{Amount: 2000}),
				refundAt("evt_4", 6, ledger.Refund{ID: "re_2", Amount: 2000}),
				capturedOf50("evt_5", "charge.refunded", 20, 4000),
			},
			[]string{"pi_1 succeeded: received 3000, refunded 2000, net 1000 date_approximate", received,
				"6 re_2:refunded 2000 usd"},
		},
	})
}

// A charge that was captured later than it was created.
func TestRulesOfLaterCaptures(t *testing.T) {
	authorized := intentAt("evt_1", day, ledger.Intent{Status: "requires_capture"})
	authorized.Type = "payment_intent.amount_capturable_updated"
	paid := chargeAt("evt_2", "charge.updated", 9, ledger.Charge{AmountCaptured: 5000})
	tryRules(t, []ruleCase{
		{
			"a PaymentIntent that required capture",
			[]*ledger.Event{
				authorized, intentAt("evt_2", 3*day, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				chargeAt("evt_3", "charge.refunded", 5*day,
					ledger.Charge{AmountCaptured: 5000, AmountRefunded: 1000, Created: midnight + day}),
			},
			[]string{
				"pi_1 succeeded: received 5000, refunded 1000, net 4000",
				"259200 ch_1:received:5000 5000 usd", "432000 ch_1:refunded:1000 1000 usd",
			},
		},
		{
			"a charge that was pending, and payment_intent.succeeded",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.pending", 1, ledger.Charge{Status: "pending"}), paid,
				intentAt("evt_3", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000", "6 ch_1:received:5000 5000 usd"},
		},
		{
			"a charge that was captured in part, and payment_intent.succeeded",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 9, ledger.Charge{AmountCaptured: 3000}),
				intentAt("evt_2", 4, ledger.Intent{Status: "succeeded", AmountReceived: 3000}),
			},
			[]string{"pi_1 succeeded: received 3000, net 3000", "4 ch_1:received:3000 3000 usd"},
		},
		{
			"a PaymentIntent that was processing",
			[]*ledger.Event{intentAt("evt_1", 2, ledger.Intent{Status: "processing"}), paid},
			[]string{"pi_1 processing: received 5000, net 5000 date_approximate", "9 ch_1:received:5000 5000 usd"},
		},
		{
			"a charge that was pending",
			[]*ledger.Event{chargeAt("evt_1", "charge.pending", 1, ledger.Charge{Status: "pending"}), paid},
			[]string{"pi_1 -: received 5000, net 5000 date_approximate", "9 ch_1:received:5000 5000 usd"},
		},
		{
			"a charge that was captured in part",
			[]*ledger.Event{chargeAt("evt_1", "charge.updated", 4, ledger.Charge{AmountCaptured: 3000})},
			[]string{"pi_1 -: received 3000, net 3000 date_approximate", "4 ch_1:received:3000 3000 usd"},
		},
		{
			"a charge that was pending in another currency",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.pending", 1, ledger.Charge{Status: "pending", Currency: "mxn"}), paid,
				intentAt("evt_3", 2, ledger.Intent{Status: "requires_action"}),
			},
			[]string{"pi_1 requires_action: received 5000, net 5000 currency_mismatch date_approximate",
				"9 ch_1:received:5000 5000 usd"},
		},
		{
			"a charge that was authorized in another currency",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.updated", 1, ledger.Charge{Currency: "mxn"}), paid,
				chargeAt("evt_3", "charge.succeeded", 7, ledger.Charge{AmountCaptured: 5000}),
			},
			[]string{"pi_1 -: received 5000, net 5000 currency_mismatch date_approximate",
				"7 ch_1:received:5000 5000 usd"},
		},
		{
			"a charge that was pending, and charge.succeeded",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.pending", 1, ledger.Charge{Status: "pending"}), paid,
				chargeAt("evt_3", "charge.succeeded", 7, ledger.Charge{AmountCaptured: 5000}),
			},
			[]string{"pi_1 -: received 5000, net 5000", "7 ch_1:received:5000 5000 usd"},
		},
	})
}

// Events from before 2020 have no amount_captured. What a partial capture released is then part of
// the amount and of amount_refunded.
func TestRulesOfUnknownCaptures(t *testing.T) {
	authorized := chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{})
	captured := func(refunded int64) *ledger.Event {
		return withoutCaptured(chargeAt("evt_2", "charge.captured", 5, ledger.Charge{AmountRefunded: refunded}))
	}
	refunded := func(at, refunded int64) *ledger.Event {
		return withoutCaptured(chargeAt("evt_3", "charge.refunded", at, ledger.Charge{AmountRefunded: refunded}))
	}
	paid := intentAt("evt_4", 6, ledger.Intent{Status: "succeeded", AmountReceived: 3000})
	tryRules(t, []ruleCase{
		{
			"the PaymentIntent has the captured amount",
			[]*ledger.Event{authorized, captured(2000), paid},
			[]string{"pi_1 succeeded: received 3000, net 3000", "5 ch_1:received:3000 3000 usd"},
		},
		{
			"the PaymentIntent has the captured amount of a charge whose release is not in amount_refunded",
			[]*ledger.Event{authorized, captured(0), paid},
			[]string{"pi_1 succeeded: received 3000, net 3000", "5 ch_1:received:3000 3000 usd"},
		},
		{
			"the PaymentIntent has the captured amount although charge.captured is missing",
			[]*ledger.Event{authorized, refunded(5, 2000), paid},
			[]string{"pi_1 succeeded: received 3000, net 3000 date_approximate", "5 ch_1:received:3000 3000 usd"},
		},
		{
			"a PaymentIntent that received the whole amount shows that amount_refunded is a refund",
			[]*ledger.Event{authorized, captured(2000),
				intentAt("evt_4", 6, ledger.Intent{Status: "succeeded", AmountReceived: 5000})},
			[]string{"pi_1 succeeded: received 5000, refunded 2000, net 3000", "5 ch_1:received:5000 5000 usd",
				"5 ch_1:refunded:2000 2000 usd"},
		},
		{
			"charge.captured shows what was released",
			[]*ledger.Event{authorized, captured(2000)},
			[]string{"pi_1 -: received 3000, net 3000", "5 ch_1:received:3000 3000 usd"},
		},
		{
			"the release as a refund object of the charge",
			[]*ledger.Event{authorized, captured(2000), refundAt("evt_5", 5, ledger.Refund{Amount: 2000})},
			[]string{"pi_1 -: received 3000, net 3000", "5 ch_1:received:3000 3000 usd"},
		},
		{
			"a refund after a partial capture",
			[]*ledger.Event{authorized, captured(2000), refunded(9, 2500)},
			[]string{"pi_1 -: received 3000, refunded 500, net 2500", "5 ch_1:received:3000 3000 usd",
				"9 ch_1:refunded:2500 500 usd"},
		},
		{
			"a refund after a capture of the whole amount",
			[]*ledger.Event{authorized, captured(0), refunded(9, 2000)},
			[]string{"pi_1 -: received 5000, refunded 2000, net 3000", "5 ch_1:received:5000 5000 usd",
				"9 ch_1:refunded:2000 2000 usd"},
		},
		{
			"a refund of a charge that was captured when it was created",
			[]*ledger.Event{
				withoutCaptured(chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{})), refunded(9, 2000),
			},
			[]string{"pi_1 -: received 5000, refunded 2000, net 3000", "1 ch_1:received:5000 5000 usd",
				"9 ch_1:refunded:2000 2000 usd"},
		},
		{
			"a refund of a charge whose capture has no event",
			[]*ledger.Event{refunded(9, 2000)},
			[]string{"pi_1 -: received 5000, refunded 2000, net 3000", "-10 ch_1:received:5000 5000 usd",
				"9 ch_1:refunded:2000 2000 usd"},
		},
		{
			"a capture does not release the whole amount",
			[]*ledger.Event{authorized, captured(5000)},
			[]string{"pi_1 -: received 5000, refunded 5000, net 0", "5 ch_1:received:5000 5000 usd",
				"5 ch_1:refunded:5000 5000 usd"},
		},
		{
			"an API read has the captured amount",
			[]*ledger.Event{authorized, captured(0),
				fetched(chargeAt("fetch_1", "", 90, ledger.Charge{AmountCaptured: 3000}))},
			[]string{"pi_1 -: received 3000, net 3000", "5 ch_1:received:3000 3000 usd"},
		},
		{
			"a PaymentIntent with two captured charges has the captured amount of neither",
			[]*ledger.Event{captured(2000),
				intentAt("evt_4", 6, ledger.Intent{Status: "succeeded", AmountReceived: 4000}),
				chargeAt("evt_5", "charge.succeeded", 7, ledger.Charge{ID: "ch_2", AmountCaptured: 1000})},
			[]string{"pi_1 succeeded: received 4000, net 4000", "5 ch_1:received:3000 3000 usd",
				"7 ch_2:received:1000 1000 usd"},
		},
		{
			"a canceled PaymentIntent does not have the captured amount",
			[]*ledger.Event{captured(1000),
				intentAt("evt_4", 6, ledger.Intent{Status: "canceled", AmountReceived: 3000})},
			[]string{"pi_1 canceled: received 4000, net 4000", "5 ch_1:received:4000 4000 usd"},
		},
		{
			"a charge in another currency",
			[]*ledger.Event{paid, withoutCaptured(chargeAt("evt_2", "charge.captured", 5, ledger.Charge{Currency: "mxn"}))},
			[]string{"pi_1 succeeded: received 3000, net 3000 currency_mismatch", "6 pi_1:received 3000 usd"},
		},
	})
}
