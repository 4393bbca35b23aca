// Package bench measures a receiver: how many events it takes in a second and how soon it answers,
// beside the least a program can do with a webhook, a net/http handler that reads the body and says yes.
//
// Its nouns: a [Server] is a program under test, started anew for each run on an empty folder; a [Load]
// is what many connections sent and what came back; a [Report] is what they come to. The two servers
// run in turn, A B A B A B, so that a noisy machine is noisy to both, and what counts are the ratios.
//
// What can mislead here: the client shares the machine with the server, so it is as cheap as it can be
// (requests are written and signed before the clock starts, one write and one read each); a closed loop
// does not send while it waits, so its percentiles tell of a full machine, not of a quiet one.
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

// Options say what is measured.
type Options struct {
	Subject Server // the receiver
	Bare    Server // the bare handler
	Secret  string // the subject's signing secret
	Dir     string // a folder on the disk in question; each run gets one of its own in it
	Events  int    // in a run
	Rounds  int    // how often each server runs
	// Progress, if set, is told what is being measured.
	Progress func(what string)
}

// Report is what was measured, as it is printed.
type Report struct {
	SyncSeconds float64 `json:"fdatasync_seconds"` // one write of a page and its fdatasync, median
	Cases       []Case  `json:"cases"`
	Flood       Flood   `json:"flood"`
}

// Case is one kind of load on both servers.
type Case struct {
	Name        string  `json:"name"`
	Connections int     `json:"connections"`
	BodyBytes   float64 `json:"body_bytes"` // of an event, on average
	Subject     Figures `json:"tillhook"`
	Bare        Figures `json:"bare"`
	Throughput  float64 `json:"throughput_ratio"` // median of the rounds' ratios
	CPU         float64 `json:"cpu_ratio"`        // server CPU an event
	P99         float64 `json:"p99_ratio"`
	Rounds      []Round `json:"rounds"`
}

// Round is both servers once.
type Round struct {
	Subject Figures `json:"tillhook"`
	Bare    Figures `json:"bare"`
}

// Figures are of one run, or medians of several.
type Figures struct {
	EventsPerSecond float64 `json:"events_per_second"`
	P50             float64 `json:"p50_seconds"`
	P99             float64 `json:"p99_seconds"`
	P999            float64 `json:"p999_seconds"`
	CPU             float64 `json:"server_cpu_seconds_per_1000_events"`
	Disk            float64 `json:"disk_bytes_per_event"` // all that the folder takes up; 0 where nothing new came
	RSS             int64   `json:"rss_bytes"`            // at the end, without what is mapped from files
}

// kind is a case before it is measured.
type kind struct {
	name        string
	connections int
	make        func(m *Maker, n int) []Request
	known       bool // they are sent once before the clock starts
	wants       int  // the status the subject must answer
	stored      bool
}

func kinds() []kind {
	return []kind{
		{name: "new events", connections: 1, make: (*Maker).Fresh, wants: 200, stored: true},
		{name: "new events", connections: 16, make: (*Maker).Fresh, wants: 200, stored: true},
		{name: "new events", connections: 64, make: (*Maker).Fresh, wants: 200, stored: true},
		{name: "new events", connections: 256, make: (*Maker).Fresh, wants: 200, stored: true},
		{name: "new events, random ids", connections: 64, make: (*Maker).Random, wants: 200, stored: true},
		{name: "repeats", connections: 64, make: (*Maker).Fresh, known: true, wants: 200},
		{name: "forged", connections: 64, make: (*Maker).Forged, wants: 400},
	}
}

// Run measures every case. It takes minutes.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Events < 1000 || o.Rounds < 1 {
		return nil, fmt.Errorf("%d events in %d rounds tell nothing: take at least 1000 and one", o.Events, o.Rounds)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	var r Report
	var err error
	if r.SyncSeconds, err = syncTime(o.Dir); err != nil {
		return nil, err
	}
	for _, k := range kinds() {
		c, err := o.measure(ctx, k)
		if err != nil {
			return nil, fmt.Errorf("%s on %d connections: %w", k.name, k.connections, err)
		}
		r.Cases = append(r.Cases, *c)
	}
	flood, err := o.flood(ctx)
	if err != nil {
		return nil, fmt.Errorf("beside a flood of forged events: %w", err)
	}
	r.Flood = *flood
	return &r, nil
}

// measure runs one case, both servers in turn.
func (o *Options) measure(ctx context.Context, k kind) (*Case, error) {
	c := &Case{Name: k.name, Connections: k.connections}
	events := o.Events
	if k.connections == 1 {
		events = max(1000, events/20)
	}
	for round := range o.Rounds {
		o.Progress(fmt.Sprintf("%s, %d connections, round %d of %d", k.name, k.connections, round+1, o.Rounds))
		maker := NewMaker(o.Secret, time.Now())
		requests := k.make(maker, events)
		if c.BodyBytes == 0 {
			for _, r := range requests {
				c.BodyBytes += float64(r.Body) / float64(len(requests))
			}
		}
		subject, err := o.run(ctx, &o.Subject, k, requests, k.wants)
		if err != nil {
			return nil, err
		}
		bare, err := o.run(ctx, &o.Bare, k, requests, 200)
		if err != nil {
			return nil, fmt.Errorf("the bare handler: %w", err)
		}
		c.Rounds = append(c.Rounds, Round{subject, bare})
	}
	c.sum()
	return c, nil
}

// run starts a server on an empty folder, loads it and ends it.
func (o *Options) run(ctx context.Context, s *Server, k kind, requests []Request, want int) (f Figures, err error) {
	dir, err := os.MkdirTemp(o.Dir, "run-")
	if err != nil {
		return f, fmt.Errorf("make a folder for the run: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := s.start(ctx, dir)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if k.known {
		if _, err := Send(ctx, p.address, requests, k.connections, want); err != nil {
			return f, err
		}
	}
	before, err := p.cpu()
	if err != nil {
		return f, err
	}
	load, err := Send(ctx, p.address, requests, k.connections, want)
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
	if k.stored {
		bytes, err := diskUse(dir)
		if err != nil {
			return f, err
		}
		f.Disk = float64(bytes) / n
	}
	return f, nil
}

// sum makes the medians.
func (c *Case) sum() {
	of := func(pick func(Round) float64) float64 { return median(c.Rounds, pick) }
	c.Subject, c.Bare = medians(c.Rounds, func(r Round) Figures { return r.Subject }), medians(c.Rounds, func(r Round) Figures { return r.Bare })
	c.Throughput = of(func(r Round) float64 { return r.Subject.EventsPerSecond / r.Bare.EventsPerSecond })
	c.CPU = of(func(r Round) float64 { return r.Subject.CPU / r.Bare.CPU })
	c.P99 = of(func(r Round) float64 { return r.Subject.P99 / r.Bare.P99 })
}

// medians are those of each figure.
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
