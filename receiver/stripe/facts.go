package stripe

import (
	"slices"
	"strings"

	"tillhook/ledger"
	"tillhook/ledger/fold"
)

// reader collects the facts that an event's object and the objects inside it state: links may be
// expanded, and old API versions include charges and refunds. All of them are about one payment.
type reader struct {
	facts ledger.Facts
}

// maxDepth is the maximum depth of objects inside objects. Stripe expands four levels.
// https://docs.stripe.com/api/expanding_objects
const maxDepth = 4

// readFacts reads what an event states about a payment. It decides by the object's type and not by
// the event's: event types are added over time, and every payment_intent.* holds the same object.
// It returns false for an object of a payment that cannot be read.
func readFacts(typ string, data value) (ledger.Facts, bool) {
	object := data.field("object")
	kind, _ := object.field("object").text()
	if want := objectKind(typ); want != "" && kind != want {
		return ledger.Facts{}, false
	}
	var r reader
	ok := true
	switch kind {
	case "payment_intent":
		ok = r.intent(object, 0)
	case "charge":
		ok = r.charge(object, 0)
	case "refund":
		ok = r.refund(object, 0)
	case "dispute":
		ok = r.dispute(object, 0)
	case "checkout.session":
		ok = r.session(object, 0)
	}
	if !ok {
		return ledger.Facts{}, false
	}
	return r.facts, true
}

// objectKind returns the type of object that events of a type hold, or "" for a type that is not
// about payments.
func objectKind(typ string) string {
	family, _, _ := strings.Cut(typ, ".")
	switch {
	case family == "payment_intent":
		return family
	case !slices.Contains(Types[:], typ):
		return ""
	case strings.HasPrefix(typ, "charge.dispute."):
		return "dispute"
	case family == "refund", strings.HasPrefix(typ, "charge.refund."):
		return "refund"
	case family == "checkout":
		return "checkout.session"
	}
	return family
}

// identify keeps the first PaymentIntent and the first charge that are named. Outer objects come
// first.
func (r *reader) identify(intent, charge string) {
	if r.facts.PaymentIntent == "" {
		r.facts.PaymentIntent = intent
	}
	if r.facts.Charge == "" {
		r.facts.Charge = charge
	}
}

// nested reads an object inside another one. It ignores an object that cannot be read, because the
// event is about the outer one.
func (r *reader) nested(v value, depth int, read func(value, int) bool) {
	if v.isObject() && depth < maxDepth {
		read(v, depth+1)
	}
}

// eachListed visits the elements of a list object, or of a bare array as in the oldest API
// versions.
func eachListed(v value, visit func(value)) {
	v.elements(visit)
	v.field("data").elements(visit)
}

// requiredFields reads fields that an object needs, and records whether one could not be read.
type requiredFields struct{ unreadable bool }

func (m *requiredFields) money(field value) int64 {
	n, isInt := field.integer()
	m.unreadable = m.unreadable || !isInt && !field.isNull()
	return n
}

// currency reads a currency code, in lower case. Codes have three letters; longer ones are
// accepted.
func (m *requiredFields) currency(field value) string {
	s, isText := field.text()
	s = strings.ToLower(s)
	m.unreadable = m.unreadable || !field.isNull() && (!isText || !usableID(s) || len(s) > 16)
	return s
}

func (m *requiredFields) id(field value) string {
	s, _ := field.text()
	if m.unreadable = m.unreadable || !usableID(s); m.unreadable {
		return ""
	}
	return s
}

// charge reads a charge of any API version, and the refunds, the dispute and the PaymentIntent
// inside it.
func (r *reader) charge(v value, depth int) bool {
	c := ledger.Charge{Captured: true}
	var m requiredFields
	var in struct{ intent, refunds, dispute, paid, customerAccount value }
	hasCaptured := false
	v.fields(func(name []byte, field value) {
		switch string(name) {
		case "id":
			c.ID = m.id(field)
		case "status":
			c.Status, _ = field.text()
		case "paid":
			in.paid = field
		case "currency":
			c.Currency = m.currency(field)
		case "amount":
			c.Amount = m.money(field)
		case "amount_captured":
			c.AmountCaptured, hasCaptured = m.money(field), !field.isNull()
		case "amount_refunded":
			c.AmountRefunded = m.money(field)
		case "captured":
			if captured, ok := field.boolean(); ok {
				c.Captured = captured
			}
		case "customer":
			c.Customer = readLink(field)
		case "customer_account":
			in.customerAccount = field
		case "description":
			c.Description, _ = field.text()
		case "metadata":
			c.Metadata = readMetadata(field)
		case "failure_code":
			c.FailureCode, _ = field.text()
		case "created":
			c.Created = readTime(field)
		case "balance_transaction":
			c.BalanceTransaction = readBalanceTransaction(field)
		case "payment_intent":
			in.intent = field
		case "refunds":
			in.refunds = field
		case "dispute":
			in.dispute = field
		}
	})
	if c.Status = chargeStatus(c.Status, in.paid); m.unreadable || c.ID == "" || c.Status == "" {
		return false
	}
	if c.Customer == "" {
		c.Customer = readLink(in.customerAccount)
	}
	c.CaptureUnknown = c.Captured && !hasCaptured
	r.identify(readLink(in.intent), c.ID)
	r.facts.Charges = append(r.facts.Charges, c)
	r.nested(in.intent, depth, r.intent)
	eachListed(in.refunds, func(v value) {
		r.nested(v, depth, func(v value, depth int) bool { return r.refundOfCharge(v, depth, c.ID) })
	})
	r.nested(in.dispute, depth, func(v value, depth int) bool { return r.disputeOfCharge(v, depth, c.ID) })
	return true
}

// chargeStatus returns a charge's status in today's terms. API versions before 2015-02-18 call a
// succeeded charge paid, and the oldest ones have only the field paid.
// https://docs.stripe.com/upgrades#2015-02-18
func chargeStatus(status string, paid value) string {
	if status == "paid" {
		return "succeeded"
	}
	if isPaid, known := paid.boolean(); status == "" && known {
		if isPaid {
			return "succeeded"
		}
		return "failed"
	}
	return status
}

// readBalanceTransaction reads an expanded balance transaction of a charge. It returns nil if the
// field is not expanded.
func readBalanceTransaction(v value) *ledger.Booking {
	var b ledger.Booking
	var m requiredFields
	known := false
	v.fields(func(name []byte, field value) {
		switch string(name) {
		case "id":
			b.ID, _ = field.text()
		case "created":
			b.Created = readTime(field)
		case "fee":
			b.Fee, known = m.money(field), !field.isNull()
		case "currency":
			b.Currency = m.currency(field)
		}
	})
	if !known || m.unreadable || b.Currency == "" {
		return nil
	}
	return &b
}

func (r *reader) refund(v value, depth int) bool { return r.refundOfCharge(v, depth, "") }

// refundOfCharge reads a refund. charge is the charge that contains it, if any.
func (r *reader) refundOfCharge(v value, depth int, charge string) bool {
	f := ledger.Refund{Charge: charge}
	var m requiredFields
	var of, intent value
	known := false
	v.fields(func(name []byte, field value) {
		switch string(name) {
		case "id":
			f.ID = m.id(field)
		case "status":
			f.Status, _ = field.text()
		case "currency":
			f.Currency = m.currency(field)
		case "amount":
			f.Amount, known = m.money(field), !field.isNull()
		case "reason":
			f.Reason, _ = field.text()
		case "created":
			f.Created = readTime(field)
		case "balance_transaction":
			f.Booked = readTime(field.field("created"))
		case "failure_balance_transaction":
			f.Returned = readTime(field.field("created"))
		case "charge":
			of = field
		case "payment_intent":
			intent = field
		}
	})
	if m.unreadable || f.ID == "" || !known {
		return false
	}
	if named := readLink(of); named != "" {
		f.Charge = named
	}
	r.identify(readLink(intent), f.Charge)
	r.facts.Refunds = append(r.facts.Refunds, f)
	r.nested(intent, depth, r.intent)
	r.nested(of, depth, r.charge)
	return true
}

func (r *reader) dispute(v value, depth int) bool { return r.disputeOfCharge(v, depth, "") }

// disputeOfCharge reads a dispute. charge is the charge that contains it, if any.
func (r *reader) disputeOfCharge(v value, depth int, charge string) bool {
	d := ledger.Dispute{Charge: charge}
	var m requiredFields
	var of, intent value
	v.fields(func(name []byte, field value) {
		switch string(name) {
		case "id":
			if !field.isNull() {
				d.ID = m.id(field)
			}
		case "status":
			d.Status, _ = field.text()
		case "currency":
			d.Currency = m.currency(field)
		case "amount":
			d.Amount = m.money(field)
		case "reason":
			d.Reason, _ = field.text()
		case "created":
			d.Created = readTime(field)
		case "charge":
			of = field
		case "payment_intent":
			intent = field
		case "balance_transactions":
			field.elements(func(t value) { d.Transactions = append(d.Transactions, m.transaction(t)) })
		}
	})
	if named := readLink(of); named != "" {
		d.Charge = named
	}
	if d.ID == "" && d.Charge != "" { // the oldest API versions have no id
		d.ID = fold.DisputeOf(d.Charge)
	}
	if m.unreadable || !usableID(d.ID) || d.Status == "" {
		return false
	}
	r.identify(readLink(intent), d.Charge)
	r.facts.Disputes = append(r.facts.Disputes, d)
	r.nested(intent, depth, r.intent)
	r.nested(of, depth, r.charge)
	return true
}

func (m *requiredFields) transaction(v value) (t ledger.Transaction) {
	known := false
	v.fields(func(name []byte, field value) {
		switch string(name) {
		case "id":
			t.ID = m.id(field)
		case "amount":
			t.Amount, known = m.money(field), !field.isNull()
		case "currency":
			t.Currency = m.currency(field)
		case "created":
			t.Created = readTime(field)
		}
	})
	m.unreadable = m.unreadable || !known || t.ID == ""
	return t
}

// session reads a Checkout Session, which links ids and has a payment status.
func (r *reader) session(v value, depth int) bool {
	var s ledger.Session
	var m requiredFields
	var intent value
	v.fields(func(name []byte, field value) {
		switch string(name) {
		case "id":
			s.ID = m.id(field)
		case "payment_status":
			s.PaymentStatus, _ = field.text()
		case "payment_intent":
			intent = field
		}
	})
	if m.unreadable || s.ID == "" {
		return false
	}
	r.identify(readLink(intent), "")
	r.facts.Sessions = append(r.facts.Sessions, s)
	r.nested(intent, depth, r.intent)
	return true
}
