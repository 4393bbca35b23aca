package stripe

import (
	"strings"

	"tillhook/ledger"
)

// readIntent reads a PaymentIntent of any API version. It fails where its id, its status or its
// money cannot be read; anything else that is not as expected is left empty.
func readIntent(v value) (*ledger.Intent, bool) {
	in := &ledger.Intent{}
	ok := true
	money := func(field value) int64 {
		n, isInt := field.integer()
		ok = ok && (isInt || field.isNull())
		return n
	}
	v.fields(func(name []byte, field value) {
		switch string(name) {
		case "id":
			in.ID, _ = field.text()
		case "status":
			in.Status, _ = field.text()
		case "currency":
			var isText bool
			in.Currency, isText = field.text()
			in.Currency = strings.ToLower(in.Currency)
			ok = ok && (isText || field.isNull())
		case "amount":
			in.Amount, in.HasAmount = money(field), !field.isNull()
		case "amount_capturable":
			in.AmountCapturable = money(field)
		case "amount_received":
			in.AmountReceived = money(field)
		case "created":
			in.Created = readTime(field)
		case "customer":
			in.Customer = readLink(field)
		case "latest_charge":
			in.LatestCharge = readLink(field)
		case "description":
			in.Description, _ = field.text()
		case "metadata":
			in.Metadata = readMetadata(field)
		case "last_payment_error":
			in.LastError = readError(field)
		}
	})
	if !ok || !usableID(in.ID) || in.Status == "" {
		return nil, false
	}
	return in, true
}

// readLink reads the id of another object: a text, the object itself, or null.
// https://docs.stripe.com/api/expanding_objects
func readLink(v value) string {
	id, isText := v.text()
	if !isText {
		v.fields(func(name []byte, field value) {
			if string(name) == "id" {
				id, _ = field.text()
			}
		})
	}
	if !usableID(id) {
		return ""
	}
	return id
}

// readMetadata reads the shop's own pairs. Stripe makes every value a text; one that is not is kept as its JSON.
func readMetadata(v value) map[string]string {
	var m map[string]string
	v.fields(func(name []byte, field value) {
		text, isText := field.text()
		if !isText {
			text = string(field)
		}
		if m == nil {
			m = map[string]string{}
		}
		m[string(name)] = text
	})
	return m
}

// readError takes four words from last_payment_error and leaves the rest, which holds card data and a client_secret.
func readError(v value) *ledger.PaymentError {
	if !v.isObject() {
		return nil
	}
	e := &ledger.PaymentError{}
	v.fields(func(name []byte, field value) {
		text, _ := field.text()
		switch string(name) {
		case "type":
			e.Type = ledger.OrNull(text)
		case "code":
			e.Code = ledger.OrNull(text)
		case "decline_code":
			e.DeclineCode = ledger.OrNull(text)
		case "message":
			e.Message = ledger.OrNull(text)
		}
	})
	return e
}
