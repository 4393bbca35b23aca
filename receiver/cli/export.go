package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"tillhook/ledger"
)

func (p *Program) exportCommand() *cobra.Command {
	var format, from, to string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the ledger for the accountant",
		Long: `Write one line a payment, oldest first, to standard output: as a table (csv, RFC 4180) or a JSON object a line (jsonl).

Each amount stands twice, in the currency's minor unit and in its decimals. A fee that is not known is
empty. In a table, a text that a spreadsheet would take for a formula has an apostrophe before it.`,
		Example: `  tillhook export --from 2026-01-01 --to 2026-02-01 > january.csv
  tillhook export --format jsonl | jq -s 'map(.net) | add'`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if !slices.Contains(ledger.Formats[:], format) {
				return usagef("--format %q is none of %v", format, ledger.Formats)
			}
			params := url.Values{"format": {format}}
			for _, bound := range []struct{ name, value string }{{"from", from}, {"to", to}} {
				at, err := parseDay(bound.name, bound.value)
				if err != nil {
					return err
				}
				set(params, bound.name, at)
			}
			if f, t := params.Get("from"), params.Get("to"); f != "" && t != "" && later(f, t) {
				return usagef("--from %s is after --to %s", from, to)
			}
			client, closeClient, err := p.client()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeClient()) }()
			answer, err := client.Open(c.Context(), "/api/export", params)
			if err != nil {
				return err
			}
			if _, err := io.Copy(p.Stdout, answer); err != nil {
				return errors.Join(fmt.Errorf("the export is not whole: %w", err), answer.Close())
			}
			return answer.Close()
		},
	}
	c.Flags().StringVar(&format, "format", ledger.Formats[0], "csv or jsonl")
	c.Flags().StringVar(&from, "from", "", "only payments created at this `time` or later: 2026-04-01, RFC 3339, or Unix seconds (UTC)")
	c.Flags().StringVar(&to, "to", "", "only payments created before this `time`")
	return c
}

// later compares Unix seconds that parseDay wrote.
func later(a, b string) bool {
	x, xErr := strconv.ParseInt(a, 10, 64)
	y, yErr := strconv.ParseInt(b, 10, 64)
	return xErr == nil && yErr == nil && x > y
}
