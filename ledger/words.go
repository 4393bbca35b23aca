package ledger

import "strings"

// Most texts that are stored are words of Stripe's, or ids that begin like the id they are stored under. A text is
// written as a number, an odd one for its length with its bytes behind it, or an even one for one of these:
//
//	2·k               the k-th word
//	2·(words+k)       an id with the k-th prefix that shares its first 16 characters with the one it is stored under, and
//	                  ends in the 8 that follow
//	2·(words+16+k)    what the value told before: the k-th text, from the id it is stored under on, that was none of these and
//	                  had at least 4 bytes
//
// https://docs.stripe.com/api tells the words. Both lists are for good: what is added goes to the end of a longer list,
// under another schema.

const (
	maxWords    = 128 // so the lists can grow without moving what is behind them
	maxPrefixes = 16
	sharedSize  = 16
	ownSize     = 8
	maxTold     = 8 // texts are remembered
	leastTold   = 4
)

var words = [...]string{
	"",
	// The most frequent ones first: up to here a word takes one byte.
	"payment_intent.created", "payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.requires_action",
	"payment_intent.processing", "payment_intent.amount_capturable_updated", "payment_intent.partially_funded", "payment_intent.canceled",
	"charge.succeeded", "charge.updated", "charge.pending", "charge.failed", "charge.captured", "charge.expired", "charge.refunded",
	"charge.refund.updated", "refund.created", "refund.updated", "refund.failed",
	"charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed", "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated",
	"checkout.session.completed", "checkout.session.expired", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed",
	"requires_payment_method", "requires_confirmation", "requires_action", "processing", "requires_capture", "succeeded", "canceled",
	"pending", "failed", "paid", "unpaid", "no_payment_required",
	"2023-10-16", "2026-08-26.dahlia",
	"eur", "usd", "gbp", "chf", "jpy", "cad", "aud", "sek", "nok", "dkk", "pln", "czk", "brl", "inr", "mxn", "sgd", "hkd", "nzd",
	"card_error", "card_declined", "generic_decline",
	// Two bytes from here.
	"insufficient_funds", "expired_card", "incorrect_cvc", "authentication_required", "do_not_honor", "lost_card", "stolen_card",
	"requested_by_customer", "duplicate", "fraudulent", "expired_uncaptured_charge", "product_not_received", "unrecognized", "general",
	"needs_response", "under_review", "won", "lost", "warning_needs_response", "warning_under_review", "warning_closed",
	"order_id", "order", "customer_id", "invoice.paid", "payout.paid", "customer.created",
}

var idPrefixes = [...]string{"pi_", "ch_", "py_", "evt_", "re_", "pyr_", "dp_", "du_", "txn_", "pm_"}

var wordNumbers = func() map[string]uint64 {
	numbers := make(map[string]uint64, len(words))
	for i, word := range words {
		numbers[word] = uint64(i)
	}
	return numbers
}()

// sharedPart is what ids stored under an id may share with it; empty if it is not of that form.
func sharedPart(id string) string {
	if _, rest, ok := strings.Cut(id, "_"); ok && len(rest) == sharedSize+ownSize {
		return rest[:sharedSize]
	}
	return ""
}

// told are the texts of a value that may come again in it.
type told struct {
	texts [maxTold]string
	n     int
}

func (t *told) remember(s string) {
	if len(s) >= leastTold && t.n < maxTold {
		t.texts[t.n] = s
		t.n++
	}
}

// under begins a value that is stored under an id.
func under(id string) encoder {
	e := encoder{buf: make([]byte, 0, 256), shared: sharedPart(id)}
	e.told.remember(id)
	return e
}

// readUnder reads one.
func readUnder(id string, value []byte) decoder {
	d := decoder{buf: value, shared: sharedPart(id)}
	d.told.remember(id)
	return d
}

// text writes a text as shortly as it can.
func (e *encoder) text(s string) {
	if s == "" {
		e.byte(0)
		return
	}
	if k, ok := wordNumbers[s]; ok {
		e.uint(2 * k)
		return
	}
	for k, before := range e.told.texts[:e.told.n] {
		if s == before {
			e.uint(2 * uint64(maxWords+maxPrefixes+k))
			return
		}
	}
	e.told.remember(s)
	if own := len(s) - ownSize; e.shared != "" && own > sharedSize && s[own-sharedSize:own] == e.shared {
		for k, prefix := range idPrefixes {
			if s[:own-sharedSize] == prefix {
				e.uint(2 * uint64(maxWords+k))
				e.buf = append(e.buf, s[own:]...)
				return
			}
		}
	}
	e.uint(2*uint64(len(s)) + 1)
	e.buf = append(e.buf, s...)
}

func (d *decoder) text() string {
	n := d.uint()
	var s string
	switch k := n / 2; {
	case n%2 == 1:
		s = d.take(k)
	case k < uint64(len(words)):
		return words[k]
	case maxWords <= k && k < maxWords+uint64(len(idPrefixes)) && d.shared != "":
		s = idPrefixes[k-maxWords] + d.shared + d.take(ownSize)
	case maxWords+maxPrefixes <= k && k < maxWords+maxPrefixes+uint64(d.told.n):
		return d.told.texts[k-maxWords-maxPrefixes]
	default:
		d.fail()
		return ""
	}
	d.told.remember(s)
	return s
}

func (d *decoder) take(n uint64) string {
	if n > uint64(len(d.buf)) {
		d.fail()
		return ""
	}
	s := string(d.buf[:n])
	d.buf = d.buf[n:]
	return s
}
