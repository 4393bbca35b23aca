package cli

import (
	"context"
	"encoding/json"
	"fmt"
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
  tillhook events show evt_3wBTwEKvHadernBlBPBleRA0 --body`,
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
	c.AddCommand(p.eventCommand())
	return c
}

var eventHeadings = []string{"CREATED (UTC)", "RECEIVED (UTC)", "EVENT", "TYPE", "OUTCOME", "PAYMENT", ">REPEATS"}

func eventRows(events []ledger.EventRecord) [][]string {
	var rows [][]string
	for _, e := range events {
		rows = append(rows, []string{moment(e.Created), moment(e.Received), e.ID, orDash(e.Type), outcomeOf(e), orDash(e.PaymentID),
			strconv.FormatUint(e.Repeats, 10)})
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
	return nil
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
