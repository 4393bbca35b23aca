package receiver

import (
	"net/http"
	"net/netip"
)

// ClientAddr calls clientAddr for a request with that other end and X-Forwarded-For.
func ClientAddr(remote string, forwarded []string, trusted []netip.Prefix) string {
	return clientAddr(&http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": forwarded}}, trusted).String()
}

// BodiesHold returns the memory of the bodies without an answer, and its limit.
func (r *Receiver) BodiesHold() (used, limit int64) {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	return r.memory.used, r.memory.limit
}
