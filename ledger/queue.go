package ledger

import (
	"context"
	"sync/atomic"

	"tillhook/ledger/posting"
)

const (
	// maxQueued events may wait for the committer; a further one is refused.
	maxQueued = 8192
	// maxQueuedBytes bounds what they hold in memory.
	maxQueuedBytes = 64 << 20
	// queuedOverhead is what a waiting event takes at least, in bytes.
	queuedOverhead = 512
	// heavyObjects in an event's facts make it heavy: each commit posts one heavy event at most, so
	// that no other event waits for several. Stripe's own events have a few dozen.
	heavyObjects = 256
)

// queue hands events and jobs to the committer. It may be used from any goroutine.
type queue struct {
	waiting chan *pending
	bytes   atomic.Int64  // weight of what waits
	stopped chan struct{} // closed when the committer has returned
}

func newQueue() queue {
	return queue{waiting: make(chan *pending, maxQueued), stopped: make(chan struct{})}
}

// pending is an event that waits for its commit, or a job.
type pending struct {
	posting.Item
	weight int64         // what it counts for in maxQueuedBytes: the facts keep the raw body in memory
	done   chan struct{} // closed when the item is posted or has failed
}

func newPending(e *Event, body []byte) *pending {
	p := &pending{weight: int64(len(e.Raw) + queuedOverhead), done: make(chan struct{})}
	p.Event, p.Body, p.Size = *e, body, uint64(len(e.Raw))
	p.Event.Raw = nil
	return p
}

// isDelivery reports whether an event was delivered or fetched.
func (p *pending) isDelivery() bool { return p.Job == nil && !p.Release }

// isHeavy reports whether posting the event takes much longer than others.
func (p *pending) isHeavy() bool {
	f := &p.Event.Facts
	n := len(f.Intents) + len(f.Charges) + len(f.Refunds) + len(f.Disputes) + len(f.Sessions)
	for i := range f.Disputes {
		n += len(f.Disputes[i].Transactions)
	}
	return n > heavyObjects
}

func (p *pending) answer(err error) {
	if p.Err == nil {
		p.Err = err
	}
	close(p.done)
}

// do runs a job in the committer's next transaction and returns when that is durable. If it returns
// an error, the job may still be under way.
func (l *Ledger) do(ctx context.Context, job posting.Job) error {
	if l.readOnly {
		return ErrReadOnly
	}
	return l.queue.wait(ctx, &pending{Item: posting.Item{Job: job}, weight: queuedOverhead, done: make(chan struct{})})
}

// wait hands p to the committer and returns when it is durable, or ctx ends.
func (q *queue) wait(ctx context.Context, p *pending) error {
	if q.bytes.Add(p.weight) > maxQueuedBytes {
		q.bytes.Add(-p.weight)
		return ErrOverloaded
	}
	select {
	case q.waiting <- p:
	case <-q.stopped:
		q.bytes.Add(-p.weight)
		return ErrClosed
	default:
		q.bytes.Add(-p.weight)
		return ErrOverloaded
	}
	select {
	case <-p.done:
		return p.Err
	case <-q.stopped:
		// The committer drains the queue before it stops; what it did not take was never written.
		select {
		case <-p.done:
			return p.Err
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		return &lateError{ctx.Err()}
	}
}

// lateError wraps [ErrUnavailable] and the error of the context that ended.
type lateError struct{ cause error }

func (e *lateError) Error() string   { return ErrUnavailable.Error() + " in time" }
func (e *lateError) Unwrap() []error { return []error{ErrUnavailable, e.cause} }
