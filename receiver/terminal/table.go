// Package terminal prints for people on a terminal: tables, fields, progress, times and amounts.
// The output fits the width of the terminal, and texts from elsewhere are escaped.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"tillhook/ledger"
	"tillhook/ledger/wording"

	"golang.org/x/sys/unix"
)

// Column is a column of a table.
type Column struct {
	Head  string
	Right bool // right-aligned, as numbers are
	Spare bool // omitted if the terminal is too narrow; of several the last first
	Cut   bool // truncated if the terminal is still too narrow
}

const (
	ColumnGap = 2 // between two columns
	minCell   = 8 // characters that a truncated cell keeps
)

// Table prints rows under headings. Each column is as wide as its widest cell; on a terminal
// with that width, columns are omitted or truncated to fit. A width of 0 stands for no terminal.
func Table(w io.Writer, width int, columns []Column, rows [][]string) error {
	heads := make([]string, len(columns))
	for i, c := range columns {
		heads[i] = c.Head
	}
	rows = append([][]string{heads}, rows...)
	for _, row := range rows {
		for i := range row {
			row[i] = wording.Escape(row[i])
		}
	}
	widths := fitColumns(columns, cellWidths(rows), width)
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if widths[i] < 0 {
				continue
			}
			if line.Len() > 0 {
				line.WriteString(strings.Repeat(" ", ColumnGap))
			}
			cell = shorten(cell, widths[i])
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if columns[i].Right {
				line.WriteString(space + cell)
			} else {
				line.WriteString(cell + space)
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// cellWidths returns the width of the widest cell of each column.
func cellWidths(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// fitColumns returns the widths that make the columns fit a width, 0 for any width. An omitted
// column has the width -1.
func fitColumns(columns []Column, widths []int, width int) []int {
	over := func() int {
		sum := -ColumnGap
		for _, w := range widths {
			if w >= 0 {
				sum += w + ColumnGap
			}
		}
		return sum - width
	}
	for i := len(columns) - 1; i >= 0 && width > 0 && over() > 0; i-- {
		if columns[i].Spare {
			widths[i] = -1
		}
	}
	for i := len(columns) - 1; i >= 0 && width > 0 && over() > 0; i-- {
		if columns[i].Cut {
			widths[i] = min(widths[i], max(minCell, widths[i]-over()))
		}
	}
	return widths
}

// shorten truncates a text to a width in characters.
func shorten(s string, width int) string {
	if runes := []rune(s); len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return s
}

// Fields prints a line for each pair of a name and a value. Pairs without a value are omitted.
func Fields(w io.Writer, pairs [][2]string) error { return FieldsWithin(w, 0, pairs) }

// FieldsWithin is [fields] on a terminal with that many columns.
func FieldsWithin(w io.Writer, columns int, pairs [][2]string) error {
	width := 0
	for _, pair := range pairs {
		width = max(width, len(pair[0]))
	}
	for _, pair := range pairs {
		if pair[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", width, pair[0], Hang(wording.Escape(pair[1]), width+ColumnGap, columns)); err != nil {
			return err
		}
	}
	return nil
}

// Hang breaks a text at spaces to fit a terminal, and indents each further line. It returns the
// text unchanged for no terminal (0 columns) or one that is too narrow.
func Hang(text string, indent, columns int) string {
	const least = 24 // columns of text
	if columns < indent+least {
		return text
	}
	var b strings.Builder
	at := indent
	for i, word := range strings.Split(text, " ") {
		length := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+length > columns:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += length
	}
	return b.String()
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Width returns the number of columns of the terminal w, or 0 if w is not a terminal.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// Time formats a time for people, in UTC as in exports of Stripe's Dashboard.
func Time(t ledger.OrNullTime) string { return TimeIn(t, time.UTC) }

// TimeUTC is [moment] with the time zone.
func TimeUTC(t ledger.OrNullTime) string {
	if t == 0 {
		return "-"
	}
	return Time(t) + " UTC"
}

// TimeIn formats a time for people in a time zone.
func TimeIn(t ledger.OrNullTime, zone *time.Location) string {
	if t == 0 {
		return "-"
	}
	return time.Unix(int64(t), 0).In(zone).Format("2006-01-02 15:04:05")
}

// Money formats an amount with the decimals of its currency.
func Money(amount int64, currency ledger.OrNull) string {
	return MoneySum(ledger.SumOf(amount), currency)
}

// MoneySum is [money] of a sum, which need not fit 64 bits.
func MoneySum(sum ledger.Sum, currency ledger.OrNull) string {
	if currency == "" { // its number of decimals is unknown
		if sum == (ledger.Sum{}) {
			return "-"
		}
		return sum.String() + " (minor unit)"
	}
	return strings.TrimSpace(sum.Decimal(string(currency)) + " " + strings.ToUpper(wording.Escape(string(currency))))
}

// KnownMoney formats an amount that may be unknown.
func KnownMoney(amount *int64, currency ledger.OrNull) string {
	if amount == nil {
		return "unknown"
	}
	return Money(*amount, currency)
}

// SomeMoney is [KnownMoney], but empty for 0.
func SomeMoney(amount *int64, currency ledger.OrNull) string {
	if amount != nil && *amount == 0 {
		return ""
	}
	return KnownMoney(amount, currency)
}

// maxCell is the largest length of a foreign text in a table.
const maxCell = 60

// OrDash returns a text for a cell of a table, or a dash for an empty one.
func OrDash(s ledger.OrNull) string {
	if s == "" {
		return "-"
	}
	return shorten(wording.Escape(string(s)), maxCell)
}
