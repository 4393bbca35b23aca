package fold

import (
	"cmp"
	"slices"
	"strings"
)

// usualOrder is that of events that share a second: Stripe's seconds do not order them.
var usualOrder = []string{
	"payment_intent.created", "payment_intent.requires_action", "payment_intent.processing", "charge.pending", "charge.failed",
	"payment_intent.payment_failed", "charge.succeeded", "payment_intent.amount_capturable_updated", "payment_intent.partially_funded",
	"charge.captured", "payment_intent.succeeded", "payment_intent.canceled", "charge.expired",
	"checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed", "checkout.session.expired",
	"charge.updated", "refund.created", "charge.refunded", "refund.updated", "charge.refund.updated", "refund.failed",
	"charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.funds_reinstated",
}

// Ordered reports whether events of a type have a place of their own among those of one second.
func Ordered(typ string) bool { return slices.Contains(usualOrder, typ) }

// Compare orders events as they happened: by their time, by the usual order of types, by id.
func Compare(a, b *Event) int {
	usual := func(typ string) int {
		if i := slices.Index(usualOrder, typ); i >= 0 {
			return i
		}
		return len(usualOrder)
	}
	return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(usual(a.Type), usual(b.Type)), strings.Compare(a.ID, b.ID))
}

// Timeline returns the order in which the events of a payment happened, as indexes of events, and
// for each in that order a sentence that says what it meant, with the amounts that were booked.
func Timeline(id string, events []Event) (order []int, sentences []string) {
	t := timeline{folder: run(id, events), booked: map[string]Entry{}, told: map[string]bool{}, refunded: map[string]int64{}, figures: map[string]figures{}}
	for _, e := range t.entries {
		t.booked[e.ID] = e
	}
	for i := range events {
		order = append(order, i)
	}
	slices.SortFunc(order, func(a, b int) int { return Compare(&events[a], &events[b]) })
	for _, i := range order {
		sentences = append(sentences, t.sentence(&events[i]))
	}
	return order, sentences
}

// timeline describes events in their order.
type timeline struct {
	*folder
	booked   map[string]Entry   // by id
	told     map[string]bool    // transactions of disputes that a sentence has named
	refunded map[string]int64   // by charge: what the last sentence said was refunded of it
	figures  map[string]figures // by charge
}

// figures are what sentences about a charge need of all its snapshots.
type figures struct {
	released int64
	totals   []int64 // captured amounts, ascending
}

// figuresOf returns the figures of a charge of the payment.
func (t *timeline) figuresOf(charge string) figures {
	f, known := t.figures[charge]
	if !known {
		c := t.charge(charge)
		f = figures{t.released(c).amount, c.increases()}
		t.figures[charge] = f
	}
	return f
}

// sentence describes an event. The object it is about comes first among its facts of that kind.
func (t *timeline) sentence(e *Event) string {
	family, _, _ := strings.Cut(e.Type, ".")
	f := e.Facts
	switch {
	case strings.HasPrefix(e.Type, "charge.dispute.") && len(f.Disputes) > 0:
		return t.disputeSentence(e, &f.Disputes[0])
	case (family == "refund" || strings.HasPrefix(e.Type, "charge.refund.")) && len(f.Refunds) > 0:
		return t.refundSentence(e, &f.Refunds[0])
	case family == "checkout" && len(f.Sessions) > 0:
		return sessionSentence(e.Type, f.Sessions[0].PaymentStatus)
	case family == "charge" && len(f.Charges) > 0:
		return t.chargeSentence(e, &f.Charges[0])
	case len(f.Intents) > 0:
		return t.intentSentence(e, &f.Intents[0])
	case len(f.Charges) > 0:
		return t.chargeSentence(e, &f.Charges[0])
	case len(f.Refunds) > 0:
		return t.refundSentence(e, &f.Refunds[0])
	case len(f.Disputes) > 0:
		return t.disputeSentence(e, &f.Disputes[0])
	}
	return "An event named this payment."
}

// money writes an amount for a person. Without a currency it is the payment's.
func (t *timeline) money(amount int64, currency string) string {
	currency = cmp.Or(currency, t.cur)
	return strings.TrimSpace(Decimal(amount, currency) + " " + strings.ToUpper(currency))
}

// moved writes an amount of money that moved, and says where it is not in the payment's figures
// because it is in another currency.
func (t *timeline) moved(amount int64, currency string) string {
	if !t.counts(currency) {
		return t.money(amount, currency) + " (not counted)"
	}
	return t.money(amount, currency)
}

func (t *timeline) intentSentence(e *Event, in *Intent) string {
	amount := "an unknown amount"
	if in.HasAmount {
		amount = t.money(in.Amount, in.Currency)
	} else if t.payment.Amount != nil {
		amount = t.money(*t.payment.Amount, t.cur)
	}
	switch {
	case e.Type == typeCreated:
		return "The payment of " + amount + " was created."
	case e.Type == "payment_intent.partially_funded":
		return "A bank transfer paid a part of " + amount + "."
	case in.Status == statusSucceeded && !in.HasReceived && t.payment.AmountReceived == nil:
		return "The payment of " + amount + " succeeded; how much was received is not known."
	case in.Status == statusSucceeded && !in.HasReceived:
		return "Received " + t.money(*t.payment.AmountReceived, t.cur) + "."
	case in.Status == statusSucceeded:
		return "Received " + t.money(in.AmountReceived, in.Currency) + "."
	case in.Status == statusCanceled:
		return "The payment was canceled."
	case in.Status == "requires_action":
		return "Waiting for the customer, for example to confirm the payment at the bank."
	case in.Status == "processing":
		return "Processing: waiting for the bank."
	case in.Status == statusRequiresCapture:
		return t.money(in.AmountCapturable, in.Currency) + " can be captured."
	case in.LastError != nil:
		why := cmp.Or(in.LastError.DeclineCode, in.LastError.Code, in.LastError.Message)
		return strings.TrimSuffix("An attempt to pay failed: "+string(why), ": ") + "."
	}
	return "The payment is now " + in.Status + "."
}

func (t *timeline) chargeSentence(e *Event, c *Charge) string {
	amount := t.money(c.Amount, c.Currency)
	refunded, before := t.refundedSum(c), t.refunded[c.ID]
	t.refunded[c.ID] = refunded
	switch typ := e.Type; {
	case typ == "charge.refunded" && !c.Captured:
		return "Released the authorisation of " + amount + "; no money moved."
	case typ == typeCaptured:
		return t.captureSentence(c) + t.cameBack(c, before-refunded)
	case c.Captured && refunded < before && t.cameBack(c, before-refunded) != "":
		return strings.TrimSpace(t.cameBack(c, before-refunded))
	case c.Captured && refunded < before:
		return "Refunded so far: " + t.moved(refunded, c.Currency) + " of " + t.money(c.AmountCaptured, c.Currency) + "."
	case typ == "charge.refunded" && refunded == 0:
		return "Released " + t.money(c.AmountRefunded, c.Currency) + " that had not been captured; no money moved."
	case typ == "charge.refunded":
		return "Refunded so far: " + t.moved(refunded, c.Currency) + " of " + t.money(c.AmountCaptured, c.Currency) + "."
	case typ == "charge.expired":
		return "The authorisation of " + amount + " expired: nothing was charged."
	case typ == "charge.updated":
		return "Details of the charge of " + amount + " changed."
	case c.Status == chargeFailed:
		return strings.TrimSuffix("A charge of "+amount+" failed: "+c.FailureCode, ": ") + "."
	case c.Status == chargePending:
		return "A charge of " + amount + " is pending."
	case !c.Captured:
		return "Authorised " + amount + ", not yet captured."
	}
	return "Charged " + t.moved(c.AmountCaptured, c.Currency) + "."
}

// cameBack says that an amount of refunds came back, unless events of the refunds themselves say
// so.
func (t *timeline) cameBack(c *Charge, amount int64) string {
	told := slices.ContainsFunc(t.refunds, func(r refundFacts) bool { return r.of != nil && r.of.id == c.ID && r.reversed() })
	if amount <= 0 || told {
		return ""
	}
	return " A refund of " + t.moved(amount, c.Currency) + " came back."
}

// refundedSum returns what a snapshot says was refunded, without what was only released.
func (t *timeline) refundedSum(c *Charge) int64 {
	f := t.figuresOf(c.ID)
	last := len(f.totals) == 0 || c.AmountCaptured == f.totals[len(f.totals)-1]
	if c.Captured && f.released > 0 && c.AmountRefunded >= f.released && last {
		return c.AmountRefunded - f.released
	}
	return max(0, c.AmountRefunded)
}

// captureSentence says how much a capture took, and of a further one what it added.
func (t *timeline) captureSentence(c *Charge) string {
	of := t.money(c.AmountCaptured, c.Currency) + " of " + t.money(c.Amount, c.Currency) + "."
	totals := t.figuresOf(c.ID).totals
	if k, found := slices.BinarySearch(totals, c.AmountCaptured); found && k > 0 {
		return "Captured " + t.moved(c.AmountCaptured-totals[k-1], c.Currency) + " more: " + of
	}
	return "Captured " + t.moved(c.AmountCaptured, c.Currency) + " of " + t.money(c.Amount, c.Currency) + "."
}

func (t *timeline) refundSentence(e *Event, in *Refund) string {
	amount := t.money(in.Amount, in.Currency)
	i, _ := slices.BinarySearchFunc(t.refunds, in.ID, func(r refundFacts, id string) int { return strings.Compare(r.id, id) })
	if r := &t.refunds[i]; r.release || r.of != nil && !r.of.captured() {
		return "Released " + amount + " that had not been captured, which Stripe calls a refund; no money moved."
	}
	switch in.Status {
	case refundPending:
		return "A refund of " + amount + " is pending."
	case refundRequiresAction:
		return "A refund of " + amount + " waits for the customer."
	case refundSucceeded:
		if e.Type != "refund.created" { // an earlier event had it; a reader who adds up must not count it again
			return "The refund of " + amount + " has succeeded."
		}
		return "Refunded " + t.moved(in.Amount, in.Currency) + "."
	case refundFailed:
		return "The refund of " + amount + " failed: the money came back."
	case refundCanceled:
		return "The refund of " + amount + " was canceled."
	}
	return "The refund of " + amount + " has the status " + cmp.Or(in.Status, "unknown") + "."
}

func (t *timeline) disputeSentence(e *Event, d *Dispute) string {
	amount := t.money(d.Amount, d.Currency)
	because := ""
	if d.Reason != "" {
		because = " (" + d.Reason + ")"
	}
	switch typ := e.Type; {
	case typ == "charge.dispute.created" && strings.HasPrefix(d.Status, "warning_"):
		return "The bank asks about " + amount + because + "; no money moves."
	case typ == "charge.dispute.created":
		return "The customer disputes " + amount + because + "."
	case typ == "charge.dispute.funds_withdrawn":
		return "Withdrawn for the dispute: " + t.movedBy(d, DisputeWithdrawn) + "."
	case typ == "charge.dispute.funds_reinstated":
		return "Given back from the dispute: " + t.movedBy(d, DisputeReinstated) + "."
	case d.Status == "warning_closed":
		return "The bank's inquiry was closed."
	case d.Status == "won", d.Status == "lost":
		return "The dispute over " + amount + " was " + d.Status + "."
	}
	return "The dispute over " + amount + " has the status " + d.Status + "."
}

// movedBy says what the transactions of one direction in a dispute's snapshot moved: those that no
// earlier sentence has named, else the last one.
func (t *timeline) movedBy(d *Dispute, kind Kind) string {
	var all, fresh []DisputeTransaction
	for _, tx := range d.Transactions {
		if tx.Amount == 0 || (tx.Amount < 0) != (kind == DisputeWithdrawn) {
			continue
		}
		all = append(all, tx)
		if !t.told[tx.ID] {
			fresh = append(fresh, tx)
		}
		t.told[tx.ID] = true
	}
	if len(all) == 0 {
		return "an amount that the event does not say"
	}
	if len(fresh) == 0 {
		fresh = all[len(all)-1:]
	}
	var parts []string
	var sum int64
	currency := ""
	for _, tx := range fresh {
		e, booked := t.booked[tx.ID]
		switch {
		case !booked:
			parts = append(parts, t.money(max(tx.Amount, -tx.Amount), tx.Currency)+" (not counted)")
		case e.Currency != tx.Currency:
			parts = append(parts, "about "+t.money(e.Amount, e.Currency))
		default:
			sum, currency = sum+e.Amount, e.Currency
		}
	}
	if sum != 0 {
		parts = append(parts, t.money(sum, currency))
	}
	return strings.Join(parts, " and ")
}

func sessionSentence(typ, status string) string {
	switch typ {
	case "checkout.session.completed":
		return "The customer completed Checkout: " + cmp.Or(status, "payment status unknown") + "."
	case "checkout.session.async_payment_succeeded":
		return "The payment that began in Checkout succeeded."
	case "checkout.session.async_payment_failed":
		return "The payment that began in Checkout failed."
	case "checkout.session.expired":
		return "The Checkout page expired."
	}
	return "Checkout is now " + cmp.Or(status, "in an unknown status") + "."
}
