package ledger

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// scanSlice rows are looked at in one transaction. A search that finds little goes on in the next,
// so that no search keeps a transaction open for long, however big the ledger is.
const scanSlice = 2000

// PaymentQuery chooses payments. Empty fields choose all.
type PaymentQuery struct {
	Status     string
	Currency   string
	Customer   string
	Metadata   map[string]string // each pair must be there
	CreatedGTE *int64            // Unix seconds
	CreatedLT  *int64
	After      string // any id of the payment before the page
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
		(q.Customer == "" || q.Customer == string(p.Customer))
}

// Payments lists payments, newest first by (created, id), and tells whether there are more.
// A page after an id that no payment has is [ErrCursor].
func (l *Ledger) Payments(q PaymentQuery) (page []*Payment, more bool, err error) {
	// below is the key the scan goes on under; nil begins at the newest.
	var below []byte
	if q.CreatedLT != nil {
		below = timeKey(*q.CreatedLT, "")
	}
	if q.After != "" {
		key, err := l.paymentCursor(q.After)
		if err != nil {
			return nil, false, err
		}
		if below == nil || bytes.Compare(key, below) < 0 {
			below = key
		}
	}
	var floor []byte
	if q.CreatedGTE != nil {
		floor = timeKey(*q.CreatedGTE, "")
	}
	visit := func(tx *txn, key []byte) (stop bool, err error) {
		if floor != nil && bytes.Compare(key, floor) < 0 {
			return true, nil
		}
		s, err := readState(tx, string(key[8:]))
		if err != nil {
			return true, err
		}
		if s == nil {
			return true, fmt.Errorf("%w: payment %s is listed and missing", ErrCorrupt, key[8:])
		}
		if p := s.view; q.matches(p) {
			if more = len(page) == q.Limit; more {
				return true, nil
			}
			page = append(page, p)
		}
		return false, nil
	}
	return page, more, l.scanDown(bucketPaymentsTime, below, visit)
}

func (l *Ledger) paymentCursor(id string) (key []byte, err error) {
	err = l.view(func(tx *txn) error {
		present, err := resolve(tx, id)
		if err != nil {
			return err
		}
		s, err := readState(tx, present)
		if err != nil {
			return err
		}
		if s == nil {
			return fmt.Errorf("%w: payment %q", ErrCursor, id)
		}
		key = timeKey(s.created(), s.view.ID)
		return nil
	})
	return key, err
}

// scanDown visits a bucket's keys below a key (nil: all), greatest first, until visit stops it. The
// key belongs to the transaction.
func (l *Ledger) scanDown(bucket, below []byte, visit func(tx *txn, key []byte) (stop bool, err error)) error {
	for done := false; !done; {
		err := l.view(func(tx *txn) error {
			n := 0
			for key := range tx.descend(bucket, below) {
				if n++; n > scanSlice {
					return nil
				}
				stop, err := visit(tx, key)
				if err != nil || stop {
					done = true
					return err
				}
				below = bytes.Clone(key)
			}
			done = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Payment finds a payment by any id seen for it. It returns [ErrNotFound] for an id never seen.
func (l *Ledger) Payment(id string) (p *Payment, err error) {
	err = l.view(func(tx *txn) error {
		present, err := resolve(tx, id)
		if err != nil {
			return err
		}
		s, err := readState(tx, present)
		if err != nil {
			return err
		}
		if s == nil {
			return fmt.Errorf("%w: no payment has the id %q", ErrNotFound, id)
		}
		p = s.view
		return nil
	})
	return p, err
}

// EventRecord is an event as it is shown: what came, when, by which door, and what came of it.
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

	Quarantine   *Quarantine    `json:"quarantine"`    // nil unless it lies in quarantine now
	ReleasedFrom OrNullSequence `json:"released_from"` // the row of the same event that lay in quarantine before
	ReleasedAs   OrNullSequence `json:"released_as"`   // the row in which the event was booked after it lay in quarantine in this one
}

func (l *Ledger) record(tx *txn, seq uint64, r *row) (*EventRecord, error) {
	payment, err := paymentOf(tx, &r.facts)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	waiting := l.repeats[seq]
	l.mu.Unlock()
	rec := &EventRecord{
		Object: "event_record", ID: r.id, Type: OrNull(r.typ), Account: OrNull(r.account), Context: OrNull(r.context), Livemode: r.livemode,
		Created: OrNullTime(r.created), Received: OrNullTime(time.UnixMilli(r.received).Unix()), APIVersion: OrNull(r.apiVersion),
		Outcome: r.outcome, Reason: OrNull(r.reason), PaymentID: OrNull(payment), Source: r.source,
		Sequence: seq, Size: r.size, Repeats: r.repeats + waiting, ReleasedFrom: OrNullSequence(r.released),
	}
	if r.outcome != Quarantined {
		return rec, nil
	}
	h, err := readQuarantineEntry(tx, seq)
	if err != nil {
		return nil, err
	}
	if h != nil {
		rec.Quarantine = &Quarantine{r.reason, h.state}
		return rec, nil
	}
	as, _, err := lookupID(tx, r.livemode, r.id)
	rec.ReleasedAs = OrNullSequence(as)
	return rec, err
}

// EventQuery chooses events. Empty fields choose all.
type EventQuery struct {
	Type    string
	Outcome Outcome
	After   string // the id of the event before the page; of one that left quarantine, its newest row
	Below   uint64 // the sequence of the row before the page, in place of After; 0 for none
	Limit   int
}

// Events lists events, newest first by sequence, and tells whether there are more.
func (l *Ledger) Events(q EventQuery) (page []*EventRecord, more bool, err error) {
	bucket := bucketEvents
	if q.Outcome == Quarantined {
		bucket = bucketQuarantine // few among many: they have an index
	}
	var below []byte
	if q.Below != 0 {
		below = seqKey(q.Below)
	}
	if q.After != "" {
		seq, err := l.eventCursor(q.After)
		if err != nil {
			return nil, false, err
		}
		below = seqKey(seq)
	}
	err = l.scanDown(bucket, below, func(tx *txn, key []byte) (stop bool, err error) {
		more, err = l.collect(tx, seqOf(key), q, &page)
		return more, err
	})
	return page, more, err
}

// PaymentEvents lists the events a payment was folded from, newest first by sequence. The id may be
// any seen for the payment.
func (l *Ledger) PaymentEvents(id string, q EventQuery) (page []*EventRecord, more bool, err error) {
	p, err := l.Payment(id)
	if err != nil {
		return nil, false, err
	}
	below := cmp.Or(q.Below, math.MaxUint64)
	if q.After != "" {
		if below, err = l.eventCursor(q.After); err != nil {
			return nil, false, err
		}
	}
	for done := false; !done; {
		err := l.view(func(tx *txn) error {
			s, err := readState(tx, p.ID)
			if s == nil || err != nil { // it may have got another id meanwhile
				done = true
				return err
			}
			n := 0
			for _, seq := range slices.Backward(s.rows) {
				if seq >= below {
					continue
				}
				if n++; n > scanSlice {
					return nil
				}
				if more, err = l.collect(tx, seq, q, &page); err != nil || more {
					done = true
					return err
				}
				below = seq
			}
			done = true
			return nil
		})
		if err != nil {
			return nil, false, err
		}
	}
	return page, more, nil
}

// collect adds a row to a page if it is one that was asked for, and tells whether the page is full already.
func (l *Ledger) collect(tx *txn, seq uint64, q EventQuery, page *[]*EventRecord) (full bool, err error) {
	r, err := readRow(tx, seq)
	if err != nil {
		return false, err
	}
	if q.Type != "" && q.Type != r.typ || q.Outcome != "" && q.Outcome != r.outcome {
		return false, nil
	}
	if len(*page) == q.Limit {
		return true, nil
	}
	rec, err := l.record(tx, seq, r)
	*page = append(*page, rec)
	return false, err
}

// eventCursor is the row to go on below.
func (l *Ledger) eventCursor(after string) (seq uint64, err error) {
	err = l.view(func(tx *txn) error {
		seq, err = l.find(tx, after)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: event %q", ErrCursor, after)
		}
		return err
	})
	return seq, err
}

// find looks an event up in the ledger's own mode, then in the other: what came from there is in quarantine.
func (l *Ledger) find(tx *txn, id string) (uint64, error) {
	for _, livemode := range []bool{l.livemode, !l.livemode} {
		if seq, found, err := lookupID(tx, livemode, id); found || err != nil {
			return seq, err
		}
	}
	return 0, fmt.Errorf("%w: no event has the id %q", ErrNotFound, id)
}

// Event finds one event, or returns [ErrNotFound].
func (l *Ledger) Event(id string) (rec *EventRecord, err error) {
	err = l.view(func(tx *txn) error {
		seq, err := l.find(tx, id)
		if err != nil {
			return err
		}
		r, err := readRow(tx, seq)
		if err != nil {
			return err
		}
		rec, err = l.record(tx, seq, r)
		return err
	})
	return rec, err
}

// Body returns an event's body byte for byte; the caller owns it. It returns [ErrNotFound] for an
// unknown id and [ErrGone] where the body is no longer kept.
func (l *Ledger) Body(id string) (raw []byte, err error) {
	err = l.view(func(tx *txn) error {
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

func (l *Ledger) readBody(tx *txn, seq uint64) ([]byte, error) {
	stored, err := readBody(tx, seq)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, fmt.Errorf("%w: the event in row %d is older than TILLHOOK_RETENTION", ErrGone, seq)
	}
	return l.bodies.decode(stored)
}
