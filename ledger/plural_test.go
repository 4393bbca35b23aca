package ledger_test

import (
	"testing"

	"tillhook/ledger"
)

func TestPlural(t *testing.T) {
	for want, got := range map[string]string{
		"0 events": ledger.Plural(0, "event"), "1 event": ledger.Plural(uint64(1), "event"),
		"2 events":   ledger.Plural(2, "event"),
		"1 delivery": ledger.Plural(1, "delivery"), "7 deliveries": ledger.Plural(int64(7), "delivery"),
		"2 days":               ledger.Plural(2, "day"),
		"3 connected accounts": ledger.Plural(3, "connected account"), "2 entries": ledger.Plural(2, "entry"),
		"was": ledger.Verb(1, "was", "were"), "were": ledger.Verb(0, "was", "were"),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
