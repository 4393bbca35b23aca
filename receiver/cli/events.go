package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

func (p *Program) eventsCommand() *cobra.Command {
	var f pageFlags
	var typ, outcome string
	var followed bool
	c := &cobra.Command{
		Use:   "events",
		Short: "List events, or show one",
		Long: `List received events, newest first, including those in quarantine. An event that was released from
quarantine is listed twice: as it was quarantined, and as it was processed.

Types and outcomes other than quarantined are not indexed: a search with few results reads the whole
ledger, about 100,000 events per second. Ctrl-C stops it and shows what it has found.`,
		Example: `  tillhook events --follow
  tillhook events --outcome quarantined
  tillhook events show evt_3wBTwEKvHadernBlBPBleRA0 --body
  tillhook events release
  tillhook events dismiss evt_3wBTwEKvHadernBlBPBleRA0`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			params, err := f.params()
			if err != nil {
				return err
			}
			if err := oneOf("outcome", outcome, ledger.Outcomes[:]); err != nil {
				return err
			}
			set(params, "type", typ)
			set(params, "outcome", outcome)
			if followed {
				if f.cursor != "" || f.after != "" || c.Flags().Changed("limit") {
					return usagef("--follow shows arriving events; it takes no --limit, --page or --starting-after")
				}
				shown := func(e *ledger.EventRecord) bool {
					return (typ == "" || typ == string(e.Type)) && (outcome == "" || outcome == string(e.Outcome))
				}
				return (&follow{Program: p, shown: shown, typ: typ, asJSON: f.asJSON}).run(c)
			}
			return p.list(c, &f, "/api/events", params, p.showEvents)
		},
	}
	f.register(c)
	c.Flags().StringVar(&typ, "type", "", "only events of this `type`")
	c.Flags().StringVar(&outcome, "outcome", "", "only events with this `outcome`: applied, unchanged, recorded or quarantined")
	c.Flags().BoolVar(&followed, "follow", false, "show the newest events, then those that arrive, until stopped")
	complete(c, "outcome", ledger.Outcomes[:])
	complete(c, "type", stripe.Types[:])
	c.AddCommand(p.eventCommand(), p.releaseCommand(), p.dismissCommand())
	return c
}

var eventColumns = []terminal.Column{
	{Head: "RECEIVED (UTC)"}, {Head: "EVENT"}, {Head: "TYPE", Cut: true}, {Head: "OUTCOME", Cut: true}, {Head: "PAYMENT", Spare: true},
	{Head: "CREATED (UTC)", Spare: true}, {Head: "BYTES", Right: true, Spare: true}, {Head: "REPEATS", Right: true, Spare: true},
}

func eventRows(events []ledger.EventRecord) [][]string {
	var rows [][]string
	for _, e := range events {
		rows = append(rows, []string{terminal.Time(e.Received), e.ID, terminal.OrDash(e.Type), outcomeOf(e), terminal.OrDash(e.PaymentID), terminal.Time(e.Created),
			strconv.FormatUint(e.Size, 10), strconv.FormatUint(e.Repeats, 10)})
	}
	return rows
}

func outcomeOf(e ledger.EventRecord) string {
	if e.Reason == "" {
		return string(e.Outcome)
	}
	text := string(e.Outcome) + ": " + string(e.Reason)
	switch {
	case e.ReleasedAs != 0:
		return text + ", then released"
	case e.Quarantine != nil && e.Quarantine.State != ledger.Attention:
		return text + ", " + string(e.Quarantine.State)
	}
	return text
}

func (p *Program) showEvents(answer []byte) error {
	var list operator.List[ledger.EventRecord]
	if err := json.Unmarshal(answer, &list); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	if len(list.Data) == 0 {
		if !list.HasMore {
			fmt.Fprintln(p.Stderr, "No events.")
		}
		return nil
	}
	if err := p.table(eventColumns, eventRows(list.Data)); err != nil {
		return err
	}
	if slices.ContainsFunc(list.Data, func(e ledger.EventRecord) bool { return e.Quarantine != nil }) {
		p.hint(p.forInstance("To see a body: tillhook events show ID --body. " +
			"To decode and process it again: tillhook events release ID. " +
			"If no payment needs it: tillhook events dismiss ID."))
	}
	return nil
}

func (p *Program) releaseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "release [ID]",
		Short: "Decode quarantined events again, and process the usable ones",
		Long: `Decode one quarantined event or all of them again, and process those that are usable now. A receiver
must run.

A receiver does this by itself at its first start with a new decoder.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] == "" {
				return usagef("release takes one id, or none for all, but got %d: %s", len(args), strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			client, err := p.running(c.Context())
			if err != nil {
				return err
			}
			all := len(args) == 0
			if all {
				args, err = quarantined(c.Context(), client, nil)
			} else {
				err = inQuarantine(c.Context(), client, args[0])
			}
			if err != nil {
				return err
			}
			var rows [][]string
			tried, left := 0, 0
			failed := eachEvent(c.Context(), client, args, "/release", func(e ledger.EventRecord) {
				tried++
				if e.Outcome == ledger.Quarantined {
					left++
				}
				if !all || e.Outcome != ledger.Quarantined { // those that stay are only counted
					rows = append(rows, []string{e.ID, terminal.OrDash(e.Type), outcomeOf(e), terminal.OrDash(e.PaymentID)})
				}
			})
			if len(rows) > 0 {
				if err := p.table([]terminal.Column{{Head: "EVENT"}, {Head: "TYPE", Cut: true}, {Head: "OUTCOME"}, {Head: "PAYMENT", Spare: true}}, rows); err != nil {
					return err
				}
			}
			if failed == nil || tried > 0 {
				fmt.Fprintf(p.Stderr, "%d tried, %d still in quarantine.\n", tried, left)
			}
			return failed
		},
	}
}

func (p *Program) dismissCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "dismiss ID...",
		Short: "Mark quarantined events as examined",
		Long: `Mark quarantined events as examined: they stay in quarantine, but no longer raise an alarm. A
receiver must run.

A dismissed event is still processed if it arrives again in a usable form, or if a newer version can
decode it.`,
		Example: `  tillhook events dismiss evt_3wBTwEKvHadernBlBPBleRA0
  tillhook events dismiss --all`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 0:
				return usagef("--all takes no ids")
			case !all && (len(args) == 0 || slices.Contains(args, "")):
				return usagef("name the events to dismiss, or --all for every event in quarantine that needs attention")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			client, err := p.running(c.Context())
			if err != nil {
				return err
			}
			if all {
				if args, err = quarantined(c.Context(), client, func(e ledger.EventRecord) bool {
					return e.Quarantine != nil && e.Quarantine.State == ledger.Attention
				}); err != nil {
					return err
				}
			}
			done := 0
			failed := eachEvent(c.Context(), client, args, "/dismiss", func(ledger.EventRecord) { done++ })
			if failed == nil || done > 0 {
				fmt.Fprintf(p.Stderr, "%s dismissed.\n", wording.Plural(done, "event"))
			}
			return failed
		},
	}
	c.Flags().BoolVar(&all, "all", false, "dismiss every event in quarantine that needs attention")
	return c
}

// running returns a client of the running receiver, the only process that can change the ledger.
func (p *Program) running(ctx context.Context) (*operator.Client, error) {
	client, looked, err := p.receiver(ctx)
	if err != nil || client != nil {
		return client, err
	}
	s, err := p.settings()
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("no receiver is running (none answers at %s), and only a receiver can change the ledger: %s", strings.Join(looked, " or "), startIt(s))
}

// eachEvent sends a request for each event and passes the answers to visit. It returns each
// different error once.
func eachEvent(ctx context.Context, client *operator.Client, ids []string, what string,
	visit func(e ledger.EventRecord)) error {
	var failed []error
	said := map[string]bool{}
	for _, id := range ids {
		var e ledger.EventRecord
		answer, err := client.Post(ctx, operator.EventPath(id)+what, nil)
		if err == nil {
			if err = json.Unmarshal(answer, &e); err != nil {
				err = fmt.Errorf("read the receiver's answer: %w", err)
			}
		}
		if err == nil {
			visit(e)
		} else if !said[err.Error()] {
			said[err.Error()] = true
			failed = append(failed, err)
		}
		var answered *operator.Error
		if err != nil && !errors.As(err, &answered) {
			break // the receiver no longer answers
		}
	}
	return errors.Join(failed...)
}

// inQuarantine returns an error if an event is not in quarantine.
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
		return fmt.Errorf("event %s is not in quarantine: it is %s", wording.Escape(e.ID), e.Outcome)
	}
	return nil
}

// quarantined lists the ids of the events in quarantine for which choose returns true, or all if it
// is nil, the oldest first.
func quarantined(ctx context.Context, client *operator.Client, choose func(e ledger.EventRecord) bool) (ids []string, err error) {
	params := url.Values{"outcome": {string(ledger.Quarantined)}, "limit": {"100"}}
	for {
		answer, err := patiently(ctx, client, "/api/events", params)
		if err != nil {
			return nil, err
		}
		var list operator.List[ledger.EventRecord]
		if err := json.Unmarshal(answer, &list); err != nil {
			return nil, fmt.Errorf("read the receiver's answer: %w", err)
		}
		for _, e := range list.Data {
			if choose == nil || choose(e) {
				ids = append(ids, e.ID)
			}
		}
		if !list.HasMore {
			slices.Reverse(ids)
			return ids, nil
		}
		params.Set("page", string(list.NextPage))
	}
}

func (p *Program) eventCommand() *cobra.Command {
	var asJSON, body bool
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show one event, or its body as received",
		Args:  oneArgument, ValidArgsFunction: noFiles,
		RunE: func(c *cobra.Command, args []string) error {
			if asJSON && body {
				return usagef("--json and --body exclude each other: the body is printed byte for byte")
			}
			path := operator.EventPath(args[0])
			if body {
				path += "/body"
			}
			get := func(ctx context.Context, client *operator.Client) ([]byte, error) { return client.Get(ctx, path, nil) }
			if body && !terminal.IsTerminal(p.raw.stdout) {
				return p.ask(c, get, false, func(answer []byte) error { _, err := p.raw.stdout.Write(answer); return err })
			}
			return p.ask(c, get, asJSON || body, p.showEvent)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the API's answer")
	c.Flags().BoolVar(&body, "body", false, "print the event's body, to a file or pipe byte for byte; it can contain personal data and a client_secret")
	return c
}

func (p *Program) showEvent(answer []byte) error {
	var e ledger.EventRecord
	if err := json.Unmarshal(answer, &e); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	released := "" // not shown
	if e.ReleasedFrom != 0 {
		released = fmt.Sprintf("from row %d", e.ReleasedFrom)
	}
	return terminal.Fields(p.Stdout, [][2]string{
		{"Event", e.ID}, {"Type", terminal.OrDash(e.Type)}, {"Mode", ledger.ModeName(e.Livemode)}, {"Account", wording.Escape(string(e.Account))},
		{"API version", terminal.OrDash(e.APIVersion)}, {"Outcome", outcomeOf(e)}, {"Payment", wording.Escape(string(e.PaymentID))},
		{"Created", terminal.TimeUTC(e.Created)}, {"Received", terminal.TimeUTC(e.Received)}, {"Source", string(e.Source)},
		{"Sequence", strconv.FormatUint(e.Sequence, 10)}, {"Released", released}, {"Size", strconv.FormatUint(e.Size, 10) + " bytes"}, {"Repeats", strconv.FormatUint(e.Repeats, 10)},
	})
}
