package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Moment is one event of a payment as a person would tell it.
type Moment struct {
	Object   string     `json:"object"`
	Happened OrNullTime `json:"happened"` // by Stripe's clock
	Received OrNullTime `json:"received"` // by ours
	What     string     `json:"what"`
	Event    string     `json:"event"`
	Type     OrNull     `json:"type"`
	Outcome  Outcome    `json:"outcome"`
	After    int        `json:"after"` // how many later events had come before it
	Repeats  uint64     `json:"repeats"`
	Source   Source     `json:"source"`
}

// maxMoments a story has, the last ones; a payment with more events is not read by people.
const maxMoments = 1000

// Story tells what happened to a payment, in the order in which it happened. The id may be any seen for it. whole is
// false if the beginning is left out.
func (l *Ledger) Story(id string) (story []Moment, whole bool, err error) {
	var rows []*row
	var s *state
	err = l.view(func(tx *txn) error {
		present, err := resolve(tx, id)
		if err == nil {
			s, err = readState(tx, present)
		}
		if err == nil && s == nil {
			err = fmt.Errorf("%w: no payment has the id %q", ErrNotFound, id)
		}
		if err == nil {
			rows, err = rowsOf(tx, s.rows)
		}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return follows(rows[a], rows[b]) })
	after := laterBefore(rows, order)
	for _, i := range order {
		r := rows[i]
		l.mu.Lock()
		waiting := l.repeats[s.rows[i]]
		l.mu.Unlock()
		story = append(story, Moment{
			Object: "moment", Happened: OrNullTime(r.created), Received: OrNullTime(time.UnixMilli(r.received).Unix()), What: r.tell(s),
			Event: r.id, Type: OrNull(r.typ), Outcome: r.outcome, After: after[i], Repeats: r.repeats + waiting, Source: r.source,
		})
	}
	cut := max(0, len(story)-maxMoments)
	return story[cut:], cut == 0, nil
}

// laterBefore counts for each row, numbered as it came, those that came before it and happened in a later second.
// order has the rows as they happened.
func laterBefore(rows []*row, order []int) []int {
	after := make([]int, len(order))
	var later []int // the numbers of those of later seconds, ascending
	for end := len(order); end > 0; {
		begin := end
		for begin > 0 && rows[order[begin-1]].created == rows[order[end-1]].created {
			begin--
		}
		for _, i := range order[begin:end] {
			after[i], _ = slices.BinarySearch(later, i)
		}
		for _, i := range order[begin:end] {
			at, _ := slices.BinarySearch(later, i)
			later = slices.Insert(later, at, i)
		}
		end = begin
	}
	return after
}

// usualOrder is that of events that share a second.
var usualOrder = []string{"payment_intent.created", "payment_intent.requires_action", "payment_intent.processing", "charge.pending", "charge.failed",
	"payment_intent.payment_failed", "charge.succeeded", "payment_intent.amount_capturable_updated", "payment_intent.partially_funded", "charge.captured",
	"payment_intent.succeeded", "payment_intent.canceled", "charge.expired", "checkout.session.completed", "charge.updated", "charge.refunded",
	"refund.created", "refund.updated", "refund.failed", "charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.updated",
	"charge.dispute.closed", "charge.dispute.funds_reinstated"}

func follows(a, b *row) int {
	usual := func(r *row) int {
		if i := slices.Index(usualOrder, r.typ); i >= 0 {
			return i
		}
		return len(usualOrder)
	}
	return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(usual(a), usual(b)), strings.Compare(a.id, b.id))
}

// tell says in a sentence what an event told. The object it is about comes first among its facts of that kind.
func (r *row) tell(s *state) string {
	money := func(amount int64, currency string) string {
		currency = cmp.Or(currency, s.currency())
		return strings.TrimSpace(Decimal(amount, currency) + " " + strings.ToUpper(currency))
	}
	family, _, _ := strings.Cut(r.typ, ".")
	f := &r.facts
	switch {
	case strings.HasPrefix(r.typ, "charge.dispute.") && len(f.Disputes) > 0:
		return f.Disputes[0].tell(r.typ, money)
	case (family == "refund" || strings.HasPrefix(r.typ, "charge.refund.")) && len(f.Refunds) > 0:
		return f.Refunds[0].tell(s, r.typ, money)
	case family == "checkout" && len(f.Sessions) > 0:
		return f.Sessions[0].tell(r.typ)
	case family == "charge" && len(f.Charges) > 0:
		return f.Charges[0].tell(r, money)
	case len(f.Intents) > 0:
		return f.Intents[0].tell(r.typ, money)
	case len(f.Charges) > 0:
		return f.Charges[0].tell(r, money)
	}
	return "Something was told of it."
}

func (in *Intent) tell(typ string, money func(int64, string) string) string {
	amount := "an amount not yet known"
	if in.HasAmount {
		amount = money(in.Amount, in.Currency)
	}
	switch {
	case typ == typeCreated:
		return "The payment of " + amount + " was created."
	case typ == "payment_intent.partially_funded":
		return "A transfer brought a part of " + amount + "."
	case in.Status == statusSucceeded:
		return money(in.AmountReceived, in.Currency) + " received."
	case in.Status == statusCanceled:
		return "It was canceled."
	case in.Status == "requires_action":
		return "The customer has something to do, as to confirm it at the bank."
	case in.Status == "processing":
		return "The bank is at work on it."
	case in.Status == "requires_capture":
		return money(in.AmountCapturable, in.Currency) + " can be captured."
	case in.LastError != nil:
		why := cmp.Or(in.LastError.DeclineCode, in.LastError.Code, in.LastError.Message)
		return strings.TrimSuffix("An attempt to pay failed: "+string(why), ": ") + "."
	}
	return "It is now " + in.Status + "."
}

func (c *Charge) tell(r *row, money func(int64, string) string) string {
	amount := money(c.Amount, c.Currency)
	switch typ, refunded := r.typ, c.refunded(r.apiVersion); {
	case typ == "charge.refunded" && !c.Captured:
		return "Released the authorisation of " + amount + "; no money moved."
	case typ == "charge.refunded" && refunded == 0:
		return "Released " + money(c.AmountRefunded, c.Currency) + " that had not been captured; no money moved."
	case typ == "charge.refunded":
		return "Refunded so far: " + money(refunded, c.Currency) + " of " + money(c.AmountCaptured, c.Currency) + "."
	case typ == typeCaptured:
		return "Captured " + money(c.AmountCaptured, c.Currency) + " of " + amount + "."
	case typ == "charge.expired":
		return "The authorisation of " + amount + " expired: nothing was charged."
	case typ == "charge.updated":
		return "Details of the charge of " + amount + " changed."
	case c.Status == chargeFailed:
		return strings.TrimSuffix("A charge of "+amount+" failed: "+c.FailureCode, ": ") + "."
	case c.Status == chargePending:
		return "A charge of " + amount + " is under way."
	case !c.Captured:
		return "Authorised " + amount + ", not yet captured."
	}
	return "Charged " + money(c.AmountCaptured, c.Currency) + "."
}

func (f *Refund) tell(s *state, typ string, money func(int64, string) string) string {
	amount := money(f.Amount, f.Currency)
	for known := range s.releases() {
		if known.ID == f.ID && known.outgoing() {
			return "Released " + amount + " that had not been captured, which Stripe calls a refund; no money moved."
		}
	}
	switch f.Status {
	case refundPending:
		return "A refund of " + amount + " is under way."
	case refundRequiresAction:
		return "A refund of " + amount + " waits for the customer."
	case refundSucceeded:
		if typ != "refund.created" { // it was told before; whoever adds up must not count it again
			return "The refund of " + amount + " is now succeeded."
		}
		return "Refunded " + amount + "."
	case refundFailed:
		return "The refund of " + amount + " failed: the money is back."
	case refundCanceled:
		return "The refund of " + amount + " was canceled."
	}
	return "A refund of " + amount + " is now " + cmp.Or(f.Status, "in a status not told") + "."
}

func (d *Dispute) tell(typ string, money func(int64, string) string) string {
	amount := money(d.Amount, d.Currency)
	inquiry := strings.HasPrefix(d.Status, "warning_")
	switch {
	case typ == "charge.dispute.created" && inquiry:
		return fmt.Sprintf("The bank asks about %s (%s); no money moves.", amount, d.Reason)
	case typ == "charge.dispute.created":
		return fmt.Sprintf("The customer disputes %s (%s).", amount, d.Reason)
	case typ == "charge.dispute.funds_withdrawn":
		return "Withdrawn for the dispute: " + amount + "."
	case typ == "charge.dispute.funds_reinstated":
		return "Given back from the dispute: " + amount + "."
	case d.Status == "warning_closed":
		return "The bank's inquiry was closed."
	case d.Status == "won", d.Status == "lost":
		return "The dispute over " + amount + " was " + d.Status + "."
	}
	return "The dispute over " + amount + " is now " + d.Status + "."
}

func (s *Session) tell(typ string) string {
	switch typ {
	case "checkout.session.completed":
		return "The customer went through Checkout: " + cmp.Or(s.PaymentStatus, "not told whether paid") + "."
	case "checkout.session.async_payment_succeeded":
		return "The payment begun in Checkout succeeded."
	case "checkout.session.async_payment_failed":
		return "The payment begun in Checkout failed."
	case "checkout.session.expired":
		return "The Checkout page expired."
	}
	return "Checkout is now " + s.PaymentStatus + "."
}
