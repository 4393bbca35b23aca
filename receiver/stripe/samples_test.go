package stripe_test

import (
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// Every field of every sample that is not a PaymentIntent.
func TestFactsOfEverySample(t *testing.T) {
	want := map[string]ledger.Facts{}
	for _, samples := range []map[string]ledger.Facts{chargeSamples, refundSamples, disputeSamples, sessionSamples} {
		maps.Copy(want, samples)
	}
	files, err := filepath.Glob(dir + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if strings.HasPrefix(name, "payment_intent.") {
			continue
		}
		for what, body := range map[string][]byte{"": sample(t, name), " without space": compact(t, sample(t, name))} {
			if got := stripe.Decode(body, false).Facts; !reflect.DeepEqual(got, want[name]) {
				t.Errorf("%s%s:\ngot  %+v\nwant %+v", name, what, got, want[name])
			}
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("there is no sample %s", name)
	}
}

var chargeSamples = map[string]ledger.Facts{
	"charge.captured": {
		PaymentIntent: "pi_3wMNmfKvHadernBlS8ylJXWC", Charge: "ch_3wMNmfKvHadernBlOnDVvKyK",
		Charges: []ledger.Charge{{
			ID: "ch_3wMNmfKvHadernBlOnDVvKyK", Status: "succeeded", Currency: "eur",
			Amount: 21400, AmountCaptured: 21400, Captured: true, Customer: "cus_UhPapierFYLZoQ",
			Description: "Order 2461: guest book, leather, gold embossing", Created: 1778495031,
			Metadata: map[string]string{"order_id": "2461", "channel": "shop"},
		}},
	},
	"charge.expired": {
		PaymentIntent: "pi_3wN8GAKvHadernBlBJx02osq", Charge: "ch_3wN8GAKvHadernBlSpxZLb6V",
		Charges: []ledger.Charge{{
			ID: "ch_3wN8GAKvHadernBlSpxZLb6V", Status: "succeeded", Currency: "eur",
			Amount: 16300, AmountRefunded: 16300, Customer: "cus_UhPapier73xfzR",
			Description: "Order 2463: letterpress cards, 100 pieces", Created: 1778673645,
			Metadata: map[string]string{"order_id": "2463", "channel": "shop"},
		}},
	},
	"charge.failed": {
		PaymentIntent: "pi_3wLQVSKvHadernBlEuKpGhcc", Charge: "ch_3wLQVSKvHadernBlZSTPjb2o",
		Charges: []ledger.Charge{{
			ID: "ch_3wLQVSKvHadernBlZSTPjb2o", Status: "failed", Currency: "eur",
			Amount: 2750, Customer: "cus_UhPapiertzg3Vd",
			Description: "Order 2458: brass pencil sharpener", FailureCode: "expired_card", Created: 1778267133,
			Metadata: map[string]string{"order_id": "2458", "channel": "shop"},
		}},
	},
	"charge.pending": {
		PaymentIntent: "pi_3wKgEZKvHadernBlnFtr3lX4", Charge: "py_3wKgEZKvHadernBlhXsjM30z",
		Charges: []ledger.Charge{{
			ID: "py_3wKgEZKvHadernBlhXsjM30z", Status: "pending", Currency: "eur",
			Amount: 11800, Captured: true, Customer: "cus_UhPapiertnzLnt",
			Description: "Order 2455: 2 fountain pens", Created: 1778089279,
			Metadata: map[string]string{"order_id": "2455", "channel": "shop"},
		}},
	},
	"charge.refunded": {
		PaymentIntent: "pi_3wJoPRKvHadernBlFHQjLQIj", Charge: "ch_3wJoPRKvHadernBldSk9KNa9",
		Charges: []ledger.Charge{{
			ID: "ch_3wJoPRKvHadernBldSk9KNa9", Status: "succeeded", Currency: "eur",
			Amount: 8640, AmountCaptured: 8640, AmountRefunded: 2160, Captured: true, Customer: "cus_UhPapier7E4vcC",
			Description: "Order 2451: handmade paper, 50 sheets", Created: 1777882381,
			Metadata: map[string]string{"order_id": "2451", "channel": "shop"},
		}},
	},
	"charge.refunded@2026-08-26.dahlia": {
		PaymentIntent: "pi_3x1kzZKvHadernBlQYzAqwdO", Charge: "ch_3x1kzZKvHadernBlpfXzPq5I",
		Charges: []ledger.Charge{{
			ID: "ch_3x1kzZKvHadernBlpfXzPq5I", Status: "succeeded", Currency: "jpy",
			Amount: 14800, AmountCaptured: 14800, AmountRefunded: 7400, Captured: true, Customer: "cus_UhPapierG161QY",
			Description: "Order 2991: brush calligraphy course, 2 seats", Created: 1788355646,
			Metadata: map[string]string{"order_id": "2991", "channel": "fair"},
		}},
	},
	"charge.succeeded": {
		PaymentIntent: "pi_3wJoPRKvHadernBlFHQjLQIj", Charge: "ch_3wJoPRKvHadernBldSk9KNa9",
		Charges: []ledger.Charge{{
			ID: "ch_3wJoPRKvHadernBldSk9KNa9", Status: "succeeded", Currency: "eur",
			Amount: 8640, AmountCaptured: 8640, Captured: true, Customer: "cus_UhPapier7E4vcC",
			Description: "Order 2451: handmade paper, 50 sheets", Created: 1777882381,
			Metadata: map[string]string{"order_id": "2451", "channel": "shop"},
		}},
	},
	"charge.updated": {
		PaymentIntent: "pi_3wJoPRKvHadernBlFHQjLQIj", Charge: "ch_3wJoPRKvHadernBldSk9KNa9",
		Charges: []ledger.Charge{{
			ID: "ch_3wJoPRKvHadernBldSk9KNa9", Status: "succeeded", Currency: "eur",
			Amount: 8640, AmountCaptured: 8640, Captured: true, Customer: "cus_UhPapier7E4vcC",
			Description: "Order 2451: handmade paper, 50 sheets", Created: 1777882381,
			Metadata: map[string]string{"order_id": "2451", "channel": "shop"},
		}},
	},
}

var refundSamples = map[string]ledger.Facts{
	"charge.refund.updated": {
		PaymentIntent: "pi_3wJoPRKvHadernBlFHQjLQIj", Charge: "ch_3wJoPRKvHadernBldSk9KNa9",
		Refunds: []ledger.Refund{{
			ID: "re_3wJoPRKvHadernBlpcgM6Q6a", Charge: "ch_3wJoPRKvHadernBldSk9KNa9", Status: "succeeded",
			Currency: "eur", Amount: 2160, Reason: "requested_by_customer", Created: 1778664692,
		}},
	},
	"refund.created": {
		PaymentIntent: "pi_3wJoPRKvHadernBlFHQjLQIj", Charge: "ch_3wJoPRKvHadernBldSk9KNa9",
		Refunds: []ledger.Refund{{
			ID: "re_3wJoPRKvHadernBlpcgM6Q6a", Charge: "ch_3wJoPRKvHadernBldSk9KNa9", Status: "succeeded",
			Currency: "eur", Amount: 2160, Reason: "requested_by_customer", Created: 1778664692,
		}},
	},
	"refund.failed": {
		PaymentIntent: "pi_3wNuXuKvHadernBlHSg87N82", Charge: "ch_3wNuXuKvHadernBlckE9z06A",
		Refunds: []ledger.Refund{{
			ID: "re_3wNuXuKvHadernBlo7v8Dybj", Charge: "ch_3wNuXuKvHadernBlckE9z06A", Status: "failed",
			Currency: "eur", Amount: 3290, Reason: "requested_by_customer", Created: 1779377670,
		}},
	},
	"refund.failed@2026-08-26.dahlia": {
		PaymentIntent: "pi_3x2WNWKvHadernBl9gKqJliz", Charge: "ch_3x2WNWKvHadernBlOC29G8wK",
		Refunds: []ledger.Refund{{
			ID: "re_3x2WNWKvHadernBlbnppqhVx", Charge: "ch_3x2WNWKvHadernBlOC29G8wK", Status: "failed",
			Currency: "eur", Amount: 4950, Reason: "requested_by_customer", Created: 1788797011,
		}},
	},
	"refund.updated": {
		PaymentIntent: "pi_3wJoPRKvHadernBlFHQjLQIj", Charge: "ch_3wJoPRKvHadernBldSk9KNa9",
		Refunds: []ledger.Refund{{
			ID: "re_3wJoPRKvHadernBlpcgM6Q6a", Charge: "ch_3wJoPRKvHadernBldSk9KNa9", Status: "succeeded",
			Currency: "eur", Amount: 2160, Reason: "requested_by_customer", Created: 1778664692,
		}},
	},
}

var disputeSamples = map[string]ledger.Facts{
	"charge.dispute.closed": {
		PaymentIntent: "pi_3wPQpLKvHadernBlvHKclGF5", Charge: "ch_3wPQpLKvHadernBlo95OxIy7",
		Disputes: []ledger.Dispute{{
			ID: "du_1wY8HDKvHadernBllCd6V3dd", Charge: "ch_3wPQpLKvHadernBlo95OxIy7", Status: "lost",
			Currency: "eur", Amount: 5900, Reason: "fraudulent", Created: 1781295291,
			Transactions: []ledger.Transaction{
				{ID: "txn_1wY8HFKvHadernBlZCYshTmF", Amount: -5900, Currency: "eur", Created: 1781295293},
			},
		}},
	},
	"charge.dispute.created": {
		PaymentIntent: "pi_3wPQpLKvHadernBlvHKclGF5", Charge: "ch_3wPQpLKvHadernBlo95OxIy7",
		Disputes: []ledger.Dispute{{
			ID: "du_1wY8HDKvHadernBllCd6V3dd", Charge: "ch_3wPQpLKvHadernBlo95OxIy7", Status: "needs_response",
			Currency: "eur", Amount: 5900, Reason: "fraudulent", Created: 1781295291,
		}},
	},
	"charge.dispute.funds_reinstated": {
		PaymentIntent: "pi_3wQMUUKvHadernBlErN8zhjo", Charge: "ch_3wQMUUKvHadernBldhXZk2E5",
		Disputes: []ledger.Dispute{{
			ID: "dp_1wULk9KvHadernBluAUNduXj", Charge: "ch_3wQMUUKvHadernBldhXZk2E5", Status: "won",
			Currency: "eur", Amount: 7470, Reason: "product_not_received", Created: 1780393745,
			Transactions: []ledger.Transaction{
				{ID: "txn_1wULkBKvHadernBlxXALD6HR", Amount: -7470, Currency: "eur", Created: 1780393747},
				{ID: "txn_1wpNNxKvHadernBlSWhS1gNJ", Amount: 7470, Currency: "eur", Created: 1785404945},
			},
		}},
	},
	"charge.dispute.funds_withdrawn": {
		PaymentIntent: "pi_3wPQpLKvHadernBlvHKclGF5", Charge: "ch_3wPQpLKvHadernBlo95OxIy7",
		Disputes: []ledger.Dispute{{
			ID: "du_1wY8HDKvHadernBllCd6V3dd", Charge: "ch_3wPQpLKvHadernBlo95OxIy7", Status: "needs_response",
			Currency: "eur", Amount: 5900, Reason: "fraudulent", Created: 1781295291,
			Transactions: []ledger.Transaction{
				{ID: "txn_1wY8HFKvHadernBlZCYshTmF", Amount: -5900, Currency: "eur", Created: 1781295293},
			},
		}},
	},
	"charge.dispute.updated": {
		PaymentIntent: "pi_3wPQpLKvHadernBlvHKclGF5", Charge: "ch_3wPQpLKvHadernBlo95OxIy7",
		Disputes: []ledger.Dispute{{
			ID: "du_1wY8HDKvHadernBllCd6V3dd", Charge: "ch_3wPQpLKvHadernBlo95OxIy7", Status: "under_review",
			Currency: "eur", Amount: 5900, Reason: "fraudulent", Created: 1781295291,
			Transactions: []ledger.Transaction{
				{ID: "txn_1wY8HFKvHadernBlZCYshTmF", Amount: -5900, Currency: "eur", Created: 1781295293},
			},
		}},
	},
}

var sessionSamples = map[string]ledger.Facts{
	"checkout.session.async_payment_failed": {
		PaymentIntent: "pi_3wSCPpKvHadernBlNpFDtraj",
		Sessions:      []ledger.Session{{ID: "cs_test_a15nxdMpxaVHfzrNwqhPKM5NDZHK6O7NVnWNONPndo6qwgHNZSlD8B0FFr", PaymentStatus: "unpaid"}},
	},
	"checkout.session.async_payment_succeeded": {
		PaymentIntent: "pi_3wRpvJKvHadernBlHvdgGhDp",
		Sessions:      []ledger.Session{{ID: "cs_test_a1IorIws8Af9BKBbNtWJ94tStUulmULHKALFNPgFJgF3qfhMddOEDLrfhd", PaymentStatus: "paid"}},
	},
	"checkout.session.completed": {
		PaymentIntent: "pi_3wRTQnKvHadernBlBLu2qWpx",
		Sessions:      []ledger.Session{{ID: "cs_test_a1oglupMyMpazmfN3oR1rK3bYuc8Mx7dpQXRBDuRs0h6s8geAtH84mS9GH", PaymentStatus: "paid"}},
	},
	"checkout.session.expired": {
		Sessions: []ledger.Session{{ID: "cs_test_a1EFYgxiYTdgY50iVQwBIKuQZbWN13UswzQEGsWrvIpsjpbsv9vFBg5Qyk", PaymentStatus: "unpaid"}},
	},
}
