package ledger

import (
	"bytes"
	"iter"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// version is what is fresh as a transaction's readers see it. It does not change.
type version struct {
	tx         uint64
	generation uint64  // tells the newer generation from all others
	older      layer   // nil when all of it lies in its place
	newer      []layer // one a commit, the oldest first
}

// keptVersions are for readers that began before the newest commits.
const keptVersions = 8

// together is the newer generation of a version as one layer. Putting it together is left to readers, of whom there
// are few beside the commits; each goes on where the last one stopped.
type together struct {
	generation uint64
	commits    int // how many are in it
	layer      layer
}

// offer tells readers what is fresh as of the transaction under way, which they will see soon.
func (l *Ledger) offer() {
	vs := append([]version{l.fresh.version()}, *l.versions.Load()...)
	vs = vs[:min(len(vs), keptVersions)]
	l.versions.Store(&vs)
}

// seen is a reader's transaction with what is fresh in it.
func (l *Ledger) seen(tx *bolt.Tx) (*txn, error) {
	for _, v := range *l.versions.Load() {
		if v.tx == uint64(tx.ID()) {
			return &txn{Tx: tx, seen: []layer{l.newer(&v), v.older}}, nil
		}
	}
	// So many commits came meanwhile that nobody remembers.
	all, _, _, err := readFresh(tx)
	return &txn{Tx: tx, seen: []layer{all}}, err
}

// newer is a version's newer generation as one layer.
func (l *Ledger) newer(v *version) layer {
	var sum together
	if last := l.together.Load(); last != nil && last.generation == v.generation && last.commits <= len(v.newer) {
		sum = *last
	}
	if sum.commits == len(v.newer) {
		return sum.layer
	}
	sum = together{v.generation, len(v.newer), merge(mergeAll(v.newer[sum.commits:]), sum.layer)}
	l.together.Store(&sum)
	return sum.layer
}

// ascend visits a bucket's entries from a key on, in order, with what is fresh in its place. Key and value belong to
// the transaction.
func (t *txn) ascend(bucket, from []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, stored []byte) bool) {
		t.ascendWith(bucket, from, t.freshEntries(bucket), yield)
	}
}

// ascendWith visits a bucket's entries from a key on, in order, with those that are fresh in their
// place.
func (t *txn) ascendWith(bucket, from []byte, fresh layer, yield func(key, stored []byte) bool) {
	c := t.Tx.Bucket(bucket).Cursor()
	key, stored := c.Seek(from)
	at, _ := slices.BinarySearchFunc(fresh, string(from), func(e *freshEntry, from string) int { return strings.Compare(e.key[1:], from) })
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

// within visits the entries of a bucket whose keys begin with a prefix, in order. The prefix ends
// in a byte below 255. Unlike ascend it costs no more than there are, and the committer can use it.
func (t *txn) within(bucket, prefix []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, stored []byte) bool) {
		t.ascendWith(bucket, prefix, t.freshWithin(bucket, prefix), func(key, stored []byte) bool {
			return bytes.HasPrefix(key, prefix) && yield(key, stored)
		})
	}
}

// freshWithin returns what is fresh of a bucket under keys that begin with a prefix, in order.
func (t *txn) freshWithin(bucket, prefix []byte) (all layer) {
	from := append([]byte{freshOf(bucket)}, prefix...)
	end := slices.Clone(from)
	end[len(end)-1]++
	if t.fresh != nil {
		return t.fresh.between(string(from), string(end))
	}
	for _, l := range t.seen { // the newest first
		all = merge(all, l.between(string(from), string(end)))
	}
	return all
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
			at, _ = slices.BinarySearchFunc(fresh, string(below), func(e *freshEntry, below string) int { return strings.Compare(e.key[1:], below) })
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
