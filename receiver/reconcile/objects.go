package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// What no event tells. Stripe can fail to make an event at all, so that no list of events has it; and a payment can stand still
// here because the one that would move it is missing. https://docs.stripe.com/webhooks/handle-irrecoverable-events

const (
	// nightlyReach is how far back charges, refunds and disputes are listed once a day, at least:
	// where they were last listed before that, it is since then, up to longestReach.
	nightlyReach = 3 * 24 * time.Hour
	longestReach = 90 * 24 * time.Hour
	// doubtsReach is how far back payments are doubted, and maxDoubts how many at once.
	doubtsReach = 90 * 24 * time.Hour
	maxDoubts   = 500
	// maxThin events are resolved in a round, and each thinEvery between two of them.
	maxThin   = 200
	thinEvery = 10 * time.Second
)

const (
	dailyDoubts     = "doubts-day" // of the key's own account
	dailyDoubtsElse = "doubts-day-connected"
)

// beyondEvents resolves thin events, and once a day doubts payments and lists objects. What has no
// calls left does not keep from it what has: the key's own account has a reserve.
func (w *round) beyondEvents(ctx context.Context) error {
	var errs []error
	for _, do := range []func(context.Context) error{
		w.thin,
		func(ctx context.Context) error { return w.daily(ctx, dailyDoubts, w.doubts(false)) },
		w.lists,
		func(ctx context.Context) error { return w.daily(ctx, dailyDoubtsElse, w.doubts(true)) },
	} {
		if err := do(ctx); err != nil {
			if errs = append(errs, err); !errors.Is(err, errBudget) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// daily does what is due once a day, unless it was done to its end today.
func (w *round) daily(ctx context.Context, mark string, do func(ctx context.Context) error) error {
	last, err := w.Ledger.Mark(mark)
	if err != nil || last == w.today() {
		return err
	}
	if err := do(ctx); err != nil {
		return err
	}
	return w.Ledger.SetMarks(ctx, map[string]int64{mark: w.today()})
}

// lists reads the objects of the accounts for which that is due. A kind that cannot be listed does
// not keep the others from it.
func (w *round) lists(ctx context.Context) error {
	var errs []error
	for _, a := range w.accounts {
		if !a.listing(w.corrected()) {
			continue
		}
		w.beyond(!a.own())
		now := w.now()
		since := now.Add(-nightlyReach)
		if last := time.Unix(a.objects, 0).Add(-overlap); a.objects != 0 && last.Before(since) {
			since = latest(last, now.Add(-longestReach))
		}
		whole := true
		for _, kind := range stripe.Listed {
			err := w.list(ctx, a, kind, since)
			var refused *stripe.APIError
			switch {
			case err == nil:
			case errors.As(err, &refused) && (refused.Forbidden() || !a.own()) || errors.Is(err, stripe.ErrNotStripe):
				w.problem("list/"+a.ID+"/"+kind+"/"+keyOf(err), "%ss of %s are not listed: %v", kind, a, err)
			case refused != nil:
				errs, whole = append(errs, err), false
			default:
				return errors.Join(append(errs, err)...)
			}
		}
		if whole {
			a.objects = w.corrected().Unix()
			w.note(a)
		}
	}
	return errors.Join(errs...)
}

// listing reports whether the account's objects are due: once a day, those of a connected account
// only if something happened in it since they were last listed.
func (a *account) listing(now time.Time) bool {
	switch {
	case a.refused != 0 || a.objects/secondsADay == now.Unix()/secondsADay:
		return false
	case a.own():
		return true
	}
	last := time.Unix(a.objects, 0).Add(-overlap)
	if a.objects == 0 {
		last = now.Add(-nightlyReach)
	}
	return a.newest >= last.Unix()
}

// resolveThin resolves the thin events that came since the last round: until then their payments lack
// what they say.
func (r *Reconciler) resolveThin(ctx context.Context) error {
	select {
	case <-r.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { r.turn <- struct{}{} }()
	last, err := r.Ledger.Mark(dailyDoubts)
	if err != nil || last != r.today() || !r.loaded {
		return err // the next round tries all of them
	}
	held, _, err := r.Ledger.HeldFor(ledger.ThinEvent, r.tried, 1)
	if err != nil || len(held) == 0 {
		return err
	}
	w := &round{Reconciler: r, report: &Report{}, pending: map[string]int64{}, begun: r.corrected()}
	ctx = stripe.WithBudget(ctx, func() error { return w.spend(ctx) })
	if w.accounts, err = w.readAccounts(); err != nil {
		return err
	}
	err = errors.Join(w.thin(ctx), w.keepAtEnd(ctx))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = r.spent
	return err
}

// thin fetches what thin events name, and has them leave quarantine. What could not be fetched is
// tried again the next day: it may never be there.
func (w *round) thin(ctx context.Context) error {
	last, err := w.Ledger.Mark(dailyDoubts)
	if err != nil {
		return err
	}
	if last != w.today() {
		w.tried = 0
	}
	held, until, err := w.Ledger.HeldFor(ledger.ThinEvent, w.tried, maxThin)
	if err != nil {
		return err
	}
	var used error // of the connected accounts: those of the own account behind them are tried all the same
	for _, id := range held {
		switch err := w.resolve(ctx, id, used != nil); {
		case errors.Is(err, errConnected):
			used = err
		case err != nil:
			return err
		}
	}
	w.tried = until
	return used
}

// errConnected is wrapped where there are no calls left for connected accounts.
var errConnected = fmt.Errorf("%w for connected accounts", errBudget)

// resolve resolves one thin event. ownOnly says to leave out one of a connected account.
func (w *round) resolve(ctx context.Context, id string, ownOnly bool) error {
	body, err := w.Ledger.Body(id)
	if err != nil {
		return err
	}
	record, err := w.Ledger.Event(id)
	if err != nil {
		return err
	}
	connected := record.Account != ""
	if w.beyond(connected); connected && ownOnly {
		return nil
	}
	err = w.resolveRecord(ctx, record, body)
	if connected && errors.Is(err, errBudget) {
		return errConnected
	}
	return err
}

func (w *round) resolveRecord(ctx context.Context, record *ledger.EventRecord, body []byte) error {
	what := "thin event " + record.ID
	related := stripe.Related(body)
	if snapshot := stripe.Decode(body, w.Livemode).Snapshot; snapshot != "" {
		booked, err := w.snapshot(ctx, string(record.Account), snapshot)
		if err != nil && (related == "" || !skippable(err)) && !w.goesOn(err, what) {
			return err
		}
		if booked {
			return nil
		}
	}
	if related == "" {
		return nil // it is about nothing that is folded
	}
	object, err := w.fetch(ctx, string(record.Account), related)
	if err != nil {
		if w.goesOn(err, what) {
			return nil
		}
		return err
	}
	e := stripe.Resolve(body, w.Livemode, object)
	if e.Quarantine != "" {
		return nil
	}
	e.Source, e.Received = record.Source, w.corrected() // it came as it came
	if _, err := w.append(ctx, e); err != nil {
		return err
	}
	w.report.Resolved++
	return nil
}

// snapshot books the event that a thin event says the same as. That one is then expected in
// quarantine.
func (w *round) snapshot(ctx context.Context, account, id string) (booked bool, err error) {
	e, err := w.API.Event(ctx, w.named(account), w.Livemode, id)
	if err != nil {
		return false, err
	}
	e.Source, e.Received = ledger.Reconcile, w.corrected()
	if _, err := w.append(ctx, e); err != nil {
		return false, err
	}
	w.report.Resolved++
	return true, nil
}

// skippable reports whether a call failed for its object alone: the key may not read it, there is
// none, or it cannot be read.
func skippable(err error) bool {
	var refused *stripe.APIError
	return errors.As(err, &refused) && (refused.Forbidden() || refused.Missing()) || errors.Is(err, stripe.ErrNotStripe)
}

// goesOn tells whether a round goes on without what could not be fetched.
func (w *round) goesOn(err error, what string) bool {
	if !skippable(err) {
		return false
	}
	w.problem("as it is/"+what+"/"+keyOf(err), "%s is left as it is: %v", what, err)
	return true
}

// fetch reads an object, and has it written down if it tells what is not known.
func (w *round) fetch(ctx context.Context, account, id string) (*ledger.Event, error) {
	e, err := w.API.Fetch(ctx, w.named(account), w.Livemode, id)
	if err != nil {
		return nil, err
	}
	return e, w.take(ctx, e)
}

// take writes down an object that tells something. One that tells nothing would only be one more row each night.
func (w *round) take(ctx context.Context, e *ledger.Event) error {
	e.Source, e.Received = ledger.Fetch, w.corrected()
	tells, err := w.Ledger.Tells(e)
	if err != nil || !tells {
		return err
	}
	fresh, err := w.append(ctx, e)
	if fresh {
		w.report.Fetched++
	}
	return err
}

// doubts fetches payments that may stand otherwise at Stripe: those of connected accounts, or those
// of the key's own.
func (w *round) doubts(connected bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		now := w.now()
		list, err := w.Ledger.Doubts(ctx, now.Add(-doubtsReach), now, maxDoubts)
		if err != nil {
			return err
		}
		w.beyond(connected)
		for _, d := range list {
			if (d.Account != "") != connected {
				continue
			}
			if d.Kind == ledger.DoubtRefunds {
				err = w.takeAll(ctx, func(after string) (stripe.Page, error) {
					return w.API.RefundsOf(ctx, w.named(d.Account), w.Livemode, d.Charge, after)
				})
			} else {
				_, err = w.fetch(ctx, d.Account, d.Payment)
			}
			if err != nil && !w.goesOn(err, fmt.Sprintf("payment %s (%s)", d.Payment, d.Kind)) {
				return err
			}
		}
		return nil
	}
}

// list reads the objects of a kind that were created since.
func (w *round) list(ctx context.Context, a *account, kind string, since time.Time) error {
	return w.takeAll(ctx, func(after string) (stripe.Page, error) {
		return w.API.Objects(ctx, a.Account, w.Livemode, kind, since.Unix(), after)
	})
}

// takeAll takes the objects of a list. One that cannot be read is reported, and those behind it are
// taken.
func (w *round) takeAll(ctx context.Context, read func(after string) (stripe.Page, error)) error {
	_, whole, err := w.pages(ctx, longestList, read, func(page stripe.Page) error {
		for _, err := range page.Skipped {
			w.problem("skipped/"+keyOf(err), "an object in a list was skipped: %v", err)
		}
		for _, e := range page.Events {
			if err := w.take(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && !whole {
		err = fmt.Errorf("the list has more than %d pages: %w", longestList, stripe.ErrEndless)
	}
	return err
}

// named returns the account of an id, with its context where it is a member of an organization.
func (w *round) named(id string) stripe.Account {
	for _, a := range w.accounts {
		if a.ID == id {
			return a.Account
		}
	}
	return stripe.Account{ID: id}
}
