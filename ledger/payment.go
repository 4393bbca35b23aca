package ledger

import (
	"maps"
	"slices"
)

// state is what a payment's facts fold to. Folding is a union: its result does not depend on the
// order of the facts, nor (but for the number of events) on how often one comes. The rules are
// those for which that holds: one snapshot wins by a total order, money is a maximum, times are
// the least and the greatest, and what was ever seen stays seen. Nothing is ever added up as a delta.
type state struct {
	id            string
	account       string // the bytewise smallest non-empty one
	intentCreated int64  // of the PaymentIntent; 0 while unknown
	received      int64  // the greatest amount_received of any snapshot
	firstCreated  int64  // of the events that tell their time; 0 while none did
	lastCreated   int64
	events        uint64 // distinct ids
	succeeded     bool   // a snapshot of this status was seen
	canceled      bool

	// The winning snapshot and what it won by; intent is nil while no PaymentIntent was seen.
	intent   *Intent
	at       int64  // its event's created
	creation bool   // its event is payment_intent.created
	eventID  string // its event
}

// Statuses of a PaymentIntent. https://docs.stripe.com/payments/paymentintents/lifecycle
const (
	statusSucceeded = "succeeded"
	statusCanceled  = "canceled"
)

// Statuses are those that Stripe documents for a PaymentIntent. The first five are in the order that
// decides between two snapshots of one second; the last two are terminal.
var Statuses = [...]string{"requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture",
	statusSucceeded, statusCanceled}

// typeCreated is the one event type whose snapshot loses to any other of its second: an intent
// created and confirmed in one call has its later states in that second too.
const typeCreated = "payment_intent.created"

// absorb folds one event's facts in. The event must not have been folded into this state before.
func (s *state) absorb(r *row) {
	s.events++
	if r.account != "" && (s.account == "" || r.account < s.account) {
		s.account = r.account
	}
	if r.created != 0 {
		if s.firstCreated == 0 || r.created < s.firstCreated {
			s.firstCreated = r.created
		}
		s.lastCreated = max(s.lastCreated, r.created)
	}
	if r.facts.Intent != nil {
		s.absorbIntent(r.facts.Intent, r)
	}
}

func (s *state) absorbIntent(in *Intent, r *row) {
	s.received = max(s.received, in.AmountReceived)
	s.succeeded = s.succeeded || in.Status == statusSucceeded
	s.canceled = s.canceled || in.Status == statusCanceled
	if in.Created != 0 && (s.intentCreated == 0 || in.Created < s.intentCreated) {
		s.intentCreated = in.Created
	}
	if creation := r.typ == typeCreated; s.intent == nil || s.loses(in, r.created, creation, r.id) {
		s.intent, s.at, s.creation, s.eventID = in, r.created, creation, r.id
	}
}

// loses tells whether another snapshot beats the winning one. The time of an event decides little:
// Stripe's seconds are shared by events that follow each other, so it stands behind the one
// thing that is sure (a terminal status is never left) and before what is likely.
func (s *state) loses(in *Intent, at int64, creation bool, eventID string) bool {
	if a, b := terminality(in.Status), terminality(s.intent.Status); a != b {
		return a > b
	}
	if at != s.at {
		return at > s.at
	}
	if creation != s.creation {
		return s.creation
	}
	if a, b := slices.Index(Statuses[:], in.Status), slices.Index(Statuses[:], s.intent.Status); a != b {
		return a > b
	}
	return eventID > s.eventID
}

// terminality: a terminal status beats any other, and money received beats a cancellation.
func terminality(status string) int {
	switch status {
	case statusSucceeded:
		return 2
	case statusCanceled:
		return 1
	}
	return 0
}

// created is the payment's own time: its PaymentIntent's, else its first event's.
func (s *state) created() int64 {
	if s.intentCreated != 0 {
		return s.intentCreated
	}
	return s.firstCreated
}

// payment is the state as the outside sees it.
func (s *state) payment(livemode bool) *Payment {
	p := &Payment{
		Object: "payment", ID: s.id, Account: OrNull(s.account), Livemode: livemode,
		Metadata: map[string]string{}, Refunds: []Refund{}, Disputes: []Dispute{}, Flags: []string{},
		Created: OrNullTime(s.created()), Updated: OrNullTime(s.lastCreated), Events: s.events,
	}
	if in := s.intent; in != nil {
		p.Status, p.Currency = OrNull(in.Status), OrNull(in.Currency)
		p.Customer, p.Description, p.LatestCharge = OrNull(in.Customer), OrNull(in.Description), OrNull(in.LatestCharge)
		p.LastPaymentError = in.LastError
		if in.HasAmount {
			p.Amount = &in.Amount
		}
		if terminality(in.Status) == 0 {
			p.AmountCapturable = in.AmountCapturable
		}
		if in.Status != statusCanceled { // a canceled payment keeps nothing of what had come in
			p.AmountReceived = s.received
		}
		if in.Metadata != nil {
			p.Metadata = in.Metadata
		}
	}
	if s.succeeded && s.canceled {
		p.Flags = append(p.Flags, FlagConflict)
	}
	p.AmountNet = p.AmountReceived - p.AmountRefunded - p.DisputeWithdrawn + p.DisputeReinstated
	return p
}

// FlagConflict marks a payment that was seen in both terminal statuses.
const FlagConflict = "conflict"

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
	Refunds           []Refund          `json:"refunds"`
	Disputes          []Dispute         `json:"disputes"`
	Flags             []string          `json:"flags"`
	Created           OrNullTime        `json:"created"`
	Updated           OrNullTime        `json:"updated"`
	Events            uint64            `json:"events"`
}

// Refund is money on its way back to the customer.
type Refund struct {
	ID      string     `json:"id"`
	Amount  int64      `json:"amount"`
	Status  OrNull     `json:"status"`
	Charge  OrNull     `json:"charge"`
	Created OrNullTime `json:"created"`
}

// Dispute is a customer's claim at the bank.
type Dispute struct {
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
