package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

// summaryDays is the default number of days in a summary, including today.
const summaryDays = 7

func (p *Program) summaryCommand() *cobra.Command {
	var days period
	var asJSON bool
	c := &cobra.Command{
		Use:   "summary",
		Short: "Show what was received and refunded by day",
		Long: fmt.Sprintf(`Show the money that moved on each day, the number of payments and events in the ledger, and what
needs attention. Without --from it shows the last %d days.`, summaryDays),
		Example: `  tillhook summary
  tillhook summary --from 2026-04-01 --to 2026-05-01 --timezone Europe/Berlin`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			params := url.Values{}
			zone, err := days.set(params, "from", "to")
			if err != nil {
				return err
			}
			set(params, "timezone", days.timezone)
			if days.from == "" && days.to == "" {
				first := time.Now().In(zone).AddDate(0, 0, -summaryDays+1).Format(time.DateOnly)
				from, err := ledger.ParseTime(first, zone)
				if err != nil {
					return err
				}
				set(params, "from", strconv.FormatInt(from, 10))
			}
			return p.ask(c, func(ctx context.Context, client *operator.Client) ([]byte, error) {
				return client.Get(ctx, "/api/summary", params)
			}, asJSON, func(answer []byte) error { return p.showSummary(answer, zone) })
		},
	}
	days.register(c, "money that moved")
	c.Flags().BoolVar(&asJSON, "json", false, "print the API's answer")
	return c
}

func (p *Program) showSummary(answer []byte, zone *time.Location) error {
	var s operator.Summary
	if err := json.Unmarshal(answer, &s); err != nil {
		return fmt.Errorf("read the receiver's answer: %w", err)
	}
	columns := []terminal.Column{{Head: "DAY (" + zone.String() + ")"}, {Head: "ACCOUNT", Spare: true}, {Head: "RECEIVED", Right: true}, {Head: "REFUNDED", Right: true},
		{Head: "DISPUTED", Right: true}, {Head: "REINSTATED", Right: true}, {Head: "NET", Right: true}}
	var rows [][]string
	for _, t := range s.Totals {
		row := []string{string(t.Day), terminal.OrDash(t.Account)}
		for _, sum := range []ledger.Sum{t.Received, t.Refunded, t.Withdrawn, t.Reinstated, t.Net} {
			row = append(row, terminal.MoneySum(sum, t.Currency))
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		p.hint("No money moved in this time. Without --from it is the last 7 days; money counts on the day it moved, whenever the event arrived.")
	} else if err := p.table(columns, rows); err != nil {
		return err
	}
	fmt.Fprintln(p.Stdout)
	if err := terminal.FieldsWithin(p.Stdout, terminal.Width(p.raw.stdout), [][2]string{{"Mode", s.Mode}, {"Payments", counted(s.Payments)}, {"Events", counted(s.Events)}}); err != nil {
		return err
	}
	return p.showHealth(s.Health)
}

// showHealth prints the findings that need attention, or that nothing does.
func (p *Program) showHealth(h health.Report) error {
	fmt.Fprintln(p.Stdout)
	for _, s := range h.Findings {
		if s.Severity == health.OK {
			continue
		}
		columns, indent := terminal.Width(p.raw.stdout), len("warn")+terminal.ColumnGap
		if _, err := fmt.Fprintf(p.Stdout, "%-4s  %s\n", s.Severity, terminal.Hang(s.Message, indent, columns)); err != nil {
			return err
		}
		if s.Next != "" {
			fmt.Fprintf(p.Stdout, "      -> %s\n", terminal.Hang(p.forInstance(s.Next), indent+len("-> "), columns))
		}
	}
	if h.Status == health.OK {
		fmt.Fprintln(p.Stdout, "ok    Nothing needs attention.")
	}
	return nil
}

// counted lists the numbers other than 0 with their names.
func counted[K ~string](numbers map[K]uint64) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		if n := numbers[name]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, name)
		}
	}
	if text == "" {
		return "none"
	}
	return text[2:]
}
