package stripe_test

import (
	"testing"

	"tillhook/receiver/stripe"
	"tillhook/receiver/stripe/stripetest"
)

// A key that cannot expand balance transactions reads everything else. Each account is independent.
func TestBalanceTransactionsNeedAPermission(t *testing.T) {
	a := stripetest.New(t)
	a.Put([]byte(`{"id":"ch_1","object":"charge","status":"succeeded","amount":100,"amount_captured":100,"captured":true,"currency":"eur","balance_transaction":"txn_1","created":1}`), "")
	a.Put([]byte(`{"id":"txn_1","object":"balance_transaction","fee":7,"currency":"eur","created":2}`), "")
	api := client(t, a.URL, a.Key)
	fee := func() *int64 {
		t.Helper()
		e, err := api.Fetch(t.Context(), stripe.Account{}, false, "ch_1")
		if err != nil || len(e.Facts.Charges) != 1 {
			t.Fatal(e, err)
		}
		if b := e.Facts.Charges[0].BalanceTransaction; b != nil {
			return &b.Fee
		}
		return nil
	}
	if n := fee(); n == nil || *n != 7 {
		t.Errorf("the fee is %v, want 7", n)
	}
	a.Deny("expand/balance_transaction", "rak_balance_transaction_read") // removed during the run
	calls := len(a.Calls())
	if n := fee(); n != nil {
		t.Errorf("the fee is %v without the permission", *n)
	}
	if n := fee(); n != nil || len(a.Calls())-calls != 3 {
		t.Errorf("%d calls for two reads without the permission, want 3: the refusal is remembered", len(a.Calls())-calls)
	}
	api.SetKey(a.Key)
	if fee(); len(a.Calls())-calls != 4 {
		t.Errorf("%d calls after the same key was set again, want 4", len(a.Calls())-calls)
	}
	page, err := api.ListObjects(t.Context(), stripe.Account{}, false, "charge", 0, "")
	if err != nil || len(page.Events) != 1 {
		t.Errorf("the list has %d charges, %v", len(page.Events), err)
	}
	if _, err := api.Fetch(t.Context(), stripe.Account{}, false, "ch_none"); err == nil {
		t.Error("a charge that is not there was read")
	}
}

// A new key is used from the next call on, and permissions that the old one lacked are tried again.
func TestAnotherKey(t *testing.T) {
	a := stripetest.New(t)
	a.Put([]byte(`{"id":"ch_1","object":"charge","status":"succeeded","amount":100,"amount_captured":100,"captured":true,"currency":"eur","created":1}`), "")
	api := client(t, a.URL, "rk_test_51AnotherAccounts")
	fetch := func() error {
		_, err := api.Fetch(t.Context(), stripe.Account{}, false, "ch_1")
		return err
	}
	if err := fetch(); err == nil {
		t.Error("Stripe took another account's key")
	}
	api.SetKey(a.Key)
	a.Deny("expand/balance_transaction", "rak_balance_transaction_read")
	if err := fetch(); err != nil {
		t.Fatal(err)
	}
	a.Key = "rk_test_51TheNextOne"
	api.SetKey(a.Key)
	calls := len(a.Calls())
	if err := fetch(); err != nil || len(a.Calls())-calls != 2 {
		t.Errorf("%d calls with another key, want one with the balance transaction and one without, %v", len(a.Calls())-calls, err)
	}
}
