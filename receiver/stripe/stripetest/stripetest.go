// Package stripetest is a Stripe for tests: an account with events, endpoints and objects behind
// Stripe's API, on this machine. It follows Stripe's documentation of cursors, filters, limits and
// errors, and fails on request. It shares no code with the client that it tests.
package stripetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Account is a Stripe account in one mode. Its methods are safe for concurrent use.
type Account struct {
	URL string // base URL of the API
	Key string // the accepted API key

	mu        sync.Mutex // guards the fields below
	now       func() time.Time
	events    []object
	endpoints []object
	objects   []object
	denied    map[string]string // permission that the key lacks, by path
	faults    []Fault
	calls     []Call
	before    func(n int, r *http.Request)
	refuses   func(account string) bool // nil if no account is refused
	onCall    func(Call)
	made      int
}

// object is an event, an endpoint or another object.
type object struct {
	id, kind, typ, account string
	created                int64
	fields                 map[string]any
}

// Call is a request to the account. Account is the Stripe-Account header, or the account that
// Stripe-Context names.
type Call struct {
	Method, Path, Account, Context string
	Params                         url.Values
	Version                        string
}

// Version is the only Stripe-Version that an Account accepts.
const Version = "2026-08-26.dahlia"

// Fault makes a call fail.
type Fault struct {
	Path       string // prefix of the path; empty for any
	Account    string // account of the call; empty for any
	Status     int    // status of the error; 0 for no error
	RetryAfter string
	Slow       time.Duration // delay before the answer
	Cut        bool          // the answer is cut in the middle
	HTML       bool          // another server answers with HTML
}

// New starts an empty account, which stops at the end of the test.
func New(t testing.TB) *Account {
	t.Helper()
	a := Offline()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.URL = server.URL
	return a
}

// Offline returns an empty account that answers only through [Account.RoundTrip].
func Offline() *Account {
	return &Account{URL: "http://stripe.example", Key: "rk_test_51QbD7sKvHadernBlStripetest", now: time.Now, denied: map[string]string{}}
}

// SetNow sets Stripe's clock.
func (a *Account) SetNow(now func() time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = now
}

// AddEvent adds an event. If account is not empty, the event belongs to it and its body does not
// name it, as when the account itself lists the event.
func (a *Account) AddEvent(body []byte, account string) {
	fields := parse(body)
	if account != "" {
		delete(fields, "account")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, object{id: text(fields["id"]), kind: "event", typ: text(fields["type"]), account: account, created: number(fields["created"]), fields: fields})
}

// AddEndpoint adds a webhook endpoint.
func (a *Account) AddEndpoint(fields map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string]any{"object": "webhook_endpoint", "api_version": nil, "application": nil, "created": a.now().Unix(), "description": nil,
		"enabled_events": []any{"*"}, "livemode": strings.Contains(a.Key, "_live_"), "metadata": map[string]any{}, "status": "enabled"}
	for name, value := range fields {
		all[name] = value
	}
	a.endpoints = append(a.endpoints, object{id: text(all["id"]), kind: "webhook_endpoint", created: number(all["created"]), fields: all})
}

// Put creates or replaces an object.
func (a *Account) Put(body []byte, account string) {
	fields := parse(body)
	a.mu.Lock()
	defer a.mu.Unlock()
	o := object{id: text(fields["id"]), kind: text(fields["object"]), account: account, created: number(fields["created"]), fields: fields}
	a.objects = slices.DeleteFunc(a.objects, func(old object) bool { return old.id == o.id })
	a.objects = append(a.objects, o)
}

// Endpoint returns the fields of an endpoint, or nil.
func (a *Account) Endpoint(id string) map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.endpoints {
		if o.id == id {
			return o.fields
		}
	}
	return nil
}

// Deny makes calls to a path fail because the key lacks a permission such as rak_event_read. The
// path "expand/balance_transaction" stands for calls that expand that link.
func (a *Account) Deny(path, right string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied[path] = right
}

// SetKey replaces the accepted key.
func (a *Account) SetKey(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Key = key
}

// Fail makes the next calls fail, one for each fault.
func (a *Account) Fail(faults ...Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, faults...)
}

// ClearFaults removes the faults that have not happened yet.
func (a *Account) ClearFaults() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = nil
}

// Before calls do before each answer; n counts calls from 1.
func (a *Account) Before(do func(n int, r *http.Request)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.before = do
}

// OnCall calls do for each call when it arrives. do must not use the account.
func (a *Account) OnCall(do func(Call)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onCall = do
}

// Calls returns the calls so far.
func (a *Account) Calls() []Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

// RoundTrip answers a request without a network, for tests with fake time (testing/synctest).
func (a *Account) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// ServeHTTP answers as Stripe does.
func (a *Account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	account := asked(r)
	a.calls = append(a.calls, Call{r.Method, r.URL.Path, account, r.Header.Get("Stripe-Context"), r.Form, r.Header.Get("Stripe-Version")})
	if a.onCall != nil {
		a.onCall(a.calls[len(a.calls)-1])
	}
	before, n := a.before, len(a.calls)
	var fault Fault
	if i := slices.IndexFunc(a.faults, func(f Fault) bool {
		return strings.HasPrefix(r.URL.Path, f.Path) && (f.Account == "" || f.Account == account)
	}); i >= 0 {
		fault = a.faults[i]
		a.faults = slices.Delete(a.faults, i, i+1)
	}
	a.mu.Unlock()
	if before != nil {
		before(n, r)
	}
	select {
	case <-time.After(fault.Slow):
	case <-r.Context().Done():
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Date", a.now().UTC().Format(http.TimeFormat))
	w.Header().Set("Request-Id", fmt.Sprintf("req_%d", n))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Stripe-Version", r.Header.Get("Stripe-Version"))
	if fault.RetryAfter != "" {
		w.Header().Set("Retry-After", fault.RetryAfter)
	}
	switch {
	case fault.HTML:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(cmp.Or(fault.Status, http.StatusBadGateway))
		fmt.Fprint(w, "<html><body>Blocked by policy</body></html>")
		return
	case fault.Status != 0:
		refuse(w, fault.Status, "api_error", "", "It did not work.")
		return
	}
	status, answer := a.answer(r)
	body, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		panic(err)
	}
	if fault.Cut {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
}

func refuse(w http.ResponseWriter, status int, typ, code, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(failure(typ, code, message))
}

func failure(typ, code, message string) map[string]any {
	e := map[string]any{"type": typ, "message": message}
	if code != "" {
		e["code"] = code
	}
	return map[string]any{"error": e}
}

// asked returns the account that a request names with Stripe-Account or with the last element of
// Stripe-Context.
func asked(r *http.Request) string {
	context := r.Header.Get("Stripe-Context")
	if at := strings.LastIndex(context, "/"); at >= 0 {
		context = context[at+1:]
	}
	account := cmp.Or(r.Header.Get("Stripe-Account"), context)
	if account == own { // the key's own account
		return ""
	}
	return account
}

// own is the id of the account itself, as in the events of testdata.
const own = "acct_1QbD7sKvHadernBl"

// Refuse makes calls that name one of these accounts fail with 403, as Stripe does for an account
// that has disconnected and for a key without access to connected accounts. Without arguments it
// refuses every call that names an account.
func (a *Account) Refuse(accounts ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuses = func(account string) bool {
		return account != "" && (len(accounts) == 0 || slices.Contains(accounts, account))
	}
}

// Accept undoes Refuse.
func (a *Account) Accept() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuses = nil
}

// answer returns the answer to a request. The caller holds the lock.
func (a *Account) answer(r *http.Request) (status int, answer any) {
	if r.Header.Get("Authorization") != "Bearer "+a.Key {
		return http.StatusUnauthorized, failure("invalid_request_error", "", "Invalid API Key provided: sk_test_********************wrong")
	}
	for path, right := range a.denied {
		link, expands := strings.CutPrefix(path, "expand/")
		expands = expands && slices.ContainsFunc(r.URL.Query()["expand[]"], func(name string) bool { return strings.HasSuffix(name, link) })
		if expands || strings.HasPrefix(r.URL.Path, path) && (r.Method == http.MethodPost) == strings.HasSuffix(right, "_write") {
			return http.StatusForbidden, failure("invalid_request_error", "", "The provided key 'rk_test_*********etest' does not have the required permissions for this endpoint on account 'acct_1QbD7sKvHadernBl'. Having the '"+right+"' permission would allow this request to continue.")
		}
	}
	if got := r.Header.Get("Stripe-Version"); got != Version {
		return http.StatusBadRequest, failure("invalid_request_error", "", "This test requires the Stripe-Version "+Version+", not "+got+".")
	}
	if r.Header.Get("Stripe-Account") != "" && r.Header.Get("Stripe-Context") != "" {
		return http.StatusBadRequest, failure("invalid_request_error", "", "This test requires one of Stripe-Account and Stripe-Context.")
	}
	account := asked(r)
	if a.refuses != nil && a.refuses(account) {
		return http.StatusForbidden, failure("invalid_request_error", "account_invalid", "The provided key 'rk_test_*********etest' does not have access to account '"+account+"' (or that account does not exist). Application access may have been revoked.")
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	kind, id, _ := strings.Cut(path, "/")
	if strings.HasPrefix(path, "checkout/sessions") {
		kind, id = "checkout/sessions", strings.TrimPrefix(strings.TrimPrefix(path, "checkout/sessions"), "/")
	}
	switch {
	case r.URL.Path == "/v1/account" && r.Method == http.MethodGet:
		return http.StatusOK, map[string]any{"id": own, "object": "account"}
	case r.URL.Path == "/v2/core/event_destinations" && r.Method == http.MethodGet:
		return a.destinations(r)
	case kind == "webhook_endpoints" && r.Method == http.MethodPost:
		return a.writeEndpoint(r, id)
	case r.Method != http.MethodGet:
		return http.StatusMethodNotAllowed, failure("invalid_request_error", "", "This cannot be changed.")
	case kind == "events" && id == "":
		return a.list(r, "/v1/events", slices.DeleteFunc(slices.Clone(a.events), func(o object) bool {
			return o.account != account || o.created < a.now().Add(-30*24*time.Hour).Unix() || o.created > a.now().Unix()
		}))
	case kind == "events":
		for _, o := range a.events {
			if o.id == id && o.account == account {
				return http.StatusOK, o.fields
			}
		}
		return http.StatusNotFound, failure("invalid_request_error", "resource_missing", "No such event: '"+id+"'")
	case kind == "webhook_endpoints" && id == "":
		return a.list(r, "/v1/webhook_endpoints", a.endpoints)
	}
	kinds := map[string]string{"payment_intents": "payment_intent", "charges": "charge", "refunds": "refund", "disputes": "dispute", "checkout/sessions": "checkout.session"}
	if kinds[kind] == "" {
		return http.StatusNotFound, failure("invalid_request_error", "", "Unrecognized request URL ("+r.Method+": "+r.URL.Path+").")
	}
	own := slices.DeleteFunc(slices.Clone(a.objects), func(o object) bool { return o.kind != kinds[kind] || o.account != account })
	if id == "" {
		return a.list(r, "/v1/"+kind, own)
	}
	for _, o := range own {
		if o.id == id {
			return http.StatusOK, a.expand(o, r.Form["expand[]"])
		}
	}
	return http.StatusNotFound, failure("invalid_request_error", "resource_missing", "No such "+kinds[kind]+": '"+id+"'")
}

// expand replaces ids with their objects. A name may lead into an expanded object:
// "latest_charge.balance_transaction".
func (a *Account) expand(o object, names []string) map[string]any {
	fields := maps.Clone(o.fields)
	for _, name := range names {
		first, rest, nested := strings.Cut(name, ".")
		if first == "refunds" {
			var data []any
			for _, f := range a.objects {
				if f.kind == "refund" && f.fields["charge"] == o.id {
					data = append(data, f.fields)
				}
			}
			fields["refunds"] = map[string]any{"object": "list", "data": data[:min(len(data), 10)], "has_more": len(data) > 10}
			continue
		}
		id := text(fields[first])
		if inner, ok := fields[first].(map[string]any); ok {
			id = text(inner["id"])
		}
		for _, other := range a.objects {
			if other.id == id && nested {
				fields[first] = a.expand(other, []string{rest})
			} else if other.id == id {
				fields[first] = other.fields
			}
		}
	}
	return fields
}

// list returns a page, newest first. https://docs.stripe.com/api/pagination
func (a *Account) list(r *http.Request, path string, of []object) (status int, answer any) {
	bad := func(format string, args ...any) (int, any) {
		return http.StatusBadRequest, failure("invalid_request_error", "parameter_invalid", fmt.Sprintf(format, args...))
	}
	limit := 10
	types := map[string]bool{}
	after := ""
	from, to := int64(0), int64(1)<<62
	charge := ""
	var expand []string
	for name, values := range r.Form {
		n, err := strconv.ParseInt(values[0], 10, 64)
		switch name {
		case "limit":
			if err != nil || n < 1 || n > 100 {
				return bad("This value must be from 1 to 100.")
			}
			limit = int(n)
		case "types[]":
			if len(values) > 20 {
				return bad("Array types exceeds maximum 20 allowed elements.")
			}
			for _, v := range values {
				types[v] = true
			}
		case "created[gte]":
			from = n
		case "created[lt]":
			to = n
		case "starting_after":
			after = values[0]
		case "charge":
			charge = values[0]
		case "expand[]":
			for _, v := range values {
				name, ok := strings.CutPrefix(v, "data.")
				if !ok {
					return bad("This property cannot be expanded: %s", v)
				}
				expand = append(expand, name)
			}
		default:
			return bad("Received unknown parameter: %s", name)
		}
		if strings.HasPrefix(name, "created") && err != nil {
			return bad("Invalid integer: %s", values[0])
		}
	}
	of = slices.Clone(of)
	slices.Reverse(of)
	slices.SortStableFunc(of, func(x, y object) int { return cmp.Compare(y.created, x.created) })
	begun := after == ""
	data := []any{}
	more := false
	for _, o := range of {
		if !begun {
			begun = o.id == after
			continue
		}
		if o.created < from || o.created >= to || len(types) > 0 && !types[o.typ] || charge != "" && o.fields["charge"] != charge {
			continue
		}
		if len(data) == limit {
			more = true
			break
		}
		data = append(data, a.expand(o, expand))
	}
	if !begun {
		return http.StatusBadRequest, failure("invalid_request_error", "resource_missing", "No such object: '"+after+"'")
	}
	return http.StatusOK, map[string]any{"object": "list", "url": path, "has_more": more, "data": data}
}

// destinations returns the endpoints in the form of API v2. An endpoint with the field
// event_payload reports that payload.
func (a *Account) destinations(r *http.Request) (status int, answer any) {
	for name := range r.Form {
		if name != "limit" && !strings.HasPrefix(name, "include[") || name == "include[]" { // https://docs.stripe.com/api-v2-overview
			return http.StatusBadRequest, failure("invalid_request_error", "parameter_unknown", "Received unknown parameter: "+name)
		}
	}
	data := []any{}
	for _, o := range a.endpoints {
		d := map[string]any{"id": "ed_" + o.id, "object": "v2.core.event_destination", "type": "webhook_endpoint", "event_payload": "snapshot", "webhook_endpoint": nil}
		if payload, ok := o.fields["event_payload"]; ok {
			d["event_payload"] = payload
		}
		if slices.Contains(r.Form["include[0]"], "webhook_endpoint.url") {
			d["webhook_endpoint"] = map[string]any{"url": o.fields["url"]}
		}
		data = append(data, d)
	}
	return http.StatusOK, map[string]any{"data": data, "next_page_url": nil, "previous_page_url": nil}
}

// writeEndpoint creates or changes an endpoint.
func (a *Account) writeEndpoint(r *http.Request, id string) (status int, answer any) {
	if r.Header.Get("Idempotency-Key") == "" {
		return http.StatusBadRequest, failure("idempotency_error", "", "This test requires an Idempotency-Key.")
	}
	changed := map[string]any{}
	for name, values := range r.PostForm {
		switch name {
		case "url", "api_version", "description":
			changed[name] = values[0]
		case "enabled_events[]":
			var list []any
			for _, v := range values {
				list = append(list, v)
			}
			changed["enabled_events"] = list
		case "disabled":
			changed["status"] = map[string]string{"true": "disabled", "false": "enabled"}[values[0]]
		default:
			return http.StatusBadRequest, failure("invalid_request_error", "parameter_unknown", "Received unknown parameter: "+name)
		}
	}
	if id != "" {
		for _, o := range a.endpoints {
			if o.id == id {
				for name, value := range changed {
					o.fields[name] = value
				}
				return http.StatusOK, o.fields
			}
		}
		return http.StatusNotFound, failure("invalid_request_error", "resource_missing", "No such webhook endpoint: '"+id+"'")
	}
	if len(a.endpoints) >= 16 {
		return http.StatusBadRequest, failure("invalid_request_error", "", "You have reached the maximum of 16 test webhook endpoints.")
	}
	a.made++
	all := map[string]any{"id": fmt.Sprintf("we_1Made%d", a.made), "object": "webhook_endpoint", "application": nil, "created": a.now().Unix(),
		"livemode": strings.Contains(a.Key, "_live_"), "metadata": map[string]any{}, "status": "enabled"}
	for name, value := range changed {
		all[name] = value
	}
	a.endpoints = append(a.endpoints, object{id: text(all["id"]), kind: "webhook_endpoint", created: a.now().Unix(), fields: all})
	created := map[string]any{"secret": fmt.Sprintf("whsec_theSecretOfMade%d", a.made)}
	for name, value := range all {
		created[name] = value
	}
	return http.StatusOK, created
}

func parse(body []byte) map[string]any {
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	var fields map[string]any
	if err := d.Decode(&fields); err != nil {
		panic(fmt.Sprintf("a test's own body: %v", err))
	}
	return fields
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func number(v any) int64 {
	switch n := v.(type) {
	case json.Number:
		i, _ := n.Int64()
		return i
	case int64:
		return n
	case int:
		return int64(n)
	}
	return 0
}
