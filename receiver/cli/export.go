package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tillhook/ledger/export"
	"tillhook/receiver/operator"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

// exportFlags are the flags of export.
type exportFlags struct {
	days        period
	format      string
	asOf, since uint64
	metadata    []string
	excel       bool
}

func (p *Program) exportCommand() *cobra.Command {
	var f exportFlags
	c := &cobra.Command{
		Use:   "export [entries|payments]",
		Short: "Export the ledger for accounting",
		Long: `Write a table to standard output, as CSV (RFC 4180) or JSON lines.

"export" or "export entries" writes a line for each movement of money, by the day on which it moved:
received, refunded, a refund that was returned, withdrawn or reinstated in a dispute. The entries of a
month add up to the summary of its days. "export payments" writes a line for each payment in its
present state, by the time of its creation.

Each amount is written twice, in the currency's minor unit and with its decimals. An unknown value is
empty. In CSV, text that a spreadsheet would interpret as a formula has an apostrophe before it.

Events that arrive later can change a day that was exported. The ledger sequence of an export is
printed to standard error: --as-of repeats that export, byte for byte, and --since writes what has
changed after it, with late=removed (negative amounts) for an entry that no longer exists and
late=added for a new one.`,
		Example: `  tillhook export --from 2026-01-01 --to 2026-02-01 > january.csv
  tillhook export --from 2026-01-01 --to 2026-02-01 --timezone Europe/Berlin
  tillhook export --since 51207 > corrections.csv
  tillhook export payments --metadata order_id --excel > payments.csv
  tillhook export --format jsonl | jq -s 'map(.net) | add'`,
		ValidArgs: []string{export.Entries, export.Payments},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && !slices.Contains(c.ValidArgs, args[0]) {
				return usagef("%s takes entries or payments, but got %s; write to a file with > FILE", c.CommandPath(), strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			params, err := f.params(c, append(args, export.Entries)[0])
			if err != nil {
				return err
			}
			return p.export(c, params)
		},
	}
	f.days.register(c, "entries (or, for payments, those created)")
	c.Flags().StringVar(&f.format, "format", export.Formats[0], "csv or jsonl")
	c.Flags().Uint64Var(&f.asOf, "as-of", 0, "the entries as they were at this `sequence` of the ledger")
	c.Flags().Uint64Var(&f.since, "since", 0, "only what has changed since this `sequence` of the ledger")
	c.Flags().StringSliceVar(&f.metadata, "metadata", nil, "a column for each of these `keys` of the payment's metadata, separated by commas; repeat it for more, and put a key that holds a comma in \"double quotes\"")
	complete(c, "format", export.Formats[:])
	c.Flags().BoolVar(&f.excel, "excel", false, "begin with a byte order mark, by which Excel recognizes UTF-8")
	return c
}

// params returns the parameters of the API request.
func (f *exportFlags) params(c *cobra.Command, table string) (url.Values, error) {
	if err := oneOf("format", f.format, export.Formats[:]); err != nil {
		return nil, err
	}
	asOf, since := c.Flags().Changed("as-of"), c.Flags().Changed("since")
	switch {
	case asOf && since:
		return nil, usagef("--as-of and --since exclude each other: --as-of writes the table as it was, --since what has changed")
	case table == export.Payments && (asOf || since):
		return nil, usagef("export payments writes the present state; --as-of and --since are for the export of entries")
	case f.excel && f.format != "csv":
		return nil, usagef("--excel is for --format csv")
	}
	params := url.Values{"kind": {table}, "format": {f.format}}
	if _, err := f.days.set(params, "from", "to"); err != nil {
		return nil, err
	}
	set(params, "timezone", f.days.timezone)
	for i, key := range f.metadata {
		if key == "" || slices.Contains(f.metadata[:i], key) {
			return nil, usagef("--metadata %q is empty or repeated; name each key once", key)
		}
		params.Add("metadata", key)
	}
	if asOf {
		params.Set("as_of", strconv.FormatUint(f.asOf, 10))
	}
	if since {
		params.Set("since", strconv.FormatUint(f.since, 10))
	}
	if f.excel {
		params.Set("excel", "1")
	}
	return params, nil
}

// export copies the answer to standard output and, once it is complete, prints its sequence.
func (p *Program) export(c *cobra.Command, params url.Values) (err error) {
	client, closeClient, err := p.client(c.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeClient()) }()
	var m terminal.Meter
	end := p.progress(c.Context(), "Exporting", m.Status)
	defer end()
	header, answer, err := client.Export(c.Context(), params)
	if err != nil {
		return err
	}
	m.Begin(answer)
	if terminal.IsTerminal(p.raw.stdout) { // the line of progress would mix with the output
		end()
	}
	if _, err := io.Copy(p.raw.stdout, &m); err != nil { // it is escaped, and its lines end in CRLF
		return errors.Join(fmt.Errorf("the export is incomplete: %w", err), answer.Close())
	}
	end()
	if err := answer.Close(); err != nil {
		return err
	}
	p.printSequence(params, header)
	return nil
}

// printSequence prints the ledger sequence of an export, and how to repeat it.
func (p *Program) printSequence(params url.Values, header http.Header) {
	sequence, decoded := header.Get(operator.HeaderSequence), header.Get(operator.HeaderDecoded)
	base := params.Get("as_of")
	switch {
	case params.Get("since") != "":
		base = params.Get("since")
		fmt.Fprintf(p.Stderr, "changes from ledger sequence %s to %s; continue with --since %s\n", base, sequence, sequence)
	case params.Get("kind") == export.Payments:
		fmt.Fprintf(p.Stderr, "as of ledger sequence %s\n", sequence)
	default:
		fmt.Fprintf(p.Stderr, "as of ledger sequence %s; repeat with --as-of %s\n", sequence, sequence)
	}
	if decoded != "" {
		fmt.Fprintf(p.Stderr, "After sequence %s, events up to sequence %s were decoded differently (tillhook rebuild --decode, or a newer version): "+
			"an export made before that can differ. Compare this one with the file made then.\n", base, decoded)
	}
}
