package stripe

import (
	"encoding/json"
	"slices"
	"strings"

	"tillhook/ledger"
)

// thinEvent is what a thin event says of what it is about.
// https://docs.stripe.com/event-destinations#thin-events
type thinEvent struct {
	Type    string
	Object  string // the id of the object; empty if it names none
	Kind    string // of the object
	Snap    string // the id of the event that says the same and holds the object; empty if it names none
	aboutIt bool   // it is about an object of a kind that is folded
}

// readThin reads a thin event. A field of another type than documented counts as not there.
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
		_ = json.Unmarshal(raw, into) // what cannot be read stays empty
	}
	read(body, &e)
	read(e.Related, &related)
	read(e.Type, &t.Type)
	read(e.Snapshot, &t.Snap)
	read(related.ID, &t.Object)
	read(related.Type, &t.Kind)
	if !usableID(t.Snap) {
		t.Snap = ""
	}
	for _, o := range objects {
		t.aboutIt = t.aboutIt || t.Kind == o.kind || strings.HasPrefix(t.Type, "v1."+o.kind+".") || o.has(t.Object)
	}
	return t
}

// generationFailure is the type of the events by which Stripe says that it failed to make events.
// https://docs.stripe.com/webhooks/handle-irrecoverable-events
const generationFailure = "v2.core.health.event_generation_failure"

// expect decides which events in quarantine are expected there, so that they raise no alarm: pings,
// thin events about objects that are not folded, and test mode events of connected accounts, which
// Stripe sends to live Connect endpoints as well. A thin event about a payment names the snapshot
// event that it lies beside. https://docs.stripe.com/connect/webhooks
func expect(e *ledger.Event, livemode bool) {
	if e.Quarantine == ledger.Undecodable {
		return
	}
	e.Expected = e.Type == "ping" || strings.HasSuffix(e.Type, ".ping") || livemode && !e.Livemode && connected(e)
	if e.Quarantine != ledger.ThinEvent {
		return
	}
	t := readThin(e.Raw)
	if t.aboutIt {
		e.Snapshot = t.Snap
		return
	}
	e.Expected = e.Expected || t.Type != "" && !strings.HasPrefix(t.Type, generationFailure)
}

// connected reports whether a snapshot event is of a connected account. That stands in account;
// context can name one's own account as well, for which Stripe sends no test mode events to live
// endpoints. Thin events have nothing but context.
func connected(e *ledger.Event) bool {
	if e.Quarantine == ledger.ThinEvent {
		return false
	}
	var named struct {
		Account string `json:"account"`
	}
	err := json.Unmarshal(e.Raw, &named)
	return err == nil && named.Account != ""
}

// Related is the id of the object that a thin event is about; empty if it is about none that can be
// fetched.
func Related(body []byte) string {
	t := readThin(body)
	for _, o := range objects {
		if o.has(t.Object) {
			return t.Object
		}
	}
	return ""
}

// has reports whether an id is that of an object of the kind.
func (o *object) has(id string) bool {
	return slices.ContainsFunc(o.begins, func(begin string) bool { return strings.HasPrefix(id, begin) })
}
