package stripe_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// Small objects as lists of fields for obj, and the facts of each.
const (
	intentJSON  = `"id": "pi_1", "object": "payment_intent", "status": "succeeded", "amount": 700, "currency": "eur"`
	chargeJSON  = `"id": "ch_1", "object": "charge", "status": "succeeded", "amount": 700, "currency": "eur"`
	refundJSON  = `"id": "re_1", "object": "refund", "status": "pending", "amount": 200, "currency": "eur"`
	disputeJSON = `"id": "du_1", "object": "dispute", "status": "lost", "amount": 700, "currency": "eur"`
	sessionJSON = `"id": "cs_1", "object": "checkout.session", "payment_status": "paid"`
)

var (
	intent1  = ledger.Intent{ID: "pi_1", Status: "succeeded", Currency: "eur", Amount: 700, HasAmount: true}
	charge1  = ledger.Charge{ID: "ch_1", Status: "succeeded", Currency: "eur", Amount: 700, Captured: true, CaptureUnknown: true}
	refund1  = ledger.Refund{ID: "re_1", Status: "pending", Currency: "eur", Amount: 200}
	dispute1 = ledger.Dispute{ID: "du_1", Status: "lost", Currency: "eur", Amount: 700}
	session1 = ledger.Session{ID: "cs_1", PaymentStatus: "paid"}
)

// with returns a changed copy.
func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

// set replaces one of an object's fields, or adds it.
func set(fields, name, value string) string {
	list := strings.Split(fields, ", ")
	name = strconv.Quote(name) + ": "
	if i := slices.IndexFunc(list, func(field string) bool { return strings.HasPrefix(field, name) }); i >= 0 {
		list[i] = name + value
		return strings.Join(list, ", ")
	}
	return fields + ", " + name + value
}

func obj(fields ...string) string { return "{" + strings.Join(fields, ", ") + "}" }

// event returns the body of an event about an object.
func event(typ, object string) []byte {
	return fmt.Appendf(nil, `{"id": "evt_1", "object": "event", "type": %q, "livemode": false, "data": {"object": %s}}`, typ, object)
}

// checkFacts decodes a usable body and compares its facts.
func checkFacts(t *testing.T, body []byte, want ledger.Facts) {
	t.Helper()
	e := stripe.Decode(body, false)
	if e.Quarantine != "" {
		t.Errorf("it is in quarantine: %s", e.Quarantine)
	}
	if !reflect.DeepEqual(e.Facts, want) {
		t.Errorf("got  %+v\nwant %+v", e.Facts, want)
	}
}

func TestCapturedAmount(t *testing.T) {
	for _, c := range []struct {
		fields string // of a charge of 700
		want   int64
		not    bool // captured
		lacks  bool // the captured amount
	}{
		{`"captured": true, "amount_captured": 300`, 300, false, false},
		{`"amount_captured": 300, "captured": true`, 300, false, false},
		{`"captured": true, "amount_captured": 0`, 0, false, false}, // pending
		{`"captured": true, "amount_captured": -500`, -500, false, false},
		{`"captured": false, "amount_captured": 0`, 0, true, false},
		{`"captured": true`, 0, false, true},
		{`"captured": true, "amount_captured": null`, 0, false, true},
		{`"captured": false`, 0, true, false},
		{`"captured": false, "amount_captured": null`, 0, true, false},
		{`"captured": null`, 0, false, true}, // as before authorizations existed
		{`"captured": null, "amount_captured": 300`, 300, false, false},
		{`"x": 0`, 0, false, true},
		{`"amount_captured": 300`, 300, false, false},
		{`"captured": "false"`, 0, false, true},
	} {
		t.Run(c.fields, func(t *testing.T) {
			charge := with(charge1, func(in *ledger.Charge) { in.AmountCaptured, in.Captured, in.CaptureUnknown = c.want, !c.not, c.lacks })
			want := ledger.Facts{Charge: "ch_1", Charges: []ledger.Charge{charge}}
			checkFacts(t, event("charge.succeeded", obj(chargeJSON, c.fields)), want)
			checkFacts(t, event("charge.succeeded", obj(c.fields, chargeJSON)), want)
		})
	}
}

func TestFee(t *testing.T) {
	for _, c := range []struct {
		transaction string
		want        *ledger.Booking
	}{
		{`{"id": "txn_1", "object": "balance_transaction", "amount": 640, "currency": "CHF", "fee": 25, "net": 615}`, &ledger.Booking{ID: "txn_1", Fee: 25, Currency: "chf"}},
		{`{"fee": 0, "currency": "eur"}`, &ledger.Booking{Currency: "eur"}},
		{`{"fee": -25, "currency": "eur"}`, &ledger.Booking{Fee: -25, Currency: "eur"}},
		{`"txn_1"`, nil},
		{`null`, nil},
		{`{}`, nil},
		{`[{"fee": 25, "currency": "eur"}]`, nil},
		{`{"fee": 25}`, nil},
		{`{"fee": 25, "currency": null}`, nil},
		{`{"fee": 25, "currency": 978}`, nil},
		{`{"currency": "eur"}`, nil},
		{`{"fee": null, "currency": "eur"}`, nil},
		{`{"fee": 25.5, "currency": "eur"}`, nil},
		{`{"fee": "25", "currency": "eur"}`, nil},
	} {
		t.Run(c.transaction, func(t *testing.T) {
			checkFacts(t, event("charge.updated", obj(chargeJSON, `"balance_transaction": `+c.transaction)), ledger.Facts{
				Charge: "ch_1", Charges: []ledger.Charge{with(charge1, func(in *ledger.Charge) { in.BalanceTransaction = c.want })},
			})
		})
	}
	checkFacts(t, altered(t, "charge.captured", `"txn_3wMNmfKvHadernBlZe1uC3VZ"`, `{"id": "txn_3wMNmfKvHadernBlZe1uC3VZ", "fee": 346, "currency": "eur"}`),
		with(chargeSamples["charge.captured"], func(f *ledger.Facts) {
			f.Charges = []ledger.Charge{with(f.Charges[0], func(in *ledger.Charge) {
				in.BalanceTransaction = &ledger.Booking{ID: "txn_3wMNmfKvHadernBlZe1uC3VZ", Fee: 346, Currency: "eur"}
			})}
		}))
}

// Objects with missing optional fields are read.
func TestOptionalFields(t *testing.T) {
	for _, c := range []struct {
		what, typ, object string
		want              ledger.Facts
	}{
		{"a charge with an id and a status", "charge.succeeded", `{"object": "charge", "id": "ch_1", "status": "succeeded"}`,
			ledger.Facts{Charge: "ch_1", Charges: []ledger.Charge{{ID: "ch_1", Status: "succeeded", Captured: true, CaptureUnknown: true}}}},
		{"nulls", "charge.succeeded", obj(chargeJSON, `"customer": null, "description": null, "metadata": null, "failure_code": null, "created": null, "amount_refunded": null, "refunds": null, "dispute": null`),
			ledger.Facts{Charge: "ch_1", Charges: []ledger.Charge{charge1}}},
		{"no texts", "charge.succeeded", obj(chargeJSON, `"customer": 1, "description": {}, "metadata": [], "failure_code": 2, "created": "soon", "refunds": "re_1", "dispute": "du_1"`),
			ledger.Facts{Charge: "ch_1", Charges: []ledger.Charge{charge1}}},
		{"a refund without a status, of an old version", "charge.refund.updated", `{"object": "refund", "id": "re_1", "amount": 200, "currency": "eur"}`,
			ledger.Facts{Refunds: []ledger.Refund{with(refund1, func(f *ledger.Refund) { f.Status = "" })}}},
		{"a refund of nothing", "refund.created", `{"object": "refund", "id": "re_1", "amount": 0}`,
			ledger.Facts{Refunds: []ledger.Refund{{ID: "re_1"}}}},
		{"a dispute with an id and a status", "charge.dispute.created", `{"object": "dispute", "id": "du_1", "status": "lost"}`,
			ledger.Facts{Disputes: []ledger.Dispute{{ID: "du_1", Status: "lost"}}}},
		{"a dispute that moved nothing", "charge.dispute.created", obj(disputeJSON, `"balance_transactions": null`),
			ledger.Facts{Disputes: []ledger.Dispute{dispute1}}},
		{"a transaction with an id and an amount", "charge.dispute.created", obj(disputeJSON, `"balance_transactions": [{"amount": -1, "id": "txn_1"}]`),
			ledger.Facts{Disputes: []ledger.Dispute{with(dispute1, func(d *ledger.Dispute) { d.Transactions = []ledger.Transaction{{ID: "txn_1", Amount: -1}} })}}},
		{"a session with an id", "checkout.session.completed", `{"object": "checkout.session", "id": "cs_1"}`,
			ledger.Facts{Sessions: []ledger.Session{{ID: "cs_1"}}}},
		{"unknown statuses", "charge.dispute.updated", obj(set(disputeJSON, "status", `"arbitration"`)),
			ledger.Facts{Disputes: []ledger.Dispute{with(dispute1, func(d *ledger.Dispute) { d.Status = "arbitration" })}}},
		{"a currency in capitals", "refund.created", obj(set(refundJSON, "currency", `"EUR"`)),
			ledger.Facts{Refunds: []ledger.Refund{refund1}}},
		{"the longest currency", "refund.created", obj(set(refundJSON, "currency", `"abcdefghijklmnop"`)),
			ledger.Facts{Refunds: []ledger.Refund{with(refund1, func(f *ledger.Refund) { f.Currency = "abcdefghijklmnop" })}}},
		{"the greatest and the least money", "charge.dispute.closed", obj(set(disputeJSON, "amount", "9223372036854775807"), `"balance_transactions": [{"id": "txn_1", "amount": -9223372036854775808}]`),
			ledger.Facts{Disputes: []ledger.Dispute{with(dispute1, func(d *ledger.Dispute) {
				d.Amount, d.Transactions = 9223372036854775807, []ledger.Transaction{{ID: "txn_1", Amount: -9223372036854775808}}
			})}}},
		{"metadata of other kinds", "charge.succeeded", obj(chargeJSON, `"metadata": {"a\u0000": "\ud800", "n": 1.50, "z": null}`),
			ledger.Facts{Charge: "ch_1", Charges: []ledger.Charge{with(charge1, func(in *ledger.Charge) {
				in.Metadata = map[string]string{"a\x00": "\ufffd", "n": "1.50", "z": "null"}
			})}}},
	} {
		t.Run(c.what, func(t *testing.T) { checkFacts(t, event(c.typ, c.object), c.want) })
	}
}

// Objects with an unreadable required field are not used.
func TestUnreadableObjects(t *testing.T) {
	type object struct{ typ, fields string }
	objects := map[string]object{
		"charge": {"charge.succeeded", chargeJSON}, "refund": {"refund.created", refundJSON},
		"dispute": {"charge.dispute.closed", disputeJSON}, "checkout.session": {"checkout.session.completed", sessionJSON},
	}
	check := func(kind, name, value string) {
		o := objects[kind]
		for _, typ := range []string{o.typ, kind + ".frobnicated"} {
			t.Run(typ+" "+name+" "+value, func(t *testing.T) {
				e := stripe.Decode(event(typ, obj(set(o.fields, name, value))), false)
				if e.Quarantine != ledger.Undecodable || !reflect.DeepEqual(e.Facts, ledger.Facts{}) {
					t.Errorf("quarantine %q, facts %+v", e.Quarantine, e.Facts)
				}
			})
		}
	}
	for kind := range objects {
		for _, id := range []string{`null`, `""`, `7`, `{"id": "x"}`, `"a b"`, `"a\u0000"`, `"a/b"`, `"é"`, `"` + strings.Repeat("x", 256) + `"`} {
			check(kind, "id", id)
		}
	}
	noMoney := []string{`6480.0`, `6480.5`, `6e3`, `"700"`, `9223372036854775808`, `-9223372036854775809`, `{}`, `[]`, `[700]`, `true`, `false`}
	for _, amount := range noMoney {
		check("charge", "amount", amount)
		check("charge", "amount_captured", amount)
		check("charge", "amount_refunded", amount)
		check("refund", "amount", amount)
		check("dispute", "amount", amount)
		check("dispute", "balance_transactions", `[{"id": "txn_1", "amount": 1, "currency": "eur"}, {"id": "txn_2", "amount": `+amount+`, "currency": "eur"}]`)
	}
	for _, kind := range []string{"charge", "refund", "dispute"} {
		for _, currency := range []string{`978`, `""`, `"e\u0000r"`, `"eu\n"`, `"€"`, `"e r"`, `"abcdefghijklmnopq"`, `{}`, `["eur"]`, `true`} {
			check(kind, "currency", currency)
		}
	}
	for _, status := range []string{`null`, `""`, `7`, `{}`} {
		check("charge", "status", status)
		check("dispute", "status", status)
	}
	check("refund", "amount", "null")
	for _, transaction := range []string{`null`, `"txn_1"`, `{}`, `[]`, `{"amount": 1}`, `{"id": "txn_1"}`, `{"id": "txn_1", "amount": null}`, `{"id": "", "amount": 1}`, `{"id": 7, "amount": 1}`,
		`{"id": "txn_1", "amount": 1, "currency": 978}`, `{"id": "txn_1", "amount": 1, "currency": "abcdefghijklmnopq"}`} {
		check("dispute", "balance_transactions", `[`+transaction+`]`)
	}
}

// Objects without a required field are not used.
func TestMissingFields(t *testing.T) {
	for _, c := range []struct{ name, field string }{
		{"charge.succeeded", `"id": "ch_3wJoPRKvHadernBldSk9KNa9",`},
		{"refund.created", `"id": "re_3wJoPRKvHadernBlpcgM6Q6a",`},
		{"refund.created", `"amount": 2160,`},
		{"charge.dispute.closed", `"id": "txn_1wY8HFKvHadernBlZCYshTmF",`},
		{"charge.dispute.closed", `"amount": -5900,`},
		{"checkout.session.completed", `"id": "cs_test_a1oglupMyMpazmfN3oR1rK3bYuc8Mx7dpQXRBDuRs0h6s8geAtH84mS9GH",`},
	} {
		if e := stripe.Decode(altered(t, c.name, c.field, ""), false); e.Quarantine != ledger.Undecodable || e.Facts.AboutPayment() {
			t.Errorf("%s without %s: quarantine %q, facts %+v", c.name, c.field, e.Quarantine, e.Facts)
		}
	}
}

// A type about payments must hold its kind of object. Any other event is read by its object.
func TestKinds(t *testing.T) {
	objects := map[string]string{
		"payment_intent": obj(intentJSON), "charge": obj(chargeJSON), "refund": obj(refundJSON), "dispute": obj(disputeJSON),
		"checkout.session": obj(sessionJSON), "customer": `{"id": "cus_1", "object": "customer"}`, "none": `{"id": "ch_1", "status": "succeeded"}`,
		"a number": `{"id": "ch_1", "object": 7, "status": "succeeded"}`, "null": `null`, "a text": `"ch_1"`, "a list": `[` + obj(chargeJSON) + `]`,
	}
	folded := []string{"payment_intent", "charge", "refund", "dispute", "checkout.session"}
	objectKind := func(typ string) string {
		switch {
		case strings.HasPrefix(typ, "payment_intent."):
			return "payment_intent"
		case strings.HasPrefix(typ, "charge.dispute."):
			return "dispute"
		case strings.HasPrefix(typ, "refund."), typ == "charge.refund.updated":
			return "refund"
		case strings.HasPrefix(typ, "checkout.session."):
			return "checkout.session"
		}
		return "charge"
	}
	for kind, object := range objects {
		for _, typ := range slices.Concat(stripe.Types[:], []string{"payment_intent.frobnicated"}) {
			e := stripe.Decode(event(typ, object), false)
			if right := objectKind(typ) == kind; right != (e.Quarantine == "") || right != e.Facts.AboutPayment() || !right && e.Quarantine != ledger.Undecodable {
				t.Errorf("%s with the object %s: quarantine %q, facts %+v", typ, kind, e.Quarantine, e.Facts)
			}
		}
		for _, typ := range []string{"charge.frobnicated", "charge.dispute.frobnicated", "charge.refund.frobnicated", "refund.frobnicated", "checkout.session.frobnicated", "charge", "customer.created", "x", ""} {
			e := stripe.Decode(event(typ, object), false)
			if e.Quarantine != "" || e.Facts.AboutPayment() != slices.Contains(folded, kind) {
				t.Errorf("%s with the object %s: quarantine %q, facts %+v", typ, kind, e.Quarantine, e.Facts)
			}
		}
	}
	checkFacts(t, altered(t, "charge.captured", `"type": "charge.captured"`, `"type": "charge.frobnicated"`), chargeSamples["charge.captured"])
}

func TestAccount(t *testing.T) {
	for account, want := range map[string]string{
		`"acct_1"`: "acct_1", `null`: "", `""`: "", `7`: "", `{"id": "acct_1"}`: "", `"acct 1"`: "", `"acct_\u0000"`: "", `"acct_1\n"`: "",
		`"` + strings.Repeat("x", 255) + `"`: strings.Repeat("x", 255), `"` + strings.Repeat("x", 256) + `"`: "",
	} {
		e := stripe.Decode(altered(t, "charge.captured", `"object": "event"`, `"object": "event", "account": `+account), false)
		if e.Account != want || e.Quarantine != "" || !reflect.DeepEqual(e.Facts, chargeSamples["charge.captured"]) {
			t.Errorf("account %s: %+v", account, e)
		}
	}
}

// needed are the names of the fields that facts are made from.
var needed = []string{
	"id", "object", "type", "data", "livemode", "created", "amount", "amount_capturable", "amount_captured", "amount_received", "amount_refunded",
	"currency", "status", "captured", "customer", "description", "metadata", "failure_code", "reason", "latest_charge", "charges", "charge",
	"payment_intent", "refunds", "dispute", "balance_transactions", "last_payment_error", "code", "decline_code", "message", "payment_status",
	"paid", "customer_account", "balance_transaction", "failure_balance_transaction",
}

const canary = "Tereza Vondrová, 4242"

// spoiled replaces every string, number and literal that no fact is made from.
func spoiled(v any, all, inMetadata bool) any {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			v[name] = spoiled(field, all || !inMetadata && !slices.Contains(needed, name), name == "metadata")
		}
	case []any:
		for i := range v {
			v[i] = spoiled(v[i], all, false)
		}
	default:
		if all {
			return canary
		}
	}
	return v
}

// secrets returns the texts in a body that can confirm a payment or identify a person or a card.
func secrets(v any, is bool) (found []string) {
	names := []string{"client_secret", "email", "customer_email", "customer_email_address", "name", "customer_name", "phone", "line1",
		"postal_code", "last4", "fingerprint", "receipt_url", "iban", "uncategorized_text"}
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			found = append(found, secrets(field, slices.Contains(names, name))...)
		}
	case []any:
		for _, element := range v {
			found = append(found, secrets(element, is)...)
		}
	case string:
		if is {
			found = append(found, v)
		}
	}
	return found
}

// Client secrets, people and their cards are in the bodies and never in the facts.
func TestNothingElseIsKept(t *testing.T) {
	events, err := filepath.Glob(dir + "/*.json")
	scenes, err2 := filepath.Glob(dir + "/../scenarios/*/[0-9]*.json")
	if err != nil || err2 != nil || len(events) == 0 || len(scenes) == 0 {
		t.Fatal(len(events), len(scenes), err, err2)
	}
	for _, file := range slices.Concat(events, scenes) {
		name, err := filepath.Rel(dir, strings.TrimSuffix(file, ".json"))
		if err != nil {
			t.Fatal(err)
		}
		body := sample(t, name)
		facts := stripe.Decode(body, false).Facts
		kept, err := json.Marshal(facts)
		if err != nil {
			t.Fatal(file, err)
		}
		var v any
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatal(file, err)
		}
		for _, secret := range secrets(v, false) {
			if bytes.Contains(kept, []byte(secret)) {
				t.Errorf("%s: the facts hold %s: %s", file, secret, kept)
			}
		}
		other, err := json.Marshal(spoiled(v, false, false))
		if err != nil || !bytes.Contains(other, []byte(canary)) {
			t.Fatalf("%s holds nothing to leave out: %s, %v", file, other, err)
		}
		checkSameFacts(t, file, other, facts)
	}
}

// checkSameFacts checks that a body has the same facts after everything else was replaced.
func checkSameFacts(t *testing.T, file string, body []byte, want ledger.Facts) {
	t.Helper()
	got := stripe.Decode(body, false).Facts
	kept, err := json.Marshal(got)
	if err != nil || bytes.Contains(kept, []byte(canary)) || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v\ngot  %s\nwant %+v", file, err, kept, want)
	}
}
