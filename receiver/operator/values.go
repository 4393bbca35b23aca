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

// A value that is not documented is searched in the ledger before the list is read. If that search
// reaches the limit of one request, the list itself continues it: its next_page begins with
// nothingYet until a row was found, and a list that ends so is answered with an error, as in a
// small ledger.
const nothingYet = "none."

// unverifiedValue is the error for a value of a filter that the ledger may hold; nil if it does, or
// if Stripe documents the value.
type unverifiedValue struct{ error }

// checkStatus returns an error for a status that neither Stripe documents nor a payment has; so do
// checkCurrency and checkType for theirs.
func (op *Operator) checkStatus(ctx context.Context, status string) (unverifiedValue, error) {
	return checkValue("status", status, func() (held, whole bool, err error) {
		if stats, err := op.Ledger.Stats(); err != nil || stats.Payments[ledger.StatusOther] == 0 {
			return false, true, err
		}
		return holds(op.Ledger.Payments(ctx, ledger.PaymentQuery{Status: status, Limit: 1}))
	})
}

func (op *Operator) checkCurrency(ctx context.Context, currency string) (unverifiedValue, error) {
	return checkValue("currency", currency, func() (held, whole bool, err error) {
		return holds(op.Ledger.Payments(ctx, ledger.PaymentQuery{Currency: currency, Limit: 1}))
	})
}

func (op *Operator) checkType(ctx context.Context, typ string) (unverifiedValue, error) {
	return checkValue("type", typ, func() (held, whole bool, err error) {
		return holds(op.Ledger.Events(ctx, ledger.EventQuery{Type: typ, Limit: 1}))
	})
}

// checkValue searches the ledger for a value that is not documented. search reports whether the
// ledger holds it, and if not, whether all rows were examined.
func checkValue(param, value string, search func() (held, whole bool, err error)) (unverifiedValue, error) {
	unknown := Undocumented(param, value)
	if unknown == nil {
		return unverifiedValue{}, nil
	}
	switch held, whole, err := search(); {
	case err != nil || held:
		return unverifiedValue{}, err
	case whole:
		return unverifiedValue{}, unknown
	}
	return unverifiedValue{unknown}, nil
}

func holds[T any](page ledger.Page[T], err error) (held, whole bool, _ error) {
	return len(page.Data) > 0, page.Next == "", err
}

// finish returns the error for a search that ended without finding a row for a value that is not
// documented, and marks the next page of one that goes on. The search must have no other filter:
// rows that another filter leaves out may hold the value.
func finish[T any](page *ledger.Page[T], value unverifiedValue) error {
	switch {
	case value.error == nil || len(page.Data) > 0:
		return nil
	case page.Next == "":
		return value.error
	}
	page.Next = nothingYet + page.Next
	return nil
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
