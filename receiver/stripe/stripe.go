// Package stripe is the only place that knows Stripe's wire: the Stripe-Signature header, the JSON of
// events in all the API versions there have been, and which types and versions are expected.
//
// A body goes through in two steps that are kept apart. [Verifier.Verify] looks at the raw bytes and
// parses nothing; [Decode] runs only on what was verified, and never refuses: what it cannot use
// becomes an event in quarantine, because Stripe signed it and will not send it for ever.
//
// What can hurt here: stripe-go's ConstructEvent (refuses every API version but one, takes null and
// {} for events), its generic maps (floats for money), and names: an event's id is not bound
// to the payment it is about.
package stripe

import (
	"slices"
	"strings"
	"time"
)

// Decoder names what Decode makes of a body. It changes whenever Decode can use a body that it could not use before:
// what lies in quarantine is then tried again.
const Decoder = "3"

// Types are the event types that move money or tell of it. Any other is recorded, and counted as "other".
// https://docs.stripe.com/api/events/types
var Types = [...]string{
	"payment_intent.created", "payment_intent.requires_action", "payment_intent.processing", "payment_intent.partially_funded",
	"payment_intent.amount_capturable_updated", "payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled",
	"charge.pending", "charge.succeeded", "charge.failed", "charge.captured", "charge.updated", "charge.expired", "charge.refunded",
	"refund.created", "refund.updated", "refund.failed", "charge.refund.updated",
	"charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", "charge.dispute.updated", "charge.dispute.closed",
	"checkout.session.completed", "checkout.session.async_payment_succeeded", "checkout.session.async_payment_failed", "checkout.session.expired",
}

// APIVersions are those for which testdata/events has bodies.
var APIVersions = [...]string{"2023-10-16", "2026-08-26.dahlia"}

// releaseTrains are the names that API versions since 2024-09-30 end in. Within one there is no
// change that breaks a reader, so versions are compared by them.
// https://docs.stripe.com/api/versioning
var releaseTrains = [...]string{"acacia", "basil", "clover", "dahlia", "endive"}

// ExpectedVersion reports whether a version is one that this program knows the shape of: a date, or
// a date in a known release train. An event of another one is booked all the same, and counted. So
// is an event that names no version.
func ExpectedVersion(version string) bool {
	date, train, named := strings.Cut(version, ".")
	if _, err := time.Parse(time.DateOnly, date); err != nil {
		return false
	}
	return !named || slices.Contains(releaseTrains[:], train)
}

// PinnedVersion is the API version that an endpoint is made with: the newest that testdata/events has bodies of.
const PinnedVersion = "2026-08-26.dahlia"

// Verdicts of findings.
const (
	OK      = "ok"
	Warn    = "warn"    // somebody should look at it
	Fail    = "fail"    // money is lost, or will be
	Unknown = "unknown" // it could not be found out
)

// Finding says in plain words how one thing stands between Stripe and us, and what to do about it.
type Finding struct {
	Name     string // of the check
	Verdict  string
	Sentence string
	Next     string // the next step; empty where there is none
}
