package fold

import (
	"math"
	"slices"
)

// Stripe added amount_captured to charges of all API versions in 2020. Events from before do not
// have it: an older charge that was captured in part shows its whole amount, and the rest, which
// was released, as amount_refunded.

// resolveCaptures computes the captured amount of the snapshots that have none. A charge of that
// time was captured only once, so its snapshots share the amount.
func (f *folder) resolveCaptures() {
	only := f.onlyCapturedCharge()
	for i := range f.charges {
		c := &f.charges[i]
		if !slices.ContainsFunc(c.counted, func(s snapshot[Charge]) bool { return s.object.CaptureUnknown }) {
			continue
		}
		c.resolved = f.capturedAmount(c, c == only)
		for j := range c.counted {
			if s := &c.counted[j]; s.object.CaptureUnknown {
				resolved := *s.object // the facts must not be modified
				resolved.AmountCaptured = c.resolved
				s.object = &resolved
			}
		}
	}
}

// capturedAmount returns what was captured of a charge with snapshots that do not have
// amount_captured. The evidence is, in this order: another snapshot that has it; the
// amount_received of the PaymentIntent, if this is its only captured charge; charge.captured, at
// whose time amount_refunded is only what the capture released. Without any of these the whole
// amount counts as captured, as for a charge that was captured when it was created. The result is
// negative, and so unknown, if the charge's amount is.
func (f *folder) capturedAmount(c *chargeFacts, only bool) int64 {
	var shown, captured, received int64
	amount := int64(math.MinInt64)
	for _, s := range c.counted {
		o := s.object
		if !o.CaptureUnknown {
			shown = max(shown, o.AmountCaptured)
			continue
		}
		amount = max(amount, o.Amount)
		if s.event.Type == typeCaptured && !s.event.Fetched && o.Amount > 0 {
			captured = max(captured, o.Amount-max(0, o.AmountRefunded))
		}
	}
	if only && f.payment.Status != statusCanceled {
		for _, s := range f.countedIntents {
			received = max(received, s.object.AmountReceived)
		}
	}
	switch {
	case shown > 0:
		return shown
	case received > 0:
		return min(received, amount)
	case captured > 0: // a capture does not release the whole amount
		return captured
	}
	return amount
}
