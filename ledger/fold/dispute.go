package fold

import (
	"cmp"
	"slices"
	"strings"
)

// disputeStatuses in the order a dispute goes through them. An inquiry (warning_…) may become a
// dispute after it was closed, and a lost one may be won late.
// https://docs.stripe.com/disputes/how-disputes-work
var disputeStatuses = []string{"warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review",
	"prevented", "charge_refunded", "lost", "won"}

// funded are the statuses in which a dispute has moved money.
var funded = []string{"needs_response", "under_review", "charge_refunded", "lost", "won"}

// disputeFacts are all snapshots of one dispute.
type disputeFacts struct {
	id           string
	snapshots    []snapshot[Dispute]
	winner       snapshot[Dispute]
	charge       string
	transactions []DisputeTransaction           // that belong to it, by id
	first        map[string]*DisputeTransaction // see firstWithdrawal
}

func (d *disputeFacts) add(s snapshot[Dispute]) {
	if len(d.snapshots) == 0 || cmp.Or(cmp.Compare(slices.Index(disputeStatuses, s.of.Status), slices.Index(disputeStatuses, d.winner.of.Status)),
		cmp.Compare(s.by.Created, d.winner.by.Created), strings.Compare(s.by.ID, d.winner.by.ID)) > 0 {
		d.winner = s
	}
	d.snapshots = append(d.snapshots, s)
	d.charge = least(d.charge, s.of.Charge)
}

// foldDisputes books the money of the disputes.
func (f *folder) foldDisputes() {
	f.mergeDisputes()
	f.assignTransactions()
	for i := range f.disputes {
		d := &f.disputes[i]
		listed := false
		for _, s := range d.snapshots {
			f.known(s.of.Amount)
			listed = listed || len(s.of.Transactions) > 0
		}
		if !listed && slices.Contains(funded, d.winner.of.Status) {
			f.flag(FlagDisputeUnfunded)
		}
		for j := range d.transactions {
			f.bookTransaction(d, &d.transactions[j])
		}
		in := d.winner.of
		f.payment.Disputes = append(f.payment.Disputes, PaymentDispute{d.id, OrNull(in.Status), in.Amount, OrNull(in.Reason), OrNullTime(in.Created)})
	}
	slices.SortStableFunc(f.payment.Disputes, func(a, b PaymentDispute) int { return cmp.Compare(a.Created, b.Created) })
}

// mergeDisputes joins what came of a charge's dispute without an id with the dispute that has one.
func (f *folder) mergeDisputes() {
	if !slices.ContainsFunc(f.disputes, func(d disputeFacts) bool { return strings.HasPrefix(d.id, DisputeOf("")) }) {
		return
	}
	of := map[string][]int{} // by charge, ascending
	for i := range f.disputes {
		of[f.disputes[i].charge] = append(of[f.disputes[i].charge], i)
	}
	merged := make([]bool, len(f.disputes))
	for i := range f.disputes {
		charge, nameless := strings.CutPrefix(f.disputes[i].id, DisputeOf(""))
		if !nameless {
			continue
		}
		for _, j := range of[charge] {
			if j == i || merged[j] {
				continue
			}
			d := &f.disputes[j]
			for _, s := range f.disputes[i].snapshots {
				d.add(s)
			}
			if d.charge != charge { // a snapshot of the dispute without an id names another
				at, _ := slices.BinarySearch(of[d.charge], j)
				of[d.charge] = slices.Insert(of[d.charge], at, j)
				of[charge] = slices.DeleteFunc(slices.Clone(of[charge]), func(k int) bool { return k == j })
			}
			merged[i] = true
			break
		}
	}
	var left []disputeFacts
	for i := range f.disputes {
		if !merged[i] {
			left = append(left, f.disputes[i])
		}
	}
	f.disputes = left
}

// assignTransactions gives each transaction to one dispute: several may list it, and it moved money
// once.
func (f *folder) assignTransactions() {
	best := map[string]DisputeTransaction{}
	for i := range f.disputes {
		for _, s := range f.disputes[i].snapshots {
			for _, t := range s.of.Transactions {
				if known, ok := best[t.ID]; !ok || t.compare(&known) > 0 {
					best[t.ID] = t
				}
			}
		}
	}
	for i := range f.disputes { // by id
		d := &f.disputes[i]
		for _, s := range d.snapshots {
			for j := range s.of.Transactions {
				if t, left := best[s.of.Transactions[j].ID]; left {
					d.transactions = append(d.transactions, t)
					delete(best, t.ID)
				}
			}
		}
		slices.SortFunc(d.transactions, func(a, b DisputeTransaction) int { return strings.Compare(a.ID, b.ID) })
	}
}

// compare orders what events say of one transaction; Stripe never changes one.
func (t *DisputeTransaction) compare(u *DisputeTransaction) int {
	return cmp.Or(cmp.Compare(t.Amount, u.Amount), strings.Compare(t.Currency, u.Currency), cmp.Compare(t.Created, u.Created))
}

// bookTransaction books a dispute's transaction. It is in the currency that the account is settled
// in. Where that is not the payment's it counts in proportion: what share it is of the first
// withdrawal in that currency, of the amount that the dispute names.
func (f *folder) bookTransaction(d *disputeFacts, t *DisputeTransaction) {
	if t.Amount == 0 {
		return
	}
	e := Entry{
		ID: t.ID, At: t.Created, Kind: DisputeReinstated, Object: t.ID, Charge: d.charge,
		Currency: cmp.Or(f.cur, d.winner.of.Currency), Amount: t.Amount,
	}
	if t.Amount < 0 {
		e.Kind, e.Amount = DisputeWithdrawn, -t.Amount // the least integer stays negative
	}
	fits := e.Amount >= 0
	if t.Currency != e.Currency {
		first := d.firstWithdrawal(t.Currency)
		if d.winner.of.Currency != e.Currency || first == nil || d.winner.of.Amount < 0 {
			f.flag(FlagCurrency)
			return
		}
		f.flag(FlagDisputeApproximate)
		e.Amount, fits = scale(t.Amount, d.winner.of.Amount, first.Amount)
	}
	if !fits {
		f.over = true
		return
	}
	f.book(e)
}

// firstWithdrawal returns the transaction that withdrew the disputed amount in a currency, nil if
// none did.
func (d *disputeFacts) firstWithdrawal(currency string) *DisputeTransaction {
	if d.first == nil {
		d.first = map[string]*DisputeTransaction{}
		for i := range d.transactions {
			t := &d.transactions[i]
			if first := d.first[t.Currency]; t.Amount < 0 && (first == nil || t.Created < first.Created) {
				d.first[t.Currency] = t // of one second the least id, which comes first
			}
		}
	}
	return d.first[currency]
}
