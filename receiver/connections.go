package receiver

import (
	"bytes"
	"container/list"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// What bounds the memory that connections cost before a signature was verified on them:
//   - their number, maxUnverified, half-done TLS handshakes included;
//   - the bytes and the lines of a header, maxHeader and maxHeaderLines: each takes up to maxHeader for its text and, by its
//     lines, little more;
//   - the bytes of all bodies, bodyMemory in body.go.
const (
	// maxUnverified is how many connections may be open on which no signature was verified yet. For
	// each further one the one that has made no progress for longest is closed: it began, or sent
	// the end of a header or another bodyStep, before all others. So an honest sender is served if
	// each step of its request comes within the time in which strangers open that many.
	maxUnverified = 1024
	// minAge is how long a connection must have made no progress to be closed for another one. Where
	// all have, the new one waits: else, in a flood, none would live long enough to be answered.
	minAge = 100 * time.Millisecond
	// maxClosing is how many that were closed for others may still hold memory. Accepting waits for
	// the next to let go.
	maxClosing = 128
	// maxConnections may be open in all. For each further one the one that has been idle for
	// longest is closed, or else itself.
	maxConnections = 4096
	// crowded is from how many on a connection is not kept alive.
	crowded = maxConnections * 3 / 4
	// followed is from how many on it is known of verified connections which has been idle for
	// longest.
	followed = crowded / 2
	// maxHeaderLines is how many lines a header may have: Stripe sends a dozen, and proxies add
	// some. A line costs far more memory than the three bytes it can consist of.
	maxHeaderLines = 128
)

// connections are those of a door.
type connections struct {
	open atomic.Int64 // all that the server has not closed

	mu         sync.Mutex // guards what follows
	room       sync.Cond  // signaled when there may be room
	closed     bool       // there will be no more
	unverified int        // open and not verified, those included that were closed for others a moment ago
	strangers  list.List  // those that are not verified, the one without progress for longest first
	idle       list.List  // those that are verified and between two requests, as far as they are followed, the longest idle first
}

// connection is one of a door. The server reads, writes and closes it.
type connection struct {
	net.Conn // with TLS, if the door speaks it
	raw      net.Conn
	all      *connections
	header   headerLines // used by whoever reads

	fresh    atomic.Bool // no whole header was read
	verified atomic.Bool // changed under all.mu
	listed   atomic.Bool // it is in all.idle; changed under all.mu

	// Guarded by all.mu.
	at       *list.Element // in strangers or idle
	progress time.Time     // the last, of one that is not verified
	released bool
}

// gate is a listener that admits as many connections as there may be. secure is nil where the door
// speaks no TLS.
type gate struct {
	net.Listener
	all    *connections
	secure *tls.Config
}

// Accept returns the next connection that is admitted, a [*connection]. Others it closes.
func (g *gate) Accept() (net.Conn, error) {
	for {
		raw, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: raw, raw: raw, all: g.all}
		if g.secure != nil {
			c.Conn = tls.Server(raw, g.secure) // the handshake is made with the first read
		}
		if g.all.admit(c) {
			return c, nil
		}
		_ = raw.Close() // its other end notices
	}
}

// Close ends Accept.
func (g *gate) Close() error {
	g.all.mu.Lock()
	g.all.closed = true
	g.all.mu.Unlock()
	g.all.wake()
	return g.Listener.Close()
}

func newConnections() *connections {
	all := &connections{}
	all.room.L = &all.mu
	return all
}

// admit waits until there is room for a connection, and reports whether there is any. One that was
// accepted just before the gate closed is admitted: its request may be on its way.
func (all *connections) admit(c *connection) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	for wait := all.full(); wait > 0; wait = all.full() {
		if all.closed {
			return false
		}
		timer := time.AfterFunc(wait, all.wake)
		all.room.Wait()
		timer.Stop()
	}
	if all.strangers.Len() >= maxUnverified {
		all.strangers.Front().Value.(*connection).evict(&all.strangers)
	}
	if all.open.Load() >= maxConnections {
		longest := all.idle.Front()
		if longest == nil {
			return false
		}
		longest.Value.(*connection).evict(&all.idle)
	}
	all.open.Add(1)
	all.unverified++
	c.progress = time.Now()
	c.fresh.Store(true)
	c.at = all.strangers.PushBack(c)
	return true
}

// full returns 0 if a further connection can be admitted now, or else after what time to ask again
// at the latest. The caller holds the lock.
func (all *connections) full() time.Duration {
	switch {
	case all.unverified >= maxUnverified+maxClosing:
		return time.Hour // until one is closed
	case all.strangers.Len() >= maxUnverified:
		oldest := all.strangers.Front().Value.(*connection)
		return max(minAge-time.Since(oldest.progress), 0)
	}
	return 0
}

// wake has those that wait for room ask again.
func (all *connections) wake() {
	all.mu.Lock() // whoever has asked waits by now
	defer all.mu.Unlock()
	all.room.Broadcast()
}

// evict closes a connection that is in a list. The server notices. The caller holds the lock.
func (c *connection) evict(from *list.List) {
	from.Remove(c.at)
	c.at = nil
	c.listed.Store(false)
	_ = c.raw.Close() // not the one with TLS, which would say goodbye to its other end first
}

// progressed has a connection that is not verified be closed for others after all that made
// progress before.
func (c *connection) progressed() {
	if c.verified.Load() {
		return
	}
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.at != nil && !c.verified.Load() {
		c.all.strangers.MoveToBack(c.at)
		c.progress = time.Now()
	}
}

// verify has a connection count as verified from now on.
func (c *connection) verify() {
	if c.verified.Load() {
		return
	}
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.released || c.verified.Load() {
		return
	}
	c.verified.Store(true)
	c.all.unverified--
	if c.at != nil {
		c.all.strangers.Remove(c.at)
		c.at = nil
	}
	c.all.room.Signal()
}

// Close closes the connection, and makes room for others.
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.released {
		return err
	}
	c.released = true
	c.all.open.Add(-1)
	if !c.verified.Load() {
		c.all.unverified--
	}
	if c.at != nil {
		c.unlist()
	}
	c.all.room.Signal()
	return err
}

// unlist takes a connection out of the list that it is in. The caller holds the lock.
func (c *connection) unlist() {
	if c.verified.Load() {
		c.all.idle.Remove(c.at)
	} else {
		c.all.strangers.Remove(c.at)
	}
	c.at = nil
	c.listed.Store(false)
}

// note follows a connection from state to state. While there are few, a request on one that is
// verified costs no lock.
func (c *connection) note(state http.ConnState) {
	switch state {
	case http.StateActive: // a header was read
		c.fresh.Store(false)
		c.progressed()
		if c.listed.Load() {
			c.all.mu.Lock()
			if c.listed.Load() {
				c.unlist()
			}
			c.all.mu.Unlock()
		}
	case http.StateIdle:
		c.header = headerLines{}
		if c.verified.Load() && c.all.open.Load() >= followed {
			c.all.mu.Lock()
			if !c.released && c.at == nil {
				c.at = c.all.idle.PushBack(c)
				c.listed.Store(true)
			}
			c.all.mu.Unlock()
		}
	}
}

// crowded reports whether connections are better not kept.
func (all *connections) crowded() bool { return all.open.Load() > crowded }

// closeFresh closes those on which no header was read.
func (all *connections) closeFresh() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for at := all.strangers.Front(); at != nil; at = at.Next() {
		if c := at.Value.(*connection); c.fresh.Load() {
			_ = c.raw.Close() // the server notices
		}
	}
}

var errHeaderLines = errors.New("the header has too many lines")

// Read reads what the sender sends. It fails in a header that has too many lines.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.header.ended && c.header.add(p[:n]) > maxHeaderLines {
		return 0, errHeaderLines
	}
	var record tls.RecordHeaderError
	if err != nil && errors.As(err, &record) && record.Conn != nil && bytes.Contains([]byte("GET POST HEAD PUT OPTI"), record.RecordHeader[:4]) {
		_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nUse https.\n")
	}
	return n, err
}

// headerLines counts the lines of one header.
type headerLines struct {
	lines int
	ended bool // by an empty line; what follows is a body
	begun bool // the current line has a character
}

func (h *headerLines) add(p []byte) (lines int) {
	for _, b := range p {
		switch {
		case b == '\r':
		case b != '\n':
			h.begun = true
		case !h.begun && h.lines > 0:
			h.ended = true
			return h.lines
		default:
			h.lines++
			h.begun = false
		}
	}
	return h.lines
}

// connectionKey is where a request's context has its connection.
type connectionKey struct{}

// verified has the connection of a request count as one of an honest sender.
func verified(req *http.Request) {
	if c := connectionOf(req); c != nil {
		c.verify()
	}
}

// connectionOf returns the connection of a request; nil where a test has none.
func connectionOf(req *http.Request) *connection {
	c, _ := req.Context().Value(connectionKey{}).(*connection)
	return c
}

// Private serves a handler on a door that only the operator reaches: each request with a whole
// header verifies its connection.
func Private(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		verified(req)
		h.ServeHTTP(w, req)
	})
}
