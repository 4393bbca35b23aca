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
	// bodyMemory is what all bodies that are not answered yet may hold together, in bytes, or four
	// of the largest if that is more.
	bodyMemory = 32 << 20
	// bodyStep is how much of a body must come for it to count as the latest to make progress, in
	// bytes.
	bodyStep = 64 << 10
	// bodySmall is what a body may hold without ever being stopped for another: events of the
	// common size are smaller. All unverified connections together hold half of bodyMemory so.
	bodySmall = bodyMemory / 2 / server.MaxUnverified
	// bodyFirst is what a body gets before anything of it was read.
	bodyFirst = 4 << 10
)

// budget bounds the memory of bodies, from their first byte to their answer. It counts what was
// really allocated for bytes that came, not what a Content-Length promises. Where there is none
// left, the body that has made no progress for longest gives up what it has, if that is more than
// bodySmall. So strangers with bodies that are slow, or stop, keep out no honest sender, whatever
// the size of its body: to stay, a body must begin, or get another bodyStep, within the time in
// which all others together fill the memory.
type budget struct {
	limit int64

	mu      sync.Mutex // guards what follows
	used    int64
	ending  int64     // of used, what bodies hold that were stopped
	reading list.List // of *intake that hold more than bodySmall, the one without progress for longest first
	freed   sync.Cond // broadcast when memory was given back, and when an intake was stopped
}

func newBudget(maxBody int64) *budget {
	b := &budget{limit: max(bodyMemory, 4*maxBody)}
	b.freed.L = &b.mu
	return b
}

// intake is a body that is being read, and then one that is not answered yet.
type intake struct {
	budget  *budget
	held    int64
	at      *list.Element // in budget.reading; nil while it is small, and once it is read
	cut     func()        // has its reading end at once
	req     *http.Request
	stopped bool // for others
	next    int  // at how many bytes it has made progress again; used by its reader
}

// begin registers a body that is about to be read. cut must have its reading fail from then on.
func (b *budget) begin(cut func()) *intake {
	return &intake{budget: b, cut: cut, next: bodyStep}
}

// take counts n more bytes for a body. It waits while others give up theirs, and reports false
// where none has been without progress for longer, or where the body itself was stopped for
// another.
func (in *intake) take(n int64) bool {
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

// progressed is called when another bodyStep has come.
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
	b.freed.Broadcast() // it may be waiting itself
}

// read is called when the body is read: it cannot be stopped any more. It reports false if that has
// happened before.
func (in *intake) read() bool {
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
	in.read()
	in.budget.mu.Lock()
	defer in.budget.mu.Unlock()
	in.budget.used -= in.held
	if in.stopped {
		in.budget.ending -= in.held
	}
	in.held = 0
	in.budget.freed.Broadcast()
}

// read takes a body in, in time and within the limits. release gives its memory back; refusal is set if it was not read.
func (r *Receiver) read(w http.ResponseWriter, req *http.Request, start time.Time) (body []byte, release func(), refusal *answer) {
	c := http.NewResponseController(w)
	if err := c.SetReadDeadline(start.Add(server.BodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, func() {}, refuse(http.StatusBadRequest, bodyIncomplete, "The body ended early.")
	}
	in := r.memory.begin(func() { _ = c.SetReadDeadline(time.Unix(1, 0)) }) // where it fails, the connection has ended
	in.req = req
	overloaded := func() *answer {
		a := refuse(http.StatusServiceUnavailable, "overloaded", "Too much at once. Try again.")
		a.outcome = Failed
		return a
	}
	size := int64(bodyFirst)
	if n := req.ContentLength; n > 0 {
		size = min(size, n) // net/http tells the end together with the last bytes
	}
	for {
		if !in.take(size - int64(cap(body))) {
			return nil, in.release, overloaded()
		}
		body = append(make([]byte, 0, size), body...)
		err := in.fill(&body, req.Body)
		switch {
		case int64(len(body)) > r.MaxBody:
			return nil, in.release, refuse(http.StatusRequestEntityTooLarge, "body_too_large", "The body is too large.")
		case err == io.EOF && in.read():
			return body, in.release, nil
		case err != nil && (!in.read() || errors.Is(err, net.ErrClosed)): // stopped, or closed, for others
			return nil, in.release, overloaded()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, in.release, refuse(http.StatusRequestTimeout, "body_timeout", "The body did not come in time.")
		case err != nil:
			return nil, in.release, refuse(http.StatusBadRequest, bodyIncomplete, "The body ended early.")
		}
		if size = min(2*size, r.MaxBody+1); req.ContentLength > 0 {
			size = min(size, max(req.ContentLength, int64(len(body)+1)))
		}
	}
}

// fill reads until there is no more room, or an error.
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

// throttle keeps what repeats from filling the log: of each kind a line is let through at most once
// in a while, and told how many were not.
type throttle struct {
	every time.Duration

	mu      sync.Mutex // guards last and skipped
	last    map[string]time.Time
	skipped map[string]int
}

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
