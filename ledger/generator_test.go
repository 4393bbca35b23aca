package ledger_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"tillhook/ledger"
)

// midnight is the middle of the times of random events, so that their money falls on two days.
const midnight = 1760054400

// seconds is the number of different times of random events. It is small, so that equal times are
// common.
const seconds = 6

// world is what a random set of events is about. Properties that Stripe never changes in an object
// are drawn once for the world. Others are drawn for each snapshot.
type world struct {
	*rand.Rand
	name     string
	scale    int      // factor of the usual number of objects
	intents  []string // empty if only charges link the events
	intent   ledger.Intent
	statuses []string // of the PaymentIntent
	charges  []ledger.Charge
	lives    map[string]life // of the charges, by id
	refunds  []ledger.Refund
	disputes []ledger.Dispute
	strays   int    // one in so many events names only a charge, although it could name a PaymentIntent
	weights  [5]int // relative numbers of PaymentIntents, sessions, charges, refunds and disputes

	// Kinds of worlds. Most are rare.
	huge            bool // some amounts are near the limits of int64
	odd             bool // some amounts are negative, some currencies differ or are missing
	voids           bool // one charge is captured in part, and most refunds have the amount of that void
	captures        bool // one charge is captured in several steps, with refunds in between
	twice           bool // and the refund between the captures has the amount of the void of the last one
	undone          bool // and that refund failed before the last capture
	sparse          bool // many PaymentIntents have no amount, and some no currency
	withoutReceived bool // no PaymentIntent has an amount_received
	missed          bool // the endpoint does not receive charge.captured
	old             bool // most captured charges have no amount_captured
	reads           bool // most objects are fetched, PaymentIntents all within one or two seconds

	pool  []string          // if not nil, ids of all kinds are drawn from it
	mixed map[string]string // by regular id: the id of the pool that replaces it at present
}

// life is how the captured and refunded totals of a charge develop, second by second.
type life struct {
	random             bool // the totals are drawn for each snapshot instead
	captured, refunded [seconds]int64
}

func pick[T any](rng *rand.Rand, values ...T) T { return values[rng.IntN(len(values))] }

func (w *world) oneIn(n int) bool { return w.IntN(n) == 0 }

func (w *world) at() int64 { return midnight - seconds/2 + w.Int64N(seconds) }

// maybe returns a time, or rarely 0.
func (w *world) maybe(at int64) int64 {
	if w.oneIn(15) {
		return 0
	}
	return at
}

// money returns one of the amounts, or in some worlds an extreme one.
func (w *world) money(amounts ...int64) int64 {
	switch {
	case w.huge && w.oneIn(3):
		return pick[int64](w.Rand, math.MaxInt64, math.MaxInt64-1, math.MaxInt64/2, math.MaxInt64/2+1)
	case w.odd && w.oneIn(16):
		return pick[int64](w.Rand, -1, -300, math.MinInt64)
	}
	return pick(w.Rand, amounts...)
}

// randomEvents returns a random set of n events of one payment, or of a few that share charges. The
// properties have few different values, so that ties of every kind and all rules are common.
func randomEvents(rng *rand.Rand, name string, n int) []*ledger.Event {
	return newWorld(rng, name, 1).randomEvents(n)
}

// manyRandomEvents returns a random set of events with so many objects that most lists of its
// payments are stored in the bucket lists.
func manyRandomEvents(rng *rand.Rand, name string, n int) []*ledger.Event {
	return newWorld(rng, name, 12).randomEvents(n)
}

func (w *world) randomEvents(n int) []*ledger.Event {
	rng, name := w.Rand, w.name
	var events []*ledger.Event
	for i := range n {
		e := &ledger.Event{
			ID: fmt.Sprintf("evt_%s_%02d", name, i), Created: w.at(),
			Source: pick(rng, ledger.Webhook, ledger.Webhook, ledger.Reconcile),
			APIVersion: pick(rng, "", "2023-10-16", "2023-10-16", "2025-02-24.acacia", "2025-03-31.basil",
				"2026-03-25.dahlia", "2026-03-25.dahlia"),
			Received: time.Unix(1760000100, 0), Raw: []byte("{}"),
		}
		if w.oneIn(4) {
			e.Account = fmt.Sprintf("acct_%d", rng.IntN(3))
		}
		if w.oneIn(6) {
			e.Context = fmt.Sprintf("org_1/acct_%d", rng.IntN(3))
		}
		if w.oneIn(25) {
			e.Created = 0
		}
		if len(w.intents) > 0 && !w.oneIn(w.strays) {
			e.Facts.PaymentIntent = w.intents[0]
			if len(w.intents) > 1 && w.oneIn(3) {
				e.Facts.PaymentIntent = w.intents[1]
			}
		}
		w.fill(e)
		if w.reads && len(e.Facts.Intents) > 0 {
			e.Source, e.Created = ledger.Fetch, midnight+pick[int64](rng, 0, 0, 0, 1)
		}
		for _, c := range chargesNamed(&e.Facts) {
			if c != "" {
				e.Facts.Charge = c
				break
			}
		}
		if w.pool != nil {
			w.mixUp(&e.Facts)
		}
		events = append(events, e)
	}
	return events
}

// fill puts an object of a random kind into an event.
func (w *world) fill(e *ledger.Event) {
	sum := 0
	for _, weight := range w.weights {
		sum += weight
	}
	kind, at := 0, w.IntN(sum)
	for at >= w.weights[kind] {
		at -= w.weights[kind]
		kind++
	}
	switch {
	case kind == 0 && e.Facts.PaymentIntent != "":
		w.addIntent(e)
	case kind == 1 && e.Facts.PaymentIntent != "":
		w.addSession(e)
	case kind == 3:
		w.addRefund(e)
	case kind == 4:
		w.addDispute(e)
	default:
		w.addCharge(e)
	}
}

func newWorld(rng *rand.Rand, name string, scale int) *world {
	w := &world{Rand: rng, name: name, scale: scale, strays: pick(rng, 2, 4, 12), lives: map[string]life{}}
	w.huge, w.odd, w.reads = w.oneIn(20), w.oneIn(4), w.oneIn(6)
	for kind := range w.weights {
		w.weights[kind] = pick(rng, 0, 1, 4)
	}
	w.weights[rng.IntN(len(w.weights))]++ // at least one is not 0
	w.voids, w.captures, w.sparse, w.missed = w.oneIn(6), w.oneIn(5), w.oneIn(5), w.oneIn(4)
	w.old = w.oneIn(8) && !w.captures
	w.odd, w.withoutReceived = w.odd || w.sparse && w.oneIn(2), w.oneIn(12)
	if w.withoutReceived && w.oneIn(2) {
		w.weights[0], w.weights[2] = 4, 0
	}
	if w.oneIn(8) {
		w.mixed, w.pool = map[string]string{},
			[]string{"ch_" + name, "dispute_of_ch_" + name, "pi_" + name, "re_" + name, "x" + name}
	}
	if !w.oneIn(5) {
		w.intents = append(w.intents, "pi_"+name)
		if w.oneIn(8) {
			w.intents = append(w.intents, "pi_"+name+"_b")
		}
	}
	all := []string{
		"requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture",
		"requires_reconfirmation", "frobnicated", "succeeded", "succeeded", "canceled",
	}
	w.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	w.statuses = all[:1+w.IntN(len(all))]
	switch w.IntN(12) {
	case 0, 1:
		w.statuses, w.captures = []string{"requires_capture"}, false
		w.voids, w.missed = w.voids || w.oneIn(2), w.missed || w.oneIn(2)
	case 2, 3:
		w.statuses = []string{"processing", "succeeded", "canceled"}
	}
	switch {
	case w.captures:
		w.voids, w.weights = false, [5]int{1, 0, 4, 1, 0}
		if w.twice = !w.oneIn(3); w.twice {
			w.weights[3], w.undone = 3, w.oneIn(3)
		}
	case w.voids:
		w.weights = [5]int{1, 0, 4, 2, 0}
	case w.sparse:
		w.weights[0] += 4
	}
	currency := pick(rng, "usd", "usd", "jpy")
	w.intent = ledger.Intent{Currency: currency, Created: w.at()}
	w.drawCharges(currency)
	w.drawRefunds(currency)
	w.drawDisputes(currency)
	return w
}

func (w *world) drawCharges(currency string) {
	many := pick(w.Rand, 1, 1, 2, 3)
	if w.voids || w.captures {
		many = 1
	}
	for i := range many * w.scale {
		c := ledger.Charge{
			ID: fmt.Sprintf("ch_%s_%d", w.name, i), Currency: currency, Amount: w.money(1000, 1000, 700),
			Created:  w.at(),
			Captured: w.captures || !w.oneIn(4), // whether any snapshot can show it as captured
		}
		if w.odd && w.oneIn(4) {
			c.Currency = pick(w.Rand, "", "mxn")
		}
		if i == 0 && len(w.intents) == 1 && w.oneIn(60) {
			c.ID = w.intents[0] // a link to itself
		}
		w.charges = append(w.charges, c)
		switch {
		case w.twice:
			w.lives[c.ID] = w.drawTwice(c)
		case w.captures:
			w.lives[c.ID] = w.drawCaptures(c)
		default:
			w.lives[c.ID] = w.drawLife(c)
		}
	}
}

// drawLife draws captures that grow, with or without the void of the last one, and refunds, some of
// which fail.
func (w *world) drawLife(c ledger.Charge) life {
	l := life{random: w.oneIn(3) && !w.voids}
	var captured, refunded int64
	first := w.IntN(seconds)
	if w.voids || w.oneIn(2) {
		first = 0
	}
	for i := range seconds {
		if i == first {
			captured = c.Amount - w.money(0, 300, 300, pick[int64](w.Rand, 300, 600))
			if captured < c.Amount && (w.voids || w.oneIn(2)) {
				refunded += c.Amount - captured
			}
		} else if i > first && !w.voids && w.oneIn(8) {
			captured += 300
		}
		switch {
		case captured > 0 && w.oneIn(pickIf(w.voids, 10, 4)):
			refunded += w.money(200, 300, 300, 500)
		case captured > 0 && w.oneIn(6) && !w.voids:
			refunded -= pick(w.Rand, 200, 300, refunded)
		}
		l.captured[i], l.refunded[i] = max(captured, 0), max(refunded, 0)
	}
	return l
}

// drawCaptures draws one or two partial captures, and refunds of the amounts captured so far. The
// rest is released with the last capture, or later because the authorization expires, or not at
// all.
func (w *world) drawCaptures(c ledger.Charge) life {
	var l life
	var captured, refunded, voided int64
	first := w.IntN(2)
	last := first + 1 + w.IntN(3)
	voidedAt := pick(w.Rand, last, last, last+1, seconds)
	for i := range seconds {
		switch i {
		case first:
			captured = pick[int64](w.Rand, 100, 300, 300)
		case last:
			captured += pick[int64](w.Rand, 0, 200, 300, 300)
		}
		if i >= first && w.oneIn(3) {
			refunded = min(refunded+pick[int64](w.Rand, 100, 200, 300), captured)
		}
		if i == voidedAt {
			voided = max(c.Amount-captured, 0)
		}
		l.captured[i], l.refunded[i] = captured, refunded+min(voided, math.MaxInt64-refunded)
	}
	return l
}

// drawTwice draws two captures, a refund of 300 before the last one, and a void of 300 with it. If
// the refund failed, the total contains only the void.
func (w *world) drawTwice(c ledger.Charge) life {
	var l life
	rest := min(max(c.Amount, 0), 300)
	last := 3 + w.IntN(2)
	for i := range seconds {
		l.captured[i], l.refunded[i] = rest, rest
		if i >= last {
			l.captured[i], l.refunded[i] = c.Amount-rest, pickIf(w.undone, rest, 2*rest)
		}
	}
	return l
}

func (w *world) drawRefunds(currency string) {
	for i := range w.scale * pickIf(w.twice, 2, 1+w.IntN(4)) {
		c := pick(w.Rand, w.charges...)
		r := ledger.Refund{
			ID:       fmt.Sprintf("re_%s_%d", w.name, i),
			Currency: pick(w.Rand, currency, currency, currency, currency, "", "eur"),
			Charge:   pick(w.Rand, c.ID, c.ID, c.ID, "", "ch_"+w.name+"_9"), Amount: w.money(300, 300, 200, 1000),
			Reason:  pick(w.Rand, "", "", "expired_uncaptured_charge", "requested_by_customer"),
			Created: w.at() + w.Int64N(3),
		}
		l := w.lives[c.ID]
		if rest := c.Amount - slices.Max(l.captured[:]); rest > 0 && (w.voids || w.twice || w.oneIn(2)) {
			r.Amount = rest
		}
		if w.twice { // one refund long before the last capture, and one close to it
			r.Currency = currency
			r.Created, r.Charge, r.Reason = midnight-seconds/2+int64(2*i), c.ID,
				pick(w.Rand, "", "expired_uncaptured_charge")
		}
		w.refunds = append(w.refunds, r)
	}
}

func (w *world) drawDisputes(currency string) {
	var pool []ledger.Transaction // of all disputes, so that some disputes share a transaction
	settled := pick(w.Rand, currency, "eur", "eur")
	halves := w.oneIn(3) // amounts that are often rounded when they are converted
	for i := range w.scale * (1 + w.IntN(6)) {
		amount := pick[int64](w.Rand, -1000, -400, -400, -370, -16, -16, -16, -16, 400, 950, 1, 3, 5, 10, 0)
		if halves {
			settled, amount = "eur", pick[int64](w.Rand, -16, -16, 1, 3, 5)
		}
		if w.huge && w.oneIn(3) {
			amount = pick[int64](w.Rand, math.MinInt64, math.MinInt64+1, math.MaxInt64, math.MaxInt64-1)
		}
		pool = append(pool, ledger.Transaction{
			ID: fmt.Sprintf("txn_%s_%d", w.name, i), Amount: amount,
			Currency: pick(w.Rand, settled, settled, settled, settled, currency, "gbp"), Created: w.maybe(w.at()),
		})
	}
	for i := range w.scale * (1 + w.IntN(4)) {
		d := ledger.Dispute{
			ID: fmt.Sprintf("dp_%s_%d", w.name, i), Charge: pick(w.Rand, w.charges...).ID,
			Amount:   w.money(1000, 400, 1000, 0),
			Currency: pick(w.Rand, currency, currency, currency, currency, "eur", ""), Created: w.at(),
		}
		if w.oneIn(4) {
			d.ID = "dispute_of_" + d.Charge
			if slices.ContainsFunc(w.disputes, func(o ledger.Dispute) bool { return o.ID == d.ID }) {
				continue
			}
		}
		for _, t := range pool {
			if w.oneIn(2) {
				d.Transactions = append(d.Transactions, t)
			}
		}
		if w.oneIn(8) {
			d.Transactions = nil
		}
		w.disputes = append(w.disputes, d)
	}
}

// fetch turns one in so many events into an object that was fetched from the API.
func (w *world) fetch(e *ledger.Event, oneIn int) {
	if w.oneIn(oneIn) || w.reads && w.oneIn(2) {
		e.Source, e.Type = ledger.Fetch, pick(w.Rand, e.Type, "", "")
	}
}

func (w *world) addIntent(e *ledger.Event) {
	in := w.snapIntent(e.Facts.PaymentIntent)
	e.Type = "payment_intent." + pick(w.Rand, "created", "processing", "payment_failed", "succeeded", "canceled")
	w.fetch(e, 4)
	switch {
	case w.oneIn(8): // as before 2022-11-15, with all charges of the PaymentIntent
		for _, c := range w.charges {
			e.Facts.Charges = append(e.Facts.Charges, w.snapCharge(e, c))
		}
	case in.LatestCharge != "" && w.oneIn(4):
		e.Facts.Charges = []ledger.Charge{w.snapCharge(e, w.charge(in.LatestCharge))}
	}
	e.Facts.Intents = []ledger.Intent{in}
}

func (w *world) addSession(e *ledger.Event) {
	e.Type = "checkout.session.completed"
	e.Facts.Sessions = []ledger.Session{{ID: "cs_" + w.name, PaymentStatus: pick(w.Rand, "paid", "unpaid")}}
	if w.oneIn(6) {
		e.Facts.Intents = []ledger.Intent{w.snapIntent(e.Facts.PaymentIntent)}
	}
}

func (w *world) addCharge(e *ledger.Event) {
	e.Type = "charge." + pick(w.Rand, "pending", "failed", "succeeded", "succeeded", "captured", "captured", "captured",
		"updated", "expired", "refunded")
	if w.missed && e.Type == "charge.captured" {
		e.Type = "charge.updated"
	}
	w.fetch(e, 6)
	c := w.snapCharge(e, pick(w.Rand, w.charges...))
	e.Facts.Charges = []ledger.Charge{c}
	if w.oneIn(5) { // as before 2022-11-15, with the refunds of the charge
		for _, r := range w.refunds {
			if r.Charge == c.ID {
				e.Facts.Refunds = append(e.Facts.Refunds, w.snapRefund(e, r))
			}
		}
	}
	if w.oneIn(25) {
		e.Facts.Charges = append(e.Facts.Charges, w.snapCharge(e, pick(w.Rand, w.charges...)))
	}
	w.expand(e, "")
}

func (w *world) addRefund(e *ledger.Event) {
	e.Type = pick(w.Rand, "refund.created", "refund.updated", "refund.failed", "charge.refund.updated")
	r := w.snapRefund(e, pick(w.Rand, w.refunds...))
	if w.oneIn(8) {
		r.Charge = ""
	}
	if w.oneIn(20) {
		r.Charge = pick(w.Rand, w.charges...).ID
	}
	w.fetch(e, 6)
	e.Facts.Refunds = []ledger.Refund{r}
	w.expand(e, r.Charge)
}

func (w *world) addDispute(e *ledger.Event) {
	e.Type = "charge.dispute." + pick(w.Rand, "created", "updated", "funds_withdrawn", "funds_reinstated", "closed")
	d := w.snapDispute(pick(w.Rand, w.disputes...))
	if w.oneIn(8) && d.ID[:3] == "dp_" {
		d.Charge = ""
	}
	w.fetch(e, 10)
	e.Facts.Disputes = []ledger.Dispute{d}
	w.expand(e, d.Charge)
}

// expand replaces ids by the objects, as Stripe does for expanded fields.
func (w *world) expand(e *ledger.Event, charge string) {
	if slices.ContainsFunc(w.charges, func(c ledger.Charge) bool { return c.ID == charge }) && w.oneIn(6) {
		e.Facts.Charges = []ledger.Charge{w.snapCharge(e, w.charge(charge))}
	}
	if e.Facts.PaymentIntent != "" && w.oneIn(8) {
		e.Facts.Intents = []ledger.Intent{w.snapIntent(e.Facts.PaymentIntent)}
		if len(e.Facts.Charges) > 0 { // its charge must stay the first one that the event names
			e.Facts.Intents[0].LatestCharge = e.Facts.Charges[0].ID
		}
	}
}

func (w *world) charge(id string) ledger.Charge {
	return w.charges[slices.IndexFunc(w.charges, func(c ledger.Charge) bool { return c.ID == id })]
}

func (w *world) snapIntent(id string) ledger.Intent {
	in := w.intent
	in.ID, in.Created = id, w.maybe(in.Created)
	in.Status = pick(w.Rand, w.statuses...)
	in.HasAmount, in.Amount = true, w.money(1000, 1200)
	if w.oneIn(12) || w.sparse && w.oneIn(2) { // API versions of 2026 promise neither an amount nor a currency
		in.HasAmount, in.Amount, in.Currency = false, 0, pick(w.Rand, in.Currency, "")
	}
	if w.odd && (w.oneIn(6) || w.sparse && w.oneIn(2)) {
		in.Currency = pick(w.Rand, "mxn", "mxn", "")
	}
	in.AmountCapturable = w.money(0, 700)
	if in.HasReceived = !w.withoutReceived && !w.oneIn(20); in.HasReceived {
		in.AmountReceived = w.money(0, 0, 700, 1000, 1700)
		if w.odd && w.oneIn(4) {
			in.AmountReceived = -100
		}
	}
	in.LatestCharge = pick(w.Rand, "", pick(w.Rand, w.charges...).ID)
	in.Customer, in.Description = pick(w.Rand, "", "cus_1", "cus_2"), pick(w.Rand, "", "first", "second")
	if step := w.IntN(4); step > 0 {
		in.Metadata = map[string]string{"step": fmt.Sprint(step)}
	}
	if w.oneIn(4) {
		in.LastError = &ledger.PaymentError{Type: "card_error",
			Code: pick[ledger.OrNull](w.Rand, "card_declined", "expired_card")}
	}
	return in
}

func (w *world) snapCharge(e *ledger.Event, c ledger.Charge) ledger.Charge {
	c.Created = w.maybe(c.Created)
	c.Status = pick(w.Rand, "pending", "succeeded", "succeeded", "succeeded", "succeeded", "succeeded", "frobnicated")
	if w.oneIn(15) {
		c.Status = pick(w.Rand, "failed", "")
	}
	if w.oneIn(15) && c.Amount < 2000 && !w.twice {
		c.Amount += 200 // an incremental authorization
	}
	if l := w.lives[c.ID]; l.random {
		if c.Captured = c.Captured && !w.oneIn(3); c.Captured {
			c.AmountCaptured = c.Amount - pick[int64](w.Rand, 0, 300, 300, 300)
		}
		c.AmountRefunded = w.money(0, 0, 200, 300, 500, 1000)
	} else {
		second := w.IntN(seconds)
		if e.Created != 0 && !w.oneIn(10) {
			second = int(e.Created - (midnight - seconds/2))
		}
		if c.Captured = c.Captured && l.captured[second] > 0; c.Captured {
			c.AmountCaptured = l.captured[second]
		}
		c.AmountRefunded = l.refunded[second]
	}
	if w.odd && w.oneIn(8) { // regardless of Captured
		c.AmountCaptured = pick[int64](w.Rand, -700, 0, 700, 700, 1000)
	}
	if w.odd && w.oneIn(15) {
		c.AmountRefunded = -200
	}
	if w.old && c.Captured && !w.oneIn(6) {
		c.AmountCaptured, c.CaptureUnknown = 0, true
	}
	c.Customer, c.Description = pick(w.Rand, "", "cus_1", "cus_3"), pick(w.Rand, "", "charged")
	if w.oneIn(3) {
		c.Metadata = map[string]string{"charge": fmt.Sprint(w.IntN(3))}
	}
	if w.oneIn(8) {
		c.BalanceTransaction = &ledger.Booking{
			ID: fmt.Sprintf("txn_%s_c%d", w.name, w.IntN(3)), Created: w.maybe(w.at()), Fee: w.money(29, 30, 59),
			Currency: pick(w.Rand, c.Currency, c.Currency, "eur"),
		}
	}
	if c.Status == "failed" {
		c.FailureCode = "card_declined"
	}
	return c
}

func (w *world) snapRefund(e *ledger.Event, r ledger.Refund) ledger.Refund {
	r.Created = w.maybe(r.Created)
	r.Status = pick(w.Rand, "pending", "pending", "requires_action", "succeeded", "succeeded", "succeeded",
		"frobnicated")
	if w.oneIn(pickIf(w.twice, 10, 5)) {
		r.Status = pick(w.Rand, "failed", "canceled")
		if w.oneIn(4) {
			r.Returned = w.at()
		}
	}
	if w.undone && r.ID == w.refunds[0].ID && e.Created >= midnight-1 {
		r.Status = "failed"
	}
	if w.oneIn(8) {
		r.Booked = w.at()
	}
	if w.oneIn(12) {
		r.Amount = 300
	}
	return r
}

func (w *world) snapDispute(d ledger.Dispute) ledger.Dispute {
	d.Created, d.Reason = w.maybe(d.Created), pick(w.Rand, "fraudulent", "duplicate")
	d.Status = pick(w.Rand, "warning_needs_response", "warning_under_review", "warning_closed", "needs_response",
		"under_review",
		"prevented", "charge_refunded", "lost", "won", "frobnicated", "mystery")
	if w.oneIn(12) {
		d.Amount = 400
	}
	// Stripe lists all transactions so far. Rarely one has changed.
	d.Transactions = slices.Clone(d.Transactions[:w.IntN(len(d.Transactions)+1)])
	if len(d.Transactions) > 0 && w.oneIn(12) {
		t := &d.Transactions[w.IntN(len(d.Transactions))]
		t.Amount, t.Currency, t.Created = pick(w.Rand, t.Amount, -400, 10), pick(w.Rand, t.Currency, "eur"), w.at()
	}
	return d
}
