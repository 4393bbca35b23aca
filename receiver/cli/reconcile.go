package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tillhook/ledger/wording"
	"tillhook/receiver/config"
	"tillhook/receiver/operator"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

func (p *Program) reconcileCommand() *cobra.Command {
	var since string
	var dryRun, asJSON bool
	c := &cobra.Command{
		Use:   "reconcile",
		Short: "Fetch from Stripe the events that were missed",
		Long: `Compare the ledger with Stripe's list of events now, and fetch missed events. The running receiver
does this with its API key, and also by itself, every TILLHOOK_RECONCILE_EVERY.

Without --since it continues where the last comparison ended. Stripe keeps events for 30 days.`,
		Example: `  tillhook reconcile --since 72h
  tillhook reconcile --since 30d --dry-run`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			params := url.Values{}
			if since != "" {
				d, err := parseSince(since)
				if err != nil {
					return err
				}
				params.Set("since", strconv.FormatInt(int64(d/time.Second), 10))
			}
			if dryRun {
				params.Set("dry_run", "true")
			}
			err := p.ask(c, func(ctx context.Context, client *operator.Client) ([]byte, error) {
				defer p.progress(ctx, "Comparing with Stripe", func(ctx context.Context) string { return reconcileProgress(ctx, client) })()
				return client.Post(ctx, "/api/reconcile", params)
			}, asJSON, p.showReport)
			var silent *operator.Silent
			if errors.As(err, &silent) && silent.Began {
				err = fmt.Errorf("%w. Stripe does not answer the receiver, or asked it to wait; events already stored stay stored, and the receiver compares again by itself", err)
			}
			return p.showPartialReport(err, asJSON)
		},
	}
	c.Flags().StringVar(&since, "since", "", "how far to look back, as `72h` or 30d")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "report missed events without storing them")
	c.Flags().BoolVar(&asJSON, "json", false, "print the API's answer")
	return c
}

// parseSince parses the value of --since, in the form of durations in the configuration.
func parseSince(s string) (time.Duration, error) {
	d, err := config.ParseDuration(s)
	if err != nil || d < time.Second || d > longestReconcile*24*time.Hour {
		return 0, usagef("--since %q is not a duration of up to %d days: write 72h or 30d", s, longestReconcile)
	}
	return d, nil
}

// reconcileProgress asks the receiver for the progress of its comparison.
func reconcileProgress(ctx context.Context, client *operator.Client) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := client.Get(ctx, "/api/reconcile", nil)
	var at reconcile.Progress
	if err != nil || json.Unmarshal(answer, &at) != nil || !at.Running {
		return ""
	}
	return progressBar(at)
}

// progressBar shows the progress of a comparison in one line.
func progressBar(at reconcile.Progress) string {
	const width = 30
	part := 0
	if whole := at.To - at.From; whole > 0 {
		part = int(min(width, max(0, width*(at.At-at.From)/whole)))
	}
	line := fmt.Sprintf("[%s%s] up to %s UTC, %d recovered", strings.Repeat("=", part), strings.Repeat(" ", width-part),
		time.Unix(at.At, 0).UTC().Format("2006-01-02 15:04"), at.Recovered)
	if at.Account != "" {
		line += " (" + wording.Escape(at.Account) + ")"
	}
	return line
}

// showPartialReport prints the report of a comparison that failed. Events that it stored before
// stay stored.
func (p *Program) showPartialReport(err error, asJSON bool) error {
	var failed *operator.Partial
	if !errors.As(err, &failed) {
		return err
	}
	report, ok := failed.Report.(json.RawMessage)
	switch {
	case !ok:
		return err
	case asJSON:
		return errors.Join(err, json.NewEncoder(p.Stdout).Encode(map[string]any{"error": failed.Err, "report": report}))
	}
	return errors.Join(err, p.showReport(report))
}

func (p *Program) showReport(answer []byte) error {
	var r reconcile.Report
	if err := json.Unmarshal(answer, &r); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	when := func(at int64) string {
		if at == 0 { // it failed before that was known
			return ""
		}
		return time.Unix(at, 0).UTC().Format("2006-01-02 15:04:05 UTC")
	}
	recovered := "Recovered"
	if r.DryRun {
		recovered = "Missed"
	}
	list := [][2]string{
		{"From", when(r.From)}, {"To", when(r.To)}, {"Accounts", strconv.Itoa(r.Accounts)}, {"Listed", wording.Plural(r.Listed, "event")},
		{recovered, wording.Plural(r.Recovered, "event")},
	}
	if !r.DryRun {
		list = append(list, [2]string{"Fetched", wording.Plural(r.Fetched, "object")}, [2]string{"Resolved", wording.Plural(r.Resolved, "thin event")})
	}
	list = append(list, [2]string{"API calls", strconv.Itoa(r.Calls)})
	if err := terminal.Fields(p.Stdout, list); err != nil {
		return err
	}
	for _, id := range r.Events {
		fmt.Fprintln(p.Stdout, wording.Escape(id))
	}
	if left := r.Recovered - len(r.Events); left > 0 {
		fmt.Fprintf(p.Stdout, "and %d more\n", left)
	}
	for _, g := range r.Gaps {
		account := ""
		if g.Account != "" {
			account = " of " + wording.Escape(g.Account)
		}
		fmt.Fprintf(p.Stderr, "Not compared: events%s from %s to %s, which Stripe no longer lists\n",
			account, when(g.From), when(g.To))
	}
	for _, problem := range r.Problems {
		fmt.Fprintln(p.Stderr, "Skipped:", wording.Escape(problem))
	}
	return nil
}
