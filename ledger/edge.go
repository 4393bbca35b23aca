package ledger

import (
	"bytes"

	bolt "go.etcd.io/bbolt"
)

// Most of what the committer looks for is not there: it comes for the first time. Stripe's ids grow with time, so what is new is
// greater than nearly all there is. Of each kind of keys one is known up to which they have to be searched for; those
// that came to their places since, and are greater, are kept in memory.

// edges tell of keys in place.
type edges struct {
	at   map[string]string // by kind: keys that are greater are in place only if they are kept
	kept map[string]uint64 // keys of the latest generations, each with the number of the last one it was in
	keys [][]string        // of each of those generations, in order
	last uint64            // the newest one's number
}

const (
	// keptGenerations are known by their keys.
	keptGenerations = 3
	// maxKinds of keys have an edge.
	maxKinds = 64
)

func newEdges() edges { return edges{at: map[string]string{}, kept: map[string]uint64{}} }

// kindOf is what keys that are compared have in common: the bucket's number, and all up to the first underscore.
func kindOf(key []byte) []byte { return key[:bytes.IndexByte(key, '_')+1] }

// settled takes up the keys of a generation that came to its places.
func (e *edges) settled(generation layer) {
	e.last++
	keys := make([]string, len(generation))
	for i, entry := range generation {
		keys[i] = entry.key
		e.kept[entry.key] = e.last
	}
	if e.keys = append(e.keys, keys); len(e.keys) <= keptGenerations {
		return
	}
	for _, key := range e.keys[0] {
		if e.kept[key] == e.last-keptGenerations {
			delete(e.kept, key)
		}
		kind := kindOf([]byte(key))
		if at, ok := e.at[string(kind)]; ok && at < key {
			e.at[string(kind)] = key
		}
	}
	e.keys = e.keys[1:]
}

// isNew tells whether a key of a bucket is surely not in its place, nor ever was since the file was opened. It is
// not wrong when it says no.
func (e *edges) isNew(b *bolt.Bucket, key []byte) bool {
	kind := kindOf(key)
	if len(kind) == 0 {
		return false
	}
	at, ok := e.at[string(kind)]
	if !ok {
		if len(e.at) == maxKinds {
			return false
		}
		at = lastOf(b, kind)
		e.at[string(kind)] = at
	}
	if string(key) <= at {
		return false
	}
	_, kept := e.kept[string(key)]
	return !kept
}

// lastOf is the greatest key of a kind in a bucket; empty if there is none. Where the page it stands on is damaged, which
// is for others to tell, it is greater than any.
func lastOf(b *bolt.Bucket, kind []byte) (last string) {
	defer func() {
		if recover() != nil {
			last = "\xff"
		}
	}()
	behind := bytes.Clone(kind[1:])
	behind[len(behind)-1]++
	c := b.Cursor()
	key, _ := c.Seek(behind)
	if key == nil {
		key, _ = c.Last()
	} else {
		key, _ = c.Prev()
	}
	if !bytes.HasPrefix(key, kind[1:]) {
		return ""
	}
	return string(kind[:1]) + string(key)
}
