package stripe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tillhook/ledger/wording"

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
)

const (
	// callTimeout bounds one attempt of a call, including its answer.
	callTimeout = 30 * time.Second
	// maxAnswer bounds an answer in bytes. Reading one takes about three times as much memory.
	maxAnswer = 16 << 20
	// maxTries is the maximum number of attempts of a call.
	maxTries = 5
	// maxPause bounds the pause between two attempts. If Retry-After is longer, calls fail until
	// then.
	maxPause = time.Minute
	// maxRetryAfter bounds Retry-After, so that a wrong one does not stop calls for years.
	maxRetryAfter = time.Hour
	// callPause keeps calls below Stripe's limit of 25 per second.
	// https://docs.stripe.com/rate-limits
	callPause = 50 * time.Millisecond
)

// Account names the Stripe account whose data a call reads. The zero value is the account that the
// key belongs to.
type Account struct {
	ID      string `json:"id"`      // acct_…; empty for the key's own account
	Context string `json:"context"` // in an organization: the context that the account's events have; otherwise empty
}

// set names the account in the headers of a call: a member of an organization by its context, a
// connected account by its id.
// https://docs.stripe.com/context
// https://docs.stripe.com/connect/authentication
func (a Account) set(p *stripego.Params) {
	switch {
	case a.Context != "":
		p.Headers.Set("Stripe-Context", a.Context)
	case a.ID != "":
		p.StripeAccount = stripego.String(a.ID)
	}
}

// API calls Stripe's API with one key. Its methods are safe for concurrent use.
type API struct {
	key     atomic.Pointer[string]
	keys    atomic.Uint64 // number of replacements of the key
	backend stripego.Backend
	agent   string

	// Failed, if set, is called for each failed attempt with an HTTP status or "network". It must
	// not block.
	Failed func(code string)

	// Transport, if set before the first call, replaces the network.
	Transport http.RoundTripper

	// Wall, if set before the first call, replaces this machine's clock.
	Wall func() time.Time

	interactive bool // see [API.Interactive]
	silent      atomic.Bool

	Pause   time.Duration // between the starts of two attempts; set before the first call
	Backoff time.Duration // after the first failed attempt, then doubled; set before the first call

	mu          sync.Mutex     // guards the next four fields
	limits      map[string]int // objects per page by path, where pages were too long
	next        time.Time      // when the next attempt may start
	pausedUntil time.Time      // end of the Retry-After
	asked       int            // last Retry-After in seconds

	clock   atomic.Pointer[clockReading]
	seen    atomic.Int64 // see [API.SawEvent]
	balance balanceAccess
	own     atomic.Pointer[ownAccount] // nil before the first answer
}

// Restricted reports whether the key is a restricted key, which can lack permissions.
func (a *API) Restricted() bool { return strings.HasPrefix(*a.key.Load(), "rk_") }

// NewAPI returns a client. base is nil for Stripe's own address; version is the version of this
// program. It does not connect before the first call.
func NewAPI(key string, base *url.URL, version string) *API {
	address := stripego.APIURL
	if base != nil {
		address = strings.TrimSuffix(base.String(), "/")
	}
	a := &API{agent: "tillhook/" + version, Pause: callPause, Backoff: time.Second}
	a.key.Store(&key)
	a.backend = stripego.GetBackendWithConfig(stripego.APIBackend, &stripego.BackendConfig{
		URL: stripego.String(address), MaxNetworkRetries: stripego.Int64(0), EnableTelemetry: stripego.Bool(false),
		LeveledLogger: &stripego.LeveledLogger{Level: stripego.LevelNull},
		HTTPClient:    &http.Client{Timeout: callTimeout, Transport: &transport{api: a, base: newTransport()}, CheckRedirect: refuseRedirect},
	})
	return a
}

// SetKey replaces the key for all later calls. Permissions that the old key lacked are tried again.
func (a *API) SetKey(key string) {
	if key != *a.key.Load() {
		a.key.Store(&key)
		a.keys.Add(1)
		a.balance.forget()
	}
}

// Keys returns how often the key was replaced. The new key can belong to another account.
func (a *API) Keys() uint64 { return a.keys.Load() }

func newTransport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	t.ResponseHeaderTimeout = callTimeout
	return t
}

// refuseRedirect keeps the key from being sent to another address.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// transport handles every answer before stripe-go does: it reads Stripe's clock and bounds the
// body.
type transport struct {
	api  *API
	base http.RoundTripper
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	begun := time.Now()
	base := t.base
	if t.api.Transport != nil {
		base = t.api.Transport
	}
	if t.api.interactive {
		base = &firstByteTransport{api: t.api, base: base}
	}
	resp, err := base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, ok := readDate(resp); ok {
		t.api.clock.Store(&clockReading{date, begun.Add(time.Since(begun) / 2)})
	}
	try, _ := r.Context().Value(attemptKey{}).(*attempt)
	if try != nil {
		// A date in the future would take precedence over every later event.
		try.status, try.date, try.version = resp.StatusCode, t.api.Clocks().Earlier().Unix(), resp.Header.Get("Stripe-Version")
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			try.retryAfter = seconds
		}
	}
	most := int64(maxAnswer)
	if page, ok := r.Context().Value(pageKey{}).(int64); ok {
		most = page
	}
	resp.Body = &limitedBody{resp.Body, most, try}
	return resp, nil
}

// limitedBody is a body that fails if it is too long.
type limitedBody struct {
	io.ReadCloser
	left int64
	try  *attempt // nil if unknown
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		if b.try != nil {
			b.try.long = true
		}
		return 0, ErrLong
	}
	return n, err
}

// APIError is a call that Stripe answered with an error.
type APIError struct {
	Path    string
	Status  int    // HTTP
	Code    string // for example "resource_missing"; may be empty
	Message string // may be empty
	Request string // request id, for Stripe's support; may be empty
}

func (e *APIError) Error() string {
	s := fmt.Sprintf("Stripe answered %d to %s", e.Status, e.Path)
	if e.Code != "" {
		s += " (" + e.Code + ")"
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Request != "" {
		s += " [" + e.Request + "]"
	}
	if p := e.Permission(); p != "" {
		s += "; the key lacks the permission " + p + " (Dashboard, Developers, API keys)"
	}
	return s
}

// Refused reports whether Stripe rejected the key itself.
func (e *APIError) Refused() bool { return e.Status == http.StatusUnauthorized }

// Forbidden reports whether the key is not allowed to make the call.
func (e *APIError) Forbidden() bool { return e.Status == http.StatusForbidden }

// Permission returns the permission that a restricted key lacks, as the Dashboard names it, or ""
// if unknown. https://docs.stripe.com/keys/restricted-api-keys
func (e *APIError) Permission() string {
	if !e.Forbidden() || e.NoAccess() {
		return ""
	}
	right := "Read"
	if strings.Contains(e.Message, "_write'") {
		right = "Write"
	}
	for _, p := range [][2]string{
		{"/v1/events", "Events"}, {"/v1/webhook_endpoints", "Webhook Endpoints"}, {"/v1/payment_intents", "PaymentIntents"}, {"/v1/charges", "Charges and Refunds"},
		{"/v1/refunds", "Charges and Refunds"}, {"/v1/disputes", "Disputes"}, {"/v1/checkout/sessions", "Checkout Sessions"}, {"/v2/core/event_destinations", "Event Destinations"},
	} {
		if strings.HasPrefix(e.Path, p[0]) {
			return p[1] + ": " + right
		}
	}
	return ""
}

// NoAccess reports whether the key has no access to the account that the call names: the account
// has disconnected, or the key belongs to another platform. https://docs.stripe.com/error-codes
func (e *APIError) NoAccess() bool {
	return e.Code == string(stripego.ErrorCodeAccountInvalid) || strings.Contains(e.Message, "does not have access to account")
}

// LacksPermission reports whether a restricted key lacks a permission.
func (e *APIError) LacksPermission() bool {
	return e.Forbidden() && (strings.Contains(e.Message, "required permissions") || strings.Contains(e.Message, "'rak_"))
}

// Missing reports whether the object does not exist.
func (e *APIError) Missing() bool {
	return e.Status == http.StatusNotFound || e.Code == string(stripego.ErrorCodeResourceMissing)
}

// answer holds the JSON of an answer: the bytes that stripe-go has read, without another copy.
type answer struct{ stripego.APIResource }

// UnmarshalJSON decodes nothing.
func (w *answer) UnmarshalJSON([]byte) error { return nil }

// attempt is one attempt of a call, as the transport saw it.
type attempt struct {
	status     int    // HTTP; 0 without an answer
	date       int64  // time of the answer, Unix seconds: the earlier of Stripe's clock and ours
	version    string // API version of the answer; may be empty
	retryAfter int    // Retry-After in seconds; negative if absent
	long       bool   // the answer was too long
}

type attemptKey struct{}

// pageKey is the key of a context's limit for an answer in bytes, in place of maxAnswer.
type pageKey struct{}

// answerInfo is the time and the API version of an answer.
type answerInfo struct {
	date    int64 // Unix seconds: the earlier of Stripe's clock and ours
	version string
}

type budgetKey struct{}

// WithBudget returns a context in which every request to Stripe, including retries and pages of
// lists, first calls spend. If spend returns an error, the request is not made and the call returns
// the error.
func WithBudget(ctx context.Context, spend func() error) context.Context {
	return context.WithValue(ctx, budgetKey{}, spend)
}

// call makes one call, with retries, and decodes the answer into v. It always sends
// [PinnedVersion], so that the shape of the answer depends neither on the SDK nor on the account.
// https://docs.stripe.com/api/versioning
func (a *API) call(ctx context.Context, method, path string, account Account, params url.Values, v any) (answerInfo, error) {
	var body form.Values
	for _, name := range slices.Sorted(maps.Keys(params)) {
		for _, value := range params[name] {
			body.Add(name, value)
		}
	}
	p := &stripego.Params{Headers: http.Header{"User-Agent": {a.agent}, "Stripe-Version": {PinnedVersion}}}
	account.set(p)
	if method != http.MethodGet { // the same for every attempt, so that Stripe executes it once
		p.IdempotencyKey = stripego.String(stripego.NewIdempotencyKey())
	}
	spend, _ := ctx.Value(budgetKey{}).(func() error)
	for tries := 1; ; tries++ {
		if spend != nil {
			if err := spend(); err != nil {
				return answerInfo{}, err
			}
		}
		if err := a.waitTurn(ctx, path); err != nil {
			return answerInfo{}, err
		}
		if a.silent.Load() {
			return answerInfo{}, fmt.Errorf("not called for %s: %w before", path, ErrSilent)
		}
		try := &attempt{retryAfter: -1}
		p.Context = context.WithValue(ctx, attemptKey{}, try)
		var w answer
		err := a.backend.CallRaw(method, path, *a.key.Load(), &body, p, &w)
		if err != nil && ctx.Err() == nil {
			a.reportFailure(try)
		}
		if err == nil {
			if err := json.Unmarshal(w.LastResponse.RawJSON, v); err != nil {
				return answerInfo{}, fmt.Errorf("the answer to %s from Stripe cannot be read: %w", path, ErrNotStripe)
			}
			return answerInfo{try.date, cmp.Or(try.version, PinnedVersion)}, nil
		}
		if errors.Is(err, ErrSilent) || tries == maxTries || !try.retryable() || sleep(ctx, a.pauseAfter(try, tries)) != nil {
			return answerInfo{}, explain(ctx, path, try, err)
		}
	}
}

// waitTurn waits until the next attempt may start. It returns an error during a long Retry-After.
func (a *API) waitTurn(ctx context.Context, path string) error {
	a.mu.Lock()
	now := time.Now()
	most := maxPause
	if a.interactive {
		most = interactivePause
	}
	if left, asked := a.pausedUntil.Sub(now), a.asked; left > most {
		a.mu.Unlock()
		more := ""
		if asked > int(maxRetryAfter/time.Second) {
			more = fmt.Sprintf(" (its Retry-After was %d s; the maximum wait is %s)", asked, maxRetryAfter)
		}
		return fmt.Errorf("not called for %s: Stripe %w for another %s%s", path, ErrPaused, left.Round(time.Second), more)
	}
	at := a.next
	if at.Before(a.pausedUntil) {
		at = a.pausedUntil
	}
	if at.Before(now) {
		at = now
	}
	a.next = at.Add(a.Pause)
	a.mu.Unlock()
	return sleep(ctx, at.Sub(now))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reportFailure reports a failed attempt to Failed. An incomplete answer counts as "network".
func (a *API) reportFailure(try *attempt) {
	code := "network"
	if try.status >= 300 {
		code = strconv.Itoa(try.status)
	}
	if a.Failed != nil {
		a.Failed(code)
	}
}

// retryable reports whether a failed attempt may be repeated: 409, 429, 5xx, or no complete answer.
func (t *attempt) retryable() bool {
	return !t.long && (t.status < 300 || t.status == http.StatusTooManyRequests || t.status == http.StatusConflict || t.status >= 500)
}

// pauseAfter returns how long to wait before the next attempt. A Retry-After applies to all calls.
func (a *API) pauseAfter(try *attempt, tries int) time.Duration {
	if try.retryAfter >= 0 {
		a.mu.Lock()
		a.pausedUntil, a.asked = time.Now().Add(min(time.Duration(min(try.retryAfter, 1<<30))*time.Second, maxRetryAfter)), try.retryAfter
		a.mu.Unlock()
		return 0 // waitTurn waits
	}
	return min(a.Backoff<<(tries-1), maxPause)
}

// explain returns an error that is safe to log: it contains neither the key nor the parameters.
func explain(ctx context.Context, path string, try *attempt, err error) error {
	var refused *stripego.Error
	var silent *silence
	switch {
	case errors.As(err, &refused):
		return &APIError{Path: path, Status: refused.HTTPStatusCode, Code: withoutKeys(string(refused.Code), longestID),
			Message: withoutKeys(refused.Msg, longestMessage), Request: withoutKeys(refused.RequestID, longestID)}
	case ctx.Err() != nil:
		return PlainError(ctx.Err())
	case errors.As(err, &silent):
		return fmt.Errorf("%w to %s: %s; check this machine's network, and a firewall for outgoing connections",
			ErrSilent, path, silent.detail)
	case try.long:
		return fmt.Errorf("the answer to %s from Stripe cannot be read: %w", path, ErrLong)
	case try.status != 0:
		return fmt.Errorf("the answer to %s (HTTP %d) %w: a proxy or firewall in between answers for Stripe or cuts answers short", path, try.status, ErrCut)
	}
	err = PlainError(err)
	err = &readableError{err} // it can hold names from the certificate of another server
	return fmt.Errorf("no answer from Stripe's API to %s: %w; check this machine's network, DNS and outgoing firewall rules", path, err)
}

const (
	// longestMessage bounds Stripe's message in an error, in bytes.
	longestMessage = 300
	// longestID bounds a code or a request id in an error, in bytes.
	longestID = 80
)

// withoutKeys makes a message of Stripe readable and removes what looks like a key, because Stripe
// quotes a part of an invalid one.
func withoutKeys(message string, most int) string {
	words := strings.Fields(message[:min(len(message), 4*longestMessage)])
	for i, w := range words {
		for _, begin := range []string{"sk_", "rk_", "pk_", "whsec_"} {
			if strings.Contains(w, begin) {
				words[i] = begin + "…"
			}
		}
	}
	return readable(strings.Join(words, " "), most)
}

// readableError is an error with a text that is safe to print.
type readableError struct{ error }

func (e *readableError) Error() string { return readable(e.error.Error(), longestMessage) }
func (e *readableError) Unwrap() error { return e.error }

// readable returns a foreign text for a log line or a message: without control characters, and at
// most most bytes long, plus an ellipsis if it was cut.
func readable(text string, most int) string {
	cut := len(text) > most
	if cut {
		text = strings.ToValidUTF8(text[:most], "")
	}
	if text = wording.Escape(text); len(text) > most {
		text, cut = strings.ToValidUTF8(text[:most], ""), true
	}
	if cut {
		text += "…"
	}
	return text
}

// ErrCut is wrapped by errors about answers that are incomplete or not JSON.
var ErrCut = errors.New("was cut short or is not JSON")

// ErrPaused is wrapped by errors of calls that were not made because Stripe asked for a pause.
var ErrPaused = errors.New("asked to wait")

// ErrNotStripe is wrapped by errors about answers that differ from Stripe's documentation.
var ErrNotStripe = errors.New("this differs from Stripe's documentation; is STRIPE_API_BASE right?")
