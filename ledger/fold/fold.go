// Package fold computes a payment from the facts of its events.
//
// Stripe delivers events late, twice and in any order, and its seconds do not order them. So
// nothing here is added up as events come: [Fold] takes all events of a payment and computes
// everything anew, and its result depends on the set of events only. The rules are those for which
// that holds: one snapshot wins by a total order; money is a sum over things that have an id, or
// over the steps of a cumulative amount; what was ever seen stays seen.
//
// The files follow Stripe's objects: intent.go, charge.go (what was received), refund.go,
// dispute.go; timeline.go says in sentences what each event meant. Every amount of a payment is the
// sum of its [Entry] values.
//
// The package is pure: it reads no clock and no file, and imports the standard library only.
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
	countedIntents []snapshot[Intent] // those in the payment's currency
	standing       []snapshot[Intent] // those that count for the state, best last
	waited         bool               // a PaymentIntent was seen on its way to being captured
	received       map[string]sums    // when events show what it received, by their type, and of all under ""
	charges        []chargeFacts      // by id
	refunds        []refundFacts      // by id
	disputes       []disputeFacts     // by id
	best           *snapshot[Charge]  // the charge that speaks for the payment; nil without charges
	payment        *Payment
	entries        []Entry
	flags          map[string]bool
	over           bool // a sum does not fit 64 bits
	cur            string
	open           []string // charges with refunds that nothing explains
}

// snapshot is an object as one event shows it.
type snapshot[T any] struct {
	of *T
	by *Event
}

// Fold returns what the events of a payment come to. Events must have distinct ids; their order
// does not matter. The result shares texts and maps with the facts.
func Fold(id string, events []Event) *Result {
	f := run(id, events)
	r := &Result{Payment: f.payment, Entries: f.entries, Unexplained: f.open}
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
	f.cur = f.moneyCurrency()
	f.selectCounted()
	received := f.receive()
	f.refund()
	f.foldDisputes()
	f.finish(received)
	return f
}

// flag marks the payment.
func (f *folder) flag(name string) {
	if f.flags == nil {
		f.flags = map[string]bool{}
	}
	f.flags[name] = true
}

// collect sorts the facts of all events out by object.
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

// objects collects objects by their ids. There are mostly few, which are found by looking at each.
type objects[T any] struct {
	id   func(*T) *string
	list []T
	at   map[string]int // where an id stands in the list, once there are many
}

// fewObjects are not worth a map.
const fewObjects = 8

// of returns the object with an id, a new one where there is none. It can be used until the next
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

// sorted returns the objects by their ids.
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

// created is the payment's own time: its PaymentIntent's, else its first charge's, else its first
// event's.
func (f *folder) created() int64 {
	var intent, charge, event int64
	for _, s := range f.intents {
		intent = earliest(intent, s.of.Created)
	}
	for i := range f.charges {
		charge = earliest(charge, f.charges[i].created())
	}
	for i := range f.events {
		event = earliest(event, f.events[i].Created)
	}
	return cmp.Or(intent, charge, event)
}

// earliest returns the lesser of two times, of which 0 is unknown.
func earliest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// least returns the lesser of two texts, of which the empty one is unknown.
func least(a, b string) string {
	if a == "" || b != "" && b < a {
		return b
	}
	return a
}

// known returns an amount, and 0 of a negative one, which flags the payment.
func (f *folder) known(amount int64) int64 {
	if amount < 0 {
		f.flag(FlagAmount)
		return 0
	}
	return amount
}

// moneyCurrency is the currency of the payment's money: the payment's own, and while that is
// unknown the least that a refund or, without refunds, a dispute has.
func (f *folder) moneyCurrency() (cur string) {
	if cur = string(f.payment.Currency); cur != "" {
		return cur
	}
	for i := range f.refunds {
		for _, s := range f.refunds[i].snapshots {
			cur = least(cur, s.of.Currency)
		}
	}
	if cur != "" {
		return cur
	}
	for i := range f.disputes {
		for _, s := range f.disputes[i].snapshots {
			cur = least(cur, s.of.Currency)
		}
	}
	return cur
}

// counts reports whether money in a currency can be added to the payment's. If not it flags the
// payment.
func (f *folder) counts(currency string) bool {
	if currency == "" || currency == f.cur {
		return true
	}
	f.flag(FlagCurrencyMismatch)
	return false
}

// book adds an entry. An amount of 0 is none.
func (f *folder) book(e Entry) {
	if e.Amount == 0 {
		return
	}
	e.At = cmp.Or(e.At, int64(f.payment.Created))
	e.Currency = cmp.Or(e.Currency, f.cur)
	f.entries = append(f.entries, e)
}

// finish fills in what follows from the entries. Amounts that do not fit are unknown, all of them.
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
		f.over = f.over || !fits
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
	if !received {
		p.AmountReceived, p.AmountNet = nil, nil
	}
	if f.over {
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
