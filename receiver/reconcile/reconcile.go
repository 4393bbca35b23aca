// Package reconcile recovers from Stripe's API what was not delivered, and audits the endpoint
// there.
//
// A [Reconciler] works in rounds. A round audits the endpoint, then lists the events of a span of
// time (compare.go) for the key's own account and for every connected account that events came from
// and whose turn it is (accounts.go), and appends those that the ledger does not know. How far that
// has come is a checkpoint per account in the ledger: it moves only past what is on disk. Once a
// day a round looks at what no event reports (objects.go).
//
// Dangers: a checkpoint that moves past what was not read (those events are lost after 30 days),
// the last minutes of Stripe's list (an event can appear in it late), a clock that is wrong, and
// too many calls (Stripe then refuses the shop's own as well).
package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"tillhook/ledger"
	"tillhook/metrics"
	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

const (
	// unsettled is the youngest part of Stripe's list, which is read and never counted as read.
	unsettled = 10 * time.Minute
	// overlap is how much before the checkpoint a round begins; once a day it is more.
	overlap      = time.Hour
	dailyOverlap = 48 * time.Hour
	// reach is how far back Stripe lists events. https://docs.stripe.com/api/events
	reach = 30 * 24 * time.Hour
	// maxPages a slice of time may have; a longer one is halved.
	maxPages = 10
	// longestList bounds, in pages, a list that cannot be halved.
	longestList = 1000
	// longestSecond bounds the list of events of one second.
	longestSecond = 200
	// dailyCalls to Stripe's API a day, which is a hundredth of what Stripe allows.
	dailyCalls = 20000
	// retryPause is how soon a round that failed is tried again, at most.
	retryPause = 5 * time.Minute
	// endlessPause is how soon after a list that does not end.
	endlessPause = time.Hour
)

// Options are what a reconciler works with. All but URL and Calls are required.
type Options struct {
	API      *stripe.API
	Ledger   *ledger.Ledger
	Metrics  *metrics.Metrics
	Log      *slog.Logger
	Livemode bool
	URL      string // of our endpoint at Stripe; empty if it is not known
	Calls    int    // a day; 0 for as many as are reasonable
}

// Reconciler compares the ledger with Stripe. Its methods may be called from any goroutine; rounds run one at a time.
type Reconciler struct {
	Options
	turn chan struct{} // holds one while nobody reconciles

	mu       sync.Mutex // guards all below
	audit    *Audit
	failed   error     // of the last round
	ended    time.Time // the last round that compared everything
	missed   []miss
	progress Progress
	logged   map[string]time.Time // keys of problems, and when
	stranger bool                 // the key's account does not know the latest deliveries
	census   census               // of the accounts, as of the last round
	gap      gap
	used     budget // as of the last round

	// Only the round that has the turn uses what follows.
	loaded bool   // what the ledger remembers was read
	known  bool   // the key's account knows a recent delivery
	keys   uint64 // of the API, when that was found out
	spent  budget
	left   budget // of the day before, or of the one that a clock ahead has left
	kept   int64  // calls of today that the ledger counts
	// answeredAt is when Stripe last answered for a connected account, by our clock; 0 for never.
	answeredAt int64
	tried      uint64 // thin events up to this row were tried since the start, or since the day began
	thinDay    int64  // the day that tried is of
	thinReady  bool   // the last pass over thin events was not ended by an error
	thinLater  []string
	doubted    []ledger.StalePayment // of connected accounts; like thinLater due in the next round

	nextLook time.Time // lookAtClock calls Stripe no sooner; only Run uses it
}

// miss is how many events a round found that had been missed.
type miss struct {
	at     time.Time
	events int
}

// New returns a reconciler that has done nothing yet.
func New(o Options) *Reconciler {
	o.Calls = cmp.Or(o.Calls, dailyCalls)
	r := &Reconciler{Options: o, turn: make(chan struct{}, 1), logged: map[string]time.Time{}}
	r.turn <- struct{}{}
	return r
}

// Report tells what a round did.
type Report struct {
	Object    string   `json:"object"` // reconciliation
	DryRun    bool     `json:"dry_run"`
	From      int64    `json:"from"` // Unix seconds
	To        int64    `json:"to"`
	Accounts  int      `json:"accounts"`  // that were compared, the key's own among them
	Listed    int      `json:"listed"`    // events that Stripe has
	Recovered int      `json:"recovered"` // of them those that were missed; in a dry run those that would be fetched
	Fetched   int      `json:"fetched"`   // objects that told what no event had
	Resolved  int      `json:"resolved"`  // thin events that left quarantine
	Calls     int      `json:"calls"`     // to Stripe's API
	Events    []string `json:"events"`    // the first of the recovered, by id
	Problems  []string `json:"problems"`  // what was left out, and why
	Gaps      []Gap    `json:"gaps"`      // times that can no longer be compared

	endless bool // a list of events or objects had no end: each try may cost a thousand calls
}

// Gap is a time whose events Stripe no longer lists, and that was not compared while it did. Times
// are Unix seconds.
type Gap struct {
	Account string `json:"account"` // empty for the key's own
	From    int64  `json:"from"`
	To      int64  `json:"to"`
}

// maxTold of the recovered events are named in a report.
const maxTold = 100

// Progress tells how far a round has come.
type Progress struct {
	Object    string `json:"object"` // reconcile_progress
	Running   bool   `json:"running"`
	Account   string `json:"account"` // empty for the platform's own
	From      int64  `json:"from"`
	At        int64  `json:"at"` // up to where events were compared
	To        int64  `json:"to"`
	Recovered int    `json:"recovered"`
	Answered  int64  `json:"answered"` // when Stripe last answered a call; 0 while it has not

	Compared  int              `json:"accounts_compared"` // as of the last round, the key's own among them
	Refused   int              `json:"accounts_refused"`
	Waiting   int              `json:"accounts_waiting"`
	Connected []stripe.Account `json:"connected"` // some connected accounts, those with the newest events first
}

// MaxSample connected accounts are named in a [Progress].
const MaxSample = 3

// Request is what a round is to do.
type Request struct {
	Since  time.Duration // how far back to look; 0 for as far as the checkpoints say
	DryRun bool          // write nothing
	Every  time.Duration // of rounds that run by themselves, and compare only accounts whose turn it is; 0 for all
}

// Run works until ctx ends: a round at once and then one every so often, counted from the beginning
// of the last.
func (r *Reconciler) Run(ctx context.Context, every time.Duration) error {
	early, soon := false, thinEvery
	for {
		begun := time.Now()
		report, err := r.Round(ctx, Request{Every: every})
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case !byLedger(err):
			soon = thinEvery
		case early: // what the ledger refuses may be this round's events only: another one costs the same calls
			soon = min(2*soon, retryPause)
		}
		next := begun.Add(every)
		fetched := report.Recovered + report.Fetched + report.Resolved
		if fetched > 0 {
			r.Log.Warn("events had been missed and were fetched from Stripe", "recovered", report.Recovered, "objects", report.Fetched, "thin", report.Resolved, "listed", report.Listed)
		}
		switch {
		case err == nil:
		case errors.Is(err, errBudget):
			if r.news("budget") {
				r.Log.Warn("the ledger was compared with a part of Stripe's list of events", "reason", err)
			}
			if r.exhausted() {
				next = time.Now().Add(r.untilMidnight())
			}
		case errors.Is(err, errPartly) || errors.Is(err, errShare):
			if r.news(keyOf(err)) {
				r.Log.Warn("the ledger was compared with a part of Stripe's list of events", "reason", err)
			}
		default:
			pause := min(every, retryPause)
			if report.endless {
				pause = max(every, endlessPause)
			}
			next = begun.Add(pause)
			if r.news(keyOf(err)) {
				r.Log.Error("the ledger could not be compared with Stripe's list of events; trying again",
					"error", err, "every", pause)
			}
		}
		if early = r.pause(ctx, next, begun.Add(soon)); ctx.Err() != nil {
			return nil
		}
	}
}

// pause waits for the next round, or until ctx ends. Meanwhile it resolves the thin events that are
// delivered. It reports whether it ended early: from soon on where the last round, whoever asked for
// it, failed by the ledger, and the ledger can be written again.
func (r *Reconciler) pause(ctx context.Context, next, soon time.Time) (early bool) {
	next = latest(next, time.Now().Add(leastPause))
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(time.Until(next), thinEvery)):
		}
		switch now := time.Now(); {
		case !now.Before(next):
			return false
		case !now.Before(soon) && r.storageIsBack():
			return true
		}
		r.lookAtClock(ctx)
		if err := r.resolveThin(ctx); err != nil && ctx.Err() == nil && r.news("thin/"+keyOf(err)) {
			r.Log.Warn("not all thin events could be resolved; trying again with the next round that has calls left", "error", err)
		}
	}
}

// storageIsBack reports whether the last round failed by a ledger that can be written again.
func (r *Reconciler) storageIsBack() bool {
	r.mu.Lock()
	failed := r.failed
	r.mu.Unlock()
	return byLedger(failed) && r.Ledger.Health().Err == nil
}

// byLedger reports whether a round failed by a ledger that can be writable again by itself.
func byLedger(err error) bool {
	return (errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, ledger.ErrOverloaded)) && !errors.Is(err, ledger.ErrCorrupt)
}

// leastPause is between two rounds, however long one took.
const leastPause = time.Second

// Round compares once, after a round that is under way. The report says what was done even where it
// returns an error.
func (r *Reconciler) Round(ctx context.Context, q Request) (report *Report, err error) {
	report = &Report{Object: "reconciliation", DryRun: q.DryRun}
	report.Events, report.Problems, report.Gaps = []string{}, []string{}, []Gap{}
	select {
	case <-r.turn:
	case <-ctx.Done():
		return report, ctx.Err()
	}
	defer func() { r.turn <- struct{}{} }()
	w := &round{Reconciler: r, request: q, report: report, pending: map[string]int64{}, begun: r.corrected()}
	if err := w.load(); err != nil {
		r.conclude(ctx, w, err)
		return report, err
	}
	w.forgetFuture()
	ctx = stripe.WithBudget(ctx, func() error { return w.spend(ctx) })
	err = w.run(ctx)
	if w.undated {
		w.problem("undated", "%s", undatedSentence)
	}
	if err == nil && !q.DryRun && !w.undated && q.Since == 0 { // a shorter look back may have left out what is older
		w.success = r.now()
		w.noteMark(lastSuccess, w.success.Unix())
	}
	err = errors.Join(err, w.keepAtEnd(ctx))
	r.conclude(ctx, w, err)
	return report, err
}

// What the ledger remembers of past rounds.
const (
	lastSuccess = "reconcile-success" // when a round last compared everything
	lastAudit   = "audit-success"     // when the endpoint was last looked up
	lastAnswer  = "connected-answer"  // when Stripe last answered for a connected account
)

// load reads what the ledger remembers, once.
func (w *round) load() error {
	if w.loaded {
		return nil
	}
	var success, audit int64
	var g gap
	for name, value := range map[string]*int64{
		lastSuccess: &success, lastAudit: &audit, lastAnswer: &w.answeredAt, gapFrom: &g.from, gapTo: &g.to, gapFound: &g.found,
	} {
		var err error
		if *value, err = w.Ledger.Checkpoint(name); err != nil {
			return err
		}
	}
	if err := w.loadBudget(); err != nil {
		return err
	}
	for _, at := range []*int64{&success, &audit} {
		if *at > w.API.Clocks().Later().Unix()+maxDrift {
			*at = 0 // a wrong clock has left it
		}
	}
	list, err := w.readAccounts()
	if err != nil {
		return err
	}
	w.Metrics.Reconciled(time.Unix(success, 0))
	w.Metrics.Audited(time.Unix(audit, 0))
	if list[0].checkpoint != 0 { // something was compared before
		w.setCensus(list)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if success != 0 {
		w.ended = time.Unix(success, 0)
	}
	w.gap, w.used, w.loaded = g, w.spent, true
	return nil
}

// conclude remembers how a round ended.
func (r *Reconciler) conclude(ctx context.Context, w *round, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Running = false
	r.used = r.spent
	now := time.Now() // compared with other readings of this process only, so that it is monotonic
	if report := w.report; !report.DryRun {
		if report.Recovered > 0 {
			r.missed = append(slices.DeleteFunc(r.missed, func(m miss) bool { return now.Sub(m.at) > 24*time.Hour }), miss{now, report.Recovered})
		}
		if ctx.Err() == nil { // a round that was stopped shows nothing
			r.failed = err
		}
		if err == nil && !w.success.IsZero() {
			r.ended = w.success
			r.Metrics.Reconciled(w.success)
		}
	}
	if skew, ok := r.API.Skew(); ok {
		r.Metrics.Skew(skew)
	}
}

// Progress reports how far the round under way has come, and how the accounts stood after the last.
func (r *Reconciler) Progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, c := r.progress, r.census
	p.Object = "reconcile_progress"
	if at, ok := r.API.Answered(); ok {
		p.Answered = at.Unix()
	}
	p.Compared, p.Refused, p.Waiting = c.compared, len(c.refused)+len(c.left), c.waiting
	p.Connected = slices.Clone(c.sample)
	if p.Connected == nil {
		p.Connected = []stripe.Account{}
	}
	return p
}

// round is one under way.
type round struct {
	*Reconciler
	request  Request
	report   *Report
	accounts []*account
	pending  map[string]int64 // values for the ledger that are not written yet
	most     int64            // calls that may have been made today
	until    int64            // calls that may have been made before the account under way has used its share
	success  time.Time        // when the round had compared everything
	begun    time.Time
	ownAt    time.Time // when the key's own account was last compared
	// thinLeftOut counts the events at the beginning of thinLater that were left out.
	thinLeftOut int
	undated     bool // the clocks contradict each other so that it is not kept how far an account was compared
}

func (w *round) run(ctx context.Context) (err error) {
	if w.accounts, err = w.readAccounts(); err != nil {
		return err
	}
	for _, a := range w.accounts {
		w.note(a) // when it was first seen
		w.API.SawEvent(a.newest)
	}
	err = w.compare(ctx)
	partly := w.countAccounts() // also after a failure: it shows which accounts wait
	return cmp.Or(err, partly)
}

// compare audits the endpoint and compares the accounts.
func (w *round) compare(ctx context.Context) error {
	w.unshared(false)
	// The audit comes first: its answer carries Stripe's time.
	audit := w.examine(ctx)
	var answered *stripe.APIError
	if audit != nil && !errors.Is(audit, stripe.ErrNotStripe) && (!errors.As(audit, &answered) || answered.Refused()) {
		return audit
	}
	w.share(false)
	errs := []error{audit}
	switch err := w.events(ctx, w.accounts[0]); {
	case errors.Is(err, errShare):
		errs = append(errs, fmt.Errorf("the account has more events than one round may read: %w; "+
			"the rest follows with the next round", err))
	case errors.Is(err, ledger.ErrCorrupt):
		errs = append(errs, err)
	case err != nil:
		return errors.Join(audit, err)
	default:
		w.report.Accounts++
	}
	w.ownAt = time.Now()
	if err := w.connected(ctx, w.accounts[1:]); err != nil {
		var own *ownError
		if errs = append(errs, err); ctx.Err() != nil || errors.As(err, &own) {
			return errors.Join(errs...)
		}
	}
	w.unshared(true)
	if err := w.recognise(ctx); err != nil {
		if errs = append(errs, err); !errors.Is(err, errBudget) {
			return errors.Join(errs...)
		}
	}
	if !w.request.DryRun {
		errs = append(errs, w.beyondEvents(ctx))
	}
	return errors.Join(errs...)
}

// countAccounts counts the accounts after they were compared, and returns an error if some are not.
func (w *round) countAccounts() error {
	if w.request.DryRun {
		return nil // it moves no checkpoint
	}
	c := w.setCensus(w.accounts)
	if w.request.Since > 0 {
		return nil
	}
	return c.err()
}

// setCensus counts accounts and remembers the result.
func (r *Reconciler) setCensus(list []*account) census {
	c := takeCensus(list, r.answeredAt, r.now(), r.corrected())
	c.restricted = r.API.Restricted()
	c.exhausted = r.spentToday() >= r.available(c.connected > 0)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.census = c
	r.Metrics.Accounts(c.compared, len(c.refused)+len(c.left), c.waiting)
	return c
}

// examine audits the endpoint. That the key may not see endpoints does not keep a round from its events.
func (w *round) examine(ctx context.Context) error {
	all, skipped, err := w.API.Endpoints(ctx)
	var refused *stripe.APIError
	if errors.As(err, &refused) && refused.Forbidden() {
		w.setAudit(&Audit{Findings: []health.Finding{{Code: health.Endpoint, Severity: health.Unknown,
			Message: "The API key may not see the webhook endpoints, so whether ours is enabled is not known.", Next: "give the restricted key the permission Webhook Endpoints: Read"}}})
		return nil
	}
	if err != nil {
		return err
	}
	for _, err := range skipped {
		w.problem("endpoint/"+keyOf(err), "%v", err)
	}
	a := Examine(all, w.URL, w.Livemode)
	if a.Endpoint != nil {
		w.Metrics.Endpoint(len(a.Disabled) == 0, len(a.Missing))
	} else if w.URL != "" {
		w.Metrics.Endpoint(false, len(stripe.Types))
	}
	w.setAudit(&a)
	w.Metrics.Audited(w.now())
	w.noteMark(lastAudit, w.now().Unix())
	return nil
}

// setAudit keeps an audit, and logs what is wrong.
func (r *Reconciler) setAudit(a *Audit) {
	r.mu.Lock()
	r.audit = a
	r.mu.Unlock()
	for _, f := range a.Findings {
		r.log(f)
	}
}

// log logs what is wrong, unless it did of late.
func (r *Reconciler) log(f health.Finding) {
	if f.Severity == health.OK || !r.news(string(f.Code+"/")+string(f.Severity)+"/"+changing.ReplaceAllString(f.Message, "#")) {
		return
	}
	level := slog.LevelWarn
	if f.Severity == health.Fail {
		level = slog.LevelError
	}
	r.Log.Log(context.Background(), level, f.Message, "check", f.Code, "next", f.Next)
}

// recognise asks Stripe for some of what was delivered of late, until it knows one: a key of another account would bring that one's
// payments into these books.
func (w *round) recognise(ctx context.Context) error {
	if keys := w.API.Keys(); keys != w.keys {
		w.keys, w.known = keys, false
	}
	if w.known {
		return nil
	}
	page, err := w.Ledger.Events(ctx, ledger.EventQuery{Limit: 50})
	if err != nil {
		return err
	}
	// Of an account that Stripe refuses no event is known, whatever key asks.
	latest := slices.DeleteFunc(page.Data, func(e *ledger.EventRecord) bool {
		return slices.ContainsFunc(w.accounts, func(a *account) bool { return a.out() && a.ID == string(e.Account) })
	})
	some := Deliveries(latest, w.now())
	for _, e := range some {
		known, err := w.API.HasEvent(ctx, stripe.Account{ID: string(e.Account), Context: string(e.Context)}, e.ID)
		var refused *stripe.APIError
		if err != nil && (!errors.As(err, &refused) || refused.Refused()) {
			return err
		}
		if err != nil {
			return nil // it is not worth more
		}
		if w.known = known; known {
			break
		}
	}
	f := Acquainted(w.known, len(some))
	w.log(f)
	w.mu.Lock()
	w.stranger = f.Severity != health.OK
	w.mu.Unlock()
	return nil
}
