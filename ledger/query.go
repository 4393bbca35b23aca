package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"tillhook/ledger/scan"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// scanSlice is the number of rows that a short read examines in one transaction.
const scanSlice = 2000

// PaymentQuery selects payments. An empty field selects all.
type PaymentQuery struct {
	Status     string
	Currency   string
	Customer   string
	Account    string
	Flag       string
	Metadata   map[string]string // a payment must have each pair
	CreatedGTE *int64            // Unix seconds
	CreatedLT  *int64
	After      string // any id of the last payment on the previous page
	Page       string // the Next of the previous page; After is ignored if it is set
	Limit      int
}

func (q *PaymentQuery) matches(p *Payment) bool {
	for k, v := range q.Metadata {
		if have, ok := p.Metadata[k]; !ok || have != v {
			return false
		}
	}
	return (q.Status == "" || q.Status == string(p.Status) || q.Status == StatusNone && p.Status == "") &&
		(q.Currency == "" || q.Currency == string(p.Currency)) &&
		(q.Customer == "" || q.Customer == string(p.Customer)) &&
		(q.Account == "" || q.Account == string(p.Account)) &&
		(q.Flag == "" || slices.Contains(p.Flags, q.Flag))
}

// Payments returns payments, newest first by (created, id). It examines at most 20,000 payments for
// one page, so a page may contain fewer payments than the limit, or none, although more payments
// match. The same applies to a page of very large payments. Payments returns [ErrCursor] if After
// is not the id of a payment or Page is not valid, and the context's error once ctx has ended.
func (l *Ledger) Payments(ctx context.Context, q PaymentQuery) (page Page[*Payment], err error) {
	s := scan.Search{Bucket: schema.BucketPaymentsTime, Rows: l.reads.Bounds.Rows}
	if s.Reached, err = l.beginPayments(q); err != nil {
		return page, err
	}
	if q.CreatedGTE != nil {
		s.Floor = schema.TimeKey(*q.CreatedGTE, "")
	}
	size, more := 0, false
	err = l.reads.Descend(ctx, &s, func(tx *store.Tx, key []byte) (stop bool, err error) {
		f, n, err := schema.ReadSizedState(tx, string(key[8:]))
		if err != nil {
			return true, err
		}
		if f == nil {
			return true, fmt.Errorf("%w: payment %s is listed and missing", ErrCorrupt, key[8:])
		}
		if s.Bytes += n; !q.matches(f.Payment) {
			return false, nil
		}
		if more = len(page.Data) == q.Limit || size >= l.reads.Bounds.Page; more {
			return true, nil
		}
		page.Data, size = append(page.Data, f.Payment), size+n
		return false, nil
	})
	if err != nil {
		return Page[*Payment]{}, err
	}
	if more || s.Bounded {
		page.Next = encodeCursor(paymentCursor, s.Reached)
	}
	if s.Bounded {
		at, _, err := schema.ReadTimeKey(s.Reached)
		page.ScannedTo = OrNullTime(at)
		return page, err
	}
	return page, nil
}

// beginPayments returns the key below which a list of payments begins, or nil for the newest
// payment.
func (l *Ledger) beginPayments(q PaymentQuery) (below []byte, err error) {
	if q.CreatedLT != nil {
		below = schema.TimeKey(*q.CreatedLT, "")
	}
	var cursor []byte
	switch {
	case q.Page != "":
		cursor, err = decodeCursor(paymentCursor, q.Page)
	case q.After != "":
		cursor, err = l.keyOf(q.After)
	}
	if cursor != nil && (below == nil || bytes.Compare(cursor, below) < 0) {
		below = cursor
	}
	return below, err
}

// keyOf returns the key of a payment in the index by time.
func (l *Ledger) keyOf(id string) (key []byte, err error) {
	err = l.store.View(func(tx *store.Tx) error {
		present, err := schema.Resolve(tx, id)
		if err != nil {
			return err
		}
		s, err := schema.ReadState(tx, present)
		if err != nil {
			return err
		}
		if s == nil {
			return fmt.Errorf("%w: starting_after %.80q is the id of no payment", ErrCursor, id)
		}
		key = schema.TimeKey(s.Created(), s.Payment.ID)
		return nil
	})
	return key, err
}

// Payment returns a payment by any id seen for it. It returns [ErrNotFound] for an id that was
// never seen.
func (l *Ledger) Payment(id string) (p *Payment, err error) {
	err = l.store.View(func(tx *store.Tx) error {
		s, err := paymentBy(tx, id)
		if err == nil {
			p = s.Payment
		}
		return err
	})
	return p, err
}

// paymentBy returns a payment by any id seen for it, or [ErrNotFound].
func paymentBy(tx *store.Tx, id string) (*schema.State, error) {
	present, err := schema.Resolve(tx, id)
	if err != nil {
		return nil, err
	}
	s, err := schema.ReadState(tx, present)
	if err == nil && s == nil {
		err = fmt.Errorf("%w: no payment has the id %q", ErrNotFound, id)
	}
	return s, err
}

// EventRecord is an event as the API returns it: the event's fields, how and when it arrived, and
// its outcome.
type EventRecord struct {
	Object     string     `json:"object"`
	ID         string     `json:"id"`
	Type       OrNull     `json:"type"`
	Account    OrNull     `json:"account"`
	Context    OrNull     `json:"context"`
	Livemode   bool       `json:"livemode"`
	Created    OrNullTime `json:"created"`
	Received   OrNullTime `json:"received"`
	APIVersion OrNull     `json:"api_version"`
	Outcome    Outcome    `json:"outcome"`
	Reason     OrNull     `json:"reason"`
	PaymentID  OrNull     `json:"payment_id"`
	Source     Source     `json:"source"`
	Sequence   uint64     `json:"sequence"`
	Size       uint64     `json:"size"`    // bytes of the raw body
	Repeats    uint64     `json:"repeats"` // deliveries after the first

	Quarantine   *Quarantine    `json:"quarantine"`    // nil unless the row is in quarantine now
	ReleasedFrom OrNullSequence `json:"released_from"` // the event's earlier row, which was in quarantine
	ReleasedAs   OrNullSequence `json:"released_as"`   // the event's later row, posted when this one left quarantine
}

func (l *Ledger) record(tx *store.Tx, seq uint64, r *schema.Row) (*EventRecord, error) {
	payment, err := schema.PaymentOf(tx, &r.Facts)
	if err != nil {
		return nil, err
	}
	waiting := l.repeats.count(seq)
	rec := &EventRecord{
		Object: "event_record", ID: r.ID, Type: OrNull(r.Type), Account: OrNull(r.Account), Context: OrNull(r.Context), Livemode: r.Livemode,
		Created: OrNullTime(r.Created), Received: OrNullTime(time.UnixMilli(r.Received).Unix()), APIVersion: OrNull(r.APIVersion),
		Outcome: r.Outcome, Reason: OrNull(r.Reason), PaymentID: OrNull(payment), Source: r.Source,
		Sequence: seq, Size: r.Size, Repeats: r.Repeats + waiting, ReleasedFrom: OrNullSequence(r.Released),
	}
	if r.Outcome != Quarantined {
		return rec, nil
	}
	h, err := schema.ReadQuarantineEntry(tx, seq)
	if err != nil {
		return nil, err
	}
	if h != nil {
		rec.Quarantine = &Quarantine{r.Reason, h.State}
		return rec, nil
	}
	as, _, err := schema.LookupID(tx, r.Livemode, r.ID)
	rec.ReleasedAs = OrNullSequence(as)
	return rec, err
}

// EventQuery selects events. An empty field selects all.
type EventQuery struct {
	Type    string
	Outcome Outcome
	After   string // the id of the last event on the previous page; it stands for the newest row of that event
	Page    string // the Next of the previous page; After is ignored if it is set
	Below   uint64 // the sequence of the last row on the previous page, used if After and Page are empty; 0 for none
	Limit   int
}

// Events returns events, newest first by sequence. Like [Ledger.Payments], it examines at most
// 20,000 rows for one page.
func (l *Ledger) Events(ctx context.Context, q EventQuery) (Page[*EventRecord], error) {
	s := scan.Search{Bucket: schema.BucketEvents, Rows: l.reads.Bounds.Rows}
	if q.Outcome == Quarantined {
		s.Bucket = schema.BucketQuarantine // an index: only a few rows are in quarantine
	}
	below, err := l.beginEvents(q)
	if err != nil {
		return Page[*EventRecord]{}, err
	}
	if below != 0 {
		s.Reached = schema.SeqKey(below)
	}
	f := eventPage{l: l, query: q}
	err = l.reads.Descend(ctx, &s, func(tx *store.Tx, key []byte) (stop bool, err error) {
		n, err := f.add(tx, schema.SeqOf(key))
		s.Bytes += n
		return f.more, err
	})
	return f.end(s.Bounded, err)
}

// PaymentEvents returns the events from which a payment was folded, in the same way as
// [Ledger.Events]. id may be any id seen for the payment.
func (l *Ledger) PaymentEvents(ctx context.Context, id string, q EventQuery) (Page[*EventRecord], error) {
	below, err := l.beginEvents(q)
	if err != nil {
		return Page[*EventRecord]{}, err
	}
	below = cmp.Or(below, math.MaxUint64)
	f := eventPage{l: l, query: q}
	examined, size, bounded := 0, 0, false
	step := func(tx *store.Tx) (done bool, err error) {
		p, err := paymentBy(tx, id) // in each transaction, because the payment may get another id meanwhile
		if err != nil {
			return true, err
		}
		began := time.Now()
		end, _ := slices.BinarySearch(p.Rows, below)
		for i, seq := range slices.Backward(p.Rows[:end]) {
			if err := ctx.Err(); err != nil {
				return true, err
			}
			if bounded = examined == l.reads.Bounds.Rows || size >= l.reads.Bounds.Bytes; bounded {
				return true, nil
			}
			if l.reads.Full(end-i, began) {
				return false, nil
			}
			n, err := f.add(tx, seq)
			if err != nil || f.more {
				return true, err
			}
			below, examined, size = seq, examined+1, size+n
		}
		return true, nil
	}
	for done := false; !done && err == nil; {
		err = l.reads.Slice(ctx, func(tx *store.Tx) (err error) {
			done, err = step(tx)
			return err
		})
	}
	return f.end(bounded, err)
}

// eventPage collects the rows of a page.
type eventPage struct {
	l     *Ledger
	query EventQuery
	page  Page[*EventRecord]
	last  uint64 // the last row examined
	at    int64  // when that row was received, Unix milliseconds
	more  bool   // another row matches, and the page is full
}

// add adds a row to the page if the row matches the query. It returns the size of the stored row.
func (f *eventPage) add(tx *store.Tx, seq uint64) (size int, err error) {
	r, size, err := schema.ReadSizedRow(tx, seq)
	if err != nil {
		return 0, err
	}
	q := &f.query
	if matches := (q.Type == "" || q.Type == r.Type) && (q.Outcome == "" || q.Outcome == r.Outcome); matches {
		if f.more = len(f.page.Data) == q.Limit; f.more {
			return size, nil
		}
		rec, err := f.l.record(tx, seq, r)
		if err != nil {
			return size, err
		}
		f.page.Data = append(f.page.Data, rec)
	}
	f.last, f.at = seq, r.Received
	return size, nil
}

// end returns the page. bounded means that the search reached the limit of what one request may
// read.
func (f *eventPage) end(bounded bool, err error) (Page[*EventRecord], error) {
	if err != nil {
		return Page[*EventRecord]{}, err
	}
	if f.more || bounded {
		f.page.Next = encodeCursor(eventCursor, schema.SeqKey(f.last))
	}
	if bounded {
		f.page.ScannedTo = OrNullTime(time.UnixMilli(f.at).Unix())
	}
	return f.page, nil
}

// beginEvents returns the sequence below which a list of events begins, or 0 for the newest event.
func (l *Ledger) beginEvents(q EventQuery) (below uint64, err error) {
	if q.Page != "" {
		key, err := decodeCursor(eventCursor, q.Page)
		if err != nil {
			return 0, err
		}
		if below = schema.SeqOf(key); below == 0 {
			return 0, fmt.Errorf("%w: page %.80q is not the next_page of a list of events", ErrCursor, q.Page)
		}
		return below, nil
	}
	if q.After == "" {
		return q.Below, nil
	}
	err = l.store.View(func(tx *store.Tx) error {
		below, err = l.find(tx, q.After)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: starting_after %.80q is the id of no event", ErrCursor, q.After)
		}
		return err
	})
	return below, err
}

// find returns the row of an event. It searches the ledger's own mode first and then the other
// mode, because events of the other mode are in quarantine.
func (l *Ledger) find(tx *store.Tx, id string) (uint64, error) {
	for _, livemode := range []bool{l.livemode, !l.livemode} {
		if seq, found, err := schema.LookupID(tx, livemode, id); found || err != nil {
			return seq, err
		}
	}
	return 0, fmt.Errorf("%w: no event has the id %q", ErrNotFound, id)
}

// Event returns an event by its id, or [ErrNotFound].
func (l *Ledger) Event(id string) (rec *EventRecord, err error) {
	err = l.store.View(func(tx *store.Tx) error {
		seq, err := l.find(tx, id)
		if err != nil {
			return err
		}
		r, err := schema.ReadRow(tx, seq)
		if err != nil {
			return err
		}
		rec, err = l.record(tx, seq, r)
		return err
	})
	return rec, err
}

// Body returns the unchanged body of an event; the caller owns it. It returns [ErrNotFound] for an
// unknown id and [ErrGone] if the body is no longer kept.
func (l *Ledger) Body(id string) (raw []byte, err error) {
	err = l.store.View(func(tx *store.Tx) error {
		seq, err := l.find(tx, id)
		if err != nil {
			return err
		}
		if raw, err = l.readBody(tx, seq); errors.Is(err, ErrGone) {
			return fmt.Errorf("%w: event %s is older than TILLHOOK_RETENTION; what it said is kept", ErrGone, id)
		}
		return err
	})
	return raw, err
}

func (l *Ledger) readBody(tx *store.Tx, seq uint64) ([]byte, error) {
	stored, err := schema.ReadBody(tx, seq)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, fmt.Errorf("%w: the event in row %d is older than TILLHOOK_RETENTION", ErrGone, seq)
	}
	return l.bodies.Decode(stored)
}
