// Package reconcile fills in from Stripe's API what was missed, and audits the endpoint there.
//
// A [Reconciler] goes round by round. A round audits the endpoint, then lists the events of a span of time, slice by slice, for
// the platform and for every connected account that was seen, and has the ledger write down those it does not know, by its one
// door. How far that has come is a mark in the ledger: it moves on only behind what is on disk. Once a day a round looks at what no
// event tells (objects.go).
//
// What can hurt here: a mark that moves past what was not read (events are lost for good after 30 days), the last minutes of
// Stripe's list (an event can appear in it late), and asking too much (Stripe refuses the shop's own calls, too).
package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tillhook/ledger"
	"tillhook/metrics"
	"tillhook/receiver/stripe"
)

const (
	// unsettled is the youngest part of Stripe's list, which is read and never counted as read.
	unsettled = 10 * time.Minute
	// overlap is how much before the mark a round begins; once a day it is more.
	overlap      = time.Hour
	dailyOverlap = 48 * time.Hour
	// reach is how far back Stripe lists events. https://docs.stripe.com/api/events
	reach = 30 * 24 * time.Hour
	// firstSlice is what is listed at once to begin with; where little happens it grows up to maxSlice.
	firstSlice = time.Hour
	maxSlice   = 24 * time.Hour
	// maxPages a slice may have; one of more is halved.
	maxPages = 10
	// dailyCalls to Stripe's API a day, which is a hundredth of what Stripe allows.
	dailyCalls = 20000
	// retryPause is how soon a round that failed is tried again, at most.
	retryPause = 5 * time.Minute
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
	ended    time.Time // the last round that came to its end
	missed   []miss
	progress Progress
	logged   map[string]time.Time // words, and when
	stranger bool                 // what was delivered of late is not known to the key's account

	known bool   // what was delivered is known to the key's account; whoever has the turn
	spent budget // likewise
	tried uint64 // thin events up to this row were tried since the start, or since the day began; likewise
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
	Accounts  int      `json:"accounts"`  // the platform's own among them
	Listed    int      `json:"listed"`    // events that Stripe has
	Recovered int      `json:"recovered"` // of them those that were missed; in a dry run those that would be fetched
	Fetched   int      `json:"fetched"`   // objects that told what no event had
	Resolved  int      `json:"resolved"`  // thin events that left quarantine
	Calls     int      `json:"calls"`     // to Stripe's API
	Events    []string `json:"events"`    // the first of the recovered, by id
	Problems  []string `json:"problems"`  // what was left out, and why
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
}

// Request is what a round is to do.
type Request struct {
	Since  time.Duration // how far back to look; 0 for as far as the marks say
	DryRun bool          // write nothing
}

// Run goes round until ctx ends, at once and then every so often.
func (r *Reconciler) Run(ctx context.Context, every time.Duration) error {
	for {
		report, err := r.Round(ctx, Request{})
		if ctx.Err() != nil {
			return nil
		}
		pause := every
		if errors.Is(err, errBudget) {
			pause = max(every, time.Until(time.Unix((today()+1)*secondsADay, 0)))
			r.Log.Warn("the ledger was compared with a part of Stripe's list of events", "reason", err, "in", pause)
		} else if err != nil {
			pause = min(every, retryPause)
			if r.news(err.Error()) {
				r.Log.Error("the ledger could not be compared with Stripe's list of events; trying again", "error", err, "every", pause)
			}
		} else if report.Recovered+report.Fetched+report.Resolved > 0 {
			r.Log.Warn("events had been missed and were fetched from Stripe", "recovered", report.Recovered, "objects", report.Fetched, "thin", report.Resolved, "listed", report.Listed)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Round compares once, after whoever is at it. The report tells what was done even where it returns an error.
func (r *Reconciler) Round(ctx context.Context, q Request) (report *Report, err error) {
	select {
	case <-r.turn:
	case <-ctx.Done():
		return &Report{Object: "reconciliation"}, ctx.Err()
	}
	defer func() { r.turn <- struct{}{} }()
	w := &round{Reconciler: r, request: q, report: &Report{Object: "reconciliation", DryRun: q.DryRun, Events: []string{}, Problems: []string{}}}
	defer func() {
		if err == nil || errors.Is(err, errBudget) {
			err = errors.Join(err, r.keepBudget(ctx))
		}
		r.conclude(ctx, q, w.report, err)
	}()
	if err := r.loadBudget(); err != nil {
		return w.report, err
	}
	return w.report, w.run(ctx)
}

// conclude remembers how a round ended.
func (r *Reconciler) conclude(ctx context.Context, q Request, report *Report, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Running = false
	now := time.Now()
	if !report.DryRun {
		if report.Recovered > 0 {
			r.missed = append(slices.DeleteFunc(r.missed, func(m miss) bool { return now.Sub(m.at) > 24*time.Hour }), miss{now, report.Recovered})
		}
		if ctx.Err() == nil { // else somebody broke it off, which says nothing
			r.failed = err
		}
		if err == nil && q.Since == 0 { // else it may have left out what is older
			r.ended = now
			r.Metrics.Reconciled(now)
		}
	}
	if c, ok := r.API.Clock(); ok {
		r.Metrics.Skew(c.Skew)
	}
}

// Progress tells how far the round has come that is under way.
func (r *Reconciler) Progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.progress
	p.Object = "reconcile_progress"
	return p
}

// round is one under way.
type round struct {
	*Reconciler
	request Request
	report  *Report
}

func (w *round) run(ctx context.Context) error {
	// The audit comes first: its answer tells Stripe's time.
	if err := w.examine(ctx); err != nil {
		return err
	}
	known, err := w.Ledger.Accounts()
	if err != nil {
		return err
	}
	var accounts []string
	for _, account := range known {
		accounts = append(accounts, account.ID)
	}
	if err := w.recognise(ctx); err != nil {
		return err
	}
	var errs []error
	for _, account := range append([]string{""}, accounts...) {
		err := w.events(ctx, account)
		var refused *stripe.APIError
		switch {
		case err == nil:
			w.report.Accounts++
		case account == "" || !errors.As(err, &refused) || refused.Refused():
			return errors.Join(append(errs, err)...)
		case refused.Forbidden() || refused.Missing():
			w.problem("account %s is left out: %v", account, err) // it may have left the platform
		default:
			errs = append(errs, fmt.Errorf("account %s: %w", account, err)) // the others are none the worse for it
		}
	}
	if len(errs) == 0 && !w.request.DryRun {
		errs = append(errs, w.beyondEvents(ctx, accounts))
	}
	return errors.Join(errs...)
}

func (w *round) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.report.Problems = append(w.report.Problems, text)
	if w.news(text) {
		w.Log.Warn("reconcile: " + text)
	}
}

// repeatAfter is how long the same words are not logged again.
const repeatAfter = 12 * time.Hour

// news tells whether words were not logged of late.
func (r *Reconciler) news(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(r.logged, func(_ string, at time.Time) bool { return now.Sub(at) > repeatAfter })
	_, known := r.logged[text]
	if !known {
		r.logged[text] = now
	}
	return !known
}

// examine audits the endpoint. That the key may not see endpoints does not keep a round from its events.
func (w *round) examine(ctx context.Context) error {
	if err := w.spend(w.report); err != nil {
		return err
	}
	all, err := w.API.Endpoints(ctx)
	var refused *stripe.APIError
	if errors.As(err, &refused) && refused.Forbidden() {
		w.setAudit(&Audit{Findings: []stripe.Finding{{Name: EndpointFound, Verdict: stripe.Unknown,
			Sentence: "The API key may not see the webhook endpoints, so whether ours is enabled is not known.", Next: "give the restricted key the permission Webhook Endpoints: Read"}}})
		return nil
	}
	if err != nil {
		return err
	}
	a := Examine(all, w.URL, w.Livemode)
	if a.Endpoint != nil {
		w.Metrics.Endpoint(a.Endpoint.Enabled(), len(a.Missing))
	} else if w.URL != "" {
		w.Metrics.Endpoint(false, len(stripe.Types))
	}
	w.setAudit(&a)
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
func (r *Reconciler) log(f stripe.Finding) {
	if f.Verdict == stripe.OK || !r.news(f.Sentence) {
		return
	}
	level := slog.LevelWarn
	if f.Verdict == stripe.Fail {
		level = slog.LevelError
	}
	r.Log.Log(context.Background(), level, f.Sentence, "check", f.Name, "next", f.Next)
}

// recognise asks Stripe for some of what was delivered of late, until it knows one: a key of another account would bring that one's
// payments into these books.
func (w *round) recognise(ctx context.Context) error {
	if w.known {
		return nil
	}
	page, _, err := w.Ledger.Events(ledger.EventQuery{Limit: 50})
	if err != nil {
		return err
	}
	some := Deliveries(page, w.API.Now())
	for _, e := range some {
		if err := w.spend(w.report); err != nil {
			return err
		}
		known, err := w.API.KnowsEvent(ctx, stripe.Account{ID: string(e.Account)}, e.ID)
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
	w.stranger = f.Verdict != stripe.OK
	w.mu.Unlock()
	return nil
}

// events compares the events of one account.
func (w *round) events(ctx context.Context, account string) error {
	now := w.API.Now()
	mark, daily, err := w.marks(account)
	if err != nil {
		return err
	}
	from := now.Add(-reach)
	if w.request.Since > 0 {
		from = now.Add(-min(w.request.Since, reach))
	} else if mark != 0 {
		back := overlap
		if now.Unix()-daily >= secondsADay {
			back = dailyOverlap
		}
		from = latest(from, time.Unix(mark, 0).Add(-back))
	}
	span := Progress{Running: true, Account: account, From: from.Unix(), At: from.Unix(), To: now.Unix() + 1}
	if account == "" {
		w.report.From, w.report.To = span.From, span.To
	}
	w.tell(span)
	slice := int64(firstSlice / time.Second)
	for span.At < span.To {
		end := min(span.At+slice, span.To)
		events, whole, err := w.slice(ctx, account, span.At, end)
		if err != nil {
			return err
		}
		if !whole {
			slice = max(1, (end-span.At)/2)
			continue
		}
		if err := w.book(ctx, events); err != nil {
			return err
		}
		if len(events) < 100 {
			slice = min(2*slice, int64(maxSlice/time.Second))
		}
		span.At = end
		w.tell(span)
		// A round that was told where to begin leaves no gap before the mark only if it began at or before it.
		if reached := min(end, now.Add(-unsettled).Unix()); !w.request.DryRun && reached > mark && (w.request.Since == 0 || mark != 0 && span.From <= mark) {
			if err := w.Ledger.SetMarks(ctx, map[string]int64{markName(account): reached}); err != nil {
				return err
			}
			mark = reached
		}
	}
	if w.request.DryRun || span.From > now.Add(-dailyOverlap).Unix() {
		return nil
	}
	return w.Ledger.SetMarks(ctx, map[string]int64{dailyName(account): now.Unix()})
}

const secondsADay = 24 * 60 * 60

func markName(account string) string  { return "reconciled/" + account }
func dailyName(account string) string { return "reconciled-daily/" + account }

// marks are how far the events of an account have been compared, and when that was done with the large overlap.
func (w *round) marks(account string) (mark, daily int64, err error) {
	if mark, err = w.Ledger.Mark(markName(account)); err == nil {
		daily, err = w.Ledger.Mark(dailyName(account))
	}
	return mark, daily, err
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (w *round) tell(p Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.Recovered = w.report.Recovered
	w.progress = p
}

// slice reads all events of [from, to); whole is false where they are too many to be read at once.
func (w *round) slice(ctx context.Context, account string, from, to int64) (events []*ledger.Event, whole bool, err error) {
	pages := 0
	for _, types := range stripe.TypeGroups() {
		for after := ""; ; {
			if pages++; pages > maxPages && to-from > 1 {
				return nil, false, nil
			}
			if err := w.spend(w.report); err != nil {
				return nil, false, err
			}
			page, err := w.API.Events(ctx, stripe.Account{ID: account}, w.Livemode, types, from, to, after)
			if err != nil {
				return nil, false, err
			}
			events = append(events, page.Events...)
			if after = page.Next; after == "" {
				break
			}
		}
	}
	slices.SortFunc(events, func(a, b *ledger.Event) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(events, func(a, b *ledger.Event) bool { return a.ID == b.ID }), true, nil
}

// book has the ledger write down what it does not know of a slice.
func (w *round) book(ctx context.Context, events []*ledger.Event) error {
	w.report.Listed += len(events)
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.ID
	}
	known, err := w.Ledger.Knows(names)
	if err != nil {
		return err
	}
	for i, e := range events {
		if known[i] == ledger.Known || known[i] == ledger.Held && e.Quarantine != "" {
			continue
		}
		if !w.request.DryRun {
			e.Source, e.Received = ledger.Reconcile, time.Now()
			recovered, err := w.append(ctx, e)
			if err != nil {
				return err
			}
			if !recovered {
				continue // Stripe delivered it meanwhile
			}
			w.Metrics.Recovered()
		}
		w.report.Recovered++
		if len(w.report.Events) < maxTold {
			w.report.Events = append(w.report.Events, e.ID)
		}
	}
	return nil
}

// appendTime bounds the wait for one event's commit.
const appendTime = 30 * time.Second

// append has an event written down, and counts it as the public door does. It is false for one that was known after all.
func (w *round) append(ctx context.Context, e *ledger.Event) (fresh bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, appendTime)
	defer cancel()
	res, err := w.Ledger.Append(ctx, e)
	if err != nil {
		return false, fmt.Errorf("write down %s: %w", e.ID, err)
	}
	if res.Status == ledger.AlreadyProcessed {
		return false, nil
	}
	w.Metrics.Event(e.Type, string(res.Status), string(res.Reason), -1)
	if res.Unlinked {
		w.Metrics.Unlinked(e.Type)
	}
	w.Log.Info("event", "id", e.ID, "type", e.Type, "payment", res.PaymentID, "outcome", res.Status, "source", e.Source)
	return true, nil
}
