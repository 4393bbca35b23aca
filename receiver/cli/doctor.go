package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"tillhook/ledger/wording"
	"tillhook/receiver/doctor"
	"tillhook/receiver/health"
	"tillhook/receiver/terminal"
	"tillhook/systemd"

	"github.com/spf13/cobra"
)

// doctorTime bounds an examination as a whole.
const doctorTime = 3 * time.Minute

func (p *Program) doctorCommand() *cobra.Command {
	var asJSON, offline bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check everything between Stripe and the ledger",
		Long: `Check everything between Stripe and the ledger, and report the state of each thing and what to do about it.

It reads the settings of the installed service (as root) and those of its own environment, which take precedence. It changes
nothing: at Stripe it only reads, and its requests to the webhook listener are not events.

The exit status is 0 if nothing fails (a warning is no failure), 78 if the configuration is wrong, else 1.`,
		Example: `  tillhook doctor
  tillhook doctor --offline --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := p.settings()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), doctorTime)
			defer cancel()
			var at terminal.StatusText
			end := p.progress(ctx, "Examining", at.Status)
			result := doctor.Examine(ctx, doctor.Options{Settings: settings, Instance: p.instance, Version: p.Version, Offline: offline,
				FindReceiver: p.receiver, Get: patiently, UnitStates: systemd.UnitStates, StartAdvice: startIt(settings),
				Waiting: func(what string) { at.Set("waiting for %s", what) }})
			end()
			if err := c.Context().Err(); err != nil {
				return err
			}
			for i := range result.Findings {
				f := &result.Findings[i]
				f.Message, f.Next = wording.Escape(f.Message), p.forInstance(f.Next)
			}
			if err := p.printExamination(result.Findings, asJSON); err != nil {
				return err
			}
			switch {
			case health.Worst(result.Findings) != health.Fail:
				return nil
			case result.Misconfigured:
				return ended{exitConfig}
			}
			return ended{exitFailed}
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	c.Flags().BoolVar(&offline, "offline", false, "leave out what needs the network: Stripe's API, DNS, TLS, the way from outside")
	return c
}

// ended is the exit status of a command that has reported everything itself.
type ended struct{ status int }

func (e ended) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// printExamination prints findings for people, one a line, or as JSON.
func (p *Program) printExamination(findings []health.Finding, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(p.Stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(struct {
			Object string `json:"object"`
			health.Report
		}{"examination", health.NewReport(findings)})
	}
	same := func(a, b health.Finding) bool {
		return a.Next != "" && a.Severity == b.Severity && a.Message == b.Message && a.Next == b.Next
	}
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Code))
	}
	counts := map[health.Severity]int{}
	columns, indent := terminal.Width(p.raw.stdout), len("unknown")+terminal.ColumnGap+width+terminal.ColumnGap
	var errs []error
	for i, f := range findings {
		counts[f.Severity]++
		if i > 0 && same(f, findings[i-1]) {
			continue // it is part of the line above
		}
		var also []string
		for _, next := range findings[i+1:] {
			if !same(f, next) {
				break
			}
			also = append(also, string(next.Code))
		}
		if len(also) > 0 {
			f.Message += " The same applies to " + strings.Join(also, ", ") + "."
		}
		_, err := fmt.Fprintf(p.Stdout, "%-7s  %-*s  %s\n", f.Severity, width, f.Code, terminal.Hang(f.Message, indent, columns))
		if f.Next != "" && err == nil {
			_, err = fmt.Fprintf(p.Stdout, "%-7s  %-*s  -> %s\n", "", width, "", terminal.Hang(f.Next, indent+len("-> "), columns))
		}
		errs = append(errs, err)
	}
	var parts []string
	for _, severity := range []health.Severity{health.OK, health.Warn, health.Fail, health.Unknown} {
		if n := counts[severity]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, severity))
		}
	}
	_, err := fmt.Fprintf(p.Stdout, "\n%s\n", strings.Join(parts, ", "))
	return errors.Join(append(errs, err)...)
}
