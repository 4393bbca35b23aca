// Package reconcile fetches from Stripe's API what was not delivered, and checks the endpoint
// there.
//
// A [Reconciler] works in rounds. A round checks the endpoint (audit.go). It then lists the events
// of a span of time (compare.go) for the key's own account and for every connected account that is
// due (accounts.go), and appends those that the ledger does not have. A checkpoint per account in
// the ledger records how far its events were compared; it moves only past events that are on disk.
// Once a day a round looks for changes that no event reports (objects.go). The calls of a day are
// limited (budget.go).
//
// Dangers: a checkpoint that moves past events that were not read (Stripe deletes events after 30
// days), the last minutes of Stripe's list (an event can appear in it late), a wrong clock
// (times.go), and too many calls (Stripe then also refuses the shop's own).
//
// The package does not know HTTP, signatures or how the receiver stores events.
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
	// lateWindow is how late Stripe may add an event to its list: a checkpoint never passes now
	// minus this.
	lateWindow = 10 * time.Minute
	// overlap is how far before the checkpoint a round starts, dailyOverlap once a day.
	overlap      = time.Hour
	dailyOverlap = 48 * time.Hour
	// eventHistory is how long Stripe keeps events. https://docs.stripe.com/api/events
	eventHistory = 30 * 24 * time.Hour
	// maxPages is the maximum number of pages of a time slice. A larger slice is halved.
	maxPages = 10
	// maxListPages bounds a list of objects.
	maxListPages = 1000
	// maxSecondPages bounds the list of events of one second, which cannot be halved.
	maxSecondPages = 200
	// dailyCalls is the default limit of calls to Stripe's API per day, 1 % of what Stripe allows.
	dailyCalls = 20000
	// retryPause is the maximum pause after a failed round.
	retryPause = 5 * time.Minute
	// endlessPause is the minimum pause after a list without an end.
	endlessPause = time.Hour
)

// Options configures a reconciler. All fields but URL and Calls are required.
type Options struct {
	API      *stripe.API
	Ledger   *ledger.Ledger
	Metrics  *metrics.Metrics
	Log      *slog.Logger
	Livemode bool
	URL      string // URL of this receiver's endpoint at Stripe; empty if unknown
	Calls    int    // per day; 0 for the default
}

// Reconciler compares the ledger with Stripe. Its methods are safe for concurrent use; rounds run
// one at a time.
type Reconciler struct {
	Options
	token chan struct{} // holds a value while no round runs

	mu           sync.Mutex // guards the fields up to used
	audit        *Audit
	failed       error     // error of the last round
	completed    time.Time // when a round last compared everything
	missed       []miss
	progress     Progress
	logged       map[string]time.Time // time of the last log line by problem key
	wrongAccount bool                 // the key's account does not have the latest deliveries
	summary      accountSummary       // of the accounts, after the last round
	gap          gap
	used         budget // as of the last round

	// The fields below belong to the round that holds the token.
	loaded bool   // the checkpoints in the ledger were read
	known  bool   // the key's account has a recent delivery
	ownID  string // of the key's own account; empty if unknown
	// ownUnknown is set while Stripe was not yet asked for ownID, or did not answer.
	ownUnknown bool
	keys       uint64 // API.Keys when known was set
	spent      budget
	previous   budget // of the previous day, or of a day that a wrong clock has left
	reserved   int64  // calls of today that are counted in the ledger
	// answeredAt is when Stripe last answered for a connected account, by this machine's clock.
	answeredAt int64
	thinTried  uint64 // thin events up to this row were tried today
	thinDay    int64  // day of thinTried
	thinReady  bool   // the last pass over thin events did not end with an error
	thinLater  []string
	staleLater []ledger.StalePayment // of connected accounts, due in the next round like thinLater

	nextClockCheck time.Time // earliest next call of refreshClock; only Run uses it
}

// miss is a round that found missed events.
type miss struct {
	at     time.Time
	events int
}

// New returns a reconciler. It starts nothing.
func New(o Options) *Reconciler {
	o.Calls = cmp.Or(o.Calls, dailyCalls)
	r := &Reconciler{Options: o, token: make(chan struct{}, 1), logged: map[string]time.Time{}, ownUnknown: true}
	r.token <- struct{}{}
	return r
}

// Report is the result of a round.
type Report struct {
	Object    string   `json:"object"` // reconciliation
	DryRun    bool     `json:"dry_run"`
	From      int64    `json:"from"` // Unix seconds
	To        int64    `json:"to"`
	Accounts  int      `json:"accounts"`  // compared accounts, including the key's own
	Listed    int      `json:"listed"`    // events in Stripe's list
	Recovered int      `json:"recovered"` // missed events that were fetched, or would be in a dry run
	Fetched   int      `json:"fetched"`   // objects with changes that no event reported
	Resolved  int      `json:"resolved"`  // thin events that left quarantine
	Calls     int      `json:"calls"`     // to Stripe's API
	Events    []string `json:"events"`    // ids of the first recovered events
	Problems  []string `json:"problems"`  // what was skipped, and why
	Gaps      []Gap    `json:"gaps"`      // spans that can no longer be compared

	endless bool // a list had no end: each attempt may cost a thousand calls
}

// Gap is a span of time that was not compared while Stripe still listed its events. Times are Unix
// seconds.
type Gap struct {
	Account string `json:"account"` // empty for the key's own account
	From    int64  `json:"from"`
	To      int64  `json:"to"`
}

// maxReportedEvents is the maximum number of recovered events that a report names.
const maxReportedEvents = 100

// Progress is the state of a round in progress, and of the accounts after the last round.
type Progress struct {
	Object    string `json:"object"` // reconcile_progress
	Running   bool   `json:"running"`
	Account   string `json:"account"` // empty for the key's own account
	From      int64  `json:"from"`
	At        int64  `json:"at"` // events before this were compared
	To        int64  `json:"to"`
	Recovered int    `json:"recovered"`
	Answered  int64  `json:"answered"` // when Stripe last answered a call; 0 if never

	Compared  int              `json:"accounts_compared"` // after the last round, including the key's own
	Refused   int              `json:"accounts_refused"`
	Waiting   int              `json:"accounts_waiting"`
	Connected []stripe.Account `json:"connected"` // some connected accounts, newest events first
}

// MaxSample is the maximum number of connected accounts in a [Progress].
const MaxSample = 3

// Request describes a round.
type Request struct {
	Since  time.Duration // how far back to look; 0 to continue from the checkpoints
	DryRun bool          // write nothing
	Every  time.Duration // interval of automatic rounds, which compare only due accounts; 0 for all accounts
}

// Run runs rounds until ctx ends: one at once, then one per interval, counted from the start of the
// last.
func (r *Reconciler) Run(ctx context.Context, every time.Duration) error {
	early, soon := false, thinEvery
	for {
		begun := time.Now()
		report, err := r.Round(ctx, Request{Every: every})
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case !isLedgerError(err):
			soon = thinEvery
		case early: // the ledger may refuse only this round's events, and another round costs the same calls
			soon = min(2*soon, retryPause)
		}
		next := begun.Add(every)
		fetched := report.Recovered + report.Fetched + report.Resolved
		if fetched > 0 {
			r.Log.Warn("fetched missed events from Stripe", "recovered", report.Recovered, "objects", report.Fetched, "thin", report.Resolved, "listed", report.Listed)
		}
		switch {
		case err == nil:
		case errors.Is(err, errBudget):
			if r.shouldLog("budget") {
				r.Log.Warn("compared the ledger with only a part of Stripe's event list", "reason", err)
			}
			if r.exhausted() {
				next = time.Now().Add(r.untilMidnight())
			}
		case errors.Is(err, errPartly) || errors.Is(err, errShare):
			if r.shouldLog(problemKey(err)) {
				r.Log.Warn("compared the ledger with only a part of Stripe's event list", "reason", err)
			}
		default:
			pause := min(every, retryPause)
			if report.endless {
				pause = max(every, endlessPause)
			}
			next = begun.Add(pause)
			if r.shouldLog(problemKey(err)) {
				r.Log.Error("could not compare the ledger with Stripe's event list; trying again",
					"error", err, "every", pause)
			}
		}
		if early = r.pause(ctx, next, begun.Add(soon)); ctx.Err() != nil {
			return nil
		}
	}
}

// pause waits for the next round, or until ctx ends. Meanwhile it resolves new thin events. It
// returns early, after soon, if the last round failed because of the ledger and the ledger is
// writable again.
func (r *Reconciler) pause(ctx context.Context, next, soon time.Time) (early bool) {
	next = latest(next, time.Now().Add(minPause))
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
		r.refreshClock(ctx)
		if err := r.resolveNewThin(ctx); err != nil && ctx.Err() == nil && r.shouldLog("thin/"+problemKey(err)) {
			r.Log.Warn("some thin events could not be resolved; trying again in the next round with calls left", "error", err)
		}
	}
}

// storageIsBack reports whether the last round failed because of a ledger that is writable again.
func (r *Reconciler) storageIsBack() bool {
	r.mu.Lock()
	failed := r.failed
	r.mu.Unlock()
	return isLedgerError(failed) && r.Ledger.Health().Err == nil
}

// isLedgerError reports whether a round failed because of a ledger that can recover by itself.
func isLedgerError(err error) bool {
	return (errors.Is(err, ledger.ErrUnavailable) || errors.Is(err, ledger.ErrOverloaded)) && !errors.Is(err, ledger.ErrCorrupt)
}

// minPause is the minimum pause between two rounds.
const minPause = time.Second

// Round runs one round, after any round in progress. The report is valid even with an error.
func (r *Reconciler) Round(ctx context.Context, q Request) (report *Report, err error) {
	report = &Report{Object: "reconciliation", DryRun: q.DryRun}
	report.Events, report.Problems, report.Gaps = []string{}, []string{}, []Gap{}
	select {
	case <-r.token:
	case <-ctx.Done():
		return report, ctx.Err()
	}
	defer func() { r.token <- struct{}{} }()
	w := &round{Reconciler: r, request: q, report: report, pending: map[string]int64{}, begun: r.corrected()}
	if err := w.load(); err != nil {
		r.conclude(ctx, w, err)
		return report, err
	}
	w.forgetFuture()
	ctx = stripe.WithBudget(ctx, func() error { return w.spend(ctx) })
	err = w.run(ctx)
	if w.undated {
		w.reportProblem("undated", "%s", undatedSentence)
	}
	if err == nil && !q.DryRun && !w.undated && q.Since == 0 { // Since may exclude older events
		w.success = r.now()
		w.noteCheckpoint(lastSuccess, w.success.Unix())
	}
	err = errors.Join(err, w.saveAtEnd(ctx))
	r.conclude(ctx, w, err)
	return report, err
}

// Checkpoints of past rounds in the ledger.
const (
	lastSuccess = "reconcile-success" // when a round last compared everything
	lastAudit   = "audit-success"     // when the endpoint was last checked
	lastAnswer  = "connected-answer"  // when Stripe last answered for a connected account
)

// load reads the checkpoints once.
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
			*at = 0 // left by a wrong clock
		}
	}
	list, err := w.readAccounts()
	if err != nil {
		return err
	}
	w.Metrics.Reconciled(time.Unix(success, 0))
	w.Metrics.Audited(time.Unix(audit, 0))
	if list[0].checkpoint != 0 { // a round has completed before
		w.updateSummary(list)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if success != 0 {
		w.completed = time.Unix(success, 0)
	}
	w.gap, w.used, w.loaded = g, w.spent, true
	return nil
}

// conclude records the result of a round.
func (r *Reconciler) conclude(ctx context.Context, w *round, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Running = false
	r.used = r.spent
	now := time.Now() // monotonic: it is compared only with other readings of this process
	if report := w.report; !report.DryRun {
		if report.Recovered > 0 {
			r.missed = append(slices.DeleteFunc(r.missed, func(m miss) bool { return now.Sub(m.at) > 24*time.Hour }), miss{now, report.Recovered})
		}
		// The error of a stopped round means nothing, and a short round does not compare what an
		// earlier one could not.
		if ctx.Err() == nil && (err != nil || !w.short) {
			r.failed = err
		}
		if err == nil && !w.success.IsZero() {
			r.completed = w.success
			r.Metrics.Reconciled(w.success)
		}
	}
	if skew, ok := r.API.Skew(); ok {
		r.Metrics.Skew(skew)
	}
}

// Progress returns the progress of the current round, and the state of the accounts after the last.
func (r *Reconciler) Progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, c := r.progress, r.summary
	p.Object = "reconcile_progress"
	if at, ok := r.API.Answered(); ok {
		p.Answered = at.Unix()
	}
	p.Compared, p.Refused, p.Waiting = c.compared, len(c.refused)+len(c.disconnected), c.waiting
	p.Connected = slices.Clone(c.sample)
	if p.Connected == nil {
		p.Connected = []stripe.Account{}
	}
	return p
}

// round is a round in progress.
type round struct {
	*Reconciler
	request    Request
	report     *Report
	accounts   []*account
	pending    map[string]int64 // checkpoints that are not saved yet
	callLimit  int64            // limit of calls made today
	shareLimit int64            // the same limit for the current account's share
	success    time.Time        // when the round had compared everything; zero before
	begun      time.Time
	ownAt      time.Time // when the key's own account was last compared
	// thinLeftOut is the number of events at the beginning of thinLater that were skipped.
	thinLeftOut int
	short       bool // Since left out events of an account that are not compared yet
	undated     bool // contradicting clocks: how far an account was compared is not saved
}

func (w *round) run(ctx context.Context) (err error) {
	if err = w.learnOwnID(ctx); err == nil {
		w.accounts, err = w.readAccounts()
	}
	if err != nil {
		return err
	}
	for _, a := range w.accounts {
		w.noteAccount(a) // saves when it was first seen
		w.API.SawEvent(a.newest)
	}
	err = w.compare(ctx)
	partly := w.countAccounts() // also after an error: it counts the waiting accounts
	return cmp.Or(err, partly)
}

// compare checks the endpoint and compares the accounts.
func (w *round) compare(ctx context.Context) error {
	w.limitToDay(false)
	// The endpoint check comes first because its answer has Stripe's time.
	audit := w.auditEndpoint(ctx)
	var answered *stripe.APIError
	if audit != nil && !errors.Is(audit, stripe.ErrNotStripe) && (!errors.As(audit, &answered) || answered.Refused()) {
		return audit
	}
	w.limitToShare(false)
	errs := []error{audit}
	switch err := w.compareAccount(ctx, w.accounts[0]); {
	case errors.Is(err, errShare):
		errs = append(errs, fmt.Errorf("the account has more events than one round may read: %w; "+
			"the next round reads the rest", err))
	case errors.Is(err, ledger.ErrCorrupt):
		errs = append(errs, err)
	case err != nil:
		return errors.Join(audit, err)
	default:
		w.report.Accounts++
	}
	w.ownAt = time.Now()
	if err := w.compareConnected(ctx, w.accounts[1:]); err != nil {
		var own *ownError
		if errs = append(errs, err); ctx.Err() != nil || errors.As(err, &own) {
			return errors.Join(errs...)
		}
	}
	w.limitToDay(true)
	if err := w.checkAccount(ctx); err != nil {
		if errs = append(errs, err); !errors.Is(err, errBudget) {
			return errors.Join(errs...)
		}
	}
	if !w.request.DryRun {
		errs = append(errs, w.reconcileObjects(ctx))
	}
	return errors.Join(errs...)
}

// countAccounts updates the summary of the accounts, and returns an error if some are not compared.
func (w *round) countAccounts() error {
	if w.request.DryRun {
		return nil // no checkpoint moves
	}
	c := w.updateSummary(w.accounts)
	if w.request.Since > 0 {
		return nil
	}
	return c.err()
}

// updateSummary summarizes the accounts for findings and metrics.
func (r *Reconciler) updateSummary(list []*account) accountSummary {
	c := summarizeAccounts(list, r.answeredAt, r.now(), r.corrected())
	c.restricted = r.API.Restricted()
	c.exhausted = r.spentToday() >= r.available(c.connected > 0)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summary = c
	r.Metrics.Accounts(c.compared, len(c.refused)+len(c.disconnected), c.waiting)
	return c
}

// auditEndpoint checks the endpoint. A key without permission to list endpoints does not stop the
// round.
func (w *round) auditEndpoint(ctx context.Context) error {
	all, skipped, err := w.API.Endpoints(ctx)
	var refused *stripe.APIError
	if errors.As(err, &refused) && refused.Forbidden() {
		w.setAudit(&Audit{Findings: []health.Finding{{Code: health.Endpoint, Severity: health.Unknown,
			Message: "The API key is not allowed to list webhook endpoints, so it is unknown whether the endpoint is enabled.", Next: "give the restricted key the permission Webhook Endpoints: Read"}}})
		return nil
	}
	if err != nil {
		return err
	}
	for _, err := range skipped {
		w.reportProblem("endpoint/"+problemKey(err), "%v", err)
	}
	a := Examine(all, w.URL, w.Livemode)
	if a.Endpoint != nil {
		w.Metrics.Endpoint(len(a.Disabled) == 0, len(a.Missing))
	} else if w.URL != "" {
		w.Metrics.Endpoint(false, len(stripe.Types))
	}
	w.setAudit(&a)
	w.Metrics.Audited(w.now())
	w.noteCheckpoint(lastAudit, w.now().Unix())
	return nil
}

// setAudit stores an audit and logs its findings.
func (r *Reconciler) setAudit(a *Audit) {
	r.mu.Lock()
	r.audit = a
	r.mu.Unlock()
	for _, f := range a.Findings {
		r.log(f)
	}
}

// log logs a finding that is not OK, unless it was logged recently.
func (r *Reconciler) log(f health.Finding) {
	if f.Severity == health.OK || !r.shouldLog(string(f.Code+"/")+string(f.Severity)+"/"+volatile.ReplaceAllString(f.Message, "#")) {
		return
	}
	level := slog.LevelWarn
	if f.Severity == health.Fail {
		level = slog.LevelError
	}
	r.Log.Log(context.Background(), level, f.Message, "check", f.Code, "next", f.Next)
}

// checkAccount asks Stripe for some recent deliveries until it has one of them. A key of another
// account would bring that account's payments into this ledger.
func (w *round) checkAccount(ctx context.Context) error {
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
	// Stripe has no event of an account that it refuses, whatever the key.
	latest := slices.DeleteFunc(page.Data, func(e *ledger.EventRecord) bool {
		return slices.ContainsFunc(w.accounts, func(a *account) bool { return a.isRefused() && a.ID == string(e.Account) })
	})
	some := Deliveries(latest, w.now())
	for _, e := range some {
		of := stripe.Account{ID: string(e.Account), Context: string(e.Context)}
		if w.connectedID(of.ID) == "" {
			of = stripe.Account{}
		}
		known, err := w.API.HasEvent(ctx, of, e.ID)
		var refused *stripe.APIError
		if err != nil && (!errors.As(err, &refused) || refused.Refused()) {
			return err
		}
		if err != nil {
			return nil // the next round tries again
		}
		if w.known = known; known {
			break
		}
	}
	f := AccountFinding(w.known, len(some))
	w.log(f)
	w.mu.Lock()
	w.wrongAccount = f.Severity != health.OK
	w.mu.Unlock()
	return nil
}
