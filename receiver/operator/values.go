package operator

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"tillhook/ledger"
)

//go:embed event_types.txt
var eventTypes string

// currencies are the codes of ISO 4217, and older ones that Stripe still lists. See
// https://docs.stripe.com/currencies.
const currencies = `aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd btn bwp byn bzd
	cad cdf chf clp cny cop crc cup cve czk djf dkk dop dzd eek egp ern etb eur fjd fkp gbp gel ghs gip gmd gnf gtq gyd
	hkd hnl hrk htg huf idr ils inr iqd irr isk jmd jod jpy kes kgs khr kmf kpw krw kwd kyd kzt lak lbp lkr lrd lsl ltl
	lvl lyd mad mdl mga mkd mmk mnt mop mro mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr
	pln pyg qar ron rsd rub rwf sar sbd scr sdg sek sgd shp sle sll sos srd ssp std stn svc syp szl thb tjs tmt tnd top
	try ttd twd tzs uah ugx usd uyu uzs ved vef ves vnd vuv wst xaf xcd xcg xof xpf yer zar zmw zwg`

var statuses = slices.Concat(ledger.Statuses[:], []string{ledger.StatusNone})

// documented holds the values that Stripe documents for each filter. Stripe can add some at any
// time, so a value that the ledger holds is valid, too.
var documented = map[string]struct {
	words []string
	none  string // describes a value that is not documented
	next  string // the next step if no word is similar
}{
	"status":   {statuses, "not a status of a PaymentIntent", "write " + OrList(statuses)},
	"currency": {strings.Fields(currencies), "not the code of a currency", "write its three letters, such as eur"},
	"type":     {readTypes(), "not a type of Stripe's events", "https://docs.stripe.com/api/events/types lists them"},
}

// thinType matches the types of thin events, which are quarantined. Stripe lists them separately
// for each version of its API. See https://docs.stripe.com/api/v2/core/events/event-types.
var thinType = regexp.MustCompile(`^v[1-9][0-9]?(\.[a-z0-9_]+)+$`)

func readTypes() (types []string) {
	for line := range strings.Lines(eventTypes) {
		if !strings.HasPrefix(line, "#") {
			types = append(types, strings.TrimSpace(line))
		}
	}
	return types
}

// Undocumented returns the error for a filter whose value Stripe does not document, to use if
// nothing was found with it. It is nil for a documented value, an empty one, and a parameter that
// takes any value.
func Undocumented(param, value string) error {
	about, ok := documented[param]
	if !ok || value == "" || slices.Contains(about.words, value) || param == "type" && thinType.MatchString(value) {
		return nil
	}
	next := about.next
	if near := nearest(value, about.words); near != "" {
		next = "did you mean " + near + "?"
	}
	return &Error{http.StatusBadRequest, "invalid_request",
		fmt.Sprintf("%s %.80q is %s, and nothing was found with it: %s", param, value, about.none, next)}
}

// nearest returns the word with the longest common prefix and suffix, or "" if that is less than
// half of either.
func nearest(to string, words []string) (best string) {
	most := 0
	for _, word := range words {
		shorter := min(len(to), len(word))
		begin, end := 0, 0
		for begin < shorter && to[begin]|0x20 == word[begin]|0x20 {
			begin++
		}
		for end < shorter-begin && to[len(to)-1-end]|0x20 == word[len(word)-1-end]|0x20 {
			end++
		}
		if same := begin + end; same > most && 2*same >= max(len(to), len(word)) {
			best, most = word, same
		}
	}
	return best
}

// knownStatus returns an error for a status that neither Stripe documents nor a payment has; so do
// knownCurrency and knownType for theirs. For a value that is not documented they search the
// ledger, and accept it if the search reaches its limit.
func (op *Operator) knownStatus(ctx context.Context, status string) error {
	return known("status", status, func() (bool, error) {
		if stats, err := op.Ledger.Stats(); err != nil || stats.Payments[ledger.StatusOther] == 0 {
			return false, err
		}
		return mayHold(op.Ledger.Payments(ctx, ledger.PaymentQuery{Status: status, Limit: 1}))
	})
}

func (op *Operator) knownCurrency(ctx context.Context, currency string) error {
	return known("currency", currency, func() (bool, error) {
		return mayHold(op.Ledger.Payments(ctx, ledger.PaymentQuery{Currency: currency, Limit: 1}))
	})
}

func (op *Operator) knownType(ctx context.Context, typ string) error {
	return known("type", typ, func() (bool, error) {
		return mayHold(op.Ledger.Events(ctx, ledger.EventQuery{Type: typ, Limit: 1}))
	})
}

func known(param, value string, held func() (bool, error)) error {
	unknown := Undocumented(param, value)
	if unknown == nil {
		return nil
	}
	if held, err := held(); held || err != nil {
		return err
	}
	return unknown
}

func mayHold[T any](page ledger.Page[T], err error) (bool, error) {
	return len(page.Data) > 0 || page.Next != "", err
}

// OrList joins words as "a", "a or b" or "a, b or c".
func OrList[T ~string](words []T) string {
	var b strings.Builder
	for i, word := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(word))
	}
	return b.String()
}
