package ledger

import (
	"cmp"
	"slices"
	"strings"
)

// chargeState is what one charge's facts fold to.
type chargeState struct {
	id         string
	status     string // the furthest: pending, succeeded, failed
	amount     int64  // the greatest, as is captured
	captured   int64
	capturable bool         // no snapshot says that it was captured
	refunded   []refundStep // by total: each amount_refunded there was, without what was only released
	capturedAt int64        // of the last charge.captured; 0 while there was none
	created    int64
	fee        *Fee
}

// refundStep is a sum that a charge said was refunded, and the first event that told it.
type refundStep struct{ total, at int64 }

// refunds are the single refunds that the sums of a charge tell of: how much each time, and when at the latest. What a
// later event tells of a smaller sum, an earlier one of a greater has told already.
func (c *chargeState) refunds() []refundStep {
	list := slices.Clone(c.refunded)
	at := int64(0)
	for i := len(list) - 1; i >= 0; i-- {
		at = earliest(at, list[i].at)
		list[i].at = at
		if i > 0 {
			list[i].total -= list[i-1].total
		}
	}
	return list
}

// Statuses of a charge. A bank may take back a debit that had succeeded.
// https://docs.stripe.com/api/charges/object#charge_object-status
const (
	chargePending = "pending"
	chargeFailed  = "failed"
)

func chargeRank(status string) int {
	return slices.Index([]string{chargePending, statusSucceeded, chargeFailed}, status)
}

// typeCaptured is the event that tells when a charge was captured.
const typeCaptured = "charge.captured"

// releaseIsRefund: API versions before this one book the part of an authorisation that was not captured as a
// refund. https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow
func releaseIsRefund(apiVersion string) bool { return apiVersion < "2025-03-31" }

// at finds a thing by its id in a list ordered by it, or makes its place.
func at[T any](list *[]T, id string, key func(*T) string) *T {
	i, found := slices.BinarySearchFunc(*list, id, func(t T, id string) int { return strings.Compare(key(&t), id) })
	if !found {
		var none T
		*list = slices.Insert(*list, i, none)
	}
	return &(*list)[i]
}

func (s *state) absorbCharge(in *Charge, from origin, r *row) {
	c := at(&s.charges, in.ID, func(c *chargeState) string { return c.id })
	if c.id == "" {
		c.id, c.status, c.capturable = in.ID, in.Status, true
	}
	if a, b := chargeRank(in.Status), chargeRank(c.status); a > b || a == b && in.Status > c.status {
		c.status = in.Status
	}
	c.amount = max(c.amount, in.Amount)
	c.captured = max(c.captured, in.AmountCaptured)
	c.capturable = c.capturable && !in.Captured
	c.created = earliest(c.created, in.Created)
	if r.typ == typeCaptured {
		c.capturedAt = max(c.capturedAt, r.created)
	}
	if in.Fee != nil && (c.fee == nil || c.fee.less(in.Fee)) {
		c.fee = in.Fee
	}
	refunded := in.refunded(r.apiVersion)
	if refunded > 0 {
		i, found := slices.BinarySearchFunc(c.refunded, refunded, func(s refundStep, total int64) int { return cmp.Compare(s.total, total) })
		if !found {
			c.refunded = slices.Insert(c.refunded, i, refundStep{total: refunded, at: r.created})
		}
		c.refunded[i].at = earliest(c.refunded[i].at, r.created)
	}
	if s.charge == nil || s.chargeLoses(in, from) {
		s.charge, s.chargeFrom = in, from
	}
	s.slimCharge()
}

// refunded is what the snapshot says went back to the customer: in the versions that book the rest of a partial
// capture as a refund, without that.
func (c *Charge) refunded(apiVersion string) int64 {
	released := max(0, c.Amount-c.AmountCaptured)
	if c.Captured && releaseIsRefund(apiVersion) && c.AmountRefunded >= released {
		return c.AmountRefunded - released
	}
	return c.AmountRefunded
}

// less orders the fees told of one charge; Stripe tells one.
func (f *Fee) less(g *Fee) bool {
	return cmp.Or(cmp.Compare(f.Amount, g.Amount), strings.Compare(f.Currency, g.Currency)) < 0
}

// chargeLoses is [state.loses] among the payment's charges: money before a refusal, and either before a wait. One that was
// read from the API says nothing about the other charges; over events of its own it wins as the later one.
func (s *state) chargeLoses(in *Charge, from origin) bool {
	end := func(status string) int { return slices.Index([]string{chargeFailed, statusSucceeded}, status) }
	if a, b := end(in.Status), end(s.charge.Status); a != b {
		return a > b
	}
	if from.at != s.chargeFrom.at {
		return from.at > s.chargeFrom.at
	}
	return from.event > s.chargeFrom.event
}

// slimCharge drops from the winning charge what the PaymentIntent tells.
func (s *state) slimCharge() {
	if s.intent == nil || s.charge == nil || s.charge.Customer == "" && s.charge.Description == "" && s.charge.Metadata == nil {
		return
	}
	slim := *s.charge
	slim.Customer, slim.Description, slim.Metadata = "", "", nil
	s.charge = &slim
}

// refundState is what one refund's facts fold to.
type refundState struct {
	Refund // the winning snapshot
	from   origin
}

// Statuses of a refund. https://docs.stripe.com/api/refunds/object#refund_object-status
const (
	refundPending        = "pending"
	refundRequiresAction = "requires_action"
	refundSucceeded      = "succeeded"
	refundFailed         = "failed"
	refundCanceled       = "canceled"
)

// refundRank orders statuses as a refund goes through them; the way back from succeeded to failed is real.
func refundRank(status string) int {
	switch status {
	case refundPending, refundRequiresAction:
		return 1
	case refundSucceeded:
		return 2
	case refundFailed, refundCanceled:
		return 3
	}
	return 0
}

// outgoing: the refund takes money, though it may still be under way.
func (f *refundState) outgoing() bool { rank := refundRank(f.Status); return rank == 1 || rank == 2 }

// reversed: the refund took no money in the end.
func (f *refundState) reversed() bool { return refundRank(f.Status) == 3 }

func (s *state) absorbRefund(in *Refund, from origin) {
	f := at(&s.refunds, in.ID, func(f *refundState) string { return f.ID })
	charge := in.Charge
	if f.Charge != "" && (charge == "" || f.Charge < charge) {
		charge = f.Charge // one snapshot may leave it out
	}
	if f.ID == "" || f.loses(in, from) {
		f.Refund, f.from = *in, from
	}
	f.Charge = charge
}

func (f *refundState) loses(in *Refund, from origin) bool {
	if a, b := refundRank(in.Status), refundRank(f.Status); a != b {
		return a > b
	}
	if from.at != f.from.at {
		return from.at > f.from.at
	}
	return from.event > f.from.event
}

// releaseDelay is how long after the capture Stripe makes the refund that stands for what was released, in seconds.
const releaseDelay = 2

// release finds the refund that only stands for the part of the authorisation that was not captured; nil if there is none.
func (s *state) release(c *chargeState) (found *refundState) {
	released := c.amount - c.captured
	if released <= 0 || c.capturedAt == 0 {
		return nil
	}
	for i := range s.refunds {
		f := &s.refunds[i]
		if f.Charge != c.id || !f.outgoing() || f.Amount != released || f.Created == 0 || f.Created > c.capturedAt+releaseDelay ||
			f.Reason != "" && f.Reason != "expired_uncaptured_charge" {
			continue
		}
		if found == nil || before(f.Created, found.Created) { // of one second the least id, which comes first
			found = f
		}
	}
	return found
}

// chargeOf finds the charge a refund belongs to, if anything is known of it.
func (s *state) chargeOf(f *refundState) (i int, found bool) {
	return slices.BinarySearchFunc(s.charges, f.Charge, func(c chargeState, id string) int { return strings.Compare(c.id, id) })
}
