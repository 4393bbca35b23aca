package receiver

import (
	"net/http"
	"net/netip"
	"time"
)

// Deadline is when a request that began at some time is answered at the latest.
func (r *Receiver) Deadline(start time.Time) time.Time {
	d, _ := r.wave(start).Deadline()
	return d
}

// Caller is caller of a request with that other end and those lines.
func Caller(remote string, forwarded []string, trusted []netip.Prefix) string {
	return caller(&http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": forwarded}}, trusted).String()
}

// BodiesHold is what bodies that are not answered yet hold, and how much that may be.
func (r *Receiver) BodiesHold() (used, limit int64) {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	return r.memory.used, r.memory.limit
}
