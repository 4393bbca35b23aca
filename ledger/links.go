package ledger

import (
	"cmp"
	"fmt"
	"strings"
	"tillhook/ledger/store"
)

// link records that an event named an id together with the PaymentIntent or charge that identifies
// its payment. Links are only ever added: a link to a charge stays when the charge's payment gets
// another id.
type link struct {
	kind   byte
	target string
}

// Only a link from a charge to a PaymentIntent decides which payment an event belongs to. Links
// from other objects have a kind of their own: otherwise a charge that has the same id would follow
// them.
const (
	linkToIntent = 1 // from a charge to a PaymentIntent
	linkToCharge = 2 // from any id to a charge, by an event that names no PaymentIntent
	linkOfOther  = 3 // from the id of any object but a charge to a PaymentIntent
)

// linkOf returns the link from another id in the facts to their payment. charge says that the id is
// a charge's.
func linkOf(f *Facts, charge bool) link {
	switch {
	case f.PaymentIntent == "":
		return link{linkToCharge, f.Charge}
	case charge:
		return link{linkToIntent, f.PaymentIntent}
	}
	return link{linkOfOther, f.PaymentIntent}
}

// compare orders links by kind, then by target.
func (k link) compare(other link) int {
	return cmp.Or(cmp.Compare(k.kind, other.kind), strings.Compare(k.target, other.target))
}

// readLinks returns the links of an id in order.
func readLinks(tx *store.Tx, id string) ([]link, error) {
	value, err := tx.Get(bucketLinks, []byte(id))
	if err != nil || value == nil {
		return nil, err
	}
	return decodeLinks(id, value)
}

func encodeLinks(id string, links []link) []byte {
	e := newEncoder(id)
	for _, k := range links {
		e.byte(k.kind)
		e.text(k.target)
	}
	return e.buf
}

func decodeLinks(id string, value []byte) (links []link, err error) {
	for d := newDecoder(id, value); len(d.buf) > 0; {
		k := link{d.byte(), d.text()}
		if d.err != nil || k.target == "" {
			return nil, fmt.Errorf("%w: links of an id", ErrCorrupt)
		}
		links = append(links, k)
	}
	return links, nil
}

// linked returns the least target among an id's links of a kind, or "" if the id has no such link.
func linked(tx *store.Tx, id string, kind byte) (string, error) {
	links, err := readLinks(tx, id)
	for _, k := range links {
		if k.kind == kind {
			return k.target, nil
		}
	}
	return "", err
}

// paymentOf returns the current id of the payment that facts are about, or "" if they are about
// none.
func paymentOf(tx *store.Tx, f *Facts) (string, error) {
	if f.PaymentIntent != "" || f.Charge == "" {
		return f.PaymentIntent, nil
	}
	intent, err := linked(tx, f.Charge, linkToIntent)
	return cmp.Or(intent, f.Charge), err
}

// resolve returns the current id of the payment that has an id or is linked from it. It returns ""
// if the id was never seen.
func resolve(tx *store.Tx, id string) (string, error) {
	if tx.Has(bucketPayments, []byte(id)) {
		return id, nil
	}
	for _, kind := range []byte{linkToIntent, linkOfOther} {
		if intent, err := linked(tx, id, kind); intent != "" || err != nil {
			return intent, err
		}
	}
	charge, err := linked(tx, id, linkToCharge)
	if err != nil {
		return "", err
	}
	return paymentOf(tx, &Facts{Charge: charge})
}
