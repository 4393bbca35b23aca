package reconcile

import (
	"context"
	"errors"
	"fmt"

	"tillhook/receiver/stripe"
)

// pass asks Stripe for single objects, one after the other. A connected account for which calls
// fail keeps no other account's objects from being asked for.
type pass struct {
	*round
	own       []error         // failures of calls for the key's own account
	unpaid    error           // why no more calls for connected accounts may be made today
	refused   map[string]bool // connected accounts that Stripe refused in this pass
	failures  map[bool]int    // calls that failed and may succeed later, by whether they were for a connected account
	validated bool            // Stripe accepts the key itself
}

func (w *round) pass() *pass {
	return &pass{round: w, refused: map[string]bool{}, failures: map[bool]int{}}
}

// result is what became of an object that was to be asked for.
type result int

const (
	settled result = iota // nothing is left to do today
	leftOut               // it was not asked for, and is due in the next round
	failed                // the call failed; it is due in the next round
)

// ask makes the calls of do for an account, unless that account is left out. It returns an error
// only where the pass has to end; what is then was not asked for, or has to be asked for again.
func (p *pass) ask(ctx context.Context, account, what string, do func() error) (result, error) {
	connected := account != ""
	if out, r := p.leavesOut(account); out {
		return r, nil
	}
	p.beyond(connected)
	err := do()
	if connected && errors.Is(err, errBudget) {
		p.unpaid = err
		return settled, nil
	}
	return p.judge(ctx, err, account, what)
}

// leavesOut reports whether nothing is asked for an account in this pass. An account that Stripe
// refuses is left out until the next day: while it is refused, a call tells nothing new.
func (p *pass) leavesOut(account string) (bool, result) {
	if account == "" {
		return false, settled
	}
	if p.unpaid != nil || p.refused[account] {
		return true, settled
	}
	a := p.find(account)
	if a != nil && a.out() {
		return true, settled
	}
	return a != nil && a.refused != 0 || p.failures[true] >= maxFailures, leftOut
}

// judge decides how the pass goes on after a call, and reports what is not asked for again today.
func (p *pass) judge(ctx context.Context, err error, account, what string) (result, error) {
	connected := account != ""
	var call *callError
	var refused *stripe.APIError
	switch {
	case err == nil:
		return settled, nil
	case ctx.Err() != nil, errors.Is(err, stripe.ErrPaused):
		return settled, err
	case connected && refusesAccount(err):
		if errors.As(err, &refused) && refused.Refused() && !p.validated { // the key may have been revoked
			if err := p.keyValid(ctx); err != nil {
				return settled, err
			}
			p.validated = true
		}
		p.refused[account] = true
		p.problem("refused call/"+account, "%s of account %s is left as it is until the next day: %v", what, account, err)
		return settled, nil
	case p.goesOn(err, what):
		return settled, nil
	case !errors.As(err, &call) || errors.As(err, &refused) && refused.Refused():
		return settled, err // a failure of the ledger, or of the key
	}
	p.failures[connected]++
	if connected {
		p.problem("later/"+what+"/"+keyOf(err), "%s of account %s could not be fetched, and is asked for again later: %v",
			what, account, err)
		return failed, nil
	}
	if p.failures[false] >= maxFailures {
		return failed, err
	}
	p.own = append(p.own, fmt.Errorf("%s: %w", what, err))
	return failed, nil
}

// err returns why the pass was no success, where ended is why it ended early.
func (p *pass) err(ended error) error { return errors.Join(append(p.own, p.unpaid, ended)...) }

// refusesAccount reports whether a call for a connected account was refused because of the account,
// and not because of what was asked for.
func refusesAccount(err error) bool {
	var refused *stripe.APIError
	return errors.As(err, &refused) && (refused.Refused() || refused.NoAccess())
}

// calling marks the error of a call, in contrast to one of the ledger or of a call that was not
// made.
func calling(err error) error {
	if spent := (*spendError)(nil); err == nil || errors.As(err, &spent) {
		return err
	}
	return &callError{err}
}
