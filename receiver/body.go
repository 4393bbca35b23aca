package receiver

import (
	"container/list"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"tillhook/receiver/server"
)

const (
	// bodyMemory bounds the memory of all bodies without an answer, in bytes. If four of the
	// largest bodies need more, they may have that.
	bodyMemory = 32 << 20
	// bodyStep is how much more of a body must arrive for it to count as progress, in bytes.
	bodyStep = 64 << 10
	// bodySmall is the size up to which a body is never stopped for another one, in bytes. Common
	// events are smaller. All unverified connections together hold half of bodyMemory that way.
	bodySmall = bodyMemory / 2 / server.MaxUnverified
	// bodyFirst is the first buffer of a body, in bytes.
	bodyFirst = 4 << 10
)

// budget bounds the memory of bodies, from their first byte to their answer. It counts allocated
// bytes and not a promised Content-Length. When no memory is left, the body without progress for
// longest gives up its memory, if it has more than bodySmall. So slow or stalled bodies keep out no
// honest sender: a body stays if it begins, or gets another bodyStep, within the time in which all
// others together fill the memory.
type budget struct {
	limit int64

	mu      sync.Mutex // guards what follows
	used    int64
	ending  int64     // the part of used that stopped bodies hold
	reading list.List // of *intake with more than bodySmall, the one without progress for longest first
	freed   sync.Cond // broadcast when memory was released and when an intake was stopped
}

func newBudget(maxBody int64) *budget {
	b := &budget{limit: max(bodyMemory, 4*maxBody)}
	b.freed.L = &b.mu
	return b
}

// intake is the memory of one body, from the start of reading to the answer.
type intake struct {
	budget  *budget
	req     *http.Request
	held    int64
	at      *list.Element // in budget.reading; nil while the body is small, and once it is read
	cut     func()        // makes reading fail at once
	stopped bool          // for another body
	next    int           // the size at which it has made progress again; used by its reader
}

// begin registers a body that is about to be read. cut must make its reading fail.
func (b *budget) begin(req *http.Request, cut func()) *intake {
	return &intake{budget: b, req: req, cut: cut, next: bodyStep}
}

// grow counts n more bytes for a body. It waits while other bodies give up theirs. It returns false
// if no other body has been without progress for longer, or if this one was stopped.
func (in *intake) grow(n int64) bool {
	b := in.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if in.at == nil && !in.stopped && in.held+n > bodySmall {
		in.at = b.reading.PushBack(in)
	}
	for !in.stopped && b.used+n > b.limit {
		oldest := b.reading.Front()
		if b.used-b.ending+n > b.limit {
			if oldest == nil || oldest.Value == in {
				return false
			}
			b.stop(oldest.Value.(*intake))
		}
		b.freed.Wait()
	}
	if in.stopped {
		return false
	}
	b.used += n
	in.held += n
	return true
}

// progressed records that another bodyStep has arrived.
func (in *intake) progressed() {
	server.Progressed(in.req)
	in.budget.mu.Lock()
	defer in.budget.mu.Unlock()
	if in.at != nil {
		in.budget.reading.MoveToBack(in.at)
	}
}

func (b *budget) stop(in *intake) {
	b.reading.Remove(in.at)
	in.at, in.stopped = nil, true
	b.ending += in.held
	in.cut()
	b.freed.Broadcast() // its own grow may be waiting
}

// finish ends the reading of a body, which then cannot be stopped any more. It returns false if it
// was stopped before.
func (in *intake) finish() bool {
	in.budget.mu.Lock()
	defer in.budget.mu.Unlock()
	if in.at != nil {
		in.budget.reading.Remove(in.at)
		in.at = nil
	}
	return !in.stopped
}

// release gives the memory back.
func (in *intake) release() {
	in.finish()
	in.budget.mu.Lock()
	defer in.budget.mu.Unlock()
	in.budget.used -= in.held
	if in.stopped {
		in.budget.ending -= in.held
	}
	in.held = 0
	in.budget.freed.Broadcast()
}

// readBody reads a body within the limits of time and memory. The caller calls release after the
// answer. refusal is the answer for a body that was not read.
func (r *Receiver) readBody(w http.ResponseWriter, req *http.Request, start time.Time) (body []byte, release func(),
	refusal *answer) {
	c := http.NewResponseController(w)
	if err := c.SetReadDeadline(start.Add(server.BodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, func() {}, refuse(http.StatusBadRequest, bodyIncomplete, "The body ended early.")
	}
	in := r.memory.begin(req, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) }) // it fails if the connection has ended
	overloaded := func() *answer {
		a := refuse(http.StatusServiceUnavailable, "overloaded", "Too many requests at once. Try again.")
		a.outcome = Failed
		return a
	}
	size := int64(bodyFirst)
	if n := req.ContentLength; n > 0 {
		size = min(size, n) // net/http reports the end together with the last bytes
	}
	for {
		if !in.grow(size - int64(cap(body))) {
			return nil, in.release, overloaded()
		}
		body = append(make([]byte, 0, size), body...)
		err := in.fill(&body, req.Body)
		switch {
		case int64(len(body)) > r.MaxBody:
			return nil, in.release, refuse(http.StatusRequestEntityTooLarge, "body_too_large", "The body is too large.")
		case err == io.EOF && in.finish():
			return body, in.release, nil
		// the body, or its connection, was closed for another
		case err != nil && (!in.finish() || errors.Is(err, net.ErrClosed)):
			return nil, in.release, overloaded()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, in.release, refuse(http.StatusRequestTimeout, "body_timeout",
				"The body did not arrive in time.")
		case err != nil:
			return nil, in.release, refuse(http.StatusBadRequest, bodyIncomplete, "The body ended early.")
		}
		if size = min(2*size, r.MaxBody+1); req.ContentLength > 0 {
			size = min(size, max(req.ContentLength, int64(len(body)+1)))
		}
	}
}

// fill reads until the body's buffer is full, or an error.
func (in *intake) fill(body *[]byte, from io.Reader) error {
	for len(*body) < cap(*body) {
		n, err := from.Read((*body)[len(*body):cap(*body)])
		*body = (*body)[:len(*body)+n]
		if err != nil {
			return err
		}
		if len(*body) >= in.next {
			in.next = len(*body) + bodyStep
			in.progressed()
		}
	}
	return nil
}

func refuse(status int, code, message string) *answer {
	return &answer{status: status, outcome: Rejected, code: code, message: message}
}
