// Package fold computes a payment from the facts of its events.
//
// Stripe delivers events late, more than once and in any order, and events that follow each other
// share a second. So nothing is added up as events arrive: [Fold] takes all events of a payment and
// computes everything anew. The types are [Facts] (what one event states), [Event] (facts and where
// they come from), [Payment], [Entry] (money that moved at one time) and [Result].
//
// # Order freedom
//
// The result is a function of the set of events: it does not depend on their order, and a repeated
// event changes nothing. Every rule must keep that property. Three kinds of rules do:
//
//   - A total order chooses one snapshot. Where all else is equal, the greater event id decides.
//   - Money is a sum over things with an id (a refund, a dispute's transaction), or over the steps
//     of an amount that Stripe reports as a running total (amount_captured, amount_refunded).
//   - What any event has shown stays true (captured, paid, a link between ids).
//
// # Which snapshot is the state
//
//   - PaymentIntent: succeeded and canceled are final. If both were seen, the payment is flagged,
//     and the one that was read from the API decides, otherwise succeeded. Among the rest the later
//     event decides; within a second payment_intent.created loses to every other type, then the
//     order of [Statuses] decides, then the event id.
//   - An object that was read from the API replaces all PaymentIntent snapshots up to the time of
//     the read, unless it shows less than they do: then Stripe answered from an older state, and
//     the read is ignored.
//   - Charge: the furthest of pending, succeeded, failed. A bank can take back a debit that had
//     succeeded. Without a PaymentIntent a charge describes the payment: succeeded before failed
//     before pending, then the later event, then the event id.
//   - Refund and dispute: the furthest status in their life cycle, then the later event, then the
//     event id. A refund can fail after it succeeded, and a lost dispute can be won late.
//
// # Money
//
// Every amount of a payment is the sum of its [Entry] values. What was received follows from the
// captured amounts of the charges, and from amount_received where charges are unknown. Where the
// events of a charge have no amount_captured, it follows from other evidence (capture.go). Refunds
// follow from the refund objects, and from amount_refunded where those are unknown. Disputes follow
// from their balance transactions, each counted once even if several disputes list it. An entry
// is dated on the day that Stripe's balance booked the money. Where no event shows that day, the
// earliest known time is used and the payment gets [FlagDateApproximate]. Money in another currency
// than the payment's is not added up but flagged. A negative amount of a PaymentIntent, a charge or
// a refund is unknown: it is flagged and not counted, and a sum that is 0 without it is nil.
//
// The files follow Stripe's objects: intent.go, charge.go, refund.go, dispute.go. capture.go
// computes captured amounts that old events do not have, and timeline.go describes each event in a
// sentence.
//
// The package is pure: it reads no clock and no file, and imports the standard library only. It
// does not know whether an event is authentic, in which mode it was made or where payments are
// stored. Results share strings and maps with the facts, so neither may be modified.
package fold

import (
	"cmp"
	"slices"
	"strings"
)

// folder is one fold in progress.
type folder struct {
	id             string
	events         []Event
	intents        []snapshot[Intent]
	countedIntents []snapshot[Intent]    // in the payment's currency
	effective      []snapshot[Intent]    // not superseded by a later read; the last is the state
	uncaptured     bool                  // a PaymentIntent was seen processing or requires_capture
	receivedAt     map[string]milestones // of the PaymentIntent, by event type; "" is all types
	charges        []chargeFacts         // by id
	refunds        []refundFacts         // by id
	disputes       []disputeFacts        // by id
	bestCharge     *snapshot[Charge]     // describes the payment where no PaymentIntent does; nil without charges
	payment        *Payment
	entries        []Entry
	flags          map[string]bool
	overflow       bool // a sum does not fit 64 bits
	refundUnknown  bool // a refund has a negative amount
	currency       string
	unexplained    []string // charges whose refunds are not all known by id
}

// snapshot is the state of an object that one event shows.
type snapshot[T any] struct {
	object *T
	event  *Event
}

// Fold computes a payment from all of its events. The events must have distinct ids; their order
// does not matter. The result shares strings and maps with the facts.
func Fold(id string, events []Event) *Result {
	f := run(id, events)
	r := &Result{Payment: f.payment, Entries: f.entries, Unexplained: f.unexplained}
	for i := range events {
		for _, s := range events[i].Facts.Sessions {
			r.PaidSession = r.PaidSession || s.PaymentStatus == "paid"
		}
	}
	return r
}

func run(id string, events []Event) *folder {
	f := &folder{id: id, events: events, payment: &Payment{
		Object: "payment", ID: id, Metadata: map[string]string{}, Refunds: []PaymentRefund{}, Disputes: []PaymentDispute{},
		Flags: []string{}, Events: uint64(len(events)),
	}}
	f.collect()
	f.chooseCharge()
	f.foldIntents()
	f.describe()
	f.currency = f.moneyCurrency()
	f.selectCounted()
	f.resolveCaptures()
	received := f.foldReceived()
	f.foldRefunds()
	f.foldDisputes()
	f.finish(received)
	return f
}

// flag sets a flag of the payment.
func (f *folder) flag(name string) {
	if f.flags == nil {
		f.flags = map[string]bool{}
	}
	f.flags[name] = true
}

// collect groups the facts of all events by object.
func (f *folder) collect() {
	p := f.payment
	charges := objects[chargeFacts]{id: func(c *chargeFacts) *string { return &c.id }}
	refunds := objects[refundFacts]{id: func(r *refundFacts) *string { return &r.id }}
	disputes := objects[disputeFacts]{id: func(d *disputeFacts) *string { return &d.id }}
	for i := range f.events {
		e := &f.events[i]
		p.Account = OrNull(least(string(p.Account), e.Account))
		p.Context = OrNull(least(string(p.Context), e.Context))
		p.Updated = max(p.Updated, OrNullTime(e.Created))
		for j := range e.Facts.Intents {
			f.intents = append(f.intents, snapshot[Intent]{&e.Facts.Intents[j], e})
		}
		for j := range e.Facts.Charges {
			c := charges.of(e.Facts.Charges[j].ID)
			c.snapshots = append(c.snapshots, snapshot[Charge]{&e.Facts.Charges[j], e})
		}
		for j := range e.Facts.Refunds {
			refunds.of(e.Facts.Refunds[j].ID).add(snapshot[Refund]{&e.Facts.Refunds[j], e})
		}
		for j := range e.Facts.Disputes {
			disputes.of(e.Facts.Disputes[j].ID).add(snapshot[Dispute]{&e.Facts.Disputes[j], e})
		}
	}
	f.charges, f.refunds, f.disputes = charges.sorted(), refunds.sorted(), disputes.sorted()
	p.Created = OrNullTime(f.created())
}

// objects collects objects by id. Most payments have few of each kind, and those are found by a
// scan.
type objects[T any] struct {
	id   func(*T) *string
	list []T
	at   map[string]int // index in list by id; nil up to fewObjects
}

// fewObjects is the number of objects up to which a scan is faster than a map.
const fewObjects = 8

// of returns the object with the id and adds it if it is new. The pointer is valid until the next
// call.
func (o *objects[T]) of(id string) *T {
	if o.at != nil {
		if i, found := o.at[id]; found {
			return &o.list[i]
		}
	} else {
		for i := range o.list {
			if t := &o.list[i]; *o.id(t) == id {
				return t
			}
		}
	}
	var none T
	last := len(o.list)
	o.list = append(o.list, none)
	*o.id(&o.list[last]) = id
	if o.at != nil {
		o.at[id] = last
	} else if last >= fewObjects {
		o.at = map[string]int{}
		for i := range o.list {
			o.at[*o.id(&o.list[i])] = i
		}
	}
	return &o.list[last]
}

// sorted returns the objects in the order of their ids.
func (o *objects[T]) sorted() []T {
	if len(o.list) < 2 {
		return o.list
	}
	order := make([]int, len(o.list)) // the objects themselves are large
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(*o.id(&o.list[a]), *o.id(&o.list[b])) })
	sorted := make([]T, len(order))
	for i, from := range order {
		sorted[i] = o.list[from]
	}
	return sorted
}

// created returns when the payment was created: its PaymentIntent, otherwise its first charge,
// otherwise its first event. It is 0 if unknown.
func (f *folder) created() int64 {
	var intent, charge, event int64
	for _, s := range f.intents {
		intent = earliest(intent, s.object.Created)
	}
	for i := range f.charges {
		charge = earliest(charge, f.charges[i].created())
	}
	for i := range f.events {
		event = earliest(event, f.events[i].Created)
	}
	return cmp.Or(intent, charge, event)
}

// earliest returns the lesser of two times, where 0 means unknown.
func earliest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// least returns the lesser of two strings, where the empty one means unknown.
func least(a, b string) string {
	if a == "" || b != "" && b < a {
		return b
	}
	return a
}

// checkAmount flags the payment if the amount is negative and so unknown.
func (f *folder) checkAmount(amount int64) {
	if amount < 0 {
		f.flag(FlagAmount)
	}
}

// moneyCurrency returns the currency of the payment's money: the payment's own; if that is unknown,
// the alphabetically first of its refunds', or without refunds of its disputes'.
func (f *folder) moneyCurrency() (cur string) {
	if cur = string(f.payment.Currency); cur != "" {
		return cur
	}
	for i := range f.refunds {
		for _, s := range f.refunds[i].snapshots {
			cur = least(cur, s.object.Currency)
		}
	}
	if cur != "" {
		return cur
	}
	for i := range f.disputes {
		for _, s := range f.disputes[i].snapshots {
			cur = least(cur, s.object.Currency)
		}
	}
	return cur
}

// checkCurrency reports whether money in the currency can be added to the payment's. If it cannot,
// it flags the payment.
func (f *folder) checkCurrency(currency string) bool {
	if currency == "" || currency == f.currency {
		return true
	}
	f.flag(FlagCurrencyMismatch)
	return false
}

// addEntry adds an entry unless its amount is 0.
func (f *folder) addEntry(e Entry) {
	if e.Amount == 0 {
		return
	}
	e.At = cmp.Or(e.At, int64(f.payment.Created))
	e.Currency = cmp.Or(e.Currency, f.currency)
	f.entries = append(f.entries, e)
}

// finish computes the amounts from the entries. If one of them does not fit 64 bits, all are
// unknown. If a sum is 0 because an amount in it is unknown, it is unknown too. received is the
// result of foldReceived.
func (f *folder) finish(received bool) {
	var sums [len(Kinds)]Sum
	for _, e := range f.entries {
		i := slices.Index(Kinds[:], e.Kind)
		sums[i] = sums[i].Plus(SumOf(e.Amount))
		if e.Kind == Received {
			f.payment.Captured = OrNullTime(earliest(int64(f.payment.Captured), e.At))
		}
	}
	p := f.payment
	fit := func(s Sum) *int64 {
		n, fits := s.Int64()
		f.overflow = f.overflow || !fits
		return &n
	}
	for _, s := range sums {
		fit(s)
	}
	p.AmountReceived = fit(sums[0])
	p.AmountRefunded = fit(sums[1].Minus(sums[2]))
	p.DisputeWithdrawn = fit(sums[3])
	p.DisputeReinstated = fit(sums[4])
	p.AmountNet = fit(sums[0].Minus(sums[1]).Plus(sums[2]).Minus(sums[3]).Plus(sums[4]))
	p.Fee = f.fee()
	if !received || sums[0] == (Sum{}) && f.receivedUnknown() {
		p.AmountReceived, p.AmountNet = nil, nil
	}
	if f.refundUnknown && sums[1] == sums[2] {
		p.AmountRefunded, p.AmountNet = nil, nil
	}
	if f.overflow {
		f.flag(FlagOverflow)
		f.entries = nil
		p.AmountReceived, p.AmountRefunded, p.DisputeWithdrawn, p.DisputeReinstated, p.AmountNet, p.Fee, p.Captured = nil, nil, nil, nil, nil, nil, 0
	}
	slices.SortFunc(f.entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID), cmp.Compare(slices.Index(Kinds[:], a.Kind), slices.Index(Kinds[:], b.Kind)))
	})
	for _, name := range Flags {
		if f.flags[name] {
			p.Flags = append(p.Flags, name)
		}
	}
}
