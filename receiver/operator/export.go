package operator

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"

	"tillhook/ledger/export"
)

// Headers of an export.
const (
	// HeaderSequence is the last row of the journal that the export includes.
	HeaderSequence = "Tillhook-Ledger-Sequence"
	// HeaderDecoded is the last row that was decoded again since the row of as_of or since; absent
	// if no row was.
	HeaderDecoded = "Tillhook-Ledger-Decoded"
)

// maxMetadata bounds the columns of metadata: Stripe stores at most 50 keys of a payment. See
// https://docs.stripe.com/metadata
const maxMetadata = 50

func (op *Operator) export(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r, "metadata")
	zone := q.zone()
	find := export.Query{
		Table:  q.oneOf("kind", export.Entries, export.Payments),
		Format: q.oneOf("format", export.Formats[:]...), Zone: zone,
		AsOf: q.sequence("as_of"), Since: q.sequence("since"), Metadata: q.list("metadata"), Excel: q.isSet("excel"),
	}
	find.From, find.To = q.between("from", "to", zone)
	switch {
	case find.AsOf != nil && find.Since != nil:
		q.fail("as_of and since exclude each other: ask with as_of for what the table was, or with since for what " +
			"has changed")
	case find.Table == export.Payments && (find.AsOf != nil || find.Since != nil):
		q.fail("as_of and since are only for kind=entries: the table of payments is always the present one")
	case find.Excel && find.Format != "csv":
		q.fail("excel is only for format=csv")
	}
	if err := q.end(); err != nil {
		return err
	}
	x, err := op.Ledger.NewExport(find)
	if err != nil {
		return err
	}
	begin := func() { // a receiver's export is complete by then
		w.Header().Set(HeaderSequence, strconv.FormatUint(x.Sequence, 10))
		if x.Decoded > 0 {
			w.Header().Set(HeaderDecoded, strconv.FormatUint(x.Decoded, 10))
		}
	}
	kind := map[string]string{"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}[find.Format]
	return op.spoolExport(w, r, kind, begin, func(ctx context.Context, w io.Writer) error { return x.Write(ctx, w) })
}

// oneOf reads a word of a list. The first one is the default.
func (q *query) oneOf(name string, words ...string) string {
	s := q.text(name)
	if s == "" {
		return words[0]
	}
	mustBeOneOf(q, name, s, words)
	return s
}

// sequence reads the number of a row.
func (q *query) sequence(name string) *uint64 {
	s := q.text(name)
	if s == "" {
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		q.fail("%s is not a sequence of the ledger: it is a number that an export names in %s", name, HeaderSequence)
	}
	return &n
}

// list reads a parameter that is given once for each of its words. A word may hold anything and may
// not be repeated.
func (q *query) list(name string) []string {
	words := q.values[name]
	q.values.Del(name)
	sorted := slices.Sorted(slices.Values(words))
	if len(words) > maxMetadata || slices.Contains(words, "") || len(slices.Compact(sorted)) < len(words) {
		q.fail("%s has more than %d keys, a repeated key or an empty key", name, maxMetadata)
	}
	return words
}

// isSet reads 1 or true, or 0 or false. The default is false.
func (q *query) isSet(name string) bool {
	s := q.text(name)
	set, err := strconv.ParseBool(s)
	if s != "" && err != nil {
		q.fail("%s must be 1 or 0", name)
	}
	return set
}
