package ledger_test

import (
	"context"
	"sync/atomic"
)

// countingContext counts the calls of Err, and is canceled after limit calls. It stands for a
// caller that leaves while a long operation runs.
type countingContext struct {
	context.Context
	calls atomic.Int64
	limit int64
}

func (c *countingContext) Err() error {
	if c.calls.Add(1) > c.limit {
		return context.Canceled
	}
	return nil
}
