package ledger_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// A void is the part of an authorization that a partial capture releases. It is not a refund,
// although older API versions report it as one.
func TestRulesOfVoids(t *testing.T) {
	const older, newer = "2023-10-16", "2026-03-25.dahlia"
	received := "5 ch_1:received:3000 3000 usd"
	tryRules(t, []ruleCase{
		{
			"an endpoint with a newer API version than the request: neither the void nor its refund counts",
			[]*ledger.Event{partialCapture("evt_1", "charge.captured", newer, 5, 2000),
				refundAt("evt_2", 7, ledger.Refund{Amount: 2000})},
			[]string{"pi_1 -: received 3000, net 3000", received},
		},
		{
			"an endpoint with an older API version than the request: the total is a refund",
			[]*ledger.Event{partialCapture("evt_1", "charge.captured", older, 5, 0),
				partialCapture("evt_2", "charge.refunded", older, 9, 2000)},
			[]string{"pi_1 -: received 3000, refunded 2000, net 1000", received, "9 ch_1:refunded:2000 2000 usd"},
		},
		{
			"a refund of the same amount right after the capture counts if the totals do not include the void",
			[]*ledger.Event{partialCapture("evt_1", "charge.captured", older, 5, 0),
				refundAt("evt_2", 6, ledger.Refund{Amount: 2000})},
			[]string{"pi_1 -: received 3000, refunded 2000, net 1000", received, "6 re_1:refunded 2000 usd"},
		},
		{
			"a refund of the same amount three seconds after the capture counts",
			[]*ledger.Event{
				partialCapture("evt_1", "charge.captured", older, 5, 2000),
				refundAt("evt_2", 8, ledger.Refund{Amount: 2000}),
				partialCapture("evt_3", "charge.refunded", older, 8, 4000),
			},
			[]string{"pi_1 -: received 3000, refunded 2000, net 1000", received, "8 re_1:refunded 2000 usd"},
		},
		{
			"a refund of the same amount with another reason counts",
			[]*ledger.Event{
				partialCapture("evt_1", "charge.captured", older, 5, 2000),
				refundAt("evt_2", 6, ledger.Refund{Amount: 2000, Reason: "requested_by_customer"}),
			},
			[]string{"pi_1 -: received 3000, refunded 2000, net 1000", received, "6 re_1:refunded 2000 usd"},
		},
		{
			"of two refunds of the same amount the first belongs to the void",
			[]*ledger.Event{
				partialCapture("evt_1", "charge.captured", older, 5, 2000),
				refundAt("evt_2", 6, ledger.Refund{ID: "re_2", Amount: 2000}),
				refundAt("evt_3", 5, ledger.Refund{ID: "re_3", Amount: 2000, Reason: "expired_uncaptured_charge"}),
			},
			[]string{"pi_1 -: received 3000, refunded 2000, net 1000", received, "6 re_2:refunded 2000 usd"},
		},
		{
			"refunds after a void count",
			[]*ledger.Event{partialCapture("evt_1", "charge.captured", older, 5, 2000),
				partialCapture("evt_2", "charge.refunded", older, 9, 2500)},
			[]string{"pi_1 -: received 3000, refunded 500, net 2500", received, "9 ch_1:refunded:2500 500 usd"},
		},
		{
			"without charge.captured a total with the amount of the void is the void",
			[]*ledger.Event{partialCapture("evt_1", "charge.refunded", newer, 5, 2000)},
			[]string{"pi_1 -: received 3000, net 3000 date_approximate", received},
		},
		{
			"while more can be captured the API version decides: in an older one the totals include the void",
			[]*ledger.Event{
				partialCapture("evt_1", "charge.refunded", older, 5, 2000),
				intentAt("evt_2", 6, ledger.Intent{Status: "requires_capture"}),
			},
			[]string{"pi_1 requires_capture: received 3000, net 3000 date_approximate", received},
		},
		{
			"while more can be captured the API version decides: in a newer one they do not",
			[]*ledger.Event{
				partialCapture("evt_1", "charge.refunded", newer, 5, 2000),
				intentAt("evt_2", 6, ledger.Intent{Status: "requires_capture"}),
			},
			[]string{
				"pi_1 requires_capture: received 3000, refunded 2000, net 1000 date_approximate",
				received, "5 ch_1:refunded:2000 2000 usd",
			},
		},
		{
			"a refund between two captures",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.captured", 3, ledger.Charge{AmountCaptured: 1000}),
				chargeAt("evt_2", "charge.refunded", 4, ledger.Charge{AmountCaptured: 1000, AmountRefunded: 400}),
				partialCapture("evt_3", "charge.captured", newer, 5, 400),
			},
			[]string{
				"pi_1 -: received 3000, refunded 400, net 2600",
				"3 ch_1:received:1000 1000 usd", "4 ch_1:refunded:400 400 usd", "5 ch_1:received:3000 2000 usd",
			},
		},
	})
}

// Voids after several captures, and refunds between the captures.
func TestRulesOfSeveralCaptures(t *testing.T) {
	const older, newer = "2023-10-16", "2026-03-25.dahlia"
	tryRules(t, []ruleCase{
		{
			"a refund between captures that is larger than the void",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", newer, 3, 1000, 0),
				capturedTo("evt_2", "charge.captured", newer, 4, 2000, 500),
				capturedTo("evt_3", "charge.captured", newer, 5, 4700, 500),
			},
			[]string{
				"pi_1 -: received 4700, refunded 500, net 4200", "3 ch_1:received:1000 1000 usd",
				"4 ch_1:received:2000 1000 usd",
				"4 ch_1:refunded:500 500 usd", "5 ch_1:received:4700 2700 usd",
			},
		},
		{
			"a refund between captures with an event of its own",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", newer, 3, 1000, 0),
				capturedTo("evt_2", "charge.refunded", newer, 4, 1000, 500),
				capturedTo("evt_3", "charge.captured", newer, 5, 4700, 500),
			},
			[]string{
				"pi_1 -: received 4700, refunded 500, net 4200",
				"3 ch_1:received:1000 1000 usd", "4 ch_1:refunded:500 500 usd", "5 ch_1:received:4700 3700 usd",
			},
		},
		{
			"a void and a refund between captures add up, and the refund keeps its day",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", older, 3, 1000, 0),
				capturedTo("evt_2", "charge.refunded", older, 4, 1000, 500),
				capturedTo("evt_3", "charge.captured", older, 5, 4700, 800),
			},
			[]string{
				"pi_1 -: received 4700, refunded 500, net 4200",
				"3 ch_1:received:1000 1000 usd", "4 ch_1:refunded:500 500 usd", "5 ch_1:received:4700 3700 usd",
			},
		},
		{
			"a void that is larger than the refund between captures",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", older, 3, 1000, 0),
				capturedTo("evt_2", "charge.refunded", older, 4, 1000, 400),
				capturedTo("evt_3", "charge.captured", older, 9, 3000, 2400),
			},
			[]string{
				"pi_1 -: received 3000, refunded 400, net 2600",
				"3 ch_1:received:1000 1000 usd", "4 ch_1:refunded:400 400 usd", "9 ch_1:received:3000 2000 usd",
			},
		},
		{
			"both the void and the refund between captures have a refund object",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", older, 3, 1000, 0),
				refundAt("evt_2", 4, ledger.Refund{Amount: 500}),
				capturedTo("evt_3", "charge.refunded", older, 4, 1000, 500),
				capturedTo("evt_4", "charge.captured", older, 5, 4700, 800),
				refundAt("evt_5", 5, ledger.Refund{ID: "re_2", Amount: 300}),
			},
			[]string{
				"pi_1 -: received 4700, refunded 500, net 4200",
				"3 ch_1:received:1000 1000 usd", "4 re_1:refunded 500 usd", "5 ch_1:received:4700 3700 usd",
			},
		},
		{
			"the last total before the last capture counts: a refund failed before it",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", older, 1, 1000, 0),
				capturedTo("evt_2", "charge.refunded", older, 3, 1000, 700),
				capturedTo("evt_3", "charge.updated", older, 4, 1000, 500),
				capturedTo("evt_4", "charge.captured", older, 5, 4700, 800),
			},
			[]string{
				"pi_1 -: received 4700, refunded 500, net 4200", "1 ch_1:received:1000 1000 usd",
				"3 ch_1:refunded:700 700 usd",
				"4 ch_1:returned:200 200 usd", "5 ch_1:received:4700 3700 usd",
			},
		},
		{
			"of two totals within a second before the last capture the greater one counts",
			[]*ledger.Event{
				capturedTo("evt_2", "charge.captured", older, 3, 1000, 0),
				capturedTo("evt_1", "charge.refunded", older, 3, 1000, 500),
				capturedTo("evt_3", "charge.captured", older, 5, 4700, 500),
			},
			[]string{
				"pi_1 -: received 4700, refunded 500, net 4200",
				"3 ch_1:received:1000 1000 usd", "3 ch_1:refunded:500 500 usd", "5 ch_1:received:4700 3700 usd",
			},
		},
	})
}

// Partial captures of an authorization that expires: the rest is released without another capture.
func TestRulesOfExpiredCaptures(t *testing.T) {
	const older, newer = "2023-10-16", "2026-03-25.dahlia"
	tryRules(t, []ruleCase{
		{
			"no more than the captured amount can be refunded, so the rest was released",
			[]*ledger.Event{capturedTo("evt_1", "charge.captured", older, 3, 1000, 0),
				capturedTo("evt_2", "charge.updated", older, 9, 1000, 4000)},
			[]string{"pi_1 -: received 1000, net 1000", "3 ch_1:received:1000 1000 usd"},
		},
		{
			"the whole captured amount can be refunded",
			[]*ledger.Event{capturedTo("evt_1", "charge.captured", older, 3, 1000, 0),
				capturedTo("evt_2", "charge.refunded", older, 9, 1000, 1000)},
			[]string{"pi_1 -: received 1000, refunded 1000, net 0", "3 ch_1:received:1000 1000 usd",
				"9 ch_1:refunded:1000 1000 usd"},
		},
		{
			"a refund before the void keeps its day",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", older, 3, 1000, 0),
				capturedTo("evt_2", "charge.refunded", older, 4, 1000, 400),
				capturedTo("evt_3", "charge.updated", older, 9, 1000, 4400),
			},
			[]string{"pi_1 -: received 1000, refunded 400, net 600", "3 ch_1:received:1000 1000 usd",
				"4 ch_1:refunded:400 400 usd"},
		},
		{
			"a refund after the void keeps its day",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", older, 3, 1000, 0),
				capturedTo("evt_2", "charge.updated", older, 9, 1000, 4000),
				capturedTo("evt_3", "charge.refunded", older, 11, 1000, 4400),
			},
			[]string{"pi_1 -: received 1000, refunded 400, net 600", "3 ch_1:received:1000 1000 usd",
				"11 ch_1:refunded:4400 400 usd"},
		},
		{
			"a total above the captured amount is a void in every API version, even while more can be captured",
			[]*ledger.Event{capturedTo("evt_1", "charge.updated", newer, 5, 1000, 4000),
				intentAt("evt_2", 6, ledger.Intent{Status: "requires_capture"})},
			[]string{"pi_1 requires_capture: received 1000, net 1000 date_approximate",
				"5 ch_1:received:1000 1000 usd"},
		},
		{
			"a void after a refund between captures, a part of which was returned without an event",
			[]*ledger.Event{
				capturedTo("evt_1", "charge.captured", older, 3, 1000, 0),
				capturedTo("evt_2", "charge.refunded", older, 4, 1000, 900),
				capturedTo("evt_3", "charge.captured", older, 5, 2000, 900),
				capturedTo("evt_4", "charge.updated", older, 9, 2000, 3300),
			},
			[]string{
				"pi_1 -: received 2000, refunded 300, net 1700",
				"3 ch_1:received:1000 1000 usd", "4 ch_1:refunded:900 300 usd", "5 ch_1:received:2000 1000 usd",
			},
		},
	})
}

// The first total after the last capture can be the one that shows the void, and it can follow the
// refund that Stripe made for the void. That refund does not count as made before the capture. In a
// case "with a greater total later", that total shows whether the void was found in the totals:
// only if it was not, the rest of the total counts.
func TestRulesOfVoidsSeenLate(t *testing.T) {
	const older = "2023-10-16"
	authorized := chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{})
	paid := intentAt("evt_2", 5, ledger.Intent{Status: "succeeded", AmountReceived: 3000})
	received := "5 ch_1:received:3000 3000 usd"
	// late is a payment whose total arrives at second 35, or ten seconds after the refund if that
	// is later.
	late := func(at int64, r ledger.Refund, sum int64) []*ledger.Event {
		r.Amount = cmp.Or(r.Amount, 2000)
		last := partialCapture("evt_4", "charge.refunded", older, max(35, at+10), sum)
		return []*ledger.Event{authorized, paid, refundAt("evt_3", at, r), last}
	}
	more := func(sum int64) *ledger.Event { return partialCapture("evt_5", "charge.refunded", older, 4000, sum) }
	// A part of the first capture of 100.00 USD was refunded before the second one, which only
	// charge.updated shows. The refund has the amount of the void, but was made a day after
	// charge.captured.
	between := []*ledger.Event{
		capturedOf100("evt_1", "charge.captured", 1, 3000, 0), refundAt("evt_2", day, ledger.Refund{Amount: 3000}),
		capturedOf100("evt_3", "charge.updated", day+20, 7000, 3000),
		capturedOf100("evt_4", "charge.refunded", day+900, 7000, 3500),
	}
	tryRules(t, []ruleCase{
		{
			// The refund was made a second after the capture and may belong to the void, so the
			// total of 2000 is large enough for the void.
			"the charge.refunded of the void, half a minute after its refund",
			late(6, ledger.Refund{}, 2000),
			[]string{"pi_1 succeeded: received 3000, net 3000 date_approximate", received},
		},
		{
			"a refund two seconds before the capture may belong to the void",
			late(3, ledger.Refund{}, 2000),
			[]string{"pi_1 succeeded: received 3000, net 3000 date_approximate", received},
		},
		{
			"a refund three seconds before the capture does not belong to the void",
			late(2, ledger.Refund{}, 2000),
			[]string{"pi_1 succeeded: received 3000, refunded 2000, net 1000 date_approximate",
				"2 re_1:refunded 2000 usd", received},
		},
		{
			"a refund two seconds after the capture may belong to the void",
			late(7, ledger.Refund{Reason: "expired_uncaptured_charge"}, 2000),
			[]string{"pi_1 succeeded: received 3000, net 3000 date_approximate", received},
		},
		{
			"a refund three seconds after the capture does not belong to the void, with a greater total later",
			append(late(8, ledger.Refund{}, 2000), more(2500)),
			[]string{
				"pi_1 succeeded: received 3000, refunded 2500, net 500 date_approximate", received,
				"8 re_1:refunded 2000 usd", "4000 ch_1:refunded:2500 500 usd",
			},
		},
		{
			"a refund of the same amount long after the capture, ten seconds before its total",
			late(3005, ledger.Refund{}, 2000),
			[]string{"pi_1 succeeded: received 3000, refunded 2000, net 1000 date_approximate", received,
				"3005 re_1:refunded 2000 usd"},
		},
		{
			"a refund of the same amount long after the capture, ten seconds before its total, with a greater total later",
			append(late(3005, ledger.Refund{}, 2000), more(2500)),
			[]string{
				"pi_1 succeeded: received 3000, refunded 2500, net 500 date_approximate", received,
				"3005 re_1:refunded 2000 usd", "4000 ch_1:refunded:2500 500 usd",
			},
		},
		{
			// A refund two seconds before the first total does not count as made before the
			// capture. As the PaymentIntent needs no capture, the total is assumed to be the void.
			// (In truth it is the refund, and 500 are missing.) But so long after the capture the
			// refund cannot belong to the void, so it counts as an object, on its day.
			"a refund of the same amount long after the capture, two seconds before its total, with a greater total later",
			[]*ledger.Event{
				authorized, paid, refundAt("evt_3", 3004, ledger.Refund{Amount: 2000}),
				partialCapture("evt_4", "charge.refunded", older, 3006, 2000), more(2500),
			},
			[]string{"pi_1 succeeded: received 3000, refunded 2000, net 1000 date_approximate", received,
				"3004 re_1:refunded 2000 usd"},
		},
		{
			"another amount than that of the void, with a greater total later",
			append(late(6, ledger.Refund{Amount: 2500}, 2500), more(3000)),
			[]string{
				"pi_1 succeeded: received 3000, refunded 3000, net 0 date_approximate", received,
				"6 re_1:refunded 2500 usd", "4000 ch_1:refunded:3000 500 usd",
			},
		},
		{
			"a reason that a void never has, with a greater total later",
			append(late(6, ledger.Refund{Reason: "duplicate"}, 2000), more(2500)),
			[]string{
				"pi_1 succeeded: received 3000, refunded 2500, net 500 date_approximate", received,
				"6 re_1:refunded 2000 usd", "4000 ch_1:refunded:2500 500 usd",
			},
		},
		{
			// The refund failed after the first total and remains in the totals.
			"a failed refund does not belong to a void, with a greater total later",
			[]*ledger.Event{
				authorized, paid, refundAt("evt_3", 50,
					ledger.Refund{Amount: 2000, Status: "failed", Created: midnight + 6}),
				partialCapture("evt_4", "charge.refunded", older, 35, 2000), more(2500),
			},
			[]string{
				"pi_1 succeeded: received 3000, refunded 500, net 2500 date_approximate", received,
				"6 re_1:refunded 2000 usd", "50 re_1:returned 2000 usd", "4000 ch_1:refunded:2500 500 usd",
			},
		},
		{
			// A charge that has not succeeded has no capture, so no refund can belong to its void.
			"the capture of the PaymentIntent does not date that of a pending charge",
			[]*ledger.Event{
				paid, refundAt("evt_3", 6, ledger.Refund{Amount: 2000}),
				chargeAt("evt_4", "charge.refunded", 35,
					ledger.Charge{Status: "pending", AmountCaptured: 3000, AmountRefunded: 2000}),
			},
			[]string{"pi_1 succeeded: received 3000, refunded 2000, net 1000", "5 pi_1:received 3000 usd",
				"6 re_1:refunded 2000 usd"},
		},
		{
			"without charge.captured the last of several captures decides",
			[]*ledger.Event{
				authorized, capturedTo("evt_2", "charge.updated", older, 2, 1000, 0),
				intentAt("evt_3", 20, ledger.Intent{Status: "succeeded", AmountReceived: 3000}),
				refundAt("evt_4", 21, ledger.Refund{Amount: 2000}),
				partialCapture("evt_5", "charge.refunded", older, 50, 2000),
			},
			[]string{
				"pi_1 succeeded: received 3000, net 3000 date_approximate",
				"2 ch_1:received:1000 1000 usd", "20 ch_1:received:3000 2000 usd",
			},
		},
		{
			// The last charge.captured dates the last capture, although in truth the refund is one
			// of the earlier capture.
			"a refund with the amount of the void, within a second of an earlier charge.captured",
			[]*ledger.Event{
				capturedOf100("evt_1", "charge.captured", 1, 3000, 0),
				refundAt("evt_2", 2, ledger.Refund{Amount: 3000}),
				capturedOf100("evt_3", "charge.updated", 20, 7000, 3000),
			},
			[]string{
				"pi_1 -: received 7000, net 7000 date_approximate",
				"1 ch_1:received:3000 3000 usd", "20 ch_1:received:7000 4000 usd",
			},
		},
		{
			"a refund with the amount of the void, a day after an earlier charge.captured",
			between,
			[]string{
				"pi_1 -: received 7000, refunded 3500, net 3500 date_approximate",
				"1 ch_1:received:3000 3000 usd", "86400 re_1:refunded 3000 usd", "86420 ch_1:received:7000 4000 usd",
				"87300 ch_1:refunded:3500 500 usd",
			},
		},
	})
	if got := model(between)["pi_1"].Unexplained; !slices.Equal(got, []string{"ch_1"}) {
		t.Errorf("the model has unexplained refunds of %q, want those of ch_1", got)
	}
	checkAgainstModel(t, ledgertest.Open(t, false), rand.New(rand.NewPCG(1, 2)), between)
}
