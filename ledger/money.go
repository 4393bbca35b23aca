package ledger

import "cmp"

// movement is money of one payment that moved at one time, in its currency's minor unit. A payment's
// amounts are the sums of its movements, and so are the totals of the days: they cannot differ.
type movement struct {
	at       int64 // Unix seconds, 0 if unknown
	currency string
	amounts
}

// amounts are the four ways in which money moves. None is negative.
type amounts struct{ received, refunded, withdrawn, reinstated int64 }

func (a *amounts) add(b amounts) {
	a.received += b.received
	a.refunded += b.refunded
	a.withdrawn += b.withdrawn
	a.reinstated += b.reinstated
}

func (a *amounts) take(b amounts) {
	a.received -= b.received
	a.refunded -= b.refunded
	a.withdrawn -= b.withdrawn
	a.reinstated -= b.reinstated
}

// net is what is left of it.
func (a *amounts) net() int64 { return a.received - a.refunded - a.withdrawn + a.reinstated }

// movements lists the payment's money. leftOut tells of a dispute whose money is in another currency than the
// payment's and cannot be told in that.
func (s *state) movements() (list []movement, leftOut bool) {
	move := func(at int64, currency string, m amounts) {
		if m != (amounts{}) {
			list = append(list, movement{cmp.Or(at, s.created()), cmp.Or(s.currency(), currency), m})
		}
	}
	at := s.intentCreated
	if s.charge != nil {
		at = cmp.Or(s.charge.Created, at)
	}
	move(at, "", amounts{received: s.amountReceived()})
	for i := range s.refunds {
		if f := &s.refunds[i]; f.outgoing() && s.counts(f) {
			move(cmp.Or(f.Created, f.from.at), f.Currency, amounts{refunded: f.Amount})
		}
	}
	for i := range s.charges {
		c := &s.charges[i]
		move(c.refundedAt, "", amounts{refunded: s.refundedBeside(c)})
	}
	for i := range s.disputes {
		leftOut = s.disputed(&s.disputes[i], move) || leftOut
	}
	return list, leftOut
}

// counts tells whether an outgoing refund is money that came back to the customer, and not the release of
// an authorisation.
func (s *state) counts(f *refundState) bool {
	c := s.chargeOf(f)
	return c == nil || !c.capturable && s.release(c) != f
}

// refundedBeside is what the charge says was refunded beyond the refunds that are known by their ids.
func (s *state) refundedBeside(c *chargeState) int64 {
	if c.capturable {
		return 0
	}
	beside := c.refunded
	for i := range s.refunds {
		f := &s.refunds[i]
		if f.Charge == c.id && (f.reversed() || f.outgoing() && s.counts(f)) {
			beside -= f.Amount
		}
	}
	return max(0, beside)
}

// disputed moves a dispute's money. A transaction is in the currency the account is settled in. Where that is
// not the payment's, its sign is what counts, with the amount the dispute names, once for each sign.
func (s *state) disputed(d *disputeState, move func(at int64, currency string, m amounts)) (leftOut bool) {
	currency := cmp.Or(s.currency(), d.Currency)
	sides := func(amount, size int64) amounts {
		if amount < 0 {
			return amounts{withdrawn: size}
		}
		return amounts{reinstated: size}
	}
	var first [2]*Transaction // of each sign, among those in another currency
	for i := range d.Transactions {
		t := &d.Transactions[i]
		switch {
		case t.Amount == 0:
		case t.Currency == currency:
			move(t.Created, currency, sides(t.Amount, max(t.Amount, -t.Amount)))
		case d.Currency != currency:
			leftOut = true
		default:
			side := &first[0]
			if t.Amount > 0 {
				side = &first[1]
			}
			if *side == nil || before(t.Created, (*side).Created) {
				*side = t
			}
		}
	}
	for _, t := range first {
		if t != nil {
			move(t.Created, currency, sides(t.Amount, d.Amount))
		}
	}
	return leftOut
}
