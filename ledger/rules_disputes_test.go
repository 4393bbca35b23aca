package ledger_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

func txn(id string, amount int64, currency string, at int64) ledger.Transaction {
	return ledger.Transaction{ID: id, Amount: amount, Currency: currency, Created: midnight + at}
}

func txns(all ...ledger.Transaction) []ledger.Transaction { return all }

// The money that disputes withdraw and reinstate.
func TestRulesOfDisputes(t *testing.T) {
	charge := chargeAt("evt_1", "charge.captured", 1, ledger.Charge{AmountCaptured: 5000})
	received := "1 ch_1:received:5000 5000 usd"
	tryRules(t, []ruleCase{
		{
			"transactions in the payment's currency count by their amount",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5, ledger.Dispute{Transactions: txns(txn("txn_1", -5000, "usd", 4))}),
				disputeAt("evt_3", 9, ledger.Dispute{Status: "won",
					Transactions: txns(txn("txn_1", -5000, "usd", 4), txn("txn_2", 50, "usd", 8))}),
			},
			[]string{"pi_1 -: received 5000, withdrawn 5000, reinstated 50, net 50", received, "4 txn_1 5000 usd",
				"8 txn_2 50 usd"},
		},
		{
			"a settlement currency counts in proportion to the first withdrawal",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5, ledger.Dispute{
					Amount: 6500,
					Transactions: txns(txn("txn_9", -5100, "gbp", 4), txn("txn_1", -102, "gbp", 5),
						txn("txn_3", 39, "gbp", 8)),
				}),
			},
			[]string{
				"pi_1 -: received 5000, withdrawn 6630, reinstated 50, net -1580 dispute_approximate",
				received, "4 txn_9 6500 usd", "5 txn_1 130 usd", "8 txn_3 50 usd",
			},
		},
		{
			"half is rounded to even, and an amount that rounds to zero has no entry",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5, ledger.Dispute{
					Amount: 1000, Transactions: txns(txn("txn_1", -2000, "gbp", 4), txn("txn_2", 1, "gbp", 5),
						txn("txn_3", 3, "gbp", 6), txn("txn_4", 5, "gbp", 7)),
				}),
			},
			[]string{
				"pi_1 -: received 5000, withdrawn 1000, reinstated 4, net 4004 dispute_approximate",
				received, "4 txn_1 1000 usd", "6 txn_3 2 usd", "7 txn_4 2 usd",
			},
		},
		{
			"the proportion is exact for the greatest amounts",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5, ledger.Dispute{
					Amount:       math.MaxInt64 - 5000,
					Transactions: txns(txn("txn_1", math.MinInt64, "gbp", 4), txn("txn_2", math.MaxInt64, "gbp", 5)),
				}),
			},
			[]string{
				"pi_1 -: received 5000, withdrawn 9223372036854770807, reinstated 9223372036854770806, net 4999 dispute_approximate",
				received, "4 txn_1 9223372036854770807 usd", "5 txn_2 9223372036854770806 usd",
			},
		},
		{
			"each settlement currency has its own first withdrawal",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5, ledger.Dispute{
					Transactions: txns(txn("txn_1", -4600, "gbp", 4), txn("txn_2", -8000, "eur", 5),
						txn("txn_3", 4000, "eur", 6), txn("txn_4", 9, "chf", 7)),
				}),
			},
			[]string{
				"pi_1 -: received 5000, withdrawn 10000, reinstated 2500, net -2500 currency dispute_approximate",
				received, "4 txn_1 5000 usd", "5 txn_2 5000 usd", "6 txn_3 2500 usd",
			},
		},
		{
			"a dispute in another currency than the payment does not count",
			[]*ledger.Event{charge, disputeAt("evt_2", 5,
				ledger.Dispute{Currency: "eur", Transactions: txns(txn("txn_1", -4600, "eur", 4))})},
			[]string{"pi_1 -: received 5000, net 5000 currency", received},
		},
		{
			"a dispute of an unknown amount cannot be converted",
			[]*ledger.Event{charge, disputeAt("evt_2", 5,
				ledger.Dispute{Amount: -1, Transactions: txns(txn("txn_1", -4600, "eur", 4),
					txn("txn_2", 7, "usd", 4))})},
			[]string{"pi_1 -: received 5000, reinstated 7, net 5007 amount currency", received, "4 txn_2 7 usd"},
		},
		{
			"without a charge the payment has the currency of the dispute",
			[]*ledger.Event{disputeAt("evt_2", 5, ledger.Dispute{Transactions: txns(txn("txn_1", -5000, "usd", 4))})},
			[]string{"pi_1 -: received null, withdrawn 5000, net null", "4 txn_1 5000 usd"},
		},
		{
			"a transaction of two disputes counts once",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5,
					ledger.Dispute{ID: "dp_2", Transactions: txns(txn("txn_1", -5000, "usd", 4))}),
				disputeAt("evt_3", 5, ledger.Dispute{Transactions: txns(txn("txn_1", -5000, "usd", 4))}),
			},
			[]string{"pi_1 -: received 5000, withdrawn 5000, net 0", received, "4 txn_1 5000 usd"},
		},
		{
			"of two versions of a transaction the greater one counts",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5, ledger.Dispute{Transactions: txns(txn("txn_1", -5000, "usd", 9))}),
				disputeAt("evt_3", 4, ledger.Dispute{Transactions: txns(txn("txn_1", -4900, "usd", 4))}),
			},
			[]string{"pi_1 -: received 5000, withdrawn 4900, net 100", received, "4 txn_1 4900 usd"},
		},
		{
			"a dispute without an id is merged with the one of the same charge",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5,
					ledger.Dispute{ID: "dispute_of_ch_1", Status: "won",
						Transactions: txns(txn("txn_1", -4600, "gbp", 4))}),
				disputeAt("evt_3", 6, ledger.Dispute{Transactions: txns(txn("txn_2", 2300, "gbp", 7))}),
			},
			[]string{
				"pi_1 -: received 5000, withdrawn 5000, reinstated 2500, net 2500 dispute_approximate",
				received, "4 txn_1 5000 usd", "7 txn_2 2500 usd",
			},
		},
		{
			"a dispute without an id is not merged with the one of another charge",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5,
					ledger.Dispute{ID: "dispute_of_ch_1", Transactions: txns(txn("txn_1", -4600, "gbp", 4))}),
				disputeAt("evt_3", 6, ledger.Dispute{Charge: "ch_2", Transactions: txns(txn("txn_2", 2300, "gbp", 7))}),
			},
			[]string{
				"pi_1 -: received 5000, withdrawn 5000, net 0 currency dispute_approximate",
				received, "4 txn_1 5000 usd",
			},
		},
		{
			"a dispute past inquiry without transactions is flagged",
			[]*ledger.Event{charge, disputeAt("evt_2", 5, ledger.Dispute{Status: "needs_response"})},
			[]string{"pi_1 -: received 5000, net 5000 dispute_unfunded", received},
		},
		{
			"an inquiry without transactions is not flagged",
			[]*ledger.Event{
				charge, disputeAt("evt_2", 5, ledger.Dispute{Status: "warning_closed"}),
				disputeAt("evt_3", 5, ledger.Dispute{ID: "dp_2", Status: "prevented"}),
			},
			[]string{"pi_1 -: received 5000, net 5000", received},
		},
		{
			"a failed refund and a lost dispute",
			[]*ledger.Event{
				charge, refundAt("evt_2", 3, ledger.Refund{Amount: 5000}),
				refundAt("evt_3", 6, ledger.Refund{Amount: 5000, Status: "failed", Created: midnight + 3}),
				disputeAt("evt_4", 6, ledger.Dispute{Transactions: txns(txn("txn_1", -5000, "usd", 4))}),
			},
			[]string{
				"pi_1 -: received 5000, withdrawn 5000, net 0",
				received, "3 re_1:refunded 5000 usd", "4 txn_1 5000 usd", "6 re_1:returned 5000 usd",
			},
		},
	})
}

// Totals by day: a return counts on its own day, and sums can need more than 64 bits.
func TestRulesOfTotals(t *testing.T) {
	l := ledgertest.Open(t, false)
	rng := rand.New(rand.NewPCG(5, 7))
	failed := []*ledger.Event{
		chargeAt("evt_1", "charge.captured", -5, ledger.Charge{AmountCaptured: 5000}),
		refundAt("evt_2", -3, ledger.Refund{Amount: 2000}),
		refundAt("evt_3", 9, ledger.Refund{Amount: 2000, Status: "failed", Created: midnight - 3}),
	}
	var large []*ledger.Event
	for i := range 3 {
		e := intentAt(fmt.Sprintf("evt_%d", i), 4,
			ledger.Intent{ID: fmt.Sprintf("pi_%d", i), Status: "succeeded", AmountReceived: math.MaxInt64})
		e.Account = "acct_1"
		large = append(large, e)
	}
	for _, c := range []struct {
		name   string
		events []*ledger.Event
		want   string
	}{
		{
			"a return on another day", failed,
			`[{"day":"2025-10-09","currency":"usd","account":null,"received":5000,"refunded":2000,"withdrawn":0,"reinstated":0,"net":3000},` +
				`{"day":"2025-10-10","currency":"usd","account":null,"received":0,"refunded":-2000,"withdrawn":0,"reinstated":0,"net":2000}]`,
		},
		{
			"more than 64 bits", large,
			`[{"day":"2025-10-10","currency":"usd","account":"acct_1","received":27670116110564327421,"refunded":0,"withdrawn":0,"reinstated":0,"net":27670116110564327421}]`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := asText(modelTotals(c.events)); got != c.want {
				t.Errorf("the model has\n%s\nwant\n%s", got, c.want)
			}
			checkAgainstModel(t, l, rng, c.events)
		})
	}
}
