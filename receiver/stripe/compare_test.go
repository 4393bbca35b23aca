package stripe_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"tillhook/ledger"
)

// asRead is an object as encoding/json reads it, with json.Number for numbers.
type asRead struct {
	t      *testing.T
	fields map[string]any
}

func (o asRead) text(name string) string {
	s, _ := o.fields[name].(string)
	return s
}

// money returns an amount, or 0 if absent. Any other value must have led to quarantine.
func (o asRead) money(name string) (amount int64) {
	o.t.Helper()
	field := o.fields[name]
	if field == nil {
		return 0
	}
	n, isNumber := field.(json.Number)
	amount, err := n.Int64()
	if !isNumber || err != nil {
		o.t.Fatalf("%s %v was booked", name, field)
	}
	return amount
}

func (o asRead) currency() string {
	o.t.Helper()
	s, isText := o.fields["currency"].(string)
	if o.fields["currency"] != nil && (!isText || s == "") {
		o.t.Fatalf("the currency %v was booked", o.fields["currency"])
	}
	return strings.ToLower(s)
}

var anID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,255}$`)

// link returns the id of a linked object.
func (o asRead) link(name string) string {
	id := o.text(name)
	if object, ok := o.fields[name].(map[string]any); ok {
		id, _ = object["id"].(string)
	}
	if !anID.MatchString(id) {
		return ""
	}
	return id
}

// same compares a decoded value with one that encoding/json read.
func same[T comparable](t *testing.T, what string, booked, read T) {
	t.Helper()
	if booked != read {
		t.Fatalf("%s: booked %v of %v", what, booked, read)
	}
}

// compareFacts compares the object that the event is about, which is the first of its kind.
func compareFacts(t *testing.T, facts *ledger.Facts, object asRead) {
	t.Helper()
	compareIDs(t, facts)
	kind := object.text("object")
	intent := object.link("payment_intent")
	switch kind {
	case "payment_intent":
		compareIntent(t, &facts.Intents[0], object)
		intent = facts.Intents[0].ID
	case "charge":
		compareCharge(t, &facts.Charges[0], object)
		same(t, "the charge it is about", facts.Charge, facts.Charges[0].ID)
	case "refund":
		compareRefund(t, &facts.Refunds[0], object)
	case "dispute":
		compareDispute(t, &facts.Disputes[0], object)
	case "checkout.session":
		same(t, "id", facts.Sessions[0].ID, object.text("id"))
		same(t, "payment_status", facts.Sessions[0].PaymentStatus, object.text("payment_status"))
	default:
		if facts.AboutPayment() || facts.PaymentIntent != "" || facts.Charge != "" {
			t.Fatalf("facts %+v of the object %v", facts, object.fields)
		}
		return
	}
	if intent != "" {
		same(t, "the PaymentIntent it is about", facts.PaymentIntent, intent)
	}
	if charge := object.link("charge"); charge != "" && (kind == "refund" || kind == "dispute") {
		same(t, "the charge it is about", facts.Charge, charge)
	}
}

// compareIDs checks that the ledger can hold the ids and that the facts name a payment.
func compareIDs(t *testing.T, facts *ledger.Facts) {
	t.Helper()
	var ids []string
	for i := range facts.Intents {
		ids = append(ids, facts.Intents[i].ID, facts.PaymentIntent)
		same(t, "a PaymentIntent", facts.Intents[i].ID, facts.PaymentIntent)
	}
	for i := range facts.Charges {
		ids = append(ids, facts.Charges[i].ID, facts.Charge)
	}
	for i := range facts.Refunds {
		ids = append(ids, facts.Refunds[i].ID)
	}
	for i := range facts.Disputes {
		ids = append(ids, facts.Disputes[i].ID)
		for _, transaction := range facts.Disputes[i].Transactions {
			ids = append(ids, transaction.ID)
		}
	}
	for i := range facts.Sessions {
		ids = append(ids, facts.Sessions[i].ID)
	}
	for _, id := range ids {
		if !anID.MatchString(id) {
			t.Fatalf("the id %q in %+v", id, facts)
		}
	}
}

func compareIntent(t *testing.T, in *ledger.Intent, object asRead) {
	t.Helper()
	same(t, "id", in.ID, object.text("id"))
	same(t, "status", in.Status, object.text("status"))
	same(t, "currency", in.Currency, object.currency())
	same(t, "amount", in.Amount, object.money("amount"))
	same(t, "whether there is an amount", in.HasAmount, object.fields["amount"] != nil)
	same(t, "amount_received", in.AmountReceived, object.money("amount_received"))
	same(t, "whether there is an amount_received", in.HasReceived, object.fields["amount_received"] != nil)
	same(t, "amount_capturable", in.AmountCapturable, object.money("amount_capturable"))
	same(t, "latest_charge", in.LatestCharge, object.link("latest_charge"))
}

func compareCharge(t *testing.T, c *ledger.Charge, object asRead) {
	t.Helper()
	same(t, "id", c.ID, object.text("id"))
	same(t, "status", c.Status, oldChargeStatus(object))
	same(t, "currency", c.Currency, object.currency())
	same(t, "amount", c.Amount, object.money("amount"))
	same(t, "amount_refunded", c.AmountRefunded, object.money("amount_refunded"))
	same(t, "failure_code", c.FailureCode, object.text("failure_code"))
	captured, isBool := object.fields["captured"].(bool)
	captured = captured || !isBool
	same(t, "captured", c.Captured, captured)
	same(t, "amount_captured", c.AmountCaptured, object.money("amount_captured"))
	same(t, "whether amount_captured is unknown", c.CaptureUnknown, captured && object.fields["amount_captured"] == nil)
	if c.BalanceTransaction != nil {
		fields, _ := object.fields["balance_transaction"].(map[string]any)
		transaction := asRead{t, fields}
		same(t, "fee", c.BalanceTransaction.Fee, transaction.money("fee"))
		same(t, "the fee's currency", c.BalanceTransaction.Currency, transaction.currency())
	}
}

// oldChargeStatus returns a charge's status, also of API versions before 2015.
func oldChargeStatus(charge asRead) string {
	paid, isBool := charge.fields["paid"].(bool)
	switch status := charge.text("status"); {
	case status == "paid", status == "" && paid:
		return "succeeded"
	case status == "" && isBool:
		return "failed"
	default:
		return status
	}
}

func compareRefund(t *testing.T, f *ledger.Refund, object asRead) {
	t.Helper()
	same(t, "id", f.ID, object.text("id"))
	same(t, "status", f.Status, object.text("status"))
	same(t, "currency", f.Currency, object.currency())
	same(t, "amount", f.Amount, object.money("amount"))
	same(t, "whether there is an amount", object.fields["amount"] != nil, true)
	same(t, "reason", f.Reason, object.text("reason"))
	same(t, "charge", f.Charge, object.link("charge"))
}

func compareDispute(t *testing.T, d *ledger.Dispute, object asRead) {
	t.Helper()
	if object.fields["id"] != nil { // the oldest API versions have no id
		same(t, "id", d.ID, object.text("id"))
	}
	same(t, "status", d.Status, object.text("status"))
	same(t, "currency", d.Currency, object.currency())
	same(t, "amount", d.Amount, object.money("amount"))
	same(t, "reason", d.Reason, object.text("reason"))
	same(t, "charge", d.Charge, object.link("charge"))
	list, _ := object.fields["balance_transactions"].([]any)
	same(t, "balance_transactions", len(d.Transactions), len(list))
	for i, booked := range d.Transactions {
		fields, _ := list[i].(map[string]any)
		transaction := asRead{t, fields}
		same(t, "transaction", booked.ID, transaction.text("id"))
		same(t, "its amount", booked.Amount, transaction.money("amount"))
		same(t, "whether it has one", fields["amount"] != nil, true)
		same(t, "its currency", booked.Currency, transaction.currency())
	}
}
