package ledger_test

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/fold"
)

// The model is the reference for tests of package fold. It computes each payment from the whole
// list of events, one field after the other, in the simplest way: for every question it searches
// the whole list again, and it adds with big integers. It shares only types with the code under
// test.

// modelPayment is a payment as the model computes it.
type modelPayment struct {
	Payment     ledger.Payment
	Entries     []ledger.Entry // by (At, ID)
	Unexplained []string       // ids of charges with more refunded than their refund objects add up to, sorted
}

// model computes all payments of the events, by id.
func model(events []*ledger.Event) map[string]modelPayment {
	payments := map[string]modelPayment{}
	for id, own := range byPayment(events) {
		payments[id] = compute(id, own).result()
	}
	return payments
}

// total is one line of the totals: the money of a day in UTC, a currency and an account. Its JSON
// form is that of a [ledger.Total].
type total struct {
	Day        string        `json:"day"`
	Currency   ledger.OrNull `json:"currency"`
	Account    ledger.OrNull `json:"account"`
	Received   *big.Int      `json:"received"`
	Refunded   *big.Int      `json:"refunded"`
	Withdrawn  *big.Int      `json:"withdrawn"`
	Reinstated *big.Int      `json:"reinstated"`
	Net        *big.Int      `json:"net"`
}

// modelTotals computes the totals of all payments of the events, by day, currency and account.
func modelTotals(events []*ledger.Event) []total {
	lines := map[string]total{}
	for _, p := range model(events) {
		for _, e := range p.Entries {
			day := time.Unix(e.At, 0).UTC().Format(time.DateOnly)
			key := fmt.Sprintf("%s %q %q", day, e.Currency, p.Payment.Account)
			line, ok := lines[key]
			if !ok {
				line = total{day, ledger.OrNull(e.Currency), p.Payment.Account, units(0), units(0), units(0), units(0),
					units(0)}
			}
			amount := units(e.Amount)
			switch e.Kind {
			case fold.Received:
				line.Received = plus(line.Received, amount)
			case fold.Refunded:
				line.Refunded = plus(line.Refunded, amount)
			case fold.RefundReturned:
				line.Refunded = minus(line.Refunded, amount)
			case fold.DisputeWithdrawn:
				line.Withdrawn = plus(line.Withdrawn, amount)
			case fold.DisputeReinstated:
				line.Reinstated = plus(line.Reinstated, amount)
			}
			line.Net = plus(minus(minus(line.Received, line.Refunded), line.Withdrawn), line.Reinstated)
			lines[key] = line
		}
	}
	totals := []total{}
	for _, l := range lines {
		if l.Received.Sign() != 0 || l.Refunded.Sign() != 0 || l.Withdrawn.Sign() != 0 || l.Reinstated.Sign() != 0 {
			totals = append(totals, l)
		}
	}
	slices.SortFunc(totals, func(a, b total) int {
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Currency, b.Currency), cmp.Compare(a.Account, b.Account))
	})
	return totals
}

// byPayment drops repeats and groups the events by their payment. The first usable event of an id
// counts, because an event in quarantine does not make its id known.
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
		if id := paymentOf(usable, e); id != "" {
			payments[id] = append(payments[id], e)
		}
	}
	return payments
}

// paymentOf returns the id of the payment of an event, or "". An event that names only a charge
// belongs to the least PaymentIntent that any event links to the charge.
func paymentOf(events []*ledger.Event, e *ledger.Event) string {
	charge := e.Facts.Charge
	if e.Facts.PaymentIntent != "" || charge == "" {
		return e.Facts.PaymentIntent
	}
	least := ""
	for _, other := range events {
		if other.Facts.PaymentIntent != charge && slices.Contains(chargesNamed(&other.Facts), charge) {
			least = lesser(least, other.Facts.PaymentIntent)
		}
	}
	return cmp.Or(least, charge)
}

// chargesNamed returns the ids of all charges in the facts, in a fixed order. Some are empty.
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

// lesser returns the lesser of two values. A zero value is unknown and does not count.
func lesser[T cmp.Ordered](a, b T) T {
	var unknown T
	if a == unknown || b != unknown && b < a {
		return b
	}
	return a
}

// snapshot is one object in the facts of one event.
type snapshot[T any] struct {
	event  *ledger.Event
	index  int // of the object among those of its type in the event
	object T
}

func (s snapshot[T]) fetched() bool { return s.event.Source == ledger.Fetch }

func snapshots[T any](events []*ledger.Event, of func(*ledger.Facts) []T) []snapshot[T] {
	var all []snapshot[T]
	for _, e := range events {
		for i, object := range of(&e.Facts) {
			all = append(all, snapshot[T]{e, i, object})
		}
	}
	return all
}

// only returns the elements for which keep is true.
func only[T any](all []T, keep func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), func(t T) bool { return !keep(t) })
}

// ofID returns the snapshots of the object with the id want.
func ofID[T any](all []snapshot[T], id func(T) string, want string) []snapshot[T] {
	return only(all, func(s snapshot[T]) bool { return id(s.object) == want })
}

// idsOf returns the ids of the objects, sorted and without repeats.
func idsOf[T any](all []snapshot[T], id func(T) string) []string {
	var ids []string
	for _, s := range all {
		ids = append(ids, id(s.object))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func chargeID(c ledger.Charge) string   { return c.ID }
func refundID(r ledger.Refund) string   { return r.ID }
func disputeID(d ledger.Dispute) string { return d.ID }

// greatest returns the greatest element, or nil if there are no elements.
func greatest[T any](all []T, compare func(a, b T) int) *T {
	for i, a := range all {
		if !slices.ContainsFunc(all, func(b T) bool { return compare(b, a) > 0 }) {
			return &all[i]
		}
	}
	return nil
}

// earliest returns the least known time, or 0 if no time is known.
func earliest[T any](all []T, at func(T) int64) int64 {
	var least int64
	for _, t := range all {
		least = lesser(least, at(t))
	}
	return least
}

// later compares by the event's time, then by its id.
func later(a, b *ledger.Event) int {
	return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.ID, b.ID))
}

// known returns an amount that cannot be negative. A negative amount is unknown and counts as 0.
func known(amount int64) int64 { return max(amount, 0) }

func units(n int64) *big.Int          { return big.NewInt(n) }
func plus(a, b *big.Int) *big.Int     { return new(big.Int).Add(a, b) }
func minus(a, b *big.Int) *big.Int    { return new(big.Int).Sub(a, b) }
func notNegative(a *big.Int) *big.Int { return larger(a, units(0)) }
func isPositive(a *big.Int) bool      { return a.Sign() > 0 }
func smaller(a, b *big.Int) *big.Int  { return pickIf(a.Cmp(b) < 0, a, b) }
func larger(a, b *big.Int) *big.Int   { return pickIf(a.Cmp(b) > 0, a, b) }
func pickIf[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// posting is an entry whose amount may be of any size.
type posting struct {
	ledger.Entry
	amount *big.Int
}

// computation is the state of computing one payment.
type computation struct {
	id          string
	events      []*ledger.Event
	intents     []snapshot[ledger.Intent]
	charges     []snapshot[ledger.Charge]
	refunds     []snapshot[ledger.Refund]
	disputes    []snapshot[ledger.Dispute]
	payment     ledger.Payment
	currency    string // of the entries
	postings    []posting
	unexplained []string
	flags       map[string]bool
	rules       map[string]bool // names of the rules that applied, for the test of the generator
}

func compute(id string, events []*ledger.Event) *computation {
	b := &computation{
		id: id, events: events, flags: map[string]bool{}, rules: map[string]bool{},
		intents:  snapshots(events, func(f *ledger.Facts) []ledger.Intent { return f.Intents }),
		charges:  snapshots(events, func(f *ledger.Facts) []ledger.Charge { return f.Charges }),
		refunds:  snapshots(events, func(f *ledger.Facts) []ledger.Refund { return f.Refunds }),
		disputes: snapshots(events, func(f *ledger.Facts) []ledger.Dispute { return f.Disputes }),
		payment: ledger.Payment{
			Object: "payment", ID: id, Livemode: events[0].Livemode, Metadata: map[string]string{},
			Events:  uint64(len(events)),
			Refunds: []ledger.PaymentRefund{}, Disputes: []ledger.PaymentDispute{}, Flags: []string{},
		},
	}
	for _, e := range events {
		b.payment.Account = lesser(b.payment.Account, ledger.OrNull(e.Account))
		b.payment.Context = lesser(b.payment.Context, ledger.OrNull(e.Context))
		b.payment.Updated = max(b.payment.Updated, ledger.OrNullTime(e.Created))
	}
	b.payment.Created = ledger.OrNullTime(cmp.Or(b.intentCreated(),
		earliest(b.charges, func(c snapshot[ledger.Charge]) int64 { return c.object.Created }),
		earliest(b.events, func(e *ledger.Event) int64 { return e.Created })))
	b.describe()
	b.chooseCurrency()
	b.resolveCaptures()
	b.flagAmounts()
	b.flagCurrencies()
	b.receive()
	b.refundAll()
	b.disputeAll()
	b.close()
	return b
}

func (b *computation) result() modelPayment {
	p := modelPayment{Payment: b.payment, Unexplained: b.unexplained}
	for _, e := range b.postings {
		p.Entries = append(p.Entries, e.Entry)
	}
	return p
}

func (b *computation) flag(name string) { b.flags[name] = true }
func (b *computation) rule(name string) { b.rules[name] = true }

// post adds an entry. If the time is unknown (0), the entry gets the time at which the payment was
// created.
func (b *computation) post(kind fold.Kind, id string, at int64, object, charge string, amount *big.Int) {
	if amount.Sign() == 0 {
		return
	}
	if at == 0 {
		b.rule("entry without a time")
		at = int64(b.payment.Created)
	}
	e := ledger.Entry{ID: id, At: at, Kind: kind, Object: object, Charge: charge, Currency: b.currency}
	b.postings = append(b.postings, posting{e, amount})
}

// flagAmounts looks for negative amounts.
func (b *computation) flagAmounts() {
	var amounts []int64
	for _, in := range b.intents {
		amounts = append(amounts, in.object.Amount, in.object.AmountCapturable, in.object.AmountReceived)
	}
	for _, c := range b.charges {
		amounts = append(amounts, c.object.Amount, c.object.AmountCaptured, c.object.AmountRefunded)
	}
	for _, r := range b.refunds {
		amounts = append(amounts, r.object.Amount)
	}
	for _, d := range b.disputes {
		amounts = append(amounts, d.object.Amount)
	}
	if slices.ContainsFunc(amounts, func(n int64) bool { return n < 0 }) {
		b.flag("amount")
	}
}

// chooseCurrency chooses the currency of the entries: that of the payment, else of a refund, else
// of a dispute.
func (b *computation) chooseCurrency() {
	var ofRefunds, ofDisputes string
	for _, r := range b.refunds {
		ofRefunds = lesser(ofRefunds, r.object.Currency)
	}
	for _, d := range b.disputes {
		ofDisputes = lesser(ofDisputes, d.object.Currency)
	}
	b.currency = cmp.Or(string(b.payment.Currency), ofRefunds, ofDisputes)
	if b.payment.Currency == "" && ofRefunds != "" {
		b.rule("currency of a refund")
	} else if b.payment.Currency == "" && ofDisputes != "" {
		b.rule("currency of a dispute")
	}
}

// counts reports whether objects in a currency count for the money of the payment.
func (b *computation) counts(currency string) bool { return currency == "" || currency == b.currency }

// flagCurrencies looks for PaymentIntents and charges whose currency does not count.
func (b *computation) flagCurrencies() {
	for _, in := range b.intents {
		if !b.counts(in.object.Currency) {
			b.flag("currency_mismatch")
			b.rule("PaymentIntent in another currency")
		}
	}
	for _, c := range b.charges {
		if !b.counts(c.object.Currency) {
			b.flag("currency_mismatch")
			b.rule("charge in another currency")
		}
	}
}

// close adds up the entries and fills in the amounts and flags of the payment.
func (b *computation) close() {
	sums := map[fold.Kind]*big.Int{}
	for _, kind := range fold.Kinds {
		sums[kind] = units(0)
	}
	fits := true
	for i, e := range b.postings {
		b.postings[i].Amount = e.amount.Int64()
		fits = fits && e.amount.IsInt64()
		sums[e.Kind] = plus(sums[e.Kind], e.amount)
	}
	refunded := minus(sums[fold.Refunded], sums[fold.RefundReturned])
	net := plus(minus(minus(sums[fold.Received], refunded), sums[fold.DisputeWithdrawn]), sums[fold.DisputeReinstated])
	for _, sum := range sums {
		fits = fits && sum.IsInt64()
	}
	known := b.knowsReceived()
	if fits = fits && refunded.IsInt64() && net.IsInt64(); fits {
		figure := func(sum *big.Int) *int64 { n := sum.Int64(); return &n }
		known = known && !(sums[fold.Received].Sign() == 0 && b.hidesReceived())
		refundsKnown := !(refunded.Sign() == 0 && b.hidesRefunds())
		if refundsKnown {
			b.payment.AmountRefunded = figure(refunded)
		}
		b.payment.DisputeWithdrawn = figure(sums[fold.DisputeWithdrawn])
		b.payment.DisputeReinstated = figure(sums[fold.DisputeReinstated])
		if known {
			b.payment.AmountReceived = figure(sums[fold.Received])
		}
		if known && refundsKnown {
			b.payment.AmountNet = figure(net)
		}
		if fees := b.addFees(); fees != nil && fees.IsInt64() {
			b.rule("fee")
			b.payment.Fee = figure(fees)
		}
	} else {
		b.flag("overflow")
		b.postings = nil
	}
	slices.SortFunc(b.postings, func(x, y posting) int {
		return cmp.Or(cmp.Compare(x.At, y.At), cmp.Compare(x.ID, y.ID))
	})
	for _, e := range b.postings {
		if e.Kind == fold.Received {
			b.payment.Captured = lesser(b.payment.Captured, ledger.OrNullTime(e.At))
		}
	}
	for _, flag := range fold.Flags {
		if b.flags[flag] {
			b.payment.Flags = append(b.payment.Flags, flag)
			b.rule("flag " + flag)
		}
	}
	if strings.HasPrefix(b.id, "ch_") {
		b.rule("payment known by its charge")
	}
}
