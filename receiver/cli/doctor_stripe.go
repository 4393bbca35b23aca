package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
)

// stripeChecks are those that need Stripe's API.
var stripeChecks = []health.Code{health.API, health.Clock, health.APIPermissions, health.Endpoint, health.EndpointPayload}

// stripeTime bounds all that a doctor asks of Stripe.
const stripeTime = 40 * time.Second

// lookAtStripe asks Stripe's API what it knows of us.
func (d *doctor) lookAtStripe(ctx context.Context) {
	if d.api == nil {
		why, next := "there is no API key", "see the finding on the API key"
		switch {
		case d.offline:
			why, next = "it was told to stay offline", "leave out --offline to have it asked"
		case d.config == nil:
			why, next = "the configuration is wrong, or cannot be read", "see the finding on the environment"
		}
		for _, code := range stripeChecks {
			d.unknown(code, next, "Stripe was not asked: %s.", why)
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stripeTime)
	defer cancel()
	var all []stripe.Endpoint
	var skipped []error
	err := inTime(ctx, func(ctx context.Context) (err error) {
		all, skipped, err = d.api.Endpoints(ctx)
		return err
	})
	var refused *stripe.APIError
	if errors.As(err, &refused) && refused.Forbidden() {
		d.ok(health.API, "Stripe accepts the key.")
		d.unknown(health.Endpoint, "give the restricted key the permission Webhook Endpoints: Read", "The API key may not see the webhook endpoints: %v.", refused)
	} else if errors.As(err, &refused) && refused.Refused() {
		d.fail(health.API, "use a key that is in the Dashboard (Developers, API keys); it may have been rolled or deleted", "Stripe does not accept the API key: %v.", err)
	} else if err != nil {
		d.unknown(health.API, "see whether this machine gets out: curl -v https://api.stripe.com/healthcheck", "Stripe's API could not be asked: %v.", err)
	} else {
		d.ok(health.API, "Stripe accepts the key.")
	}
	for _, err := range skipped {
		d.unknown(health.Endpoint, "look at the endpoints in the Dashboard (Workbench, Webhooks)", "Of the endpoints one could not be judged: %v.", err)
	}
	if skew, ok := d.api.Skew(); ok {
		d.found(reconcile.Clock(skew))
	} else {
		d.unknown(health.Clock, "see whether it is set: timedatectl status", "This machine's clock could not be compared with Stripe's.")
	}
	if err != nil && (refused == nil || refused.Refused()) {
		return
	}
	d.permissions(ctx)
	d.acquaintance(ctx, d.connected(ctx))
	if err != nil {
		return
	}
	address := d.config.Endpoint()
	d.found(reconcile.Examine(all, address, d.config.Livemode).Findings...)
	if address != "" {
		d.payload(ctx, address)
	}
}

// permissions tries what reconciling needs.
func (d *doctor) permissions(ctx context.Context) {
	c := d.config
	var lacking []string
	now := d.api.Clocks().Corrected().Unix()
	_, eventsErr := d.api.Events(ctx, stripe.Account{}, c.Livemode, stripe.Types[:1], now-1, now, "")
	_, intentErr := d.api.Fetch(ctx, stripe.Account{}, c.Livemode, "pi_tillhookdoctor")
	tries := []error{eventsErr, intentErr}
	for _, kind := range stripe.ListedKinds {
		_, err := d.api.ListObjects(ctx, stripe.Account{}, c.Livemode, kind, now, "")
		tries = append(tries, err)
	}
	for _, err := range tries {
		var refused *stripe.APIError
		switch {
		case err == nil || errors.As(err, &refused) && refused.Missing():
		case refused != nil && refused.Forbidden():
			p := refused.Permission()
			if p == "" {
				d.fail(health.APIPermissions, "use a key of the account whose payments these are", "The API key may not read what reconciling needs: %v.", refused)
				return
			}
			if !slices.Contains(lacking, p) {
				lacking = append(lacking, p)
			}
		default:
			d.unknown(health.APIPermissions, "try again", "What the key may do could not be found out: %v.", err)
			return
		}
	}
	if len(lacking) > 0 {
		d.fail(health.APIPermissions, "give the restricted key these permissions (Dashboard, Developers, API keys)", "The API key lacks the permissions %s: what was missed cannot be fetched.", strings.Join(lacking, ", "))
		return
	}
	d.ok(health.APIPermissions, "The API key may read what reconciling needs.")
}

// acquaintance asks Stripe for what was delivered to the running receiver of late; where the key
// may not read connected accounts, without their events, which say nothing of the key's own account
// then.
func (d *doctor) acquaintance(ctx context.Context, connected bool) {
	if d.client == nil {
		return
	}
	var list operator.List[*ledger.EventRecord]
	answer, err := d.client.Get(ctx, "/api/events", url.Values{"limit": {"50"}})
	if err == nil {
		err = json.Unmarshal(answer, &list)
	}
	if !connected {
		list.Data = slices.DeleteFunc(list.Data, func(e *ledger.EventRecord) bool { return e.Account != "" })
	}
	some := reconcile.Deliveries(list.Data, d.api.Clocks().Corrected())
	known := false
	for _, e := range some {
		if err == nil && !known {
			known, err = d.api.HasEvent(ctx, stripe.Account{ID: string(e.Account), Context: string(e.Context)}, e.ID)
		}
	}
	var refused *stripe.APIError
	switch {
	case errors.As(err, &refused) && refused.Forbidden(): // it is told of already
	case err != nil:
		d.unknown(health.APIAccount, "try again", "Whether the key is of the endpoint's account could not be found out: %v.", err)
	default:
		d.found(reconcile.Acquainted(known, len(some)))
	}
}

// connected tries whether the key may read connected accounts, with some that the running receiver
// knows. It reports false only where Stripe refuses them all.
func (d *doctor) connected(ctx context.Context) bool {
	accounts := d.knownAccounts(ctx)
	var names []string
	for _, a := range accounts {
		now := d.api.Clocks().Corrected().Unix()
		_, err := d.api.Events(ctx, a, d.config.Livemode, nil, now-1, now, "")
		var refused *stripe.APIError
		switch {
		case err == nil:
			d.ok(health.APIConnect, "The API key may read connected accounts.")
			return true
		case errors.As(err, &refused) && (refused.Forbidden() || refused.Refused() || refused.Missing()):
			names = append(names, a.ID)
		default:
			d.unknown(health.APIConnect, "try again",
				"Whether the API key may read connected accounts could not be found out: %v.", err)
			return true
		}
	}
	if len(names) > 0 {
		d.fail(health.APIConnect, reconcile.ConnectAdvice,
			"The API key may not read connected accounts (%s): what was missed of them cannot be fetched.", strings.Join(names, ", "))
	}
	return len(names) == 0
}

// knownAccounts returns a few connected accounts that the running receiver had events of.
func (d *doctor) knownAccounts(ctx context.Context) (list []stripe.Account) {
	if d.client == nil {
		return nil
	}
	var at reconcile.Progress
	if answer, err := d.client.Get(ctx, "/api/reconcile", nil); err == nil && json.Unmarshal(answer, &at) == nil {
		list = at.Connected
	}
	var events operator.List[*ledger.EventRecord]
	answer, err := d.client.Get(ctx, "/api/events", url.Values{"limit": {"100"}})
	if err == nil && json.Unmarshal(answer, &events) == nil {
		for _, e := range events.Data {
			a := stripe.Account{ID: string(e.Account), Context: string(e.Context)}
			if a.ID != "" && !slices.ContainsFunc(list, func(known stripe.Account) bool { return known.ID == a.ID }) {
				list = append(list, a)
			}
		}
	}
	return list[:min(len(list), reconcile.MaxSample)]
}

func (d *doctor) payload(ctx context.Context, address string) {
	list, skipped, err := d.api.Destinations(ctx)
	if err != nil {
		d.unknown(health.EndpointPayload, "give the restricted key the permission Event Destinations: Read, or look in the Dashboard (Workbench, Webhooks)", "Whether the endpoint is sent whole or thin events could not be found out: %v.", err)
		return
	}
	for _, err := range skipped {
		d.unknown(health.EndpointPayload, "look at the endpoints in the Dashboard (Workbench, Webhooks)", "Of the endpoints one could not be judged: %v.", err)
	}
	d.found(reconcile.Payload(list, address))
}
