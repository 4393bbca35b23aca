package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// Tx is a transaction. It belongs to the goroutine that its function runs in.
type Tx struct {
	store   *Store
	bolt    *bolt.Tx
	opened  [maxBuckets]*bolt.Bucket // by number
	runs    []run                    // what is buffered, as a reader sees it, the newest first
	buffer  *buffer                  // the writer's; nil in a reader, and where everything is written in place
	scratch []byte                   // a buffered key: the bucket's number, then the key
}

// maxBuckets bounds the length of a [Layout].
const maxBuckets = 32

// Entry is a key with its value. Both are valid until the transaction ends.
type Entry struct {
	Key    []byte
	sealed []byte
	bucket string
}

// Value returns the value after checking it: [ErrCorrupt] if it is damaged.
func (e Entry) Value() ([]byte, error) { return unseal(e.bucket, e.Key, e.sealed) }

func (tx *Tx) spec(b Bucket) *Spec { return &tx.store.opts.Layout[b] }

// in returns a bucket in the file, nil in a file that lacks it.
func (tx *Tx) in(b Bucket) *bolt.Bucket {
	if tx.opened[b] == nil {
		spec := tx.spec(b)
		if tx.opened[b] = tx.bolt.Bucket([]byte(spec.Name)); tx.opened[b] != nil && tx.bolt.Writable() {
			tx.opened[b].FillPercent = fillOf(spec)
		}
	}
	return tx.opened[b]
}

// fillOf returns how full pages are made. Buffered keys mostly grow with time and are written in
// order, so that few come between others.
func fillOf(spec *Spec) float64 {
	switch {
	case spec.Append:
		return 1
	case spec.Buffered:
		return 0.85
	}
	return bolt.DefaultFillPercent
}

// Exists reports whether the file has the bucket. All buckets of a layout exist in a file that was
// opened without [Options.Unbuffered].
func (tx *Tx) Exists(b Bucket) bool { return tx.in(b) != nil }

// buffered returns the buffered entry of a key.
func (tx *Tx) buffered(b Bucket, key []byte) (*entry, bool) {
	if tx.buffer == nil && len(tx.runs) == 0 || !tx.spec(b).Buffered {
		return nil, false
	}
	tx.scratch = append(append(tx.scratch[:0], byte(b)), key...)
	if tx.buffer != nil {
		return tx.buffer.find(tx.scratch)
	}
	for _, r := range tx.runs {
		if e, ok := r.find(string(tx.scratch)); ok {
			return e, true
		}
	}
	return nil, false
}

// sealed returns a value as it is stored, nil where the key does not exist.
func (tx *Tx) sealed(b Bucket, key []byte) []byte {
	if e, ok := tx.buffered(b, key); ok {
		return e.sealed
	}
	if in := tx.in(b); in != nil {
		return in.Get(key)
	}
	return nil
}

// Has reports whether a key exists. It does not check the value.
func (tx *Tx) Has(b Bucket, key []byte) bool { return tx.sealed(b, key) != nil }

// Get returns the value of a key, nil if it does not exist, and [ErrCorrupt] if it is damaged.
func (tx *Tx) Get(b Bucket, key []byte) ([]byte, error) {
	sealed := tx.sealed(b, key)
	if sealed == nil {
		return nil, nil
	}
	return unseal(tx.spec(b).Name, key, sealed)
}

// GetAll returns the values of keys in their order, as [Tx.Get] does, up to the first damaged one.
func (tx *Tx) GetAll(b Bucket, keys [][]byte) ([][]byte, error) {
	values := make([][]byte, 0, len(keys))
	for _, key := range keys {
		value, err := tx.Get(b, key)
		if err != nil {
			return values, err
		}
		values = append(values, value)
	}
	return values, nil
}

// Put stores a value under a key. The value belongs to the transaction from then on.
func (tx *Tx) Put(b Bucket, key, value []byte) error {
	spec := tx.spec(b)
	if spec.Buffered && tx.buffer != nil {
		sealed := append(make([]byte, 0, len(value)+ChecksumSize), value...)
		tx.scratch = append(append(tx.scratch[:0], byte(b)), key...)
		tx.buffer.write(tx.scratch, seal(spec.Name, key, sealed))
		return nil
	}
	if err := tx.in(b).Put(key, seal(spec.Name, key, value)); err != nil {
		return fmt.Errorf("write to %s: %w", spec.Name, err)
	}
	return nil
}

// Delete removes a key that exists.
func (tx *Tx) Delete(b Bucket, key []byte) error {
	spec := tx.spec(b)
	if spec.Buffered && tx.buffer != nil {
		tx.scratch = append(append(tx.scratch[:0], byte(b)), key...)
		tx.buffer.write(tx.scratch, nil)
		return nil
	}
	if err := tx.in(b).Delete(key); err != nil {
		return fmt.Errorf("delete from %s: %w", spec.Name, err)
	}
	return nil
}

// Touch reads the page that a key will be written to, so that damage there is found while the
// transaction can still go on without that key.
func (tx *Tx) Touch(b Bucket, key []byte) { tx.in(b).Cursor().Seek(key) }

// Last returns the greatest key of a bucket, nil if it is empty.
func (tx *Tx) Last(b Bucket) []byte {
	for e := range tx.Descend(b, nil) {
		return e.Key
	}
	return nil
}

// Ascend visits the entries of a bucket from a key on, in order.
func (tx *Tx) Ascend(b Bucket, from []byte) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		tx.ascend(b, from, tx.between(b, string(byte(b)), string(byte(b+1))), yield)
	}
}

// Prefix visits the entries of a bucket whose keys begin with a prefix, in order. The prefix ends
// in a byte below 255. It costs no more than the entries that it visits.
func (tx *Tx) Prefix(b Bucket, prefix []byte) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		from := append([]byte{byte(b)}, prefix...)
		end := slices.Clone(from)
		end[len(end)-1]++
		tx.ascend(b, prefix, tx.between(b, string(from), string(end)), func(e Entry) bool {
			return bytes.HasPrefix(e.Key, prefix) && yield(e)
		})
	}
}

// between returns what is buffered of a bucket between two buffered keys, in order.
func (tx *Tx) between(b Bucket, from, end string) (all run) {
	if !tx.spec(b).Buffered {
		return nil
	}
	if tx.buffer != nil {
		return tx.buffer.between(from, end)
	}
	for _, r := range tx.runs { // the newest first
		all = merge(all, r.between(from, end))
	}
	return all
}

// ascend merges the entries in the file with those that are buffered.
func (tx *Tx) ascend(b Bucket, from []byte, buffered run, yield func(Entry) bool) {
	name := tx.spec(b).Name
	c := tx.in(b).Cursor()
	key, sealed := c.Seek(from)
	at, _ := slices.BinarySearchFunc(buffered, string(from), compareKey)
	for key != nil || at < len(buffered) {
		order := -1
		switch {
		case key == nil:
			order = 1
		case at < len(buffered):
			order = strings.Compare(string(key), buffered[at].key[1:])
		}
		k, v := key, sealed
		if order >= 0 {
			k, v = []byte(buffered[at].key[1:]), buffered[at].sealed
			at++
		}
		if order <= 0 {
			key, sealed = c.Next()
		}
		if (order < 0 || v != nil) && !yield(Entry{k, v, name}) {
			return
		}
	}
}

// compareKey compares the key of a buffered entry, without the bucket's number, with another.
func compareKey(e *entry, key string) int { return strings.Compare(e.key[1:], key) }

// Descend visits the entries of a bucket below a key (nil: all), the greatest first.
func (tx *Tx) Descend(b Bucket, below []byte) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		name := tx.spec(b).Name
		c := tx.in(b).Cursor()
		key, sealed := lastBelow(c, below)
		buffered := tx.between(b, string(byte(b)), string(byte(b+1)))
		at := len(buffered)
		if below != nil {
			at, _ = slices.BinarySearchFunc(buffered, string(below), compareKey)
		}
		for at--; key != nil || at >= 0; {
			order := 1
			switch {
			case key == nil:
				order = -1
			case at >= 0:
				order = strings.Compare(string(key), buffered[at].key[1:])
			}
			k, v := key, sealed
			if order <= 0 {
				k, v = []byte(buffered[at].key[1:]), buffered[at].sealed
				at--
			}
			if order >= 0 {
				key, sealed = c.Prev()
			}
			if (order > 0 || v != nil) && !yield(Entry{k, v, name}) {
				return
			}
		}
	}
}

// lastBelow moves a cursor to the greatest key below another (nil: to the greatest).
func lastBelow(c *bolt.Cursor, below []byte) (key, sealed []byte) {
	if below == nil {
		return c.Last()
	}
	if key, _ = c.Seek(below); key == nil {
		key, sealed = c.Last()
	} else {
		key, sealed = c.Prev()
	}
	for key != nil && bytes.Compare(key, below) >= 0 {
		key, sealed = c.Prev()
	}
	return key, sealed
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ChecksumSize is how many bytes storing a value adds to it: a value with so much spare capacity is
// not copied.
const ChecksumSize = 4

// seal appends the checksum over the bucket's name, the key and the value, so that a value that was
// moved is found as surely as one that was changed.
func seal(bucket string, key, value []byte) []byte {
	return binary.BigEndian.AppendUint32(value, checksum(bucket, key, value))
}

// unseal checks a stored value and returns it without its checksum.
func unseal(bucket string, key, sealed []byte) ([]byte, error) {
	if n := len(sealed) - ChecksumSize; n >= 0 {
		if value := sealed[:n]; checksum(bucket, key, value) == binary.BigEndian.Uint32(sealed[n:]) {
			return value, nil
		}
	}
	return nil, fmt.Errorf("%w: bucket %s, key %.80q", ErrCorrupt, bucket, key)
}

func checksum(bucket string, key, value []byte) uint32 {
	sum := crc32.Checksum([]byte(bucket), castagnoli)
	return crc32.Update(crc32.Update(sum, castagnoli, key), castagnoli, value)
}
