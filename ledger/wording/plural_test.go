package wording_test

import (
	"testing"

	"tillhook/ledger/wording"
)

func TestPlural(t *testing.T) {
	for want, got := range map[string]string{
		"0 events": wording.Plural(0, "event"), "1 event": wording.Plural(uint64(1), "event"),
		"2 events":   wording.Plural(2, "event"),
		"1 delivery": wording.Plural(1, "delivery"), "7 deliveries": wording.Plural(int64(7), "delivery"),
		"2 days":               wording.Plural(2, "day"),
		"3 connected accounts": wording.Plural(3, "connected account"), "2 entries": wording.Plural(2, "entry"),
		"was": wording.Verb(1, "was", "were"), "were": wording.Verb(0, "was", "were"),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
