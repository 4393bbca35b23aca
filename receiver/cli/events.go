package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"tillhook/ledger"
	"tillhook/receiver/operator"
)

func (p *Program) eventsCommand() *cobra.Command {
	var f page
	var typ, outcome string
	c := &cobra.Command{
		Use:   "events",
		Short: "List events, or show one",
		Long:  `List the events that were received, newest first, those in quarantine included.`,
		Example: `  tillhook events --outcome quarantined
  tillhook events show evt_3wBTwEKvHadernBlBPBleRA0 --body
  tillhook events release`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			params, err := f.params()
			if err != nil {
				return err
			}
			if outcome != "" && !slices.Contains(ledger.Outcomes[:], ledger.Outcome(outcome)) {
				return usagef("--outcome %q is none of %v", outcome, ledger.Outcomes)
			}
			set(params, "type", typ)
			set(params, "outcome", outcome)
			return p.ask(c, func(ctx context.Context, client *operator.Client) ([]byte, error) {
				return client.Get(ctx, "/api/events", params)
			}, f.asJSON, func(answer []byte) error { return p.showEvents(c, answer) })
		},
	}
	f.register(c)
	c.Flags().StringVar(&typ, "type", "", "only events of this `type`")
	c.Flags().StringVar(&outcome, "outcome", "", "only events with this `outcome`: applied, unchanged, recorded or quarantined")
	c.AddCommand(p.eventCommand(), p.releaseCommand())
	return c
}

var eventHeadings = []string{"CREATED (UTC)", "RECEIVED (UTC)", "EVENT", "TYPE", "OUTCOME", "PAYMENT", ">BYTES", ">REPEATS"}

func eventRows(events []ledger.EventRecord) [][]string {
	var rows [][]string
	for _, e := range events {
		rows = append(rows, []string{moment(e.Created), moment(e.Received), e.ID, orDash(e.Type), outcomeOf(e), orDash(e.PaymentID),
			strconv.FormatUint(e.Size, 10), strconv.FormatUint(e.Repeats, 10)})
	}
	return rows
}

func outcomeOf(e ledger.EventRecord) string {
	if e.Reason == "" {
		return string(e.Outcome)
	}
	return string(e.Outcome) + ": " + string(e.Reason)
}

func (p *Program) showEvents(c *cobra.Command, answer []byte) error {
	var list operator.List[ledger.EventRecord]
	if err := json.Unmarshal(answer, &list); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	if len(list.Data) == 0 {
		_, err := fmt.Fprintln(p.Stderr, "No events.")
		return err
	}
	if err := table(p.Stdout, eventHeadings, eventRows(list.Data)); err != nil {
		return err
	}
	p.more(c, list.HasMore, list.Data[len(list.Data)-1].ID)
	if slices.ContainsFunc(list.Data, func(e ledger.EventRecord) bool { return e.Outcome == ledger.Quarantined }) {
		fmt.Fprintln(p.Stderr, "Look at a body with: tillhook events show ID --body. Try again whether it can be used with: tillhook events release ID.")
	}
	return nil
}

func (p *Program) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release [ID]",
		Short: "Decode an event in quarantine again, or all of them, and book what can be used",
		Long: `Decode an event in quarantine again, or all of them, and book what can be used now. A receiver must run.

A start of the receiver does so by itself when it decodes in another way than the one before.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] == "" {
				return usagef("release takes one id, or none for all, and got %q", args)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			client, closeClient, err := p.client()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeClient()) }()
			if len(args) == 0 {
				args, err = quarantined(c.Context(), client)
			} else {
				err = inQuarantine(c.Context(), client, args[0])
			}
			if err != nil {
				return err
			}
			var rows [][]string
			var failed []error
			left := 0
			for _, id := range args {
				answer, err := client.Post(c.Context(), operator.EventPath(id)+"/release", nil)
				if err != nil {
					failed = append(failed, err)
					continue
				}
				var e ledger.EventRecord
				if err := json.Unmarshal(answer, &e); err != nil {
					return fmt.Errorf("read the receiver's answer: %w", err)
				}
				if e.Outcome == ledger.Quarantined {
					left++
				}
				rows = append(rows, []string{e.ID, orDash(e.Type), outcomeOf(e), orDash(e.PaymentID)})
			}
			if len(rows) > 0 {
				if err := table(p.Stdout, []string{"EVENT", "TYPE", "OUTCOME", "PAYMENT"}, rows); err != nil {
					return err
				}
			}
			if len(failed) == 0 || len(rows) > 0 {
				fmt.Fprintf(p.Stderr, "%d tried, %d still in quarantine.\n", len(rows), left)
			}
			return errors.Join(failed...)
		},
	}
}

// inQuarantine demands that an event lies there.
func inQuarantine(ctx context.Context, client *operator.Client, id string) error {
	answer, err := client.Get(ctx, operator.EventPath(id), nil)
	if err != nil {
		return err
	}
	var e ledger.EventRecord
	if err := json.Unmarshal(answer, &e); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	if e.Outcome != ledger.Quarantined {
		return fmt.Errorf("event %s is not in quarantine: it is %s", clean(e.ID), e.Outcome)
	}
	return nil
}

// quarantined lists the ids of all events in quarantine, the oldest first.
func quarantined(ctx context.Context, client *operator.Client) (ids []string, err error) {
	params := url.Values{"outcome": {string(ledger.Quarantined)}, "limit": {"100"}}
	for {
		answer, err := client.Get(ctx, "/api/events", params)
		if err != nil {
			return nil, err
		}
		var list operator.List[ledger.EventRecord]
		if err := json.Unmarshal(answer, &list); err != nil {
			return nil, fmt.Errorf("read the receiver's answer: %w", err)
		}
		for _, e := range list.Data {
			ids = append(ids, e.ID)
		}
		if !list.HasMore {
			slices.Reverse(ids)
			return ids, nil
		}
		params.Set("starting_after", ids[len(ids)-1])
	}
}

func (p *Program) eventCommand() *cobra.Command {
	var asJSON, body bool
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one event, or its body as it came",
		Args:  oneArgument,
		RunE: func(c *cobra.Command, args []string) error {
			if asJSON && body {
				return usagef("--json and --body exclude each other: the body is printed byte for byte")
			}
			path := operator.EventPath(args[0])
			if body {
				path += "/body"
			}
			return p.ask(c, func(ctx context.Context, client *operator.Client) ([]byte, error) {
				return client.Get(ctx, path, nil)
			}, asJSON || body, p.showEvent)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the API's answer")
	c.Flags().BoolVar(&body, "body", false, "print the event's body byte for byte; it can hold personal data and a client_secret")
	return c
}

func (p *Program) showEvent(answer []byte) error {
	var e ledger.EventRecord
	if err := json.Unmarshal(answer, &e); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	return fields(p.Stdout, [][2]string{
		{"Event", e.ID}, {"Type", orDash(e.Type)}, {"Mode", ledger.ModeName(e.Livemode)}, {"Account", clean(string(e.Account))},
		{"API version", orDash(e.APIVersion)}, {"Outcome", outcomeOf(e)}, {"Payment", clean(string(e.PaymentID))},
		{"Created", moment(e.Created)}, {"Received", moment(e.Received)}, {"Source", string(e.Source)},
		{"Sequence", strconv.FormatUint(e.Sequence, 10)}, {"Size", strconv.FormatUint(e.Size, 10) + " bytes"}, {"Repeats", strconv.FormatUint(e.Repeats, 10)},
	})
}
