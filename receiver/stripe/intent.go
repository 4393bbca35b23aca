package stripe

import "tillhook/ledger"

// intent reads a PaymentIntent of any API version, and the charges inside it.
func (r *reader) intent(v value, depth int) bool {
	var in ledger.Intent
	var m requiredFields
	var charges, latest, customerAccount value
	v.fields(func(name []byte, field value) {
		switch string(name) {
		case "id":
			in.ID = m.id(field)
		case "status":
			in.Status, _ = field.text()
		case "currency":
			in.Currency = m.currency(field)
		case "amount":
			in.Amount, in.HasAmount = m.money(field), !field.isNull()
		case "amount_capturable":
			in.AmountCapturable = m.money(field)
		case "amount_received":
			in.AmountReceived, in.HasReceived = m.money(field), !field.isNull()
		case "created":
			in.Created = readTime(field)
		case "customer":
			in.Customer = readLink(field)
		case "customer_account":
			customerAccount = field
		case "latest_charge":
			in.LatestCharge, latest = readLink(field), field
		case "charges":
			charges = field
		case "description":
			in.Description, _ = field.text()
		case "metadata":
			in.Metadata = readMetadata(field)
		case "last_payment_error":
			in.LastError = readError(field)
		}
	})
	if m.unreadable || in.ID == "" || in.Status == "" {
		return false
	}
	if in.Customer == "" {
		in.Customer = readLink(customerAccount)
	}
	if r.identify(in.ID, in.LatestCharge); in.ID != r.facts.PaymentIntent {
		return true // it is inside an object of another payment
	}
	r.facts.Intents = append(r.facts.Intents, in)
	r.nested(latest, depth, r.charge)
	eachListed(charges, func(charge value) { r.nested(charge, depth, r.charge) })
	return true
}

// readLink returns the id of a linked object, which is a string, the expanded object, or null.
// https://docs.stripe.com/api/expanding_objects
func readLink(v value) string {
	id, isText := v.text()
	if !isText {
		id, _ = v.field("id").text()
	}
	if !usableID(id) {
		return ""
	}
	return id
}

// readMetadata reads metadata. Stripe makes every value a string; any other value is kept as its
// JSON.
func readMetadata(v value) map[string]string {
	var m map[string]string
	v.fields(func(name []byte, field value) {
		text, isText := field.text()
		if !isText {
			text = validUTF8(field.raw())
		}
		if m == nil {
			m = map[string]string{}
		}
		m[validUTF8(name)] = text
	})
	return m
}

// readError reads four fields of last_payment_error. The rest holds card data and a client_secret.
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
