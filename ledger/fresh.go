package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// What an event writes under ids lies all over the file: thousands of payments share the second that begins their
// ids, and behind it comes chance. Writing such entries where they belong would cost a page each, in every commit. So
// a commit writes them together, as one record in the bucket fresh, and keeps them in memory; later ones carry them
// to their places in the order of their keys, where many share a page. A transaction sees both as one: what is fresh
// goes before what lies in place.
//
// Records are deleted from the oldest on, and only once all that is in them lies in its place. So the records that are
// left always tell the latest of every key in them, and a start reads them again and carries on.

// freshBuckets are those whose entries are fresh first. Their order is kept in records.
var freshBuckets = [...][]byte{bucketIDs, bucketPayments, bucketPaymentsTime, bucketLinks, bucketEntries, bucketLists}

const (
	// generationSize is how many fresh entries are settled together, generationBytes how much memory they may take before.
	generationSize  = 16 << 10
	generationBytes = 16 << 20
	// settleMore: a commit settles so many entries more than it writes, as a part of those, so that what is
	// fresh stays bounded.
	settleMore = 4
	// settleLeast entries are settled in every commit.
	settleLeast = 8
	// settleAtEnd entries are settled in one transaction when nothing else is to be done.
	settleAtEnd = 4096
	// forgetAtOnce records are deleted in one transaction.
	forgetAtOnce = 256
)

// freshOf is the number of a bucket in records, from 1; 0 for one whose entries are written in place.
func freshOf(bucket []byte) byte {
	return byte(1 + slices.IndexFunc(freshBuckets[:], func(b []byte) bool { return string(b) == string(bucket) }))
}

// freshEntry is one key's latest value. It does not change once its transaction is on its way to the disk.
type freshEntry struct {
	key    string // the bucket's number, then the key
	stored []byte // sealed, as it goes into its bucket; nil for a key that is removed
	tx     uint64 // the transaction that wrote it; 0 for what a file held
}

func (e *freshEntry) bucket() []byte { return freshBuckets[e.key[0]-1] }

func (e *freshEntry) compare(other *freshEntry) int { return strings.Compare(e.key, other.key) }

// layer is what one commit wrote, or several: each key once, in order.
type layer []*freshEntry

// from is where the first key stands that is not less than that.
func (l layer) from(key string) int {
	i, _ := slices.BinarySearchFunc(l, key, func(e *freshEntry, key string) int { return strings.Compare(e.key, key) })
	return i
}

func (l layer) find(key string) (*freshEntry, bool) {
	if i := l.from(key); i < len(l) && l[i].key == key {
		return l[i], true
	}
	return nil, false
}

// of are the entries of one bucket.
func (l layer) of(bucket byte) layer { return l[l.from(string(bucket)):l.from(string(bucket+1))] }

// between are the entries from one key on and before another.
func (l layer) between(from, end string) layer { return l[l.from(from):l.from(end)] }

// merge makes one layer of two; of a key that is in both the newer entry stands.
func merge(newer, older layer) layer {
	if len(newer) == 0 {
		return older
	}
	out := make(layer, 0, len(newer)+len(older))
	for len(newer) > 0 && len(older) > 0 {
		switch order := newer[0].compare(older[0]); {
		case order < 0:
			out, newer = append(out, newer[0]), newer[1:]
		case order > 0:
			out, older = append(out, older[0]), older[1:]
		default:
			out, newer, older = append(out, newer[0]), newer[1:], older[1:]
		}
	}
	return append(append(out, newer...), older...)
}

// mergeAll makes one layer of many, the oldest first.
func mergeAll(layers []layer) layer {
	switch n := len(layers); n {
	case 0:
		return nil
	case 1:
		return layers[0]
	default:
		return merge(mergeAll(layers[n/2:]), mergeAll(layers[:n/2]))
	}
}

// freshness is the committer's own view of what is fresh: two generations, of which the older is on its way to its
// places. While a transaction is under way, what it wrote is in here; should it fail, all of this is loaded again.
type freshness struct {
	old, new map[string]*freshEntry // by key
	settling layer                  // the older generation in order
	settled  int                    // how many of it lie in their places, or are of no more use
	layers   []layer                // of the newer generation, one a commit, the oldest first
	last     uint64                 // the newest record
	newFrom  uint64                 // the first record of the newer generation
	records  int                    // how many there are
	limit    int                    // how many entries make a generation
	bytes    int                    // of the newer generation
	turns    uint64                 // tells a newer generation from all others there were
	wary     bool                   // some place could not be reached: each is looked at first
	edges    edges                  // of what lies in place

	tx      uint64 // the transaction under way
	written layer  // what it wrote, in the order of writing until it ends
}

// load begins with what a file holds: an older generation.
func (f *freshness) load(tx *bolt.Tx) error {
	all, records, last, err := readFresh(tx)
	if err != nil {
		return err
	}
	*f = freshness{old: make(map[string]*freshEntry, len(all)), new: map[string]*freshEntry{}, settling: all,
		last: last, newFrom: last + 1, records: records, limit: cmp.Or(f.limit, generationSize), turns: f.turns + 1, wary: f.wary, edges: newEdges()}
	for _, e := range all {
		f.old[e.key] = e
	}
	return nil
}

// find looks in what the transaction under way wrote and those before it did.
func (f *freshness) find(key []byte) (*freshEntry, bool) {
	e, ok := f.new[string(key)]
	if !ok {
		e, ok = f.old[string(key)]
	}
	return e, ok
}

// between are the entries from one key on and before another, in order, with those of the
// transaction under way.
func (f *freshness) between(from, end string) layer {
	layers := []layer{f.settling.between(from, end)}
	for _, l := range f.layers {
		if part := l.between(from, end); len(part) > 0 {
			layers = append(layers, part)
		}
	}
	var written layer
	for _, e := range f.written {
		if e.key >= from && e.key < end {
			written = append(written, e)
		}
	}
	slices.SortFunc(written, (*freshEntry).compare)
	return mergeAll(append(layers, written))
}

// version is what is fresh as of the transaction under way, for those who read it.
func (f *freshness) version() version {
	v := version{tx: f.tx, generation: f.turns, newer: f.layers}
	if f.settled < len(f.settling) {
		v.older = f.settling
	}
	return v
}

// size is how many entries are not in their places.
func (f *freshness) size() int { return len(f.settling) - f.settled + len(f.new) }

// turn makes the newer generation the older one, once that is settled.
func (f *freshness) turn() {
	f.settling, f.settled = mergeAll(f.layers), 0
	f.old, f.new = f.new, f.old
	clear(f.new)
	f.layers, f.newFrom, f.bytes = nil, f.last+1, 0
	f.turns++
}

func (f *freshness) begin(tx uint64) { f.tx, f.written = tx, nil }

// write enters what the transaction under way writes; nil removes. Key and value are its own from now on.
func (f *freshness) write(key, stored []byte) {
	e := f.new[string(key)]
	if e == nil || e.tx != f.tx {
		e = &freshEntry{key: string(key), tx: f.tx}
		f.add(e)
	}
	f.bytes += len(e.key) + len(stored)
	e.stored = stored
}

func (f *freshness) add(e *freshEntry) {
	f.new[e.key] = e
	f.written = append(f.written, e)
}

// end settles some of the older generation and writes what was written in order, as a record. Many small entries of an
// older generation must not keep large ones of the newer from their places.
func (f *freshness) end(tx *bolt.Tx, settle int) error {
	if f.bytes > generationBytes {
		settle = max(settle, settleAtEnd)
	}
	if err := f.settle(tx, max(settle, settleLeast, len(f.written)+len(f.written)/settleMore)); err != nil {
		return err
	}
	slices.SortFunc(f.written, (*freshEntry).compare)
	if len(f.written) > 0 {
		f.layers = append(f.layers, f.written)
	}
	return f.writeRecord(tx)
}

// settle carries entries of the older generation to their places. One whose place cannot be reached stays fresh:
// damage there is met by whoever looks, and keeps nobody from writing.
func (f *freshness) settle(tx *bolt.Tx, n int) error {
	var bucket *bolt.Bucket
	number := byte(0)
	for ; n > 0 && f.settled < len(f.settling); f.settled++ {
		e := f.settling[f.settled]
		if f.new[e.key] != nil {
			continue // it goes to its place later, as it is then
		}
		n--
		if number != e.key[0] {
			number, bucket = e.key[0], tx.Bucket(e.bucket())
			bucket.FillPercent = settledFill
		}
		if f.wary && !reachable(bucket, []byte(e.key[1:])) {
			f.add(&freshEntry{e.key, e.stored, f.tx})
			continue
		}
		if err := e.place(bucket); err != nil {
			return err
		}
	}
	return nil
}

// writeRecord writes what the transaction wrote as its record, and deletes records that are of no more use.
func (f *freshness) writeRecord(tx *bolt.Tx) error {
	bucket := tx.Bucket(bucketFresh)
	bucket.FillPercent = 1 // it is only ever appended to
	if len(f.written) > 0 {
		f.last++
		f.records++
		key := seqKey(f.last)
		if err := bucket.Put(key, seal(bucketFresh, key, f.written.record())); err != nil {
			return fmt.Errorf("write to %s: %w", bucketFresh, err)
		}
	}
	if f.settled < len(f.settling) {
		return nil
	}
	var gone [][]byte
	c := bucket.Cursor()
	for key, _ := c.First(); key != nil && seqOf(key) < f.newFrom && len(gone) < forgetAtOnce; key, _ = c.Next() {
		gone = append(gone, key)
	}
	for _, key := range gone {
		if err := bucket.Delete(key); err != nil {
			return fmt.Errorf("delete from %s: %w", bucketFresh, err)
		}
	}
	f.records -= len(gone)
	return nil
}

// done follows a transaction that is on disk: what is settled is forgotten, and a generation that is full is settled next.
func (f *freshness) done() {
	if f.settled < len(f.settling) {
		return
	}
	if f.settling != nil {
		f.edges.settled(f.settling)
		f.settling, f.settled = nil, 0
		clear(f.old)
	}
	if len(f.new) >= f.limit || f.bytes >= generationBytes {
		f.turn()
	}
}

// settledFill is how full pages are made that entries are settled in: ids grow with time, so few come in between.
const settledFill = 0.85

// errUnreachable: a place is damaged. The transaction is of no use; the next one is wary.
var errUnreachable = fmt.Errorf("%w where an entry is to go", ErrCorrupt)

// place writes an entry where it belongs, in its bucket.
func (e *freshEntry) place(b *bolt.Bucket) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errUnreachable, r)
		}
	}()
	if key := []byte(e.key[1:]); e.stored == nil {
		err = b.Delete(key)
	} else {
		err = b.Put(key, e.stored)
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w", e.bucket(), err)
	}
	return nil
}

// reachable tells whether the page that a key belongs to can be read.
func reachable(b *bolt.Bucket, key []byte) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	b.Cursor().Seek(key)
	return true
}

// record is a layer as it is stored. Keys that follow each other begin alike.
func (l layer) record() []byte {
	size := 0
	for i := range l {
		size += len(l[i].key) + len(l[i].stored) + 4
	}
	e := encoder{buf: make([]byte, 0, size+checksumSize+8)}
	e.uint(uint64(len(l)))
	last := ""
	for i := range l {
		shared := 0
		for shared < len(last) && shared < len(l[i].key) && last[shared] == l[i].key[shared] {
			shared++
		}
		last = l[i].key
		e.uint(uint64(shared))
		e.string(last[shared:])
		e.uint(uint64(len(l[i].stored))) // what is sealed is never empty
		e.buf = append(e.buf, l[i].stored...)
	}
	return e.buf
}

func readRecord(value []byte) (layer, error) {
	d := decoder{buf: value}
	n := d.uint()
	if n > uint64(len(d.buf)) { // each takes two bytes at least
		d.fail()
		return nil, d.err
	}
	l := make(layer, 0, n)
	last := ""
	for range n {
		shared := d.uint()
		if shared > uint64(len(last)) {
			d.fail()
			break
		}
		key := last[:shared] + d.string()
		stored := []byte(d.string())
		if len(stored) == 0 {
			stored = nil
		}
		if d.err != nil || len(key) < 2 || key <= last || key[0] == 0 || int(key[0]) > len(freshBuckets) {
			d.fail()
			break
		}
		l = append(l, &freshEntry{key: key, stored: stored})
		last = key
	}
	return l, d.end()
}

// readFresh reads all records of a transaction.
func readFresh(tx *bolt.Tx) (all layer, records int, last uint64, err error) {
	b := tx.Bucket(bucketFresh)
	if b == nil {
		return nil, 0, 0, nil
	}
	c := b.Cursor()
	var layers []layer
	for key, stored := c.First(); key != nil; key, stored = c.Next() {
		value, err := unseal(bucketFresh, key, stored)
		if err != nil {
			return nil, 0, 0, err
		}
		l, err := readRecord(value)
		if err != nil || len(key) != 8 {
			return nil, 0, 0, fmt.Errorf("%w: record %x of what is fresh", ErrCorrupt, key)
		}
		layers, last, records = append(layers, l), seqOf(key), records+1
	}
	return mergeAll(layers), records, last, nil
}
