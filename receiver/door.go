package receiver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	headerTimeout = 4 * time.Second
	writeTimeout  = 6 * time.Second // from the header on, so longer than any answer takes
	idleTimeout   = 75 * time.Second
	// maxHeader takes a signature header with two hundred signatures in it.
	maxHeader = 16 << 10
	// slop is what net/http adds to the limit of a header. http.Server, MaxHeaderBytes
	slop = 4 << 10
	// drainTime is how long a door that closes waits for the next request on connections that are kept
	// alive, so that it is answered, with word that it was the last.
	drainTime = 300 * time.Millisecond
)

// Door is a listening server with its limits. Make it with [NewDoor], run Serve, end it with Shutdown.
type Door struct {
	server  http.Server
	gate    *gate
	closing atomic.Bool
	served  chan struct{} // closed when Serve has returned
	log     *slog.Logger
	open    *connections
}

// NewDoor puts a handler behind a listener, which the door then owns.
func NewDoor(l net.Listener, h http.Handler, log *slog.Logger) *Door {
	open := newConnections()
	d := &Door{gate: &gate{Listener: l, all: open}, served: make(chan struct{}), log: log, open: open}
	d.server = http.Server{
		Handler:                      http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&lastWord{ResponseWriter: w, door: d}, r) }),
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  headerTimeout + bodyTimeout, // also of a body that nobody reads
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader - slop,
		ErrorLog:                     slog.NewLogLogger(serverLog{log.Handler()}, slog.LevelDebug),
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is refused like anything else
		ConnState:                    func(c net.Conn, state http.ConnState) { c.(*connection).note(state) },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, c)
		},
	}
	return d
}

// lastWord tells with an answer that it is the last one of its connection, where that is so by then: who is answered while the
// door closes must not send another request into a connection that ends.
type lastWord struct {
	http.ResponseWriter
	door *Door
	said bool
}

func (w *lastWord) say() {
	if !w.said && (w.door.closing.Load() || w.door.open.crowded()) {
		w.Header().Set("Connection", "close")
	}
	w.said = true
}

func (w *lastWord) WriteHeader(status int) {
	w.say()
	w.ResponseWriter.WriteHeader(status)
}

func (w *lastWord) Write(b []byte) (int, error) {
	w.say()
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *lastWord) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// serverLog takes what net/http has to say: what a stranger's connection did wrong is worth no more than
// debug, a panic is an error.
type serverLog struct{ slog.Handler }

func (h serverLog) Enabled(context.Context, slog.Level) bool { return true }

func (h serverLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: panic") {
		r.Level = slog.LevelError
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// Secure has the door speak TLS. It is called before Serve.
func (d *Door) Secure(c *tls.Config) { d.gate.secure = c }

// Address is where the door listens.
func (d *Door) Address() net.Addr { return d.gate.Addr() }

// Serve takes connections until Shutdown, and then returns nil at once: Shutdown waits for the
// answers. It is called once.
func (d *Door) Serve() error {
	defer close(d.served)
	if err := d.server.Serve(d.gate); !errors.Is(err, http.ErrServerClosed) && !d.closing.Load() {
		return err
	}
	return nil
}

// Shutdown stops accepting and returns when Serve has returned and every request whose header was
// read has its answer. When ctx ends first it closes what is left: that can only be senders who do not
// read what they are told, because every answer is given in less time.
func (d *Door) Shutdown(ctx context.Context) error {
	d.closing.Store(true)
	if err := d.gate.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return errors.Join(fmt.Errorf("stop accepting: %w", err), d.server.Close())
	}
	<-d.served
	// net/http closes idle connections at once, together with what is on its way in them. Busy ones
	// get a moment to bring their next request.
	for end := time.Now().Add(drainTime); d.open.open.Load() > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	d.open.closeFresh()
	// It closes the listener once more, and may tell that this was done before.
	err := d.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		d.log.Warn("connections whose other end does not read were cut", "address", d.Address().String())
		err = d.server.Close()
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}
