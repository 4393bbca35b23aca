package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
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
var freshBuckets = [...][]byte{bucketIDs, bucketPayments, bucketPaymentsTime, bucketPaymentEvents, bucketLinks}

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

// freshEntry is one key's latest value. Its bytes do not change.
type freshEntry struct {
	key    string // the bucket's number, then the key
	stored []byte // sealed, as it goes into its bucket; nil for a key that is removed
}

func (e *freshEntry) bucket() []byte { return freshBuckets[e.key[0]-1] }

// layer is what one commit wrote, or several: each key once, in order.
type layer []freshEntry

// from is where the first key stands that is not less than that.
func (l layer) from(key string) int {
	i, _ := slices.BinarySearchFunc(l, key, func(e freshEntry, key string) int { return strings.Compare(e.key, key) })
	return i
}

func (l layer) find(key string) (*freshEntry, bool) {
	if i := l.from(key); i < len(l) && l[i].key == key {
		return &l[i], true
	}
	return nil, false
}

// merge makes one layer of two; of a key that is in both the newer entry stands.
func merge(newer, older layer) layer {
	out := make(layer, 0, len(newer)+len(older))
	for len(newer) > 0 && len(older) > 0 {
		switch {
		case newer[0].key < older[0].key:
			out, newer = append(out, newer[0]), newer[1:]
		case newer[0].key > older[0].key:
			out, older = append(out, older[0]), older[1:]
		default:
			out, newer, older = append(out, newer[0]), newer[1:], older[1:]
		}
	}
	return append(append(out, newer...), older...)
}

// layers are all that is fresh as of one transaction, the newest layer first. They do not change.
type layers []layer

// with returns the layers after another commit. Small ones are put together, so that there are few.
func (ls layers) with(l layer) layers {
	if len(l) == 0 {
		return ls
	}
	for len(ls) > 0 && len(ls[0]) < 2*len(l) {
		l, ls = merge(l, ls[0]), ls[1:]
	}
	return append(layers{l}, ls...)
}

func (ls layers) find(key string) (*freshEntry, bool) {
	for _, l := range ls {
		if e, ok := l.find(key); ok {
			return e, true
		}
	}
	return nil, false
}

// of are the entries of one bucket, in order.
func (ls layers) of(bucket byte) layer {
	var all layer
	for _, l := range slices.Backward(ls) {
		all = merge(l[l.from(string(bucket)):l.from(string(bucket+1))], all)
	}
	return all
}

// version is what is fresh as a transaction's readers see it.
type version struct {
	tx     uint64
	layers layers
}

// keptVersions are for readers that began before the newest commits.
const keptVersions = 8

// freshness is the committer's own view of what is fresh: two generations, of which the older is on its way to its places.
type freshness struct {
	old, new  map[string]*freshEntry // by key
	settling  layer                  // the older generation in order
	settled   int                    // how many of it lie in their places, or are of no more use
	newLayers layers                 // the newer generation
	last      uint64                 // the newest record
	newFrom   uint64                 // the first record of the newer generation
	records   int                    // how many there are
	limit     int                    // how many entries make a generation
	bytes     int                    // of the newer generation
	dropped   uint64                 // the transaction in which the last generation was settled
}

// load begins with what a file holds: an older generation. The number of a transaction that failed may come again, so what
// was looked up in it tells nothing.
func (f *freshness) load(tx *bolt.Tx, failed uint64) error {
	all, records, last, err := readFresh(tx)
	if err != nil {
		return err
	}
	*f = freshness{old: make(map[string]*freshEntry, len(all)), new: map[string]*freshEntry{}, settling: all,
		last: last, newFrom: last + 1, records: records, limit: cmp.Or(f.limit, generationSize), dropped: max(uint64(tx.ID()), f.dropped, failed+1)}
	for i := range all {
		f.old[all[i].key] = &all[i]
	}
	return nil
}

// layers are what readers see of it.
func (f *freshness) layers(newer layers, settled int) layers {
	if settled == len(f.settling) {
		return newer
	}
	return append(slices.Clone(newer), f.settling)
}

// size is how many entries are not in their places.
func (f *freshness) size() int { return len(f.settling) - f.settled + len(f.new) }

// turn makes the newer generation the older one, once that is settled.
func (f *freshness) turn() {
	var all layer
	for _, l := range slices.Backward(f.newLayers) {
		all = merge(l, all)
	}
	f.settling, f.settled = all, 0
	f.old, f.new = f.new, map[string]*freshEntry{}
	f.newLayers, f.newFrom, f.bytes = nil, f.last+1, 0
}

// freshWrites are what a transaction writes.
type freshWrites struct {
	before  *freshness
	entries map[string]*freshEntry

	// After the transaction:
	layer     layer
	newLayers layers
	settled   int
	last      uint64
	records   int
}

func (f *freshness) begin() *freshWrites {
	return &freshWrites{before: f, entries: map[string]*freshEntry{}, settled: f.settled, last: f.last, records: f.records}
}

// find looks in what this transaction wrote, and then in what those before it did.
func (w *freshWrites) find(key []byte) (*freshEntry, bool) {
	for _, m := range []map[string]*freshEntry{w.entries, w.before.new, w.before.old} {
		if e, ok := m[string(key)]; ok {
			return e, true
		}
	}
	return nil, false
}

// end puts what was written in order, settles some of the older generation, and writes the record.
func (w *freshWrites) end(tx *bolt.Tx, settle int) error {
	if err := w.settle(tx, max(settle, settleLeast, len(w.entries)+len(w.entries)/settleMore)); err != nil {
		return err
	}
	w.layer = make(layer, 0, len(w.entries))
	for _, e := range w.entries {
		w.layer = append(w.layer, *e)
	}
	slices.SortFunc(w.layer, func(a, b freshEntry) int { return strings.Compare(a.key, b.key) })
	w.newLayers = w.before.newLayers.with(w.layer)
	return w.writeRecord(tx)
}

// settle carries entries of the older generation to their places. One whose place cannot be reached stays fresh:
// damage there is met by whoever looks, and keeps nobody from writing.
func (w *freshWrites) settle(tx *bolt.Tx, n int) error {
	f := w.before
	for _, name := range freshBuckets {
		tx.Bucket(name).FillPercent = settledFill
	}
	for ; n > 0 && w.settled < len(f.settling); w.settled++ {
		e := &f.settling[w.settled]
		if w.entries[e.key] != nil || f.new[e.key] != nil {
			continue // it goes to its place later, as it is then
		}
		n--
		if !reachable(tx.Bucket(e.bucket()), []byte(e.key[1:])) {
			stays := *e
			w.entries[e.key] = &stays
			continue
		}
		if err := e.place(tx); err != nil {
			return err
		}
	}
	return nil
}

// writeRecord writes what the transaction wrote as its record, and deletes records that are of no more use.
func (w *freshWrites) writeRecord(tx *bolt.Tx) error {
	bucket := tx.Bucket(bucketFresh)
	bucket.FillPercent = 1 // it is only ever appended to
	if len(w.layer) > 0 {
		w.last++
		w.records++
		key := seqKey(w.last)
		if err := bucket.Put(key, seal(bucketFresh, key, w.layer.record())); err != nil {
			return fmt.Errorf("write to %s: %w", bucketFresh, err)
		}
	}
	if w.settled < len(w.before.settling) {
		return nil
	}
	var gone [][]byte
	c := bucket.Cursor()
	for key, _ := c.First(); key != nil && seqOf(key) < w.before.newFrom && len(gone) < forgetAtOnce; key, _ = c.Next() {
		gone = append(gone, key)
	}
	for _, key := range gone {
		if err := bucket.Delete(key); err != nil {
			return fmt.Errorf("delete from %s: %w", bucketFresh, err)
		}
	}
	w.records -= len(gone)
	return nil
}

// done makes what a transaction wrote the committer's view, when it is on disk. It tells whether all that is still
// fresh is of the newer generation.
func (w *freshWrites) done(tx uint64) (settled bool) {
	f := w.before
	for key, e := range w.entries {
		f.new[key] = e
		f.bytes += len(e.key) + len(e.stored)
	}
	f.newLayers, f.settled, f.last, f.records = w.newLayers, w.settled, w.last, w.records
	if f.settled < len(f.settling) {
		return false
	}
	if f.settling != nil {
		f.settling, f.settled, f.old = nil, 0, nil
		f.dropped, settled = max(f.dropped, tx), true
	}
	if len(f.new) >= f.limit || f.bytes >= generationBytes {
		f.turn()
	}
	return settled
}

// settledFill is how full pages are made that entries are settled in: ids grow with time, so few come in between.
const settledFill = 0.85

// place writes an entry where it belongs.
func (e *freshEntry) place(tx *bolt.Tx) (err error) {
	b, key := tx.Bucket(e.bucket()), []byte(e.key[1:])
	if e.stored == nil {
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
		l = append(l, freshEntry{key, stored})
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
	var ls layers
	for key, stored := c.First(); key != nil; key, stored = c.Next() {
		value, err := unseal(bucketFresh, key, stored)
		if err != nil {
			return nil, 0, 0, err
		}
		l, err := readRecord(value)
		if err != nil || len(key) != 8 {
			return nil, 0, 0, fmt.Errorf("%w: record %x of what is fresh", ErrCorrupt, key)
		}
		ls, last, records = ls.with(l), seqOf(key), records+1
	}
	for _, l := range slices.Backward(ls) {
		all = merge(l, all)
	}
	return all, records, last, nil
}

// ascend visits a bucket's entries from a key on, in order, with what is fresh in its place. Key and value belong to
// the transaction.
func (t *txn) ascend(bucket, from []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, stored []byte) bool) {
		c := t.Tx.Bucket(bucket).Cursor()
		key, stored := c.Seek(from)
		fresh := t.freshEntries(bucket)
		at, _ := slices.BinarySearchFunc(fresh, string(from), func(e freshEntry, from string) int { return strings.Compare(e.key[1:], from) })
		for key != nil || at < len(fresh) {
			order := -1
			switch {
			case key == nil:
				order = 1
			case at < len(fresh):
				order = strings.Compare(string(key), fresh[at].key[1:])
			}
			k, v := key, stored
			if order >= 0 {
				k, v = []byte(fresh[at].key[1:]), fresh[at].stored
				at++
			}
			if order <= 0 {
				key, stored = c.Next()
			}
			if (order < 0 || v != nil) && !yield(k, v) {
				return
			}
		}
	}
}

// descend visits a bucket's entries below a key (nil: all), the greatest first, with what is fresh in its place.
func (t *txn) descend(bucket, below []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, stored []byte) bool) {
		c := t.Tx.Bucket(bucket).Cursor()
		var key, stored []byte
		if below == nil {
			key, stored = c.Last()
		} else if key, _ = c.Seek(below); key == nil {
			key, stored = c.Last()
		} else {
			key, stored = c.Prev()
		}
		for below != nil && key != nil && bytes.Compare(key, below) >= 0 {
			key, stored = c.Prev()
		}
		fresh := t.freshEntries(bucket)
		at := len(fresh)
		if below != nil {
			at, _ = slices.BinarySearchFunc(fresh, string(below), func(e freshEntry, below string) int { return strings.Compare(e.key[1:], below) })
		}
		for at--; key != nil || at >= 0; {
			order := 1
			switch {
			case key == nil:
				order = -1
			case at >= 0:
				order = strings.Compare(string(key), fresh[at].key[1:])
			}
			k, v := key, stored
			if order <= 0 {
				k, v = []byte(fresh[at].key[1:]), fresh[at].stored
				at--
			}
			if order >= 0 {
				key, stored = c.Prev()
			}
			if (order > 0 || v != nil) && !yield(k, v) {
				return
			}
		}
	}
}
