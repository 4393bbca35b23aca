package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"tillhook/receiver/server"
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
	ended chan error // the first part that ended without being told to; what Stop reports are the others
	steps []step
}

// NewGroup begins with nothing.
func NewGroup(log *slog.Logger) *Group { return &Group{log: log, ended: make(chan error, 1)} }

// Ended receives an error once a part has ended without being told to. There may be no error in it:
// a part must not end.
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
			err = g.report(name, err)
		}
		done <- err
	}()
	g.Closes(name, func(stopCtx context.Context) error {
		cancel()
		return await(stopCtx, done)
	})
}

// Serves starts a door, and shuts it at the end.
func (g *Group) Serves(name string, door *server.Server) {
	done := make(chan error, 1)
	go func() {
		err := door.Serve()
		if err != nil {
			err = g.report(name, err)
		}
		done <- err
	}()
	g.steps = append(g.steps, step{name: name, door: true, stop: func(stopCtx context.Context) error {
		return errors.Join(door.Shutdown(stopCtx), await(stopCtx, done))
	}})
}

// report makes an error of a part that ended too early, and hands it to Ended. It never blocks:
// where another part was reported before, it returns the error, which is then the outcome of
// stopping the part.
func (g *Group) report(name string, err error) error {
	early := fmt.Errorf("the %s ended without being told to", name)
	if err != nil {
		early = fmt.Errorf("the %s ended: %w", name, err)
	}
	select {
	case g.ended <- early:
		return nil
	default:
		return early
	}
}

// await returns the outcome of a part, or an error when the context ends first.
func await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("it takes too long")
	}
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
	select {
	case err := <-g.ended: // it ended meanwhile
		errs = append(errs, err)
	default:
	}
	return errors.Join(errs...)
}
