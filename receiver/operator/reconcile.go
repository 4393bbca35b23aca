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

// Comparer compares the ledger with what Stripe has.
type Comparer interface {
	// Reconcile looks so far back, 0 for as far as nothing was compared yet, and reports what it
	// did, also where it returns an error. A dry run writes nothing.
	Reconcile(ctx context.Context, since time.Duration, dryRun bool) (report any, err error)
	// Progress tells how far one has come that is under way.
	Progress() any
}

var errNoComparer = &Error{http.StatusConflict, "invalid_request", "there is nothing to compare with: a receiver must run, and have an API key (STRIPE_SECRET_KEY)"}

// Partial is an error of something that did a part of what it was to do. The answer holds both, and
// so does the error that a [Client] returns: there Report is a json.RawMessage.
type Partial struct {
	Err    error
	Report any
}

func (p *Partial) Error() string { return p.Err.Error() }

// Unwrap returns the error alone.
func (p *Partial) Unwrap() error { return p.Err }

// reconcile compares now (POST), or tells how far that has come (GET).
func (op *Operator) reconcile(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r)
	if r.Method != http.MethodPost {
		if err := q.end(); err != nil {
			return err
		}
		if op.Comparer == nil {
			return errNoComparer
		}
		op.write(w, r, http.StatusOK, op.Comparer.Progress())
		return nil
	}
	since, dryRun := q.seconds("since"), q.flag("dry_run")
	if err := q.end(); err != nil {
		return err
	}
	if op.Comparer == nil {
		return errNoComparer
	}
	unhurried(w)
	ctx, cancel := op.untilStopping(r.Context())
	defer cancel()
	var report any
	figure := func() string { return fmt.Sprintf("%+v", op.Comparer.Progress()) }
	err := during(w, r, figure, func() (err error) {
		report, err = op.Comparer.Reconcile(ctx, since, dryRun)
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

// seconds reads a span of time as a number of seconds from 0 to 30 days, which is what Stripe keeps.
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
		q.fail("%s is neither true nor false", name)
	}
	return s == "true"
}
