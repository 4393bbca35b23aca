// Package server provides the HTTP servers of a receiver: listeners, limits on connections, TLS
// with certificates from files or by ACME, and answers for the time in which no handler can run.
//
// A [Server] serves one listener. It bounds what a connection costs before the handler has verified
// a request on it (see [Verified]), and it shuts down without losing a request whose header it has
// read. [Certificates] provides what a server needs for TLS. A [Port] is a server whose address may
// be in use for a while, and [RejectAll] answers callers of a program that is about to exit.
//
// The package knows nothing of webhooks and imports none of the other packages.
package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// BodyTimeout bounds the time from the end of a header to the end of its body. A handler may
	// set an earlier read deadline.
	BodyTimeout   = 4 * time.Second
	headerTimeout = 4 * time.Second
	writeTimeout  = 6 * time.Second // from the header on; every answer takes less time
	idleTimeout   = 75 * time.Second
	// maxHeader bounds a header, in bytes. A signature header with 200 signatures fits.
	maxHeader = 16 << 10
	// headerSlop is what net/http adds to its limit of a header. See http.Server.MaxHeaderBytes.
	headerSlop = 4 << 10
	// finalRequestTime is how long Shutdown waits for a next request on connections that are kept
	// alive, so that the client gets an answer that says the connection closes.
	finalRequestTime = 300 * time.Millisecond
	// shutdownTime bounds Shutdown where the caller has no deadline of its own.
	shutdownTime = 7 * time.Second
)

// RetryAfter is the Retry-After header of 503 answers, in seconds.
const RetryAfter = "5"

// Server serves HTTP on one listener. Make it with [New], run Serve, end it with Shutdown.
type Server struct {
	server   http.Server
	listener *limitedListener
	closing  atomic.Bool
	served   chan struct{} // closed when Serve has returned
	log      *slog.Logger
	conns    *connections
}

// New returns a server of a handler. The server owns the listener.
func New(l net.Listener, h http.Handler, log *slog.Logger) *Server {
	conns := newConnections()
	s := &Server{listener: &limitedListener{Listener: l, conns: conns}, served: make(chan struct{}), log: log,
		conns: conns}
	s.server = http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(&closeNotifier{ResponseWriter: w, server: s}, r)
		}),
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  headerTimeout + BodyTimeout, // also bounds a body that the handler does not read
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader - headerSlop,
		ErrorLog:                     slog.NewLogLogger(serverLog{log.Handler()}, slog.LevelDebug),
		DisableGeneralOptionsHandler: true, // "OPTIONS *" gets the handler's refusal
		ConnState:                    func(c net.Conn, state http.ConnState) { c.(*connection).setState(state) },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, c)
		},
	}
	return s
}

// closeNotifier adds "Connection: close" to an answer that is the last one of its connection,
// judged when the answer begins and not when the request arrived. Without it a client could send
// its next request into a connection that closes.
type closeNotifier struct {
	http.ResponseWriter
	server *Server
	begun  bool
}

func (w *closeNotifier) begin() {
	if !w.begun && (w.server.closing.Load() || w.server.conns.crowded()) {
		w.Header().Set("Connection", "close")
	}
	w.begun = true
}

func (w *closeNotifier) WriteHeader(status int) {
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

func (w *closeNotifier) Write(b []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *closeNotifier) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// serverLog receives what net/http logs. Faults of a client's connection have the level debug, a
// panic of a handler is an error.
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

// UseTLS makes the server speak TLS; nil leaves it without. Call it before Serve.
func (s *Server) UseTLS(c *tls.Config) { s.listener.tls = c }

// Address returns the address of the listener.
func (s *Server) Address() net.Addr { return s.listener.Addr() }

// Serve accepts connections until Shutdown, and then returns nil at once: Shutdown waits for the
// answers. Call it once.
func (s *Server) Serve() error {
	defer close(s.served)
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) && !s.closing.Load() {
		return err
	}
	return nil
}

// Shutdown stops accepting, waits until Serve has returned, and returns when every request whose
// header was read has its answer. When ctx ends first it closes the remaining connections. Those
// can only be of clients that do not read their answers, because every handler answers in less
// time.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closing.Store(true)
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return errors.Join(fmt.Errorf("stop accepting: %w", err), s.server.Close())
	}
	<-s.served
	// net/http closes idle connections at once, together with a request that is on its way in one.
	for end := time.Now().Add(finalRequestTime); s.conns.open.Load() > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	s.conns.closeSilent()
	// It closes the listener once more and can report that it was closed already.
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("connections whose clients do not read were cut", "address", s.Address().String())
		err = s.server.Close()
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

const (
	drainTime  = 500 * time.Millisecond
	drainBytes = 2 << 20
)

// Drain sends the answer and then discards a part of a body that the handler did not read, so that
// the client can read the answer: closing a connection with unread bytes resets it, and the answer
// is lost. net/http drains, too, but for as long as a body may take, and not at all for a request
// with "Connection: close", such as those of nginx. Call it last; the connection closes next.
func Drain(w http.ResponseWriter, req *http.Request) {
	if req.ContentLength == 0 {
		return
	}
	c := http.NewResponseController(w)
	if err := errors.Join(c.Flush(), c.SetReadDeadline(time.Now().Add(drainTime))); err != nil {
		return // the connection is gone
	}
	_, _ = io.CopyN(io.Discard, req.Body, drainBytes)
}

// WriteError answers a request, whose body was not read, with an error in the form of the webhook
// endpoint, and has the connection close.
func WriteError(w http.ResponseWriter, req *http.Request, status int, code, message string) {
	var text struct {
		Received bool `json:"received"`
		Error    struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	text.Error.Code, text.Error.Message = code, message
	body, _ := json.Marshal(text) // two strings can always be encoded
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", RetryAfter)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
	Drain(w, req)
}
