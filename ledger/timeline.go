package ledger

import (
	"context"
	"slices"
	"time"

	"tillhook/ledger/fold"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// TimelineEntry is one event of a payment, with a sentence that explains it.
type TimelineEntry struct {
	Object   string     `json:"object"`
	Happened OrNullTime `json:"happened"` // by Stripe's clock
	Received OrNullTime `json:"received"` // by this machine's clock
	What     string     `json:"what"`
	Event    string     `json:"event"`
	Type     OrNull     `json:"type"`
	Outcome  Outcome    `json:"outcome"`
	After    int        `json:"after"` // how many events that happened later arrived before it
	Repeats  uint64     `json:"repeats"`
	Source   Source     `json:"source"`
}

const (
	// maxMoments is the maximum number of events of a timeline. The earliest ones are left out.
	maxMoments = 1000
	// timelineRows is how many events are read for a timeline: those that arrived last. It is
	// greater than maxMoments because a sentence describes what an event changed, which depends on
	// the events before it.
	timelineRows = 4 * maxMoments
)

// Timeline returns the events of a payment in the order in which they happened. id may be any id
// seen for the payment. whole is false if the beginning is left out. Timeline returns [ErrNotFound]
// for an id that was never seen.
func (l *Ledger) Timeline(ctx context.Context, id string) (timeline []TimelineEntry, whole bool, err error) {
	var rows []*schema.Row
	var seqs []uint64
	var payment string
	err = l.reads.Slice(ctx, func(tx *store.Tx) error {
		s, err := paymentBy(tx, id)
		if err != nil {
			return err
		}
		payment, seqs = s.Payment.ID, s.Rows[max(0, len(s.Rows)-timelineRows):]
		whole = len(seqs) == len(s.Rows)
		rows, err = schema.ReadRows(tx, seqs)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	events := make([]fold.Event, len(rows))
	for i, r := range rows {
		events[i] = r.FoldEvent()
	}
	order, sentences := fold.Timeline(payment, events)
	after := laterBefore(rows, order)
	for n, i := range order {
		r := rows[i]
		waiting := l.repeats.count(seqs[i])
		timeline = append(timeline, TimelineEntry{
			Object: "moment", Happened: OrNullTime(r.Created), Received: OrNullTime(time.UnixMilli(r.Received).Unix()), What: sentences[n],
			Event: r.ID, Type: OrNull(r.Type), Outcome: r.Outcome, After: after[i], Repeats: r.Repeats + waiting, Source: r.Source,
		})
	}
	cut := max(0, len(timeline)-maxMoments)
	return timeline[cut:], whole && cut == 0, nil
}

// laterBefore returns for each row, in the order of arrival, how many rows arrived before it but
// happened in a later second. order contains the indexes of the rows in the order in which they
// happened.
func laterBefore(rows []*schema.Row, order []int) []int {
	after := make([]int, len(order))
	var later []int // the indexes of the rows of later seconds, ascending
	for end := len(order); end > 0; {
		begin := end
		for begin > 0 && rows[order[begin-1]].Created == rows[order[end-1]].Created {
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
