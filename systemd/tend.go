package systemd

import (
	"context"
	"sync"
	"time"
)

const (
	// statusEvery is how often the status may change, feeds how often a watchdog is fed in the time it waits.
	statusEvery = 2 * time.Second
	feeds       = 4
)

// Tend tells the service manager how the receiver is, whenever that changes, and feeds its watchdog, until ctx ends. Before the
// watchdog is fed, alive waits for what must have gone on; while it waits, nothing is fed.
func Tend(ctx context.Context, alive func(context.Context) error, status func() string) error {
	wait, err := Watchdog()
	if err != nil || !Managed() {
		<-ctx.Done()
		return err
	}
	var feeding sync.WaitGroup
	defer feeding.Wait()
	if wait > 0 {
		feeding.Go(func() {
			for every(ctx, wait/feeds) {
				if alive(ctx) == nil {
					_ = Alive() // a manager that is gone waits for nothing
				}
			}
		})
	}
	told := ""
	for every(ctx, statusEvery) {
		if now := status(); now != told {
			_ = Status(now)
			told = now
		}
	}
	return nil
}

// every waits, and tells whether ctx goes on.
func every(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
