package ledger_test

import (
	"cmp"
	"math/big"
	"slices"
	"strings"

	"tillhook/ledger"
	"tillhook/ledger/fold"
)

// This part of the model computes the money of disputes.

func compareDisputes(a, b snapshot[ledger.Dispute]) int {
	statuses := []string{
		"warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review",
		"prevented", "charge_refunded", "lost", "won",
	}
	x, y := slices.Index(statuses, a.object.Status), slices.Index(statuses, b.object.Status)
	return cmp.Or(cmp.Compare(x, y), later(a.event, b.event))
}

// disputedCharge returns the charge that the snapshots of a dispute name.
func disputedCharge(own []snapshot[ledger.Dispute]) (charge string) {
	for _, d := range own {
		charge = lesser(charge, d.object.Charge)
	}
	return charge
}

// mergedDisputes returns the snapshots of each dispute, by id. A dispute that has no id of Stripe
// is merged into the first dispute of the same charge that has one.
func (b *computation) mergedDisputes() map[string][]snapshot[ledger.Dispute] {
	ids := idsOf(b.disputes, disputeID)
	merged := map[string][]snapshot[ledger.Dispute]{}
	for _, id := range ids {
		into := id
		if charge, ok := strings.CutPrefix(id, "dispute_of_"); ok {
			for _, other := range slices.Backward(ids) {
				if other != id && disputedCharge(ofID(b.disputes, disputeID, other)) == charge {
					into = other
				}
			}
			b.rule(pickIf(into == id, "a dispute without an id", "a dispute without an id is merged"))
		}
		merged[into] = append(merged[into], ofID(b.disputes, disputeID, id)...)
	}
	return merged
}

// listed is a transaction that a dispute lists.
type listed struct {
	dispute string
	ledger.Transaction
}

// transactions returns each transaction of the payment once, with the dispute that it belongs to.
func transactions(disputes map[string][]snapshot[ledger.Dispute]) []listed {
	var all, each []listed
	var ids []string
	for dispute, own := range disputes {
		for _, d := range own {
			for _, t := range d.object.Transactions {
				all = append(all, listed{dispute, t})
				ids = append(ids, t.ID)
			}
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		requireSame := only(all, func(l listed) bool { return l.ID == id })
		content := greatest(requireSame, func(x, y listed) int {
			return cmp.Or(cmp.Compare(x.Amount, y.Amount), strings.Compare(x.Currency, y.Currency),
				cmp.Compare(x.Created, y.Created))
		})
		owner := greatest(requireSame, func(x, y listed) int { return strings.Compare(y.dispute, x.dispute) })
		each = append(each, listed{owner.dispute, content.Transaction})
	}
	return each
}

// disputeAll fills in the disputes of the payment and posts their entries.
func (b *computation) disputeAll() {
	disputes := b.mergedDisputes()
	all := transactions(disputes)
	for id, own := range disputes {
		winner := greatest(own, compareDisputes).object
		b.payment.Disputes = append(b.payment.Disputes, ledger.PaymentDispute{
			ID: id, Status: ledger.OrNull(winner.Status), Amount: winner.Amount, Reason: ledger.OrNull(winner.Reason),
			Created: ledger.OrNullTime(winner.Created),
		})
		funded := slices.ContainsFunc(own,
			func(d snapshot[ledger.Dispute]) bool { return len(d.object.Transactions) > 0 })
		pastInquiry := []string{"needs_response", "under_review", "charge_refunded", "lost", "won"}
		if !funded && slices.Contains(pastInquiry, winner.Status) {
			b.flag("dispute_unfunded")
		}
		mine := only(all, func(l listed) bool { return l.dispute == id })
		for _, t := range mine {
			b.dispute(winner, disputedCharge(own), mine, t)
		}
		for _, d := range own {
			for _, t := range d.object.Transactions {
				if !slices.ContainsFunc(mine, func(l listed) bool { return l.ID == t.ID }) {
					b.rule("a transaction of several disputes")
				}
			}
		}
	}
	slices.SortFunc(b.payment.Disputes, func(x, y ledger.PaymentDispute) int {
		return cmp.Or(cmp.Compare(x.Created, y.Created), cmp.Compare(x.ID, y.ID))
	})
}

// dispute posts the entry of a transaction, given all transactions of the dispute.
func (b *computation) dispute(d ledger.Dispute, charge string, mine []listed, t listed) {
	if t.Amount == 0 {
		return
	}
	amount := new(big.Int).Abs(units(t.Amount))
	if t.Currency != b.currency {
		first := greatest(only(mine, func(l listed) bool { return l.Currency == t.Currency && l.Amount < 0 }),
			func(x, y listed) int {
				return cmp.Or(cmp.Compare(y.Created, x.Created), strings.Compare(y.ID, x.ID))
			})
		switch {
		case d.Currency != b.currency:
			b.rule("a dispute in another currency")
			b.flag("currency")
			return
		case first == nil:
			b.rule("a settlement currency without a withdrawal")
			b.flag("currency")
			return
		case d.Amount < 0:
			b.flag("currency")
			return
		}
		b.rule("a settlement currency")
		b.flag("dispute_approximate")
		amount = b.divided(new(big.Int).Mul(amount, units(d.Amount)), new(big.Int).Abs(units(first.Amount)))
	}
	kind := fold.DisputeReinstated
	if t.Amount < 0 {
		kind = fold.DisputeWithdrawn
	}
	b.post(kind, t.ID, t.Created, t.ID, charge, amount)
}

// divided returns dividend ÷ divisor rounded to the nearest integer, and half to even.
func (b *computation) divided(dividend, divisor *big.Int) *big.Int {
	quotient, remainder := new(big.Int).QuoRem(dividend, divisor, new(big.Int))
	half := plus(remainder, remainder).Cmp(divisor)
	if half == 0 {
		b.rule("rounded half to even")
	}
	if half > 0 || half == 0 && quotient.Bit(0) == 1 {
		return plus(quotient, units(1))
	}
	return quotient
}
