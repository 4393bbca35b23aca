package fold

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Facts are what an event states about one payment; the zero Facts state nothing. Amounts are in
// the minor unit of their currency and times in Unix seconds, 0 if unknown. An empty text is one
// that Stripe did not give.
type Facts struct {
	PaymentIntent string // the id of the PaymentIntent that the event is about; empty if it names none
	Charge        string // the id of the charge that it is about; empty if it names none
	Intents       []Intent
	Charges       []Charge
	Refunds       []Refund
	Disputes      []Dispute
	Sessions      []Session
}

// MaxID is the greatest length of an id or a currency in facts, in bytes: they become keys.
const MaxID = 255

// About reports whether the facts are about money, even if they name no payment.
func (f *Facts) About() bool {
	return len(f.Intents)+len(f.Charges)+len(f.Refunds)+len(f.Disputes)+len(f.Sessions) > 0
}

// Named returns the payment that the event itself names: its PaymentIntent, else its charge, else
// "".
func (f *Facts) Named() string {
	if f.PaymentIntent != "" {
		return f.PaymentIntent
	}
	return f.Charge
}

// Check returns an error for an id or currency that cannot be part of a key, and for a
// PaymentIntent or charge that the facts hold but do not name.
func (f *Facts) Check() error {
	var bad error
	id := func(id string) {
		if id == "" || len(id) > MaxID || strings.IndexByte(id, 0) >= 0 {
			bad = fmt.Errorf("%.40q is not an id that the ledger can hold", id)
		}
	}
	money := func(currency string) {
		if len(currency) > MaxID || strings.IndexByte(currency, 0) >= 0 {
			bad = fmt.Errorf("%.40q is not a currency that the ledger can hold", currency)
		}
	}
	id(cmp.Or(f.PaymentIntent, "none"))
	id(cmp.Or(f.Charge, "none"))
	f.Others(func(other string, _ bool) { id(other) })
	for i := range f.Intents {
		id(f.Intents[i].ID)
		money(f.Intents[i].Currency)
	}
	for i := range f.Charges {
		id(f.Charges[i].ID)
		money(f.Charges[i].Currency)
	}
	for i := range f.Refunds {
		id(f.Refunds[i].ID)
		money(f.Refunds[i].Currency)
	}
	for i := range f.Disputes {
		id(f.Disputes[i].ID)
		money(f.Disputes[i].Currency)
		for j := range f.Disputes[i].Transactions {
			id(f.Disputes[i].Transactions[j].ID)
			money(f.Disputes[i].Transactions[j].Currency)
		}
	}
	if len(f.Intents) > 0 && f.PaymentIntent == "" || len(f.Charges) > 0 && f.Charge == "" {
		return fmt.Errorf("the facts hold a PaymentIntent or a charge and do not name it")
	}
	return bad
}

// Others calls visit with every id in the facts, beside the one that names the payment, by which
// the payment is to be found, and whether it is the id of a charge. It may visit an id more than
// once, and one that the facts use for several things as each of them.
func (f *Facts) Others(visit func(id string, charge bool)) {
	target := f.Named()
	if target == "" {
		return
	}
	see := func(id string, charge bool) {
		if id != "" && id != target {
			visit(id, charge)
		}
	}
	f.eachCharge(func(id string) { see(id, true) })
	for i := range f.Intents {
		see(f.Intents[i].ID, false)
	}
	for i := range f.Refunds {
		see(f.Refunds[i].ID, false)
	}
	for i := range f.Disputes {
		see(f.Disputes[i].ID, false)
	}
	for i := range f.Sessions {
		see(f.Sessions[i].ID, false)
	}
}

// eachCharge calls visit with the id of every charge that is named; some are empty, some repeated.
func (f *Facts) eachCharge(visit func(id string)) {
	visit(f.Charge)
	for i := range f.Intents {
		visit(f.Intents[i].LatestCharge)
	}
	for i := range f.Charges {
		visit(f.Charges[i].ID)
	}
	for i := range f.Refunds {
		visit(f.Refunds[i].Charge)
	}
	for i := range f.Disputes {
		visit(f.Disputes[i].Charge)
	}
}

// Linked returns the charges that the facts link to their PaymentIntent, ascending, each once.
func (f *Facts) Linked() (charges []string) {
	if f.PaymentIntent == "" {
		return nil
	}
	f.eachCharge(func(id string) {
		if id != "" && id != f.PaymentIntent && (len(charges) == 0 || charges[len(charges)-1] != id) {
			charges = append(charges, id)
		}
	})
	slices.Sort(charges)
	return slices.Compact(charges)
}

// Intent is what a PaymentIntent looked like when an event was made.
// https://docs.stripe.com/api/payment_intents/object
type Intent struct {
	ID               string
	Status           string
	Currency         string // empty where an API version of 2026 leaves it out
	Amount           int64
	HasAmount        bool // API versions of 2026 do not promise an amount
	AmountCapturable int64
	AmountReceived   int64
	HasReceived      bool   // amount_received was in the body
	Customer         string // the customer, else the customer_account
	Description      string
	Metadata         map[string]string
	LatestCharge     string
	LastError        *PaymentError
	Created          int64
}

// PaymentError is why the last attempt to pay failed. Of Stripe's last_payment_error only these
// words are kept: the rest holds the payment method and a client_secret.
type PaymentError struct {
	Type        OrNull `json:"type"`
	Code        OrNull `json:"code"`
	DeclineCode OrNull `json:"decline_code"`
	Message     OrNull `json:"message"`
}

// Charge is what a charge looked like when an event was made.
// https://docs.stripe.com/api/charges/object
type Charge struct {
	ID             string
	Status         string // pending, succeeded, failed; "paid" of versions before 2015-02-18 is succeeded
	Currency       string
	Amount         int64
	AmountCaptured int64 // of a version that does not have it: Amount where Captured
	AmountRefunded int64 // as Stripe gives it, with what a partial capture released where that is in it
	Captured       bool
	Customer       string // the customer, else the customer_account
	Description    string
	Metadata       map[string]string
	FailureCode    string
	Created        int64
	Booking        *BalanceTransaction // nil unless the balance transaction came with the charge
}

// BalanceTransaction is what Stripe's balance says of a charge: its balance transaction, where an API read
// expanded it. Webhooks never do. https://docs.stripe.com/api/balance_transactions/object
type BalanceTransaction struct {
	ID       string
	Created  int64
	Fee      int64 // in Currency, the one the account is settled in
	Currency string
}

// Refund is what a refund looked like when an event was made.
// https://docs.stripe.com/api/refunds/object
type Refund struct {
	ID       string
	Charge   string // empty where Stripe gives none
	Status   string
	Currency string
	Amount   int64
	Reason   string
	Created  int64
	Booked   int64 // created of its balance transaction, where that was expanded
	Returned int64 // created of its failure_balance_transaction, where that was expanded
}

// Dispute is what a dispute looked like when an event was made.
// https://docs.stripe.com/api/disputes/object
type Dispute struct {
	ID           string // DisputeOf(Charge) where the oldest API versions give none
	Charge       string
	Status       string
	Currency     string
	Amount       int64
	Reason       string
	Created      int64
	Transactions []DisputeTransaction
}

// DisputeOf returns the id that stands for the dispute of a charge that Stripe gave no id.
func DisputeOf(charge string) string { return "dispute_of_" + charge }

// DisputeTransaction is money that a dispute moved, in the currency that the account is settled in:
// negative when it was withdrawn. https://docs.stripe.com/api/balance_transactions/object
type DisputeTransaction struct {
	ID       string
	Amount   int64
	Currency string
	Created  int64
}

// Session is what an event says about a Checkout Session: it links ids and moves no money.
// https://docs.stripe.com/api/checkout/sessions/object
type Session struct {
	ID            string
	PaymentStatus string // paid, unpaid, no_payment_required
}
