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

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"

	"tillhook/ledger"
)

const (
	// callTimeout is how long one try of a call may take, its answer included.
	callTimeout = 30 * time.Second
	// maxAnswer bounds an answer in bytes. Reading one takes some four times as much memory.
	maxAnswer = 16 << 20
	// callTries is how often a call is tried that Stripe was too busy for.
	callTries = 5
	// longestPause is how long a call waits between two tries. Where Retry-After asks for more, calls fail until then.
	longestPause = time.Minute
	// longestBar bounds a Retry-After: a wrong one must not keep the API from being called for
	// years.
	longestBar = time.Hour
	// callPause keeps calls below the 25 a second that Stripe allows. https://docs.stripe.com/rate-limits
	callPause = 50 * time.Millisecond
)

// Account names the Stripe account whose data a call reads. The zero value is the account that the
// key belongs to.
type Account struct {
	ID      string `json:"id"`      // acct_…; empty for the key's own account
	Context string `json:"context"` // of a member of an organization, as its events name it; empty elsewhere
}

// set names the account in a call's headers: a member of an organization by its context, a
// connected account by its id.
// https://docs.stripe.com/context, https://docs.stripe.com/connect/authentication
func (a Account) set(p *stripego.Params) {
	switch {
	case a.Context != "":
		p.Headers.Set("Stripe-Context", a.Context)
	case a.ID != "":
		p.StripeAccount = stripego.String(a.ID)
	}
}

// API asks Stripe's API with one key. Its methods may be called from any goroutine.
type API struct {
	key     atomic.Pointer[string]
	keys    atomic.Uint64 // see [API.Keys]
	backend stripego.Backend
	agent   string

	// Failed, if set, is told how each try failed: an HTTP status, or "network". It must not block.
	Failed func(code string)

	// Transport, if set before the first call, takes the place of the network.
	Transport http.RoundTripper

	// Wall, if set before the first call, takes the place of this machine's clock.
	Wall func() time.Time

	Pause   time.Duration // between the beginnings of two tries; set before the first call
	Backoff time.Duration // after the first try that failed, then twice as long each time; set before the first call

	mu     sync.Mutex // guards what follows
	next   time.Time  // when another try may begin
	barred time.Time  // until when Stripe asked not to be called
	asked  int        // seconds that Stripe last asked to wait for

	clock   atomic.Pointer[answered]
	seen    atomic.Int64 // see [API.Saw]
	balance balanceAccess
}

// Restricted reports whether the key is a restricted one, which can lack permissions.
func (a *API) Restricted() bool { return strings.HasPrefix(*a.key.Load(), "rk_") }

// NewAPI returns a client for a key. base is nil for Stripe's own address; version is this program's. It connects with the first call.
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

// SetKey replaces the key, from the next call on. What the old one was refused is asked for again.
func (a *API) SetKey(key string) {
	if key != *a.key.Load() {
		a.key.Store(&key)
		a.keys.Add(1)
		a.balance.forget()
	}
}

// Keys returns how often the key was replaced: another one can be of another account.
func (a *API) Keys() uint64 { return a.keys.Load() }

func newTransport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	t.ResponseHeaderTimeout = callTimeout
	return t
}

// refuseRedirect: the key goes where it was meant to go, or nowhere.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// transport sees every answer before stripe-go does: it reads Stripe's clock and bounds the body.
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
	resp, err := base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if date, ok := dateOf(resp); ok {
		t.api.clock.Store(&answered{date, begun.Add(time.Since(begun) / 2)})
	}
	try, _ := r.Context().Value(attemptKey{}).(*attempt)
	if try != nil {
		// A date in the future would outrank every later event.
		try.status, try.date, try.version = resp.StatusCode, t.api.Clocks().Earlier().Unix(), resp.Header.Get("Stripe-Version")
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			try.retryAfter = seconds
		}
	}
	resp.Body = &bounded{resp.Body, maxAnswer, try}
	return resp, nil
}

// bounded is a body that fails when it is longer than it may be.
type bounded struct {
	io.ReadCloser
	left int64
	try  *attempt // nil where there is none
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		if b.try != nil {
			b.try.long = true
		}
		return 0, ErrLong
	}
	return n, err
}

// APIError is a call that Stripe answered, and did not do.
type APIError struct {
	Path    string
	Status  int    // HTTP
	Code    string // Stripe's, as "resource_missing"; may be empty
	Message string // Stripe's; may be empty
	Request string // its id, for Stripe's support; may be empty
}

func (e *APIError) Error() string {
	s := fmt.Sprintf("Stripe answers %d to %s", e.Status, e.Path)
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

// Refused tells that the key is not accepted at all.
func (e *APIError) Refused() bool { return e.Status == http.StatusUnauthorized }

// Forbidden tells that the key may not do this.
func (e *APIError) Forbidden() bool { return e.Status == http.StatusForbidden }

// Permission names what a restricted key lacks, as the Dashboard has it; empty where that is not known.
// https://docs.stripe.com/keys/restricted-api-keys
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

// NoAccess reports whether Stripe says that the key has no access to the account that a call names:
// it has disconnected, or the key is of another platform. https://docs.stripe.com/error-codes
func (e *APIError) NoAccess() bool {
	return e.Code == string(stripego.ErrorCodeAccountInvalid) || strings.Contains(e.Message, "does not have access to account")
}

// LacksPermission reports whether Stripe says that a restricted key lacks a permission.
func (e *APIError) LacksPermission() bool {
	return e.Forbidden() && (strings.Contains(e.Message, "required permissions") || strings.Contains(e.Message, "'rak_"))
}

// Missing tells that there is no such thing.
func (e *APIError) Missing() bool {
	return e.Status == http.StatusNotFound || e.Code == string(stripego.ErrorCodeResourceMissing)
}

// answer holds the JSON of whatever Stripe answered, as it came.
type answer struct {
	stripego.APIResource
	raw []byte
}

// UnmarshalJSON keeps the bytes.
func (w *answer) UnmarshalJSON(b []byte) error {
	w.raw = append(w.raw[:0], b...)
	return nil
}

// attempt is one try of a call, as the transport saw it end.
type attempt struct {
	status     int    // HTTP; 0 where there was no answer
	date       int64  // when Stripe answered, Unix seconds: by its clock, or by ours where that is earlier
	version    string // the API version of the answer; empty where the answer does not name it
	retryAfter int    // seconds that Stripe asked to wait for; negative where it asked for nothing
	long       bool   // the answer was longer than it may be
}

type attemptKey struct{}

// rendering is when and in which API version an answer was made.
type rendering struct {
	date    int64 // Unix seconds, by Stripe's clock or by ours, whichever is earlier
	version string
}

type budgetKey struct{}

// WithBudget returns a context with which spend is called before every request to Stripe, retries
// and the pages of lists included. Where it returns an error the request is not made, and the call
// returns that error.
func WithBudget(ctx context.Context, spend func() error) context.Context {
	return context.WithValue(ctx, budgetKey{}, spend)
}

// call makes one call, several times where Stripe is busy, and reads the answer into v. Every call
// names [PinnedVersion], so that the shape of an answer depends neither on the SDK nor on the
// account's default.
// https://docs.stripe.com/api/versioning
func (a *API) call(ctx context.Context, method, path string, account Account, params url.Values, v any) (rendering, error) {
	var body form.Values
	for _, name := range slices.Sorted(maps.Keys(params)) {
		for _, value := range params[name] {
			body.Add(name, value)
		}
	}
	p := &stripego.Params{Headers: http.Header{"User-Agent": {a.agent}, "Stripe-Version": {PinnedVersion}}}
	account.set(p)
	if method != http.MethodGet { // the same for every try, so that it is done once
		p.IdempotencyKey = stripego.String(stripego.NewIdempotencyKey())
	}
	spend, _ := ctx.Value(budgetKey{}).(func() error)
	for tries := 1; ; tries++ {
		if spend != nil {
			if err := spend(); err != nil {
				return rendering{}, err
			}
		}
		if err := a.await(ctx, path); err != nil {
			return rendering{}, err
		}
		try := &attempt{retryAfter: -1}
		p.Context = context.WithValue(ctx, attemptKey{}, try)
		var w answer
		err := a.backend.CallRaw(method, path, *a.key.Load(), &body, p, &w)
		if err != nil && ctx.Err() == nil {
			a.count(try)
		}
		if err == nil {
			if err := json.Unmarshal(w.raw, v); err != nil {
				return rendering{}, fmt.Errorf("what Stripe answers to %s cannot be read: %w", path, ErrNotStripe)
			}
			return rendering{try.date, cmp.Or(try.version, PinnedVersion)}, nil
		}
		if tries == callTries || !try.busy() || sleep(ctx, a.pauseAfter(try, tries)) != nil {
			return rendering{}, explain(ctx, path, try, err)
		}
	}
}

// await spaces calls out, and makes none while Stripe has asked for that.
func (a *API) await(ctx context.Context, path string) error {
	a.mu.Lock()
	now := time.Now()
	if left, asked := a.barred.Sub(now), a.asked; left > longestPause {
		a.mu.Unlock()
		more := ""
		if asked > int(longestBar/time.Second) {
			more = fmt.Sprintf(" (its Retry-After was %d s, of which at most %s are waited)", asked, longestBar)
		}
		return fmt.Errorf("not called for %s: Stripe %w for %s yet%s", path, ErrBarred, left.Round(time.Second), more)
	}
	at := a.next
	if at.Before(a.barred) {
		at = a.barred
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

// count tells how a try failed: an answer that broke off came over a network, too.
func (a *API) count(try *attempt) {
	code := "network"
	if try.status >= 300 {
		code = strconv.Itoa(try.status)
	}
	if a.Failed != nil {
		a.Failed(code)
	}
}

// busy tells that a try that failed may be made again: Stripe is asked too often, or at fault itself, or its answer did not
// come, or not whole.
func (t *attempt) busy() bool {
	return !t.long && (t.status < 300 || t.status == http.StatusTooManyRequests || t.status == http.StatusConflict || t.status >= 500)
}

// pauseAfter is how long to wait after so many tries. What Stripe asks for counts for every call.
func (a *API) pauseAfter(try *attempt, tries int) time.Duration {
	if try.retryAfter >= 0 {
		a.mu.Lock()
		a.barred, a.asked = time.Now().Add(min(time.Duration(min(try.retryAfter, 1<<30))*time.Second, longestBar)), try.retryAfter
		a.mu.Unlock()
		return 0 // await waits
	}
	return min(a.Backoff<<(tries-1), longestPause)
}

// explain makes an error that can be told: neither the key nor what was asked for stands in it.
func explain(ctx context.Context, path string, try *attempt, err error) error {
	var refused *stripego.Error
	switch {
	case errors.As(err, &refused):
		return &APIError{Path: path, Status: refused.HTTPStatusCode, Code: withoutKeys(string(refused.Code), longestID),
			Message: withoutKeys(refused.Msg, longestMessage), Request: withoutKeys(refused.RequestID, longestID)}
	case ctx.Err() != nil:
		return Plainly(ctx.Err())
	case try.long:
		return fmt.Errorf("what Stripe answers to %s cannot be read: %w", path, ErrLong)
	case try.status != 0:
		return fmt.Errorf("the answer to %s (HTTP %d) %w: something between here and Stripe answers in its place, or breaks answers off", path, try.status, ErrCut)
	}
	err = Plainly(err)
	err = &readableError{err} // it can hold the names in a certificate of somebody else's
	return fmt.Errorf("no answer from Stripe's API: it cannot be reached for %s: %w; look at this machine's network and DNS, and at a firewall for what goes out", path, err)
}

const (
	// longestMessage bounds Stripe's own words in an error, in bytes.
	longestMessage = 300
	// longestID bounds a code and a request's id in one.
	longestID = 80
)

// withoutKeys makes Stripe's words readable and removes what looks like a key: Stripe quotes a part
// of a wrong one.
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

// readableError is an error with a readable text.
type readableError struct{ error }

func (e *readableError) Error() string { return readable(e.error.Error(), longestMessage) }
func (e *readableError) Unwrap() error { return e.error }

// readable returns a text from elsewhere for a log line or a sentence: without characters that a
// terminal acts on, and at most so many bytes long but for the mark of what was cut off.
func readable(text string, most int) string {
	cut := len(text) > most
	if cut {
		text = strings.ToValidUTF8(text[:most], "")
	}
	if text = ledger.Escape(text); len(text) > most {
		text, cut = strings.ToValidUTF8(text[:most], ""), true
	}
	if cut {
		text += "…"
	}
	return text
}

// ErrCut is wrapped by errors about answers that are not whole, or no JSON at all.
var ErrCut = errors.New("was cut short or is no JSON")

// ErrBarred is wrapped by errors of calls that were not made because Stripe asked for a pause.
var ErrBarred = errors.New("asked to wait")

// ErrNotStripe is wrapped by errors about answers that are not in the form that Stripe documents.
var ErrNotStripe = errors.New("it is not what Stripe documents; is STRIPE_API_BASE right?")
