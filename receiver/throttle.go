package receiver

import (
	"sync"
	"time"
)

// throttle limits repeated log lines: it allows one of each kind per period, and counts the others.
type throttle struct {
	every time.Duration

	mu      sync.Mutex // guards last and skipped
	last    map[string]time.Time
	skipped map[string]int
}

// allow reports whether a line of a kind may be logged now, and how many were not since the last
// one.
func (t *throttle) allow(kind string, now time.Time) (ok bool, skipped int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last, t.skipped = map[string]time.Time{}, map[string]int{}
	}
	if last, seen := t.last[kind]; seen && now.Sub(last) < t.every && !now.Before(last) {
		t.skipped[kind]++
		return false, 0
	}
	skipped = t.skipped[kind]
	t.last[kind], t.skipped[kind] = now, 0
	return true, skipped
}
