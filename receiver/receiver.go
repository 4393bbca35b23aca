// Package receiver is the handler of Stripe's webhooks: it verifies each delivery, stores the event
// in the ledger, and answers once the event is on disk.
//
// [Receiver] is the handler; package server provides the server around it. Each request passes the
// checks in the same order, the cheapest first: path, method, address, length, form of the
// signature header, body, signature and its age. Then the body is decoded, [ledger.Ledger.Append]
// stores the event, and the answer follows. Append blocks until the commit, and requests that wait
// at the same time share one commit. Everything that costs memory or disk comes after a check that
// only Stripe passes, or has a bound (body.go).
//
// The dangers: an answer before the commit (a power failure loses the event), a redirect (Stripe
// counts it as a failure), a body that never ends, and a log that fills the disk.
package receiver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"tillhook/ledger"
	"tillhook/metrics"
	"tillhook/receiver/server"
	"tillhook/receiver/stripe"
)

const (
	// answerTimeout bounds the time from a request's header to its answer, whether the event is on
	// disk or not. Stripe does not publish how long it waits; less than 5 s has not been reported.
	answerTimeout = 4800 * time.Millisecond
)

// The outcomes of a request whose event did not reach the ledger. The others are of
// [ledger.Outcome].
const (
	Rejected = "rejected" // a fault of the sender: 4xx
	Failed   = "failed"   // a fault of the receiver: 5xx
)

// Options configure a receiver. Proxies and Now are optional.
type Options struct {
	Path     string // of the webhook, without a trailing slash
	Livemode bool   // events of the other mode are quarantined
	MaxBody  int64  // bytes
	Verifier *stripe.Verifier
	Ledger   *ledger.Ledger
	Metrics  *metrics.Metrics
	Log      *slog.Logger
	Proxies  []netip.Prefix   // trusted to name their client in X-Forwarded-For
	Now      func() time.Time // for the age of signatures and the time of events; nil for time.Now
}

// Receiver is the HTTP handler of webhooks. It starts no goroutine.
type Receiver struct {
	Options
	memory    *budget
	rejects   throttle // of log lines about refused and failed requests
	causes    throttle // of log lines with the cause of a refusal
	diagnosis *diagnosis
	probes    probes
	allowed   atomic.Pointer[[]netip.Prefix] // set by Allow
}

// New checks the options and returns the handler.
func New(o Options) (*Receiver, error) {
	if o.Verifier == nil || o.Ledger == nil || o.Metrics == nil || o.Log == nil {
		return nil, errors.New("receiver: verifier, ledger, metrics and log are required")
	}
	if !strings.HasPrefix(o.Path, "/") || o.MaxBody <= 0 {
		return nil, fmt.Errorf("receiver: invalid path %q or body limit %d", o.Path, o.MaxBody)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Receiver{Options: o, memory: newBudget(o.MaxBody), rejects: throttle{every: 10 * time.Second},
		causes: throttle{every: causeEvery}, diagnosis: newDiagnosis(o.Now())}, nil
}

// answer is the answer to a request, and how it is counted.
type answer struct {
	status  int
	outcome string
	unread  bool    // the body was not read
	result  *result // of a verified request; nil for an error
	code    string  // of an error
	message string
}

type result struct {
	status    ledger.Outcome // or Probed
	reason    ledger.Reason
	eventID   string
	paymentID string            // empty for none
	sum       [sha256.Size]byte // of a probe's body
}

// text returns the body of the answer. All values are plain ASCII without quotes: constants, and
// ids that were checked to be that.
func (a *answer) text() []byte {
	b := make([]byte, 0, 256)
	if a.result == nil {
		b = append(append(b, `{"received":false,"error":{"code":"`...), a.code...)
		return append(append(append(b, `","message":"`...), a.message...), `"}}`...)
	}
	b = append(append(b, `{"received":true,"result":{"status":"`...), a.result.status...)
	if a.result.reason != "" {
		b = append(append(b, `","reason":"`...), a.result.reason...)
	}
	if a.result.status == Probed {
		b = append(b, `","event_id":null,"payment_id":null,"body_sha256":"`...)
		return append(hex.AppendEncode(b, a.result.sum[:]), `"}}`...)
	}
	b = append(append(b, `","event_id":"`...), a.result.eventID...)
	if a.result.paymentID == "" {
		return append(b, `","payment_id":null}}`...)
	}
	return append(append(append(b, `","payment_id":"`...), a.result.paymentID...), `"}}`...)
}

// ServeHTTP answers one request. It uses no http.ServeMux, which would clean paths by redirecting.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	start := time.Now()
	if req.URL.Path == "/healthz" {
		serveHealth(w, req)
		return
	}
	a := r.handle(w, req, start)
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = contentType, cacheControl
	switch a.status {
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodPost)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", server.RetryAfter)
	}
	text := a.text()
	h.Set("Content-Length", strconv.Itoa(len(text)))
	// Counted before it is sent, so that the next scrape after the answer includes it.
	r.Metrics.Request(a.status, a.outcome, time.Since(start))
	w.WriteHeader(a.status)
	if _, err := w.Write(text); err != nil {
		r.Log.Debug("the answer could not be sent; Stripe will deliver again", "status", a.status, "error", err)
		return
	}
	if a.unread {
		server.Drain(w, req)
	}
}

// Headers of every answer. They are shared and never modified.
var contentType, cacheControl = []string{"application/json"}, []string{"no-store"}

// serveHealth answers load balancers and uptime checks, and reveals nothing.
func serveHealth(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if req.ContentLength != 0 { // a body is not read
		w.Header().Set("Connection", "close")
		defer server.Drain(w, req)
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	_, _ = w.Write([]byte("ok")) // the client may be gone
}

// handle takes a request through the checks and to the ledger.
func (r *Receiver) handle(w http.ResponseWriter, req *http.Request, start time.Time) answer {
	// RawPath is set for a path with unusual escapes, such as /webhooks%2fstripe.
	if req.URL.RawPath != "" || plainPath(req.URL.Path) != strings.TrimSuffix(r.Path, "/") {
		return r.refuseUnread(w, http.StatusNotFound, "not_found", "There is nothing here.")
	}
	if req.Method != http.MethodPost {
		return r.refuseUnread(w, http.StatusMethodNotAllowed, "method_not_allowed", "Use POST.")
	}
	if refusal := r.refuseAddress(w, req); refusal != nil {
		return *refusal
	}
	if req.ContentLength > r.MaxBody {
		return r.refuseUnread(w, http.StatusRequestEntityTooLarge, "body_too_large", "The body is too large.")
	}
	sig, err := stripe.ParseSignature(req.Header["Stripe-Signature"])
	if err != nil {
		return r.refuseSignature(w, req, sig, nil, err)
	}
	body, release, refusal := r.readBody(w, req, start)
	defer release()
	if refusal != nil {
		w.Header().Set("Connection", "close")
		refusal.unread = refusal.status != http.StatusRequestTimeout
		if refusal.code == bodyIncomplete {
			r.noteIncomplete(req)
		}
		return *refusal
	}
	now := r.Now()
	position, err := r.Verifier.Verify(sig, body, now)
	if err != nil {
		return r.refuseSignature(w, req, sig, body, err)
	}
	if nonce := stripe.ProbeNonce(body); nonce != "" && r.probes.use(nonce, now) {
		return answer{status: http.StatusOK, outcome: Probed, result: &result{status: Probed, sum: sha256.Sum256(body)}}
	}
	server.Verified(req)
	r.diagnosis.verified.Add(1)
	r.diagnosis.last.Store(now.Unix())
	r.Metrics.LastEvent(now)
	if r.Log.Enabled(context.Background(), slog.LevelDebug) {
		r.Log.Debug("signature verified", "secret_position", position+1)
	}
	e := stripe.Decode(body, r.Livemode)
	e.Source, e.Received = ledger.Webhook, now
	return r.append(e, start)
}

// plainPath returns a path without repeated slashes and without one at its end. A redirect to it
// would be a failure to Stripe.
func plainPath(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return strings.TrimSuffix(path, "/")
}

// append stores the event and returns the answer.
func (r *Receiver) append(e *ledger.Event, start time.Time) answer {
	// Not the request's context: the event is valid even if its sender hangs up.
	ctx, cancel := context.WithDeadline(context.Background(), start.Add(answerTimeout))
	defer cancel()
	res, err := r.Ledger.Append(ctx, e)
	took := time.Since(start)
	if err != nil {
		code, message := "storage_unavailable", "The event could not be stored. Try again."
		if errors.Is(err, ledger.ErrOverloaded) {
			code, message = "overloaded", "Too many requests at once. Try again."
		}
		if ok, more := r.rejects.allow(code, r.Now()); ok {
			r.Log.Error("event not stored; Stripe will deliver it again", "id", e.ID, "type", clip(e.Type), "code",
				code, "error", err,
				"ms", milliseconds(took), "not_logged", more)
		}
		return answer{status: http.StatusServiceUnavailable, outcome: Failed, code: code, message: message}
	}
	r.count(e, res)
	r.Log.LogAttrs(context.Background(), slog.LevelInfo, "event", slog.String("id", e.ID),
		slog.String("type", clip(e.Type)),
		slog.String("payment", res.PaymentID), slog.String("outcome",
			string(res.Status)+reasonSuffix(res)), slog.Float64("ms", milliseconds(took)))
	return answer{status: http.StatusOK, outcome: string(res.Status),
		result: &result{status: res.Status, reason: res.Reason, eventID: e.ID, paymentID: res.PaymentID}}
}

func reasonSuffix(res ledger.Result) string {
	if res.Reason == "" {
		return ""
	}
	return " (" + string(res.Reason) + ")"
}

func (r *Receiver) count(e *ledger.Event, res ledger.Result) {
	if res.Repeat && (res.Status == ledger.AlreadyProcessed || res.Status == ledger.Quarantined) {
		r.Metrics.Duplicate()
		return
	}
	lag := time.Duration(-1)
	if e.Created != 0 {
		lag = e.Received.Sub(time.Unix(e.Created, 0))
	}
	r.Metrics.Event(e.Type, string(res.Status), string(res.Reason), lag)
	if e.Quarantine == "" && !stripe.ExpectedVersion(e.APIVersion) {
		r.Metrics.UnexpectedVersion()
	}
	if res.Unlinked {
		r.Metrics.Unlinked(e.Type)
	}
}

// clip bounds foreign text for the log.
func clip(s string) string {
	const most = 200 // bytes
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// refuseUnread returns the answer for a request whose body is not read. The connection closes, so
// that the rest of the body is not waited for.
func (r *Receiver) refuseUnread(w http.ResponseWriter, status int, code, message string) answer {
	w.Header().Set("Connection", "close")
	return answer{status: status, outcome: Rejected, unread: true, code: code, message: message}
}

// refuseSignature counts a refused signature and returns the answer. The sender gets the code; the
// log gets the likely cause. body is nil if it was not read.
func (r *Receiver) refuseSignature(w http.ResponseWriter, req *http.Request, sig stripe.Signature, body []byte,
	err error) answer {
	rejection := &stripe.Rejection{Code: stripe.MalformedSignature}
	_ = errors.As(err, &rejection) // it always is one
	code := rejection.Code
	r.diagnosis.note(string(code), req, r.Now())
	r.Metrics.SignatureFailure(string(code))
	r.yieldToCommit()
	if ok, more := r.causes.allow(string(code), r.Now()); ok {
		cause := r.likelyCause(rejection, sig, body, req)
		r.diagnosis.refused[string(code)].cause.Store(&cause)
		attrs := []any{"code", code, "cause", cause, "remote", r.remote(req), "user_agent", clip(req.UserAgent())}
		if body != nil {
			sum := sha256.Sum256(body)
			attrs = append(attrs, "body_bytes", len(body), "body_sha256", hex.EncodeToString(sum[:]))
		} else {
			attrs = append(attrs, "content_length", req.ContentLength)
		}
		r.Log.Warn("signature rejected", append(attrs, "not_logged", more)...)
	}
	if body == nil {
		return r.refuseUnread(w, http.StatusBadRequest, string(code), signatureMessages[code])
	}
	return answer{status: http.StatusBadRequest, outcome: Rejected, code: string(code),
		message: signatureMessages[code]}
}

const (
	yieldTime  = 20 * time.Millisecond
	yieldPause = 200 * time.Microsecond
)

// yieldToCommit waits up to yieldTime for the commit in progress. Each fsync makes the committer
// give up its processor, and it gets that back only after all runnable goroutines: a flood of
// forged requests would slow every honest delivery. Polling was measured to be better than a
// channel that closes when the commit ends.
func (r *Receiver) yieldToCommit() {
	for end := time.Now().Add(yieldTime); r.Ledger.Committing() && time.Now().Before(end); {
		time.Sleep(yieldPause)
	}
}

// signatureMessages reveal nothing that a forger could use.
var signatureMessages = map[stripe.Code]string{
	stripe.MissingSignature:   "The request is not signed.",
	stripe.MalformedSignature: "The signature header does not have Stripe's form.",
	stripe.SignatureMismatch:  "The signature does not match.",
	stripe.TimestampTooOld:    "The signature is too old.",
	stripe.TimestampInFuture:  "The timestamp of the signature is in the future.",
}

// noteIncomplete counts and logs a body that ended early: a proxy in front may need a correction.
func (r *Receiver) noteIncomplete(req *http.Request) {
	cause := "the body ended before its Content-Length: the connection broke, or a proxy in front cuts bodies or " +
		"announces another length than it sends"
	r.diagnosis.note(bodyIncomplete, req, r.Now())
	if ok, more := r.causes.allow(bodyIncomplete, r.Now()); ok {
		r.diagnosis.refused[bodyIncomplete].cause.Store(&cause)
		r.Log.Warn("incomplete body", "code", bodyIncomplete, "cause", cause, "remote", r.remote(req),
			"content_length", req.ContentLength, "not_logged", more)
	}
}
