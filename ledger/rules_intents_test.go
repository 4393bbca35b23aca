package ledger_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// Which PaymentIntent snapshot describes the payment, if some were fetched from the API.
func TestRulesOfFetchedIntents(t *testing.T) {
	tryRules(t, []ruleCase{
		{
			"a fetched snapshot overrides the events up to its second",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "processing"}),
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "requires_action"})),
			},
			[]string{"pi_1 requires_action: received 0, net 0"},
		},
		{
			"a fetched snapshot overrides older fetched ones",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "canceled"})),
				fetched(intentAt("fetch_2", 4, ledger.Intent{Status: "succeeded", AmountReceived: 5000})),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 date_approximate", "-20 pi_1:received 5000 usd"},
		},
		{
			"a fetched snapshot overrides no later event",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "requires_capture"})),
				intentAt("evt_1", 4, ledger.Intent{Status: "requires_action"}),
			},
			[]string{"pi_1 requires_action: received 0, net 0"},
		},
		{
			"a fetched snapshot without a terminal status is stale after an event with one",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "canceled"}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "requires_action"})),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"a fetched snapshot without a terminal status is stale after an event of the same second with one",
			[]*ledger.Event{
				intentAt("evt_1", 4, ledger.Intent{Status: "canceled"}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "requires_action"})),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"a fetched snapshot without a terminal status is stale after a fetched one with one",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "succeeded", AmountReceived: 5000})),
				fetched(intentAt("fetch_2", 4, ledger.Intent{Status: "processing", AmountReceived: 5000})),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 date_approximate", "-20 pi_1:received 5000 usd"},
		},
		{
			"a later event does not make a fetched snapshot stale",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "processing"})),
				intentAt("evt_1", 2, ledger.Intent{Status: "requires_payment_method"}),
				intentAt("evt_2", 4, ledger.Intent{Status: "canceled"}),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"a fetched snapshot without latest_charge is stale after an event that has one",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", LatestCharge: "ch_1"}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "processing"})),
			},
			[]string{"pi_1 requires_action: received 0, net 0"},
		},
		{
			"a fetched snapshot with less amount_received is stale",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", AmountReceived: 700}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "processing", AmountReceived: 600})),
			},
			[]string{"pi_1 requires_action: received 700, net 700", "3 pi_1:received 700 usd"},
		},
		{
			"a canceled fetched snapshot may have less amount_received",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", AmountReceived: 700}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "canceled"})),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"amounts received in different currencies make no fetched snapshot stale",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", AmountReceived: 700, Currency: "mxn"}),
				fetched(intentAt("fetch_1", 4, ledger.Intent{Status: "processing", AmountReceived: 600})),
			},
			[]string{"pi_1 processing: received 600, net 600 currency_mismatch date_approximate",
				"-20 pi_1:received 600 usd"},
		},
		{
			"a stale fetched snapshot overrides nothing",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "requires_payment_method", LatestCharge: "ch_1"}),
				intentAt("evt_2", 5, ledger.Intent{Status: "requires_action"}),
				fetched(intentAt("fetch_1", 6, ledger.Intent{Status: "processing"})),
			},
			[]string{"pi_1 requires_action: received 0, net 0"},
		},
		{
			"two fetched snapshots of one second that make each other stale are both used",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "canceled"})),
				fetched(intentAt("fetch_2", 3, ledger.Intent{Status: "processing", LatestCharge: "ch_1"})),
			},
			[]string{"pi_1 canceled: received 0, net 0"},
		},
		{
			"succeeded beats canceled",
			[]*ledger.Event{
				intentAt("evt_1", 3, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				intentAt("evt_2", 4, ledger.Intent{Status: "canceled"}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 conflict", "3 pi_1:received 5000 usd"},
		},
		{
			"a fetched terminal status beats the other one",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "canceled"})),
				intentAt("evt_1", 4, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
			},
			[]string{"pi_1 canceled: received 0, net 0 conflict"},
		},
		{
			"two fetched snapshots of one second with different terminal statuses",
			[]*ledger.Event{
				fetched(intentAt("fetch_1", 3, ledger.Intent{Status: "canceled"})),
				fetched(intentAt("fetch_2", 3, ledger.Intent{Status: "succeeded", AmountReceived: 5000})),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 conflict date_approximate", "-20 pi_1:received 5000 usd"},
		},
	})
}

// Amounts and currencies that are missing, negative, too large or different.
func TestRulesOfOddAmounts(t *testing.T) {
	tryRules(t, []ruleCase{
		{
			"a PaymentIntent without a currency has the currency of its charge",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", Currency: "none", AmountReceived: 4000}),
				chargeAt("evt_2", "charge.pending", 3, ledger.Charge{Status: "pending", Currency: "jpy"}),
			},
			[]string{"pi_1 succeeded: received 4000, net 4000", "5 pi_1:received 4000 jpy"},
		},
		{
			"a later PaymentIntent without currency and amount does not replace those of an earlier one",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				intentAt("evt_2", 7, ledger.Intent{Status: "succeeded", Currency: "none", AmountReceived: 5000}),
				chargeAt("evt_3", "charge.succeeded", 4, ledger.Charge{Currency: "mxn", AmountCaptured: 100000}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 currency_mismatch", "5 pi_1:received 5000 usd"},
		},
		{
			"a charge in another currency than its PaymentIntent does not count",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000, LatestCharge: "ch_1"}),
				chargeAt("evt_2", "charge.succeeded", 3,
					ledger.Charge{Currency: "mxn", Amount: 100000, AmountCaptured: 100000, AmountRefunded: 500}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 currency_mismatch", "5 pi_1:received 5000 usd"},
		},
		{
			"a refund of a charge in another currency counts by its own currency",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000, LatestCharge: "ch_1"}),
				chargeAt("evt_2", "charge.succeeded", 3,
					ledger.Charge{Currency: "mxn", AmountCaptured: 100000, AmountRefunded: 500}),
				refundAt("evt_3", 6, ledger.Refund{Amount: 300}),
				refundAt("evt_4", 6, ledger.Refund{ID: "re_2", Amount: 500, Currency: "mxn"}),
			},
			[]string{"pi_1 succeeded: received 5000, refunded 300, net 4700 currency_mismatch",
				"5 pi_1:received 5000 usd", "6 re_1:refunded 300 usd"},
		},
		{
			"a refund in another currency does not count",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				refundAt("evt_2", 6, ledger.Refund{Currency: "mxn", Amount: 300}),
			},
			[]string{"pi_1 succeeded: received 5000, net 5000 currency_mismatch", "5 pi_1:received 5000 usd"},
		},
		{
			"neither a charge nor a PaymentIntent",
			[]*ledger.Event{
				refundAt("evt_1", 6, ledger.Refund{Currency: "mxn", Amount: 300}),
				refundAt("evt_2", 6, ledger.Refund{ID: "re_2", Currency: "usd", Amount: 400}),
			},
			[]string{"pi_1 -: received null, refunded 300, net null currency_mismatch", "6 re_1:refunded 300 mxn"},
		},
		{
			"only a Checkout Session",
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
			[]string{"pi_1 succeeded: received 4000, refunded null, net null amount", "3 ch_1:received:4000 4000 usd"},
		},
		{
			"no amounts if one does not fit in an int64",
			[]*ledger.Event{
				intentAt("evt_1", 5, ledger.Intent{Status: "succeeded", AmountReceived: 5000}),
				chargeAt("evt_2", "charge.captured", 3, ledger.Charge{AmountCaptured: math.MaxInt64}),
				chargeAt("evt_3", "charge.captured", 3, ledger.Charge{ID: "ch_2", AmountCaptured: 1}),
			},
			[]string{"pi_1 succeeded: received null, refunded null, withdrawn null, reinstated null, net null overflow"},
		},
		{
			"no amounts if the net does not fit in an int64",
			[]*ledger.Event{
				refundAt("evt_1", 6, ledger.Refund{Amount: math.MaxInt64}),
				disputeAt("evt_2", 6, ledger.Dispute{Transactions: []ledger.Transaction{{ID: "txn_1", Amount: -2,
					Currency: "usd"}}}),
			},
			[]string{"pi_1 -: received null, refunded null, withdrawn null, reinstated null, net null overflow"},
		},
		{
			"a received amount that just fits in an int64",
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

// The currency and the amount of a payment come from the best PaymentIntent that has them, else
// from the charge.
func TestRulesOfAmounts(t *testing.T) {
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
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "usd", 5000), intent("evt_2", 4, "succeeded", "", 0),
				charge}, "5000 usd"},
		{"a later PaymentIntent has only a currency",
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "usd", 5000), intent("evt_2", 4, "succeeded", "usd", 0),
				charge}, "5000 usd"},
		{"a later PaymentIntent has only an amount",
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "usd", 5000), intent("evt_2", 4, "succeeded", "", 4000),
				charge}, "4000 usd"},
		{"the currency of the later PaymentIntent",
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "jpy", 5000), intent("evt_2", 4, "succeeded", "usd", 4000)},
			"4000 usd"},
		{"a terminal status beats a later event",
			[]*ledger.Event{intent("evt_1", 3, "succeeded", "usd", 5000),
				intent("evt_2", 4, "processing", "jpy", 4000)}, "5000 usd"},
		{"the best snapshot after the one that describes the payment",
			[]*ledger.Event{
				intent("evt_1", 1, "processing", "usd", 3000), intent("evt_2", 2, "processing", "usd", 4000),
				intent("evt_3", 1, "succeeded", "", 0),
			}, "4000 usd"},
		{"the amount of the charge replaces one in another currency than that of the payment",
			[]*ledger.Event{intent("evt_1", 3, "processing", "jpy", 5000), intent("evt_2", 4, "processing", "usd", 0),
				charge}, "700 usd"},
		{"an amount in another currency, and no charge",
			[]*ledger.Event{intent("evt_1", 3, "processing", "jpy", 5000), intent("evt_2", 4, "processing", "usd", 0)},
			"null usd"},
		{"an amount in another currency hides earlier amounts",
			[]*ledger.Event{
				intent("evt_1", 2, "processing", "usd", 6000), intent("evt_2", 3, "processing", "jpy", 5000),
				intent("evt_3", 4, "processing", "usd", 0),
			}, "null usd"},
		{"a negative amount does not count",
			[]*ledger.Event{intent("evt_1", 3, "processing", "usd", 5000), intent("evt_2", 4, "processing", "usd", -1),
				charge}, "5000 usd"},
		{"an overridden event does not count",
			[]*ledger.Event{intent("evt_1", 3, "processing", "jpy", 5000),
				fetched(intent("fetch_1", 4, "processing", "", 0)), charge}, "700 usd"},
		{"no PaymentIntent has an amount or a currency",
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

// The other fields, each from the snapshot that decides it.
func TestRulesOfFields(t *testing.T) {
	e := intentAt("evt_1", 3, ledger.Intent{Status: "requires_action", LatestCharge: "ch_1", Customer: "cus_1"})
	e.Account, e.Context = "acct_2", "org_1/acct_2"
	later := intentAt("evt_2", 4, ledger.Intent{Status: "requires_payment_method", Currency: "none",
		AmountCapturable: -3})
	later.Account, later.Context = "acct_1", "org_2/acct_1"
	best := chargeAt("evt_3", "charge.failed", 5, ledger.Charge{Status: "failed", Amount: 700})
	events := []*ledger.Event{e, later, best,
		chargeAt("evt_4", "charge.pending", 6, ledger.Charge{Status: "pending", Amount: 900})}
	checkAgainstModel(t, ledgertest.Open(t, false), rand.New(rand.NewPCG(1, 2)), events)
	p := model(events)["pi_1"].Payment
	if p.Account != "acct_1" || p.Context != "org_1/acct_2" {
		t.Errorf("account %s and context %s are not the least ones", p.Account, p.Context)
	}
	if p.LatestCharge != "ch_1" || p.Customer != "" || p.Status != "requires_payment_method" {
		t.Errorf("latest_charge %s, customer %q, status %s", p.LatestCharge, p.Customer, p.Status)
	}
	if p.ChargeStatus != "failed" || p.Currency != "usd" || *p.Amount != 5000 || p.AmountCapturable != nil {
		t.Errorf("charge_status %s, %d %s, capturable %s", p.ChargeStatus, *p.Amount, p.Currency, figure(p.AmountCapturable))
	}
	if p.Created != midnight-20 || p.Updated != midnight+6 || p.Events != 4 || p.Captured != 0 {
		t.Errorf("created %d, updated %d, captured %d, %d events", p.Created, p.Updated, p.Captured, p.Events)
	}
}

// Of two charges in an event the first describes the payment, because Stripe listed the newest
// charge first.
func TestRulesOfSeveralChargesInAnEvent(t *testing.T) {
	e := chargeAt("evt_1", "charge.succeeded", 5, ledger.Charge{ID: "ch_2", Amount: 700, AmountCaptured: 700})
	e.Facts.Charges = append(e.Facts.Charges,
		ledger.Charge{ID: "ch_1", Status: "succeeded", Currency: "usd", Amount: 900, Created: midnight})
	if p := model([]*ledger.Event{e})["pi_1"].Payment; p.LatestCharge != "ch_2" || *p.Amount != 700 {
		t.Errorf("the payment has the charge %s and the amount %d", p.LatestCharge, *p.Amount)
	}
	checkAgainstModel(t, ledgertest.Open(t, false), rand.New(rand.NewPCG(1, 2)), []*ledger.Event{e})
}
