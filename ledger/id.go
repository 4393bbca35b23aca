package ledger

import (
	"crypto/rand"
	"encoding/hex"
	"tillhook/ledger/store"
)

// noID is used for a ledger whose id is damaged.
const noID = "000000000000"

// newID returns a random id for a new ledger. The id distinguishes the copies of a ledger from
// those of other ledgers in the same directory. Copies keep the id.
func newID() string {
	b := make([]byte, len(noID)/2)
	_, _ = rand.Read(b) // Read never fails, see https://pkg.go.dev/crypto/rand#Read
	return hex.EncodeToString(b)
}

// readID returns the id of a ledger, or noID if it is missing or damaged.
func readID(tx *store.Tx) string {
	value, err := tx.Get(bucketMeta, metaID)
	if err != nil || len(value) != len(noID) {
		return noID
	}
	return string(value)
}
