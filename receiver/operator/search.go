package operator

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// maxSearches requests may read lists, timelines and totals at once: what each reads and answers
// takes memory.
const maxSearches = 8

// placeTime is how long a request waits for one of few places.
const placeTime = 2 * time.Second

// enter takes one of few places, or says that all are taken.
func enter(ctx context.Context, places chan struct{}, taken string) (leave func(), err error) {
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
		return nil, &Error{http.StatusServiceUnavailable, "overloaded", taken}
	}
}

// search serves what reads much of the ledger. It takes one of few places, and the request's
// context ends when the client hangs up or the receiver stops.
func (op *Operator) search(serve handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := op.untilStopping(r.Context())
		defer cancel()
		unhurried(w)
		leave, err := enter(ctx, op.searches, fmt.Sprintf("%d searches are running already; try again in a moment", maxSearches))
		if err != nil {
			return err
		}
		defer leave()
		return serve(w, r.WithContext(ctx))
	}
}
