package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"tillhook/receiver/server"
)

// Stopping is bounded as a whole. The servers get a part of that time, so that the ledger always
// has some of its own.
const (
	stopTime    = 9 * time.Second
	serversTime = 7 * time.Second
)

// Group runs the parts of a receiver and stops them in the reverse order of starting, each by its
// name. Its methods are called from one goroutine.
type Group struct {
	log   *slog.Logger
	ended chan error // the first part that ended by itself; Stop returns the others
	steps []step
}

// NewGroup returns a group without parts.
func NewGroup(log *slog.Logger) *Group { return &Group{log: log, ended: make(chan error, 1)} }

// Ended receives an error once a part has ended by itself. No part may, with or without an error.
func (g *Group) Ended() <-chan error { return g.ended }

type step struct {
	name   string
	stop   func(ctx context.Context) error
	server bool
}

// Defer registers what Stop does.
func (g *Group) Defer(name string, stop func(ctx context.Context) error) {
	g.steps = append(g.steps, step{name: name, stop: stop})
}

// Go starts a function that runs until its context ends. Stop ends the context and waits for it.
func (g *Group) Go(name string, run func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			err = g.report(name, err)
		}
		done <- err
	}()
	g.Defer(name, func(stopCtx context.Context) error {
		cancel()
		return await(stopCtx, done)
	})
}

// Serve starts a server. Stop shuts it down.
func (g *Group) Serve(name string, s *server.Server) {
	done := make(chan error, 1)
	go func() {
		err := s.Serve()
		if err != nil {
			err = g.report(name, err)
		}
		done <- err
	}()
	g.steps = append(g.steps, step{name: name, server: true, stop: func(stopCtx context.Context) error {
		return errors.Join(s.Shutdown(stopCtx), await(stopCtx, done))
	}})
}

// report passes the error of a part that ended by itself to Ended. It never blocks: if another part
// was reported before, it returns the error, which Stop then returns.
func (g *Group) report(name string, err error) error {
	early := fmt.Errorf("the %s ended by itself", name)
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

var errSlow = errors.New("it takes too long")

// await returns the error of a part, or errSlow if the context ends first.
func await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errSlow
	}
}

// Stop stops all parts, the last first, and joins their errors.
func (g *Group) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	serversCtx, cancelServers := context.WithTimeout(ctx, serversTime)
	defer cancelServers()
	var errs []error
	for _, s := range slices.Backward(g.steps) {
		start := time.Now()
		bound := ctx
		if s.server {
			bound = serversCtx
		}
		if err := s.stop(bound); err != nil {
			errs = append(errs, fmt.Errorf("stop the %s: %w", s.name, err))
		}
		g.log.Debug("stopped", "what", s.name, "ms", time.Since(start).Milliseconds())
	}
	select {
	case err := <-g.ended: // a part ended meanwhile
		errs = append(errs, err)
	default:
	}
	return errors.Join(errs...)
}
