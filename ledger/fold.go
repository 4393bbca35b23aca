package ledger

import "slices"

// state is what a payment's facts fold to. Folding is a union: its result does not depend on the
// order of the facts, nor (but for the number of events) on how often one comes. The rules are
// those for which that holds: one snapshot wins by a total order, money is a maximum or a sum over
// things with an id, times are the least and the greatest, and what was ever seen stays seen.
// Nothing is ever added up as a delta.
type state struct {
	id            string
	account       string // the bytewise smallest non-empty one
	intentCreated int64  // of the PaymentIntent; 0 while unknown
	received      int64  // the greatest amount_received of any snapshot
	firstCreated  int64  // of the events that tell their time; 0 while none did
	lastCreated   int64
	events        uint64 // distinct ids
	frontier      int64  // when the newest PaymentIntent read from the API was read; snapshots up to then do not count
	succeeded     bool   // a snapshot of this status was seen
	canceled      bool

	// The winning snapshots and what they won by; nil while no PaymentIntent, no charge was seen.
	// Of the charge's only what is needed is kept once there is a PaymentIntent.
	intent     *Intent
	intentFrom origin
	charge     *Charge
	chargeFrom origin
	charges    []chargeState  // by id
	refunds    []refundState  // by id
	disputes   []disputeState // by id

	rows []uint64 // it was folded from, in the order they came: of the arrival, and not folded
}

// origin is the event a snapshot came with.
type origin struct {
	at       int64 // its created
	creation bool  // it is payment_intent.created
	event    string
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

// fold makes the state of a payment from all of its rows.
func fold(id string, rows []*row) *state {
	s := &state{id: id}
	for _, r := range rows {
		s.frontier = max(s.frontier, r.fetchedIntent())
	}
	for _, r := range rows {
		s.absorb(r)
	}
	return s
}

// fetchedIntent is when the row's PaymentIntent was read from Stripe's API; 0 if it was not.
func (r *row) fetchedIntent() int64 {
	if r.source == Fetch && len(r.facts.Intents) > 0 {
		return r.created
	}
	return 0
}

// absorb folds one event's facts in. The event must not have been folded into this state before, and
// it must not move the frontier: what had lost to a snapshot that no longer counts is not kept here.
func (s *state) absorb(r *row) {
	s.events++
	if r.account != "" && (s.account == "" || r.account < s.account) {
		s.account = r.account
	}
	s.firstCreated = earliest(s.firstCreated, r.created)
	s.lastCreated = max(s.lastCreated, r.created)
	from := origin{r.created, r.typ == typeCreated, r.id}
	for i := range r.facts.Intents {
		s.absorbIntent(&r.facts.Intents[i], from, r.source)
	}
	for i := range r.facts.Charges {
		s.absorbCharge(&r.facts.Charges[i], from, r)
	}
	for i := range r.facts.Refunds {
		s.absorbRefund(&r.facts.Refunds[i], from)
	}
	for i := range r.facts.Disputes {
		s.absorbDispute(&r.facts.Disputes[i], from)
	}
}

// before compares two times, of which 0 is none.
func before(a, b int64) bool { return a != 0 && (b == 0 || a < b) }

// earliest of two times, of which 0 is none.
func earliest(a, b int64) int64 {
	if before(b, a) {
		return b
	}
	return a
}

func (s *state) absorbIntent(in *Intent, from origin, source Source) {
	s.received = max(s.received, in.AmountReceived)
	s.intentCreated = earliest(s.intentCreated, in.Created)
	if s.frontier != 0 && (from.at < s.frontier || from.at == s.frontier && source != Fetch) {
		return // Stripe's API told later how things stand
	}
	s.succeeded = s.succeeded || in.Status == statusSucceeded
	s.canceled = s.canceled || in.Status == statusCanceled
	if s.intent == nil || s.loses(in, from) {
		s.intent, s.intentFrom = in, from
	}
	s.slimCharge()
}

// loses tells whether another snapshot beats the winning one. The time of an event decides little:
// Stripe's seconds are shared by events that follow each other, so it stands behind the one
// thing that is sure (a terminal status is never left) and before what is likely.
func (s *state) loses(in *Intent, from origin) bool {
	if a, b := terminality(in.Status), terminality(s.intent.Status); a != b {
		return a > b
	}
	if from.at != s.intentFrom.at {
		return from.at > s.intentFrom.at
	}
	if from.creation != s.intentFrom.creation {
		return s.intentFrom.creation
	}
	if a, b := slices.Index(Statuses[:], in.Status), slices.Index(Statuses[:], s.intent.Status); a != b {
		return a > b
	}
	return from.event > s.intentFrom.event
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

// created is the payment's own time: its PaymentIntent's, else its first charge's, else its first event's.
func (s *state) created() int64 {
	if s.intentCreated != 0 {
		return s.intentCreated
	}
	var first int64
	for i := range s.charges {
		first = earliest(first, s.charges[i].created)
	}
	if first != 0 {
		return first
	}
	return s.firstCreated
}

// currency of the payment, empty while neither a PaymentIntent nor a charge told it.
func (s *state) currency() string {
	switch {
	case s.intent != nil:
		return s.intent.Currency
	case s.charge != nil:
		return s.charge.Currency
	}
	return ""
}

// amountReceived is what came in, whatever went back later. A canceled PaymentIntent keeps nothing of
// a transfer that was partly funded; what a charge of its captured stays.
func (s *state) amountReceived() int64 {
	var captured int64
	for i := range s.charges {
		if s.charges[i].status == statusSucceeded {
			captured += s.charges[i].captured
		}
	}
	if s.intent != nil && s.intent.Status == statusCanceled {
		return captured
	}
	return max(s.received, captured)
}
