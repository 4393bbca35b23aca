package terminal

import (
	"slices"
	"strings"
	"testing"

	"tillhook/ledger"
)

func TestMoney(t *testing.T) {
	for _, c := range []struct {
		sum      ledger.Sum
		currency ledger.OrNull
		want     string
	}{
		{ledger.SumOf(2099), "eur", "20.99 EUR"},
		{ledger.SumOf(-5), "eur", "-0.05 EUR"},
		{ledger.SumOf(1500), "jpy", "1500 JPY"},
		{ledger.Sum{Hi: 1, Lo: 5}, "usd", "184467440737095516.21 USD"}, // more than 64 bits
		{ledger.SumOf(0), "", "-"},
		{ledger.SumOf(300), "", "300 (minor unit)"},
		{ledger.Sum{Hi: 1}, "", "18446744073709551616 (minor unit)"},
	} {
		if got := MoneySum(c.sum, c.currency); got != c.want {
			t.Errorf("%v %s is written %q, want %q", c.sum, c.currency, got, c.want)
		}
	}
}

// A table omits spare columns before it truncates others.
func TestATableFitsTheTerminal(t *testing.T) {
	columns := []Column{{Head: "A"}, {Head: "B", Spare: true}, {Head: "C", Cut: true}, {Head: "D", Spare: true}}
	for _, c := range []struct {
		width int // of the terminal
		want  []int
	}{
		{0, []int{10, 20, 30, 5}}, // no terminal
		{71, []int{10, 20, 30, 5}},
		{70, []int{10, 20, 30, -1}},
		{64, []int{10, 20, 30, -1}},
		{63, []int{10, -1, 30, -1}},
		{42, []int{10, -1, 30, -1}},
		{40, []int{10, -1, 28, -1}},
		{20, []int{10, -1, 8, -1}},
		{5, []int{10, -1, 8, -1}},
	} {
		if got := fitColumns(columns, []int{10, 20, 30, 5}, c.width); !slices.Equal(got, c.want) {
			t.Errorf("at %d columns the widths are %v, want %v", c.width, got, c.want)
		}
	}
	if got := shorten("größeres", 5); got != "größ…" {
		t.Errorf("cut to 5 characters: %q", got)
	}
}

// A sentence is broken at spaces to fit the terminal, and its further lines are indented.
func TestASentenceFitsTheTerminal(t *testing.T) {
	const text = "The größeres one is not configured, and its log says what is wrong."
	for _, c := range []struct {
		indent, columns int
		want            string
	}{
		{10, 0, text}, // no terminal
		{10, 33, text},
		{10, 200, text},
		{10, 34, "The größeres one is not\n          configured, and its log\n          says what is wrong."},
		{0, 24, "The größeres one is not\nconfigured, and its log\nsays what is wrong."},
		{0, 23, text},
	} {
		if got := Hang(text, c.indent, c.columns); got != c.want {
			t.Errorf("behind %d of %d columns: %q", c.indent, c.columns, got)
		}
	}
	if got := Hang(strings.Repeat("x", 50)+" y", 2, 40); got != strings.Repeat("x", 50)+"\n  y" {
		t.Errorf("a word that is too long: %q", got)
	}
}
