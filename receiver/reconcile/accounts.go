package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/stripe"
)

// A platform can have many connected accounts, and each comparison costs at least one call. So a
// quiet account is compared once an hour, oldest comparison first, and an account that Stripe
// refuses is tried with growing pauses.
const (
	// quietEvery is how often an account without new events is compared.
	quietEvery = time.Hour
	// staleAfter is how long after its last comparison an account counts as waiting.
	staleAfter = 2 * time.Hour
	// maxRetryPause bounds the pause between two calls for a refused account. The pause starts at
	// quietEvery and doubles.
	maxRetryPause = 24 * time.Hour
	// disconnectedAfter is how long an account is refused, while Stripe answers for others, until
	// it counts as disconnected.
	disconnectedAfter = 24 * time.Hour
	// disconnectedShown is how long a disconnected account is reported.
	disconnectedShown = 7 * 24 * time.Hour
)

// HTTP statuses by which Stripe refuses an account.
const (
	unauthorized = 401
	forbidden    = 403
)

// Reasons for which Stripe refuses an account.
const (
	reasonAccount    = 1 // the key has no access to the account
	reasonPermission = 2 // the key lacks a permission
)

// account holds the checkpoints of one account. Times are Unix seconds, 0 if unknown.
type account struct {
	stripe.Account
	checkpoint int64 // all events created before this were compared
	daily      int64 // when the large overlap was last read
	newest     int64 // creation time of the newest listed event
	seen       int64 // about when the ledger first knew the account
	objects    int64 // when its objects were last listed
	refused    int64 // since when calls fail; 0 while they succeed
	asked      int64 // time of the last call since then
	status     int64 // HTTP status of the last refusal; 0 for another error
	reason     int64 // reason of the last refusal; 0 for none of the above

	misdated bool // the checkpoint in the ledger was in the future
	undated  bool // compared, but not saved how far: see datable
	answered bool // the current or last comparison had an answer from Stripe

	kept map[string]int64 // saved values by checkpoint name
}

// own reports whether this is the key's own account.
func (a *account) own() bool { return a.ID == "" }

// isRefused reports whether Stripe refuses the account itself: it has disconnected, or the key is
// not allowed to read it.
func (a *account) isRefused() bool {
	return a.refused != 0 && (a.status == unauthorized || a.status == forbidden)
}

func (a *account) String() string { return cmp.Or(a.ID, "the account") }

// fields returns the account's values by checkpoint name.
func (a *account) fields() map[string]*int64 {
	return map[string]*int64{
		"reconciled/" + a.ID:         &a.checkpoint,
		"reconciled-daily/" + a.ID:   &a.daily,
		"reconciled-newest/" + a.ID:  &a.newest,
		"reconciled-objects/" + a.ID: &a.objects,
		"reconciled-seen/" + a.ID:    &a.seen,
		"refused-since/" + a.ID:      &a.refused,
		"refused-asked/" + a.ID:      &a.asked,
		"refused-status/" + a.ID:     &a.status,
		"refused-reason/" + a.ID:     &a.reason,
	}
}

// readAccounts reads the key's own account and then the connected ones, oldest comparison first.
// Values in the future, which a wrong clock has left, are ignored.
func (r *Reconciler) readAccounts() ([]*account, error) {
	connected, err := r.Ledger.Accounts()
	if err != nil {
		return nil, err
	}
	list := []*account{{}}
	for _, a := range connected {
		if r.connectedID(a.ID) != "" && !r.mayBeOwn(a.ID, a.Context) {
			list = append(list, &account{Account: stripe.Account(a)})
		}
	}
	clocks := r.API.Clocks()
	ours, future := clocks.Corrected().Unix(), clocks.Later().Unix()
	for _, a := range list {
		a.kept = map[string]int64{}
		for name, value := range a.fields() {
			if *value, err = r.Ledger.Checkpoint(name); err != nil {
				return nil, err
			}
			a.kept[name] = *value
			if *value > future {
				*value = 0
				a.misdated = a.misdated || value == &a.checkpoint
				// It stays in the ledger until it is replaced, because this clock may be the
				// wrong one. A refusal in the future is deleted, because a successful comparison
				// would not replace it.
				if !clocks.Agree() || !strings.HasPrefix(name, "refused-") {
					a.kept[name] = 0
				}
			}
		}
		if a.seen == 0 {
			first := a.kept["reconciled-seen/"+a.ID] == 0
			if a.seen = ours; !first {
				a.kept["reconciled-seen/"+a.ID] = ours
			}
		}
	}
	slices.SortStableFunc(list[1:], func(a, b *account) int { return cmp.Compare(a.checkpoint, b.checkpoint) })
	return list, nil
}

// learnOwnID asks Stripe for the id of the key's own account if an account in the ledger may be
// that one: events of API v2 name the own account in their context, too. If Stripe does not say, it
// counts as connected. After an error the round leaves out the accounts that may be the own one,
// and the next round asks again: an event that is posted to a connected account stays there.
func (w *round) learnOwnID(ctx context.Context) error {
	known, err := w.Ledger.Accounts()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(known, func(a ledger.Account) bool { return a.ID == a.Context }) {
		w.ownUnknown = false // until an event names such an account
		return nil
	}
	w.limitToDay(false)
	id, err := w.API.OwnAccount(ctx)
	w.ownUnknown = err != nil
	if err == nil {
		w.ownID = id
	}
	return nil
}

// mayBeOwn reports whether an account may be the key's own one while that is unknown.
func (r *Reconciler) mayBeOwn(id, accountContext string) bool {
	return r.ownUnknown && id != "" && id == accountContext
}

// connectedID returns the id of a connected account, or "" for the key's own account.
func (r *Reconciler) connectedID(id string) string {
	if id == r.ownID {
		return ""
	}
	return id
}

// due reports whether an automatic round compares the account. now is the time up to which events
// can be compared, ours this machine's time. spare allows more than one comparison an hour of an
// account with new events.
func (a *account) due(now, ours time.Time, every time.Duration, spare bool) bool {
	since := func(at int64) time.Duration { return now.Sub(time.Unix(at, 0)) }
	if a.refused != 0 {
		// The pause is as long as the account has been failing, so it doubles.
		pause := min(max(quietEvery, time.Duration(a.asked-a.refused)*time.Second), maxRetryPause)
		return ours.Sub(time.Unix(a.asked, 0)) >= pause-every/2
	}
	pause := quietEvery
	if spare && since(a.newest) < quietEvery {
		pause = every
	}
	return since(a.checkpoint)-lateWindow >= pause-every/2
}

// maxDrift bounds, in seconds, how far times are moved to keep the order of what happens within a
// second.
const maxDrift = 60

// maxFailures is how many unreadable accounts in a row end the comparison: the cause is then not
// the accounts.
const maxFailures = 3

// compareConnected compares the connected accounts that are due. An error of one account does not
// stop the others.
func (w *round) compareConnected(ctx context.Context, list []*account) error {
	var errs []error
	queue := w.dueAccounts(list)
	failures := 0
	unauthorizedBefore := false
	for len(queue) > 0 {
		a := queue[0]
		queue = queue[1:]
		w.limitToShare(true)
		err := w.compareAccount(ctx, a)
		if a.answered {
			failures = 0
			queue = append(queue, w.noteAnswer(a, list, queue)...)
		}
		var refused *stripe.APIError
		var call *callError
		isRefusal := errors.As(err, &refused) && (refused.Refused() || refused.Forbidden() || refused.NoAccess())
		switch {
		case err == nil:
			w.report.Accounts++
		case errors.Is(err, errShare):
			w.reportProblem("share/"+a.ID,
				"account %s has more events than one round may read: the next round reads the rest", a)
		case errors.Is(err, ledger.ErrCorrupt):
			errs = append(errs, err)
		case ctx.Err() != nil, errors.Is(err, stripe.ErrPaused), !errors.As(err, &call) && !errors.Is(err, stripe.ErrNotStripe):
			return errors.Join(append(errs, err)...)
		case isRefusal:
			if refused.Refused() && !unauthorizedBefore { // the key itself may have been revoked meanwhile
				if err := w.keyValid(ctx); err != nil {
					return errors.Join(append(errs, err)...)
				}
			}
			failures = 0
			a.noteFailure(refused, w.answeredAt, w.corrected().Unix())
			w.noteAccount(a)
			w.reportProblem("refused/"+a.ID, "account %s is skipped: %v", a, err)
		default:
			a.noteFailure(nil, w.answeredAt, w.corrected().Unix())
			w.noteAccount(a)
			w.reportProblem("unread/"+a.ID, "account %s could not be read; trying again later: %v", a, err)
			errs = append(errs, &accountError{a.ID, err})
			if failures++; failures == maxFailures {
				return errors.Join(errs...)
			}
		}
		unauthorizedBefore = isRefusal && refused.Refused()
	}
	return errors.Join(errs...)
}

// dueAccounts returns the accounts that are due.
func (w *round) dueAccounts(list []*account) []*account {
	queue := slices.Clone(list)
	every := w.request.Every
	if every == 0 {
		return queue
	}
	now, ours, spare := w.now(), w.corrected(), w.hasSpareCalls()
	queue = slices.DeleteFunc(queue, func(a *account) bool { return !a.due(now, ours, every, spare) })
	refusedAll := len(list) > 0 && !slices.ContainsFunc(list, func(a *account) bool { return !a.isRefused() })
	if first := w.probeCandidate(list, every); refusedAll && len(queue) == 0 && first != nil {
		queue = append(queue, first)
	}
	return queue
}

// noteAnswer records that Stripe answered for an account. After the first answer since Stripe
// refused all connected accounts, the others are due at once and count as refused from now on.
// noteAnswer returns those that are not in the queue.
func (w *round) noteAnswer(a *account, list, queue []*account) (more []*account) {
	before, now := w.answeredAt, w.corrected().Unix()
	w.answeredAt = now
	for _, other := range list { // an answer in the same second as a refusal counts as later
		if other.refused-now < maxDrift {
			w.answeredAt = max(w.answeredAt, other.refused)
		}
	}
	w.noteCheckpoint(lastAnswer, w.answeredAt)
	if a.refused != 0 {
		a.refused, a.asked, a.status, a.reason = 0, 0, 0, 0
		w.noteAccount(a)
	}
	for _, other := range list {
		if other == a || !other.isRefused() || other.refused <= before || other.refused >= w.begun.Unix() {
			continue
		}
		other.refused, other.asked = w.answeredAt, 0
		w.noteAccount(other)
		if !slices.Contains(queue, other) {
			more = append(more, other)
		}
	}
	return more
}

// keyValid reads the key's own account and returns an error if Stripe does not accept the key.
func (w *round) keyValid(ctx context.Context) error {
	w.limitToDay(false)
	now := w.now().Unix()
	_, err := w.API.Events(ctx, stripe.Account{}, w.Livemode, nil, now-1, now, "")
	var refused *stripe.APIError
	if spent := (*spendError)(nil); errors.As(err, &spent) {
		return spent
	}
	if err != nil && (ctx.Err() != nil || errors.As(err, &refused) && refused.Refused()) {
		return &ownError{err}
	}
	return nil
}

// probeCandidate returns the account with the oldest call, if no account was called for an hour.
// While Stripe refuses all of them, one is tried every hour, so that a permission granted later is
// noticed.
func (w *round) probeCandidate(list []*account, every time.Duration) *account {
	if len(list) == 0 {
		return nil
	}
	byAsked := func(a, b *account) int { return cmp.Compare(a.asked, b.asked) }
	if last := slices.MaxFunc(list, byAsked); w.corrected().Sub(time.Unix(last.asked, 0)) < quietEvery-every/2 {
		return nil
	}
	return slices.MinFunc(list, byAsked)
}

// noteFailure records a failed call for the account: a refusal, or another error if refused is nil.
// answered is when Stripe last answered for a connected account; a failure in the same second
// counts as later.
func (a *account) noteFailure(refused *stripe.APIError, answered, now int64) {
	a.asked = now
	if a.refused == 0 {
		a.refused = now
		if answered-now < maxDrift {
			a.refused = max(now, answered+1)
		}
	}
	a.status, a.reason = 0, 0
	switch {
	case refused == nil:
	case refused.NoAccess():
		a.status, a.reason = forbidden, reasonAccount
	case refused.LacksPermission():
		a.status, a.reason = forbidden, reasonPermission
	default:
		a.status = int64(refused.Status)
	}
}

// accountError is an error of one connected account.
type accountError struct {
	account string
	err     error
}

func (e *accountError) Error() string { return fmt.Sprintf("account %s: %v", e.account, e.err) }
func (e *accountError) Unwrap() error { return e.err }

// accountSummary counts accounts by the state of their comparison.
type accountSummary struct {
	connected    int
	compared     int // including the key's own
	waiting      int
	refused      []*account // refused by Stripe and not yet counted as disconnected
	disconnected []*account // refused for so long, while others are not, that they count as disconnected
	sample       []stripe.Account
	suspects     []*account // refused accounts since whose refusal Stripe answered for no connected account
	exhausted    bool       // no calls left today
	// restricted is true if the key can lack permissions.
	restricted bool
}

// summarizeAccounts counts accounts. answered is when Stripe last answered for a connected account,
// now the time up to which events can be compared, ours this machine's time.
func summarizeAccounts(list []*account, answered int64, now, ours time.Time) (c accountSummary) {
	var out []*account
	for _, a := range list {
		if !a.own() {
			c.connected++
		}
		switch {
		case a.isRefused():
			out = append(out, a)
		case a.undated && a.refused == 0:
			c.compared++
		case a.refused != 0 || now.Sub(time.Unix(a.checkpoint, 0)) > staleAfter+lateWindow:
			c.waiting++
		default:
			c.compared++
		}
	}
	newest := slices.Clone(list[1:])
	slices.SortStableFunc(newest, func(a, b *account) int { return cmp.Compare(b.newest, a.newest) })
	for _, a := range newest[:min(len(newest), MaxSample)] {
		c.sample = append(c.sample, a.Account)
	}
	for _, a := range out {
		// Refused while another account is not, or for longer than Stripe lists events.
		others := time.Duration(answered-a.refused) * time.Second
		if others >= disconnectedAfter || ours.Sub(time.Unix(a.refused, 0)) >= eventHistory {
			c.disconnected = append(c.disconnected, a)
			continue
		}
		c.refused = append(c.refused, a)
		if a.refused > answered {
			c.suspects = append(c.suspects, a)
		}
	}
	return c
}

// lacksPermission reports whether Stripe says that the key is not allowed to read connected
// accounts.
func (c *accountSummary) lacksPermission() bool {
	return slices.ContainsFunc(c.suspects, func(a *account) bool { return a.reason == reasonPermission })
}

// keyAtFault reports whether the key is the likely cause of the refusals: Stripe says so, or Stripe
// has answered for no connected account since at least as many were refused as there are others.
// With one refused account Stripe's reason is believed.
func (c *accountSummary) keyAtFault() bool {
	others := c.connected - len(c.refused) - len(c.disconnected)
	if c.lacksPermission() {
		return true
	}
	plausible := len(c.suspects) > 1 || len(c.suspects) == 1 && c.suspects[0].reason == 0
	return plausible && len(c.suspects) >= others
}

// advice returns the next step for a key that is at fault.
func (c *accountSummary) advice() string {
	switch {
	case c.lacksPermission():
		return ConnectAdvice
	case c.restricted:
		return "the key is not of the platform that these accounts are connected to, or it lacks the Connect permission Events: Read " +
			"(Dashboard, Developers, API keys: the column for connected accounts)"
	}
	return "the key is not of the platform that these accounts are connected to"
}

// complete reports whether all accounts are compared, except disconnected ones.
func (c *accountSummary) complete() bool { return c.waiting == 0 && !c.keyAtFault() }

// errPartly matches the error of a round that succeeded but left accounts uncompared.
var errPartly = errors.New("not all accounts are compared")

type partlyError string

func (e partlyError) Error() string        { return string(e) }
func (e partlyError) Is(target error) bool { return target == errPartly }

func (c *accountSummary) err() error {
	if c.complete() {
		return nil
	}
	all := c.connected + 1
	left := c.waiting
	why := "they are waiting, or could not be read"
	if c.keyAtFault() {
		left += len(c.refused)
		why = "Stripe refuses calls that name a connected account; " + c.advice()
	}
	return partlyError(fmt.Sprintf("%d of %s %s not compared: %s", left, wording.Plural(all, "account"), wording.Verb(left, "was", "were"), why))
}

// ConnectAdvice is the next step for a key that can read its own account but no connected one.
// https://docs.stripe.com/keys/restricted-api-keys
const ConnectAdvice = "the key most likely lacks the Connect permission Events: Read " +
	"(Dashboard, Developers, API keys: the column for connected accounts)"
