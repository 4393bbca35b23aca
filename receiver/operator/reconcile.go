package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"tillhook/ledger"
)

// Reconciler compares the ledger with Stripe.
type Reconciler interface {
	// Reconcile compares the time since, or with 0 the time that was not compared yet. It returns a
	// report with and without an error. A dry run writes nothing.
	Reconcile(ctx context.Context, since time.Duration, dryRun bool) (report any, err error)
	// Progress returns how far the comparison in progress has come.
	Progress() any
}

var errNoReconciler = &Error{http.StatusConflict, "invalid_request",
	"reconciling needs a running receiver with an API key (STRIPE_SECRET_KEY)"}

// Partial is the error of a request that was carried out in part. The answer holds the error and
// the report, and so does the error that a [Client] returns: there Report is a json.RawMessage.
type Partial struct {
	Err    error
	Report any
}

func (p *Partial) Error() string { return p.Err.Error() }

// Unwrap returns the error without the report.
func (p *Partial) Unwrap() error { return p.Err }

// reconcile compares now (POST), or answers with the progress (GET).
func (op *Operator) reconcile(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r)
	if r.Method != http.MethodPost {
		if err := q.end(); err != nil {
			return err
		}
		if op.Reconciler == nil {
			return errNoReconciler
		}
		op.write(w, r, http.StatusOK, op.Reconciler.Progress())
		return nil
	}
	since, dryRun := q.seconds("since"), q.flag("dry_run")
	if err := q.end(); err != nil {
		return err
	}
	if op.Reconciler == nil {
		return errNoReconciler
	}
	unhurried(w)
	ctx, cancel := op.untilStopping(r.Context())
	defer cancel()
	var report any
	figure := func() string { return fmt.Sprintf("%+v", op.Reconciler.Progress()) }
	err := during(w, r, figure, func() (err error) {
		report, err = op.Reconciler.Reconcile(ctx, since, dryRun)
		return err
	})
	if err != nil {
		for _, own := range []error{ledger.ErrUnavailable, ledger.ErrOverloaded, ledger.ErrClosed, ledger.ErrCorrupt} {
			if errors.Is(err, own) {
				return &Partial{err, report}
			}
		}
		return &Partial{&Error{http.StatusBadGateway, "stripe_unavailable", err.Error()}, report}
	}
	op.write(w, r, http.StatusOK, report)
	return nil
}

// seconds reads a duration in seconds, up to the 30 days for which Stripe keeps events. The default
// is 0.
func (q *query) seconds(name string) time.Duration {
	s := q.text(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || n > 30*24*60*60 {
		q.fail("%s is not a number of seconds from 1 to 2592000 (30 days, which is how long Stripe keeps events)", name)
	}
	return time.Duration(n) * time.Second
}

func (q *query) flag(name string) bool {
	s := q.text(name)
	if s != "" && s != "true" && s != "false" {
		q.fail("%s must be true or false", name)
	}
	return s == "true"
}
