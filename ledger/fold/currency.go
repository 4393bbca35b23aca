package fold

import (
	"strconv"
	"strings"
)

// Currencies without a minor unit, and those whose minor unit is a thousandth. Stripe treats every
// other currency as having hundredths, ISK and UGX included.
// https://docs.stripe.com/currencies
const (
	zeroDecimal  = " bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf "
	threeDecimal = " bhd jod kwd omr tnd "
)

// Decimals returns the number of decimal places of an amount in the currency's major unit: 2 for
// usd, 0 for jpy.
func Decimals(currency string) int {
	switch word := " " + strings.ToLower(currency) + " "; {
	case strings.Contains(zeroDecimal, word):
		return 0
	case strings.Contains(threeDecimal, word):
		return 3
	}
	return 2
}

// Decimal formats an amount in the currency's major unit: Decimal(2099, "usd") is "20.99".
func Decimal(amount int64, currency string) string {
	return decimal(strconv.FormatInt(amount, 10), currency)
}

// Decimal formats a sum in the currency's major unit, as the function [Decimal] does.
func (s Sum) Decimal(currency string) string { return decimal(s.String(), currency) }

func decimal(amount, currency string) string {
	n := Decimals(currency)
	digits, negative := strings.CutPrefix(amount, "-")
	sign := ""
	if negative {
		sign = "-"
	}
	if n == 0 {
		return sign + digits
	}
	if missing := n + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	return sign + digits[:len(digits)-n] + "." + digits[len(digits)-n:]
}
