// Package bench measures a receiver: throughput, latency, processor time, disk and memory, next to
// the least that a program can do with a webhook, a net/http handler that reads the body and
// answers 200.
//
// A [Server] is a program under test, started for each run on an empty directory. A [Generator]
// makes signed requests. A [Load] is the result of sending them. A [Report] holds the figures of
// all runs. The two servers take turns, A B A B A B, so that a noisy machine disturbs both: compare
// the ratios and not the absolute figures.
//
// The figures mislead in two ways. The client shares the machine with the server, so it is as cheap
// as possible: requests are written and signed before the clock starts, and each needs one write
// and one read. And the load is a closed loop: a connection does not send while it waits for an
// answer, so the percentiles describe a machine under full load and not an idle one.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Options configures a benchmark.
type Options struct {
	Subject Server // the receiver under test
	Bare    Server // the bare handler
	Secret  string // the subject's signing secret
	Dir     string // a directory on the disk to measure; each run makes its own in it
	Events  int    // per run
	Rounds  int    // runs of each server
	// Progress, if set, is called with a description before each run.
	Progress func(what string)
}

// Report is the result of a benchmark, as it is printed.
type Report struct {
	SyncSeconds float64 `json:"fdatasync_seconds"` // write of one page and fdatasync, median
	Cases       []Case  `json:"cases"`
	Flood       Flood   `json:"flood"`
}

// Case is the result of one scenario on both servers.
type Case struct {
	Name        string  `json:"name"`
	Connections int     `json:"connections"`
	BodyBytes   float64 `json:"body_bytes"` // mean
	Subject     Figures `json:"tillhook"`
	Bare        Figures `json:"bare"`
	Throughput  float64 `json:"throughput_ratio"` // median of the rounds' ratios
	CPU         float64 `json:"cpu_ratio"`        // of server CPU per event
	P99         float64 `json:"p99_ratio"`
	Rounds      []Round `json:"rounds"`
}

// Round is one run of each server.
type Round struct {
	Subject Figures `json:"tillhook"`
	Bare    Figures `json:"bare"`
}

// Figures are measured in one run, or medians of several.
type Figures struct {
	EventsPerSecond float64 `json:"events_per_second"`
	P50             float64 `json:"p50_seconds"`
	P99             float64 `json:"p99_seconds"`
	P999            float64 `json:"p999_seconds"`
	CPU             float64 `json:"server_cpu_seconds_per_1000_events"`
	Disk            float64 `json:"disk_bytes_per_event"` // size of the directory on disk; 0 if no new events were sent
	RSS             int64   `json:"rss_bytes"`            // at the end of the run, without file mappings
}

// scenario is one kind of load.
type scenario struct {
	name        string
	connections int
	make        func(g *Generator, n int) []Request
	repeated    bool // the requests are sent once before the clock starts
	wants       int  // HTTP status that the subject must answer
	stored      bool
}

func scenarios() []scenario {
	return []scenario{
		{name: "new events", connections: 1, make: (*Generator).NewEvents, wants: 200, stored: true},
		{name: "new events", connections: 16, make: (*Generator).NewEvents, wants: 200, stored: true},
		{name: "new events", connections: 64, make: (*Generator).NewEvents, wants: 200, stored: true},
		{name: "new events", connections: 256, make: (*Generator).NewEvents, wants: 200, stored: true},
		{name: "new events, random ids", connections: 64, make: (*Generator).RandomIDs, wants: 200, stored: true},
		{name: "repeats", connections: 64, make: (*Generator).NewEvents, repeated: true, wants: 200},
		{name: "forged", connections: 64, make: (*Generator).Forged, wants: 400},
	}
}

// Run runs all scenarios. It takes minutes.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Events < 1000 || o.Rounds < 1 {
		return nil, fmt.Errorf("%d events in %d rounds are too few to measure: use at least 1000 events and 1 round", o.Events, o.Rounds)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	var r Report
	var err error
	if r.SyncSeconds, err = syncTime(o.Dir); err != nil {
		return nil, err
	}
	for _, s := range scenarios() {
		c, err := o.measure(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s on %d connections: %w", s.name, s.connections, err)
		}
		r.Cases = append(r.Cases, *c)
	}
	flood, err := o.flood(ctx)
	if err != nil {
		return nil, fmt.Errorf("during a flood of forged events: %w", err)
	}
	r.Flood = *flood
	return &r, nil
}

// measure runs one scenario on both servers in turn.
func (o *Options) measure(ctx context.Context, s scenario) (*Case, error) {
	c := &Case{Name: s.name, Connections: s.connections}
	events := o.Events
	if s.connections == 1 {
		events = max(1000, events/20)
	}
	for round := range o.Rounds {
		o.Progress(fmt.Sprintf("%s, %d connections, round %d of %d", s.name, s.connections, round+1, o.Rounds))
		generator := NewGenerator(o.Secret, time.Now())
		requests := s.make(generator, events)
		if c.BodyBytes == 0 {
			for _, r := range requests {
				c.BodyBytes += float64(r.Body) / float64(len(requests))
			}
		}
		subject, err := o.run(ctx, &o.Subject, s, requests, s.wants)
		if err != nil {
			return nil, err
		}
		bare, err := o.run(ctx, &o.Bare, s, requests, 200)
		if err != nil {
			return nil, fmt.Errorf("the bare handler: %w", err)
		}
		c.Rounds = append(c.Rounds, Round{subject, bare})
	}
	c.summarize()
	return c, nil
}

// run starts a server on an empty directory, sends the requests and stops the server.
func (o *Options) run(ctx context.Context, server *Server, s scenario, requests []Request, want int) (f Figures, err error) {
	dir, err := os.MkdirTemp(o.Dir, "run-")
	if err != nil {
		return f, fmt.Errorf("make a directory for the run: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := server.start(ctx, dir)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if s.repeated {
		if _, err := Send(ctx, p.address, requests, s.connections, want); err != nil {
			return f, err
		}
	}
	before, err := p.cpu()
	if err != nil {
		return f, err
	}
	load, err := Send(ctx, p.address, requests, s.connections, want)
	if err != nil {
		return f, err
	}
	after, err := p.cpu()
	if err != nil {
		return f, err
	}
	n := float64(len(requests))
	f = load.figures(len(requests))
	f.CPU = (after - before).Seconds() / n * 1000
	if f.RSS, err = p.rss(); err != nil {
		return f, err
	}
	if s.stored {
		bytes, err := diskUse(dir)
		if err != nil {
			return f, err
		}
		f.Disk = float64(bytes) / n
	}
	return f, nil
}

// summarize computes the medians over the rounds.
func (c *Case) summarize() {
	of := func(pick func(Round) float64) float64 { return median(c.Rounds, pick) }
	c.Subject, c.Bare = medians(c.Rounds, func(r Round) Figures { return r.Subject }), medians(c.Rounds, func(r Round) Figures { return r.Bare })
	c.Throughput = of(func(r Round) float64 { return r.Subject.EventsPerSecond / r.Bare.EventsPerSecond })
	c.CPU = of(func(r Round) float64 { return r.Subject.CPU / r.Bare.CPU })
	c.P99 = of(func(r Round) float64 { return r.Subject.P99 / r.Bare.P99 })
}

// medians returns the median of each figure.
func medians[T any](rounds []T, side func(T) Figures) Figures {
	of := func(pick func(Figures) float64) float64 {
		return median(rounds, func(r T) float64 { return pick(side(r)) })
	}
	return Figures{
		EventsPerSecond: of(func(f Figures) float64 { return f.EventsPerSecond }),
		P50:             of(func(f Figures) float64 { return f.P50 }), P99: of(func(f Figures) float64 { return f.P99 }),
		P999: of(func(f Figures) float64 { return f.P999 }), CPU: of(func(f Figures) float64 { return f.CPU }),
		Disk: of(func(f Figures) float64 { return f.Disk }), RSS: int64(of(func(f Figures) float64 { return float64(f.RSS) })),
	}
}

func median[T any, N cmp.Ordered](list []T, pick func(T) N) N {
	values := make([]N, len(list))
	for i, v := range list {
		values[i] = pick(v)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
