package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"tillhook/ledger/posting"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// ErrNoDecoder is returned where a body would have to be decoded and [Options.Decode] is nil.
var ErrNoDecoder = errors.New("events cannot be decoded again: no decoder was given")

// Release decodes an event in quarantine again, and posts it in a new row if it can be used now.
// The new row has the source and the time of receipt of the old one, and shares its body. Release
// returns the new outcome of the event, or the stored one if the event is not in quarantine.
func (l *Ledger) Release(ctx context.Context, id string) (Result, error) {
	if l.readOnly {
		return Result{}, ErrReadOnly
	}
	if l.opts.Decode == nil {
		return Result{}, ErrNoDecoder
	}
	var old *schema.Row
	var seq uint64
	var raw []byte
	var payment string
	err := l.store.View(func(tx *store.Tx) (err error) {
		if seq, err = l.find(tx, id); err != nil {
			return err
		}
		if old, err = schema.ReadRow(tx, seq); err != nil {
			return err
		}
		if old.Outcome != Quarantined {
			payment, err = schema.PaymentOf(tx, &old.Facts)
			return err
		}
		raw, err = l.readBody(tx, seq)
		return err
	})
	if err != nil {
		return Result{}, err
	}
	if old.Outcome != Quarantined {
		return Result{Status: old.Outcome, PaymentID: payment, Sequence: seq, Repeat: true}, nil
	}
	e := l.opts.Decode(raw)
	if e.ID != old.ID || e.Livemode != old.Livemode {
		return Result{}, fmt.Errorf("%w: event %s reads as %s of %s mode now, and stays in quarantine so that it is not counted twice", ErrOtherID, old.ID, e.ID, ModeName(e.Livemode))
	}
	if e.Quarantine != "" {
		err := l.reclassify(ctx, e)
		if errors.Is(err, ErrNotQuarantined) { // a delivery released the event meanwhile
			err = nil
		}
		return Result{Status: Quarantined, Reason: e.Quarantine, Sequence: seq, Repeat: true}, err
	}
	e.Source, e.Received, e.Raw = old.Source, time.UnixMilli(old.Received), raw
	e.Account, e.Context = cmp.Or(e.Account, old.Account), cmp.Or(e.Context, old.Context)
	if err := e.Check(l.livemode); err != nil {
		return Result{}, err
	}
	p := newPending(e, l.bodies.Encode(raw))
	p.Release = true
	if err := l.queue.wait(ctx, p); err != nil {
		return Result{}, err
	}
	if l.opts.Released != nil && p.Left {
		l.opts.Released(e, p.Result)
	}
	return p.Result, nil
}

// ReleaseResult is the result of [Ledger.ReleaseAll].
type ReleaseResult struct {
	Released int // events that left quarantine
	Left     int // events that stay in quarantine
}

// maxErrors is the number of errors that ReleaseAll reports.
const maxErrors = 50

// ReleaseAll tries to release every event in quarantine once, oldest first. An event that cannot be
// read or written stays in quarantine.
func (l *Ledger) ReleaseAll(ctx context.Context) (ReleaseResult, error) {
	var sum ReleaseResult
	var errs []error
	for after := uint64(0); ctx.Err() == nil; {
		page, damaged, last, err := l.quarantinedAfter(after)
		if err != nil || last == 0 {
			return sum, errors.Join(append(errs, err)...)
		}
		errs = append(errs, damaged[:max(0, min(len(damaged), maxErrors-len(errs)))]...)
		sum.Left += len(damaged)
		for _, id := range page {
			res, err := l.Release(ctx, id)
			switch {
			case err == nil && res.Status != Quarantined:
				sum.Released++
				continue
			case errors.Is(err, ErrOtherID): // another attempt cannot help, so this is not reported
			case err != nil && len(errs) < maxErrors:
				errs = append(errs, fmt.Errorf("release event %s: %w", id, err))
			}
			sum.Left++
		}
		after = last
	}
	return sum, ctx.Err()
}

// quarantinedAfter returns the ids of up to 100 events in quarantine after a row, and an error for
// each row that cannot be read. last is the last row that it examined, or 0 if no rows are left.
func (l *Ledger) quarantinedAfter(after uint64) (page []string, damaged []error, last uint64, err error) {
	err = l.store.View(func(tx *store.Tx) error {
		for e := range tx.Ascend(schema.BucketQuarantine, schema.SeqKey(after+1)) {
			if len(page)+len(damaged) == 100 {
				break
			}
			last = schema.SeqOf(e.Key)
			r, err := schema.ReadRow(tx, last)
			switch {
			case errors.Is(err, ErrCorrupt):
				damaged = append(damaged, err)
			case err != nil:
				return err
			default:
				page = append(page, r.ID)
			}
		}
		return nil
	})
	return page, damaged, last, err
}

// ReleaseOnce tries to release every event in quarantine, unless the current decoder was the last
// to try.
func (l *Ledger) ReleaseOnce(ctx context.Context) (ReleaseResult, error) {
	present := []byte(l.opts.Decoder)
	same := false
	err := l.store.View(func(tx *store.Tx) error {
		last, err := tx.Get(schema.BucketMeta, schema.MetaDecoder)
		same = bytes.Equal(last, present)
		return err
	})
	if err != nil || same {
		return ReleaseResult{}, err
	}
	sum, err := l.ReleaseAll(ctx)
	if err != nil {
		return sum, err
	}
	return sum, l.do(ctx, func(b *posting.Batch) (func() error, error) {
		return func() error { return b.Tx.Put(schema.BucketMeta, schema.MetaDecoder, present) }, nil
	})
}
