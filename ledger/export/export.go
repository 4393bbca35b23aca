// Package export writes the payments of a ledger, or the movements of their money, as CSV or JSON
// Lines.
//
// An [Export] is as of one moment, although it reads the ledger in many short transactions while
// events keep arriving. Rows never change and are not removed, so a payment as of a row is the fold
// of its rows up to there (past.go). export.go writes entries, exportedpayments.go payments,
// line.go formats the lines, and sorter.go sorts more of them than fit into memory.
//
// Texts of customers can contain anything. Each cell is escaped for terminals, and in CSV for
// spreadsheets, which would otherwise run it as a formula.
package export

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"tillhook/ledger/fold"
	"tillhook/ledger/scan"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Formats lists the formats of an export.
var Formats = [...]string{"csv", "jsonl"}

// Tables that can be exported.
const (
	Entries  = "entries"  // one line for each movement of money
	Payments = "payments" // one line for each payment in its current state
)

// ErrAhead is returned for a sequence that the ledger has not reached.
var ErrAhead = errors.New("the ledger has not come so far")

// Query describes an export.
type Query struct {
	Table  string // Entries or Payments
	Format string // one of Formats
	// From and To are bounds in Unix seconds: From or later, and before To. They apply to the time
	// of an entry, or to the creation time of a payment. Nil means no bound.
	From, To *int64
	Zone     *time.Location // of dates and times; nil for UTC
	// AsOf selects the entries as they were when the journal ended at this row. Nil means the
	// current entries.
	AsOf *uint64
	// Since selects instead what has changed since the journal ended at this row.
	Since    *uint64
	Metadata []string // metadata keys, each of which gets a column
	Excel    bool     // begin with a byte order mark, by which spreadsheets recognize UTF-8
}

// Export is an export of the ledger as of one moment.
type Export struct {
	// Sequence is the last row that the export takes into account. For the table of payments, Write
	// sets it. The same query with AsOf set to Sequence gives the same entries, byte for byte, at
	// any later time.
	Sequence uint64
	// Decoded is the last row at the time of a rebuild that decoded bodies differently than before,
	// if it is not before the row that was asked for. Otherwise it is 0. The facts of rows up to
	// Decoded may differ from what they were before that rebuild.
	Decoded uint64

	store    *store.Store
	reads    *scan.Reader
	livemode bool
	query    Query
	now      uint64 // the last durable row when the export began
	lines    *lineFormat
}

// New prepares an export; [Export.Write] writes it. last is the last durable row. New
// returns [ErrAhead] for a later one.
func New(s *store.Store, reads *scan.Reader, livemode bool, last uint64, q Query) (*Export, error) {
	q.Zone = cmp.Or(q.Zone, time.UTC)
	x := &Export{store: s, reads: reads, livemode: livemode, query: q, now: last}
	x.lines = newLineFormat(&x.query)
	x.Sequence = x.now
	if q.AsOf != nil {
		x.Sequence = *q.AsOf
	}
	begin := x.Sequence
	if q.Since != nil {
		begin = *q.Since
	}
	if ahead := max(begin, x.Sequence); ahead > x.now {
		return nil, fmt.Errorf("%w: its last sequence is %d, and %d was asked for; leave it out for the ledger as it is now", ErrAhead, x.now, ahead)
	}
	err := x.store.View(func(tx *store.Tx) error {
		decoded, err := schema.ReadDecoded(tx)
		if begin <= decoded && (q.AsOf != nil || q.Since != nil) {
			x.Decoded = decoded
		}
		return err
	})
	return x, err
}

// Write writes the export to w. The whole export is as of one moment, although Write reads it in
// many short transactions. If ctx ends, Write stops and returns the error of the context.
func (x *Export) Write(ctx context.Context, w io.Writer) (err error) {
	w = store.ContextWriter(ctx, w)
	names := paymentColumns
	if x.query.Table == Entries {
		names = entryColumns
	}
	head := x.lines.head(names)
	if x.query.Excel {
		head = append([]byte("\ufeff"), head...)
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	if x.query.Table == Payments {
		x.Sequence, err = x.eachPayment(ctx, x.query.From, x.query.To, func(f *schema.State) error {
			_, err := w.Write(x.lines.line(paymentColumns, x.lines.paymentCells(f), f.Payment.Metadata))
			return err
		})
		return err
	}
	return x.entries(ctx, w)
}

// entries writes the table of entries in the order of (time, payment, entry id).
//
// It builds a consistent view in two passes, so that it needs no long transaction. The first pass
// walks through the payments while events keep changing them. The second pass replaces the result
// for every payment that the rows received since the start have changed. It reads these payments as
// of the last row of the view, and later rows cannot change that state.
func (x *Export) entries(ctx context.Context, w io.Writer) (err error) {
	s := x.newSorter()
	defer func() { err = errors.Join(err, s.close()) }()
	if x.query.Since != nil {
		if err := x.differences(ctx, s, *x.query.Since); err != nil {
			return err
		}
		return s.each(func(r record) error { _, err := w.Write(r.line); return err })
	}
	walk := x.present
	if x.query.AsOf != nil {
		walk = x.asOf
	}
	if err := walk(ctx, s); err != nil {
		return err
	}
	end, err := x.lastSeen()
	if err != nil {
		return err
	}
	again := map[string]bool{}
	err = x.touched(ctx, x.now, end, func(tx *store.Tx, id string) error {
		if again[id] {
			return nil
		}
		again[id] = true
		f, err := x.past(tx, x.Sequence).payment(id)
		if err != nil {
			return err
		}
		return x.add(s, f, secondPass)
	})
	if err != nil {
		return err
	}
	return s.each(func(r record) error {
		if pass, id := readLineKey(r.key); pass == firstPass && again[id] {
			return nil
		}
		_, err := w.Write(r.line)
		return err
	})
}

// present adds the current entries of the payments. It reads each payment once, however many
// entries it has: the index gives the payments that moved money between the bounds.
func (x *Export) present(ctx context.Context, s *sorter) error {
	ids := x.newSorter()
	err := x.reads.WalkEntries(ctx, x.query.From, x.query.To, func(_ *store.Tx, at int64, id string, _ []byte) error {
		return ids.add([]byte(id), schema.TimeKey(at, id))
	})
	if err == nil {
		err = x.eachOf(ctx, ids, func(tx *store.Tx, r record) error {
			id := string(r.key)
			f, err := schema.ReadState(tx, id)
			if err != nil {
				return err
			}
			if f == nil { // it was merged into another payment since, or the ledger is damaged
				listed, err := tx.Get(schema.BucketEntries, r.line)
				if err == nil && listed != nil {
					err = fmt.Errorf("%w: payment %.80s is missing and has entries", store.ErrCorrupt, id)
				}
				return err
			}
			return x.add(s, f, firstPass)
		})
	}
	return errors.Join(err, ids.close())
}

// asOf adds the entries of the payments as of x.Sequence.
func (x *Export) asOf(ctx context.Context, s *sorter) error {
	return x.reads.Walk(ctx, schema.BucketPayments, []byte{}, nil, func(tx *store.Tx, key, _ []byte) error {
		p := x.past(tx, x.Sequence)
		ids, err := p.candidates(string(key))
		if err != nil {
			return err
		}
		for _, id := range ids {
			f, err := p.payment(id)
			if err != nil {
				return err
			}
			if err := x.add(s, f, firstPass); err != nil {
				return err
			}
		}
		return nil
	})
}

// add adds the entries of a payment that are within the bounds. A nil payment has no entries.
func (x *Export) add(s *sorter, f *schema.State, pass byte) error {
	if f == nil {
		return nil
	}
	for i := range f.Entries {
		if e := &f.Entries[i]; x.asked(e) {
			if err := s.add(lineKey(e, f.Payment.ID, pass), x.entryLine(f, e, 1, "")); err != nil {
				return err
			}
		}
	}
	return nil
}

// asked reports whether an entry is within the bounds.
func (x *Export) asked(e *fold.Entry) bool {
	return (x.query.From == nil || e.At >= *x.query.From) && (x.query.To == nil || e.At < *x.query.To)
}

// differences adds the entries that have changed since the journal ended at the row since, both as
// they were and as they are now.
func (x *Export) differences(ctx context.Context, s *sorter, since uint64) error {
	ids := x.newSorter()
	err := x.touched(ctx, since, x.now, func(_ *store.Tx, id string) error { return ids.add([]byte(id), nil) })
	if err == nil {
		err = x.eachOf(ctx, ids, func(tx *store.Tx, r record) error {
			id := string(r.key)
			before, err := x.past(tx, since).payment(id)
			if err != nil {
				return err
			}
			after, err := x.past(tx, x.now).payment(id)
			if err != nil {
				return err
			}
			return x.difference(s, before, after)
		})
	}
	return errors.Join(err, ids.close())
}

// eachOf visits the first record of each key, in short transactions.
func (x *Export) eachOf(ctx context.Context, ids *sorter, visit func(tx *store.Tx, r record) error) error {
	var page []record
	flush := func() error {
		for len(page) > 0 {
			err := x.reads.Slice(ctx, func(tx *store.Tx) error {
				began := time.Now()
				for n := 1; len(page) > 0 && !x.reads.Full(n, began); n++ {
					if err := ctx.Err(); err != nil {
						return err
					}
					if err := visit(tx, page[0]); err != nil {
						return err
					}
					page = page[1:]
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	last := ""
	err := ids.each(func(r record) error {
		if last == string(r.key) {
			return nil
		}
		last = string(r.key)
		if page = append(page, r); len(page) < 100 {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// difference adds the entries of a payment whose lines are changed, new or gone. A nil payment has
// no entries.
func (x *Export) difference(s *sorter, before, after *schema.State) error {
	was, is := x.linesOf(before), x.linesOf(after)
	for _, side := range []struct {
		f          *schema.State
		own, other map[string][]byte
		sign       int64
		late       string
		pass       byte
	}{{before, was, is, -1, "removed", firstPass}, {after, is, was, 1, "added", secondPass}} {
		if side.f == nil {
			continue
		}
		for i := range side.f.Entries {
			e := &side.f.Entries[i]
			if line, ok := side.own[e.ID]; !ok || bytes.Equal(line, side.other[e.ID]) {
				continue
			}
			if err := s.add(lineKey(e, side.f.Payment.ID, side.pass), x.entryLine(side.f, e, side.sign, side.late)); err != nil {
				return err
			}
		}
	}
	return nil
}

// linesOf returns the lines of the entries of a payment that are within the bounds, by entry id.
func (x *Export) linesOf(f *schema.State) map[string][]byte {
	if f == nil {
		return nil
	}
	lines := map[string][]byte{}
	for i := range f.Entries {
		if e := &f.Entries[i]; x.asked(e) {
			lines[e.ID] = x.entryLine(f, e, 1, "")
		}
	}
	return lines
}

// In an export of a view, lines of the second pass replace those of the first. In an export of
// differences, the passes order two lines about the same entry: the removed line comes first.
const (
	firstPass  = 1
	secondPass = 2
)

// lineKey returns a key that sorts lines by (time, payment, entry id). Ids contain no NUL byte.
func lineKey(e *fold.Entry, payment string, pass byte) []byte {
	key := append(schema.TimeKey(e.At, payment), 0)
	return append(append(key, e.ID...), 0, pass)
}

func readLineKey(key []byte) (pass byte, payment string) {
	payment, _, _ = strings.Cut(string(key[8:]), "\x00")
	return key[len(key)-1], payment
}

// newSorter returns a sorter whose temporary file leaves the reserve for events free.
func (x *Export) newSorter() *sorter {
	return &sorter{open: x.store.TempFile, guard: func(w io.Writer) io.Writer { return x.store.Reserved(x.store.TempDir(), w) }}
}
