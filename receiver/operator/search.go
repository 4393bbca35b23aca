package operator

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// maxSearches bounds the requests that read lists, timelines and totals at the same time, because
// each takes memory.
const maxSearches = 8

// placeTime is how long a request waits for a semaphore.
const placeTime = 2 * time.Second

// acquire acquires a semaphore, or returns an error with the message full.
func acquire(ctx context.Context, slots chan struct{}, full string) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-waiting.Done():
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, &Error{http.StatusServiceUnavailable, "overloaded", full}
	}
}

// search wraps a handler that reads much of the ledger: it acquires a semaphore, and makes the
// request's context end when the client hangs up or the receiver stops.
func (op *Operator) search(serve handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := op.untilStopping(r.Context())
		defer cancel()
		unhurried(w)
		release, err := acquire(ctx, op.searches,
			fmt.Sprintf("%d searches are running already; try again in a moment", maxSearches))
		if err != nil {
			return err
		}
		defer release()
		return serve(w, r.WithContext(ctx))
	}
}
