// Package stripe is the only package that knows Stripe's wire: the Stripe-Signature header, the
// JSON of events in all API versions, the event types, and Stripe's API.
//
// A webhook body passes two separate steps. [Verifier.Verify] checks the signature over the raw
// bytes and parses nothing. [Decode] runs only on verified bodies and never refuses one: what it
// cannot use becomes an event in quarantine, because it is authentic and Stripe stops sending it at
// some time.
// [API] calls Stripe's API with one key and turns the objects it reads into events.
//
// The package avoids parts of stripe-go: ConstructEvent refuses every API version but one and
// accepts null and {} as events, and generic maps hold money as floats. An event's id says nothing
// about the payment that the event is about.
package stripe

import (
	"slices"
	"strings"
	"time"
)

// Decoder is the version of the decoder. It changes whenever Decode can use a body that it could
// not use before: then events in quarantine are tried again.
const Decoder = "3"

// Types are the event types about payments. Events of other types are stored too, and counted as
// "other". https://docs.stripe.com/api/events/types
var Types = [...]string{
	"payment_intent.created", "payment_intent.requires_action", "payment_intent.processing", "payment_intent.partially_funded",
	"payment_intent.amount_capturable_updated", "payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled",
	"charge.pending", "charge.succeeded", "charge.failed", "charge.captured", "charge.updated", "charge.expired", "charge.refunded",
	"refund.created", "refund.updated", "refund.failed", "charge.refund.updated",
	"charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", "charge.dispute.updated", "charge.dispute.closed",
	"checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed", "checkout.session.expired",
}

// releaseTrains are the suffixes of API versions since 2024-09-30. Changes within a release train
// do not break readers. https://docs.stripe.com/api/versioning
var releaseTrains = [...]string{"acacia", "basil", "clover", "dahlia", "endive"}

// ExpectedVersion reports whether the program knows the shape of an API version: a date, or a date
// in a known release train. Events of other versions, or without one, are used all the same, and
// counted.
func ExpectedVersion(version string) bool {
	date, train, named := strings.Cut(version, ".")
	if !isDate(date) {
		return false
	}
	return !named || slices.Contains(releaseTrains[:], train)
}

// isDate reports whether s has the form of a date, as in 2026-08-26.
func isDate(s string) bool {
	if len(s) != len(time.DateOnly) || s[5:7] < "01" || s[5:7] > "12" || s[8:] < "01" || s[8:] > "31" {
		return false
	}
	for i, c := range []byte(s) {
		if dash := i == 4 || i == 7; dash != (c == '-') || !dash && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// PinnedVersion is the API version of API calls and of new endpoints: the newest in
// testdata/events.
const PinnedVersion = "2026-08-26.dahlia"
