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

// callError is a call for an account that failed, in contrast to what fails here.
type callError struct{ error }

func (e *callError) Unwrap() error { return e.error }

// ownError is a failure of the key's own account while another account is compared.
type ownError struct{ error }

func (e *ownError) Unwrap() error { return e.error }

// ownBetween compares the key's own account while another is compared, if that takes so long that
// the own account's turn has come again.
func (w *round) ownBetween(ctx context.Context, other *account) error {
	if other.own() || w.request.Every == 0 || time.Since(w.ownAt) < w.request.Every {
		return nil
	}
	most, left := w.most, w.until-w.spentToday()
	w.share(false)
	err := w.events(ctx, w.accounts[0])
	w.ownAt = time.Now()
	w.most, w.until = most, w.spentToday()+left
	if err != nil && !errors.Is(err, errShare) {
		return &ownError{err}
	}
	return nil
}

// beginAt returns from when on events of an account are compared, and reports a time that cannot be.
func (w *round) beginAt(ctx context.Context, a *account, checkpoint int64, now time.Time, clocks stripe.Clocks) (time.Time, error) {
	from := now.Add(-reach)
	switch {
	case w.request.Since > 0:
		return now.Add(-min(w.request.Since, reach)), nil
	case checkpoint != 0:
		back := overlap
		if now.Unix()-a.daily >= secondsADay || a.daily > now.Unix() {
			back = dailyOverlap
		}
		w.findGap(a, checkpoint, clocks)
		return latest(from, time.Unix(checkpoint, 0).Add(-back)), nil
	case a.misdated:
		return from, nil
	}
	begin, err := w.beginning(ctx, a)
	if err == nil && begin != 0 {
		w.findGap(a, begin, clocks)
	}
	return from, err
}

// events compares the events of one account.
func (w *round) events(ctx context.Context, a *account) error {
	clocks := w.API.Clocks()
	now, sure := clocks.Believed()
	keeps := datable(clocks, a.checkpoint)
	w.undated = w.undated || !keeps
	checkpoint := a.checkpoint
	if checkpoint > now.Unix() || !sure {
		checkpoint = 0 // a wrong clock has left it
		a.misdated = true
	}
	a.answered = false
	from, err := w.beginAt(ctx, a, checkpoint, now, clocks)
	if err != nil {
		return err
	}
	// Where one clock is behind, what happened since is listed, too.
	to := clocks.Later()
	span := Progress{Running: true, Account: a.ID, From: from.Unix(), At: from.Unix(), To: to.Unix() + 1}
	if a.own() {
		w.report.From, w.report.To = span.From, span.To
	}
	w.tell(span)
	begin, deep := checkpoint, span.From <= now.Add(-dailyOverlap).Unix()
	slice := span.To - span.At // where little happens one call reads it all
	typed := false
	var damaged error // the first event that could not be booked for damage of the ledger
	for span.At < span.To {
		if err := w.ownBetween(ctx, a); err != nil {
			return err
		}
		end := min(span.At+slice, span.To)
		s, err := w.slice(ctx, a, span.At, end, typed)
		if err != nil {
			return err
		}
		typed = s.typed
		if !s.whole {
			// Half of the time that the pages read came from is about as much as can be read at
			// once.
			slice = max(1, min((end-span.At)/2, (s.newest-s.oldest)/2))
			continue
		}
		switch err := w.book(ctx, s.events); {
		case errors.Is(err, ledger.ErrCorrupt):
			damaged = cmp.Or(damaged, err)
		case err != nil:
			return err
		}
		if s.pages <= maxPages/2 {
			slice *= 2
		}
		span.At = end
		w.tell(span)
		a.newest = max(a.newest, s.newest)
		w.API.SawEvent(s.newest)
		if !keeps || damaged != nil {
			w.note(a) // what was listed is evidence of the time
			continue
		}
		// A round that was told where to begin leaves no gap before the checkpoint only if it began
		// at or before it.
		reached := min(end, now.Add(-unsettled).Unix())
		if reached > checkpoint && (w.request.Since == 0 || checkpoint != 0 && span.From <= checkpoint) {
			checkpoint, a.checkpoint = reached, reached
		}
		// Not only at the end: a round that is cut short must not read the large overlap again and
		// again.
		if deep && end >= min(begin, span.To) {
			a.daily = now.Unix()
		}
		w.note(a)
	}
	a.undated = !keeps
	return damaged
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

// slice is what Stripe lists of a span of time.
type slice struct {
	events []*ledger.Event // of the types that are booked, the oldest first
	whole  bool            // false where there are too many pages; then events is empty
	typed  bool            // each group of types was listed by itself
	pages  int
	oldest int64 // when the oldest event that was read was created, of any type; 0 where there was none
	newest int64 // likewise
	bytes  int   // of the bodies of events
}

// errLarge ends the reading of a slice whose events take more memory than they may.
var errLarge = errors.New("too many bytes")

// maxSliceBytes bounds the bodies that are held until all of a slice is read.
const maxSliceBytes = 16 << 20

// add takes the events of a page of [from, to). Only a date within that says when an event was
// made.
func (s *slice) add(events []*ledger.Event, from, to int64) {
	for _, e := range events {
		if from <= e.Created && e.Created < to {
			s.newest = max(s.newest, e.Created)
			if s.oldest == 0 || e.Created < s.oldest {
				s.oldest = e.Created
			}
		}
		if slices.Contains(stripe.Types[:], e.Type) {
			s.events = append(s.events, e)
			s.bytes += len(e.Raw)
		}
	}
}

// slice reads all events of [from, to). One page of events of all types is read first, because it
// mostly is the only one; where it is not, each group of types that a call can name is listed by
// itself.
func (w *round) slice(ctx context.Context, a *account, from, to int64, typed bool) (s slice, err error) {
	groups := [][]string{nil}
	if typed {
		groups = stripe.TypeGroups()
	}
	most := maxPages
	if to-from == 1 {
		most = longestSecond // it cannot be halved
	}
	for _, types := range groups {
		left := most - s.pages
		if types == nil {
			left = 1
		}
		pages, whole, err := w.pages(ctx, left, func(after string) (stripe.Page, error) {
			page, err := w.API.Events(ctx, a.Account, w.Livemode, types, from, to, after)
			if spent := (*spendError)(nil); errors.As(err, &spent) {
				return page, spent
			}
			if err != nil {
				return page, &callError{err}
			}
			a.answered = true
			return page, nil
		}, func(page stripe.Page) error {
			s.add(page.Events, from, to)
			for _, e := range page.Events {
				if e.Quarantine == ledger.Undecodable && !slices.Contains(stripe.Types[:], e.Type) {
					w.problem("event/"+a.ID, "%s in the list of events of %s cannot be read and was skipped", e.ID, a)
				}
			}
			if to-from == 1 && types != nil { // it cannot be halved
				events := s.events
				s.events, s.bytes = nil, 0
				return w.book(ctx, events)
			}
			if s.bytes > maxSliceBytes {
				return errLarge
			}
			return nil
		})
		s.pages += pages
		if errors.Is(err, errLarge) {
			whole, err = false, nil
		}
		switch {
		case types == nil && (errors.Is(err, stripe.ErrNotStripe) || errors.Is(err, stripe.ErrCut)):
			// What makes the page unreadable can be of a type that is not booked.
			return w.slice(ctx, a, from, to, true)
		case err != nil:
			return s, err
		case !whole && types == nil:
			return w.slice(ctx, a, from, to, true)
		case !whole && to-from == 1:
			w.report.endless = true
			return s, fmt.Errorf("more than %d pages of events of one second are listed by Stripe: %w",
				longestSecond, stripe.ErrEndless)
		case !whole:
			return slice{typed: true, pages: s.pages, oldest: s.oldest, newest: s.newest}, nil
		}
	}
	slices.SortFunc(s.events, func(a, b *ledger.Event) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.ID, b.ID))
	})
	s.events = slices.CompactFunc(s.events, func(a, b *ledger.Event) bool { return a.ID == b.ID })
	s.whole, s.typed = true, typed
	return s, nil
}

// pages reads a list page by page, at most so many pages; whole is false where there are more. A
// cursor that comes twice is an error, because such a list does not end.
func (w *round) pages(ctx context.Context, most int, read func(after string) (stripe.Page, error),
	visit func(stripe.Page) error) (pages int, whole bool, err error) {
	seen := map[string]bool{}
	for after := ""; pages < most; {
		page, err := read(after)
		if err != nil {
			return pages, false, err
		}
		pages++
		if err := visit(page); err != nil {
			return pages, false, err
		}
		if after = page.Next; after == "" {
			return pages, true, nil
		}
		if seen[after] {
			w.report.endless = true
			return pages, false, fmt.Errorf("the list from Stripe leads back to %s and does not end: %w",
				after, stripe.ErrEndless)
		}
		seen[after] = true
	}
	return pages, false, nil
}

// book appends the events that the ledger does not know. What is damaged in the ledger hinders only
// the events that need it: the error, which is a [ledger.ErrCorrupt], is returned after the others.
func (w *round) book(ctx context.Context, events []*ledger.Event) error {
	w.report.Listed += len(events)
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.ID
	}
	known, err := w.Ledger.Lookup(names)
	if err != nil {
		return err
	}
	var damaged error
	for i, e := range events {
		if known[i] == ledger.IDKnown || known[i] == ledger.IDQuarantined && e.Quarantine != "" {
			continue
		}
		if !w.request.DryRun {
			e.Source, e.Received = ledger.Reconcile, w.corrected()
			recovered, err := w.append(ctx, e)
			if errors.Is(err, ledger.ErrCorrupt) {
				damaged = cmp.Or(damaged, err)
				continue
			}
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
	return damaged
}

// appendTime bounds the wait for one event's commit.
const appendTime = 30 * time.Second

// append appends an event and counts it as the webhook handler does. fresh is false for one that
// was known after all.
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
