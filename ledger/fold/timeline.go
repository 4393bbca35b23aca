package fold

import (
	"cmp"
	"slices"
	"strings"
)

// usualOrder orders events that share a second by their type.
var usualOrder = []string{
	"payment_intent.created", "payment_intent.requires_action", "payment_intent.processing", "charge.pending", "charge.failed",
	"payment_intent.payment_failed", "charge.succeeded", "payment_intent.amount_capturable_updated", "payment_intent.partially_funded",
	"charge.captured", "payment_intent.succeeded", "payment_intent.canceled", "charge.expired",
	"checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed", "checkout.session.expired",
	"charge.updated", "refund.created", "charge.refunded", "refund.updated", "charge.refund.updated", "refund.failed",
	"charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.funds_reinstated",
}

// CompareEvents orders events as they happened: by time, then by the usual order of types, then by
// id.
func CompareEvents(a, b *Event) int {
	usual := func(typ string) int {
		if i := slices.Index(usualOrder, typ); i >= 0 {
			return i
		}
		return len(usualOrder)
	}
	return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(usual(a.Type), usual(b.Type)), strings.Compare(a.ID, b.ID))
}

// Timeline returns the order in which the events of a payment happened, as indexes into events, and
// a sentence for each event in that order. Sentences state the amounts that were booked, which the
// event's own object does not always have.
func Timeline(id string, events []Event) (order []int, sentences []string) {
	t := timeline{
		folder: run(id, events), booked: map[string]Entry{}, mentioned: map[string]bool{}, refunded: map[string]int64{},
		figures: map[string]figures{}, funds: map[string]bool{},
	}
	for _, e := range t.entries {
		if e.Kind == DisputeWithdrawn || e.Kind == DisputeReinstated {
			t.booked[e.ID] = e
		}
	}
	for i := range events {
		order = append(order, i)
		for j := range events[i].Facts.Disputes {
			for _, tx := range events[i].Facts.Disputes[j].Transactions {
				if t.moved(tx) && t.kindOf(tx) == fundsKinds[events[i].Type] {
					t.funds[tx.ID] = true
				}
			}
		}
	}
	slices.SortFunc(order, func(a, b int) int { return CompareEvents(&events[a], &events[b]) })
	for _, i := range order {
		base := t.sentence(&events[i])
		sentences = append(sentences, strings.TrimPrefix(base+t.movements(&events[i]), " "))
	}
	return order, sentences
}

// timeline describes the events of a payment in their order.
type timeline struct {
	*folder
	booked    map[string]Entry   // entries of disputes, by the id of the transaction
	mentioned map[string]bool    // ids of dispute transactions that a sentence has stated
	funds     map[string]bool    // ids of those that an event reports whose type says that they moved
	refunded  map[string]int64   // by charge: the refunded total of the last sentence
	figures   map[string]figures // by charge
}

// figures are values over all snapshots of a charge that its sentences need.
type figures struct {
	voided int64
	totals []int64 // distinct captured amounts, ascending
}

// figuresOf returns the figures of a charge, computed once.
func (t *timeline) figuresOf(charge string) figures {
	f, known := t.figures[charge]
	if !known {
		c := t.charge(charge)
		f = figures{t.voidOf(c).amount, c.capturedTotals()}
		t.figures[charge] = f
	}
	return f
}

// sentence describes an event. The object that the event is about is the first of its kind in the
// facts.
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

// unknownAmount stands for an amount in a sentence.
const unknownAmount = "an unknown amount"

// money formats an amount with its currency. An empty currency is the payment's. A negative amount
// is unknown.
func (t *timeline) money(amount int64, currency string) string {
	if amount < 0 {
		return unknownAmount
	}
	currency = cmp.Or(currency, t.currency)
	return strings.TrimSpace(Decimal(amount, currency) + " " + strings.ToUpper(currency))
}

// countedMoney formats an amount that moved, with a note if it is not counted because it is in
// another currency than the payment's.
func (t *timeline) countedMoney(amount int64, currency string) string {
	if !t.checkCurrency(currency) {
		return t.money(amount, currency) + " (not counted)"
	}
	return t.money(amount, currency)
}

func (t *timeline) intentSentence(e *Event, in *Intent) string {
	amount, hasReceived := unknownAmount, in.HasReceived && in.AmountReceived >= 0
	if in.HasAmount && in.Amount >= 0 {
		amount = t.money(in.Amount, in.Currency)
	} else if t.payment.Amount != nil {
		amount = t.money(*t.payment.Amount, t.currency)
	}
	switch {
	case e.Type == typeIntentCreated:
		return "The payment of " + amount + " was created."
	case e.Type == "payment_intent.partially_funded":
		return "A bank transfer paid part of " + amount + "."
	case in.Status == statusSucceeded && !hasReceived && t.payment.AmountReceived == nil:
		return "The payment of " + amount + " succeeded; the amount received is unknown."
	case in.Status == statusSucceeded && !hasReceived:
		return "Received " + t.money(*t.payment.AmountReceived, t.currency) + "."
	case in.Status == statusSucceeded:
		return "Received " + t.money(in.AmountReceived, in.Currency) + "."
	case in.Status == statusCanceled:
		return "The payment was canceled."
	case in.Status == "requires_action":
		return "Waiting for the customer, for example to confirm the payment with the bank."
	case in.Status == "processing":
		return "Processing: waiting for the bank."
	case in.Status == statusRequiresCapture && in.AmountCapturable < 0:
		return "An unknown amount can be captured."
	case in.Status == statusRequiresCapture:
		return t.money(in.AmountCapturable, in.Currency) + " can be captured."
	case in.LastError != nil:
		why := cmp.Or(in.LastError.DeclineCode, in.LastError.Code, in.LastError.Message)
		return strings.TrimSuffix("An attempt to pay failed: "+string(why), ": ") + "."
	}
	return "The payment's status is now " + in.Status + "."
}

func (t *timeline) chargeSentence(e *Event, c *Charge) string {
	if c.CaptureUnknown {
		c = t.resolved(c)
	}
	amount := t.money(c.Amount, c.Currency)
	refunded, before := t.refundedSum(c), t.refunded[c.ID]
	if c.AmountRefunded < 0 { // unknown
		refunded = before
	}
	t.refunded[c.ID] = refunded
	switch typ := e.Type; {
	case typ == "charge.refunded" && !c.Captured:
		return "Released the authorization of " + amount + "; no money moved."
	case typ == typeCaptured:
		return t.captureSentence(c) + t.returnSentence(c, before-refunded)
	case c.Captured && refunded < before && t.returnSentence(c, before-refunded) != "":
		return strings.TrimSpace(t.returnSentence(c, before-refunded))
	case c.Captured && refunded < before:
		return "Refunded so far: " + t.countedMoney(refunded, c.Currency) + " of " + t.money(c.AmountCaptured, c.Currency) + "."
	case typ == "charge.refunded" && c.AmountRefunded < 0:
		return "Refunded so far: " + unknownAmount + " of " + t.money(c.AmountCaptured, c.Currency) + "."
	case typ == "charge.refunded" && refunded == 0:
		return "Released " + t.money(c.AmountRefunded, c.Currency) + " that was never captured; no money moved."
	case typ == "charge.refunded":
		return "Refunded so far: " + t.countedMoney(refunded, c.Currency) + " of " + t.money(c.AmountCaptured, c.Currency) + "."
	case typ == "charge.expired":
		return "The authorization of " + amount + " expired: nothing was charged."
	case typ == "charge.updated":
		return "Details of the charge of " + amount + " changed."
	case c.Status == chargeFailed:
		return strings.TrimSuffix("A charge of "+amount+" failed: "+c.FailureCode, ": ") + "."
	case c.Status == chargePending:
		return "A charge of " + amount + " is pending."
	case !c.Captured:
		return "Authorized " + amount + ", not yet captured."
	}
	return "Charged " + t.countedMoney(c.AmountCaptured, c.Currency) + "."
}

// resolved returns a copy of a charge with the captured amount that its event does not have.
func (t *timeline) resolved(c *Charge) *Charge {
	resolved := *c
	if resolved.AmountCaptured = c.Amount; t.checkCurrency(c.Currency) {
		resolved.AmountCaptured = t.charge(c.ID).resolved
	}
	return &resolved
}

// returnSentence says that refunded money came back. It is empty if the refunds have events of
// their own that say so.
func (t *timeline) returnSentence(c *Charge, amount int64) string {
	reversed := func(r refundFacts) bool { return r.parent != nil && r.parent.id == c.ID && r.reversed() }
	if amount <= 0 || slices.ContainsFunc(t.refunds, reversed) {
		return ""
	}
	return " A refund of " + t.countedMoney(amount, c.Currency) + " came back."
}

// refundedSum returns what a snapshot shows as refunded, without a void.
func (t *timeline) refundedSum(c *Charge) int64 {
	f := t.figuresOf(c.ID)
	last := len(f.totals) == 0 || c.AmountCaptured == f.totals[len(f.totals)-1]
	if c.Captured && f.voided > 0 && c.AmountRefunded >= f.voided && last {
		return c.AmountRefunded - f.voided
	}
	return max(0, c.AmountRefunded)
}

// captureSentence states the captured amount, and after a further capture what it added.
func (t *timeline) captureSentence(c *Charge) string {
	of := t.money(c.AmountCaptured, c.Currency) + " of " + t.money(c.Amount, c.Currency) + "."
	totals := t.figuresOf(c.ID).totals
	if k, found := slices.BinarySearch(totals, c.AmountCaptured); found && k > 0 {
		return "Captured " + t.countedMoney(c.AmountCaptured-totals[k-1], c.Currency) + " more: " + of
	}
	return "Captured " + t.countedMoney(c.AmountCaptured, c.Currency) + " of " + t.money(c.Amount, c.Currency) + "."
}

func (t *timeline) refundSentence(e *Event, in *Refund) string {
	amount := t.money(in.Amount, in.Currency)
	i, _ := slices.BinarySearchFunc(t.refunds, in.ID, func(r refundFacts, id string) int { return strings.Compare(r.id, id) })
	if r := &t.refunds[i]; r.void || r.parent != nil && !r.parent.captured() {
		return "Released " + amount + " that was never captured, reported by Stripe as a refund; no money moved."
	}
	switch in.Status {
	case refundPending:
		return "A refund of " + amount + " is pending."
	case refundRequiresAction:
		return "A refund of " + amount + " is waiting for the customer."
	case refundSucceeded:
		if e.Type != "refund.created" { // an earlier sentence stated the refund: it must not read as a second one
			return "The refund of " + amount + " succeeded."
		}
		return "Refunded " + t.countedMoney(in.Amount, in.Currency) + "."
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
		if slices.ContainsFunc(d.Transactions, t.moved) {
			return "Inquiry by the bank about " + amount + because + "."
		}
		return "Inquiry by the bank about " + amount + because + "; no money moved."
	case typ == "charge.dispute.created":
		return "The customer disputed " + amount + because + "."
	case fundsKinds[typ] != "":
		return t.fundsSentence(d, fundsKinds[typ])
	case d.Status == "warning_closed":
		return "The bank's inquiry was closed."
	case d.Status == "won", d.Status == "lost":
		return "The dispute over " + amount + " was " + d.Status + "."
	}
	return "The dispute over " + amount + " has the status " + d.Status + "."
}

// fundsKinds are the event types that report movements of one kind.
var fundsKinds = map[string]Kind{
	"charge.dispute.funds_withdrawn":  DisputeWithdrawn,
	"charge.dispute.funds_reinstated": DisputeReinstated,
}

// fundsSentence describes an event that reports a movement of the kind, if movements does not: the
// event repeats what an earlier one reported, or has no transaction of the kind.
func (t *timeline) fundsSentence(d *Dispute, kind Kind) string {
	moved, stated := false, true
	for _, tx := range d.Transactions {
		if t.moved(tx) && t.kindOf(tx) == kind {
			moved, stated = true, stated && t.mentioned[tx.ID]
		}
	}
	switch {
	case moved && stated && kind == DisputeWithdrawn:
		return "The money for the dispute was withdrawn; an earlier event states the amount."
	case moved && stated:
		return "The money from the dispute was reinstated; an earlier event states the amount."
	case !moved && kind == DisputeWithdrawn:
		return "Withdrawn for the dispute: " + unknownAmount + "."
	case !moved:
		return "Reinstated from the dispute: " + unknownAmount + "."
	}
	return "" // movements states the amounts
}

// movements states the money that the transactions of an event's disputes moved. Each is stated
// once: by the first event whose type reports it, or else by the first event that has it.
func (t *timeline) movements(e *Event) (text string) {
	var withdrawn, reinstated []DisputeTransaction
	for i := range e.Facts.Disputes {
		for _, tx := range e.Facts.Disputes[i].Transactions {
			if t.mentioned[tx.ID] || !t.moved(tx) || t.funds[tx.ID] && t.kindOf(tx) != fundsKinds[e.Type] {
				continue
			}
			t.mentioned[tx.ID] = true
			if t.kindOf(tx) == DisputeWithdrawn {
				withdrawn = append(withdrawn, tx)
			} else {
				reinstated = append(reinstated, tx)
			}
		}
	}
	if len(withdrawn) > 0 {
		text = " Withdrawn for the dispute: " + t.sumOf(withdrawn) + "."
	}
	if len(reinstated) > 0 {
		text += " Reinstated from the dispute: " + t.sumOf(reinstated) + "."
	}
	return text
}

// moved reports whether a transaction moved money, booked or not.
func (t *timeline) moved(tx DisputeTransaction) bool {
	_, booked := t.booked[tx.ID]
	return booked || tx.Amount != 0
}

// kindOf returns the kind of a transaction's entry. Without an entry, its sign decides.
func (t *timeline) kindOf(tx DisputeTransaction) Kind {
	if e, booked := t.booked[tx.ID]; booked {
		return e.Kind
	}
	if tx.Amount < 0 {
		return DisputeWithdrawn
	}
	return DisputeReinstated
}

// sumOf states the amounts of transactions of one kind. Exact amounts are added up.
func (t *timeline) sumOf(transactions []DisputeTransaction) string {
	var parts []string
	var sum int64
	currency := ""
	for _, tx := range transactions {
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
		return "The payment started in Checkout succeeded."
	case "checkout.session.async_payment_failed":
		return "The payment started in Checkout failed."
	case "checkout.session.expired":
		return "The Checkout Session expired."
	}
	return "The Checkout Session's payment status is now " + cmp.Or(status, "unknown") + "."
}
