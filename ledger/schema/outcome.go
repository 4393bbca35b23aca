package schema

// Outcome is the result of posting an event. It depends on the order in which events arrive:
// another order can give other outcomes, but it gives the same payment.
type Outcome string

const (
	Applied     Outcome = "applied"     // it changed its payment
	Unchanged   Outcome = "unchanged"   // it is about a payment, but added nothing new
	Recorded    Outcome = "recorded"    // it is about no payment, or names none
	Quarantined Outcome = "quarantined" // it is authentic, but cannot be used; see Reason

	// AlreadyProcessed is the result of a repeat of a known event. It is never stored: the row
	// keeps its first outcome.
	AlreadyProcessed Outcome = "already_processed"
)

// Outcomes lists the outcomes with which an event can be stored, in the order of their codes and of
// the counts.
var Outcomes = [...]Outcome{Applied, Unchanged, Recorded, Quarantined}

// Reason is why an authentic event is in quarantine. It is empty for an event that is not.
type Reason string

const (
	WrongMode   Reason = "wrong_mode"  // a test event at a live receiver, or the reverse
	ThinEvent   Reason = "thin_event"  // it names an object, but does not contain it
	Undecodable Reason = "undecodable" // its body is not as Stripe documents it
)

// Reasons lists all reasons, in the order of their codes.
var Reasons = [...]Reason{WrongMode, ThinEvent, Undecodable}

// Source is how an event arrived.
type Source string

const (
	Webhook   Source = "webhook"   // Stripe delivered it
	Reconcile Source = "reconcile" // it was missed and later read from Stripe's list of events
	Fetch     Source = "fetch"     // it was made from an object that was read from Stripe's API
)

// FetchedPrefix is the prefix of the ids of events that were made from objects read from Stripe's
// API. No other ids begin with it.
const FetchedPrefix = "fetch_"

// Sources lists all sources, in the order of their codes.
var Sources = [...]Source{Webhook, Reconcile, Fetch}
