package schema_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"tillhook/ledger/schema"
)

// FuzzStored decodes stored values that may be damaged in a way that no checksum shows. If a value
// is accepted, encoding and decoding it again must yield the same bytes, and not more than it had:
// then the decoder overlooked nothing in it.
func FuzzStored(f *testing.F) {
	for _, s := range schema.StoredSamples() {
		f.Add(s.Kind, s.Value)
	}
	f.Fuzz(func(t *testing.T, kind byte, value []byte) {
		again, err := schema.Reencode(kind, value)
		if err != nil {
			return
		}
		third, err := schema.Reencode(kind, again)
		if err != nil || !bytes.Equal(third, again) {
			t.Fatalf("kind %d: %x is encoded again as %x, and that as %x, %v", kind, value, again, third, err)
		}
		if len(again) > len(value) {
			t.Fatalf("kind %d: %x is encoded again as %x, which is longer", kind, value, again)
		}
	})
}

// Stored values refer to the words of the string table by their numbers.
func TestStringTableDoesNotChange(t *testing.T) {
	const first = "3c384491a5e9386a7043b1bcbd49567be2f5f13677953a6ac84a7968308a0e51"
	if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(schema.Words(), "\n")))); sum != first {
		t.Errorf("the string table has changed: its SHA-256 is %s", sum)
	}
	seen := map[string]bool{}
	for _, word := range schema.Words() {
		if seen[word] {
			t.Errorf("%q is in the table twice", word)
		}
		seen[word] = true
	}
}

func TestTextsAreEncodedCompactly(t *testing.T) {
	const under = "evt_3wBTwEKvHadernBlBPBleRA0"
	for _, c := range []struct {
		under, text string
		size        int
	}{
		{under, "", 1}, {under, "succeeded", 1}, {under, "payment_intent.succeeded", 1}, {under, "customer.created", 2},
		{under, "pi_3wBTwEKvHadernBl4gdrfNcd", 2 + 8}, {under, "txn_3wBTwEKvHadernBl4gdrfNcd", 2 + 8},
		{under, "pi_3wBTwEKvHadernBx4gdrfNcd", 1 + 27}, // of another payment
		{under, "xx_3wBTwEKvHadernBl4gdrfNcd", 1 + 27}, {under, "3wBTwEKvHadernBl4gdrfNcd", 1 + 24},
		{under, "pi_3wBTwEKvHadernBl4gdrfNcd0", 1 + 28},
		{"evt_1", "pi_3wBTwEKvHadernBl4gdrfNcd", 1 + 27}, {"", "pi_", 1 + 3},
		{under, strings.Repeat("x", 63), 1 + 63}, {under, strings.Repeat("x", 64), 2 + 64}, {under, "\x00\xff", 1 + 2},
	} {
		stored, again, err := schema.EncodeText(c.under, c.text)
		if err != nil || again != c.text || len(stored) != c.size {
			t.Errorf("%q under %q takes %d bytes, want %d, and is decoded as %q, %v", c.text, c.under, len(stored),
				c.size, again, err)
		}
	}
}

// Stored bodies can only be read with the dictionary that they were compressed against.
func TestBuiltInDictionaryDoesNotChange(t *testing.T) {
	const first = "e1a63cc03670a15b37e652f580211b7cc8ef3befd2709e9eec7a9a1a1178c6ca"
	if sum := fmt.Sprintf("%x", sha256.Sum256(schema.BuiltInDictionary())); sum != first {
		t.Errorf("the built-in dictionary has changed: its SHA-256 is %s", sum)
	}
}
