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

// enter acquires a semaphore, or returns an error with the message full.
func enter(ctx context.Context, places chan struct{}, full string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
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
		leave, err := enter(ctx, op.searches,
			fmt.Sprintf("%d searches are running already; try again in a moment", maxSearches))
		if err != nil {
			return err
		}
		defer leave()
		return serve(w, r.WithContext(ctx))
	}
}
