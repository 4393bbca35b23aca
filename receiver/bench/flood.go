package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// Flood is what honest senders notice of forged events that come as fast as the receiver refuses them.
type Flood struct {
	Honest int          `json:"honest_connections"`
	Forged int          `json:"forged_connections"`
	Alone  Figures      `json:"alone"`
	Beside Figures      `json:"beside"`
	P99    float64      `json:"p99_ratio"` // median of the rounds' ratios
	Rounds []FloodRound `json:"rounds"`
}

// FloodRound is honest senders alone, and then beside the flood.
type FloodRound struct {
	Alone  Figures `json:"alone"`
	Beside Figures `json:"beside"`
}

const (
	honestConnections = 4
	floodConnections  = 64
)

// flood measures it, on one receiver.
func (o *Options) flood(ctx context.Context) (f *Flood, err error) {
	dir, err := os.MkdirTemp(o.Dir, "run-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the run: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := o.Subject.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	f = &Flood{Honest: honestConnections, Forged: floodConnections}
	maker := NewMaker(o.Secret, time.Now())
	for round := range o.Rounds {
		o.Progress(fmt.Sprintf("a flood of forged events, round %d of %d", round+1, o.Rounds))
		var r FloodRound
		if r.Alone, err = honest(ctx, p, maker, o.Events/20); err != nil {
			return nil, err
		}
		if r.Beside, err = o.besideForged(ctx, p, maker); err != nil {
			return nil, err
		}
		f.Rounds = append(f.Rounds, r)
	}
	f.Alone = medians(f.Rounds, func(r FloodRound) Figures { return r.Alone })
	f.Beside = medians(f.Rounds, func(r FloodRound) Figures { return r.Beside })
	f.P99 = median(f.Rounds, func(r FloodRound) float64 { return r.Beside.P99 / r.Alone.P99 })
	return f, nil
}

// honest sends new events.
func honest(ctx context.Context, p *process, maker *Maker, events int) (Figures, error) {
	events = max(1000, events)
	load, err := Send(ctx, p.address, maker.Fresh(events), honestConnections, http.StatusOK)
	if err != nil {
		return Figures{}, err
	}
	return load.figures(events), nil
}

// besideForged does so while forged ones come.
func (o *Options) besideForged(ctx context.Context, p *process, maker *Maker) (Figures, error) {
	forged := maker.Forged(20_000)
	flooding, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && flooding.Err() == nil {
			_, err = Send(flooding, p.address, forged, floodConnections, http.StatusBadRequest)
		}
		if flooding.Err() != nil {
			err = nil // it was broken off
		}
		ended <- err
	}()
	figures, err := honest(ctx, p, maker, o.Events/20)
	stop()
	return figures, errors.Join(err, <-ended)
}
