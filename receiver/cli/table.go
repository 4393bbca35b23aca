package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tillhook/ledger"
)

// table prints rows under headings, each column as wide as its widest cell. A heading that starts
// with ">" is of a column of numbers, which stand right.
func table(w io.Writer, headings []string, rows [][]string) error {
	for _, row := range rows {
		for i := range row {
			row[i] = clean(row[i])
		}
	}
	widths := make([]int, len(headings))
	for _, row := range append([][]string{headings}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(strings.TrimPrefix(cell, ">")))
		}
	}
	for _, row := range append([][]string{headings}, rows...) {
		var line strings.Builder
		for i, cell := range row {
			cell = strings.TrimPrefix(cell, ">")
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				line.WriteString("  ")
			}
			if strings.HasPrefix(headings[i], ">") {
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

// fields prints names and values, one pair a line; pairs without a value are left out.
func fields(w io.Writer, pairs [][2]string) error {
	width := 0
	for _, pair := range pairs {
		width = max(width, len(pair[0]))
	}
	for _, pair := range pairs {
		if pair[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", width, pair[0], clean(pair[1])); err != nil {
			return err
		}
	}
	return nil
}

// clean makes a text of somebody else's safe to print within a line: see [ledger.Escape].
func clean(s string) string { return ledger.Escape(s) }

// isTerminal reports whether what is written is shown to a person at once.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// moment writes a time for people, in UTC as in Stripe's Dashboard exports.
func moment(t ledger.OrNullTime) string { return momentIn(t, time.UTC) }

// momentIn writes a time for people in a time zone.
func momentIn(t ledger.OrNullTime, zone *time.Location) string {
	if t == 0 {
		return "-"
	}
	return time.Unix(int64(t), 0).In(zone).Format("2006-01-02 15:04:05")
}

// money writes an amount with the decimals of its currency.
func money(amount int64, currency ledger.OrNull) string {
	if currency == "" { // how many decimals it has is not known
		if amount == 0 {
			return "-"
		}
		return strconv.FormatInt(amount, 10) + " (minor unit)"
	}
	return strings.TrimSpace(ledger.Decimal(amount, string(currency)) + " " + strings.ToUpper(clean(string(currency))))
}

// knownMoney writes an amount, or says that it is unknown.
func knownMoney(amount *int64, currency ledger.OrNull) string {
	if amount == nil {
		return "unknown"
	}
	return money(*amount, currency)
}

// someMoney is [knownMoney], but empty for 0.
func someMoney(amount *int64, currency ledger.OrNull) string {
	if amount != nil && *amount == 0 {
		return ""
	}
	return knownMoney(amount, currency)
}

// maxCell is how many characters of somebody else's text a table shows.
const maxCell = 60

func orDash(s ledger.OrNull) string {
	if s == "" {
		return "-"
	}
	if cell := []rune(clean(string(s))); len(cell) > maxCell {
		return string(cell[:maxCell-1]) + "…"
	}
	return clean(string(s))
}
