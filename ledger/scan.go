package ledger

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// A long read is split into many short transactions, because bbolt cannot reuse a page that an open
// transaction may still read, and because a long read must not take the processor and the disk from
// events. Such a transaction is called a slice. Only one slice runs at a time in the whole ledger,
// and while events arrive the next one waits for as long as the last one took. So all searches and
// exports together use at most half of one core.

const (
	// sliceTime limits the duration of one transaction of a long read, as readBounds.slice limits
	// its rows.
	sliceTime = 20 * time.Millisecond
	// idleTime is the time after the last commit from which slices run without waiting.
	idleTime = time.Second
)

// readBounds limits how much one request and one transaction may read.
type readBounds struct {
	rows  int // that one request examines, whatever its limit
	bytes int // of the stored values of those rows: some payments have thousands of events
	page  int // bytes of the stored values on one page; their JSON is two to six times as long
	slice int // rows of one transaction
}

// usualBounds are the default limits. At 5 µs a row, a request reads for a tenth of a second.
var usualBounds = readBounds{rows: 20_000, bytes: 64 << 20, page: 1 << 20, slice: 1000}

// slice runs one transaction of a long read when its turn comes. It returns the context's error if
// ctx ends before that. read must not call slice.
func (l *Ledger) slice(ctx context.Context, read func(tx *store.Tx) error) error {
	var notBefore time.Time
	select {
	case notBefore = <-l.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { l.turn <- notBefore }()
	if err := ctx.Err(); err != nil {
		return err
	}
	if wait := time.Until(notBefore); wait > 0 && l.busy() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	began := time.Now()
	err := l.store.View(read)
	took := time.Since(began)
	notBefore = began.Add(2 * took)
	return err
}

// busy reports whether events are arriving.
func (l *Ledger) busy() bool {
	return !l.readOnly && (len(l.queue.waiting) > 0 || time.Since(l.published.Load().lastCommit) < idleTime)
}

// walkSlices visits the entries of a bucket in order and in slices, from the key next up to, but
// not including, the key end. If end is nil, it continues to the last entry. It returns the
// context's error once ctx has ended.
func (l *Ledger) walkSlices(ctx context.Context, bucket store.Bucket, next, end []byte,
	visit func(tx *store.Tx, key, value []byte) error) error {
	for next != nil {
		err := l.slice(ctx, func(tx *store.Tx) error {
			began, n := time.Now(), 0
			for e := range tx.Ascend(bucket, next) {
				if end != nil && bytes.Compare(e.Key, end) >= 0 {
					break
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if n++; n > l.bounds.slice || n > 1 && time.Since(began) > sliceTime {
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

// scan is a descending walk of a bucket, for searches that return the newest first.
type scan struct {
	bucket  store.Bucket
	reached []byte // every key from this one on was visited; nil if none was
	floor   []byte // keys below this one are not visited
	rows    int    // how many keys may be visited; 0 for no limit
	bytes   int    // how much visit has read; visit counts it
	bounded bool   // the scan ended because it has read as much as one request may
}

// scanDown visits the keys of a bucket in descending order and in slices, until visit stops it, it
// reaches the floor, or it has read as much as one request may. A key at which visit stops does not
// count as visited. The key is valid only during the transaction.
func (l *Ledger) scanDown(ctx context.Context, s *scan, visit func(tx *store.Tx, key []byte) (stop bool, err error)) error {
	visited := 0
	step := func(tx *store.Tx) (done bool, err error) {
		began, n := time.Now(), 0
		for e := range tx.Descend(s.bucket, s.reached) {
			key := e.Key
			if bytes.Compare(key, s.floor) < 0 {
				return true, nil
			}
			if err := ctx.Err(); err != nil {
				return true, err
			}
			if s.rows > 0 && (visited == s.rows || s.bytes >= l.bounds.bytes) {
				s.bounded = true
				return true, nil
			}
			if n++; n > l.bounds.slice || n > 1 && time.Since(began) > sliceTime {
				return false, nil
			}
			visited++
			if stop, err := visit(tx, key); stop || err != nil {
				return true, err
			}
			s.reached = bytes.Clone(key)
		}
		return true, nil
	}
	for done := false; !done; {
		err := l.slice(ctx, func(tx *store.Tx) (err error) {
			done, err = step(tx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Page is a part of a list. An element that exists while all pages are read is on exactly one of
// them.
type Page[T any] struct {
	Data []T
	// Next is the value of the query's field Page for the following page. It is empty if the list
	// ends here.
	Next string
	// ScannedTo is the time of the last row that a search examined before it reached the limit of
	// what one request may read. It is 0 if the search did not reach the limit. Any number of
	// matches may follow, or none.
	ScannedTo OrNullTime
}

// The kinds of cursors. A cursor is a position in a list, whether or not an element is still there.
const (
	paymentCursor = 'p'
	eventCursor   = 'e'
	totalCursor   = 't'
)

func encodeCursor(kind byte, key []byte) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{kind}, key...))
}

func decodeCursor(kind byte, cursor string) (key []byte, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(text) < 9 || text[0] != kind || kind == eventCursor && len(text) != 9 {
		return nil, fmt.Errorf("%w: page %.80q is not the next_page of this kind of list", ErrCursor, cursor)
	}
	return text[1:], nil
}

// walkIndex visits the index entries at from or later and before to, in order. A nil bound means no
// bound. It uses many short transactions, so that payments can change between them.
func (l *Ledger) walkIndex(ctx context.Context, from, to *int64, visit func(tx *store.Tx, at int64, id string, value []byte) error) error {
	next := []byte{}
	if from != nil {
		next = schema.TimeKey(*from, "")
	}
	var end []byte
	if to != nil {
		end = schema.TimeKey(*to, "")
	}
	return l.walkSlices(ctx, schema.BucketEntries, next, end, func(tx *store.Tx, key, value []byte) error {
		at, id, err := schema.ReadTimeKey(key)
		if err != nil {
			return err
		}
		return visit(tx, at, id, value)
	})
}

// rest sleeps for as long as a long read has worked since began, so that the read leaves half of a
// processor to the events of the receiver.
func (l *Ledger) rest(began time.Time) {
	if !l.readOnly {
		time.Sleep(time.Since(began))
	}
}
