package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Stopping is bounded as a whole; the doors get less of it, so that the ledger always has time of its own.
const (
	stopTime  = 9 * time.Second
	doorsTime = 7 * time.Second
)

// Group runs what a receiver is made of, and stops it in the reverse order of starting, each step by its name.
// Its methods are called from one goroutine.
type Group struct {
	log   *slog.Logger
	ended chan error // what ended without being told to
	steps []step
}

// NewGroup begins with nothing.
func NewGroup(log *slog.Logger) *Group { return &Group{log: log, ended: make(chan error, 8)} }

// Ended tells what ended without being told to.
func (g *Group) Ended() <-chan error { return g.ended }

type step struct {
	name string
	stop func(ctx context.Context) error
	door bool
}

// Closes registers what is to be done at the end.
func (g *Group) Closes(name string, stop func(ctx context.Context) error) {
	g.steps = append(g.steps, step{name: name, stop: stop})
}

// Runs starts what goes on until its context ends, and waits for it at the end.
func (g *Group) Runs(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			g.ended <- fmt.Errorf("the %s ended: %w", name, err)
			err = nil // told once is enough
		}
		done <- err
	}()
	g.Closes(name, func(stopCtx context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-stopCtx.Done():
			return fmt.Errorf("it takes too long: %w", stopCtx.Err())
		}
	})
}

// Serves starts a door, and shuts it at the end.
func (g *Group) Serves(name string, door *Door) {
	go func() {
		if err := door.Serve(); err != nil {
			g.ended <- fmt.Errorf("the %s ended: %w", name, err)
		}
	}()
	g.steps = append(g.steps, step{name: name, stop: door.Shutdown, door: true})
}

// Stop undoes every step, the last first, whatever becomes of the others.
func (g *Group) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	doors, cancelDoors := context.WithTimeout(ctx, doorsTime)
	defer cancelDoors()
	var errs []error
	for _, s := range slices.Backward(g.steps) {
		start := time.Now()
		bound := ctx
		if s.door {
			bound = doors
		}
		if err := s.stop(bound); err != nil {
			errs = append(errs, fmt.Errorf("stop the %s: %w", s.name, err))
		}
		g.log.Debug("stopped", "what", s.name, "ms", time.Since(start).Milliseconds())
	}
	for len(g.ended) > 0 { // what ended meanwhile
		errs = append(errs, <-g.ended)
	}
	return errors.Join(errs...)
}
