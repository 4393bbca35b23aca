package stripe_test

import (
	"regexp"
	"testing"

	"tillhook/ledger/fold"
	"tillhook/receiver/stripe"
)

// fallback matches the sentences for events of types or statuses that the timeline does not know.
var fallback = regexp.MustCompile(`^An event named this payment|status is now|has the status`)

// Every event type that is counted under its own name has a place in the order of events of one
// second, and a sentence that says what such an event means.
func TestEveryTypeHasAPlaceInTheTimeline(t *testing.T) {
	for _, typ := range stripe.Types {
		known, unknown := &fold.Event{ID: "evt_2", Type: typ}, &fold.Event{ID: "evt_1", Type: "unknown.type"}
		if fold.CompareEvents(known, unknown) >= 0 { // types without a place come last, by id
			t.Errorf("%s is not in usualOrder of ledger/fold/timeline.go", typ)
		}
		e := stripe.Decode(sample(t, typ), false)
		_, sentences := fold.Timeline(e.Facts.PaymentID(), []fold.Event{{ID: e.ID, Type: e.Type, APIVersion: e.APIVersion, Created: e.Created, Facts: &e.Facts}})
		// An update of a dispute is about its status.
		if sentence := sentences[0]; fallback.MatchString(sentence) && typ != "charge.dispute.updated" {
			t.Errorf("%s has no sentence in ledger/fold/timeline.go, only %q", typ, sentence)
		}
	}
}
