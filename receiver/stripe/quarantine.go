package stripe

import (
	"encoding/json"
	"slices"
	"strings"

	"tillhook/ledger"
)

// thinEvent is the content of a thin event. https://docs.stripe.com/event-destinations#thin-events
type thinEvent struct {
	Type     string
	Object   string // id of the related object, if it names one
	Kind     string // type of the related object
	Snapshot string // id of the snapshot event with the same content, if it names one
	folded   bool   // the related object is of a kind that payments are folded from
}

// readThin reads a thin event. Fields of an unexpected type count as absent.
func readThin(body []byte) (t thinEvent) {
	var e struct {
		Type     json.RawMessage `json:"type"`
		Snapshot json.RawMessage `json:"snapshot_event"`
		Related  json.RawMessage `json:"related_object"`
	}
	var related struct {
		ID   json.RawMessage `json:"id"`
		Type json.RawMessage `json:"type"`
	}
	read := func(raw json.RawMessage, into any) {
		_ = json.Unmarshal(raw, into) // unreadable fields stay empty
	}
	read(body, &e)
	read(e.Related, &related)
	read(e.Type, &t.Type)
	read(e.Snapshot, &t.Snapshot)
	read(related.ID, &t.Object)
	read(related.Type, &t.Kind)
	if !usableID(t.Snapshot) {
		t.Snapshot = ""
	}
	for _, o := range objects {
		t.folded = t.folded || t.Kind == o.kind || strings.HasPrefix(t.Type, "v1."+o.kind+".") || o.hasID(t.Object)
	}
	return t
}

// generationFailure is the type of the events that report that Stripe failed to generate events.
// https://docs.stripe.com/webhooks/handle-irrecoverable-events
const generationFailure = "v2.core.health.event_generation_failure"

// markExpected marks events whose quarantine is expected, so that they raise no alarm: pings, thin
// events about objects that payments are not folded from, and test mode events of connected
// accounts, which Stripe also sends to live Connect endpoints. A thin event about a payment gets
// the id of the snapshot event with the same content. https://docs.stripe.com/connect/webhooks
func markExpected(e *ledger.Event, livemode bool) {
	if e.Quarantine == ledger.Undecodable {
		return
	}
	e.Expected = e.Type == "ping" || strings.HasSuffix(e.Type, ".ping") || livemode && !e.Livemode && fromConnectedAccount(e)
	if e.Quarantine != ledger.ThinEvent {
		return
	}
	t := readThin(e.Raw)
	if t.folded {
		e.Snapshot = t.Snapshot
		return
	}
	e.Expected = e.Expected || t.Type != "" && !strings.HasPrefix(t.Type, generationFailure)
}

// fromConnectedAccount reports whether a snapshot event is from a connected account, which is named
// in account. The field context is no proof: it can name the own account, and Stripe sends no test
// mode events of that to live endpoints. Thin events have only context.
func fromConnectedAccount(e *ledger.Event) bool {
	if e.Quarantine == ledger.ThinEvent {
		return false
	}
	var named struct {
		Account string `json:"account"`
	}
	err := json.Unmarshal(e.Raw, &named)
	return err == nil && named.Account != ""
}

// RelatedObject returns the id of the object that a thin event is about, or "" if it cannot be
// fetched.
func RelatedObject(body []byte) string {
	t := readThin(body)
	for _, o := range objects {
		if o.hasID(t.Object) {
			return t.Object
		}
	}
	return ""
}

// hasID reports whether the id has a prefix of this kind of object.
func (o *object) hasID(id string) bool {
	return slices.ContainsFunc(o.prefixes, func(begin string) bool { return strings.HasPrefix(id, begin) })
}
