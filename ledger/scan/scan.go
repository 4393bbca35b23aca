// Package scan reads a ledger in many short transactions, called slices.
//
// A long read must not be one transaction: bbolt cannot reuse a page that an open transaction may
// still read, so the file would grow. Nor may it take the processor and the disk from events. Only
// one slice runs at a time in the whole ledger, and while events arrive the next one waits for as
// long as the last one took. So all searches and exports together use at most half of one core.
//
// The ledger can change between two slices. What a read needs from several rows at one moment, it
// must read in one slice.
package scan

import (
	"bytes"
	"context"
	"time"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// sliceTime limits the duration of one transaction of a long read, as Bounds.Slice limits its rows.
const sliceTime = 20 * time.Millisecond

// Bounds limits how much one request and one transaction may read.
type Bounds struct {
	Rows  int // that one request examines, whatever its limit
	Bytes int // of the stored values of those rows: some payments have thousands of events
	Page  int // bytes of the stored values on one page; their JSON is two to six times as long
	Slice int // rows of one transaction
}

// usualBounds are the default limits. At 5 µs a row, a request reads for a tenth of a second.
var usualBounds = Bounds{Rows: 20_000, Bytes: 64 << 20, Page: 1 << 20, Slice: 1000}

// Reader reads a ledger in slices. It is safe for concurrent use.
type Reader struct {
	Bounds Bounds
	store  *store.Store
	busy   func() bool
	turn   chan time.Time // the right to run the next slice: when it may begin
}

// New returns a reader of a ledger. busy reports whether events are arriving.
func New(s *store.Store, busy func() bool) *Reader {
	r := &Reader{Bounds: usualBounds, store: s, busy: busy, turn: make(chan time.Time, 1)}
	r.turn <- time.Time{}
	return r
}

// Full reports whether a slice that began at a time should end before it reads its nth row. Every
// slice reads one row at least.
func (r *Reader) Full(n int, began time.Time) bool {
	return n > r.Bounds.Slice || n > 1 && time.Since(began) > sliceTime
}

// Slice runs one transaction of a long read when its turn comes. It returns the context's error if
// ctx ends before that. read must not call Slice.
func (r *Reader) Slice(ctx context.Context, read func(tx *store.Tx) error) error {
	var notBefore time.Time
	select {
	case notBefore = <-r.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { r.turn <- notBefore }()
	if err := ctx.Err(); err != nil {
		return err
	}
	if wait := time.Until(notBefore); wait > 0 && r.busy() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	began := time.Now()
	err := r.store.View(read)
	took := time.Since(began)
	notBefore = began.Add(2 * took)
	return err
}

// Walk visits the entries of a bucket in order and in slices, from the key next up to, but
// not including, the key end. If end is nil, it continues to the last entry. It returns the
// context's error once ctx has ended.
func (r *Reader) Walk(ctx context.Context, bucket store.Bucket, next, end []byte,
	visit func(tx *store.Tx, key, value []byte) error) error {
	for next != nil {
		err := r.Slice(ctx, func(tx *store.Tx) error {
			began, n := time.Now(), 0
			for e := range tx.Ascend(bucket, next) {
				if end != nil && bytes.Compare(e.Key, end) >= 0 {
					break
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if n++; r.Full(n, began) {
					next = bytes.Clone(e.Key)
					return nil
				}
				value, err := e.Value()
				if err == nil {
					err = visit(tx, e.Key, value)
				}
				if err != nil {
					return err
				}
			}
			next = nil
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Search is a descending walk of a bucket, for searches that return the newest first.
type Search struct {
	Bucket  store.Bucket
	Reached []byte // every key from this one on was visited; nil if none was
	Floor   []byte // keys below this one are not visited
	Rows    int    // how many keys may be visited; 0 for no limit
	Bytes   int    // how much visit has read; visit counts it
	Bounded bool   // the search ended because it has read as much as one request may
}

// Descend visits the keys of a bucket in descending order and in slices, until visit stops it, it
// reaches the floor, or it has read as much as one request may. A key at which visit stops does not
// count as visited. The key is valid only during the transaction.
func (r *Reader) Descend(ctx context.Context, s *Search, visit func(tx *store.Tx, key []byte) (stop bool, err error)) error {
	visited := 0
	step := func(tx *store.Tx) (done bool, err error) {
		began, n := time.Now(), 0
		for e := range tx.Descend(s.Bucket, s.Reached) {
			key := e.Key
			if bytes.Compare(key, s.Floor) < 0 {
				return true, nil
			}
			if err := ctx.Err(); err != nil {
				return true, err
			}
			if s.Rows > 0 && (visited == s.Rows || s.Bytes >= r.Bounds.Bytes) {
				s.Bounded = true
				return true, nil
			}
			if n++; r.Full(n, began) {
				return false, nil
			}
			visited++
			if stop, err := visit(tx, key); stop || err != nil {
				return true, err
			}
			s.Reached = bytes.Clone(key)
		}
		return true, nil
	}
	for done := false; !done; {
		err := r.Slice(ctx, func(tx *store.Tx) (err error) {
			done, err = step(tx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// WalkEntries visits the index entries at from or later and before to, in order. A nil bound means
// no bound. It uses many short transactions, so that payments can change between them.
func (r *Reader) WalkEntries(ctx context.Context, from, to *int64, visit func(tx *store.Tx, at int64, id string, value []byte) error) error {
	next := []byte{}
	if from != nil {
		next = schema.TimeKey(*from, "")
	}
	var end []byte
	if to != nil {
		end = schema.TimeKey(*to, "")
	}
	return r.Walk(ctx, schema.BucketEntries, next, end, func(tx *store.Tx, key, value []byte) error {
		at, id, err := schema.ReadTimeKey(key)
		if err != nil {
			return err
		}
		return visit(tx, at, id, value)
	})
}

// Rest sleeps for as long as a long read has worked since began, so that the read leaves half of a
// processor to the events of the receiver.
func (r *Reader) Rest(began time.Time) {
	if !r.store.ReadOnly() {
		time.Sleep(time.Since(began))
	}
}
