package ledger

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// txn is a transaction on the ledger: bbolt's, and before it what is fresh.
type txn struct {
	*bolt.Tx
	seen    layers       // what is fresh to a reader
	writes  *freshWrites // the committer's; nil in a reader, and where everything is written in place
	scratch []byte
}

// inPlace is a transaction that sees and writes nothing but what lies in its place.
func inPlace(tx *bolt.Tx) *txn { return &txn{Tx: tx} }

// findFresh looks a key up in what is fresh of a bucket with that number.
func (t *txn) findFresh(number byte, key []byte) (*freshEntry, bool) {
	if number == 0 || t.writes == nil && len(t.seen) == 0 {
		return nil, false
	}
	t.scratch = append(append(t.scratch[:0], number), key...)
	if t.writes != nil {
		return t.writes.find(t.scratch)
	}
	return t.seen.find(string(t.scratch))
}

// freshEntries are what is fresh of a bucket, in order.
func (t *txn) freshEntries(bucket []byte) layer {
	number := freshOf(bucket)
	if number == 0 {
		return nil
	}
	return t.seen.of(number)
}

// stored returns a value as it is stored, nil where there is none. It belongs to the transaction.
func (t *txn) stored(bucket, key []byte) []byte {
	if e, ok := t.findFresh(freshOf(bucket), key); ok {
		return e.stored
	}
	return t.Tx.Bucket(bucket).Get(key)
}

// put seals a value and stores it.
func put(tx *txn, bucket, key, value []byte) error {
	value = seal(bucket, key, value)
	if number := freshOf(bucket); number != 0 && tx.writes != nil {
		tx.write(number, key, value)
		return nil
	}
	if err := tx.Bucket(bucket).Put(key, value); err != nil {
		return fmt.Errorf("write to %s: %w", bucket, err)
	}
	return nil
}

func (t *txn) write(number byte, key, stored []byte) {
	e := &freshEntry{key: string(append(append(t.scratch[:0], number), key...)), stored: stored}
	t.writes.entries[e.key] = e
}

// get returns a value with its checksum verified, or nil where there is none. It belongs to the transaction.
func get(tx *txn, bucket, key []byte) ([]byte, error) {
	stored := tx.stored(bucket, key)
	if stored == nil {
		return nil, nil
	}
	return unseal(bucket, key, stored)
}

// remove deletes an entry that is there.
func remove(tx *txn, bucket, key []byte) error {
	if number := freshOf(bucket); number != 0 && tx.writes != nil {
		tx.write(number, key, nil)
		return nil
	}
	if err := tx.Bucket(bucket).Delete(key); err != nil {
		return fmt.Errorf("delete from %s: %w", bucket, err)
	}
	return nil
}
