package fold

import (
	"cmp"
	"slices"
	"strings"
)

// Statuses of a PaymentIntent. https://docs.stripe.com/payments/paymentintents/lifecycle
const (
	statusRequiresCapture = "requires_capture"
	statusSucceeded       = "succeeded"
	statusCanceled        = "canceled"
)

// Statuses are those that Stripe documents for a PaymentIntent, in the order that decides between
// two snapshots of one second. The last two are terminal.
var Statuses = [...]string{"requires_payment_method", "requires_confirmation", "requires_action", "processing",
	statusRequiresCapture, statusSucceeded, statusCanceled}

// typeCreated is the one event type whose snapshot is beaten by any other of its second: a
// PaymentIntent that is created and confirmed in one call has its later states in that second too.
const typeCreated = "payment_intent.created"

func terminal(status string) bool { return status == statusSucceeded || status == statusCanceled }

// foldIntents finds the snapshots that stand, in ascending order: the last one is the payment's
// state.
func (f *folder) foldIntents() {
	for _, s := range f.intents {
		for _, amount := range []int64{s.of.Amount, s.of.AmountCapturable, s.of.AmountReceived} {
			f.known(amount)
		}
		f.waited = f.waited || s.of.Status == statusRequiresCapture || s.of.Status == "processing"
	}
	f.standing = f.freshIntents()
	var seen, fetched struct{ succeeded, canceled bool }
	for _, s := range f.standing {
		succeeded, canceled := s.of.Status == statusSucceeded, s.of.Status == statusCanceled
		seen.succeeded, seen.canceled = seen.succeeded || succeeded, seen.canceled || canceled
		if s.by.Fetched {
			fetched.succeeded, fetched.canceled = fetched.succeeded || succeeded, fetched.canceled || canceled
		}
	}
	decided := ""
	switch {
	case seen.succeeded && seen.canceled:
		f.flag(FlagConflict)
		// Stripe's own answer decides; without one, money received beats a cancellation.
		if decided = statusSucceeded; fetched.canceled && !fetched.succeeded {
			decided = statusCanceled
		}
	case seen.succeeded:
		decided = statusSucceeded
	case seen.canceled:
		decided = statusCanceled
	}
	slices.SortStableFunc(f.standing, func(a, b snapshot[Intent]) int { return compareIntents(a, b, decided) })
}

// freshIntents returns the snapshots that count for the state: those that no later read of Stripe's
// API supersedes. A read that is older in content than a snapshot up to its time is stale: Stripe
// answered from a state of a moment before. It supersedes nothing and does not count.
func (f *folder) freshIntents() (standing []snapshot[Intent]) {
	if !slices.ContainsFunc(f.intents, func(s snapshot[Intent]) bool { return s.by.Fetched }) {
		return slices.Clone(f.intents)
	}
	stale := f.staleIntents()
	if !slices.Contains(stale, false) { // they contradict each other: none is better than another
		clear(stale)
	}
	var frontier int64 // when the newest read was made
	for i, s := range f.intents {
		if s.by.Fetched && !stale[i] {
			frontier = max(frontier, s.by.Created)
		}
	}
	for i, s := range f.intents {
		if !stale[i] && (frontier == 0 || s.by.Created > frontier || s.by.Fetched && s.by.Created == frontier) {
			standing = append(standing, s)
		}
	}
	return standing
}

// staleIntents reports of each snapshot whether it is a stale read.
func (f *folder) staleIntents() []bool {
	order := make([]int, len(f.intents))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(f.intents[a].by.Created, f.intents[b].by.Created) })
	stale := make([]bool, len(f.intents))
	var until mostShown // up to the second of the read
	for next := 0; len(order) > 0; order, next = order[next:], 0 {
		for now := f.intents[order[0]].by.Created; next < len(order) && f.intents[order[next]].by.Created == now; next++ {
			until.add(f.intents[order[next]].of)
		}
		for _, i := range order[:next] {
			stale[i] = f.intents[i].by.Fetched && until.exceeds(f.intents[i].of)
		}
	}
	return stale
}

// mostShown is the most that any of some snapshots shows.
type mostShown struct {
	terminal, charged bool
	received          map[string]int64 // the greatest amount by its currency
	ofAny             int64            // the greatest of all
}

func (m *mostShown) add(in *Intent) {
	m.terminal = m.terminal || terminal(in.Status)
	m.charged = m.charged || in.LatestCharge != ""
	if in.AmountReceived > 0 {
		if m.received == nil {
			m.received = map[string]int64{}
		}
		m.received[in.Currency] = max(m.received[in.Currency], in.AmountReceived)
		m.ofAny = max(m.ofAny, in.AmountReceived)
	}
}

// exceeds reports whether one of the snapshots shows more than a read does that was made after it.
// Amounts are compared where their currencies are equal, or one is unknown.
func (m *mostShown) exceeds(read *Intent) bool {
	if m.terminal && !terminal(read.Status) || m.charged && read.LatestCharge == "" {
		return true
	}
	received := m.ofAny
	if read.Currency != "" {
		received = max(m.received[read.Currency], m.received[""])
	}
	return read.Status != statusCanceled && received > max(0, read.AmountReceived)
}

// compareIntents orders snapshots; the greatest is the payment's state. The time of an event
// decides little, because Stripe's seconds are shared by events that follow each other: it stands
// behind the one thing that is sure (a terminal status is never left) and before what is likely.
func compareIntents(a, b snapshot[Intent], decided string) int {
	number := func(is bool) int {
		if is {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(number(decided != "" && a.of.Status == decided), number(decided != "" && b.of.Status == decided)),
		cmp.Compare(a.by.Created, b.by.Created),
		cmp.Compare(number(a.by.Type != typeCreated), number(b.by.Type != typeCreated)),
		cmp.Compare(slices.Index(Statuses[:], a.of.Status), slices.Index(Statuses[:], b.of.Status)),
		strings.Compare(a.by.ID, b.by.ID))
}

// describeAmount takes currency and amount from the best snapshot of the PaymentIntent that has
// them: a later one may leave them out.
func (f *folder) describeAmount() {
	p := f.payment
	for _, s := range slices.Backward(f.standing) {
		if s.of.Currency == "" {
			continue
		}
		if p.Currency != OrNull(s.of.Currency) {
			p.Amount = nil // the charge's is in another currency
		}
		p.Currency = OrNull(s.of.Currency)
		break
	}
	for _, s := range slices.Backward(f.standing) {
		if !s.of.HasAmount || s.of.Amount < 0 {
			continue
		}
		if s.of.Currency == "" || OrNull(s.of.Currency) == p.Currency {
			p.Amount = &s.of.Amount
		}
		break
	}
}

// describe fills in what one snapshot decides: the PaymentIntent's, and where that is silent the
// charge's.
func (f *folder) describe() {
	p := f.payment
	if f.best != nil {
		c := f.best.of
		p.ChargeStatus = OrNull(f.charge(c.ID).status())
		p.Currency = OrNull(c.Currency)
		if c.Amount >= 0 {
			p.Amount = &c.Amount
		}
		if len(f.standing) == 0 {
			p.LatestCharge, p.Customer, p.Description = OrNull(c.ID), OrNull(c.Customer), OrNull(c.Description)
			if c.Metadata != nil {
				p.Metadata = c.Metadata
			}
		}
	}
	if len(f.standing) == 0 {
		return
	}
	f.describeAmount()
	in := f.standing[len(f.standing)-1].of
	p.Status, p.Customer, p.Description, p.LastPaymentError = OrNull(in.Status), OrNull(in.Customer), OrNull(in.Description), in.LastError
	if in.Metadata != nil {
		p.Metadata = in.Metadata
	}
	if !terminal(in.Status) {
		p.AmountCapturable = max(0, in.AmountCapturable)
	}
	for _, s := range slices.Backward(f.standing) {
		if p.LatestCharge = OrNull(s.of.LatestCharge); p.LatestCharge != "" {
			break
		}
	}
}
