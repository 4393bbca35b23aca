package receiver

import (
	"net"
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

// LookEvery sets how often a certificate's files are looked at.
func (c *Certificates) LookEvery(pause time.Duration) { c.look = pause }

// MaxUnverified, MaxClosing, MaxConnections and Followed are the constants of those names.
const (
	MaxUnverified  = maxUnverified
	MaxClosing     = maxClosing
	MaxConnections = maxConnections
	Followed       = followed
)

// Gate is the listener of a door.
func Gate(l net.Listener) net.Listener { return &gate{Listener: l, all: newConnections()} }

// Verify has a connection that a gate admitted count as verified.
func Verify(c net.Conn) { c.(*connection).verify() }

// Progressed has a connection that a gate admitted count as one that has made progress.
func Progressed(c net.Conn) { c.(*connection).progressed() }

// Idle has a connection that a gate admitted count as between two requests.
func Idle(c net.Conn) { c.(*connection).note(http.StateIdle) }

// BodiesHold is what bodies that are not answered yet hold, and how much that may be.
func (r *Receiver) BodiesHold() (used, limit int64) {
	r.memory.mu.Lock()
	defer r.memory.mu.Unlock()
	return r.memory.used, r.memory.limit
}

// GroupMemory is groupMemory.
func GroupMemory(self, root string) int64 { return groupMemory(self, root) }
