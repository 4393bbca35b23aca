package ledger

import "sync"

// maxRepeats rows get their counts in one transaction.
const maxRepeats = 4096

// repeats counts deliveries of known events that are not written to their rows yet. A repeat costs
// no commit of its own: its count goes with the next one, or waits for flushRepeats. It may be used
// from any goroutine.
type repeats struct {
	mu      sync.Mutex
	waiting map[uint64]uint64 // by row
}

func (r *repeats) add(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = map[uint64]uint64{}
	}
	r.waiting[seq]++
}

// count returns the count of a row that is not written yet.
func (r *repeats) count(seq uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting[seq]
}

// rows returns how many rows have counts that are not written yet.
func (r *repeats) rows() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// nextBatch copies the counts that one transaction writes.
func (r *repeats) nextBatch() map[uint64]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	some := make(map[uint64]uint64, min(len(r.waiting), maxRepeats))
	for seq, n := range r.waiting {
		if len(some) == maxRepeats {
			break
		}
		some[seq] = n
	}
	return some
}

// subtract subtracts counts that are durable, and reports whether others are left.
func (r *repeats) subtract(counts map[uint64]uint64) (left bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seq, n := range counts {
		if r.waiting[seq] -= n; r.waiting[seq] == 0 {
			delete(r.waiting, seq)
		}
	}
	return len(r.waiting) > 0
}
