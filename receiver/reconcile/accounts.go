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
	"tillhook/receiver/stripe"
)

// The connected accounts of a platform can be many, and each costs at least one call whenever it is
// compared. So a quiet one is compared once an hour, the one that was compared longest ago first;
// one that Stripe refuses is asked ever more rarely.
const (
	// quietEvery is how often an account in which nothing happens is compared.
	quietEvery = time.Hour
	// staleAfter is how long after its last comparison an account counts as waiting.
	staleAfter = 2 * time.Hour
	// longestRetry bounds the pause between two calls for an account that Stripe refuses. It begins
	// at quietEvery and doubles.
	longestRetry = 24 * time.Hour
	// leftAfter is how long an account is refused, while Stripe answers for others, before it
	// counts as disconnected.
	leftAfter = 24 * time.Hour
	// leftShown is how long health reports an account that has disconnected.
	leftShown = 7 * 24 * time.Hour
)

// HTTP statuses by which Stripe refuses an account.
const (
	unauthorized = 401
	forbidden    = 403
)

// Reasons for which Stripe refuses an account.
const (
	reasonAccount    = 1 // the key has no access to it
	reasonPermission = 2 // the key lacks a permission
)

// account is what the ledger remembers of one account's comparison. Times are Unix seconds, 0 where
// there is none.
type account struct {
	stripe.Account
	checkpoint int64 // all events created before it have been compared
	daily      int64 // when the large overlap was last read
	newest     int64 // when the newest event that Stripe lists was created
	seen       int64 // when the ledger first knew of it, about
	objects    int64 // when its objects were last listed
	refused    int64 // since when calls for it fail; 0 while they succeed
	asked      int64 // when it was last asked since then
	status     int64 // the HTTP status of the last refusal; 0 for another failure
	reason     int64 // of the last refusal; 0 where Stripe gives none of those above

	misdated bool // the ledger's checkpoint was of the future
	undated  bool // it was compared, and how far is not kept: see datable
	answered bool // the comparison under way, or the last one, had an answer from Stripe

	kept map[string]int64 // what the ledger holds of these, by name
}

// own reports whether it is the account that the key belongs to.
func (a *account) own() bool { return a.ID == "" }

// out reports whether Stripe refuses the account itself: it has disconnected, or the key may not
// read it.
func (a *account) out() bool {
	return a.refused != 0 && (a.status == unauthorized || a.status == forbidden)
}

func (a *account) String() string { return cmp.Or(a.ID, "the account") }

// fields are the account's values by the names that the ledger keeps them under.
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

// readAccounts reads the key's own account, then the connected ones, the one compared longest ago
// first. A value from the future, which a clock that was wrong has left, counts as none.
func (r *Reconciler) readAccounts() ([]*account, error) {
	connected, err := r.Ledger.Accounts()
	if err != nil {
		return nil, err
	}
	list := []*account{{}}
	for _, a := range connected {
		list = append(list, &account{Account: stripe.Account(a)})
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
				// In the ledger it stays until there is another: a clock that is behind must not
				// cost what a right one has left. A refusal of the future has to go, because an
				// account that is read leaves none.
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

// due reports whether a round that runs every so often is to compare the account: now is the time
// up to which events can be compared, ours the time by this machine's clock. spare says that
// there are calls left for more than one comparison an hour of an account in which something
// happens.
func (a *account) due(now, ours time.Time, every time.Duration, spare bool) bool {
	since := func(at int64) time.Duration { return now.Sub(time.Unix(at, 0)) }
	if a.refused != 0 {
		// Asked after as long again as it has failed, which doubles the pause.
		pause := min(max(quietEvery, time.Duration(a.asked-a.refused)*time.Second), longestRetry)
		return ours.Sub(time.Unix(a.asked, 0)) >= pause-every/2
	}
	pause := quietEvery
	if spare && since(a.newest) < quietEvery {
		pause = every
	}
	return since(a.checkpoint)-unsettled >= pause-every/2
}

// maxDrift bounds, in seconds, by how much times are moved to keep the order of what happens within
// a second.
const maxDrift = 60

// maxFailures accounts in a row that cannot be read end the comparison: then it is not their fault.
const maxFailures = 3

// connected compares those of the connected accounts whose turn it is. What fails for one account
// does not keep the others from being compared.
func (w *round) connected(ctx context.Context, list []*account) error {
	var errs []error
	queue := w.turns(list)
	failures := 0
	unauthorizedBefore := false
	for len(queue) > 0 {
		a := queue[0]
		queue = queue[1:]
		w.share(true)
		err := w.events(ctx, a)
		if a.answered {
			failures = 0
			queue = append(queue, w.answer(a, list, queue)...)
		}
		var refused *stripe.APIError
		var call *callError
		isRefusal := errors.As(err, &refused) && (refused.Refused() || refused.Forbidden() || refused.NoAccess())
		switch {
		case err == nil:
			w.report.Accounts++
		case errors.Is(err, errShare):
			w.problem("share/"+a.ID,
				"account %s has more events than one round may read: the rest follows with the next round", a)
		case errors.Is(err, ledger.ErrCorrupt):
			errs = append(errs, err)
		case ctx.Err() != nil, errors.Is(err, stripe.ErrPaused), !errors.As(err, &call) && !errors.Is(err, stripe.ErrNotStripe):
			return errors.Join(append(errs, err)...)
		case isRefusal:
			if refused.Refused() && !unauthorizedBefore { // the key may have been revoked meanwhile
				if err := w.keyValid(ctx); err != nil {
					return errors.Join(append(errs, err)...)
				}
			}
			failures = 0
			a.fail(refused, w.answeredAt, w.corrected().Unix())
			w.note(a)
			w.problem("refused/"+a.ID, "account %s is left out: %v", a, err)
		default:
			a.fail(nil, w.answeredAt, w.corrected().Unix())
			w.note(a)
			w.problem("unread/"+a.ID, "account %s could not be read, and is asked again later: %v", a, err)
			errs = append(errs, &accountError{a.ID, err})
			if failures++; failures == maxFailures {
				return errors.Join(errs...)
			}
		}
		unauthorizedBefore = isRefusal && refused.Refused()
	}
	return errors.Join(errs...)
}

// turns returns the accounts whose turn it is.
func (w *round) turns(list []*account) []*account {
	queue := slices.Clone(list)
	every := w.request.Every
	if every == 0 {
		return queue
	}
	now, ours, spare := w.now(), w.corrected(), w.spare()
	queue = slices.DeleteFunc(queue, func(a *account) bool { return !a.due(now, ours, every, spare) })
	refusedAll := len(list) > 0 && !slices.ContainsFunc(list, func(a *account) bool { return !a.out() })
	if first := w.probe(list, every); refusedAll && len(queue) == 0 && first != nil {
		queue = append(queue, first)
	}
	return queue
}

// answer remembers that Stripe answered for an account. Where it is the first answer after Stripe
// refused all connected accounts, the others are due at once, and count as refused from now on:
// answer returns those that are not in the queue.
func (w *round) answer(a *account, list, queue []*account) (more []*account) {
	before, now := w.answeredAt, w.corrected().Unix()
	w.answeredAt = now
	for _, other := range list { // an answer in the same second as a refusal comes after it
		if other.refused-now < maxDrift {
			w.answeredAt = max(w.answeredAt, other.refused)
		}
	}
	w.noteMark(lastAnswer, w.answeredAt)
	if a.refused != 0 {
		a.refused, a.asked, a.status, a.reason = 0, 0, 0, 0
		w.note(a)
	}
	for _, other := range list {
		if other == a || !other.out() || other.refused <= before || other.refused >= w.begun.Unix() {
			continue
		}
		other.refused, other.asked = w.answeredAt, 0
		w.note(other)
		if !slices.Contains(queue, other) {
			more = append(more, other)
		}
	}
	return more
}

// keyValid asks for the key's own account, and returns an error if the key is not accepted.
func (w *round) keyValid(ctx context.Context) error {
	w.unshared(false)
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

// probe returns the account that was asked longest ago, if that is at least an hour ago: while
// Stripe refuses all of them, one is asked every hour, so that a key that was given the permission
// is noticed.
func (w *round) probe(list []*account, every time.Duration) *account {
	if len(list) == 0 {
		return nil
	}
	byAsked := func(a, b *account) int { return cmp.Compare(a.asked, b.asked) }
	if last := slices.MaxFunc(list, byAsked); w.corrected().Sub(time.Unix(last.asked, 0)) < quietEvery-every/2 {
		return nil
	}
	return slices.MinFunc(list, byAsked)
}

// fail remembers that a call for the account failed: Stripe refused it or, where refused is nil, it
// failed otherwise. answered is when Stripe last answered for a connected account: a failure in the
// same second comes after it.
func (a *account) fail(refused *stripe.APIError, answered, now int64) {
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

// accountError is a failure of one connected account.
type accountError struct {
	account string
	err     error
}

func (e *accountError) Error() string { return fmt.Sprintf("account %s: %v", e.account, e.err) }
func (e *accountError) Unwrap() error { return e.err }

// census counts accounts by how their comparison stands.
type census struct {
	connected int
	compared  int // the key's own among them
	waiting   int
	refused   []*account // by Stripe, and not counted as disconnected
	left      []*account // refused for so long, while others are not, that they count as disconnected
	sample    []stripe.Account
	suspects  []*account // those of the refused since whose refusal no connected account was answered for
	exhausted bool       // no more calls for them today
	// restricted says that the key is one that can lack permissions.
	restricted bool
}

// takeCensus takes a census: answered is when Stripe last answered for a connected account, now the
// time up to which events can be compared, ours the time by this machine's clock.
func takeCensus(list []*account, answered int64, now, ours time.Time) (c census) {
	var out []*account
	for _, a := range list {
		if !a.own() {
			c.connected++
		}
		switch {
		case a.out():
			out = append(out, a)
		case a.undated && a.refused == 0:
			c.compared++
		case a.refused != 0 || now.Sub(time.Unix(a.checkpoint, 0)) > staleAfter+unsettled:
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
		// How long it is refused while another account is not; or for so long that Stripe no longer
		// lists what it misses.
		others := time.Duration(answered-a.refused) * time.Second
		if others >= leftAfter || ours.Sub(time.Unix(a.refused, 0)) >= reach {
			c.left = append(c.left, a)
			continue
		}
		c.refused = append(c.refused, a)
		if a.refused > answered {
			c.suspects = append(c.suspects, a)
		}
	}
	return c
}

// lacksPermission reports whether Stripe says that the key may not read connected accounts.
func (c *census) lacksPermission() bool {
	return slices.ContainsFunc(c.suspects, func(a *account) bool { return a.reason == reasonPermission })
}

// blamesKey reports whether the key is the likelier cause of what Stripe refuses: Stripe says so,
// or no connected account was answered for since as many as the others are refused. Of one account
// Stripe's reason is believed.
func (c *census) blamesKey() bool {
	others := c.connected - len(c.refused) - len(c.left)
	if c.lacksPermission() {
		return true
	}
	plausible := len(c.suspects) > 1 || len(c.suspects) == 1 && c.suspects[0].reason == 0
	return plausible && len(c.suspects) >= others
}

// advice returns what is wrong with a key that blamesKey.
func (c *census) advice() string {
	switch {
	case c.lacksPermission():
		return ConnectAdvice
	case c.restricted:
		return "the key is not of the platform that these accounts are connected to, or it lacks the Connect permission Events: Read " +
			"(Dashboard, Developers, API keys: the column for connected accounts)"
	}
	return "the key is not of the platform that these accounts are connected to"
}

// whole reports whether all accounts are compared, but for those that have disconnected.
func (c *census) whole() bool { return c.waiting == 0 && !c.blamesKey() }

// errPartly is the kind of error of a round that did what it was to do, after which accounts are
// not compared all the same.
var errPartly = errors.New("not all accounts are compared")

type partlyError string

func (e partlyError) Error() string        { return string(e) }
func (e partlyError) Is(target error) bool { return target == errPartly }

func (c *census) err() error {
	if c.whole() {
		return nil
	}
	all := c.connected + 1
	left := c.waiting
	why := "they wait for their turn, or could not be read"
	if c.blamesKey() {
		left += len(c.refused)
		why = "Stripe refuses calls that name a connected account; " + c.advice()
	}
	return partlyError(fmt.Sprintf("%d of %s %s not compared: %s", left, ledger.Plural(all, "account"), ledger.Verb(left, "was", "were"), why))
}

// ConnectAdvice is what a key lacks that may read its own account and no connected one.
// https://docs.stripe.com/keys/restricted-api-keys
const ConnectAdvice = "the key most likely lacks the Connect permission Events: Read " +
	"(Dashboard, Developers, API keys: the column for connected accounts)"
