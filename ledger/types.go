package ledger

import (
	"tillhook/ledger/fold"
	"tillhook/ledger/posting"
	"tillhook/ledger/schema"
)

// The facts of an event and the payment that is folded from them; see package fold.
type (
	Facts          = fold.Facts
	Intent         = fold.Intent
	PaymentError   = fold.PaymentError
	Charge         = fold.Charge
	Booking        = fold.BalanceTransaction
	Refund         = fold.Refund
	Dispute        = fold.Dispute
	Transaction    = fold.DisputeTransaction
	Session        = fold.Session
	Payment        = fold.Payment
	PaymentRefund  = fold.PaymentRefund
	PaymentDispute = fold.PaymentDispute
	Entry          = fold.Entry
	Sum            = fold.Sum
	OrNull         = fold.OrNull
	OrNullTime     = fold.OrNullTime
)

// An event to be stored, and what became of it; see package posting.
type (
	Event  = posting.Event
	Result = posting.Result
)

// What is stored about how an event arrived and what became of it; see package schema.
type (
	Outcome         = schema.Outcome
	Reason          = schema.Reason
	Source          = schema.Source
	QuarantineState = schema.QuarantineState
)

// The values of these types.
const (
	Applied          = schema.Applied
	Unchanged        = schema.Unchanged
	Recorded         = schema.Recorded
	Quarantined      = schema.Quarantined
	AlreadyProcessed = schema.AlreadyProcessed

	WrongMode   = schema.WrongMode
	ThinEvent   = schema.ThinEvent
	Undecodable = schema.Undecodable

	Webhook   = schema.Webhook
	Reconcile = schema.Reconcile
	Fetch     = schema.Fetch

	Attention = schema.Attention
	Expected  = schema.Expected
	Dismissed = schema.Dismissed
)

// Lists of all outcomes with which an event can be stored, of all reasons, and of all states.
var (
	Outcomes         = schema.Outcomes
	Reasons          = schema.Reasons
	QuarantineStates = schema.QuarantineStates
)

// FetchedPrefix is the prefix of the ids of events that were made from objects read from Stripe's
// API.
const FetchedPrefix = schema.FetchedPrefix

// Statuses of payments in addition to those of Stripe.
const (
	StatusNone  = schema.StatusNone
	StatusOther = schema.StatusOther
)

// ModeName returns the name that Stripe uses for a mode: "live" or "test".
func ModeName(livemode bool) string { return schema.ModeName(livemode) }

// Statuses lists the statuses that Stripe documents for a PaymentIntent.
var Statuses = fold.Statuses

// Flags lists all flags that a payment can have.
var Flags = fold.Flags

// Decimal returns an amount in the currency's major unit: Decimal(2099, "usd") is "20.99".
func Decimal(amount int64, currency string) string { return fold.Decimal(amount, currency) }

// SumOf returns n as a Sum.
func SumOf(n int64) Sum { return fold.SumOf(n) }

// Decimals returns the number of digits after the decimal point in amounts of a currency.
func Decimals(currency string) int { return fold.Decimals(currency) }

// NeedsAttention reports whether a person should look at a payment with the flag. Other flags only
// inform.
func NeedsAttention(flag string) bool { return fold.NeedsReview(flag) }
