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

// Changes that no event reports. Stripe can fail to generate an event, so that no list has it, and
// a payment can be stuck here because an event is missing.
// https://docs.stripe.com/webhooks/handle-irrecoverable-events

const (
	// minListHistory is how far back charges, refunds and disputes are listed once a day. If they
	// were last listed before that, they are listed from then on, up to maxListHistory.
	minListHistory = 3 * 24 * time.Hour
	maxListHistory = 90 * 24 * time.Hour
	// staleHistory is how far back stale payments are refreshed, maxStale how many at once.
	staleHistory = 90 * 24 * time.Hour
	maxStale     = 500
	// maxThin is how many thin events are resolved in a round, and every thinEvery between rounds.
	// As many of them, and as many stale payments, are kept for the next round.
	maxThin   = 200
	thinEvery = 10 * time.Second
)

const (
	staleDay          = "stale-day" // day of the last refresh, of the key's own account
	staleConnectedDay = "stale-day-connected"
)

// reconcileObjects resolves thin events, and once a day refreshes stale payments and lists objects.
// An error in one of these does not stop the others.
func (w *round) reconcileObjects(ctx context.Context) error {
	var errs []error
	for _, do := range []func(context.Context) error{
		w.resolveThinEvents,
		func(ctx context.Context) error { return w.daily(ctx, staleDay, w.refreshStale(false)) },
		w.listAllObjects,
		w.refreshConnected,
	} {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			break
		}
		errs = append(errs, do(ctx))
	}
	return errors.Join(errs...)
}

// daily runs do once a day, until it succeeds.
func (w *round) daily(ctx context.Context, checkpoint string, do func(ctx context.Context) error) error {
	last, err := w.Ledger.Checkpoint(checkpoint)
	if err != nil || last == w.today() {
		return err
	}
	if err := do(ctx); err != nil {
		return err
	}
	return w.Ledger.SetCheckpoints(ctx, map[string]int64{checkpoint: w.today()})
}

// listAllObjects lists the objects of the accounts that are due. An error with one kind of objects
// does not stop the others.
func (w *round) listAllObjects(ctx context.Context) error {
	var errs []error
	failures := 0 // connected accounts in a row without an answer
	for _, a := range w.accounts {
		if !a.objectsDue(w.corrected()) {
			continue
		}
		w.limitForObjects(!a.own())
		now := w.now()
		since := now.Add(-minListHistory)
		if last := time.Unix(a.objects, 0).Add(-overlap); a.objects != 0 && last.Before(since) {
			since = latest(last, now.Add(-maxListHistory))
		}
		whole := true
	kinds:
		for _, kind := range stripe.ListedKinds {
			err := w.listObjects(ctx, a, kind, since)
			var refused *stripe.APIError
			var call *callError
			switch {
			case err == nil:
			case errors.As(err, &refused) && (refused.Forbidden() || !a.own()) || errors.Is(err, stripe.ErrNotStripe):
				w.reportProblem("list/"+a.ID+"/"+kind+"/"+problemKey(err), "%ss of %s are not listed: %v", kind, a, err)
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
			w.noteAccount(a)
		}
	}
	return errors.Join(errs...)
}

// objectsDue reports whether the account's objects are due: once a day, and for a connected account
// only if it has had events since they were last listed.
func (a *account) objectsDue(now time.Time) bool {
	switch {
	case a.refused != 0 || a.objects/secondsADay == now.Unix()/secondsADay:
		return false
	case a.own():
		return true
	}
	last := time.Unix(a.objects, 0).Add(-overlap)
	if a.objects == 0 {
		last = now.Add(-minListHistory)
	}
	return a.newest >= last.Unix()
}

// resolveNewThin resolves thin events that arrived since the last round, because their payments are
// incomplete until then. Each is tried once; failures are left to the next round.
func (r *Reconciler) resolveNewThin(ctx context.Context) error {
	select {
	case <-r.token:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { r.token <- struct{}{} }()
	if !r.thinReady {
		return nil
	}
	held, _, err := r.Ledger.QuarantinedFor(ledger.ThinEvent, r.thinTried, 1)
	if err != nil || len(held) == 0 {
		r.thinReady = err == nil
		return err
	}
	w := &round{Reconciler: r, report: &Report{}, pending: map[string]int64{}, begun: r.corrected()}
	ctx = stripe.WithBudget(ctx, func() error { return w.spend(ctx) })
	if err = w.learnOwnID(ctx); err == nil {
		w.accounts, err = w.readAccounts()
	}
	if err != nil {
		r.thinReady = false
		return err
	}
	p := w.pass()
	ended := p.resolveUntried(ctx)
	r.thinReady = ended == nil
	err = errors.Join(p.err(ended), w.saveAtEnd(ctx))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = r.spent
	return err
}

// resolveThinEvents fetches the objects of thin events and releases the events from quarantine. An
// object that Stripe does not have or refuses is tried again the next day. Other failures are tried
// again in the next round.
func (w *round) resolveThinEvents(ctx context.Context) error {
	if today := w.today(); w.thinDay != today {
		w.thinTried, w.thinLater, w.thinDay = 0, nil, today
	}
	later := w.thinLater
	w.thinLater = nil
	p := w.pass()
	ended := p.resolveUntried(ctx)
	for _, id := range later {
		if ended != nil {
			p.retryThin(id, skipped)
			continue
		}
		if ended = p.resolve(ctx, id); ended != nil {
			p.retryThin(id, failed)
		}
	}
	w.thinReady = ended == nil
	return p.err(ended)
}

// resolveUntried resolves thin events that were not tried yet. An error ends it before the event
// that it concerns.
func (p *pass) resolveUntried(ctx context.Context) error {
	for range maxThin {
		held, until, err := p.Ledger.QuarantinedFor(ledger.ThinEvent, p.thinTried, 1)
		if err != nil {
			return err
		}
		if len(held) > 0 {
			if err := p.resolve(ctx, held[0]); err != nil {
				return err
			}
		}
		if p.thinTried = until; len(held) == 0 {
			break
		}
	}
	return nil
}

// retryThin keeps an event for the next round. Skipped events come before failed ones, so that
// events whose calls always fail do not block the others. If too many are kept, the event waits for
// the next day.
func (w *round) retryThin(id string, r result) {
	switch {
	case len(w.thinLater) >= maxThin:
	case r == failed:
		w.thinLater = append(w.thinLater, id)
	case r == skipped:
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
		return nil // resolved or dismissed meanwhile
	}
	body, err := p.Ledger.Body(id)
	if err != nil {
		return err
	}
	if p.mayBeOwn(string(record.Account), string(record.Context)) {
		p.retryThin(id, failed)
		return nil
	}
	account := p.connectedID(string(record.Account))
	r, err := p.do(ctx, account, "thin event "+id, func() error { return p.resolveRecord(ctx, record, account, body) })
	if err == nil {
		p.retryThin(id, r)
	}
	return err
}

// resolveRecord resolves a thin event. account is "" for the key's own account.
func (w *round) resolveRecord(ctx context.Context, record *ledger.EventRecord, account string, body []byte) error {
	related := stripe.RelatedObject(body)
	if snapshot := stripe.Decode(body, w.Livemode).Snapshot; snapshot != "" {
		stored, err := w.snapshot(ctx, account, snapshot)
		if err != nil && (related == "" || !skippable(err) || account != "" && refusesAccount(err)) {
			return err
		}
		if stored {
			return nil
		}
	}
	if related == "" {
		return nil // not about a payment
	}
	object, err := w.fetch(ctx, account, related)
	if err != nil {
		return err
	}
	e := stripe.ResolveThin(body, w.Livemode, object)
	if e.Quarantine != "" {
		return nil
	}
	if account == "" { // its context names the own account
		e.Account, e.Context = "", ""
	}
	e.Source, e.Received = record.Source, w.corrected() // the source of the delivery stays
	if _, err := w.appendEvent(ctx, e); err != nil {
		return err
	}
	w.report.Resolved++
	return nil
}

// snapshot stores the snapshot event that has the content of a thin event. The thin event's
// quarantine is expected then.
func (w *round) snapshot(ctx context.Context, account, id string) (stored bool, err error) {
	e, err := w.API.Event(ctx, w.accountByID(account), w.Livemode, id)
	if err != nil {
		return false, asCallError(err)
	}
	e.Source, e.Received = ledger.Reconcile, w.corrected()
	if _, err := w.appendEvent(ctx, e); err != nil {
		return false, err
	}
	w.report.Resolved++
	return true, nil
}

// skippable reports whether a call failed only for its object: the key is not allowed to read it,
// it does not exist, or it is unreadable.
func skippable(err error) bool {
	var refused *stripe.APIError
	return errors.As(err, &refused) && (refused.Forbidden() || refused.Missing()) || errors.Is(err, stripe.ErrNotStripe) ||
		errors.Is(err, stripe.ErrNoObject)
}

// skipObject reports whether the round can go on without an object that could not be fetched. If
// so, it reports the problem.
func (w *round) skipObject(err error, what string) bool {
	if !skippable(err) {
		return false
	}
	w.reportProblem("as it is/"+what+"/"+problemKey(err), "%s is skipped: %v", what, err)
	return true
}

// fetch reads an object and stores it if it has news.
func (w *round) fetch(ctx context.Context, account, id string) (*ledger.Event, error) {
	e, err := w.API.Fetch(ctx, w.accountByID(account), w.Livemode, id)
	if err != nil {
		return nil, asCallError(err)
	}
	return e, w.storeIfNew(ctx, e)
}

// storeIfNew stores an object if it would change its payment. Otherwise it would only add a row
// every night.
func (w *round) storeIfNew(ctx context.Context, e *ledger.Event) error {
	e.Source, e.Received = ledger.Fetch, w.corrected()
	changes, err := w.Ledger.WouldChange(e)
	if err != nil || !changes {
		return err
	}
	added, err := w.appendEvent(ctx, e)
	if added {
		w.report.Fetched++
	}
	return err
}

// refreshStale fetches payments that may differ at Stripe, either of connected accounts or of the
// key's own.
func (w *round) refreshStale(connected bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		now := w.now()
		list, err := w.Ledger.StalePayments(ctx, now.Add(-staleHistory), now, maxStale)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(d ledger.StalePayment) bool { return (w.connectedID(d.Account) != "") != connected })
		if connected {
			w.staleLater = nil
		}
		return w.refreshPayments(ctx, list)
	}
}

// refreshConnected fetches stale payments of connected accounts: once a day all of them, and in the
// rounds between those whose calls failed.
func (w *round) refreshConnected(ctx context.Context) error {
	last, err := w.Ledger.Checkpoint(staleConnectedDay)
	switch {
	case err != nil:
		return err
	case last != w.today():
		return w.daily(ctx, staleConnectedDay, w.refreshStale(true))
	}
	return w.refreshPayments(ctx, w.staleLater)
}

// refreshPayments fetches payments, all of connected accounts or all of the key's own. Payments of
// connected accounts whose calls failed are kept for the next round.
func (w *round) refreshPayments(ctx context.Context, list []ledger.StalePayment) error {
	p := w.pass()
	var ended error
	var out, again []ledger.StalePayment
	for i, d := range list {
		what := fmt.Sprintf("payment %s (%s)", d.Payment, d.Kind)
		var r result
		if r, ended = p.do(ctx, w.connectedID(d.Account), what, func() error { return w.refreshPayment(ctx, d) }); ended != nil {
			out = append(out, list[i:]...)
			break
		}
		switch r {
		case skipped:
			out = append(out, d)
		case failed:
			again = append(again, d)
		}
	}
	if len(list) > 0 && w.connectedID(list[0].Account) != "" {
		out = append(out, again...)
		w.staleLater = out[:min(len(out), maxThin)]
	}
	return p.err(ended)
}

// refreshPayment fetches the object that shows the state of a payment at Stripe.
func (w *round) refreshPayment(ctx context.Context, d ledger.StalePayment) error {
	if d.Kind == ledger.StaleRefunds {
		return w.storeAll(ctx, func(after string) (stripe.Page, error) {
			page, err := w.API.ListRefunds(ctx, w.accountByID(d.Account), w.Livemode, d.Charge, after)
			return page, asCallError(err)
		})
	}
	_, err := w.fetch(ctx, d.Account, d.Payment)
	return err
}

// listObjects reads the objects of a kind that were created since a time.
func (w *round) listObjects(ctx context.Context, a *account, kind string, since time.Time) error {
	return w.storeAll(ctx, func(after string) (stripe.Page, error) {
		page, err := w.API.ListObjects(ctx, a.Account, w.Livemode, kind, since.Unix(), after)
		return page, asCallError(err)
	})
}

// storeAll stores the objects of a list. It reports an unreadable object and continues.
func (w *round) storeAll(ctx context.Context, read func(after string) (stripe.Page, error)) error {
	_, whole, err := w.pages(ctx, maxListPages, read, func(page stripe.Page) error {
		for _, err := range page.Skipped {
			w.reportProblem("skipped/"+problemKey(err), "an object in a list was skipped: %v", err)
		}
		for _, e := range page.Events {
			if err := w.storeIfNew(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && !whole {
		w.report.endless = true
		err = fmt.Errorf("the list has more than %d pages: %w", maxListPages, stripe.ErrEndless)
	}
	return err
}

// accountByID returns an account with its context, if it belongs to an organization.
func (w *round) accountByID(id string) stripe.Account {
	id = w.connectedID(id)
	if a := w.findAccount(id); a != nil {
		return a.Account
	}
	return stripe.Account{ID: id}
}

// findAccount returns the account with an id, or nil if the ledger has stored no event of it.
func (w *round) findAccount(id string) *account {
	for _, a := range w.accounts {
		if a.ID == id {
			return a
		}
	}
	return nil
}
