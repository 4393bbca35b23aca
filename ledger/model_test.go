package ledger_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"tillhook/ledger"
)

// The model judges the ledger: it computes every payment from all events the slow way, walking the
// whole list again for every field, by the rules that the fold follows. It shares nothing with the
// ledger but the shapes it reads and fills.
func model(events []*ledger.Event) map[string]ledger.Payment {
	payments := map[string]ledger.Payment{}
	for id, own := range byPayment(events) {
		payments[id] = keep(id, own).p
	}
	return payments
}

// total is a line of the summary: the money of a day (UTC), a currency and an account.
type total struct {
	Day, Currency, Account                    string
	Received, Refunded, Withdrawn, Reinstated int64
}

func modelTotals(events []*ledger.Event) []total {
	type key struct{ day, currency, account string }
	sums := map[key]total{}
	for id, own := range byPayment(events) {
		for _, l := range keep(id, own).lines {
			k := key{l.Day, l.Currency, l.Account}
			sums[k] = total{
				l.Day, l.Currency, l.Account, sums[k].Received + l.Received, sums[k].Refunded + l.Refunded,
				sums[k].Withdrawn + l.Withdrawn, sums[k].Reinstated + l.Reinstated,
			}
		}
	}
	totals := []total{}
	for _, t := range sums {
		if t.Received != 0 || t.Refunded != 0 || t.Withdrawn != 0 || t.Reinstated != 0 {
			totals = append(totals, t)
		}
	}
	slices.SortFunc(totals, func(a, b total) int {
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Currency, b.Currency), cmp.Compare(a.Account, b.Account))
	})
	return totals
}

// byPayment sorts out repeats and finds each event's payment. A quarantined rendering does not make its
// id known, so the first one that can be used stands.
func byPayment(events []*ledger.Event) map[string][]*ledger.Event {
	known := map[string]bool{}
	var usable []*ledger.Event
	for _, e := range events {
		if id := fmt.Sprint(e.Livemode, e.ID); e.Quarantine == "" && !known[id] {
			known[id] = true
			usable = append(usable, e)
		}
	}
	payments := map[string][]*ledger.Event{}
	for _, e := range usable {
		if id := home(usable, e); id != "" {
			payments[id] = append(payments[id], e)
		}
	}
	return payments
}

// home is the id of an event's payment, empty if it has none.
func home(events []*ledger.Event, e *ledger.Event) string {
	charge := e.Facts.Charge
	if e.Facts.PaymentIntent != "" || charge == "" {
		return e.Facts.PaymentIntent
	}
	least := ""
	for _, other := range events {
		if slices.Contains(chargesNamed(&other.Facts), charge) {
			least = lesser(least, other.Facts.PaymentIntent)
		}
	}
	return cmp.Or(least, charge)
}

// chargesNamed are the ids of charges anywhere in the facts, in a fixed order, some of them empty.
func chargesNamed(f *ledger.Facts) []string {
	ids := []string{f.Charge}
	for _, in := range f.Intents {
		ids = append(ids, in.LatestCharge)
	}
	for _, c := range f.Charges {
		ids = append(ids, c.ID)
	}
	for _, r := range f.Refunds {
		ids = append(ids, r.Charge)
	}
	for _, d := range f.Disputes {
		ids = append(ids, d.Charge)
	}
	return ids
}

// lesser is the lesser of two values that are known; what is zero is unknown and never wins.
func lesser[T cmp.Ordered](a, b T) T {
	var unknown T
	if a == unknown || b != unknown && b < a {
		return b
	}
	return a
}

// told is what one event said about one thing.
type told[T any] struct {
	by *ledger.Event
	T  T
}

func allTold[T any](events []*ledger.Event, of func(*ledger.Facts) []T) []told[T] {
	var all []told[T]
	for _, e := range events {
		for _, x := range of(&e.Facts) {
			all = append(all, told[T]{e, x})
		}
	}
	return all
}

// unbeaten is the one that no other beats, nil of none.
func unbeaten[T any](all []told[T], beats func(a, b told[T]) int) *told[T] {
	for i, a := range all {
		beaten := false
		for _, b := range all {
			beaten = beaten || beats(b, a) > 0
		}
		if !beaten {
			return &all[i]
		}
	}
	return nil
}

// later is how every tie ends.
func later(a, b *ledger.Event) int {
	return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
}

// ofID are the tellings about one thing.
func ofID[T any](all []told[T], id func(T) string, want string) []told[T] {
	return slices.DeleteFunc(slices.Clone(all), func(t told[T]) bool { return id(t.T) != want })
}

// idsOf are the things told of, each once, by id.
func idsOf[T any](all []told[T], id func(T) string) []string {
	var ids []string
	for _, t := range all {
		ids = append(ids, id(t.T))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func chargeID(c ledger.Charge) string           { return c.ID }
func refundID(r ledger.Refund) string           { return r.ID }
func disputeID(d ledger.Dispute) string         { return d.ID }
func transactionID(t ledger.Transaction) string { return t.ID }

// books are one payment, and where its money falls in the totals.
type books struct {
	p        ledger.Payment
	lines    []total
	events   []*ledger.Event
	intents  []told[ledger.Intent]
	charges  []told[ledger.Charge]
	refunds  []told[ledger.Refund]
	disputes []told[ledger.Dispute]
}

func keep(id string, events []*ledger.Event) *books {
	b := &books{
		p: ledger.Payment{
			Object: "payment", ID: id, Metadata: map[string]string{}, Events: uint64(len(events)),
			Refunds: []ledger.PaymentRefund{}, Disputes: []ledger.PaymentDispute{}, Flags: []string{},
		},
		events:   events,
		intents:  allTold(events, func(f *ledger.Facts) []ledger.Intent { return f.Intents }),
		charges:  allTold(events, func(f *ledger.Facts) []ledger.Charge { return f.Charges }),
		refunds:  allTold(events, func(f *ledger.Facts) []ledger.Refund { return f.Refunds }),
		disputes: allTold(events, func(f *ledger.Facts) []ledger.Dispute { return f.Disputes }),
	}
	// The times and the account first, as every line of the totals leans on them.
	for _, e := range events {
		b.p.Account = lesser(b.p.Account, ledger.OrNull(e.Account))
		b.p.Updated = max(b.p.Updated, ledger.OrNullTime(e.Created))
	}
	b.p.Created = ledger.OrNullTime(b.created())
	b.look()
	b.receive()
	b.refund()
	b.dispute()
	b.p.AmountNet = b.p.AmountReceived - b.p.AmountRefunded - b.p.DisputeWithdrawn + b.p.DisputeReinstated
	slices.Sort(b.p.Flags)
	return b
}

func (b *books) created() int64 {
	var intent, charge, event int64
	for _, in := range b.intents {
		intent = lesser(intent, in.T.Created)
	}
	for _, c := range b.charges {
		charge = lesser(charge, c.T.Created)
	}
	for _, e := range b.events {
		event = lesser(event, e.Created)
	}
	return cmp.Or(intent, charge, event)
}

// line adds money to the totals.
func (b *books) line(at int64, own string, money total) {
	day := time.Unix(cmp.Or(at, int64(b.p.Created)), 0).UTC()
	money.Day, money.Currency, money.Account = day.Format(time.DateOnly), b.currency(own), string(b.p.Account)
	b.lines = append(b.lines, money)
}

// currency is the payment's; while that is unknown, the one a refund or dispute has stands in.
func (b *books) currency(own string) string { return cmp.Or(string(b.p.Currency), own) }

// look fills what a single snapshot decides.
func (b *books) look() {
	standing := notOutranked(b.intents)
	if winner := unbeaten(standing, beatsAsIntent); winner != nil {
		in := winner.T
		b.p.Status, b.p.Currency, b.p.Customer = ledger.OrNull(in.Status), ledger.OrNull(in.Currency), ledger.OrNull(in.Customer)
		b.p.Description, b.p.LatestCharge = ledger.OrNull(in.Description), ledger.OrNull(in.LatestCharge)
		b.p.LastPaymentError = in.LastError
		maps.Copy(b.p.Metadata, in.Metadata)
		if in.HasAmount {
			b.p.Amount = &in.Amount
		}
		if terminal(in.Status) == 0 {
			b.p.AmountCapturable = in.AmountCapturable
		}
	} else if best := unbeaten(b.charges, beatsAsCharge); best != nil {
		c := best.T
		b.p.Currency, b.p.Customer, b.p.Description = ledger.OrNull(c.Currency), ledger.OrNull(c.Customer), ledger.OrNull(c.Description)
		b.p.LatestCharge, b.p.Amount = ledger.OrNull(c.ID), &c.Amount
		maps.Copy(b.p.Metadata, c.Metadata)
	}
	seen := map[string]bool{}
	for _, in := range standing {
		seen[in.T.Status] = true
	}
	if seen["succeeded"] && seen["canceled"] {
		b.p.Flags = append(b.p.Flags, "conflict")
	}
}

// notOutranked leaves out what a fetch came after: it asked Stripe itself, so it knows all up to its date.
// Fetches of one second know no more than each other.
func notOutranked(all []told[ledger.Intent]) []told[ledger.Intent] {
	var fetches []told[ledger.Intent]
	for _, in := range all {
		if in.by.Source == ledger.Fetch {
			fetches = append(fetches, in)
		}
	}
	fetch := unbeaten(fetches, func(a, b told[ledger.Intent]) int {
		return cmp.Or(cmp.Compare(a.by.Created, b.by.Created), beatsAsIntent(a, b))
	})
	var left []told[ledger.Intent]
	for _, in := range all {
		if fetch == nil || in.by.Created > fetch.by.Created ||
			in.by.Source == ledger.Fetch && in.by.Created == fetch.by.Created {
			left = append(left, in)
		}
	}
	return left
}

func terminal(status string) int { return slices.Index([]string{"canceled", "succeeded"}, status) + 1 }

func beatsAsIntent(a, b told[ledger.Intent]) int {
	known := []string{"requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture"}
	notCreation := func(e *ledger.Event) int {
		if e.Type == "payment_intent.created" {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(terminal(a.T.Status), terminal(b.T.Status)),
		cmp.Compare(a.by.Created, b.by.Created),
		cmp.Compare(notCreation(a.by), notCreation(b.by)),
		cmp.Compare(slices.Index(known, a.T.Status), slices.Index(known, b.T.Status)),
		cmp.Compare(a.by.ID, b.by.ID))
}

func beatsAsCharge(a, b told[ledger.Charge]) int {
	rank := func(status string) int { return slices.Index([]string{"failed", "succeeded"}, status) }
	return cmp.Or(cmp.Compare(rank(a.T.Status), rank(b.T.Status)), later(a.by, b.by))
}

func beatsAsRefund(a, b told[ledger.Refund]) int {
	rank := map[string]int{"pending": 1, "requires_action": 1, "succeeded": 2, "failed": 3, "canceled": 3}
	return cmp.Or(cmp.Compare(rank[a.T.Status], rank[b.T.Status]), later(a.by, b.by))
}

func beatsAsDispute(a, b told[ledger.Dispute]) int {
	known := []string{
		"warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review",
		"prevented", "charge_refunded", "lost", "won",
	}
	return cmp.Or(cmp.Compare(slices.Index(known, a.T.Status), slices.Index(known, b.T.Status)), later(a.by, b.by))
}

func (b *books) receive() {
	if b.p.Status != "canceled" {
		for _, in := range b.intents {
			b.p.AmountReceived = max(b.p.AmountReceived, in.T.AmountReceived)
		}
	}
	var captured int64
	for _, id := range idsOf(b.charges, chargeID) {
		status := -1
		for _, c := range ofID(b.charges, chargeID, id) {
			status = max(status, slices.Index([]string{"pending", "succeeded", "failed"}, c.T.Status))
		}
		if status == 1 {
			_, kept := b.sizes(id)
			captured += kept
		}
	}
	b.p.AmountReceived = max(b.p.AmountReceived, captured)
	var at int64
	if best := unbeaten(b.charges, beatsAsCharge); best != nil {
		at = best.T.Created
	}
	// Without a charge it is the PaymentIntent's day: that is the payment's own.
	b.line(at, "", total{Received: b.p.AmountReceived})
}

// sizes are the greatest amount and the greatest captured amount of a charge.
func (b *books) sizes(charge string) (amount, captured int64) {
	for _, c := range ofID(b.charges, chargeID, charge) {
		amount, captured = max(amount, c.T.Amount), max(captured, c.T.AmountCaptured)
	}
	return amount, captured
}

// folded is a refund with the charge that any of its snapshots names.
type folded struct {
	told[ledger.Refund]
	charge string
}

func (r *folded) counts() bool {
	return slices.Contains([]string{"pending", "requires_action", "succeeded"}, r.T.Status)
}

func (b *books) refund() {
	var rows []folded
	for _, id := range idsOf(b.refunds, refundID) {
		own := ofID(b.refunds, refundID, id)
		row := folded{told: *unbeaten(own, beatsAsRefund)}
		for _, r := range own {
			row.charge = lesser(row.charge, r.T.Charge)
		}
		rows = append(rows, row)
		b.p.Refunds = append(b.p.Refunds, ledger.PaymentRefund{
			ID: id, Amount: row.T.Amount, Status: ledger.OrNull(row.T.Status), Charge: ledger.OrNull(row.charge),
			Created: ledger.OrNullTime(row.T.Created),
		})
	}
	slices.SortFunc(b.p.Refunds, func(a, b ledger.PaymentRefund) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, r := range rows {
		if r.counts() && len(ofID(b.charges, chargeID, r.charge)) == 0 {
			b.giveBack(cmp.Or(r.T.Created, r.by.Created), r.T.Currency, r.T.Amount)
		}
	}
	for _, id := range idsOf(b.charges, chargeID) {
		b.refundCharge(id, slices.DeleteFunc(slices.Clone(rows), func(r folded) bool { return r.charge != id }))
	}
}

func (b *books) giveBack(at int64, own string, amount int64) {
	b.p.AmountRefunded += amount
	b.line(at, own, total{Refunded: amount})
}

// refundCharge counts what went back of a charge that was seen.
func (b *books) refundCharge(id string, rows []folded) {
	captured := false
	for _, c := range ofID(b.charges, chargeID, id) {
		captured = captured || c.T.Captured
	}
	if !captured {
		return // only an authorisation ended
	}
	release := b.release(id, rows)
	said := b.saidRefunded(id)
	slices.SortStableFunc(rows, func(a, b folded) int { return cmp.Compare(a.T.Created, b.T.Created) })
	for _, r := range rows {
		undone := r.T.Status == "failed" || r.T.Status == "canceled"
		if r.counts() && r.T.ID != release {
			b.giveBack(cmp.Or(r.T.Created, r.by.Created), r.T.Currency, r.T.Amount)
		} else if !undone {
			continue
		}
		for range r.T.Amount {
			said = withoutOne(said, r.T.Created)
		}
	}
	for _, at := range said {
		b.giveBack(at, "", 1)
	}
}

// withoutOne takes out one unit of money: the first that was said at or after a time, else the first of all.
func withoutOne(said []int64, from int64) []int64 {
	for i, at := range said {
		if at >= from {
			return slices.Delete(said, i, i+1)
		}
	}
	if len(said) > 0 {
		return said[1:]
	}
	return nil
}

// release is the refund that a partial capture itself made of what it let go, empty if there is none:
// that money never was received.
func (b *books) release(charge string, rows []folded) string {
	amount, captured := b.sizes(charge)
	seen, latest := false, int64(0)
	for _, c := range ofID(b.charges, chargeID, charge) {
		if c.by.Type == "charge.captured" {
			seen, latest = true, max(latest, c.by.Created)
		}
	}
	var first *folded
	for i, r := range rows {
		if !seen || !r.counts() || amount-captured <= 0 || r.T.Amount != amount-captured || r.T.Created == 0 || r.T.Created > latest+2 ||
			r.T.Reason != "" && r.T.Reason != "expired_uncaptured_charge" {
			continue
		}
		// The rows come by id, so that of two from the same second the first one stays.
		if first == nil || r.T.Created != first.T.Created && lesser(r.T.Created, first.T.Created) == r.T.Created {
			first = &rows[i]
		}
	}
	if first == nil {
		return ""
	}
	return first.T.ID
}

// saidRefunded has for each unit of money that the charge said was refunded, without what versions before 2025-03-31 add for
// a partial capture, the first time it said so.
func (b *books) saidRefunded(charge string) (said []int64) {
	adjusted := func(c told[ledger.Charge]) int64 {
		released := max(0, c.T.Amount-c.T.AmountCaptured)
		if c.T.Captured && c.by.APIVersion < "2025-03-31" && c.T.AmountRefunded >= released {
			return c.T.AmountRefunded - released
		}
		return c.T.AmountRefunded
	}
	own := ofID(b.charges, chargeID, charge)
	greatest := int64(0)
	for _, c := range own {
		greatest = max(greatest, adjusted(c))
	}
	for unit := range greatest {
		at := int64(0)
		for _, c := range own {
			if adjusted(c) > unit {
				at = lesser(at, c.by.Created)
			}
		}
		said = append(said, at)
	}
	return said
}

func (b *books) dispute() {
	foreign := false
	for _, id := range idsOf(b.disputes, disputeID) {
		own := ofID(b.disputes, disputeID, id)
		d := unbeaten(own, beatsAsDispute).T
		b.p.Disputes = append(b.p.Disputes, ledger.PaymentDispute{
			ID: id, Status: ledger.OrNull(d.Status), Amount: d.Amount, Reason: ledger.OrNull(d.Reason),
			Created: ledger.OrNullTime(d.Created),
		})
		var first [2]*ledger.Transaction // the earliest in another currency: taken, given back
		for _, t := range transactions(own) {
			switch {
			case t.Currency == b.currency(d.Currency):
				b.moveMoney(t.Created, d.Currency, t.Amount)
			case d.Currency != b.currency(d.Currency):
				foreign = true
			case t.Amount != 0:
				sign := 0
				if t.Amount > 0 {
					sign = 1
				}
				// They come by id, so that of two from the same second the first one stays.
				if f := first[sign]; f == nil || t.Created != f.Created && lesser(t.Created, f.Created) == t.Created {
					first[sign] = &t
				}
			}
		}
		for sign, t := range first {
			if t != nil {
				b.moveMoney(t.Created, d.Currency, int64(2*sign-1)*d.Amount)
			}
		}
	}
	slices.SortFunc(b.p.Disputes, func(a, b ledger.PaymentDispute) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
	})
	if foreign {
		b.p.Flags = append(b.p.Flags, "currency")
	}
}

// moveMoney counts money that a dispute took (less than 0) or gave back.
func (b *books) moveMoney(at int64, own string, amount int64) {
	out, back := max(-amount, 0), max(amount, 0)
	b.p.DisputeWithdrawn += out
	b.p.DisputeReinstated += back
	b.line(at, own, total{Withdrawn: out, Reinstated: back})
}

// transactions are all that any snapshot of a dispute lists, by id.
func transactions(snapshots []told[ledger.Dispute]) []ledger.Transaction {
	var all []told[ledger.Transaction]
	for _, d := range snapshots {
		for _, t := range d.T.Transactions {
			all = append(all, told[ledger.Transaction]{d.by, t})
		}
	}
	var union []ledger.Transaction
	for _, id := range idsOf(all, transactionID) {
		union = append(union, unbeaten(ofID(all, transactionID, id), func(a, b told[ledger.Transaction]) int {
			return cmp.Or(cmp.Compare(a.T.Amount, b.T.Amount), cmp.Compare(a.T.Currency, b.T.Currency), cmp.Compare(a.T.Created, b.T.Created))
		}).T)
	}
	return union
}
