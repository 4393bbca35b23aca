package ledger

import (
	"context"
	"slices"
	"time"

	"tillhook/ledger/fold"
	"tillhook/ledger/store"
)

// TimelineEntry is one event of a payment with a sentence that says what it meant.
type TimelineEntry struct {
	Object   string     `json:"object"`
	Happened OrNullTime `json:"happened"` // by Stripe's clock
	Received OrNullTime `json:"received"` // by ours
	What     string     `json:"what"`
	Event    string     `json:"event"`
	Type     OrNull     `json:"type"`
	Outcome  Outcome    `json:"outcome"`
	After    int        `json:"after"` // how many later events had come before it
	Repeats  uint64     `json:"repeats"`
	Source   Source     `json:"source"`
}

const (
	// maxMoments is how many events a story has at most, the last ones.
	maxMoments = 1000
	// storyRows is how many events are read for it, those that came last: sentences say what an
	// event changed.
	storyRows = 4 * maxMoments
)

// Timeline returns the events of a payment in the order in which they happened. The id may be any seen
// for it. whole is false if the beginning is left out. It returns [ErrNotFound] for an id never
// seen.
func (l *Ledger) Timeline(ctx context.Context, id string) (story []TimelineEntry, whole bool, err error) {
	var rows []*row
	var seqs []uint64
	var payment string
	err = l.slice(ctx, func(tx *store.Tx) error {
		s, err := paymentBy(tx, id)
		if err != nil {
			return err
		}
		payment, seqs = s.view.ID, s.rows[max(0, len(s.rows)-storyRows):]
		whole = len(seqs) == len(s.rows)
		rows, err = rowsOf(tx, seqs)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	events := make([]fold.Event, len(rows))
	for i, r := range rows {
		events[i] = r.event()
	}
	order, sentences := fold.Timeline(payment, events)
	after := laterBefore(rows, order)
	for n, i := range order {
		r := rows[i]
		waiting := l.repeats.of(seqs[i])
		story = append(story, TimelineEntry{
			Object: "moment", Happened: OrNullTime(r.created), Received: OrNullTime(time.UnixMilli(r.received).Unix()), What: sentences[n],
			Event: r.id, Type: OrNull(r.typ), Outcome: r.outcome, After: after[i], Repeats: r.repeats + waiting, Source: r.source,
		})
	}
	cut := max(0, len(story)-maxMoments)
	return story[cut:], whole && cut == 0, nil
}

// laterBefore counts for each row, numbered as it came, the rows that came before it and happened
// in a later second. order has the rows as they happened.
func laterBefore(rows []*row, order []int) []int {
	after := make([]int, len(order))
	var later []int // the numbers of those of later seconds, ascending
	for end := len(order); end > 0; {
		begin := end
		for begin > 0 && rows[order[begin-1]].created == rows[order[end-1]].created {
			begin--
		}
		for _, i := range order[begin:end] {
			after[i], _ = slices.BinarySearch(later, i)
		}
		for _, i := range order[begin:end] {
			at, _ := slices.BinarySearch(later, i)
			later = slices.Insert(later, at, i)
		}
		end = begin
	}
	return after
}
