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

// Statuses are the statuses that Stripe documents for a PaymentIntent, in the order that decides
// between two snapshots of one second. The last two are final.
var Statuses = [...]string{"requires_payment_method", "requires_confirmation", "requires_action", "processing",
	statusRequiresCapture, statusSucceeded, statusCanceled}

// typeIntentCreated is the one event type whose snapshot loses to every other of its second: a
// PaymentIntent that is created and confirmed in one call reaches its later states in the same
// second.
const typeIntentCreated = "payment_intent.created"

func terminal(status string) bool { return status == statusSucceeded || status == statusCanceled }

// foldIntents selects the snapshots that count for the state and sorts them: the last one is the
// payment's state.
func (f *folder) foldIntents() {
	for _, s := range f.intents {
		for _, amount := range []int64{s.object.Amount, s.object.AmountCapturable, s.object.AmountReceived} {
			f.checkAmount(amount)
		}
		f.uncaptured = f.uncaptured || s.object.Status == statusRequiresCapture || s.object.Status == "processing"
	}
	f.effective = f.effectiveIntents()
	var seen, fetched struct{ succeeded, canceled bool }
	for _, s := range f.effective {
		succeeded, canceled := s.object.Status == statusSucceeded, s.object.Status == statusCanceled
		seen.succeeded, seen.canceled = seen.succeeded || succeeded, seen.canceled || canceled
		if s.event.Fetched {
			fetched.succeeded, fetched.canceled = fetched.succeeded || succeeded, fetched.canceled || canceled
		}
	}
	decided := ""
	switch {
	case seen.succeeded && seen.canceled:
		f.flag(FlagConflict)
		// What was read from the API decides, otherwise received money.
		if decided = statusSucceeded; fetched.canceled && !fetched.succeeded {
			decided = statusCanceled
		}
	case seen.succeeded:
		decided = statusSucceeded
	case seen.canceled:
		decided = statusCanceled
	}
	slices.SortStableFunc(f.effective, func(a, b snapshot[Intent]) int { return compareIntents(a, b, decided) })
}

// effectiveIntents returns the snapshots that count for the state: those that no later API read
// replaces. A stale read (see staleIntents) replaces nothing and does not count.
func (f *folder) effectiveIntents() (effective []snapshot[Intent]) {
	if !slices.ContainsFunc(f.intents, func(s snapshot[Intent]) bool { return s.event.Fetched }) {
		return slices.Clone(f.intents)
	}
	stale := f.staleIntents()
	if !slices.Contains(stale, false) { // all are stale reads, none better than another
		clear(stale)
	}
	var frontier int64 // time of the newest read
	for i, s := range f.intents {
		if s.event.Fetched && !stale[i] {
			frontier = max(frontier, s.event.Created)
		}
	}
	for i, s := range f.intents {
		if !stale[i] && (frontier == 0 || s.event.Created > frontier || s.event.Fetched && s.event.Created == frontier) {
			effective = append(effective, s)
		}
	}
	return effective
}

// staleIntents reports for each snapshot whether it is a stale read: an API read that shows less
// than some snapshot up to its time. Stripe then answered from an older state.
func (f *folder) staleIntents() []bool {
	order := make([]int, len(f.intents))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(f.intents[a].event.Created, f.intents[b].event.Created) })
	stale := make([]bool, len(f.intents))
	var until mostShown // up to and with the second of the read
	for next := 0; len(order) > 0; order, next = order[next:], 0 {
		for now := f.intents[order[0]].event.Created; next < len(order) && f.intents[order[next]].event.Created == now; next++ {
			until.add(f.intents[order[next]].object)
		}
		for _, i := range order[:next] {
			stale[i] = f.intents[i].event.Fetched && until.exceeds(f.intents[i].object)
		}
	}
	return stale
}

// mostShown is the most that any of a set of snapshots shows.
type mostShown struct {
	terminal, charged bool
	received          map[string]int64 // maximum by currency
	ofAny             int64            // maximum over all currencies
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

// exceeds reports whether a snapshot shows more than a read that was made after it. Amounts are
// compared if their currencies are equal or one is unknown.
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

// compareIntents orders snapshots; the greatest is the payment's state. The final status decides
// before the time of the event, because Stripe's times have seconds only and events that follow
// each other share one.
func compareIntents(a, b snapshot[Intent], decided string) int {
	number := func(is bool) int {
		if is {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(number(decided != "" && a.object.Status == decided), number(decided != "" && b.object.Status == decided)),
		cmp.Compare(a.event.Created, b.event.Created),
		cmp.Compare(number(a.event.Type != typeIntentCreated), number(b.event.Type != typeIntentCreated)),
		cmp.Compare(slices.Index(Statuses[:], a.object.Status), slices.Index(Statuses[:], b.object.Status)),
		strings.Compare(a.event.ID, b.event.ID))
}

// describeAmount takes currency and amount from the best PaymentIntent snapshot that has them,
// because a later snapshot may leave them out.
func (f *folder) describeAmount() {
	p := f.payment
	for _, s := range slices.Backward(f.effective) {
		if s.object.Currency == "" {
			continue
		}
		if p.Currency != OrNull(s.object.Currency) {
			p.Amount = nil // the charge's amount is in another currency
		}
		p.Currency = OrNull(s.object.Currency)
		break
	}
	for _, s := range slices.Backward(f.effective) {
		if !s.object.HasAmount || s.object.Amount < 0 {
			continue
		}
		if s.object.Currency == "" || OrNull(s.object.Currency) == p.Currency {
			p.Amount = &s.object.Amount
		}
		break
	}
}

// describe fills in the fields that one snapshot decides: the PaymentIntent's, and where it has
// none the charge's.
func (f *folder) describe() {
	p := f.payment
	p.AmountCapturable = new(int64)
	if f.bestCharge != nil {
		c := f.bestCharge.object
		p.ChargeStatus = OrNull(f.charge(c.ID).status())
		p.Currency = OrNull(c.Currency)
		p.Amount = orUnknown(c.Amount)
		if len(f.effective) == 0 {
			p.LatestCharge, p.Customer, p.Description = OrNull(c.ID), OrNull(c.Customer), OrNull(c.Description)
			if c.Metadata != nil {
				p.Metadata = c.Metadata
			}
		}
	}
	if len(f.effective) == 0 {
		return
	}
	f.describeAmount()
	in := f.effective[len(f.effective)-1].object
	p.Status, p.Customer, p.Description, p.LastPaymentError = OrNull(in.Status), OrNull(in.Customer), OrNull(in.Description), in.LastError
	if in.Metadata != nil {
		p.Metadata = in.Metadata
	}
	if !terminal(in.Status) {
		p.AmountCapturable = orUnknown(in.AmountCapturable)
	}
	for _, s := range slices.Backward(f.effective) {
		if p.LatestCharge = OrNull(s.object.LatestCharge); p.LatestCharge != "" {
			break
		}
	}
}
