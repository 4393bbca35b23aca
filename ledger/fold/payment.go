package fold

// Payment is a payment as users see it, under Stripe's own names where Stripe has one. Amounts are
// in the minor unit of Currency (see [Decimal]), times in Unix seconds; nil and null mean unknown.
type Payment struct {
	Object            string            `json:"object"`
	ID                string            `json:"id"`
	Account           OrNull            `json:"account"`
	Context           OrNull            `json:"context"` // the organisation's path, as Stripe-Context takes it
	Livemode          bool              `json:"livemode"`
	Status            OrNull            `json:"status"`        // of the PaymentIntent; null while none was seen
	ChargeStatus      OrNull            `json:"charge_status"` // of the charge that brought the money, else of the newest
	Currency          OrNull            `json:"currency"`
	Amount            *int64            `json:"amount"`
	AmountCapturable  int64             `json:"amount_capturable"`
	AmountReceived    *int64            `json:"amount_received"` // null while neither a charge nor a PaymentIntent with amount_received was seen
	AmountRefunded    *int64            `json:"amount_refunded"` // refunds less those that came back
	DisputeWithdrawn  *int64            `json:"dispute_withdrawn"`
	DisputeReinstated *int64            `json:"dispute_reinstated"`
	AmountNet         *int64            `json:"amount_net"`
	Fee               *int64            `json:"fee"` // Stripe's, where every charge's balance transaction was read
	Customer          OrNull            `json:"customer"`
	Description       OrNull            `json:"description"`
	Metadata          map[string]string `json:"metadata"`
	LatestCharge      OrNull            `json:"latest_charge"`
	LastPaymentError  *PaymentError     `json:"last_payment_error"`
	Refunds           []PaymentRefund   `json:"refunds"`
	Disputes          []PaymentDispute  `json:"disputes"`
	Flags             []string          `json:"flags"` // ascending
	Created           OrNullTime        `json:"created"`
	Captured          OrNullTime        `json:"captured"` // when money was received first
	Updated           OrNullTime        `json:"updated"`
	Events            uint64            `json:"events"`
}

// PaymentRefund is money on its way back to the customer.
type PaymentRefund struct {
	ID      string     `json:"id"`
	Amount  *int64     `json:"amount"`
	Status  OrNull     `json:"status"`
	Charge  OrNull     `json:"charge"`
	Created OrNullTime `json:"created"`
}

// PaymentDispute is a customer's claim at the bank.
type PaymentDispute struct {
	ID      string     `json:"id"`
	Status  OrNull     `json:"status"`
	Amount  int64      `json:"amount"`
	Reason  OrNull     `json:"reason"`
	Created OrNullTime `json:"created"`
}

// Flags of a payment: what a person should know about its figures. Those that end in _approximate
// inform; the others need a look.
const (
	FlagAmount             = "amount"              // a negative amount was left out
	FlagConflict           = "conflict"            // it was seen succeeded and canceled
	FlagCurrency           = "currency"            // money of a dispute is left out: it cannot be converted
	FlagCurrencyMismatch   = "currency_mismatch"   // money in another currency than the payment's is left out
	FlagDateApproximate    = "date_approximate"    // no event has the day that money moved; it is the earliest known
	FlagDisputeApproximate = "dispute_approximate" // money of a dispute was converted in proportion
	FlagDisputeUnfunded    = "dispute_unfunded"    // a dispute without transactions: its money is not counted
	FlagOverflow           = "overflow"            // the sums do not fit 64 bits; its money is left out
)

// Flags lists all flags, ascending.
var Flags = [...]string{FlagAmount, FlagConflict, FlagCurrency, FlagCurrencyMismatch, FlagDateApproximate,
	FlagDisputeApproximate, FlagDisputeUnfunded, FlagOverflow}

// NeedsLook reports whether a person should look at a payment with the flag; the others only
// inform.
func NeedsLook(flag string) bool {
	return flag != FlagDateApproximate && flag != FlagDisputeApproximate
}

// Kind is what an entry does.
type Kind string

// Kinds of entries.
const (
	Received          Kind = "received"
	Refunded          Kind = "refunded"
	RefundReturned    Kind = "refund_returned" // a refund that failed or was canceled came back
	DisputeWithdrawn  Kind = "dispute_withdrawn"
	DisputeReinstated Kind = "dispute_reinstated"
)

// Kinds lists all kinds.
var Kinds = [...]Kind{Received, Refunded, RefundReturned, DisputeWithdrawn, DisputeReinstated}

// Entry is money of one payment that moved at one time. A payment's amounts are the sums of its
// entries, and so are the totals of the days: they cannot differ.
type Entry struct {
	ID       string // the same for the same entry, whatever else becomes known
	At       int64  // Unix seconds
	Kind     Kind
	Object   string // the charge, PaymentIntent, refund or balance transaction it is about
	Charge   string // empty if unknown
	Currency string
	Amount   int64 // in the minor unit of Currency, always positive
}

// Event is an event as far as folding needs it.
type Event struct {
	ID         string
	Type       string
	Account    string
	Context    string
	APIVersion string
	Created    int64 // Unix seconds, 0 if unknown; of a fetched object when it was read
	Fetched    bool  // an object that was read from Stripe's API
	Facts      *Facts
}

// Result is what the facts of a payment's events fold to.
type Result struct {
	Payment     *Payment // without Livemode, which no fact states
	Entries     []Entry  // by (At, ID)
	Unexplained []string // charges of which more was refunded than their known refunds add up to, by id
	PaidSession bool     // a Checkout Session of it is paid
}
