package ledger

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// txn is a transaction on the ledger: bbolt's, and before it what is fresh.
type txn struct {
	*bolt.Tx
	seen    []layer                             // what is fresh to a reader, the newest first
	fresh   *freshness                          // the committer's; nil in a reader, and where everything is written in place
	scratch []byte                              // a key with its bucket's number before it
	key     []byte                              // an event id's
	homes   [len(freshBuckets) + 1]*bolt.Bucket // by number: where entries that are fresh belong; the committer's
}

// inPlace is a transaction that sees and writes nothing but what lies in its place.
func inPlace(tx *bolt.Tx) *txn { return &txn{Tx: tx} }

// findFresh looks a key up in what is fresh of a bucket with that number.
func (t *txn) findFresh(number byte, key []byte) (*freshEntry, bool) {
	if number == 0 || t.fresh == nil && len(t.seen) == 0 {
		return nil, false
	}
	t.scratch = append(append(t.scratch[:0], number), key...)
	if t.fresh != nil {
		return t.fresh.find(t.scratch)
	}
	for _, l := range t.seen {
		if e, ok := l.find(string(t.scratch)); ok {
			return e, true
		}
	}
	return nil, false
}

// freshEntries are what is fresh of a bucket, in order.
func (t *txn) freshEntries(bucket []byte) (all layer) {
	number := freshOf(bucket)
	if number == 0 {
		return nil
	}
	for _, l := range t.seen {
		all = merge(all, l.of(number))
	}
	return all
}

// stored returns a value as it is stored, nil where there is none. It belongs to the transaction.
func (t *txn) stored(bucket, key []byte) []byte {
	number := freshOf(bucket)
	if e, ok := t.findFresh(number, key); ok {
		return e.stored
	}
	if number == 0 || t.fresh == nil {
		return t.Tx.Bucket(bucket).Get(key)
	}
	if t.homes[number] == nil {
		t.homes[number] = t.Tx.Bucket(bucket)
	}
	if t.fresh.edges.isNew(t.homes[number], t.scratch) {
		return nil
	}
	return t.homes[number].Get(key)
}

// put seals a value, which is the transaction's from now on, and stores it.
func put(tx *txn, bucket, key, value []byte) error {
	if number := freshOf(bucket); number != 0 && tx.fresh != nil {
		stored := append(make([]byte, 0, len(value)+checksumSize), value...)
		tx.scratch = append(append(tx.scratch[:0], number), key...)
		tx.fresh.write(tx.scratch, seal(bucket, key, stored))
		return nil
	}
	if err := tx.Bucket(bucket).Put(key, seal(bucket, key, value)); err != nil {
		return fmt.Errorf("write to %s: %w", bucket, err)
	}
	return nil
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
	if number := freshOf(bucket); number != 0 && tx.fresh != nil {
		tx.scratch = append(append(tx.scratch[:0], number), key...)
		tx.fresh.write(tx.scratch, nil)
		return nil
	}
	if err := tx.Bucket(bucket).Delete(key); err != nil {
		return fmt.Errorf("delete from %s: %w", bucket, err)
	}
	return nil
}
