package server

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

// Before a request was verified on them, connections may cost a bounded amount of memory:
//   - MaxUnverified bounds their number, unfinished TLS handshakes included;
//   - maxHeader and maxHeaderLines bound a header: each connection takes up to maxHeader for the
//     text and, because of the limit on lines, little more;
//   - the handler bounds the bodies.
const (
	// MaxUnverified is the number of open connections on which no request was verified. For each
	// further one the server closes the one without progress for longest. Progress is the beginning
	// of a connection, the end of a header, and each call of [Progressed]. So an honest client is
	// served if it takes each of these steps within the time in which others open that many
	// connections.
	MaxUnverified = 1024
	// minAge is the time without progress after which a connection may be closed for another one.
	// Without such a one, the new connection waits: otherwise no connection would live long enough
	// to be answered in a flood.
	minAge = 100 * time.Millisecond
	// maxClosing is the number of connections closed for others that may still hold memory. At
	// that number the server accepts no further one.
	maxClosing = 128
	// maxConnections is the number of open connections in all. For each further one the server
	// closes the longest idle one or, if none is idle, the new one.
	maxConnections = 4096
	// evictFrom is the number of connections above which none is kept alive.
	evictFrom = maxConnections * 3 / 4
	// trackFrom is the number of connections from which idle ones are tracked, so that the longest
	// idle one can be closed.
	trackFrom = evictFrom / 2
	// maxHeaderLines is the number of lines in a header: Stripe sends a dozen and proxies add some.
	// A line costs far more memory than the three bytes that it can consist of.
	maxHeaderLines = 128
)

// connections are the open connections of a server.
type connections struct {
	open atomic.Int64 // all that net/http has not closed

	mu         sync.Mutex // guards what follows
	space      sync.Cond  // signaled when another connection may be admitted
	closed     bool       // no further connection is admitted
	unverified int        // open and not verified, including those closed for others a moment ago
	pending    list.List  // the unverified ones, the one without progress for longest first
	idle       list.List  // the verified ones between two requests, if tracked, the longest idle first
}

// connection is a connection of a server. net/http reads, writes and closes it.
type connection struct {
	net.Conn // with TLS if the server speaks it
	raw      net.Conn
	all      *connections
	header   headerLines // used by the reader

	silent   atomic.Bool // no whole header was read yet
	verified atomic.Bool // changed under all.mu
	listed   atomic.Bool // it is in all.idle; changed under all.mu

	// Guarded by all.mu.
	at       *list.Element // in pending or idle
	progress time.Time     // the last, of an unverified connection
	released bool
}

// limitedListener admits as many connections as there may be. tls is nil without TLS.
type limitedListener struct {
	net.Listener
	conns *connections
	tls   *tls.Config
}

// Accept returns the next admitted connection, a [*connection], and closes those not admitted.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: raw, raw: raw, all: l.conns}
		if l.tls != nil {
			c.Conn = tls.Server(raw, l.tls) // the first read makes the handshake
		}
		if l.conns.admit(c) {
			return c, nil
		}
		_ = raw.Close() // the client notices
	}
}

// Close ends Accept.
func (l *limitedListener) Close() error {
	l.conns.mu.Lock()
	l.conns.closed = true
	l.conns.mu.Unlock()
	l.conns.wake()
	return l.Listener.Close()
}

func newConnections() *connections {
	all := &connections{}
	all.space.L = &all.mu
	return all
}

// admit waits until a connection may be admitted, and reports whether it is. A connection that was
// accepted just before the listener closed is admitted, because its request may be on its way.
func (all *connections) admit(c *connection) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	for wait := all.delay(); wait > 0; wait = all.delay() {
		if all.closed {
			return false
		}
		timer := time.AfterFunc(wait, all.wake)
		all.space.Wait()
		timer.Stop()
	}
	if all.pending.Len() >= MaxUnverified {
		all.pending.Front().Value.(*connection).evict(&all.pending)
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
	c.silent.Store(true)
	c.at = all.pending.PushBack(c)
	return true
}

// delay returns 0 if another connection can be admitted now, or the time after which to ask again.
// The caller holds the lock.
func (all *connections) delay() time.Duration {
	switch {
	case all.unverified >= MaxUnverified+maxClosing:
		return time.Hour // until a connection is closed
	case all.pending.Len() >= MaxUnverified:
		oldest := all.pending.Front().Value.(*connection)
		return max(minAge-time.Since(oldest.progress), 0)
	}
	return 0
}

// wake makes all waiting calls of admit ask again.
func (all *connections) wake() {
	all.mu.Lock() // a call that has asked waits by now
	defer all.mu.Unlock()
	all.space.Broadcast()
}

// evict closes a connection that is in a list. net/http notices. The caller holds the lock.
func (c *connection) evict(from *list.List) {
	from.Remove(c.at)
	c.at = nil
	c.listed.Store(false)
	_ = c.raw.Close() // closing the TLS connection would write to the client first
}

// progressed moves an unverified connection behind all others in the order of eviction.
func (c *connection) progressed() {
	if c.verified.Load() {
		return
	}
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.at != nil && !c.verified.Load() {
		c.all.pending.MoveToBack(c.at)
		c.progress = time.Now()
	}
}

// verify makes a connection count as verified from now on.
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
		c.all.pending.Remove(c.at)
		c.at = nil
	}
	c.all.space.Signal()
}

// Close closes the connection and lets another one be admitted.
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
	c.all.space.Signal()
	return err
}

// unlist removes a connection from the list that it is in. The caller holds the lock.
func (c *connection) unlist() {
	if c.verified.Load() {
		c.all.idle.Remove(c.at)
	} else {
		c.all.pending.Remove(c.at)
	}
	c.at = nil
	c.listed.Store(false)
}

// setState follows a connection from state to state. Below trackFrom connections, a request on a
// verified one takes no lock.
func (c *connection) setState(state http.ConnState) {
	switch state {
	case http.StateActive: // a header was read
		c.silent.Store(false)
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
		if c.verified.Load() && c.all.open.Load() >= trackFrom {
			c.all.mu.Lock()
			if !c.released && c.at == nil {
				c.at = c.all.idle.PushBack(c)
				c.listed.Store(true)
			}
			c.all.mu.Unlock()
		}
	}
}

// crowded reports whether there are so many connections that none should be kept alive.
func (all *connections) crowded() bool { return all.open.Load() > evictFrom }

// closeSilent closes the connections on which no header was read.
func (all *connections) closeSilent() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for at := all.pending.Front(); at != nil; at = at.Next() {
		if c := at.Value.(*connection); c.silent.Load() {
			_ = c.raw.Close() // net/http notices
		}
	}
}

var errHeaderLines = errors.New("the header has too many lines")

// Read reads what the client sends. It fails in a header with too many lines.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.header.ended && c.header.add(p[:n]) > maxHeaderLines {
		return 0, errHeaderLines
	}
	if err != nil {
		record, ok := errors.AsType[tls.RecordHeaderError](err)
		if ok && record.Conn != nil && bytes.Contains([]byte("GET POST HEAD PUT OPTI"), record.RecordHeader[:4]) {
			_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nUse https.\n")
		}
	}
	return n, err
}

// headerLines counts the lines of one header.
type headerLines struct {
	lines int
	ended bool // by an empty line; the body follows
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

// connectionKey is the key of a connection in its requests' contexts.
type connectionKey struct{}

// connectionOf returns the connection of a request, nil for a request of a test without a server.
func connectionOf(req *http.Request) *connection {
	c, _ := req.Context().Value(connectionKey{}).(*connection)
	return c
}

// Verified makes the connection of a request count as one of an honest client: it is no longer
// closed for others unless it is idle.
func Verified(req *http.Request) {
	if c := connectionOf(req); c != nil {
		c.verify()
	}
}

// Progressed records that a request makes progress, such as another part of its body. An unverified
// connection with recent progress is closed after those without.
func Progressed(req *http.Request) {
	if c := connectionOf(req); c != nil {
		c.progressed()
	}
}

// Private wraps the handler of a listener that only the operator reaches: each request with a whole
// header verifies its connection.
func Private(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		Verified(req)
		h.ServeHTTP(w, req)
	})
}
