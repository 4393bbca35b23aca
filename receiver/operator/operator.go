// Package operator is the operator's API: the contents of the ledger as JSON in Stripe's own list
// form, and the receiver's metrics and health. It also has the client that the commands use.
//
// The API is served twice. On the unix socket, whose permissions are the login, it is complete. On
// TCP there is no login, so only metrics and health answer, and everything else gets 401. Both
// refuse what a web page could send through a browser that reaches them (ssh -L brings the port to
// the operator's own machine): a foreign Host, a foreign Origin, a cross-site fetch.
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
	"tillhook/ledger/check"
	"tillhook/ledger/export"
	"tillhook/ledger/wording"
	"tillhook/receiver/health"
)

// Options configure the API. Only Ledger and Log are required.
type Options struct {
	Ledger  *ledger.Ledger
	Metrics http.Handler // nil for none
	// Listen is host:port of the TCP listener, whose host may be a request's Host beside localhost;
	// empty if it is off.
	Listen string
	Log    *slog.Logger
	// Stopping ends when the receiver begins to stop. Downloads are aborted then.
	Stopping context.Context
	// NotServing returns why the webhook listener accepts no events, "" while it does; nil without
	// a receiver.
	NotServing func() string
	// Findings returns the state of everything but the ledger; nil for none.
	Findings func() []health.Finding
	// Board dates the findings; nil leaves their times unknown.
	Board *health.Board
	// Receiver is the running receiver; nil if none runs.
	Receiver Receiver
	// Reconciler compares the ledger with Stripe; nil if nothing does.
	Reconciler Reconciler
	// Verify checks a ledger's file; nil if nothing does. It may return a report and an error.
	Verify func(ctx context.Context, path string) (*check.Report, error)
}

// Operator serves the API.
type Operator struct {
	Options
	api  *http.ServeMux
	name string // of the host that the TCP listener has
	// Semaphores of requests that make files, and of those that read much.
	spools, searches chan struct{}
}

// New returns the API. It starts nothing.
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
	op.handle("/api/export", op.export, http.MethodGet) // not HEAD, which would make an export and discard it
	op.handle("/api/backup", op.backup, http.MethodGet)
	op.handle("/api/verify", op.verify, http.MethodPost)
	op.handle("/api/probe", op.probe, http.MethodPost)
	op.handle("/api/reconcile", op.reconcile, http.MethodGet, http.MethodPost)
	op.handle("/api/events/{id}/release", op.release, http.MethodPost)
	op.handle("/api/events/{id}/dismiss", op.dismiss, http.MethodPost)
	return op
}

// handler answers a request, or returns an error to answer with.
type handler func(http.ResponseWriter, *http.Request) error

func (op *Operator) handle(pattern string, serve handler, methods ...string) {
	op.api.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			op.fail(w, r, &Error{http.StatusMethodNotAllowed, "invalid_request",
				"use " + methods[0] + " for this path"})
			return
		}
		if err := serve(w, r); err != nil {
			op.fail(w, r, err)
		}
	})
}

// Socket returns the handler of the unix socket: the complete API.
func (op *Operator) Socket() http.Handler { return op.guard(http.HandlerFunc(op.everything)) }

// TCP returns the handler of the TCP listener: metrics and health, and nothing else.
func (op *Operator) TCP() http.Handler {
	return op.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics", "/healthz", "/readyz":
			op.everything(w, r)
		default:
			op.fail(w, r, &Error{http.StatusUnauthorized, "unauthorized",
				"there is no login on this port; use the unix socket (tillhook payments, tillhook events)"})
		}
	}))
}

// guard refuses requests that another site's page may have made a browser send. See
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

// errNoPath is the answer for an unknown path.
var errNoPath = &Error{http.StatusNotFound, "not_found", "there is nothing at this path"}

// everything serves the complete API. For an unclean path the mux itself would redirect.
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

// isOwnHost reports whether the Host belongs to this machine only. A page whose name was made to
// point here (DNS rebinding) still sends its own name.
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

// Error is an error answer.
type Error struct {
	Status  int    `json:"-"` // HTTP
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// fail answers with an error, and logs it if it is not the caller's.
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
	case errors.Is(err, ledger.ErrNoSpace):
		e = &Error{http.StatusInsufficientStorage, "storage_unavailable", err.Error()}
	case errors.Is(err, ledger.ErrOtherID), errors.Is(err, ledger.ErrNotQuarantined):
		e = &Error{http.StatusConflict, "invalid_request", err.Error()}
	case errors.Is(err, ledger.ErrReadOnly):
		e = &Error{http.StatusConflict, "invalid_request",
			"no receiver is running, and only one can change the ledger: start it (tillhook serve)"}
	case errors.Is(err, export.ErrAhead), errors.Is(err, ledger.ErrTooManyDays):
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

// canceled returns the answer for a request that was canceled. A client that has hung up does not
// read it.
func (op *Operator) canceled(r *http.Request) *Error {
	why := "the client canceled the request"
	if r.Context().Err() == nil && op.Stopping.Err() != nil {
		why = "the receiver is shutting down; try again when it runs"
	}
	op.Log.Info("an answer was canceled", "path", r.URL.Path, "reason", why)
	return &Error{http.StatusServiceUnavailable, "canceled", why}
}

// sendTime is how long a client may take to read an answer.
const sendTime = 10 * time.Second

func (op *Operator) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	op.answer(w, r, status, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	})
}

// answer sends JSON that encode writes.
func (op *Operator) answer(w http.ResponseWriter, r *http.Request, status int, encode func(w io.Writer) error) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendTime)) // not supported without a network
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := encode(wording.EscapeWriter(w)); err != nil { // a person may read it with curl
		op.Log.Debug("the answer could not be sent", "path", r.URL.Path, "error", err)
	}
}

func (op *Operator) metrics(w http.ResponseWriter, r *http.Request) error {
	if op.Metrics == nil {
		return &Error{http.StatusNotFound, "not_found", "there are no metrics: no receiver is running"}
	}
	op.Metrics.ServeHTTP(w, r)
	return nil
}

// healthz reports that the process answers.
func (op *Operator) healthz(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte("ok"))
	return err
}

// readiness is the answer of /readyz, which reports whether events can be stored now.
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
