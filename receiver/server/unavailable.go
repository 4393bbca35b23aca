package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// rejectQuiet is how long no request must have come before RejectAll returns.
	rejectQuiet = 300 * time.Millisecond
	// rejectMost bounds RejectAll, and then its shutdown.
	rejectMost = 5 * time.Second
)

// RejectAll answers the callers of listeners with 503 not_configured. It closes the listeners and
// returns once no further request comes, or after some seconds. A program that exits instead, with
// connections waiting in a socket that systemd holds, is started again for each of them without
// end. The secure listeners speak TLS, and a connection to one is waited for: its request follows
// the handshake.
func RejectAll(ctx context.Context, listeners, secure []net.Listener, config *tls.Config, message string,
	log *slog.Logger) error {
	var last atomic.Int64
	last.Store(time.Now().UnixNano())
	reject := Unavailable("not_configured", message)
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		last.Store(time.Now().UnixNano())
		reject.ServeHTTP(w, req)
	})
	var servers []*Server
	for i, l := range slices.Concat(secure, listeners) {
		s := New(l, handler, log)
		if i < len(secure) {
			s.UseTLS(config)
		}
		servers = append(servers, s)
		go func() { _ = s.Serve() }() // Shutdown waits for it; a socket that cannot be served stays with systemd
	}
	handshakes := func() bool {
		return slices.ContainsFunc(servers[:len(secure)], func(s *Server) bool { return s.conns.open.Load() > 0 })
	}
	most := time.After(rejectMost)
	for wait := true; wait; {
		select {
		case <-ctx.Done():
			wait = false
		case <-most:
			wait = false
		case <-time.After(rejectQuiet / 10):
			wait = time.Since(time.Unix(0, last.Load())) < rejectQuiet || handshakes()
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rejectMost)
	defer cancel()
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

// Unavailable returns a handler that answers every request with 503 and closes the connection.
func Unavailable(code, message string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		WriteError(w, req, http.StatusServiceUnavailable, code, message)
	})
}

// CallersWait reports whether a connection waits to be accepted on any of the listeners. A listener
// that cannot be examined counts as one without.
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
		_ = raw.Control(func(fd uintptr) { // it fails for a closed listener, which has no callers
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			waits = waits || n > 0 && err == nil
		})
	}
	return waits
}
