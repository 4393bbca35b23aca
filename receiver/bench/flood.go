package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// Flood is the effect of forged events on honest senders: the forged ones are sent as fast as the
// receiver refuses them.
type Flood struct {
	Honest      int          `json:"honest_connections"`
	Forged      int          `json:"forged_connections"`
	Undisturbed Figures      `json:"alone"`
	UnderFlood  Figures      `json:"beside"`
	P99         float64      `json:"p99_ratio"` // median of the rounds' ratios
	Rounds      []FloodRound `json:"rounds"`
}

// FloodRound is a run of honest senders without the flood, then one with it.
type FloodRound struct {
	Undisturbed Figures `json:"alone"`
	UnderFlood  Figures `json:"beside"`
}

const (
	honestConnections = 4
	floodConnections  = 64
)

// flood measures a flood on one receiver.
func (o *Options) flood(ctx context.Context) (f *Flood, err error) {
	dir, err := os.MkdirTemp(o.Dir, "run-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the run: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := o.Subject.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	f = &Flood{Honest: honestConnections, Forged: floodConnections}
	generator := NewGenerator(o.Secret, time.Now())
	for round := range o.Rounds {
		o.Progress(fmt.Sprintf("a flood of forged events, round %d of %d", round+1, o.Rounds))
		var r FloodRound
		if r.Undisturbed, err = honest(ctx, p, generator, o.Events/20); err != nil {
			return nil, err
		}
		if r.UnderFlood, err = o.honestUnderFlood(ctx, p, generator); err != nil {
			return nil, err
		}
		f.Rounds = append(f.Rounds, r)
	}
	f.Undisturbed = medians(f.Rounds, func(r FloodRound) Figures { return r.Undisturbed })
	f.UnderFlood = medians(f.Rounds, func(r FloodRound) Figures { return r.UnderFlood })
	f.P99 = median(f.Rounds, func(r FloodRound) float64 { return r.UnderFlood.P99 / r.Undisturbed.P99 })
	return f, nil
}

// honest sends new events.
func honest(ctx context.Context, p *process, generator *Generator, events int) (Figures, error) {
	events = max(1000, events)
	load, err := Send(ctx, p.address, generator.NewEvents(events), honestConnections, http.StatusOK)
	if err != nil {
		return Figures{}, err
	}
	return load.figures(events), nil
}

// honestUnderFlood sends new events while forged ones are sent.
func (o *Options) honestUnderFlood(ctx context.Context, p *process, generator *Generator) (Figures, error) {
	forged := generator.Forged(20_000)
	flooding, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && flooding.Err() == nil {
			_, err = Send(flooding, p.address, forged, floodConnections, http.StatusBadRequest)
		}
		if flooding.Err() != nil {
			err = nil // aborted on purpose
		}
		ended <- err
	}()
	figures, err := honest(ctx, p, generator, o.Events/20)
	stop()
	return figures, errors.Join(err, <-ended)
}
