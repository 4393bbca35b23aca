package ledger

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Formats are those that Export writes.
var Formats = [...]string{"csv", "jsonl"}

// exported is one payment for the accountant, its fields in the order of the columns. Amounts are in the minor unit of the
// currency, and beside it in its decimals.
type exported struct {
	ID                string   `json:"id"`
	Account           OrNull   `json:"account"`
	Created           OrNull   `json:"created"` // RFC 3339, UTC
	Status            OrNull   `json:"status"`
	Currency          OrNull   `json:"currency"`
	Amount            *int64   `json:"amount"`
	AmountDecimal     OrNull   `json:"amount_decimal"`
	Received          int64    `json:"received"`
	ReceivedDecimal   string   `json:"received_decimal"`
	Refunded          int64    `json:"refunded"`
	RefundedDecimal   string   `json:"refunded_decimal"`
	Withdrawn         int64    `json:"dispute_withdrawn"`
	WithdrawnDecimal  string   `json:"dispute_withdrawn_decimal"`
	Reinstated        int64    `json:"dispute_reinstated"`
	ReinstatedDecimal string   `json:"dispute_reinstated_decimal"`
	Net               int64    `json:"net"`
	NetDecimal        string   `json:"net_decimal"`
	Fee               *int64   `json:"fee"` // null where it is not known
	Customer          OrNull   `json:"customer"`
	Description       OrNull   `json:"description"`
	LatestCharge      OrNull   `json:"latest_charge"`
	Flags             []string `json:"flags"`
}

var columns = []string{"id", "account", "created", "status", "currency", "amount", "amount_decimal", "received", "received_decimal",
	"refunded", "refunded_decimal", "dispute_withdrawn", "dispute_withdrawn_decimal", "dispute_reinstated", "dispute_reinstated_decimal",
	"net", "net_decimal", "fee", "customer", "description", "latest_charge", "flags"}

// Export writes the payments created at or after one time and before another (Unix seconds; nil sets no bound), oldest
// first, as a table (RFC 4180) or one JSON object a line. It reads in many short transactions: a payment that
// changes meanwhile is written as it is when its turn comes.
func (l *Ledger) Export(w io.Writer, format string, from, to *int64) error {
	one := func(x *exported) error { return nil }
	finish := func() error { return nil }
	switch format {
	case "csv":
		table := csv.NewWriter(w)
		table.UseCRLF = true
		if err := table.Write(columns); err != nil {
			return err
		}
		one = func(x *exported) error { return table.Write(x.cells()) }
		finish = func() error { table.Flush(); return table.Error() }
	case "jsonl":
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		one = func(x *exported) error { return enc.Encode(x) }
	default:
		return fmt.Errorf("the format %q is none of %v", format, Formats)
	}
	if err := l.eachPayment(from, to, func(s *state) error { return one(s.export(l.livemode)) }); err != nil {
		return err
	}
	return finish()
}

// eachPayment visits payments by (created, id), oldest first.
func (l *Ledger) eachPayment(from, to *int64, visit func(*state) error) error {
	next := []byte{}
	if from != nil {
		next = timeKey(*from, "")
	}
	for next != nil {
		start := time.Now()
		var page []*state
		err := l.view(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucketPaymentsTime).Cursor()
			key, _ := c.Seek(next)
			for next = nil; key != nil && (to == nil || bytes.Compare(key, timeKey(*to, "")) < 0); key, _ = c.Next() {
				if len(page) == scanSlice {
					next = bytes.Clone(key)
					return nil
				}
				s, err := readState(tx, string(key[8:]))
				if err != nil {
					return err
				}
				if s == nil {
					return fmt.Errorf("%w: payment %s is listed and missing", ErrCorrupt, key[8:])
				}
				page = append(page, s)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, s := range page {
			if err := visit(s); err != nil {
				return err
			}
		}
		if !l.readOnly && next != nil {
			time.Sleep(time.Since(start)) // a receiver's events need the processor more
		}
	}
	return nil
}

func (s *state) export(livemode bool) *exported {
	p := s.payment(livemode)
	decimal := func(n int64) string { return Decimal(n, string(p.Currency)) }
	x := &exported{
		ID: p.ID, Account: p.Account, Status: p.Status, Currency: p.Currency, Amount: p.Amount,
		Received: p.AmountReceived, ReceivedDecimal: decimal(p.AmountReceived), Refunded: p.AmountRefunded, RefundedDecimal: decimal(p.AmountRefunded),
		Withdrawn: p.DisputeWithdrawn, WithdrawnDecimal: decimal(p.DisputeWithdrawn),
		Reinstated: p.DisputeReinstated, ReinstatedDecimal: decimal(p.DisputeReinstated), Net: p.AmountNet, NetDecimal: decimal(p.AmountNet),
		Fee: s.fee(), Customer: p.Customer, Description: p.Description, LatestCharge: p.LatestCharge, Flags: p.Flags,
	}
	if p.Amount != nil {
		x.AmountDecimal = OrNull(decimal(*p.Amount))
	}
	if p.Created != 0 {
		x.Created = OrNull(time.Unix(int64(p.Created), 0).UTC().Format(time.RFC3339))
	}
	return x
}

// fee is what Stripe kept of the payment's charges; nil unless it is known of each that brought money, in
// the payment's currency.
func (s *state) fee() *int64 {
	var sum int64
	known := false
	for i := range s.charges {
		c := &s.charges[i]
		if c.status != statusSucceeded || c.captured == 0 {
			continue
		}
		if c.fee == nil || c.fee.Currency != s.currency() {
			return nil
		}
		sum, known = sum+c.fee.Amount, true
	}
	if !known {
		return nil
	}
	return &sum
}

// cells are the columns of a table. A text that a spreadsheet would take for a formula gets an apostrophe before it;
// numbers never do. https://owasp.org/www-community/attacks/CSV_Injection
func (x *exported) cells() []string {
	text := func(s OrNull) string {
		if s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
			return "'" + string(s)
		}
		return string(s)
	}
	number := func(n *int64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatInt(*n, 10)
	}
	return []string{
		text(OrNull(x.ID)), text(x.Account), string(x.Created), text(x.Status), text(x.Currency), number(x.Amount), string(x.AmountDecimal),
		number(&x.Received), x.ReceivedDecimal, number(&x.Refunded), x.RefundedDecimal, number(&x.Withdrawn), x.WithdrawnDecimal,
		number(&x.Reinstated), x.ReinstatedDecimal, number(&x.Net), x.NetDecimal, number(x.Fee),
		text(x.Customer), text(x.Description), text(x.LatestCharge), text(OrNull(strings.Join(x.Flags, " "))),
	}
}
