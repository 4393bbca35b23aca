package receiver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

const (
	headerTimeout = 4 * time.Second
	writeTimeout  = 10 * time.Second // from the header on, so longer than any answer takes
	idleTimeout   = 75 * time.Second
	// maxHeader takes a signature header with a thousand signatures in it, and no more.
	maxHeader = 64 << 10
	// maxConnections are served at once; further ones wait to be accepted.
	maxConnections = 8192
	// drainTime is how long a door that closes waits for the next request on connections that are kept
	// alive, so that it is answered, with word that it was the last.
	drainTime = 300 * time.Millisecond
)

// Door is a listening server with its limits. Make it with [NewDoor], run Serve, end it with Shutdown.
type Door struct {
	server   http.Server
	listener net.Listener
	closing  atomic.Bool
	open     atomic.Int64 // connections
}

// NewDoor puts a handler behind a listener, which the door then owns.
func NewDoor(l net.Listener, h http.Handler, log *slog.Logger) *Door {
	d := &Door{listener: netutil.LimitListener(l, maxConnections)}
	d.server = http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if d.closing.Load() {
				w.Header().Set("Connection", "close")
			}
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout + bodyTimeout, // also of a body that nobody reads
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		// What a stranger's connection did wrong is not worth more than debug.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				d.open.Add(1)
			case http.StateClosed, http.StateHijacked:
				d.open.Add(-1)
			}
		},
	}
	return d
}

// Address is where the door listens.
func (d *Door) Address() net.Addr { return d.listener.Addr() }

// Serve takes connections until Shutdown, and then returns nil at once: Shutdown waits for the answers.
func (d *Door) Serve() error {
	if err := d.server.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) && !d.closing.Load() {
		return err
	}
	return nil
}

// Shutdown stops accepting and returns when every request whose header was read has its answer.
// When ctx ends first it closes what is left and returns ctx's error.
func (d *Door) Shutdown(ctx context.Context) error {
	d.closing.Store(true)
	if err := d.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return errors.Join(fmt.Errorf("stop accepting: %w", err), d.server.Close())
	}
	// net/http closes idle connections at once, together with what is on its way in them. Busy ones
	// get a moment to bring their next request.
	for end := time.Now().Add(drainTime); d.open.Load() > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	// It closes the listener once more, and may tell that this was done before.
	if err := d.server.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		return errors.Join(fmt.Errorf("requests were still open: %w", err), d.server.Close())
	}
	return nil
}

// ListenUnix listens on a unix socket that its group may use (mode 0660). A socket that a process
// left behind is replaced; one that answers is another receiver's, and an error.
func ListenUnix(path string) (net.Listener, error) {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return nil, errors.Join(fmt.Errorf("another process listens on %s", path), conn.Close())
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is there and is not a socket; set TILLHOOK_OPERATOR_SOCKET to another path", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace the socket of an earlier run: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
