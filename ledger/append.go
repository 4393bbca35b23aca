package ledger

import "context"

// Append stores the event once and folds it into its payment, in one transaction. It returns when
// the transaction is durable or when ctx ends. If ctx ends, the event may still be stored, so an
// error means "unknown" unless it is [ErrOverloaded] or [ErrClosed]. A repeat of a known event is
// counted and needs no commit. An event that is in quarantine and can be used now is posted in a
// new row, which refers to its old one.
func (l *Ledger) Append(ctx context.Context, e *Event) (Result, error) {
	if l.readOnly {
		return Result{}, ErrReadOnly
	}
	if err := e.Check(l.livemode); err != nil {
		return Result{}, err
	}
	if f := l.failure(); f != nil {
		return Result{}, f.err
	}
	p := newPending(e, l.bodies.Encode(e.Raw))
	if err := l.queue.wait(ctx, p); err != nil {
		l.noteDamage(e, err)
		return Result{}, err // p may still be in progress
	}
	l.noteDamage(e, nil)
	return p.Result, nil
}
