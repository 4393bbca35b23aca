package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/config"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

const (
	// stripeTime bounds all requests to Stripe's API, and listTime the first of them. Silence ends
	// them earlier: see [stripe.API.Interactive].
	stripeTime = 40 * time.Second
	listTime   = 15 * time.Second
)

// examination holds what was looked up before the checks.
type examination struct {
	Options
	misconfigured bool

	config    *config.Config   // nil while it has faults
	reported  []health.Finding // what the receiver reports of itself
	configErr error

	client      *operator.Client // of the running receiver; nil if none runs, or it cannot be asked
	tried       []string         // the sockets where none answered
	receiverErr error
	waiting     bool // the receiver waits for its ledger
	status      *operator.ReceiverStatus

	dir    ledger.DirState
	dirErr error

	api         *stripe.API // nil without a key, or offline
	stripeUntil time.Time
	endpoints   []stripe.Endpoint
	skipped     []error // endpoints that could not be judged
	listErr     error   // of the list of endpoints

	// What checks find out for later ones.
	connect   bool     // the key may read connected accounts, as far as that is known
	inside    bool     // a signed request is accepted at the webhook listener
	publicURL *url.URL // nil if it is not known
	reachable bool     // its host has an address and, if it is https, a valid certificate
}

// lookUp collects what the checks need.
func (x *examination) lookUp(ctx context.Context) {
	x.Waiting("the receiver")
	x.config, x.configErr = x.Settings.Receiver()
	x.lookUpReceiver(ctx)
	x.dir, x.dirErr = ledger.InspectDir(x.Settings.DataDir())
	if x.config != nil && x.config.SecretKey != "" && !x.Offline {
		x.api = stripe.NewAPI(x.config.SecretKey, x.config.StripeAPIBase, x.Version)
		x.api.Interactive()
		x.Waiting("Stripe's API")
		x.lookUpEndpoints(ctx)
	}
}

// lookUpReceiver finds the running receiver and asks for its status.
func (x *examination) lookUpReceiver(ctx context.Context) {
	client, tried, err := x.FindReceiver(ctx)
	if x.tried = tried; err != nil || client == nil {
		if x.receiverErr = err; err == nil {
			x.receiverErr = x.findWaiting(ctx)
		}
		x.waiting = isWaiting(x.receiverErr)
		return
	}
	var status operator.ReceiverStatus
	answer, err := client.Get(ctx, "/api/receiver", nil)
	if err == nil {
		err = json.Unmarshal(answer, &status)
	}
	if err != nil {
		x.receiverErr, x.waiting = &unanswered{err}, isWaiting(err)
		return
	}
	x.client, x.status = client, &status
}

// unanswered is the error of a receiver that was found and does not answer as it should.
type unanswered struct{ err error }

func (u *unanswered) Error() string { return u.err.Error() }
func (u *unanswered) Unwrap() error { return u.err }

// findWaiting looks for a receiver that waits for its ledger, where a receiver is recognized only
// by the ledger that it holds. It returns the receiver's answer, or nil if none waits.
func (x *examination) findWaiting(ctx context.Context) error {
	for _, at := range x.Settings.SocketPaths() {
		if !at.Ask {
			continue
		}
		if _, err := operator.Dial(at.Path).Get(ctx, "/api/receiver", nil); isWaiting(err) {
			return err
		}
	}
	return nil
}

// isWaiting reports whether an error is the answer of a receiver that waits for its ledger.
func isWaiting(err error) bool {
	var refused *operator.Error
	return errors.As(err, &refused) && refused.Code == "storage_unavailable"
}

// lookUpEndpoints asks Stripe for the endpoints of the account.
func (x *examination) lookUpEndpoints(ctx context.Context) {
	x.stripeUntil = time.Now().Add(stripeTime)
	bounded, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	x.endpoints, x.skipped, x.listErr = x.api.Endpoints(bounded)
	if x.listErr != nil && bounded.Err() != nil && ctx.Err() == nil {
		x.listErr = fmt.Errorf("%w for %s", stripe.ErrSilent, listTime)
	}
}

// keyAccepted reports whether Stripe accepts the key, though perhaps not for the list of endpoints.
func (x *examination) keyAccepted() bool {
	var refused *stripe.APIError
	return x.listErr == nil || errors.As(x.listErr, &refused) && !refused.Refused()
}

// unit returns the name of the service whose settings these are, as systemctl takes it.
func (x *examination) unit() string {
	if s := x.Settings.Keeper(); s != nil {
		return strings.TrimSuffix(s.Unit, ".service")
	}
	return "tillhook"
}

// utc returns a time, given in Unix seconds, as text.
func utc(t int64) string { return time.Unix(t, 0).UTC().Format("2006-01-02 15:04:05") }
