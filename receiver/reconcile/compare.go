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

// callError is the error of a call for an account, in contrast to an error of this machine.
type callError struct{ error }

func (e *callError) Unwrap() error { return e.error }

// ownError is an error of the key's own account while another account is compared.
type ownError struct{ error }

func (e *ownError) Unwrap() error { return e.error }

// compareOwnIfDue compares the key's own account if it has become due while another account is
// compared.
func (w *round) compareOwnIfDue(ctx context.Context, other *account) error {
	if other.own() || w.request.Every == 0 || time.Since(w.ownAt) < w.request.Every {
		return nil
	}
	most, left := w.callLimit, w.shareLimit-w.spentToday()
	w.limitToShare(false)
	err := w.compareAccount(ctx, w.accounts[0])
	w.ownAt = time.Now()
	w.callLimit, w.shareLimit = most, w.spentToday()+left
	if err != nil && !errors.Is(err, errShare) {
		return &ownError{err}
	}
	return nil
}

// spanStart returns where the comparison of an account starts, and reports a gap before that.
func (w *round) spanStart(ctx context.Context, a *account, checkpoint int64, now time.Time, clocks stripe.Clocks) (time.Time, error) {
	from := now.Add(-eventHistory)
	switch {
	case w.request.Since > 0:
		return now.Add(-min(w.request.Since, eventHistory)), nil
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

// compareAccount compares the events of one account.
func (w *round) compareAccount(ctx context.Context, a *account) error {
	clocks := w.API.Clocks()
	now, sure := clocks.Believed()
	keeps := datable(clocks, a.checkpoint)
	w.undated = w.undated || !keeps
	checkpoint := a.checkpoint
	if checkpoint > now.Unix() || !sure {
		checkpoint = 0 // left by a wrong clock
		a.misdated = true
	}
	a.answered = false
	from, err := w.spanStart(ctx, a, checkpoint, now, clocks)
	if err != nil {
		return err
	}
	// If one clock is behind, this includes events that are later than it.
	to := clocks.Later()
	all := from.Unix() <= now.Add(-eventHistory).Unix() || checkpoint != 0 && from.Unix() <= checkpoint
	w.short = w.short || w.request.Since > 0 && !all
	span := Progress{Running: true, Account: a.ID, From: from.Unix(), At: from.Unix(), To: to.Unix() + 1}
	if a.own() {
		w.report.From, w.report.To = span.From, span.To
	}
	w.setProgress(span)
	begin, deep := checkpoint, span.From <= now.Add(-dailyOverlap).Unix()
	slice := span.To - span.At // with few events one call reads everything
	typed := false
	var damaged error // the first error about an event that damage of the ledger keeps out
	for span.At < span.To {
		if err := w.compareOwnIfDue(ctx, a); err != nil {
			return err
		}
		end := min(span.At+slice, span.To)
		s, err := w.readSlice(ctx, a, span.At, end, typed)
		if err != nil {
			return err
		}
		typed = s.typed
		if !s.whole {
			// The pages covered this time, so half of it is about as much as can be read at once.
			slice = max(1, min((end-span.At)/2, (s.newest-s.oldest)/2))
			continue
		}
		switch err := w.store(ctx, s.events); {
		case errors.Is(err, ledger.ErrCorrupt):
			damaged = cmp.Or(damaged, err)
		case err != nil:
			return err
		}
		if s.pages <= maxPages/2 {
			slice *= 2
		}
		span.At = end
		w.setProgress(span)
		a.newest = max(a.newest, s.newest)
		w.API.SawEvent(s.newest)
		if !keeps || damaged != nil {
			w.noteAccount(a) // saves a.newest, which is evidence of the time
			continue
		}
		// With Since, the checkpoint may move only if the round started at or before it.
		reached := min(end, now.Add(-lateWindow).Unix())
		if reached > checkpoint && (w.request.Since == 0 || checkpoint != 0 && span.From <= checkpoint) {
			checkpoint, a.checkpoint = reached, reached
		}
		// Saved before the end, so that a round that is stopped does not read the large overlap
		// again and again.
		if deep && end >= min(begin, span.To) {
			a.daily = now.Unix()
		}
		w.noteAccount(a)
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

func (w *round) setProgress(p Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.Recovered = w.report.Recovered
	w.progress = p
}

// timeSlice is what Stripe lists of a span of time.
type timeSlice struct {
	events []*ledger.Event // of types about payments, oldest first
	whole  bool            // false with too many pages; then events is empty
	typed  bool            // each group of types was listed separately
	pages  int
	oldest int64 // creation time of the oldest event of any type; 0 without events
	newest int64 // creation time of the newest event of any type
	bytes  int   // size of the bodies of events
}

// errLarge means that the events of a slice use too much memory.
var errLarge = errors.New("too many bytes")

// maxSliceBytes bounds the bodies that are held until a slice is read completely.
const maxSliceBytes = 16 << 20

// add adds the events of a page of [from, to). The dates of events outside of that are not trusted.
func (s *timeSlice) add(events []*ledger.Event, from, to int64) {
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

// readSlice reads all events of [from, to). It first reads one page of all types, because that is
// mostly everything. If there are more pages, it lists each group of types separately.
func (w *round) readSlice(ctx context.Context, a *account, from, to int64, typed bool) (s timeSlice, err error) {
	groups := [][]string{nil}
	if typed {
		groups = stripe.TypeGroups()
	}
	most := maxPages
	if to-from == 1 {
		most = maxSecondPages // a second cannot be halved
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
					w.reportProblem("event/"+a.ID, "%s in the list of events of %s cannot be read and was skipped", e.ID, a)
				}
			}
			if to-from == 1 && types != nil { // a second cannot be halved, so it is stored page by page
				events := s.events
				s.events, s.bytes = nil, 0
				return w.store(ctx, events)
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
			// The page may be unreadable because of an event of a type not about payments.
			return w.readSlice(ctx, a, from, to, true)
		case err != nil:
			return s, err
		case !whole && types == nil:
			return w.readSlice(ctx, a, from, to, true)
		case !whole && to-from == 1:
			w.report.endless = true
			return s, fmt.Errorf("more than %d pages of events of one second are listed by Stripe: %w",
				maxSecondPages, stripe.ErrEndless)
		case !whole:
			return timeSlice{typed: true, pages: s.pages, oldest: s.oldest, newest: s.newest}, nil
		}
	}
	slices.SortFunc(s.events, func(a, b *ledger.Event) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.ID, b.ID))
	})
	s.events = slices.CompactFunc(s.events, func(a, b *ledger.Event) bool { return a.ID == b.ID })
	s.whole, s.typed = true, typed
	return s, nil
}

// pages reads a list page by page, at most most pages. whole is false if there are more. A repeated
// cursor is an error, because the list does not end then.
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
			return pages, false, fmt.Errorf("the list from Stripe returns to %s and does not end: %w",
				after, stripe.ErrEndless)
		}
		seen[after] = true
	}
	return pages, false, nil
}

// store appends the events that the ledger does not have. Damage of the ledger stops only the
// events that it affects: the error, a [ledger.ErrCorrupt], is returned after the other events are
// stored.
func (w *round) store(ctx context.Context, events []*ledger.Event) error {
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
		events[i] = nil // its body can be large
		if known[i] == ledger.IDKnown || known[i] == ledger.IDQuarantined && e.Quarantine != "" {
			continue
		}
		if !w.request.DryRun {
			e.Source, e.Received = ledger.Reconcile, w.corrected()
			recovered, err := w.appendEvent(ctx, e)
			if errors.Is(err, ledger.ErrCorrupt) {
				damaged = cmp.Or(damaged, err)
				continue
			}
			if err != nil {
				return err
			}
			if !recovered {
				continue // delivered meanwhile
			}
			w.Metrics.Recovered()
		}
		w.report.Recovered++
		if len(w.report.Events) < maxReportedEvents {
			w.report.Events = append(w.report.Events, strings.Clone(e.ID)) // else it keeps the whole body in memory
		}
	}
	return damaged
}

// appendTime bounds the wait for the commit of one event.
const appendTime = 30 * time.Second

// appendEvent appends an event and counts it as the webhook handler does. added is false if the
// ledger has the event already.
func (w *round) appendEvent(ctx context.Context, e *ledger.Event) (added bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, appendTime)
	defer cancel()
	res, err := w.Ledger.Append(ctx, e)
	if err != nil {
		return false, fmt.Errorf("store %s: %w", e.ID, err)
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
