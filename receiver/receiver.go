// Package receiver is the public door: it takes Stripe's webhooks, proves that they are Stripe's,
// has the ledger write them down, and answers when they are on disk.
//
// Its nouns: a [Receiver] is the handler, a [Door] the listening server around it with its limits.
// Every request goes the same way, cheapest refusal first: path, method, length, form of the
// signature header, body, signature, age, decode, [ledger.Ledger.Append], answer. What costs memory or
// disk comes after what a stranger cannot pass.
//
// What can hurt here: an answer before the commit (the event is lost with the next power cut), a
// redirect (Stripe counts it as a failure), a body that never ends, and a log that fills the disk.
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
	// answerTimeout is when a request is answered at the latest, on disk or not. Stripe does not publish how
	// long it waits; nobody has seen less than 5 s.
	answerTimeout = 4800 * time.Millisecond
)

// The outcomes of a request that brought no event to the ledger, beside those of [ledger.Outcome].
const (
	Rejected = "rejected" // the sender is to blame: 4xx
	Failed   = "failed"   // we are: 5xx
)

// Options are what a receiver works with. All but Proxies and Now are required.
type Options struct {
	Path     string // of the webhook, without a slash at its end
	Livemode bool   // events of the other mode go into quarantine
	MaxBody  int64  // bytes
	Verifier *stripe.Verifier
	Ledger   *ledger.Ledger
	Metrics  *metrics.Metrics
	Log      *slog.Logger
	Proxies  []netip.Prefix   // whose word on who called is taken
	Now      func() time.Time // nil for time.Now; judges signatures and dates events
}

// Receiver answers requests on the public door. It holds no goroutine.
type Receiver struct {
	Options
	memory    *budget
	rejects   throttle // of the log
	causes    throttle // likewise, of what is refused
	diagnosis *diagnosis
	probes    probes
	newest    atomic.Pointer[wave]
	allowed   atomic.Pointer[[]netip.Prefix] // see Allow
}

// New checks the options and returns the handler.
func New(o Options) (*Receiver, error) {
	if o.Verifier == nil || o.Ledger == nil || o.Metrics == nil || o.Log == nil {
		return nil, errors.New("receiver: verifier, ledger, metrics and log are required")
	}
	if !strings.HasPrefix(o.Path, "/") || o.MaxBody <= 0 {
		return nil, fmt.Errorf("receiver: path %q or body limit %d cannot be", o.Path, o.MaxBody)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Receiver{Options: o, memory: newBudget(o.MaxBody), rejects: throttle{every: 10 * time.Second}, causes: throttle{every: causeEvery}, diagnosis: newDiagnosis(o.Now())}, nil
}

// answer is what a request is told, and how it is counted.
type answer struct {
	status  int
	outcome string
	unread  bool    // the body was left where it was
	result  *result // of an authentic event
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

// text is the answer as it is sent. All that stands in it is plain ASCII without quotes: words of ours, and ids,
// which were checked to be no more than that.
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

// ServeHTTP answers one request. Nothing here redirects, and nothing but the path decides whether a
// request is meant for us: a mux would clean paths by redirecting.
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
	// Counted before it is sent: who has read the answer finds it in the next scrape.
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

// Headers that every answer has. Nobody writes to them.
var contentType, cacheControl = []string{"application/json"}, []string{"no-store"}

// serveHealth is for load balancers and uptime checks, and tells nothing.
func serveHealth(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if req.ContentLength != 0 { // nobody waits for a body here
		w.Header().Set("Connection", "close")
		defer server.Drain(w, req)
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	_, _ = w.Write([]byte("ok")) // nobody is there to be told of a failure
}

// handle takes a request as far as it gets.
func (r *Receiver) handle(w http.ResponseWriter, req *http.Request, start time.Time) answer {
	// RawPath is set for a path that was written in an unusual way, as /webhooks%2fstripe.
	if req.URL.RawPath != "" || strings.TrimSuffix(req.URL.Path, "/") != strings.TrimSuffix(r.Path, "/") {
		return r.refuseUnread(w, http.StatusNotFound, "not_found", "There is nothing here.")
	}
	if req.Method != http.MethodPost {
		return r.refuseUnread(w, http.StatusMethodNotAllowed, "method_not_allowed", "Webhooks are posted.")
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
	body, release, refusal := r.read(w, req, start)
	defer release()
	if refusal != nil {
		w.Header().Set("Connection", "close")
		refusal.unread = refusal.status != http.StatusRequestTimeout
		r.notice(refusal.code, "the body ended before its Content-Length: the connection broke, or a proxy in front cuts bodies or gives another length than it sends", req)
		return *refusal
	}
	now := r.Now()
	position, err := r.Verifier.Verify(sig, body, now)
	if err != nil {
		return r.refuseSignature(w, req, sig, body, err)
	}
	if nonce := stripe.ProbeNonce(body); nonce != "" && r.probes.take(nonce, now) {
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

// append has the event written down and reports what came of it.
func (r *Receiver) append(e *ledger.Event, start time.Time) answer {
	// Not the request's context: a sender that hangs up does not unsign the event.
	res, err := r.Ledger.Append(r.wave(start), e)
	took := time.Since(start)
	if err != nil {
		code, message := "storage_unavailable", "The event could not be stored. Try again."
		if errors.Is(err, ledger.ErrOverloaded) {
			code, message = "overloaded", "Too much at once. Try again."
		}
		if ok, more := r.rejects.allow(code, r.Now()); ok {
			r.Log.Error("event not stored; Stripe will deliver it again", "id", e.ID, "type", clip(e.Type), "code", code, "error", err,
				"ms", milliseconds(took), "not_logged", more)
		}
		return answer{status: http.StatusServiceUnavailable, outcome: Failed, code: code, message: message}
	}
	r.count(e, res)
	r.Log.LogAttrs(context.Background(), slog.LevelInfo, "event", slog.String("id", e.ID), slog.String("type", clip(e.Type)),
		slog.String("payment", res.PaymentID), slog.String("outcome", string(res.Status)+reasonSuffix(res)), slog.Float64("ms", milliseconds(took)))
	return answer{status: http.StatusOK, outcome: string(res.Status),
		result: &result{status: res.Status, reason: res.Reason, eventID: e.ID, paymentID: res.PaymentID}}
}

// wave is a context for all requests that begin within a moment: each of its own would cost a timer.
type wave struct {
	context.Context
	began time.Time
}

// waveTime is that moment. The last ones have so much less time, and who began a little before it so much more.
const waveTime = 100 * time.Millisecond

// wave ends when a request that began then is to be answered at the latest.
func (r *Receiver) wave(start time.Time) context.Context {
	w := r.newest.Load()
	if w != nil && w.began.Sub(start).Abs() < waveTime {
		return w
	}
	next := &wave{began: start}
	var cancel context.CancelFunc
	next.Context, cancel = context.WithDeadline(context.Background(), start.Add(answerTimeout))
	context.AfterFunc(next, cancel)       // nobody ends it before its time
	if w == nil || start.After(w.began) { // else its body took long
		r.newest.CompareAndSwap(w, next)
	}
	return next
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

// clip bounds what somebody else wrote before it is logged.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// refuseUnread answers a request whose body is not read. The connection is closed: what is still
// coming on it is not worth waiting for.
func (r *Receiver) refuseUnread(w http.ResponseWriter, status int, code, message string) answer {
	w.Header().Set("Connection", "close")
	return answer{status: status, outcome: Rejected, unread: true, code: code, message: message}
}

// refuseSignature counts and answers a signature that was not accepted. The sender learns the code;
// the log gets what helps to find the cause. body is nil where it was not read.
func (r *Receiver) refuseSignature(w http.ResponseWriter, req *http.Request, sig stripe.Signature, body []byte, err error) answer {
	rejection := &stripe.Rejection{Code: stripe.MalformedSignature}
	_ = errors.As(err, &rejection) // it is one
	code := rejection.Code
	r.diagnosis.note(string(code), req, r.Now())
	r.Metrics.SignatureFailure(string(code))
	r.standBack()
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
	return answer{status: http.StatusBadRequest, outcome: Rejected, code: string(code), message: signatureMessages[code]}
}

const (
	standBackTime  = 20 * time.Millisecond
	standBackPause = 200 * time.Microsecond
)

// standBack waits for the commit under way to end, for a moment at most. A commit gives its processor away with each call to the
// disk and gets it back only after all who can run: many forged requests would make it, and all who wait for it, slow.
func (r *Receiver) standBack() {
	for end := time.Now().Add(standBackTime); r.Ledger.Committing() && time.Now().Before(end); {
		time.Sleep(standBackPause)
	}
}

// signatureMessages tell the sender nothing it could use.
var signatureMessages = map[stripe.Code]string{
	stripe.MissingSignature:   "The request is not signed.",
	stripe.MalformedSignature: "The signature header is not of Stripe's form.",
	stripe.SignatureMismatch:  "The signature does not match.",
	stripe.TimestampTooOld:    "The signature is too old.",
	stripe.TimestampInFuture:  "The signature is from the future.",
}

// notice counts and logs a body that was not read for a reason that somebody should mend.
func (r *Receiver) notice(code, cause string, req *http.Request) {
	if code != bodyIncomplete {
		return
	}
	r.diagnosis.note(code, req, r.Now())
	if ok, more := r.causes.allow(code, r.Now()); ok {
		r.diagnosis.refused[code].cause.Store(&cause)
		r.Log.Warn("body not whole", "code", code, "cause", cause, "remote", r.remote(req), "content_length", req.ContentLength, "not_logged", more)
	}
}
