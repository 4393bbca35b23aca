package operator_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

// A filter value that neither Stripe documents nor the ledger has is an error, not an empty list.
func TestUnknownValues(t *testing.T) {
	l := ledgertest.Open(t, false)
	h := handlerOf(l)
	refused := func(path, want string) {
		t.Helper()
		if w := get(h, path, nil); w.Code != 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want 400 and %s", path, w.Code, w.Body, want)
		}
	}
	lists := func(path string, n int) {
		t.Helper()
		if w := get(h, path, nil); w.Code != 200 || strings.Count(w.Body.String(), `"livemode"`) != n {
			t.Errorf("%s: %d %s, want %d in the list", path, w.Code, w.Body, n)
		}
	}
	for query, want := range map[string]string{
		"payments?status=succeded":           `"invalid_request","message":"status \"succeded\" is not a status of a PaymentIntent, and nothing was found with it: did you mean succeeded?"`,
		"payments?status=Succeeded":          "did you mean succeeded?",
		"payments?status=cancelled":          "did you mean canceled?",
		"payments?status=open":               "write requires_payment_method, ",
		"payments?currency=dollars":          `currency \"dollars\" is not the code of a currency, and nothing was found with it: write its three letters, such as eur`,
		"payments?currency=EURO":             "did you mean eur?",
		"events?type=payment_intent.suceded": "did you mean payment_intent.succeeded?",
		"events?type=customers.created":      "did you mean customer.created?",
		"events?type=x":                      "https://docs.stripe.com/api/events/types lists them",
		"events?type=xyz.made":               `type \"xyz.made\" is not a type`,
		"events?type=v2":                     "https://docs.stripe.com/api/events/types lists them",
		"events?type=payment_intent.*":       `type \"payment_intent.*\"`,
	} {
		refused("/api/"+query, want)
	}
	for _, typ := range slices.Concat(stripe.Types[:], []string{"customer.created", "invoice_payment.paid", "v1.payment_intent.succeeded", "v2.core.event_destination.ping"}) {
		lists("/api/events?type="+typ, 0)
	}
	for _, query := range []string{"status=none", "status=requires_capture", "currency=USD", "currency=kwd", "account=acct_x", "status=canceled&currency=chf"} {
		lists("/api/payments?"+query, 0)
	}
	// Stripe may add to each of them.
	e := paid("1", "2026-01-01T00:00:00Z", 4200)
	e.Type, e.Facts.Intents[0].Status, e.Facts.Intents[0].Currency = "payment_intent.frobnicated", "frobnicated", "xyz"
	appendEvent(t, l, e)
	lists("/api/payments?status=frobnicated&currency=XYZ", 1)
	lists("/api/events?type=payment_intent.frobnicated", 1)
	lists("/api/events?type=payment_intent.frobnicated&outcome=recorded", 0)
	lists("/api/payments?status=frobnicated&customer=cus_none", 0)
	refused("/api/payments?status=frobnicate", `status \"frobnicate\"`) // there is one of another status
	refused("/api/payments?status=succeeded&currency=zyx", `currency \"zyx\"`)
	refused("/api/payments/"+url.PathEscape(e.Facts.PaymentIntent)+"/events?type=nope", `type \"nope\"`)
}

// In a ledger of more rows than one request examines, a search for an undocumented value ends as in
// a small ledger: with the rows that it is in, or with an error.
func TestUnknownValuesInALargeLedger(t *testing.T) {
	t.Parallel()
	l := ledgertest.Open(t, false)
	odd := paid("1", "2020-01-01T00:00:00Z", 4200)
	odd.Type, odd.Facts.Intents[0].Status, odd.Facts.Intents[0].Currency = "payment_intent.frobnicated", "frobnicated", "xyz"
	appendEvent(t, l, odd)
	sell(t, l, 0, 20_000)
	h := handlerOf(l)
	for _, c := range []struct {
		query string
		rows  int // found on all pages; -1 for an error
	}{
		{"/api/payments?status=frobnicated", 1},
		{"/api/payments?status=frobnicate", -1},
		{"/api/payments?currency=xyz", 1},
		{"/api/payments?currency=zyx", -1},
		{"/api/payments?status=canceled", 0},
		{"/api/events?type=payment_intent.frobnicated", 1},
		{"/api/events?type=payment_intent.nope", -1},
	} {
		rows, page, pages := 0, "", 0
		for {
			pages++
			w := get(h, c.query+page, nil)
			if c.rows < 0 && w.Code == 400 && strings.Contains(w.Body.String(), "nothing was found with it") {
				rows--
				break
			}
			var list operator.List[json.RawMessage]
			if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 {
				t.Fatalf("%s%s: %d %s", c.query, page, w.Code, w.Body)
			}
			if rows += len(list.Data); !list.HasMore {
				break
			}
			page = "&page=" + url.QueryEscape(string(list.NextPage))
		}
		if rows != c.rows || pages != 2 {
			t.Errorf("%s: %d rows on %d pages, want %d on 2", c.query, rows, pages, c.rows)
		}
	}
	// Another filter leaves out the row that holds the value.
	for _, query := range []string{
		"/api/payments?status=frobnicated&created_gte=2026-12-01", "/api/payments?currency=xyz&customer=cus_none",
		"/api/payments?status=frobnicated&starting_after=pi_1",
		"/api/events?type=payment_intent.frobnicated&outcome=quarantined",
		"/api/payments/" + odd.Facts.PaymentIntent + "/events?type=payment_intent.frobnicated&outcome=quarantined",
	} {
		if w := get(h, query, nil); w.Code != 200 {
			t.Errorf("%s was answered %d %s", query, w.Code, w.Body)
		}
	}
	if w := get(h, "/api/payments?status=frobnicated&page=none.x", nil); w.Code != 400 {
		t.Errorf("an invalid page was answered %d %s", w.Code, w.Body)
	}
}

// Only undocumented values are searched in the ledger.
func TestADocumentedValueCostsNoSearch(t *testing.T) {
	for param, values := range map[string][]string{
		"status": append(ledger.Statuses[:], ledger.StatusNone), "currency": {"eur", "jpy", "hrk"}, "type": stripe.Types[:], "customer": {"anything"},
	} {
		for _, value := range append(values, "") {
			if err := operator.Undocumented(param, value); err != nil {
				t.Errorf("%s %q: %v", param, value, err)
			}
		}
	}
}
