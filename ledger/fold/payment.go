package fold

// Payment is a payment as the API shows it, with Stripe's field names where Stripe has the field.
// Amounts are in the minor unit of Currency (see [Decimal]), times in Unix seconds; nil and null
// mean unknown.
type Payment struct {
	Object            string            `json:"object"`
	ID                string            `json:"id"`
	Account           OrNull            `json:"account"`
	Context           OrNull            `json:"context"` // the value for the Stripe-Context header, in an organization
	Livemode          bool              `json:"livemode"`
	Status            OrNull            `json:"status"`        // of the PaymentIntent; null without one
	ChargeStatus      OrNull            `json:"charge_status"` // of the succeeded charge, otherwise of the newest
	Currency          OrNull            `json:"currency"`
	Amount            *int64            `json:"amount"`
	AmountCapturable  *int64            `json:"amount_capturable"`
	AmountReceived    *int64            `json:"amount_received"` // null if no charge and no amount_received is known
	AmountRefunded    *int64            `json:"amount_refunded"` // without refunds that failed or were canceled
	DisputeWithdrawn  *int64            `json:"dispute_withdrawn"`
	DisputeReinstated *int64            `json:"dispute_reinstated"`
	AmountNet         *int64            `json:"amount_net"`
	Fee               *int64            `json:"fee"` // null unless the balance transaction of every charge was read
	Customer          OrNull            `json:"customer"`
	Description       OrNull            `json:"description"`
	Metadata          map[string]string `json:"metadata"`
	LatestCharge      OrNull            `json:"latest_charge"`
	LastPaymentError  *PaymentError     `json:"last_payment_error"`
	Refunds           []PaymentRefund   `json:"refunds"`
	Disputes          []PaymentDispute  `json:"disputes"`
	Flags             []string          `json:"flags"` // ascending
	Created           OrNullTime        `json:"created"`
	Captured          OrNullTime        `json:"captured"` // when money was first received
	Updated           OrNullTime        `json:"updated"`
	Events            uint64            `json:"events"`
}

// PaymentRefund is a refund of a payment.
type PaymentRefund struct {
	ID      string     `json:"id"`
	Amount  *int64     `json:"amount"`
	Status  OrNull     `json:"status"`
	Charge  OrNull     `json:"charge"`
	Created OrNullTime `json:"created"`
}

// PaymentDispute is a dispute or an inquiry about a payment.
type PaymentDispute struct {
	ID      string     `json:"id"`
	Status  OrNull     `json:"status"`
	Amount  int64      `json:"amount"`
	Reason  OrNull     `json:"reason"`
	Created OrNullTime `json:"created"`
}

// Flags of a payment say what limits its figures. Those that end in _approximate are for
// information; a person should review a payment with one of the others.
const (
	FlagAmount             = "amount"              // a negative amount, which is unknown, was not counted
	FlagConflict           = "conflict"            // the PaymentIntent was seen succeeded and canceled
	FlagCurrency           = "currency"            // money of a dispute is not counted, because it cannot be converted
	FlagCurrencyMismatch   = "currency_mismatch"   // money in another currency than the payment's is not counted
	FlagDateApproximate    = "date_approximate"    // no event shows the day on which money moved; the earliest known time is used
	FlagDisputeApproximate = "dispute_approximate" // money of a dispute was converted in proportion
	FlagDisputeUnfunded    = "dispute_unfunded"    // a dispute has no balance transactions, so its money is not counted
	FlagOverflow           = "overflow"            // the sums do not fit 64 bits, so no money is counted
)

// Flags lists all flags, ascending.
var Flags = [...]string{FlagAmount, FlagConflict, FlagCurrency, FlagCurrencyMismatch, FlagDateApproximate,
	FlagDisputeApproximate, FlagDisputeUnfunded, FlagOverflow}

// NeedsReview reports whether a person should review a payment with the flag. The other flags are
// for information.
func NeedsReview(flag string) bool {
	return flag != FlagDateApproximate && flag != FlagDisputeApproximate
}

// Kind is the kind of an entry.
type Kind string

// Kinds of entries.
const (
	Received          Kind = "received"
	Refunded          Kind = "refunded"
	RefundReturned    Kind = "refund_returned" // the money of a refund that failed or was canceled came back
	DisputeWithdrawn  Kind = "dispute_withdrawn"
	DisputeReinstated Kind = "dispute_reinstated"
)

// Kinds lists all kinds.
var Kinds = [...]Kind{Received, Refunded, RefundReturned, DisputeWithdrawn, DisputeReinstated}

// Entry is money of one payment that moved at one time. A payment's amounts and the totals of days
// are sums of the same entries, so they always agree.
type Entry struct {
	ID       string // stable: the same entry keeps its id when more events arrive
	At       int64  // Unix seconds
	Kind     Kind
	Object   string // id of the charge, PaymentIntent, refund or balance transaction
	Charge   string // empty if unknown
	Currency string
	Amount   int64 // in the minor unit of Currency, always positive
}

// Event is an event as the fold needs it.
type Event struct {
	ID         string
	Type       string
	Account    string
	Context    string
	APIVersion string
	Created    int64 // Unix seconds, 0 if unknown; of a fetched object the time of the read
	Fetched    bool  // not an event: an object that was read from Stripe's API
	Facts      *Facts
}

// Result is what the facts of a payment's events fold to.
type Result struct {
	Payment     *Payment // Livemode is not set: no fact states it
	Entries     []Entry  // by (At, ID)
	Unexplained []string // ids of charges with refunds that no known refund object explains
	PaidSession bool     // a Checkout Session of the payment has the payment status paid
}
