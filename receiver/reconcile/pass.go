package reconcile

import (
	"context"
	"errors"
	"fmt"

	"tillhook/receiver/stripe"
)

// pass asks Stripe for single objects, one after the other. Failing calls for one connected account
// do not stop calls for other accounts.
type pass struct {
	*round
	own       []error         // errors of calls for the key's own account
	budgetErr error           // set when connected accounts have no calls left today
	refused   map[string]bool // connected accounts that Stripe refused in this pass
	failures  map[bool]int    // failed calls that may succeed later; the key is true for connected accounts
	validated bool            // Stripe was asked whether it accepts the key
}

func (w *round) pass() *pass {
	return &pass{round: w, refused: map[string]bool{}, failures: map[bool]int{}}
}

// result is what became of an object.
type result int

const (
	done    result = iota // nothing left to do today
	skipped               // not called; due in the next round
	failed                // the call failed; due in the next round
)

// do runs call for an object of an account, unless the pass skips that account. It returns an error
// only if the pass has to end.
func (p *pass) do(ctx context.Context, account, what string, call func() error) (result, error) {
	connected := account != ""
	if out, r := p.skips(account); out {
		return r, nil
	}
	p.limitForObjects(connected)
	err := call()
	if connected && errors.Is(err, errBudget) {
		p.budgetErr = err
		return done, nil
	}
	return p.classify(ctx, err, account, what)
}

// skips reports whether the pass makes no calls for an account, and the result for its objects. An
// account that Stripe refuses is skipped until the next day.
func (p *pass) skips(account string) (bool, result) {
	if account == "" {
		return false, done
	}
	if p.budgetErr != nil || p.refused[account] {
		return true, done
	}
	a := p.findAccount(account)
	if a != nil && a.isRefused() {
		return true, done
	}
	return a != nil && a.refused != 0 || p.failures[true] >= maxFailures, skipped
}

// classify returns the result of a call, and reports an object that is not retried today.
func (p *pass) classify(ctx context.Context, err error, account, what string) (result, error) {
	connected := account != ""
	var call *callError
	var refused *stripe.APIError
	switch {
	case err == nil:
		return done, nil
	case ctx.Err() != nil, errors.Is(err, stripe.ErrPaused):
		return done, err
	case connected && refusesAccount(err):
		if errors.As(err, &refused) && refused.Refused() && !p.validated { // the key itself may have been revoked
			if err := p.keyValid(ctx); err != nil {
				return done, err
			}
			p.validated = true
		}
		p.refused[account] = true
		p.reportProblem("refused call/"+account, "%s of account %s is skipped until the next day: %v", what, account, err)
		return done, nil
	case p.skipObject(err, what):
		return done, nil
	case !errors.As(err, &call) || errors.As(err, &refused) && refused.Refused():
		return done, err // an error of the ledger or of the key
	}
	p.failures[connected]++
	if connected {
		p.reportProblem("later/"+what+"/"+problemKey(err), "%s of account %s could not be fetched; trying again later: %v",
			what, account, err)
		return failed, nil
	}
	if p.failures[false] >= maxFailures {
		return failed, err
	}
	p.own = append(p.own, fmt.Errorf("%s: %w", what, err))
	return failed, nil
}

// err returns the errors of the pass. ended is the error that ended it early, if any.
func (p *pass) err(ended error) error { return errors.Join(append(p.own, p.budgetErr, ended)...) }

// refusesAccount reports whether Stripe refused the account of a call and not the object.
func refusesAccount(err error) bool {
	var refused *stripe.APIError
	return errors.As(err, &refused) && (refused.Refused() || refused.NoAccess())
}

// asCallError wraps the error of a call in a callError, unless the call was not made.
func asCallError(err error) error {
	if spent := (*spendError)(nil); err == nil || errors.As(err, &spent) {
		return err
	}
	return &callError{err}
}
