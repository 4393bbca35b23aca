package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tillhook/ledger"
)

// typesPerCall is the maximum number of event types in a call.
// https://docs.stripe.com/api/events/list
const typesPerCall = 20

// TypeGroups returns Types in as few groups as one call each allows.
func TypeGroups() [][]string {
	parts := (len(Types) + typesPerCall - 1) / typesPerCall
	return slices.Collect(slices.Chunk(Types[:], (len(Types)+parts-1)/parts))
}

// Page is one page of a list at Stripe, newest first.
type Page struct {
	Events  []*ledger.Event
	Next    string  // id to continue after; empty on the last page
	Skipped []error // one error for each object that could not be read
}

// Events returns one page of an account's events with a creation time in [from, to), Unix seconds,
// after the event with the id after. types are at most 20 event types; without types the page has
// events of all types, including those not in [Types]. An event whose body names no account belongs
// to the account that was asked. The caller sets Source and Received.
// https://docs.stripe.com/api/events/list
func (a *API) Events(ctx context.Context, account Account, livemode bool, types []string, from, to int64,
	after string) (Page, error) {
	params := url.Values{"created[gte]": {strconv.FormatInt(from, 10)}, "created[lt]": {strconv.FormatInt(to, 10)}}
	if len(types) > 0 {
		params["types[]"] = types
	}
	data, next, _, err := a.page(ctx, "/v1/events", account, params, after)
	page := Page{Next: next}
	for _, raw := range data {
		page.Events = append(page.Events, decodeFor(raw, account, livemode))
	}
	return page, err
}

// decodeFor decodes an event from the list of an account.
func decodeFor(raw []byte, account Account, livemode bool) *ledger.Event {
	e := Decode(raw, livemode)
	if e.Account == "" {
		e.Account = account.ID
	}
	if e.Context == "" && e.Account == account.ID {
		e.Context = account.Context
	}
	return e
}

// HasEvent reports whether an account has the event. Stripe deletes events after 30 days.
// https://docs.stripe.com/api/events/retrieve
func (a *API) HasEvent(ctx context.Context, account Account, id string) (bool, error) {
	if !usableID(id) {
		return false, nil
	}
	var e json.RawMessage
	_, err := a.call(ctx, http.MethodGet, "/v1/events/"+url.PathEscape(id), account, nil, &e)
	var refused *APIError
	if errors.As(err, &refused) && (refused.Missing() || account != (Account{}) && refused.Forbidden()) {
		return false, nil
	}
	return err == nil, err
}

// Event reads an event by its id. The caller sets Source and Received. Stripe deletes events after
// 30 days. https://docs.stripe.com/api/events/retrieve
func (a *API) Event(ctx context.Context, account Account, livemode bool, id string) (*ledger.Event, error) {
	var raw json.RawMessage
	if _, err := a.call(ctx, http.MethodGet, "/v1/events/"+url.PathEscape(id), account, nil, &raw); err != nil {
		return nil, err
	}
	e := decodeFor(raw, account, livemode)
	if e.ID != id {
		return nil, fmt.Errorf("asked for the event %.60q, Stripe answered with %.60q: %w", id, e.ID, ErrNotStripe)
	}
	return e, nil
}

// objects are the kinds of objects that events are about and that can be fetched.
var objects = []object{
	{"payment_intent", "/v1/payment_intents", []string{"pi_"},
		expansions{links: []string{"latest_charge"}, balance: []string{"latest_charge.balance_transaction"}}},
	{"charge", "/v1/charges", []string{"ch_", "py_"}, expansions{links: []string{"refunds"}, balance: []string{"balance_transaction"}}},
	{"refund", "/v1/refunds", []string{"re_", "pyr_"}, expansions{balance: []string{"balance_transaction", "failure_balance_transaction"}}},
	{"dispute", "/v1/disputes", []string{"dp_", "du_"}, expansions{}},
	{"checkout.session", "/v1/checkout/sessions", []string{"cs_"}, expansions{}},
}

// object is a kind of object that can be fetched.
type object struct {
	kind, path string
	prefixes   []string // prefixes of its ids
	expand     expansions
}

// ErrNoObject means that an id is not one of an object that can be fetched.
var ErrNoObject = errors.New("it is not the id of a PaymentIntent, a charge, a refund, a dispute or a Checkout Session")

// Fetch reads the present state of an object and returns it as an event of our own.
func (a *API) Fetch(ctx context.Context, account Account, livemode bool, id string) (*ledger.Event, error) {
	for _, o := range objects {
		if !usableID(id) || !o.hasID(id) {
			continue
		}
		var raw json.RawMessage
		var as answerInfo
		err := a.balance.read(account, nil, o.expand, "", func(params url.Values) (err error) {
			as, err = a.call(ctx, http.MethodGet, o.path+"/"+id, account, params, &raw)
			return err
		})
		if err != nil {
			return nil, err
		}
		return newFetchedEvent(raw, account, livemode, as)
	}
	return nil, fmt.Errorf("%.60q: %w", id, ErrNoObject)
}

// ListRefunds returns one page of a charge's refunds, as events of our own, after the id after.
func (a *API) ListRefunds(ctx context.Context, account Account, livemode bool, charge, after string) (Page, error) {
	return a.listObjects(ctx, account, livemode, "refund", url.Values{"charge": {charge}}, after)
}

// ListedKinds are the kinds of objects that ListObjects accepts.
var ListedKinds = [...]string{"charge", "refund", "dispute"}

// ListObjects returns one page of the objects of a kind that were created since a time in Unix
// seconds, as events of our own, after the id after.
func (a *API) ListObjects(ctx context.Context, account Account, livemode bool, kind string, since int64,
	after string) (Page, error) {
	if !slices.Contains(ListedKinds[:], kind) {
		return Page{}, fmt.Errorf("%.60q is not listed: %w", kind, ErrNoObject)
	}
	return a.listObjects(ctx, account, livemode, kind, url.Values{"created[gte]": {strconv.FormatInt(since, 10)}}, after)
}

// listObjects returns one page of objects. It skips an object that cannot be read, which must not
// hide those after it.
func (a *API) listObjects(ctx context.Context, account Account, livemode bool, kind string, params url.Values,
	after string) (Page, error) {
	o := objects[slices.IndexFunc(objects, func(o object) bool { return o.kind == kind })]
	var page Page
	var data []json.RawMessage
	var as answerInfo
	// Charges are listed without their refunds, which have a list of their own.
	err := a.balance.read(account, params, expansions{balance: o.expand.balance}, "data.", func(params url.Values) (err error) {
		data, page.Next, as, err = a.page(ctx, o.path, account, params, after)
		return err
	})
	for _, raw := range data {
		e, err := newFetchedEvent(raw, account, livemode, as)
		if err != nil {
			page.Skipped = append(page.Skipped, err)
			continue
		}
		page.Events = append(page.Events, e)
	}
	return page, err
}

// newFetchedEvent returns an event made from an object that Stripe's API returned. It has the form
// of Stripe's events, so that it is decoded like any other, now and later. The time of the answer
// is part of its id.
func newFetchedEvent(object json.RawMessage, account Account, livemode bool, as answerInfo) (*ledger.Event, error) {
	var o struct {
		ID       string `json:"id"`
		Object   string `json:"object"`
		Livemode *bool  `json:"livemode"`
	}
	if err := json.Unmarshal(object, &o); err != nil || !usableID(o.ID) || o.Object == "" {
		return nil, fmt.Errorf("an object from Stripe has no id or no type: %w", ErrNotStripe)
	}
	if o.Livemode != nil && *o.Livemode != livemode {
		return nil, fmt.Errorf("the object %s from Stripe is of %s mode: the API key is of another mode than this receiver", o.ID, ledger.ModeName(*o.Livemode))
	}
	body, err := json.Marshal(struct {
		ID         string          `json:"id"`
		Object     string          `json:"object"`
		Account    string          `json:"account,omitempty"`
		Context    string          `json:"context,omitempty"`
		APIVersion string          `json:"api_version"`
		Created    int64           `json:"created"`
		Data       json.RawMessage `json:"data"`
		Livemode   bool            `json:"livemode"`
		Type       string          `json:"type"`
	}{ledger.FetchedPrefix + o.ID + "_" + strconv.FormatInt(as.date, 10), "event", account.ID, account.Context, as.version, as.date,
		slices.Concat(json.RawMessage(`{"object":`), object, json.RawMessage("}")), livemode, o.Object + ".fetched"})
	if err != nil {
		return nil, fmt.Errorf("make an event of %s: %w", o.ID, err)
	}
	e := Decode(body, livemode)
	if e.Quarantine != "" || !e.Facts.AboutPayment() {
		return nil, fmt.Errorf("the object %s (%.40q) from Stripe is unreadable: %w", o.ID, o.Object, ErrNotStripe)
	}
	return e, nil
}

// ResolveThin decodes a thin event after its related object was fetched. The facts then name the
// object's payment.
func ResolveThin(body []byte, livemode bool, object *ledger.Event) *ledger.Event {
	e := Decode(body, livemode)
	if e.Quarantine == ledger.ThinEvent && e.Livemode == livemode {
		e.Quarantine, e.Expected, e.Snapshot = "", false, ""
		e.Facts = ledger.Facts{PaymentIntent: object.Facts.PaymentIntent, Charge: object.Facts.Charge}
	}
	return e
}

// Endpoint is a webhook endpoint at Stripe. https://docs.stripe.com/api/webhook_endpoints/object
type Endpoint struct {
	ID            string   `json:"id"`
	URL           string   `json:"url"`
	Status        string   `json:"status"` // enabled, disabled
	Livemode      bool     `json:"livemode"`
	EnabledEvents []string `json:"enabled_events"`
	APIVersion    string   `json:"api_version"` // empty for the account's default
	Application   string   `json:"application"` // empty unless it receives events of connected accounts
	Description   string   `json:"description"`
	Created       int64    `json:"created"`
	Secret        string   `json:"secret,omitempty"` // only in the answer to its creation
}

// Connect reports whether the endpoint receives events of connected accounts. Other endpoints
// receive events of their own account. https://docs.stripe.com/connect/webhooks
func (e *Endpoint) Connect() bool { return e.Application != "" }

// Enabled reports whether the endpoint is enabled.
func (e *Endpoint) Enabled() bool { return e.Status == "enabled" }

// MissingTypes returns the types in [Types] that are not selected for the endpoint.
func (e *Endpoint) MissingTypes() []string {
	if slices.Contains(e.EnabledEvents, "*") {
		return nil
	}
	var missing []string
	for _, t := range Types {
		if !slices.Contains(e.EnabledEvents, t) {
			missing = append(missing, t)
		}
	}
	return missing
}

// Endpoints returns the webhook endpoints of the key's mode. skipped has an error for each endpoint
// that cannot be read.
func (a *API) Endpoints(ctx context.Context) (list []Endpoint, skipped []error, err error) {
	skipped, err = readWholeList("webhook endpoints", maxEndpointPages, func(after string) ([]json.RawMessage, string, error) {
		data, next, _, err := a.page(ctx, endpointsPath, Account{}, nil, after)
		return data, next, err
	}, func(raw json.RawMessage) error {
		var e Endpoint
		if err := json.Unmarshal(raw, &e); err != nil || !usableID(e.ID) {
			return unreadable(raw)
		}
		if len(e.URL) > maxURL {
			return fmt.Errorf("the URL of %s has %d bytes", e.ID, len(e.URL))
		}
		list = append(list, e)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return list, skipped, nil
}

// maxURL bounds the URL of an endpoint, which appears in messages and log lines.
const maxURL = 2048

const endpointsPath = "/v1/webhook_endpoints"

// maxEndpointPages bounds the list of endpoints. Stripe allows 16 endpoints.
// https://docs.stripe.com/webhooks
const maxEndpointPages = 5

// CreateEndpoint creates an endpoint for [Types]. The Secret is only in this answer.
// https://docs.stripe.com/api/webhook_endpoints/create
func (a *API) CreateEndpoint(ctx context.Context, address, apiVersion, description string) (*Endpoint, error) {
	var e Endpoint
	_, err := a.call(ctx, http.MethodPost, endpointsPath, Account{}, url.Values{
		"url": {address}, "enabled_events[]": Types[:], "api_version": {apiVersion}, "description": {description},
	}, &e)
	if err == nil && (e.ID == "" || !strings.HasPrefix(e.Secret, "whsec_")) {
		err = fmt.Errorf("the endpoint was created, but Stripe returned no secret: %w", ErrNotStripe)
	}
	return &e, err
}

// SetTypes sets the event types of an endpoint.
// https://docs.stripe.com/api/webhook_endpoints/update
func (a *API) SetTypes(ctx context.Context, id string, types []string) (*Endpoint, error) {
	return a.updateEndpoint(ctx, id, url.Values{"enabled_events[]": types})
}

// EnableEndpoint enables an endpoint.
func (a *API) EnableEndpoint(ctx context.Context, id string) (*Endpoint, error) {
	return a.updateEndpoint(ctx, id, url.Values{"disabled": {"false"}})
}

func (a *API) updateEndpoint(ctx context.Context, id string, params url.Values) (*Endpoint, error) {
	if !usableID(id) {
		return nil, fmt.Errorf("%.60q is not the id of an endpoint", id)
	}
	var e Endpoint
	_, err := a.call(ctx, http.MethodPost, endpointsPath+"/"+id, Account{}, params, &e)
	return &e, err
}

// Destination is an event destination in Stripe's API v2. It shows which endpoints receive thin
// events.
// https://docs.stripe.com/api/v2/core/event-destinations/object
type Destination struct {
	ID         string   `json:"id"`
	Payload    string   `json:"event_payload"` // snapshot, thin
	Status     string   `json:"status"`        // enabled, disabled
	EventsFrom []string `json:"events_from"`   // @self, @accounts, @organization_members; older: self, other_accounts
	Webhook    *struct {
		URL string `json:"url"`
	} `json:"webhook_endpoint"`
}

// URL returns the URL of a webhook endpoint, or "" for another destination.
func (d *Destination) URL() string {
	if d.Webhook == nil {
		return ""
	}
	return d.Webhook.URL
}

// Destinations returns the event destinations. skipped has an error for each that cannot be read.
func (a *API) Destinations(ctx context.Context) (list []Destination, skipped []error, err error) {
	first := url.Values{"include[0]": {"webhook_endpoint.url"}, "limit": {strconv.Itoa(pageSize)}}
	skipped, err = readWholeList("event destinations", maxDestinationPages, func(at string) ([]json.RawMessage, string, error) {
		next, err := url.Parse(at)
		if err != nil || at != "" && next.Path != destinationsPath {
			return nil, "", fmt.Errorf("the list of event destinations names an invalid next page: %w", ErrNotStripe)
		}
		params := next.Query()
		if at == "" {
			params = first
		}
		var page struct {
			Data []json.RawMessage `json:"data"`
			Next string            `json:"next_page_url"`
		}
		_, err = a.call(ctx, http.MethodGet, destinationsPath, Account{}, params, &page)
		return page.Data, page.Next, err
	}, func(raw json.RawMessage) error {
		var d Destination
		if err := json.Unmarshal(raw, &d); err != nil || !usableID(d.ID) || len(d.URL()) > maxURL {
			return unreadable(raw)
		}
		list = append(list, d)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return list, skipped, nil
}

const destinationsPath = "/v2/core/event_destinations"

// maxDestinationPages bounds the list of event destinations. Accounts have few of them.
const maxDestinationPages = 20
