package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// maxThin events are resolved in a round, and each thinEvery between two of them. As many, and
	// as many doubts, are kept for the next round.
	maxThin   = 200
	thinEvery = 10 * time.Second
)

const (
	dailyDoubts     = "doubts-day" // of the key's own account
	dailyDoubtsElse = "doubts-day-connected"
)

// beyondEvents resolves thin events, and once a day doubts payments and lists objects. What fails
// in one of these keeps no other from being done.
func (w *round) beyondEvents(ctx context.Context) error {
	var errs []error
	for _, do := range []func(context.Context) error{
		w.thin,
		func(ctx context.Context) error { return w.daily(ctx, dailyDoubts, w.doubts(false)) },
		w.lists,
		w.doubtsElse,
	} {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		errs = append(errs, do(ctx))
	}
	return errors.Join(errs...)
}

// daily does what is due once a day, unless it was done to its end today.
func (w *round) daily(ctx context.Context, mark string, do func(ctx context.Context) error) error {
	last, err := w.Ledger.Checkpoint(mark)
	if err != nil || last == w.today() {
		return err
	}
	if err := do(ctx); err != nil {
		return err
	}
	return w.Ledger.SetCheckpoints(ctx, map[string]int64{mark: w.today()})
}

// lists reads the objects of the accounts for which that is due. A kind that cannot be listed does
// not keep the others from it.
func (w *round) lists(ctx context.Context) error {
	var errs []error
	failures := 0 // of connected accounts that Stripe gave no answer for
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
	kinds:
		for _, kind := range stripe.ListedKinds {
			err := w.list(ctx, a, kind, since)
			var refused *stripe.APIError
			var call *callError
			switch {
			case err == nil:
			case errors.As(err, &refused) && (refused.Forbidden() || !a.own()) || errors.Is(err, stripe.ErrNotStripe):
				w.problem("list/"+a.ID+"/"+kind+"/"+keyOf(err), "%ss of %s are not listed: %v", kind, a, err)
			case refused != nil:
				errs, whole = append(errs, err), false
			case !a.own() && errors.As(err, &call) && !errors.Is(err, stripe.ErrPaused) && ctx.Err() == nil:
				errs, whole = append(errs, &accountError{a.ID, err}), false
				if failures++; failures == maxFailures {
					return errors.Join(errs...)
				}
				break kinds
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

// resolveThin resolves the thin events that came since the last round: until then their payments
// lack what they say. Each is asked for once: what failed is left to the next round.
func (r *Reconciler) resolveThin(ctx context.Context) error {
	select {
	case <-r.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { r.turn <- struct{}{} }()
	if !r.thinReady {
		return nil
	}
	held, _, err := r.Ledger.QuarantinedFor(ledger.ThinEvent, r.tried, 1)
	if err != nil || len(held) == 0 {
		r.thinReady = err == nil
		return err
	}
	w := &round{Reconciler: r, report: &Report{}, pending: map[string]int64{}, begun: r.corrected()}
	ctx = stripe.WithBudget(ctx, func() error { return w.spend(ctx) })
	if w.accounts, err = w.readAccounts(); err != nil {
		r.thinReady = false
		return err
	}
	p := w.pass()
	ended := p.newThin(ctx)
	r.thinReady = ended == nil
	err = errors.Join(p.err(ended), w.keepAtEnd(ctx))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = r.spent
	return err
}

// thin fetches what thin events name, and has them leave quarantine. What Stripe does not have, or
// refuses, is tried again the next day: it may never be there. What failed otherwise is tried again
// with the next round.
func (w *round) thin(ctx context.Context) error {
	if today := w.today(); w.thinDay != today {
		w.tried, w.thinLater, w.thinDay = 0, nil, today
	}
	later := w.thinLater
	w.thinLater = nil
	p := w.pass()
	ended := p.newThin(ctx)
	for _, id := range later {
		if ended != nil {
			p.keepThin(id, leftOut)
			continue
		}
		if ended = p.resolve(ctx, id); ended != nil {
			p.keepThin(id, failed)
		}
	}
	w.thinReady = ended == nil
	return p.err(ended)
}

// newThin resolves thin events that were not tried yet. An error ends it before the event that it
// is about.
func (p *pass) newThin(ctx context.Context) error {
	for range maxThin {
		held, until, err := p.Ledger.QuarantinedFor(ledger.ThinEvent, p.tried, 1)
		if err != nil {
			return err
		}
		if len(held) > 0 {
			if err := p.resolve(ctx, held[0]); err != nil {
				return err
			}
		}
		if p.tried = until; len(held) == 0 {
			break
		}
	}
	return nil
}

// keepThin keeps an event for the next round, which asks first for what this one left out: three
// events whose calls always fail must not keep those behind them waiting. One that finds no room
// waits for the next day.
func (w *round) keepThin(id string, r result) {
	switch {
	case len(w.thinLater) >= maxThin:
	case r == failed:
		w.thinLater = append(w.thinLater, id)
	case r == leftOut:
		w.thinLater = slices.Insert(w.thinLater, w.thinLeftOut, id)
		w.thinLeftOut++
	}
}

// resolve resolves one thin event.
func (p *pass) resolve(ctx context.Context, id string) error {
	record, err := p.Ledger.Event(id)
	if err != nil {
		return err
	}
	if record.Quarantine == nil || record.Quarantine.State != ledger.Attention {
		return nil // it needs nothing any more
	}
	body, err := p.Ledger.Body(id)
	if err != nil {
		return err
	}
	r, err := p.ask(ctx, string(record.Account), "thin event "+id, func() error { return p.resolveRecord(ctx, record, body) })
	if err == nil {
		p.keepThin(id, r)
	}
	return err
}

func (w *round) resolveRecord(ctx context.Context, record *ledger.EventRecord, body []byte) error {
	related := stripe.RelatedObject(body)
	if snapshot := stripe.Decode(body, w.Livemode).Snapshot; snapshot != "" {
		booked, err := w.snapshot(ctx, string(record.Account), snapshot)
		if err != nil && (related == "" || !skippable(err) || record.Account != "" && refusesAccount(err)) {
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
		return err
	}
	e := stripe.ResolveThin(body, w.Livemode, object)
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
		return false, calling(err)
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
	return errors.As(err, &refused) && (refused.Forbidden() || refused.Missing()) || errors.Is(err, stripe.ErrNotStripe) ||
		errors.Is(err, stripe.ErrNoObject)
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
		return nil, calling(err)
	}
	return e, w.take(ctx, e)
}

// take writes down an object that tells something. One that tells nothing would only be one more row each night.
func (w *round) take(ctx context.Context, e *ledger.Event) error {
	e.Source, e.Received = ledger.Fetch, w.corrected()
	tells, err := w.Ledger.WouldChange(e)
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
		list, err := w.Ledger.StalePayments(ctx, now.Add(-doubtsReach), now, maxDoubts)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(d ledger.StalePayment) bool { return (d.Account != "") != connected })
		if connected {
			w.doubted = nil
		}
		return w.askDoubts(ctx, list)
	}
}

// doubtsElse fetches payments of connected accounts: once a day all that are in doubt, and in the
// rounds between those for which calls failed.
func (w *round) doubtsElse(ctx context.Context) error {
	last, err := w.Ledger.Checkpoint(dailyDoubtsElse)
	switch {
	case err != nil:
		return err
	case last != w.today():
		return w.daily(ctx, dailyDoubtsElse, w.doubts(true))
	}
	return w.askDoubts(ctx, w.doubted)
}

// askDoubts fetches payments, all of connected accounts or all of the key's own. Those of connected
// accounts for which calls failed are kept for the next round, as thin events are.
func (w *round) askDoubts(ctx context.Context, list []ledger.StalePayment) error {
	p := w.pass()
	var ended error
	var out, again []ledger.StalePayment
	for i, d := range list {
		what := fmt.Sprintf("payment %s (%s)", d.Payment, d.Kind)
		var r result
		if r, ended = p.ask(ctx, d.Account, what, func() error { return w.doubt(ctx, d) }); ended != nil {
			out = append(out, list[i:]...)
			break
		}
		switch r {
		case leftOut:
			out = append(out, d)
		case failed:
			again = append(again, d)
		}
	}
	if len(list) > 0 && list[0].Account != "" {
		out = append(out, again...)
		w.doubted = out[:min(len(out), maxThin)]
	}
	return p.err(ended)
}

// doubt fetches what shows how a payment stands at Stripe.
func (w *round) doubt(ctx context.Context, d ledger.StalePayment) error {
	if d.Kind == ledger.StaleRefunds {
		return w.takeAll(ctx, func(after string) (stripe.Page, error) {
			page, err := w.API.ListRefunds(ctx, w.named(d.Account), w.Livemode, d.Charge, after)
			return page, calling(err)
		})
	}
	_, err := w.fetch(ctx, d.Account, d.Payment)
	return err
}

// list reads the objects of a kind that were created since.
func (w *round) list(ctx context.Context, a *account, kind string, since time.Time) error {
	return w.takeAll(ctx, func(after string) (stripe.Page, error) {
		page, err := w.API.ListObjects(ctx, a.Account, w.Livemode, kind, since.Unix(), after)
		return page, calling(err)
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
		w.report.endless = true
		err = fmt.Errorf("the list has more than %d pages: %w", longestList, stripe.ErrEndless)
	}
	return err
}

// named returns the account of an id, with its context where it is a member of an organization.
func (w *round) named(id string) stripe.Account {
	if a := w.find(id); a != nil {
		return a.Account
	}
	return stripe.Account{ID: id}
}

// find returns the account of an id; nil where the ledger knows no event of it that was booked.
func (w *round) find(id string) *account {
	for _, a := range w.accounts {
		if a.ID == id {
			return a
		}
	}
	return nil
}
