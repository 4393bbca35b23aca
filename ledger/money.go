package ledger

import (
	"cmp"
	"slices"
)

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
	s.returned(move)
	for i := range s.disputes {
		leftOut = s.disputed(&s.disputes[i], move) || leftOut
	}
	return list, leftOut
}

// returned moves what went back to the customer: each refund that is known by its id, and what a charge says was
// refunded beyond those.
func (s *state) returned(move func(at int64, currency string, m amounts)) {
	releases := s.releases()
	told := make([][]refundStep, len(s.charges)) // by each charge; without the refunds that are known by their ids, in the end
	for i := range s.charges {
		if c := &s.charges[i]; !c.capturable {
			told[i] = c.refunds()
		}
	}
	byTime := make([]*refundState, len(s.refunds))
	for i := range s.refunds {
		byTime[i] = &s.refunds[i]
	}
	slices.SortStableFunc(byTime, func(a, b *refundState) int { return cmp.Compare(a.Created, b.Created) })
	for _, f := range byTime {
		counts := f.outgoing() && !releases[f]
		if counts {
			move(cmp.Or(f.Created, f.from.at), f.Currency, amounts{refunded: f.Amount})
		}
		if charge, found := s.chargeOf(f); found && (counts || f.reversed()) {
			takeRefund(told[charge], f.Amount, f.Created)
		}
	}
	for _, refunds := range told {
		for _, r := range refunds {
			move(r.at, "", amounts{refunded: r.total})
		}
	}
}

// takeRefund takes a refund that is known by its id off what its charge told: off what the charge told first after the
// refund was made, then off the rest.
func takeRefund(told []refundStep, amount, created int64) {
	for _, early := range []bool{false, true} {
		for i := range told {
			if early == (told[i].at < created) {
				part := min(amount, told[i].total)
				told[i].total -= part
				amount -= part
			}
		}
	}
}

// releases are the refunds that stand for an authorisation that was not captured, as a whole or in part. No money
// came back by them.
func (s *state) releases() map[*refundState]bool {
	if len(s.refunds) == 0 {
		return nil
	}
	set := map[*refundState]bool{}
	for i := range s.refunds {
		f := &s.refunds[i]
		if charge, found := s.chargeOf(f); found && s.charges[charge].capturable {
			set[f] = true
		}
	}
	for i := range s.charges {
		if f := s.release(&s.charges[i]); f != nil {
			set[f] = true
		}
	}
	return set
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
