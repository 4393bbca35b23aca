package ledger_test

import (
	"bytes"
	"testing"

	"tillhook/ledger"
)

// FuzzStored reads values as they may be stored, damaged in a way that no checksum shows. Whatever is taken for one is written
// again in the same bytes, so nothing in it was overlooked, and the rest is an error.
func FuzzStored(f *testing.F) {
	for _, s := range ledger.StoredSamples() {
		f.Add(s.Kind, s.Value)
	}
	f.Fuzz(func(t *testing.T, kind byte, value []byte) {
		again, err := ledger.Restore(kind, value)
		if err != nil {
			return
		}
		third, err := ledger.Restore(kind, again)
		if err != nil || !bytes.Equal(third, again) {
			t.Fatalf("kind %d: %x is read and written as %x, and that as %x, %v", kind, value, again, third, err)
		}
		if len(again) > len(value) {
			t.Fatalf("kind %d: %x is written as %x, which is longer", kind, value, again)
		}
	})
}
