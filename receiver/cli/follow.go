package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/operator"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

const (
	followEvery = time.Second // between requests
	followPage  = 100         // events in a request
	followAt    = 10          // older events that are shown first
)

// follow prints events as they arrive, until the command is stopped.
type follow struct {
	*Program
	shown  func(e *ledger.EventRecord) bool // the filter
	typ    string                           // that the filter wants; empty for any
	asJSON bool
	begun  bool
	last   uint64 // the sequence of the newest event that was seen
	lost   bool   // the receiver does not answer
}

// run prints the newest events, then those that arrive. It waits while the receiver does not
// answer.
func (f *follow) run(c *cobra.Command) error {
	ctx := c.Context()
	for {
		err := f.step(ctx)
		var answered *operator.Error
		switch {
		case ctx.Err() != nil:
			return nil // stopped by the user
		case errors.As(err, &answered) && answered.Status < 500:
			return err
		case err != nil && !f.begun:
			return err
		case err != nil && !f.lost:
			f.lost = true
			fmt.Fprintf(f.Stderr, "The receiver does not answer (%v); waiting for it.\n", err)
		case err == nil:
			f.lost = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// step prints the events that arrived since the last step, the oldest first.
func (f *follow) step(ctx context.Context) error {
	client, err := f.running(ctx)
	if err != nil {
		return err
	}
	if !f.begun && operator.Undocumented("type", f.typ) != nil { // the ledger may hold it
		only := url.Values{"type": {f.typ}, "limit": {"1"}}
		_, err := client.Get(ctx, "/api/events", only)
		if err = unknownValue(only, err); err != nil {
			return err
		}
	}
	var events []ledger.EventRecord
	params := url.Values{"limit": {strconv.Itoa(followPage)}}
	newest, anew := uint64(0), !f.begun
	for whole := false; !whole; {
		answer, err := client.Get(ctx, "/api/events", params)
		if err != nil {
			return err
		}
		var list operator.List[ledger.EventRecord]
		if err := json.Unmarshal(answer, &list); err != nil {
			return fmt.Errorf("read the receiver's answer: %w", err)
		}
		if newest == 0 && f.last > 0 && (len(list.Data) == 0 || list.Data[0].Sequence < f.last) {
			fmt.Fprintln(f.Stderr, "The ledger was replaced by another one. Its newest events:")
			f.last, anew = 0, true
		}
		for _, e := range list.Data {
			whole = whole || e.Sequence <= f.last
			newest = max(newest, e.Sequence)
			if !whole && f.shown(&e) {
				events = append(events, e)
			}
		}
		whole = whole || anew || !list.HasMore
		params.Set("page", string(list.NextPage))
	}
	if anew {
		events = events[:min(len(events), followAt)]
	}
	slices.Reverse(events)
	err = f.print(events)
	if !f.begun {
		fmt.Fprintln(f.Stderr, "Waiting for events; stop with Ctrl-C.")
	}
	f.begun, f.last = true, newest
	return err
}

func (f *follow) print(events []ledger.EventRecord) error {
	if f.asJSON {
		enc := json.NewEncoder(f.Stdout)
		for _, e := range events {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
		return nil
	}
	for _, e := range events {
		if _, err := fmt.Fprintf(f.Stdout, "%s  %-11s  %s  %s  %s\n", terminal.TimeUTC(e.Received), outcomeOf(e), e.ID, terminal.OrDash(e.Type), terminal.OrDash(e.PaymentID)); err != nil {
			return err
		}
	}
	return nil
}
