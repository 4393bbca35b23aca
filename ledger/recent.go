package ledger

import (
	"fmt"
	"sync"
)

// recentIDs finds the rows of events whose ids are fresh, for those who ask whether an event is known: that is asked of
// every delivery, and looking through layers would take longer than all the rest of the answer. It may hold ids
// that lie in their places already. The zero value is empty.
type recentIDs struct {
	mu       sync.RWMutex // guards both
	new, old map[string]uint64
}

// find looks an event up. An id that is not found lies in its place, or is not on disk.
func (r *recentIDs) find(livemode bool, id string) (seq uint64, found bool) {
	key := idKey(livemode, id)
	r.mu.RLock()
	defer r.mu.RUnlock()
	if seq, found = r.new[string(key)]; !found {
		seq, found = r.old[string(key)]
	}
	return seq, found
}

// load begins anew with what a file holds.
func (r *recentIDs) load(fresh layer) error {
	old, err := readIDs(fresh)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.new, r.old = map[string]uint64{}, old
	return err
}

// add takes up what a commit wrote. settled tells that everything before the present generation lies in its place.
func (r *recentIDs) add(fresh layer, settled bool) {
	ids, _ := readIDs(fresh) // the committer has just made them
	r.mu.Lock()
	defer r.mu.Unlock()
	if settled {
		r.new, r.old = map[string]uint64{}, r.new
	}
	for id, seq := range ids {
		r.new[id] = seq
	}
}

func readIDs(fresh layer) (map[string]uint64, error) {
	number := freshOf(bucketIDs)
	ids := map[string]uint64{}
	for i := range fresh {
		if fresh[i].key[0] != number {
			continue
		}
		key := fresh[i].key[1:]
		value, err := unseal(bucketIDs, []byte(key), fresh[i].stored)
		if err != nil {
			return nil, err
		}
		d := decoder{buf: value}
		if ids[key] = d.uint(); d.end() != nil {
			return nil, fmt.Errorf("%w: row of event id", ErrCorrupt)
		}
	}
	return ids, nil
}
