package export

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"tillhook/ledger/fold"
	"tillhook/ledger/schema"
	"tillhook/ledger/wording"
)

// The columns of the exported tables. New columns are added at the end.
var (
	entryColumns = []string{"entry_id", "date", "time", "entry", "payment", "object", "account", "currency", "received", "received_decimal",
		"refunded", "refunded_decimal", "dispute_withdrawn", "dispute_withdrawn_decimal", "dispute_reinstated", "dispute_reinstated_decimal",
		"net", "net_decimal", "customer", "description", "charge", "late"}
	paymentColumns = []string{"id", "account", "created", "captured", "status", "currency", "amount", "amount_decimal", "received", "received_decimal",
		"refunded", "refunded_decimal", "dispute_withdrawn", "dispute_withdrawn_decimal", "dispute_reinstated", "dispute_reinstated_decimal",
		"net", "net_decimal", "fee", "fee_decimal", "customer", "description", "latest_charge", "flags"}
)

// lineFormat formats the lines of one export. It is not safe for concurrent use.
type lineFormat struct {
	csv      *csv.Writer // writes to text; nil for JSON Lines
	text     *bytes.Buffer
	zone     *time.Location
	metadata []string // the metadata keys that have a column
}

func newLineFormat(q *Query) *lineFormat {
	f := &lineFormat{zone: q.Zone, metadata: q.Metadata}
	if q.Format == "csv" {
		f.text = &bytes.Buffer{}
		f.csv = csv.NewWriter(f.text)
		f.csv.UseCRLF = true
	}
	return f
}

// cell is one value of a line.
type cell interface {
	csv() string
	json() string
}

// foreign is text from Stripe or from a customer, which can contain anything.
type foreign string

// own is text that this program generates: dates, decimals and fixed words. It needs no escaping.
type own string

// number is an amount. n is nil if the amount is unknown.
type number struct{ n *int64 }

// flags are the flags of a payment.
type flags []string

func (c foreign) csv() string { return noFormula(wording.Escape(string(c))) }
func (c own) csv() string     { return string(c) }
func (c flags) csv() string   { return strings.Join(c, " ") }
func (c number) csv() string {
	if c.n == nil {
		return ""
	}
	return strconv.FormatInt(*c.n, 10)
}

func (c foreign) json() string { return jsonText(string(c)) }
func (c own) json() string     { return jsonText(string(c)) }
func (c flags) json() string {
	quoted := make([]string, len(c))
	for i, word := range c {
		quoted[i] = jsonText(word)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}
func (c number) json() string {
	if c.n == nil {
		return "null"
	}
	return c.csv()
}

// jsonText returns a text as JSON. The empty text becomes null.
func jsonText(s string) string {
	if s == "" {
		return "null"
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // encoding a string does not fail
	return wording.Escape(strings.TrimSuffix(b.String(), "\n"))
}

// noFormula puts an apostrophe before text that a spreadsheet would interpret as a formula: at the
// beginning of s and after each semicolon, because in many locales spreadsheets split a line at
// semicolons, even inside quotes. Quotes and spaces between the semicolon and the formula do not
// prevent that. See https://owasp.org/www-community/attacks/CSV_Injection
func noFormula(s string) string {
	if s != "" && strings.ContainsRune(formula, rune(s[0])) {
		s = "'" + s
	}
	if !strings.Contains(s, ";") {
		return s
	}
	parts := strings.Split(s, ";")
	for i, part := range parts[1:] {
		if bare := strings.TrimLeft(part, `" `); bare != "" && strings.ContainsRune(formula, rune(bare[0])) {
			parts[i+1] = "'" + part
		}
	}
	return strings.Join(parts, ";")
}

// formula holds the characters with which a formula begins.
const formula = "=+-@"

// head returns the header line with the names of the columns, or nil for JSON Lines, which have no
// header.
func (f *lineFormat) head(columns []string) []byte {
	if f.csv == nil {
		return nil
	}
	names := append([]string{}, columns...)
	for _, key := range f.metadata {
		names = append(names, foreign(metadataColumn+key).csv())
	}
	return f.csvLine(names)
}

const metadataColumn = "metadata_"

// line returns one line: the cells, followed by the metadata that has columns.
func (f *lineFormat) line(columns []string, cells []cell, metadata map[string]string) []byte {
	if f.csv != nil {
		texts := make([]string, 0, len(cells)+len(f.metadata))
		for _, c := range cells {
			texts = append(texts, c.csv())
		}
		for _, key := range f.metadata {
			texts = append(texts, foreign(metadata[key]).csv())
		}
		return f.csvLine(texts)
	}
	b := []byte{'{'}
	field := func(name, value string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, jsonText(name)...), ':'), value...)
	}
	for i, c := range cells {
		field(columns[i], c.json())
	}
	for _, key := range f.metadata {
		field(metadataColumn+key, jsonText(metadata[key]))
	}
	return append(b, '}', '\n')
}

// csvLine returns a line in the format of RFC 4180.
func (f *lineFormat) csvLine(texts []string) []byte {
	f.text.Reset()
	_ = f.csv.Write(texts) // a bytes.Buffer returns no errors
	f.csv.Flush()
	return bytes.Clone(f.text.Bytes())
}

// time returns a time in RFC 3339 with the offset of the zone, or "" if the time is unknown.
func (f *lineFormat) time(at fold.OrNullTime) own {
	if at == 0 {
		return ""
	}
	return own(time.Unix(int64(at), 0).In(f.zone).Format(time.RFC3339))
}

// money returns two cells: an amount in the minor unit of its currency, and the same amount as a
// decimal. The decimal is empty if the amount or the currency is unknown.
func money(n *int64, currency string) [2]cell {
	if n == nil || currency == "" {
		return [2]cell{number{n}, own("")}
	}
	return [2]cell{number{n}, own(fold.Decimal(*n, currency))}
}

// entryLine returns the line of an entry, with its amounts multiplied by sign.
func (x *Export) entryLine(f *schema.State, e *fold.Entry, sign int64, late string) []byte {
	p, at := f.Payment, time.Unix(e.At, 0).In(x.lines.zone)
	cells := []cell{foreign(e.ID), own(at.Format(time.DateOnly)), own(at.Format(time.RFC3339)), own(e.Kind), foreign(p.ID), foreign(e.Object),
		foreign(p.Account), foreign(e.Currency)}
	a := schema.AmountsOf(e)
	for _, sum := range []fold.Sum{a.Received, a.Refunded, a.Withdrawn, a.Reinstated, a.Net()} {
		n, _ := sum.Int64() // the sum of a single amount always fits
		n *= sign
		both := money(&n, e.Currency)
		cells = append(cells, both[:]...)
	}
	cells = append(cells, foreign(p.Customer), foreign(p.Description), foreign(e.Charge), own(late))
	return x.lines.line(entryColumns, cells, p.Metadata)
}

// paymentCells returns the cells of a payment's line.
func (f *lineFormat) paymentCells(s *schema.State) []cell {
	p, currency := s.Payment, string(s.Payment.Currency)
	cells := []cell{foreign(p.ID), foreign(p.Account), f.time(p.Created), f.time(p.Captured), foreign(p.Status), foreign(currency)}
	for _, n := range []*int64{p.Amount, p.AmountReceived, p.AmountRefunded, p.DisputeWithdrawn, p.DisputeReinstated, p.AmountNet, p.Fee} {
		both := money(n, currency)
		cells = append(cells, both[:]...)
	}
	return append(cells, foreign(p.Customer), foreign(p.Description), foreign(p.LatestCharge), flags(p.Flags))
}
