package fold

import (
	"cmp"
	"slices"
	"strings"
)

// disputeStatuses is the life cycle of a dispute. An inquiry (warning_…) may become a dispute after
// it was closed, and a lost dispute may be won late.
// https://docs.stripe.com/disputes/how-disputes-work
var disputeStatuses = []string{"warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review",
	"prevented", "charge_refunded", "lost", "won"}

// fundedStatuses are the statuses in which a dispute has moved money.
var fundedStatuses = []string{"needs_response", "under_review", "charge_refunded", "lost", "won"}

// disputeFacts are all snapshots of one dispute.
type disputeFacts struct {
	id           string
	snapshots    []snapshot[Dispute]
	winner       snapshot[Dispute]
	charge       string
	transactions []DisputeTransaction           // assigned to this dispute, by id
	first        map[string]*DisputeTransaction // by currency, see firstWithdrawal
}

// add adds a snapshot and keeps the one that decides the status in winner.
func (d *disputeFacts) add(s snapshot[Dispute]) {
	if len(d.snapshots) == 0 || cmp.Or(cmp.Compare(slices.Index(disputeStatuses, s.object.Status), slices.Index(disputeStatuses, d.winner.object.Status)),
		cmp.Compare(s.event.Created, d.winner.event.Created), strings.Compare(s.event.ID, d.winner.event.ID)) > 0 {
		d.winner = s
	}
	d.snapshots = append(d.snapshots, s)
	d.charge = least(d.charge, s.object.Charge)
}

// foldDisputes adds the entries of the disputes and lists the disputes.
func (f *folder) foldDisputes() {
	f.mergeDisputes()
	f.assignTransactions()
	for i := range f.disputes {
		d := &f.disputes[i]
		listed := false
		for _, s := range d.snapshots {
			f.checkAmount(s.object.Amount)
			listed = listed || len(s.object.Transactions) > 0
		}
		if !listed && slices.Contains(fundedStatuses, d.winner.object.Status) {
			f.flag(FlagDisputeUnfunded)
		}
		for j := range d.transactions {
			f.addTransactionEntry(d, &d.transactions[j])
		}
		in := d.winner.object
		f.payment.Disputes = append(f.payment.Disputes, PaymentDispute{d.id, OrNull(in.Status), in.Amount, OrNull(in.Reason), OrNullTime(in.Created)})
	}
	slices.SortStableFunc(f.payment.Disputes, func(a, b PaymentDispute) int { return cmp.Compare(a.Created, b.Created) })
}

// mergeDisputes merges each dispute without an id of its own (see [DisputeOf]) into a dispute of
// the same charge. The oldest API versions give a dispute no id, newer endpoints do.
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
			if d.charge != charge { // the merged snapshots name another charge
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

// assignTransactions assigns each balance transaction to one dispute. Several disputes may list the
// same transaction, but it moved money once.
func (f *folder) assignTransactions() {
	best := map[string]DisputeTransaction{}
	for i := range f.disputes {
		for _, s := range f.disputes[i].snapshots {
			for _, t := range s.object.Transactions {
				if known, ok := best[t.ID]; !ok || t.compare(&known) > 0 {
					best[t.ID] = t
				}
			}
		}
	}
	for i := range f.disputes { // by id
		d := &f.disputes[i]
		for _, s := range d.snapshots {
			for j := range s.object.Transactions {
				if t, left := best[s.object.Transactions[j].ID]; left {
					d.transactions = append(d.transactions, t)
					delete(best, t.ID)
				}
			}
		}
		slices.SortFunc(d.transactions, func(a, b DisputeTransaction) int { return strings.Compare(a.ID, b.ID) })
	}
}

// compare orders what different events say about one transaction. Stripe never changes a
// transaction, so this decides only between faulty events.
func (t *DisputeTransaction) compare(u *DisputeTransaction) int {
	return cmp.Or(cmp.Compare(t.Amount, u.Amount), strings.Compare(t.Currency, u.Currency), cmp.Compare(t.Created, u.Created))
}

// addTransactionEntry adds the entry of a dispute's balance transaction. The transaction is in the
// account's settlement currency. If that is not the payment's currency, the amount is converted in
// proportion: amount × disputed amount ÷ first withdrawal in that currency.
func (f *folder) addTransactionEntry(d *disputeFacts, t *DisputeTransaction) {
	if t.Amount == 0 {
		return
	}
	e := Entry{
		ID: t.ID, At: t.Created, Kind: DisputeReinstated, Object: t.ID, Charge: d.charge,
		Currency: cmp.Or(f.currency, d.winner.object.Currency), Amount: t.Amount,
	}
	if t.Amount < 0 {
		e.Kind, e.Amount = DisputeWithdrawn, -t.Amount // math.MinInt64 stays negative
	}
	fits := e.Amount >= 0
	if t.Currency != e.Currency {
		first := d.firstWithdrawal(t.Currency)
		if d.winner.object.Currency != e.Currency || first == nil || d.winner.object.Amount < 0 {
			f.flag(FlagCurrency)
			return
		}
		f.flag(FlagDisputeApproximate)
		e.Amount, fits = scale(t.Amount, d.winner.object.Amount, first.Amount)
	}
	if !fits {
		f.overflow = true
		return
	}
	f.addEntry(e)
}

// firstWithdrawal returns the first transaction that withdrew money in the currency, or nil.
func (d *disputeFacts) firstWithdrawal(currency string) *DisputeTransaction {
	if d.first == nil {
		d.first = map[string]*DisputeTransaction{}
		for i := range d.transactions {
			t := &d.transactions[i]
			if first := d.first[t.Currency]; t.Amount < 0 && (first == nil || t.Created < first.Created) {
				d.first[t.Currency] = t // transactions are in the order of their ids
			}
		}
	}
	return d.first[currency]
}
