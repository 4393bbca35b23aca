package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	"tillhook/ledger"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
)

// checkAPI reports whether Stripe accepts the key.
func checkAPI(_ context.Context, x *examination) []health.Finding {
	switch {
	case x.keyAccepted():
		return ok(health.API, "Stripe accepts the key.")
	case isRefused(x.listErr):
		return fail(health.API, "use a key that is in the Dashboard (Developers, API keys); it may have been rolled "+
			"or deleted", "Stripe does not accept the API key: %v.", x.listErr)
	}
	return unknown(health.API, "see whether this machine gets out: curl -v https://api.stripe.com/healthcheck",
		"Stripe's API could not be asked: %v.", x.listErr)
}

func isRefused(err error) bool {
	var refused *stripe.APIError
	return errors.As(err, &refused) && refused.Refused()
}

func isForbidden(err error) bool {
	var refused *stripe.APIError
	return errors.As(err, &refused) && refused.Forbidden()
}

// checkClock compares this machine's clock with that of Stripe's answers.
func checkClock(_ context.Context, x *examination) []health.Finding {
	if skew, known := x.api.Skew(); known {
		return []health.Finding{reconcile.ClockFinding(skew)}
	}
	return unknown(health.Clock, "see whether it is set: timedatectl status",
		"This machine's clock could not be compared with Stripe's.")
}

// checkPermissions tries the requests of a reconciliation.
func checkPermissions(ctx context.Context, x *examination) []health.Finding {
	live := x.config.Livemode
	var lacking []string
	now := x.api.Clocks().Corrected().Unix()
	_, eventsErr := x.api.Events(ctx, stripe.Account{}, live, stripe.Types[:1], now-1, now, "")
	_, intentErr := x.api.Fetch(ctx, stripe.Account{}, live, "pi_tillhookdoctor")
	tries := []error{eventsErr, intentErr}
	for _, kind := range stripe.ListedKinds {
		_, err := x.api.ListObjects(ctx, stripe.Account{}, live, kind, now, "")
		tries = append(tries, err)
	}
	for _, err := range tries {
		var refused *stripe.APIError
		switch {
		case err == nil || errors.As(err, &refused) && refused.Missing():
		case refused != nil && refused.Forbidden():
			p := refused.Permission()
			if p == "" {
				return fail(health.APIPermissions, "use a key of the account whose payments these are",
					"The API key may not read what reconciling needs: %v.", refused)
			}
			if !slices.Contains(lacking, p) {
				lacking = append(lacking, p)
			}
		default:
			return unknown(health.APIPermissions, "try again", "The permissions of the key could not be tested: %v.",
				err)
		}
	}
	if len(lacking) > 0 {
		return fail(health.APIPermissions,
			"give the restricted key these permissions (Dashboard, Developers, API keys)",
			"The API key lacks the permissions %s: missed events cannot be fetched.", strings.Join(lacking, ", "))
	}
	return ok(health.APIPermissions, "The API key may read what reconciling needs.")
}

// checkConnect tries whether the key may read connected accounts, with some of which the receiver
// has events. It fails only if Stripe refuses all of them.
func checkConnect(ctx context.Context, x *examination) []health.Finding {
	x.connect = true
	var names []string
	for _, a := range x.knownAccounts(ctx) {
		now := x.api.Clocks().Corrected().Unix()
		_, err := x.api.Events(ctx, a, x.config.Livemode, nil, now-1, now, "")
		var refused *stripe.APIError
		switch {
		case err == nil:
			return ok(health.APIConnect, "The API key may read connected accounts.")
		case errors.As(err, &refused) && (refused.Forbidden() || refused.Refused() || refused.Missing()):
			names = append(names, a.ID)
		default:
			return unknown(health.APIConnect, "try again",
				"Whether the API key may read connected accounts is unknown: %v.", err)
		}
	}
	if len(names) == 0 {
		return nil
	}
	x.connect = false
	return fail(health.APIConnect, reconcile.ConnectAdvice,
		"The API key may not read connected accounts (%s): their missed events cannot be fetched.", strings.Join(names,
			", "))
}

// knownAccounts returns a few connected accounts of which the receiver has events.
func (x *examination) knownAccounts(ctx context.Context) (list []stripe.Account) {
	var at reconcile.Progress
	if answer, err := x.client.Get(ctx, "/api/reconcile", nil); err == nil && json.Unmarshal(answer, &at) == nil {
		list = at.Connected
	}
	var events operator.List[*ledger.EventRecord]
	answer, err := x.client.Get(ctx, "/api/events", url.Values{"limit": {"100"}})
	if err == nil && json.Unmarshal(answer, &events) == nil {
		own := x.ownID(ctx, events.Data)
		list = slices.DeleteFunc(list, func(a stripe.Account) bool { return a.ID == own })
		for _, e := range events.Data {
			a := stripe.Account{ID: string(e.Account), Context: string(e.Context)}
			if a.ID != "" && a.ID != own && !slices.ContainsFunc(list, func(known stripe.Account) bool { return known.ID == a.ID }) {
				list = append(list, a)
			}
		}
	}
	return list[:min(len(list), reconcile.MaxSample)]
}

// ownID returns the id of the key's own account if one of the events may be of that account by
// their context, as events of API v2 are. It returns "" if the id is unknown.
func (x *examination) ownID(ctx context.Context, events []*ledger.EventRecord) string {
	if !slices.ContainsFunc(events, func(e *ledger.EventRecord) bool { return e.Account != "" && e.Account == e.Context }) {
		return ""
	}
	id, err := x.api.OwnAccount(ctx)
	if err != nil {
		return ""
	}
	return id
}

// checkAccount asks Stripe for some of the last delivered events, to see whether the key is of the
// account that they come from. Where the key may not read connected accounts, their events say
// nothing about that.
func checkAccount(ctx context.Context, x *examination) []health.Finding {
	var list operator.List[*ledger.EventRecord]
	answer, err := x.client.Get(ctx, "/api/events", url.Values{"limit": {"50"}})
	if err == nil {
		err = json.Unmarshal(answer, &list)
	}
	own := x.ownID(ctx, list.Data)
	for _, e := range list.Data {
		if string(e.Account) == own {
			e.Account, e.Context = "", ""
		}
	}
	if !x.connect {
		list.Data = slices.DeleteFunc(list.Data, func(e *ledger.EventRecord) bool { return e.Account != "" })
	}
	sample := reconcile.Deliveries(list.Data, x.api.Clocks().Corrected())
	known := false
	for _, e := range sample {
		if err == nil && !known {
			known, err = x.api.HasEvent(ctx, stripe.Account{ID: string(e.Account), Context: string(e.Context)}, e.ID)
		}
	}
	switch {
	case isForbidden(err): // checkPermissions reports that
		return nil
	case err != nil:
		return unknown(health.APIAccount, "try again",
			"Whether the key belongs to the endpoint's account is unknown: %v.", err)
	}
	return []health.Finding{reconcile.AccountFinding(known, len(sample))}
}

// checkEndpoint examines the endpoint of this receiver at Stripe.
func checkEndpoint(_ context.Context, x *examination) (list []health.Finding) {
	if isForbidden(x.listErr) {
		list = unknown(health.Endpoint, "give the restricted key the permission Webhook Endpoints: Read",
			"The API key may not see the webhook endpoints: %v.", x.listErr)
	}
	list = append(list, unjudged(health.Endpoint, x.skipped)...)
	if x.listErr == nil {
		list = append(list, reconcile.Examine(x.endpoints, x.config.Endpoint(), x.config.Livemode).Findings...)
	}
	return list
}

// unjudged reports endpoints that could not be read.
func unjudged(code health.Code, skipped []error) (list []health.Finding) {
	for _, err := range skipped {
		list = append(list, unknown(code, "look at the endpoints in the Dashboard (Workbench, Webhooks)",
			"One of the endpoints could not be examined: %v.", err)...)
	}
	return list
}

// checkPayload reports whether the endpoint is sent snapshot or thin events.
func checkPayload(ctx context.Context, x *examination) []health.Finding {
	address := x.config.Endpoint()
	if address == "" || x.listErr != nil {
		return nil
	}
	destinations, skipped, err := x.api.Destinations(ctx)
	if err != nil {
		return unknown(health.EndpointPayload,
			"give the restricted key the permission Event Destinations: Read, or look in the Dashboard (Workbench, "+
				"Webhooks)",
			"Whether the endpoint is sent snapshot or thin events is unknown: %v.", err)
	}
	return append(unjudged(health.EndpointPayload, skipped), reconcile.Payload(destinations, address))
}
