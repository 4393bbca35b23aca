package stripe

import (
	"slices"
	"strings"

	"tillhook/ledger"
	"tillhook/ledger/fold"
)

// reader gathers what an event's object states, and what the objects inside it state: links may be
// expanded, and old API versions list charges and refunds inside. All of them are about one payment.
type reader struct {
	facts ledger.Facts
}

// maxDepth of objects inside objects. Stripe expands four levels. https://docs.stripe.com/api/expanding_objects
const maxDepth = 4

// readFacts reads what an event states about a payment. Routing is by what the object is: event types
// come and go, and every payment_intent.* holds the same object. It fails for an object that should
// be folded and cannot be read.
func readFacts(typ string, data value) (ledger.Facts, bool) {
	object := data.field("object")
	kind, _ := object.field("object").text()
	if want := kindOf(typ); want != "" && kind != want {
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

// kindOf is what an event of a type holds; empty for a type that is not known to move money.
func kindOf(typ string) string {
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

// name keeps the first PaymentIntent and the first charge that is named; the outer objects come first.
func (r *reader) name(intent, charge string) {
	if r.facts.PaymentIntent == "" {
		r.facts.PaymentIntent = intent
	}
	if r.facts.Charge == "" {
		r.facts.Charge = charge
	}
}

// inside reads an object within another. One that cannot be read is left out: it is the outer one that
// the event is about.
func (r *reader) inside(v value, depth int, read func(value, int) bool) {
	if v.isObject() && depth < maxDepth {
		read(v, depth+1)
	}
}

// listed visits what a list object holds; the oldest versions have a bare array.
func listed(v value, visit func(value)) {
	v.elements(visit)
	v.field("data").elements(visit)
}

// fields reads fields without which an object is no use, and remembers that one could not be read.
type fields struct{ unreadable bool }

func (m *fields) money(field value) int64 {
	n, isInt := field.integer()
	m.unreadable = m.unreadable || !isInt && !field.isNull()
	return n
}

// currency is three letters in lower case; Stripe may think of longer ones.
func (m *fields) currency(field value) string {
	s, isText := field.text()
	s = strings.ToLower(s)
	m.unreadable = m.unreadable || !field.isNull() && (!isText || !usableID(s) || len(s) > 16)
	return s
}

func (m *fields) id(field value) string {
	s, _ := field.text()
	if m.unreadable = m.unreadable || !usableID(s); m.unreadable {
		return ""
	}
	return s
}

// charge reads a charge of any API version, with the refunds, the dispute and the PaymentIntent in it.
func (r *reader) charge(v value, depth int) bool {
	c := ledger.Charge{Captured: true}
	var m fields
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
			c.BalanceTransaction = readBooking(field)
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
	if !hasCaptured && c.Captured {
		c.AmountCaptured = c.Amount
	}
	r.name(readLink(in.intent), c.ID)
	r.facts.Charges = append(r.facts.Charges, c)
	r.inside(in.intent, depth, r.intent)
	listed(in.refunds, func(v value) {
		r.inside(v, depth, func(v value, depth int) bool { return r.refundOf(v, depth, c.ID) })
	})
	r.inside(in.dispute, depth, func(v value, depth int) bool { return r.disputeOf(v, depth, c.ID) })
	return true
}

// chargeStatus returns a charge's status in today's words. Versions before 2015-02-18 call a charge
// that succeeded paid, and the oldest ones have no status beside the field paid.
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

// readBooking reads a charge's balance transaction where it is expanded; nil if it is not.
func readBooking(v value) *ledger.Booking {
	var b ledger.Booking
	var m fields
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

func (r *reader) refund(v value, depth int) bool { return r.refundOf(v, depth, "") }

// refundOf reads a refund, of a charge where it stands in one.
func (r *reader) refundOf(v value, depth int, charge string) bool {
	f := ledger.Refund{Charge: charge}
	var m fields
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
	r.name(readLink(intent), f.Charge)
	r.facts.Refunds = append(r.facts.Refunds, f)
	r.inside(intent, depth, r.intent)
	r.inside(of, depth, r.charge)
	return true
}

func (r *reader) dispute(v value, depth int) bool { return r.disputeOf(v, depth, "") }

// disputeOf reads a dispute, of a charge where it stands in one.
func (r *reader) disputeOf(v value, depth int, charge string) bool {
	d := ledger.Dispute{Charge: charge}
	var m fields
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
	if d.ID == "" && d.Charge != "" { // the oldest versions give it none
		d.ID = fold.DisputeOf(d.Charge)
	}
	if m.unreadable || !usableID(d.ID) || d.Status == "" {
		return false
	}
	r.name(readLink(intent), d.Charge)
	r.facts.Disputes = append(r.facts.Disputes, d)
	r.inside(intent, depth, r.intent)
	r.inside(of, depth, r.charge)
	return true
}

func (m *fields) transaction(v value) (t ledger.Transaction) {
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

// session reads a Checkout Session: it links, and tells how its payment stands.
func (r *reader) session(v value, depth int) bool {
	var s ledger.Session
	var m fields
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
	r.name(readLink(intent), "")
	r.facts.Sessions = append(r.facts.Sessions, s)
	r.inside(intent, depth, r.intent)
	return true
}
