package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// budget is how many of a day's calls were made. It is kept in the ledger, so that a service that
// starts again and again does not begin anew each time.
type budget struct {
	day   int64 // since 1970, in UTC
	calls int64
}

const (
	budgetDay   = "reconcile-day"
	budgetCalls = "reconcile-calls"
)

const (
	// reservedCalls is the share of a day's calls, one in so many, that is kept for the key's own
	// account.
	reservedCalls = 20
	// keptAhead is how many calls are counted in the ledger before they are made: a crash forgets
	// none, and costs so many at most.
	keptAhead = 20
	// leastShare of the calls is what an account may use in a round however few are left.
	leastShare = 16
	// keepTime bounds the wait for what is kept when a round ends.
	keepTime = 2 * time.Second
)

var (
	errBudget = errors.New("the calls to Stripe's API for today are used up")
	// errShare ends the comparison of an account that would use up what others need.
	errShare = errors.New("one account may use half of the calls that are left for today")
)

const secondsADay = 24 * 60 * 60

// today is the day in UTC, counted from 1970.
func (r *Reconciler) today() int64 { return r.corrected().Unix() / secondsADay }

// midnight is when the next day's calls begin.
func (r *Reconciler) midnight() time.Time { return time.Unix((r.today()+1)*secondsADay, 0).UTC() }

// untilMidnight is at most a day, however wrong the clock is.
func (r *Reconciler) untilMidnight() time.Duration { return r.midnight().Sub(r.corrected()) }

func (r *Reconciler) loadBudget() (err error) {
	if r.spent.day, err = r.Ledger.Checkpoint(budgetDay); err == nil {
		r.spent.calls, err = r.Ledger.Checkpoint(budgetCalls)
	}
	return err
}

// available is how many calls a day may have made: all, or those that connected accounts may use.
func (r *Reconciler) available(connected bool) int64 {
	if connected {
		return int64(r.Calls - r.Calls/reservedCalls)
	}
	return int64(r.Calls)
}

// share lets the account that is compared next use half of the calls that are left for today.
func (w *round) share(connected bool) {
	w.most = w.available(connected)
	w.until = w.most
	if len(w.accounts) > 1 {
		spent := w.spentToday()
		w.until = min(w.most, spent+max(leastShare, (w.most-spent)/2))
	}
}

// unshared takes the bound of one account away.
func (w *round) unshared(connected bool) {
	w.most = w.available(connected)
	w.until = w.most
}

// beyond sets the bound for what no list of events tells. Of the reserve of the key's own account
// it leaves half to the comparison of events.
func (w *round) beyond(connected bool) {
	w.unshared(true)
	if !connected {
		w.most += (w.available(false) - w.most) / 2
		w.until = w.most
	}
}

// exhausted reports whether not even the key's own account can be compared today.
func (r *Reconciler) exhausted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used.day == r.today() && r.used.calls >= r.available(false)
}

func (r *Reconciler) spentToday() int64 {
	switch day := r.today(); {
	case day > r.spent.day:
		r.left, r.spent, r.kept = r.spent, budget{day: day}, 0
	case day < r.spent.day: // the clock was ahead: going back does not renew the calls
		calls := r.spent.calls
		if r.left.day == day {
			calls += r.left.calls
		}
		r.left, r.spent, r.kept = budget{}, budget{day, calls}, 0
	}
	return r.spent.calls
}

// spare reports whether fewer calls were made today than half of an even pace through the day's
// calls allows.
func (r *Reconciler) spare() bool {
	elapsed := r.corrected().Unix() % secondsADay
	return r.spentToday()*2*secondsADay < int64(r.Calls)*elapsed
}

// spendError is why a call was not made, in contrast to one that failed.
type spendError struct{ error }

func (e *spendError) Unwrap() error { return e.error }

// spend takes one call from the budget, before it is made.
func (w *round) spend(ctx context.Context) error {
	switch spent := w.spentToday(); {
	case spent >= w.most:
		return &spendError{fmt.Errorf("%w (%d of %d); the rest follows after midnight UTC", errBudget, spent, w.Calls)}
	case spent >= w.until:
		return &spendError{errShare}
	}
	if w.spent.calls >= w.kept {
		if err := w.keep(ctx, keptAhead); err != nil {
			return &spendError{err}
		}
	}
	w.spent.calls++
	w.report.Calls++
	return nil
}

// note has what changed of an account written down with the next [round.keep].
func (w *round) note(a *account) {
	for name, value := range a.fields() {
		if a.kept[name] != *value {
			a.kept[name] = *value
			w.noteMark(name, *value)
		}
	}
}

func (w *round) noteMark(name string, value int64) {
	if !w.request.DryRun {
		w.pending[name] = value
	}
}

// keep writes down what was noted, and the calls of today with so many more.
func (w *round) keep(ctx context.Context, ahead int64) error {
	w.kept = min(w.spentToday()+ahead, int64(w.Calls))
	marks := maps.Clone(w.pending)
	marks[budgetDay], marks[budgetCalls] = w.spent.day, w.kept
	if err := w.Ledger.SetCheckpoints(ctx, marks); err != nil {
		w.kept = 0
		return err
	}
	clear(w.pending)
	return nil
}

// keepAtEnd writes down what a round leaves behind, also one that failed or was stopped.
func (w *round) keepAtEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	err := w.keep(ctx, 0)
	w.kept = 0 // the next round reserves anew
	return err
}
