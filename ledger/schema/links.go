package schema

import (
	"cmp"
	"fmt"
	"strings"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// Link records that an event named an id together with the PaymentIntent or charge that identifies
// its payment. Links are only ever added: a link to a charge stays when the charge's payment gets
// another id.
type Link struct {
	Kind   byte
	Target string
}

// Only a link from a charge to a PaymentIntent decides which payment an event belongs to. Links
// from other objects have a kind of their own: otherwise a charge that has the same id would follow
// them.
const (
	LinkToIntent = 1 // from a charge to a PaymentIntent
	linkToCharge = 2 // from any id to a charge, by an event that names no PaymentIntent
	linkOfOther  = 3 // from the id of any object but a charge to a PaymentIntent
)

// LinkOf returns the link from another id in the facts to their payment. charge says that the id is
// a charge's.
func LinkOf(f *fold.Facts, charge bool) Link {
	switch {
	case f.PaymentIntent == "":
		return Link{linkToCharge, f.Charge}
	case charge:
		return Link{LinkToIntent, f.PaymentIntent}
	}
	return Link{linkOfOther, f.PaymentIntent}
}

// Compare orders links by kind, then by target.
func (k Link) Compare(other Link) int {
	return cmp.Or(cmp.Compare(k.Kind, other.Kind), strings.Compare(k.Target, other.Target))
}

// ReadLinks returns the links of an id in order.
func ReadLinks(tx *store.Tx, id string) ([]Link, error) {
	value, err := tx.Get(BucketLinks, []byte(id))
	if err != nil || value == nil {
		return nil, err
	}
	return DecodeLinks(id, value)
}

// EncodeLinks returns the stored form of the links of an id, which must be sorted.
func EncodeLinks(id string, links []Link) []byte {
	e := newEncoder(id)
	for _, k := range links {
		e.byte(k.Kind)
		e.text(k.Target)
	}
	return e.buf
}

// DecodeLinks decodes the links of an id.
func DecodeLinks(id string, value []byte) (links []Link, err error) {
	for d := newDecoder(id, value); len(d.buf) > 0; {
		k := Link{d.byte(), d.text()}
		if d.err != nil || k.Target == "" {
			return nil, fmt.Errorf("%w: links of an id", store.ErrCorrupt)
		}
		links = append(links, k)
	}
	return links, nil
}

// linked returns the least target among an id's links of a kind, or "" if the id has no such link.
func linked(tx *store.Tx, id string, kind byte) (string, error) {
	links, err := ReadLinks(tx, id)
	for _, k := range links {
		if k.Kind == kind {
			return k.Target, nil
		}
	}
	return "", err
}

// PaymentOf returns the current id of the payment that facts are about, or "" if they are about
// none.
func PaymentOf(tx *store.Tx, f *fold.Facts) (string, error) {
	if f.PaymentIntent != "" || f.Charge == "" {
		return f.PaymentIntent, nil
	}
	intent, err := linked(tx, f.Charge, LinkToIntent)
	return cmp.Or(intent, f.Charge), err
}

// Resolve returns the current id of the payment that has an id or is linked from it. It returns ""
// if the id was never seen.
func Resolve(tx *store.Tx, id string) (string, error) {
	if tx.Has(BucketPayments, []byte(id)) {
		return id, nil
	}
	for _, kind := range []byte{LinkToIntent, linkOfOther} {
		if intent, err := linked(tx, id, kind); intent != "" || err != nil {
			return intent, err
		}
	}
	charge, err := linked(tx, id, linkToCharge)
	if err != nil {
		return "", err
	}
	return PaymentOf(tx, &fold.Facts{Charge: charge})
}
