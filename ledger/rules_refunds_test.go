package ledger_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// Refunds as objects, and as the running total amount_refunded of the charge.
func TestRulesOfRefunds(t *testing.T) {
	tryRules(t, []ruleCase{
		{
			"only the total, each rise on its day",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0),
				fullCapture("evt_2", "charge.refunded", 4, 500), fullCapture("evt_3", "charge.refunded", 6, 1700),
			},
			[]string{
				"pi_1 -: received 5000, refunded 1700, net 3300",
				"1 ch_1:received:5000 5000 usd", "4 ch_1:refunded:500 500 usd", "6 ch_1:refunded:1700 1200 usd",
			},
		},
		{
			"a refund object replaces the rise after it",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0),
				fullCapture("evt_2", "charge.refunded", 4, 500), fullCapture("evt_3", "charge.refunded", 6, 1700),
				refundAt("evt_4", 5, ledger.Refund{Amount: 1200, Status: "pending"}),
			},
			[]string{
				"pi_1 -: received 5000, refunded 1700, net 3300",
				"1 ch_1:received:5000 5000 usd", "4 ch_1:refunded:500 500 usd", "5 re_1:refunded 1200 usd",
			},
		},
		{
			"a refund object also reduces earlier rises if the later ones are too small",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0),
				fullCapture("evt_2", "charge.refunded", 4, 500), fullCapture("evt_3", "charge.refunded", 6, 700),
				refundAt("evt_4", 5, ledger.Refund{Amount: 300}),
			},
			[]string{
				"pi_1 -: received 5000, refunded 700, net 4300",
				"1 ch_1:received:5000 5000 usd", "4 ch_1:refunded:500 400 usd", "5 re_1:refunded 300 usd",
			},
		},
		{
			"the balance transaction dates a refund and its return",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0),
				refundAt("evt_2", 5, ledger.Refund{Amount: 300, Booked: midnight + 7}),
				refundAt("evt_3", 20, ledger.Refund{Amount: 300, Status: "failed", Returned: midnight + 9}),
			},
			[]string{
				"pi_1 -: received 5000, net 5000",
				"1 ch_1:received:5000 5000 usd", "7 re_1:refunded 300 usd", "9 re_1:returned 300 usd",
			},
		},
		{
			"a failed refund keeps its day, and returns on the day of the first event or fetch that shows the failure",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0), fullCapture("evt_2", "charge.refunded", 5, 300),
				refundAt("evt_3", 20, ledger.Refund{Amount: 300, Status: "failed", Created: midnight + 5}),
				fetched(refundAt("fetch_4", 12, ledger.Refund{Amount: 300, Status: "canceled", Created: midnight + 5})),
			},
			[]string{
				"pi_1 -: received 5000, net 5000",
				"1 ch_1:received:5000 5000 usd", "5 re_1:refunded 300 usd", "12 re_1:returned 300 usd",
			},
		},
		{
			"a failed refund after which the total falls returns once",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0), fullCapture("evt_2", "charge.refunded", 5, 300),
				refundAt("evt_3", 9, ledger.Refund{Amount: 300, Status: "failed", Created: midnight + 5}),
				fullCapture("evt_4", "charge.updated", 10, 0), fullCapture("evt_5", "charge.refunded", 14, 300),
			},
			[]string{
				"pi_1 -: received 5000, refunded 300, net 4700",
				"1 ch_1:received:5000 5000 usd", "5 re_1:refunded 300 usd", "9 re_1:returned 300 usd",
				"14 ch_1:refunded:600 300 usd",
			},
		},
		{
			"a refund that failed and was made again, shown only by the total",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0), fullCapture("evt_2", "charge.refunded", 5, 5000),
				fullCapture("evt_3", "charge.updated", 9, 0), fullCapture("evt_4", "charge.refunded", 12, 2000),
			},
			[]string{
				"pi_1 -: received 5000, refunded 2000, net 3000",
				"1 ch_1:received:5000 5000 usd", "5 ch_1:refunded:5000 5000 usd", "9 ch_1:returned:5000 5000 usd",
				"12 ch_1:refunded:7000 2000 usd",
			},
		},
		{
			"a failed refund explains the fall after it, and another fall is a return of its own",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.refunded", 4, 500), fullCapture("evt_2", "charge.updated", 6, 300),
				fullCapture("evt_3", "charge.refunded", 10, 600), fullCapture("evt_4", "charge.updated", 12, 300),
				refundAt("evt_5", 11, ledger.Refund{Amount: 300, Status: "failed", Created: midnight + 10}),
			},
			[]string{
				"pi_1 -: received 5000, refunded 300, net 4700", "-10 ch_1:received:5000 5000 usd",
				"4 ch_1:refunded:500 500 usd",
				"6 ch_1:returned:200 200 usd", "10 re_1:refunded 300 usd", "11 re_1:returned 300 usd",
			},
		},
		{
			"a fall without a rise before it is a refund and its return at the same time",
			[]*ledger.Event{
				refundAt("evt_1", 4, ledger.Refund{Amount: 300}),
				fullCapture("evt_2", "charge.updated", 1, 300), fullCapture("evt_3", "charge.updated", 9, 100),
			},
			[]string{
				"pi_1 -: received 5000, refunded 300, net 4700",
				"-10 ch_1:received:5000 5000 usd", "4 re_1:refunded 300 usd", "9 ch_1:refunded:500 200 usd",
				"9 ch_1:returned:200 200 usd",
			},
		},
		{
			"a refund with an unknown status does not count",
			[]*ledger.Event{refundAt("evt_1", 4, ledger.Refund{Amount: 300, Status: "frobnicated"})},
			[]string{"pi_1 -: received null, net null"},
		},
		{
			"the furthest status of a refund decides, then the later event",
			[]*ledger.Event{
				refundAt("evt_9", 4, ledger.Refund{Amount: 300}), refundAt("evt_1", 5, ledger.Refund{Amount: 200}),
				refundAt("evt_3", 6, ledger.Refund{Amount: 100, Status: "pending"}),
			},
			[]string{"pi_1 -: received null, refunded 200, net null", "5 re_1:refunded 200 usd"},
		},
		{
			"a refund without a charge belongs to the only captured charge",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0), fullCapture("evt_2", "charge.refunded", 5, 300),
				chargeAt("evt_3", "charge.succeeded", 1, ledger.Charge{ID: "ch_2"}),
				refundAt("evt_4", 5, ledger.Refund{Amount: 300, Charge: "none"}),
			},
			[]string{"pi_1 -: received 5000, refunded 300, net 4700", "1 ch_1:received:5000 5000 usd",
				"5 re_1:refunded 300 usd"},
		},
		{
			"a refund without a charge belongs to no charge if two were captured",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0), fullCapture("evt_2", "charge.refunded", 5, 300),
				chargeAt("evt_3", "charge.captured", 2, ledger.Charge{ID: "ch_2", AmountCaptured: 700}),
				refundAt("evt_4", 5, ledger.Refund{Amount: 300, Charge: "none"}),
			},
			[]string{
				"pi_1 -: received 5700, refunded 600, net 5100",
				"1 ch_1:received:5000 5000 usd", "2 ch_2:received:700 700 usd", "5 ch_1:refunded:300 300 usd",
				"5 re_1:refunded 300 usd",
			},
		},
		{
			"a refund without a charge belongs to the only charge, a canceled authorization",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.expired", 5, ledger.Charge{}),
				intentAt("evt_2", 5, ledger.Intent{Status: "canceled"}),
				refundAt("evt_3", 5, ledger.Refund{Amount: 5000, Charge: "none"}),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"a refund without a charge belongs to no charge if two were authorized",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.succeeded", 1, ledger.Charge{}),
				chargeAt("evt_2", "charge.succeeded", 2, ledger.Charge{ID: "ch_2"}),
				refundAt("evt_3", 5, ledger.Refund{Amount: 300, Charge: "none"}),
			},
			[]string{"pi_1 -: received 0, refunded 300, net -300", "5 re_1:refunded 300 usd"},
		},
		{
			"a refund of an authorization does not count, nor does the total of the charge",
			[]*ledger.Event{
				chargeAt("evt_1", "charge.refunded", 5, ledger.Charge{AmountRefunded: 5000}),
				refundAt("evt_2", 5, ledger.Refund{Amount: 5000}),
			},
			[]string{"pi_1 -: received 0, net 0"},
		},
	})
}

// Totals of refunds in charges that were fetched from the API.
func TestRulesOfFetchedTotals(t *testing.T) {
	tryRules(t, []ruleCase{
		{
			"a rise that only a fetch shows has an approximate date",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0),
				fetched(fullCapture("fetch_1", "", 7, 300)),
			},
			[]string{
				"pi_1 -: received 5000, refunded 300, net 4700 date_approximate",
				"1 ch_1:received:5000 5000 usd", "7 ch_1:refunded:300 300 usd",
			},
		},
		{
			"a rise that only a fetch shows, and a refund object for it",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0),
				fetched(fullCapture("fetch_1", "", 7, 300)), refundAt("evt_2", 5, ledger.Refund{Amount: 300}),
			},
			[]string{"pi_1 -: received 5000, refunded 300, net 4700", "1 ch_1:received:5000 5000 usd",
				"5 re_1:refunded 300 usd"},
		},
		{
			"a fetched total smaller than that of an earlier event does not count",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.refunded", 3, 300), fetched(fullCapture("fetch_1", "", 7, 200)),
				fullCapture("evt_2", "charge.refunded", 9, 500),
			},
			[]string{
				"pi_1 -: received 5000, refunded 500, net 4500",
				"-10 ch_1:received:5000 5000 usd", "3 ch_1:refunded:300 300 usd", "9 ch_1:refunded:500 200 usd",
			},
		},
		{
			"a fetched charge with a smaller captured amount does not count",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0),
				fetched(chargeAt("fetch_1", "", 7, ledger.Charge{AmountCaptured: 3000, AmountRefunded: 300})),
			},
			[]string{
				"pi_1 -: received 5000, net 5000",
				"1 ch_1:received:3000 3000 usd", "1 ch_1:received:5000 2000 usd",
			},
		},
		{
			"a fetched total is never a fall",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0),
				fetched(fullCapture("fetch_1", "", 5, 300)), fetched(fullCapture("fetch_2", "", 7, 200)),
				fullCapture("evt_2", "charge.refunded", 9, 400),
			},
			[]string{
				"pi_1 -: received 5000, refunded 400, net 4600 date_approximate",
				"1 ch_1:received:5000 5000 usd", "5 ch_1:refunded:300 300 usd", "9 ch_1:refunded:400 100 usd",
			},
		},
		{
			"within a second an event precedes a fetch",
			[]*ledger.Event{
				fullCapture("evt_1", "charge.captured", 1, 0), fullCapture("evt_2", "charge.refunded", 5, 300),
				fetched(fullCapture("a_fetch", "", 5, 300)),
			},
			[]string{"pi_1 -: received 5000, refunded 300, net 4700", "1 ch_1:received:5000 5000 usd",
				"5 ch_1:refunded:300 300 usd"},
		},
	})
}

// If the total did not fall when a refund failed, it can hide a refund that was made after that.
func TestRulesOfHiddenRefunds(t *testing.T) {
	l := ledgertest.Open(t, false)
	first := fullCapture("evt_2", "charge.refunded", 5, 300)
	failed := refundAt("evt_3", 9, ledger.Refund{Amount: 300, Status: "failed", Created: midnight + 5})
	for _, c := range []struct {
		name   string
		events []*ledger.Event
		want   []string
	}{
		{"made again after the failure", []*ledger.Event{first, failed,
			fullCapture("evt_4", "charge.refunded", 14, 300)}, []string{"ch_1"}},
		{"not made again", []*ledger.Event{first, failed}, nil},
		{"another event after the failure", []*ledger.Event{first, failed,
			fullCapture("evt_4", "charge.updated", 14, 300)}, nil},
		{"in the second of the failure", []*ledger.Event{fullCapture("evt_2", "charge.refunded", 9, 300), failed}, nil},
		{"only a fetch shows it", []*ledger.Event{failed, fetched(fullCapture("fetch_4", "charge.refunded", 14, 300))},
			nil},
		{
			"the total fell, and the new refund has an object",
			[]*ledger.Event{
				first, failed, fullCapture("evt_4", "charge.updated", 10, 0),
				refundAt("evt_5", 14, ledger.Refund{ID: "re_2", Amount: 300}),
				fullCapture("evt_6", "charge.refunded", 14, 300),
			}, nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			events := append([]*ledger.Event{fullCapture("evt_1", "charge.captured", 1, 0)}, c.events...)
			if got := model(events)["pi_1"].Unexplained; !slices.Equal(got, c.want) {
				t.Errorf("the model has unexplained refunds of %q, want %q", got, c.want)
			}
			checkAgainstModel(t, l, rand.New(rand.NewPCG(1, 2)), events)
		})
	}
}
