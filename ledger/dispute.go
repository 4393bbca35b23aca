package ledger

import (
	"cmp"
	"slices"
	"strings"
)

// disputeState is what one dispute's facts fold to.
type disputeState struct {
	Dispute // the winning snapshot, with the transactions of all, by id
	from    origin
}

// disputeStatuses in the order a dispute goes through them. An inquiry (warning_…) may become a dispute
// after it was closed, and a lost one may be won late. https://docs.stripe.com/disputes/how-disputes-work
var disputeStatuses = []string{"warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review",
	"prevented", "charge_refunded", "lost", "won"}

func (s *state) absorbDispute(in *Dispute, from origin) {
	d := at(&s.disputes, in.ID, func(d *disputeState) string { return d.ID })
	transactions := d.Transactions
	if d.ID == "" || d.loses(in, from) {
		d.Dispute, d.from = *in, from
	}
	d.Transactions = transactions
	for i := range in.Transactions {
		t := at(&d.Transactions, in.Transactions[i].ID, func(t *Transaction) string { return t.ID })
		if t.less(&in.Transactions[i]) {
			*t = in.Transactions[i]
		}
	}
}

func (d *disputeState) loses(in *Dispute, from origin) bool {
	if a, b := slices.Index(disputeStatuses, in.Status), slices.Index(disputeStatuses, d.Status); a != b {
		return a > b
	}
	if from.at != d.from.at {
		return from.at > d.from.at
	}
	return from.event > d.from.event
}

// less orders what is told of one transaction; Stripe never changes one.
func (t *Transaction) less(u *Transaction) bool {
	return cmp.Or(strings.Compare(t.ID, u.ID), cmp.Compare(t.Amount, u.Amount), strings.Compare(t.Currency, u.Currency), cmp.Compare(t.Created, u.Created)) < 0
}
