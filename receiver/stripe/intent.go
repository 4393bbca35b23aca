package stripe

import "tillhook/ledger"

// intent reads a PaymentIntent of any API version, with the charges in it.
func (r *reader) intent(v value, depth int) bool {
	var in ledger.Intent
	var m fields
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
	if r.name(in.ID, in.LatestCharge); in.ID != r.facts.PaymentIntent {
		return true // within an object that names another one
	}
	r.facts.Intents = append(r.facts.Intents, in)
	r.inside(latest, depth, r.charge)
	listed(charges, func(charge value) { r.inside(charge, depth, r.charge) })
	return true
}

// readLink reads the id of another object: a text, the object itself, or null.
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

// readMetadata reads the shop's own pairs. Stripe makes every value a text; one that is not is kept as its JSON.
func readMetadata(v value) map[string]string {
	var m map[string]string
	v.fields(func(name []byte, field value) {
		text, isText := field.text()
		if !isText {
			text = valid(field.raw())
		}
		if m == nil {
			m = map[string]string{}
		}
		m[valid(name)] = text
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
