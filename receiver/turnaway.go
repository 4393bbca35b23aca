package receiver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
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
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		last.Store(time.Now().UnixNano())
		h := w.Header()
		h["Content-Type"], h["Cache-Control"] = contentType, cacheControl
		h.Set("Retry-After", retryAfter)
		h.Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		a := answer{code: "not_configured", message: message}
		_, _ = w.Write(a.text()) // nobody is there to be told of a failure
		linger(w, req)
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
