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

	"github.com/spf13/cobra"

	"tillhook/ledger"
	"tillhook/receiver/operator"
)

// exportFlags are what the user asked for.
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
		Short: "Write the ledger for the accountant",
		Long: `Write a table to standard output, as CSV (RFC 4180) or JSON lines.

"export" or "export entries" writes a line for each time that money moved, by the day on which it moved: received,
refunded, a refund that came back, withdrawn or reinstated in a dispute. The entries of a month add up to the summary
of its days. "export payments" writes a line for each payment as it is now, by when it was created.

Each amount stands twice, in the currency's minor unit and in its decimals. What is not known is empty. In CSV, a text
that a spreadsheet would take for a formula has an apostrophe before it.

What Stripe tells later can change what is known of a day that has been exported. The sequence that an export was made
at is printed to standard error: --as-of makes the same export again, byte for byte, and --since writes what has
changed after it, with late=removed (amounts negative) for what no longer holds and late=added for what holds instead.`,
		Example: `  tillhook export --from 2026-01-01 --to 2026-02-01 > january.csv
  tillhook export --from 2026-01-01 --to 2026-02-01 --timezone Europe/Berlin
  tillhook export --since 51207 > corrections.csv
  tillhook export payments --metadata order_id --excel > payments.csv
  tillhook export --format jsonl | jq -s 'map(.net) | add'`,
		ValidArgs: []string{ledger.ExportEntries, ledger.ExportPayments},
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && !slices.Contains(c.ValidArgs, args[0]) {
				return usagef("%s takes entries or payments, and got %s; write to a file with > FILE", c.CommandPath(), strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			params, err := f.params(c, append(args, ledger.ExportEntries)[0])
			if err != nil {
				return err
			}
			return p.export(c, params)
		},
	}
	f.days.register(c, "entries (or, for payments, those created)")
	c.Flags().StringVar(&f.format, "format", ledger.Formats[0], "csv or jsonl")
	c.Flags().Uint64Var(&f.asOf, "as-of", 0, "the entries as they were at this `sequence` of the ledger")
	c.Flags().Uint64Var(&f.since, "since", 0, "only what has changed since this `sequence` of the ledger")
	c.Flags().StringSliceVar(&f.metadata, "metadata", nil, "a column for each of these `keys` of the payment's metadata, separated by commas; repeat it for more, and put a key that holds a comma in \"double quotes\"")
	complete(c, "format", ledger.Formats[:])
	c.Flags().BoolVar(&f.excel, "excel", false, "begin with the mark by which Excel knows UTF-8")
	return c
}

// params are those of the API.
func (f *exportFlags) params(c *cobra.Command, table string) (url.Values, error) {
	if err := oneOf("format", f.format, ledger.Formats[:]); err != nil {
		return nil, err
	}
	asOf, since := c.Flags().Changed("as-of"), c.Flags().Changed("since")
	switch {
	case asOf && since:
		return nil, usagef("--as-of and --since exclude each other: --as-of writes what the table was, --since what has changed")
	case table == ledger.ExportPayments && (asOf || since):
		return nil, usagef("export payments writes the payments as they are now; --as-of and --since are for tillhook export")
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
			return nil, usagef("--metadata %q is empty or given twice; name each key once", key)
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

// export copies the answer to standard output, and says to which sequence it belongs once it is
// there as a whole.
func (p *Program) export(c *cobra.Command, params url.Values) (err error) {
	client, closeClient, err := p.client(c.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeClient()) }()
	var m meter
	end := p.progress(c.Context(), "Exporting", m.status)
	defer end()
	header, answer, err := client.Export(c.Context(), params)
	if err != nil {
		return err
	}
	m.begin(answer)
	if isTerminal(p.raw.stdout) { // the lines would be written into each other
		end()
	}
	if _, err := io.Copy(p.raw.stdout, &m); err != nil { // it is escaped already, and its lines end in CRLF
		return errors.Join(fmt.Errorf("the export is not whole: %w", err), answer.Close())
	}
	end()
	if err := answer.Close(); err != nil {
		return err
	}
	p.printSequence(params, header)
	return nil
}

// printSequence says of which moment an export is, and how to get it again.
func (p *Program) printSequence(params url.Values, header http.Header) {
	sequence, decoded := header.Get(operator.HeaderSequence), header.Get(operator.HeaderDecoded)
	base := params.Get("as_of")
	switch {
	case params.Get("since") != "":
		base = params.Get("since")
		fmt.Fprintf(p.Stderr, "changes from ledger sequence %s to %s; go on with --since %s\n", base, sequence, sequence)
	case params.Get("kind") == ledger.ExportPayments:
		fmt.Fprintf(p.Stderr, "as of ledger sequence %s\n", sequence)
	default:
		fmt.Fprintf(p.Stderr, "as of ledger sequence %s; repeat with --as-of %s\n", sequence, sequence)
	}
	if decoded != "" {
		fmt.Fprintf(p.Stderr, "After sequence %s, events up to sequence %s were decoded to something else than before (tillhook rebuild --decode, or a newer version): "+
			"an export that was made before that can differ. Compare it with the file that was made then.\n", base, decoded)
	}
}
