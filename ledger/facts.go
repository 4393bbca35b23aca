package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Facts are what an event states about one payment; the zero Facts state nothing. Amounts are in the
// minor unit of their currency, times in Unix seconds, 0 if unknown; an empty text is one Stripe did not give.
type Facts struct {
	PaymentIntent string // the id of the PaymentIntent the event is about, empty if it names none
	Charge        string // the id of the charge it is about, empty if it names none
	Intents       []Intent
	Charges       []Charge
	Refunds       []Refund
	Disputes      []Dispute
	Sessions      []Session
}

// About reports whether the facts are about money at all, though maybe not about a payment that they name.
func (f *Facts) About() bool {
	return len(f.Intents)+len(f.Charges)+len(f.Refunds)+len(f.Disputes)+len(f.Sessions) > 0
}

// named is the payment as the event alone names it: its PaymentIntent, else its charge, else none.
func (f *Facts) named() string {
	if f.PaymentIntent != "" {
		return f.PaymentIntent
	}
	return f.Charge
}

// check refuses ids that cannot be part of a key, and a PaymentIntent or charge that the facts do not name.
func (f *Facts) check() error {
	var bad error
	see := func(id string) {
		if id == "" || len(id) > maxID || strings.IndexByte(id, 0) >= 0 {
			bad = fmt.Errorf("%.40q is not an id the ledger can hold", id)
		}
	}
	see(cmp.Or(f.PaymentIntent, "none"))
	see(cmp.Or(f.Charge, "none"))
	f.others(see)
	money := func(currency string) {
		if len(currency) > maxID || strings.IndexByte(currency, 0) >= 0 {
			bad = fmt.Errorf("%.40q is not a currency the ledger can hold", currency)
		}
	}
	for i := range f.Intents {
		see(f.Intents[i].ID)
		money(f.Intents[i].Currency)
	}
	for i := range f.Charges {
		see(f.Charges[i].ID)
		money(f.Charges[i].Currency)
	}
	for i := range f.Refunds {
		see(f.Refunds[i].ID)
		money(f.Refunds[i].Currency)
	}
	for i := range f.Disputes {
		see(f.Disputes[i].ID)
		money(f.Disputes[i].Currency)
		for j := range f.Disputes[i].Transactions {
			see(f.Disputes[i].Transactions[j].ID)
		}
	}
	if len(f.Intents) > 0 && f.PaymentIntent == "" || len(f.Charges) > 0 && f.Charge == "" {
		return errors.New("its facts hold a PaymentIntent or a charge and do not name it")
	}
	return bad
}

// others visits every id in the facts that is to find the payment beside the one that names it.
func (f *Facts) others(visit func(id string)) {
	target := f.named()
	see := func(id string) {
		if id != "" && id != target && target != "" {
			visit(id)
		}
	}
	f.eachCharge(see)
	for i := range f.Intents {
		see(f.Intents[i].ID)
	}
	for i := range f.Refunds {
		see(f.Refunds[i].ID)
	}
	for i := range f.Disputes {
		see(f.Disputes[i].ID)
	}
	for i := range f.Sessions {
		see(f.Sessions[i].ID)
	}
}

// eachCharge visits the id of every charge that is named, some empty, some more than once.
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

// Intent is what a PaymentIntent looked like when an event was made.
// https://docs.stripe.com/api/payment_intents/object
type Intent struct {
	ID               string
	Status           string
	Currency         string
	Amount           int64
	HasAmount        bool // newer API versions do not promise an amount
	AmountCapturable int64
	AmountReceived   int64
	Customer         string
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

// Charge is what a charge looked like when an event was made. https://docs.stripe.com/api/charges/object
type Charge struct {
	ID             string
	Status         string
	Currency       string
	Amount         int64
	AmountCaptured int64 // of a version that does not have it: Amount where Captured
	AmountRefunded int64 // with what a partial capture released, in versions before 2025-03-31
	Captured       bool
	Customer       string
	Description    string
	Metadata       map[string]string
	FailureCode    string
	Created        int64
	Fee            *Fee // nil unless the balance transaction came with the charge
}

// Fee is what Stripe kept of a charge, in the currency it was settled in.
// https://docs.stripe.com/api/balance_transactions/object
type Fee struct {
	Amount   int64
	Currency string
}

// Refund is what a refund looked like when an event was made. https://docs.stripe.com/api/refunds/object
type Refund struct {
	ID       string
	Charge   string
	Status   string
	Currency string
	Amount   int64
	Reason   string
	Created  int64
}

// Dispute is what a dispute looked like when an event was made. https://docs.stripe.com/api/disputes/object
type Dispute struct {
	ID           string
	Charge       string
	Status       string
	Currency     string
	Amount       int64
	Reason       string
	Created      int64
	Transactions []Transaction
}

// Transaction is money that a dispute moved, in the currency the account is settled in: negative when it
// was withdrawn. https://docs.stripe.com/api/balance_transactions/object
type Transaction struct {
	ID       string
	Amount   int64
	Currency string
	Created  int64
}

// Session is what is told of a Checkout Session: it links and tells, and moves no money.
// https://docs.stripe.com/api/checkout/sessions/object
type Session struct {
	ID            string
	PaymentStatus string
}
