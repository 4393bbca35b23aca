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

// unknown is greater than any key: all of its kind are searched for.
const unknown = "\xff"

// lastOf is the greatest key of a kind in a bucket; empty if there is none. One key speaks for all the others here, so it is
// believed only if it and the one behind it are sound, and stand where they should; else the last one is unknown.
func lastOf(b *bolt.Bucket, kind []byte) (last string) {
	defer func() {
		if recover() != nil {
			last = unknown
		}
	}()
	bucket, prefix := freshBuckets[kind[0]-1], kind[1:]
	behind := bytes.Clone(prefix)
	behind[len(behind)-1]++
	sound := func(key, stored []byte) bool {
		_, err := unseal(bucket, key, stored)
		return err == nil
	}
	c := b.Cursor()
	key, stored := c.Seek(behind)
	if key == nil {
		key, stored = c.Last()
	} else if bytes.Compare(key, behind) < 0 || !sound(key, stored) {
		return unknown
	} else {
		key, stored = c.Prev()
	}
	switch {
	case key == nil:
		return ""
	case bytes.Compare(key, behind) >= 0 || !sound(key, stored):
		return unknown
	case !bytes.HasPrefix(key, prefix):
		return ""
	}
	return string(kind[:1]) + string(key)
}
