package receiver

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bodyMemory is what all bodies together may hold before their signatures are checked, in bytes.
	bodyMemory = 64 << 20
	// bodyFree is how much of each body is not counted, so that a few large ones do not keep out the many small.
	bodyFree = 64 << 10
	// bodyFirst is what a body gets before anything of it was read.
	bodyFirst = 4 << 10
)

// budget bounds the memory of bodies. It counts what was really allocated for bytes that came, not
// what a Content-Length promises: a slow sender holds next to nothing.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// read takes a body in, in time and within the limits. release gives its memory back; refusal is set if it was not read.
func (r *Receiver) read(w http.ResponseWriter, req *http.Request, start time.Time) (body []byte, release func(), refusal *answer) {
	taken := int64(0)
	release = func() { r.memory.used.Add(-taken) }
	if err := http.NewResponseController(w).SetReadDeadline(start.Add(bodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, release, refuse(http.StatusBadRequest, bodyIncomplete, "The body ended early.")
	}
	first := int64(bodyFirst)
	if n := req.ContentLength; n > 0 {
		first = min(first, n) // net/http tells the end together with the last bytes
	}
	body = make([]byte, 0, first)
	for {
		n, err := req.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > r.MaxBody:
			return nil, release, refuse(http.StatusRequestEntityTooLarge, "body_too_large", "The body is too large.")
		case err == io.EOF:
			return body, release, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, release, refuse(http.StatusRequestTimeout, "body_timeout", "The body did not come in time.")
		case err != nil:
			return nil, release, refuse(http.StatusBadRequest, bodyIncomplete, "The body ended early.")
		}
		if len(body) < cap(body) {
			continue
		}
		grown := 2 * cap(body)
		if more := int64(grown) - max(bodyFree, int64(cap(body))); more > 0 {
			if !r.memory.take(more) {
				a := refuse(http.StatusServiceUnavailable, "overloaded", "Too much at once. Try again.")
				a.outcome = Failed
				return nil, release, a
			}
			taken += more
		}
		body = append(make([]byte, 0, grown), body...)
	}
}

const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 2 << 20
)

// linger sends the answer and then throws away some of a body that nobody wanted, so that the sender
// gets to read why: closing a connection with bytes unread resets it, answer and all. net/http does
// the like, but waits as long as a body may take, and not at all for a request that asked for the
// close itself, as nginx's do.
func linger(w http.ResponseWriter, req *http.Request) {
	if req.ContentLength == 0 {
		return
	}
	c := http.NewResponseController(w)
	if err := errors.Join(c.Flush(), c.SetReadDeadline(time.Now().Add(lingerTime))); err != nil {
		return // the sender is gone
	}
	_, _ = io.CopyN(io.Discard, req.Body, lingerBytes) // whatever ends it, the connection is closed next
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
