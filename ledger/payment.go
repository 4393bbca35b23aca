package ledger

import (
	"cmp"
	"maps"
	"slices"
)

// payment is the state as the outside sees it.
func (s *state) payment(livemode bool) *Payment {
	movements, leftOut := s.movements()
	return s.view(livemode, movements, leftOut)
}

func (s *state) view(livemode bool, movements []movement, leftOut bool) *Payment {
	p := &Payment{
		Object: "payment", ID: s.id, Account: OrNull(s.account), Livemode: livemode,
		Metadata: map[string]string{}, Refunds: []PaymentRefund{}, Disputes: []PaymentDispute{}, Flags: []string{},
		Created: OrNullTime(s.created()), Updated: OrNullTime(s.lastCreated), Events: s.events,
	}
	switch in, c := s.intent, s.charge; {
	case in != nil:
		p.Status, p.Currency = OrNull(in.Status), OrNull(in.Currency)
		p.Customer, p.Description, p.LatestCharge = OrNull(in.Customer), OrNull(in.Description), OrNull(in.LatestCharge)
		p.LastPaymentError = in.LastError
		if in.HasAmount {
			p.Amount = &in.Amount
		}
		if terminality(in.Status) == 0 {
			p.AmountCapturable = in.AmountCapturable
		}
		if in.Metadata != nil {
			p.Metadata = in.Metadata
		}
	case c != nil:
		p.Currency, p.Amount, p.LatestCharge = OrNull(c.Currency), &c.Amount, OrNull(c.ID)
		p.Customer, p.Description = OrNull(c.Customer), OrNull(c.Description)
		if c.Metadata != nil {
			p.Metadata = c.Metadata
		}
	}
	var sum amounts
	for _, m := range movements {
		sum.add(m.amounts)
	}
	p.AmountReceived, p.AmountRefunded = sum.received, sum.refunded
	p.DisputeWithdrawn, p.DisputeReinstated, p.AmountNet = sum.withdrawn, sum.reinstated, sum.net()
	if s.succeeded && s.canceled {
		p.Flags = append(p.Flags, FlagConflict)
	}
	if leftOut {
		p.Flags = append(p.Flags, FlagCurrency)
	}
	p.list(s)
	return p
}

// list fills in refunds and disputes, oldest first.
func (p *Payment) list(s *state) {
	for i := range s.refunds {
		f := &s.refunds[i]
		p.Refunds = append(p.Refunds, PaymentRefund{f.ID, f.Amount, OrNull(f.Status), OrNull(f.Charge), OrNullTime(f.Created)})
	}
	for i := range s.disputes {
		d := &s.disputes[i]
		p.Disputes = append(p.Disputes, PaymentDispute{d.ID, OrNull(d.Status), d.Amount, OrNull(d.Reason), OrNullTime(d.Created)})
	}
	// Both are in the order of their ids by now.
	slices.SortStableFunc(p.Refunds, func(a, b PaymentRefund) int { return cmp.Compare(a.Created, b.Created) })
	slices.SortStableFunc(p.Disputes, func(a, b PaymentDispute) int { return cmp.Compare(a.Created, b.Created) })
}

// Flags mark what a person should look at.
const (
	FlagConflict = "conflict" // the payment was seen in both terminal statuses
	FlagCurrency = "currency" // money of a dispute is left out: it is in another currency
)

// Payment is a payment as it is shown, under Stripe's own names where Stripe has one. Amounts are in
// the currency's minor unit, 0 where nothing is known; see [Decimal].
type Payment struct {
	Object            string            `json:"object"`
	ID                string            `json:"id"`
	Account           OrNull            `json:"account"`
	Livemode          bool              `json:"livemode"`
	Status            OrNull            `json:"status"`
	Currency          OrNull            `json:"currency"`
	Amount            *int64            `json:"amount"`
	AmountCapturable  int64             `json:"amount_capturable"`
	AmountReceived    int64             `json:"amount_received"`
	AmountRefunded    int64             `json:"amount_refunded"`
	DisputeWithdrawn  int64             `json:"dispute_withdrawn"`
	DisputeReinstated int64             `json:"dispute_reinstated"`
	AmountNet         int64             `json:"amount_net"`
	Customer          OrNull            `json:"customer"`
	Description       OrNull            `json:"description"`
	Metadata          map[string]string `json:"metadata"`
	LatestCharge      OrNull            `json:"latest_charge"`
	LastPaymentError  *PaymentError     `json:"last_payment_error"`
	Refunds           []PaymentRefund   `json:"refunds"`
	Disputes          []PaymentDispute  `json:"disputes"`
	Flags             []string          `json:"flags"`
	Created           OrNullTime        `json:"created"`
	Updated           OrNullTime        `json:"updated"`
	Events            uint64            `json:"events"`
}

// PaymentRefund is money on its way back to the customer.
type PaymentRefund struct {
	ID      string     `json:"id"`
	Amount  int64      `json:"amount"`
	Status  OrNull     `json:"status"`
	Charge  OrNull     `json:"charge"`
	Created OrNullTime `json:"created"`
}

// PaymentDispute is a customer's claim at the bank.
type PaymentDispute struct {
	ID      string     `json:"id"`
	Status  OrNull     `json:"status"`
	Amount  int64      `json:"amount"`
	Reason  OrNull     `json:"reason"`
	Created OrNullTime `json:"created"`
}

// tellsTheSame reports whether two views differ in nothing but events and updated.
func (p *Payment) tellsTheSame(q *Payment) bool {
	if (p.Amount == nil) != (q.Amount == nil) || p.Amount != nil && *p.Amount != *q.Amount {
		return false
	}
	if (p.LastPaymentError == nil) != (q.LastPaymentError == nil) ||
		p.LastPaymentError != nil && *p.LastPaymentError != *q.LastPaymentError {
		return false
	}
	return p.Account == q.Account && p.Status == q.Status && p.Currency == q.Currency &&
		p.AmountCapturable == q.AmountCapturable && p.AmountReceived == q.AmountReceived && p.AmountRefunded == q.AmountRefunded &&
		p.DisputeWithdrawn == q.DisputeWithdrawn && p.DisputeReinstated == q.DisputeReinstated &&
		p.Customer == q.Customer && p.Description == q.Description && p.LatestCharge == q.LatestCharge &&
		p.Created == q.Created && maps.Equal(p.Metadata, q.Metadata) && slices.Equal(p.Flags, q.Flags) &&
		slices.Equal(p.Refunds, q.Refunds) && slices.Equal(p.Disputes, q.Disputes)
}
