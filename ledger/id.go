package ledger

import (
	"crypto/rand"
	"encoding/hex"
	"tillhook/ledger/store"
)

// noID stands for the id of a ledger whose own is damaged.
const noID = "000000000000"

// newID draws the id of a ledger: what tells the copies of one from those of others in the same
// folder. Copies keep it.
func newID() string {
	b := make([]byte, len(noID)/2)
	_, _ = rand.Read(b) // it never fails, https://pkg.go.dev/crypto/rand#Read
	return hex.EncodeToString(b)
}

// readID returns the id of a ledger.
func readID(tx *store.Tx) string {
	value, err := tx.Get(bucketMeta, metaID)
	if err != nil || len(value) != len(noID) {
		return noID
	}
	return string(value)
}
