package fold

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Facts are what one event states about one payment; the zero Facts state nothing. Amounts are in
// the minor unit of their currency, times in Unix seconds. 0 is an unknown time, and an empty
// string is one that Stripe did not send.
type Facts struct {
	PaymentIntent string // id of the PaymentIntent that the event is about, if it names one
	Charge        string // id of the charge that the event is about, if it names one
	Intents       []Intent
	Charges       []Charge
	Refunds       []Refund
	Disputes      []Dispute
	Sessions      []Session
}

// MaxID is the maximum length of an id or a currency in bytes. Both become part of keys.
const MaxID = 255

// AboutPayment reports whether the facts hold an object of a payment, even if they do not say of
// which.
func (f *Facts) AboutPayment() bool {
	return len(f.Intents)+len(f.Charges)+len(f.Refunds)+len(f.Disputes)+len(f.Sessions) > 0
}

// PaymentID returns the id of the payment that the event itself names: its PaymentIntent, otherwise
// its charge, otherwise "".
func (f *Facts) PaymentID() string {
	if f.PaymentIntent != "" {
		return f.PaymentIntent
	}
	return f.Charge
}

// Check returns an error if an id or a currency cannot be part of a key, or if the facts hold a
// PaymentIntent or a charge and do not name one.
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
	f.EachOtherID(func(other string, _ bool) { id(other) })
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

// EachOtherID calls visit with every id by which the payment can be found, other than
// [Facts.PaymentID], and with whether it is the id of a charge. It may visit an id more than once.
// It visits nothing if the facts name no payment.
func (f *Facts) EachOtherID(visit func(id string, charge bool)) {
	target := f.PaymentID()
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

// eachCharge calls visit with the id of each charge in the facts. Ids may be empty or repeated.
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

// LinkedCharges returns the charges that the facts link to their PaymentIntent, ascending and
// distinct.
func (f *Facts) LinkedCharges() (charges []string) {
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

// Intent is the state of a PaymentIntent in an event.
// https://docs.stripe.com/api/payment_intents/object
type Intent struct {
	ID               string
	Status           string
	Currency         string // empty in API versions of 2026 that leave it out
	Amount           int64
	HasAmount        bool // false in API versions of 2026 that leave amount out
	AmountCapturable int64
	AmountReceived   int64
	HasReceived      bool   // amount_received was present
	Customer         string // customer, otherwise customer_account
	Description      string
	Metadata         map[string]string
	LatestCharge     string
	LastError        *PaymentError
	Created          int64
}

// PaymentError is why the last attempt to pay failed. Of Stripe's last_payment_error only these
// fields are kept: the rest holds the payment method and a client_secret.
type PaymentError struct {
	Type        OrNull `json:"type"`
	Code        OrNull `json:"code"`
	DeclineCode OrNull `json:"decline_code"`
	Message     OrNull `json:"message"`
}

// Charge is the state of a charge in an event. https://docs.stripe.com/api/charges/object
type Charge struct {
	ID                 string
	Status             string // pending, succeeded, failed; "paid" of versions before 2015-02-18 is succeeded
	Currency           string
	Amount             int64
	AmountCaptured     int64
	CaptureUnknown     bool  // captured, but without amount_captured, as in events from before 2020
	AmountRefunded     int64 // as Stripe reports it, which may include money that was never captured
	Captured           bool
	Customer           string // customer, otherwise customer_account
	Description        string
	Metadata           map[string]string
	FailureCode        string
	Created            int64
	BalanceTransaction *BalanceTransaction // nil unless an API read expanded it
}

// BalanceTransaction is the balance transaction of a charge. Only API reads expand it, webhooks
// never do. https://docs.stripe.com/api/balance_transactions/object
type BalanceTransaction struct {
	ID       string
	Created  int64
	Fee      int64  // in Currency
	Currency string // the account's settlement currency
}

// Refund is the state of a refund in an event. https://docs.stripe.com/api/refunds/object
type Refund struct {
	ID       string
	Charge   string // empty if Stripe sent none
	Status   string
	Currency string
	Amount   int64
	Reason   string
	Created  int64
	Booked   int64 // time of its balance transaction, if expanded
	Returned int64 // time of its failure_balance_transaction, if expanded
}

// Dispute is the state of a dispute in an event. https://docs.stripe.com/api/disputes/object
type Dispute struct {
	ID           string // DisputeOf(Charge) if Stripe sent none, as the oldest API versions do
	Charge       string
	Status       string
	Currency     string
	Amount       int64
	Reason       string
	Created      int64
	Transactions []DisputeTransaction
}

// DisputeOf returns the id that is used for a charge's dispute if Stripe sent none.
func DisputeOf(charge string) string { return "dispute_of_" + charge }

// DisputeTransaction is a balance transaction of a dispute, in the account's settlement currency.
// The amount is negative when money was withdrawn.
// https://docs.stripe.com/api/balance_transactions/object
type DisputeTransaction struct {
	ID       string
	Amount   int64
	Currency string
	Created  int64
}

// Session is the state of a Checkout Session in an event. It links ids and moves no money.
// https://docs.stripe.com/api/checkout/sessions/object
type Session struct {
	ID            string
	PaymentStatus string // paid, unpaid, no_payment_required
}
