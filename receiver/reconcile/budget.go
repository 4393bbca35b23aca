package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// budget is what was spent of a day's calls. It is kept in the ledger, so that a service that starts again and again does not
// begin anew each time.
type budget struct {
	day   int64 // since 1970, in UTC
	calls int64
}

const (
	budgetDay   = "reconcile-day"
	budgetCalls = "reconcile-calls"
)

var errBudget = errors.New("the calls to Stripe's API for today are used up")

func today() int64 { return time.Now().Unix() / secondsADay }

func (r *Reconciler) loadBudget() (err error) {
	if r.spent.day != 0 {
		return nil
	}
	if r.spent.day, err = r.Ledger.Mark(budgetDay); err == nil {
		r.spent.calls, err = r.Ledger.Mark(budgetCalls)
	}
	return err
}

// spend takes one call from the budget.
func (r *Reconciler) spend(report *Report) error {
	if day := today(); r.spent.day != day {
		r.spent = budget{day: day}
	}
	if r.spent.calls >= int64(r.Calls) {
		return fmt.Errorf("%w (%d); the rest follows after midnight UTC", errBudget, r.Calls)
	}
	r.spent.calls++
	report.Calls++
	return nil
}

func (r *Reconciler) keepBudget(ctx context.Context) error {
	return r.Ledger.SetMarks(ctx, map[string]int64{budgetDay: r.spent.day, budgetCalls: r.spent.calls})
}
