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

// LookEvery sets how often a certificate's files are looked at.
func (c *Certificates) LookEvery(pause time.Duration) { c.look = pause }
