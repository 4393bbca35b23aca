package wording

import (
	"fmt"
	"strings"
)

// Plural returns a number with its noun: "1 event", "2 events", "0 deliveries".
func Plural[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	stem, many := noun, "s"
	if before, y := strings.CutSuffix(noun, "y"); y && !strings.HasSuffix(before, "a") {
		stem, many = before, "ies"
	}
	return fmt.Sprintf("%d %s%s", n, stem, many)
}

// Verb returns the form of a verb that agrees with a number: Verb(n, "was", "were").
func Verb[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
