package ledger

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// The columns of the tables. New ones go behind the last.
var (
	entryColumns = []string{"entry_id", "date", "time", "entry", "payment", "object", "account", "currency", "received", "received_decimal",
		"refunded", "refunded_decimal", "dispute_withdrawn", "dispute_withdrawn_decimal", "dispute_reinstated", "dispute_reinstated_decimal",
		"net", "net_decimal", "customer", "description", "charge", "late"}
	paymentColumns = []string{"id", "account", "created", "captured", "status", "currency", "amount", "amount_decimal", "received", "received_decimal",
		"refunded", "refunded_decimal", "dispute_withdrawn", "dispute_withdrawn_decimal", "dispute_reinstated", "dispute_reinstated_decimal",
		"net", "net_decimal", "fee", "fee_decimal", "customer", "description", "latest_charge", "flags"}
)

// lineFormat writes the lines of one export. It is used by one goroutine.
type lineFormat struct {
	csv      *csv.Writer // to text; nil for JSON lines
	text     *bytes.Buffer
	zone     *time.Location
	metadata []string // keys that have a column
}

func newLineFormat(q *ExportQuery) *lineFormat {
	f := &lineFormat{zone: q.Zone, metadata: q.Metadata}
	if q.Format == "csv" {
		f.text = &bytes.Buffer{}
		f.csv = csv.NewWriter(f.text)
		f.csv.UseCRLF = true
	}
	return f
}

// A cell is one value of a line.
type cell interface {
	csv() string
	json() string
}

// foreign is a text that is not ours: of Stripe's or of a customer.
type foreign string

// own is a text that holds nothing but digits and words of ours.
type own string

// number is an amount; nil where it is not known.
type number struct{ n *int64 }

// flags are words of ours.
type flags []string

func (c foreign) csv() string { return noFormula(Escape(string(c))) }
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

// jsonText writes a text as JSON; the empty one is null.
func jsonText(s string) string {
	if s == "" {
		return "null"
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a text can always be written
	return escape(strings.TrimSuffix(b.String(), "\n"), "\t")
}

// noFormula puts an apostrophe before what a spreadsheet would take for a formula: at the beginning
// of a text, and behind a semicolon, where spreadsheets of many countries split a line, whatever
// its quotes say. Quotes and spaces before the formula do not make it a text.
// https://owasp.org/www-community/attacks/CSV_Injection
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

// formula are the characters that a formula begins with.
const formula = "=+-@"

// head returns the first line, of the names of the columns; JSON lines have none.
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

// line writes one line: the cells, and behind them the metadata that has columns.
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

// csvLine writes a line as RFC 4180 has it.
func (f *lineFormat) csvLine(texts []string) []byte {
	f.text.Reset()
	_ = f.csv.Write(texts) // to memory
	f.csv.Flush()
	return bytes.Clone(f.text.Bytes())
}

// time writes a time with its offset, nothing for an unknown one.
func (f *lineFormat) time(at OrNullTime) own {
	if at == 0 {
		return ""
	}
	return own(time.Unix(int64(at), 0).In(f.zone).Format(time.RFC3339))
}

// money writes an amount in the minor unit of its currency and in its decimals, which are empty
// where the currency is not known.
func money(n *int64, currency string) [2]cell {
	if n == nil || currency == "" {
		return [2]cell{number{n}, own("")}
	}
	return [2]cell{number{n}, own(Decimal(*n, currency))}
}

// entryLine writes the line of an entry, its amounts times sign.
func (x *Export) entryLine(f *state, e *Entry, sign int64, late string) []byte {
	p, at := f.view, time.Unix(e.At, 0).In(x.lines.zone)
	cells := []cell{foreign(e.ID), own(at.Format(time.DateOnly)), own(at.Format(time.RFC3339)), own(e.Kind), foreign(p.ID), foreign(e.Object),
		foreign(p.Account), foreign(e.Currency)}
	a := amountsOf(e)
	for _, sum := range []Sum{a.received, a.refunded, a.withdrawn, a.reinstated, a.net()} {
		n, _ := sum.Int64() // of one amount, which is one
		n *= sign
		both := money(&n, e.Currency)
		cells = append(cells, both[:]...)
	}
	cells = append(cells, foreign(p.Customer), foreign(p.Description), foreign(e.Charge), own(late))
	return x.lines.line(entryColumns, cells, p.Metadata)
}

// paymentCells are the cells of a payment's line.
func (f *lineFormat) paymentCells(s *state) []cell {
	p, currency := s.view, string(s.view.Currency)
	cells := []cell{foreign(p.ID), foreign(p.Account), f.time(p.Created), f.time(p.Captured), foreign(p.Status), foreign(currency)}
	for _, n := range []*int64{p.Amount, p.AmountReceived, p.AmountRefunded, p.DisputeWithdrawn, p.DisputeReinstated, p.AmountNet, p.Fee} {
		both := money(n, currency)
		cells = append(cells, both[:]...)
	}
	return append(cells, foreign(p.Customer), foreign(p.Description), foreign(p.LatestCharge), flags(p.Flags))
}
