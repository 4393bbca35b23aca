// Package operator is the private door: what the ledger holds, as JSON in Stripe's own list form, and
// the receiver's metrics and health. It has the client that the commands use, too.
//
// It is served twice. On the unix socket the file's permissions are the guard, and everything
// answers. On TCP only metrics and health do, and everything else is 401: there is no login.
// Both refuse what a web page could send through a browser that reaches them (ssh -L puts the
// door on the operator's own machine): a foreign Host, a foreign Origin, a cross-site fetch.
package operator

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/health"
)

// Options are what the door shows.
type Options struct {
	Ledger  *ledger.Ledger
	Metrics http.Handler // nil where nothing is measured
	Listen  string       // host:port of the TCP door, by whose host it may be called, beside localhost; empty if it is off
	Log     *slog.Logger
	// Stopping ends when the receiver begins to stop: answers that are files are broken off then.
	Stopping context.Context
	// NotServing returns why the public listeners take no events, "" while they do; nil where there
	// are none.
	NotServing func() string
	// Findings returns the state of everything but the ledger, for the summary; nil for none.
	Findings func() []health.Finding
	// Board dates the findings of the summary; nil where each request is the only one.
	Board *health.Board
	// Public is the receiver's public door; nil where there is none.
	Public PublicDoor
	// Comparer compares the ledger with Stripe; nil where nothing does.
	Comparer Comparer
	// Verify proves a file sound; nil where nothing does. It may tell a proof and an error.
	Verify func(ctx context.Context, path string) (*ledger.Report, error)
}

// Operator makes the handlers of both doors.
type Operator struct {
	Options
	api  *http.ServeMux
	name string // of the host that the TCP door listens on
	// Places of requests that make files, and of those that read much.
	spools, searches chan struct{}
}

// New lays out the paths.
func New(o Options) *Operator {
	if o.Stopping == nil {
		o.Stopping = context.Background()
	}
	name, _, _ := net.SplitHostPort(o.Listen)
	op := &Operator{Options: o, name: strings.ToLower(name), api: http.NewServeMux(),
		spools: make(chan struct{}, maxSpools), searches: make(chan struct{}, maxSearches)}
	for pattern, serve := range map[string]handler{
		"/api/payments":               op.search(op.payments),
		"/api/payments/{id}":          op.payment,
		"/api/payments/{id}/events":   op.search(op.paymentEvents),
		"/api/payments/{id}/timeline": op.search(op.timeline),
		"/api/events":                 op.search(op.events),
		"/api/events/{id}":            op.event,
		"/api/events/{id}/body":       op.body,
		"/api/summary":                op.search(op.summary),
		"/api/receiver":               op.receiver,
		"/healthz":                    op.healthz,
		"/readyz":                     op.readyz,
		"/metrics":                    op.metrics,
		"/":                           func(http.ResponseWriter, *http.Request) error { return errNoPath },
	} {
		op.handle(pattern, serve, http.MethodGet, http.MethodHead)
	}
	op.handle("/api/export", op.export, http.MethodGet) // not HEAD: it would be made to be thrown away
	op.handle("/api/backup", op.backup, http.MethodGet)
	op.handle("/api/verify", op.verify, http.MethodPost)
	op.handle("/api/probe", op.probe, http.MethodPost)
	op.handle("/api/reconcile", op.reconcile, http.MethodGet, http.MethodPost)
	op.handle("/api/events/{id}/release", op.release, http.MethodPost)
	op.handle("/api/events/{id}/dismiss", op.dismiss, http.MethodPost)
	return op
}

// handler answers, or returns what is to be answered.
type handler func(http.ResponseWriter, *http.Request) error

func (op *Operator) handle(pattern string, serve handler, methods ...string) {
	op.api.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			op.fail(w, r, &Error{http.StatusMethodNotAllowed, "invalid_request", "this path is asked with " + methods[0]})
			return
		}
		if err := serve(w, r); err != nil {
			op.fail(w, r, err)
		}
	})
}

// Socket serves everything to whoever may open the unix socket.
func (op *Operator) Socket() http.Handler { return op.guard(http.HandlerFunc(op.everything)) }

// TCP serves metrics and health to whoever reaches the port, and nothing else.
func (op *Operator) TCP() http.Handler {
	return op.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics", "/healthz", "/readyz":
			op.everything(w, r)
		default:
			op.fail(w, r, &Error{http.StatusUnauthorized, "unauthorized", "there is no login on this port; use the unix socket (tillhook payments, tillhook events)"})
		}
	}))
}

// guard refuses what another site's page may have made a browser send.
// https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
func (op *Operator) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if why := op.foreign(r); why != "" {
			op.fail(w, r, &Error{http.StatusForbidden, "forbidden_origin", why})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// errNoPath answers a path that leads nowhere.
var errNoPath = &Error{http.StatusNotFound, "not_found", "there is nothing at this path"}

// everything serves the whole API. The mux alone would answer an unclean path with a redirect.
func (op *Operator) everything(w http.ResponseWriter, r *http.Request) {
	if p := r.URL.EscapedPath(); p != path.Clean(p) {
		op.fail(w, r, errNoPath)
		return
	}
	op.api.ServeHTTP(w, r)
}

func (op *Operator) foreign(r *http.Request) string {
	if !op.isOwnHost(r) {
		return "this host name is not the receiver's; use localhost or the address it listens on"
	}
	for _, origin := range r.Header["Origin"] {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
			return "the request comes from another site"
		}
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "none" && site != "same-origin" {
			return "the request comes from another site"
		}
	}
	return ""
}

// isOwnHost tells whether the Host is one that only this machine has: a page that had its own name
// point to us (DNS rebinding) still sends its own name.
func (op *Operator) isOwnHost(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(host, "]"), "["), "."))
	if host == "" || host == "localhost" || host == op.name {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return local != nil && local.AddrPort().Addr().Unmap() == ip.Unmap()
}

// Error is what the door answers when it cannot do what was asked.
type Error struct {
	Status  int    `json:"-"` // HTTP
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// fail answers with an error. What is not the caller's fault is logged.
func (op *Operator) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, ledger.ErrNotFound):
		e = &Error{http.StatusNotFound, "not_found", err.Error()}
	case errors.Is(err, ledger.ErrGone):
		e = &Error{http.StatusGone, "gone", err.Error()}
	case errors.Is(err, ledger.ErrUnavailable), errors.Is(err, ledger.ErrOverloaded), errors.Is(err, ledger.ErrClosed):
		e = &Error{http.StatusServiceUnavailable, "storage_unavailable", err.Error()}
	case errors.Is(err, ledger.ErrNoRoom):
		e = &Error{http.StatusInsufficientStorage, "storage_unavailable", err.Error()}
	case errors.Is(err, ledger.ErrOtherID), errors.Is(err, ledger.ErrNotQuarantined):
		e = &Error{http.StatusConflict, "invalid_request", err.Error()}
	case errors.Is(err, ledger.ErrReadOnly):
		e = &Error{http.StatusConflict, "invalid_request", "no receiver is running, and only one can change the ledger: start it (tillhook serve)"}
	case errors.Is(err, ledger.ErrAhead), errors.Is(err, ledger.ErrTooManyDays):
		e = &Error{http.StatusBadRequest, "invalid_request", err.Error()}
	case errors.Is(err, ledger.ErrCursor):
		e = &Error{http.StatusBadRequest, "invalid_request", err.Error()}
	case errors.Is(err, context.Canceled):
		e = op.canceled(r)
	default:
		op.Log.Error("the ledger could not be read", "path", r.URL.Path, "error", err)
		e = &Error{http.StatusInternalServerError, "storage_unavailable", err.Error()}
	}
	if e.Code == "overloaded" {
		w.Header().Set("Retry-After", strconv.Itoa(int(placeTime.Seconds())))
	}
	answer := map[string]any{"error": e}
	var did *Partial
	if errors.As(err, &did) {
		answer["report"] = did.Report
	}
	op.write(w, r, e.Status, answer)
}

// untilStopping returns a context that ends with its parent, when the receiver begins to stop, and
// by cancel.
func (op *Operator) untilStopping(parent context.Context) (ctx context.Context, cancel func()) {
	ctx, end := context.WithCancel(parent)
	if op.Stopping.Err() != nil { // AfterFunc would run end in a moment
		end()
	}
	stop := context.AfterFunc(op.Stopping, end)
	return ctx, func() { stop(); end() }
}

// canceled returns what answers a request that was broken off. A client that has hung up does not
// read it.
func (op *Operator) canceled(r *http.Request) *Error {
	why := "the client canceled the request"
	if r.Context().Err() == nil && op.Stopping.Err() != nil {
		why = "the receiver is stopping; ask again when it runs"
	}
	op.Log.Info("an answer was broken off", "path", r.URL.Path, "reason", why)
	return &Error{http.StatusServiceUnavailable, "canceled", why}
}

// sendTime is how long a client may take for an answer that is made.
const sendTime = 10 * time.Second

func (op *Operator) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	op.answer(w, r, status, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	})
}

// answer answers with JSON that encode writes.
func (op *Operator) answer(w http.ResponseWriter, r *http.Request, status int, encode func(w io.Writer) error) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendTime)) // in one process there is none
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := encode(ledger.EscapeWriter(w)); err != nil { // a person may look at it with curl
		op.Log.Debug("the answer could not be sent", "path", r.URL.Path, "error", err)
	}
}

func (op *Operator) metrics(w http.ResponseWriter, r *http.Request) error {
	if op.Metrics == nil {
		return &Error{http.StatusNotFound, "not_found", "nothing is measured here: no receiver is running"}
	}
	op.Metrics.ServeHTTP(w, r)
	return nil
}

// healthz: the process is alive and answers.
func (op *Operator) healthz(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte("ok"))
	return err
}

// readiness is the answer of /readyz: whether events can be stored now.
type readiness struct {
	Object     string            `json:"object"`
	Status     string            `json:"status"` // ready, unavailable
	LastCommit ledger.OrNullTime `json:"last_commit"`
	Error      ledger.OrNull     `json:"error"`
}

func (op *Operator) readyz(w http.ResponseWriter, r *http.Request) error {
	health := op.Ledger.Health()
	answer := readiness{Object: "readiness", Status: "ready"}
	if !health.LastCommit.IsZero() {
		answer.LastCommit = ledger.OrNullTime(health.LastCommit.Unix())
	}
	status := http.StatusOK
	if health.Err != nil {
		status, answer.Status, answer.Error = http.StatusServiceUnavailable, "unavailable", ledger.OrNull(health.Err.Error())
	} else if op.NotServing != nil {
		if why := op.NotServing(); why != "" {
			status, answer.Status, answer.Error = http.StatusServiceUnavailable, "unavailable", ledger.OrNull(why)
		}
	}
	op.write(w, r, status, answer)
	return nil
}
