package ledger

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
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
	Received          *int64   `json:"received"`
	ReceivedDecimal   OrNull   `json:"received_decimal"`
	Refunded          *int64   `json:"refunded"`
	RefundedDecimal   OrNull   `json:"refunded_decimal"`
	Withdrawn         *int64   `json:"dispute_withdrawn"`
	WithdrawnDecimal  OrNull   `json:"dispute_withdrawn_decimal"`
	Reinstated        *int64   `json:"dispute_reinstated"`
	ReinstatedDecimal OrNull   `json:"dispute_reinstated_decimal"`
	Net               *int64   `json:"net"`
	NetDecimal        OrNull   `json:"net_decimal"`
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
// first, as a table (RFC 4180) or one JSON object a line. All are as they were at one moment.
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
	if err := l.eachPayment(from, to, func(s *state) error { return one(s.export()) }); err != nil {
		return err
	}
	return finish()
}

// eachPayment visits payments by (created, id), oldest first, as they are at one moment. A receiver's are copied out first:
// making lines of them takes longer than a transaction should.
func (l *Ledger) eachPayment(from, to *int64, visit func(*state) error) error {
	if l.readOnly {
		return l.view(func(tx *txn) error {
			return walkPayments(tx, from, to, func(id string, value []byte) error {
				s, err := decodeState(id, value)
				if err != nil {
					return fmt.Errorf("payment %.80s: %w", id, err)
				}
				return visit(s)
			})
		})
	}
	f, err := l.Spool(func(w io.Writer) error {
		return l.view(func(tx *txn) error {
			return walkPayments(tx, from, to, func(id string, value []byte) error {
				var e encoder
				e.string(id)
				e.string(string(value))
				_, err := w.Write(binary.AppendUvarint(nil, uint64(len(e.buf))))
				if err == nil {
					_, err = w.Write(e.buf)
				}
				return err
			})
		})
	})
	if err != nil {
		return err
	}
	defer f.Close()
	return readPayments(bufio.NewReaderSize(f, 1<<20), visit)
}

// walkPayments hands out payments as they are stored, their checksums verified.
func walkPayments(tx *txn, from, to *int64, visit func(id string, value []byte) error) error {
	var first, end []byte
	if from != nil {
		first = timeKey(*from, "")
	}
	if to != nil {
		end = timeKey(*to, "")
	}
	for key := range tx.ascend(bucketPaymentsTime, first) {
		if end != nil && bytes.Compare(key, end) >= 0 {
			return nil
		}
		id := string(key[8:])
		value, err := get(tx, bucketPayments, []byte(id))
		if err != nil {
			return err
		}
		if value == nil {
			return fmt.Errorf("%w: payment %.80s is listed and missing", ErrCorrupt, id)
		}
		if err := visit(id, value); err != nil {
			return err
		}
	}
	return nil
}

// readPayments reads back what was copied out. It rests as long as it works: a receiver's events need the processor more.
func readPayments(r *bufio.Reader, visit func(*state) error) error {
	start := time.Now()
	for n := 1; ; n++ {
		size, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		stored := make([]byte, size)
		if _, err := io.ReadFull(r, stored); err != nil {
			return err
		}
		d := decoder{buf: stored}
		id, value := d.string(), d.string()
		if err := d.end(); err != nil {
			return err
		}
		s, err := decodeState(id, []byte(value))
		if err != nil {
			return fmt.Errorf("payment %.80s: %w", id, err)
		}
		if err := visit(s); err != nil {
			return err
		}
		if n%scanSlice == 0 {
			time.Sleep(time.Since(start))
			start = time.Now()
		}
	}
}

func (s *state) export() *exported {
	p := s.view
	decimal := func(n *int64) OrNull {
		if n == nil || p.Currency == "" {
			return "" // how many decimals it has is not known
		}
		return OrNull(Decimal(*n, string(p.Currency)))
	}
	x := &exported{
		ID: p.ID, Account: p.Account, Status: p.Status, Currency: p.Currency, Amount: p.Amount,
		Received: p.AmountReceived, ReceivedDecimal: decimal(p.AmountReceived), Refunded: p.AmountRefunded, RefundedDecimal: decimal(p.AmountRefunded),
		Withdrawn: p.DisputeWithdrawn, WithdrawnDecimal: decimal(p.DisputeWithdrawn),
		Reinstated: p.DisputeReinstated, ReinstatedDecimal: decimal(p.DisputeReinstated), Net: p.AmountNet, NetDecimal: decimal(p.AmountNet),
		Fee: p.Fee, Customer: p.Customer, Description: p.Description, LatestCharge: p.LatestCharge, Flags: p.Flags,
	}
	x.AmountDecimal = decimal(p.Amount)
	if p.Created != 0 {
		x.Created = OrNull(time.Unix(int64(p.Created), 0).UTC().Format(time.RFC3339))
	}
	return x
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
		number(x.Received), string(x.ReceivedDecimal), number(x.Refunded), string(x.RefundedDecimal), number(x.Withdrawn), string(x.WithdrawnDecimal),
		number(x.Reinstated), string(x.ReinstatedDecimal), number(x.Net), string(x.NetDecimal), number(x.Fee),
		text(x.Customer), text(x.Description), text(x.LatestCharge), text(OrNull(strings.Join(x.Flags, " "))),
	}
}
