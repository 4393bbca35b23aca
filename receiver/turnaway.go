package receiver

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// awayQuiet is how long nobody must have called before TurnAway returns, awayMost how long it goes on at most.
	awayQuiet = 300 * time.Millisecond
	awayMost  = 5 * time.Second
)

// TurnAway answers whoever waits on listeners that the receiver is not configured, with 503, and returns once nobody calls any more, or
// after some seconds. It closes the listeners. Who opened the sockets would start this program again and again for callers
// that nobody took.
func TurnAway(ctx context.Context, listeners []net.Listener, message string, log *slog.Logger) error {
	var last atomic.Int64
	last.Store(time.Now().UnixNano())
	answer := unavailable("not_configured", message)
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		last.Store(time.Now().UnixNano())
		answer.ServeHTTP(w, req)
	})
	var doors []*Door
	for _, l := range listeners {
		d := NewDoor(l, handler, log)
		doors = append(doors, d)
		go func() { _ = d.Serve() }() // a socket that cannot be served is left to who opened it
	}
	most := time.After(awayMost)
	for wait := true; wait; {
		select {
		case <-ctx.Done():
			wait = false
		case <-most:
			wait = false
		case <-time.After(awayQuiet / 10):
			wait = time.Since(time.Unix(0, last.Load())) < awayQuiet
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), awayMost)
	defer cancel()
	var errs []error
	for _, d := range doors {
		errs = append(errs, d.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

// unavailable returns a handler that answers every request with 503 and closes the connection.
func unavailable(code, message string) http.Handler {
	var text struct {
		Received bool `json:"received"`
		Error    struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	text.Error.Code, text.Error.Message = code, message
	body, _ := json.Marshal(text) // two strings can always be written
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h["Content-Type"], h["Cache-Control"] = contentType, cacheControl
		h.Set("Retry-After", retryAfter)
		h.Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(body) // the caller may have gone
		linger(w, req)
	})
}

// CallersWait reports whether a connection waits to be accepted on any of the listeners. A listener
// that cannot be looked at counts as one where none waits.
func CallersWait(listeners []net.Listener) bool {
	waits := false
	for _, l := range listeners {
		socket, ok := l.(syscall.Conn)
		if !ok {
			continue
		}
		raw, err := socket.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) { // a closed listener has nobody waiting
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			waits = waits || n > 0 && err == nil
		})
	}
	return waits
}
