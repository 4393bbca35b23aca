package systemd

import (
	"context"
	"sync"
	"time"
)

const (
	statusInterval = 2 * time.Second // the status changes at most this often
	feedsPerPeriod = 4               // feedings in one watchdog period
)

// RunNotifier reports the receiver's status to the service manager whenever it changes, and feeds
// the watchdog, until ctx ends. Before each feeding alive waits until the receiver has made
// progress; while it waits, the watchdog is not fed.
func RunNotifier(ctx context.Context, alive func(context.Context) error, status func() string) error {
	wait, err := Watchdog()
	if err != nil || !Managed() {
		<-ctx.Done()
		return err
	}
	var feeding sync.WaitGroup
	defer feeding.Wait()
	if wait > 0 {
		feeding.Go(func() {
			for every(ctx, wait/feedsPerPeriod) {
				if alive(ctx) == nil {
					_ = Alive() // a manager that is gone does not wait
				}
			}
		})
	}
	reported := ""
	for every(ctx, statusInterval) {
		if now := status(); now != reported {
			_ = Status(now)
			reported = now
		}
	}
	return nil
}

// every waits for pause and reports whether ctx has not ended.
func every(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
