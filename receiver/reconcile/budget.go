package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// budget counts the calls of a day. It is saved in the ledger, so that a service that restarts
// again and again does not start with a full budget.
type budget struct {
	day   int64 // days since 1970 in UTC
	calls int64
}

const (
	budgetDay   = "reconcile-day"
	budgetCalls = "reconcile-calls"
)

const (
	// reservedCalls: one in this many calls of a day is reserved for the key's own account.
	reservedCalls = 20
	// reserveAhead is how many calls are counted in the ledger before they are made. A crash loses
	// no count and wastes at most this many.
	reserveAhead = 20
	// minShare is how many calls an account may use in a round even if few are left.
	minShare = 16
	// saveTimeout bounds the save at the end of a round.
	saveTimeout = 2 * time.Second
)

var (
	errBudget = errors.New("the calls to Stripe's API for today are used up")
	// errShare ends the comparison of an account that would use the calls of others.
	errShare = errors.New("one account may use half of the calls that are left for today")
)

const secondsADay = 24 * 60 * 60

// today returns the day in UTC, counted from 1970.
func (r *Reconciler) today() int64 { return r.corrected().Unix() / secondsADay }

// midnight returns when the next day's budget starts.
func (r *Reconciler) midnight() time.Time { return time.Unix((r.today()+1)*secondsADay, 0).UTC() }

// untilMidnight returns the time until midnight, at most a day whatever the clock says.
func (r *Reconciler) untilMidnight() time.Duration { return r.midnight().Sub(r.corrected()) }

func (r *Reconciler) loadBudget() (err error) {
	if r.spent.day, err = r.Ledger.Checkpoint(budgetDay); err == nil {
		r.spent.calls, err = r.Ledger.Checkpoint(budgetCalls)
	}
	return err
}

// available returns the calls of a day: all, or those that connected accounts may use.
func (r *Reconciler) available(connected bool) int64 {
	if connected {
		return int64(r.Calls - r.Calls/reservedCalls)
	}
	return int64(r.Calls)
}

// limitToShare limits the next account to half of the calls left today.
func (w *round) limitToShare(connected bool) {
	w.callLimit = w.available(connected)
	w.shareLimit = w.callLimit
	if len(w.accounts) > 1 {
		spent := w.spentToday()
		w.shareLimit = min(w.callLimit, spent+max(minShare, (w.callLimit-spent)/2))
	}
}

// limitToDay removes the limit of one account.
func (w *round) limitToDay(connected bool) {
	w.callLimit = w.available(connected)
	w.shareLimit = w.callLimit
}

// limitForObjects sets the limit for single objects. Half of the calls reserved for the key's own
// account remain for the comparison of events.
func (w *round) limitForObjects(connected bool) {
	w.limitToDay(true)
	if !connected {
		w.callLimit += (w.available(false) - w.callLimit) / 2
		w.shareLimit = w.callLimit
	}
}

// exhausted reports whether no call is left today, even for the key's own account.
func (r *Reconciler) exhausted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used.day == r.today() && r.used.calls >= r.available(false)
}

func (r *Reconciler) spentToday() int64 {
	switch day := r.today(); {
	case day > r.spent.day:
		r.previous, r.spent, r.reserved = r.spent, budget{day: day}, 0
	case day < r.spent.day: // the clock was ahead: setting it back does not renew the budget
		calls := r.spent.calls
		if r.previous.day == day {
			calls += r.previous.calls
		}
		r.previous, r.spent, r.reserved = budget{}, budget{day, calls}, 0
	}
	return r.spent.calls
}

// hasSpareCalls reports whether today's calls are less than half of what an even use of the budget
// would be by now.
func (r *Reconciler) hasSpareCalls() bool {
	elapsed := r.corrected().Unix() % secondsADay
	return r.spentToday()*2*secondsADay < int64(r.Calls)*elapsed
}

// spendError is the error of a call that was not made.
type spendError struct{ error }

func (e *spendError) Unwrap() error { return e.error }

// spend takes one call from the budget before it is made.
func (w *round) spend(ctx context.Context) error {
	switch spent := w.spentToday(); {
	case spent >= w.callLimit:
		return &spendError{fmt.Errorf("%w (%d of %d); the next day starts at midnight UTC", errBudget, spent, w.Calls)}
	case spent >= w.shareLimit:
		return &spendError{errShare}
	}
	if w.spent.calls >= w.reserved {
		if err := w.save(ctx, reserveAhead); err != nil {
			return &spendError{err}
		}
	}
	w.spent.calls++
	w.report.Calls++
	return nil
}

// noteAccount notes the changed checkpoints of an account for the next save.
func (w *round) noteAccount(a *account) {
	for name, value := range a.fields() {
		if a.kept[name] != *value {
			a.kept[name] = *value
			w.noteCheckpoint(name, *value)
		}
	}
}

func (w *round) noteCheckpoint(name string, value int64) {
	if !w.request.DryRun {
		w.pending[name] = value
	}
}

// save writes the noted checkpoints and the calls of today plus ahead to the ledger.
func (w *round) save(ctx context.Context, ahead int64) error {
	w.reserved = min(w.spentToday()+ahead, int64(w.Calls))
	checkpoints := maps.Clone(w.pending)
	checkpoints[budgetDay], checkpoints[budgetCalls] = w.spent.day, w.reserved
	if err := w.Ledger.SetCheckpoints(ctx, checkpoints); err != nil {
		w.reserved = 0
		return err
	}
	clear(w.pending)
	return nil
}

// saveAtEnd saves at the end of a round, also of a failed or stopped one.
func (w *round) saveAtEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := w.save(ctx, 0)
	w.reserved = 0 // the next round reserves anew
	return err
}
