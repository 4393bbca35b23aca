package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"tillhook/ledger/store"
	"time"
)

// Formats are those that an export can have.
var Formats = [...]string{"csv", "jsonl"}

// Tables that can be exported.
const (
	ExportEntries  = "entries"  // a line for each time that money moved
	ExportPayments = "payments" // a line for each payment, as it is now
)

// ErrAhead: a sequence was asked for that the ledger has not reached.
var ErrAhead = errors.New("the ledger has not come so far")

// ExportQuery says what to export.
type ExportQuery struct {
	Table    string         // ExportEntries or ExportPayments
	Format   string         // one of Formats
	From, To *int64         // Unix seconds: entries at From or later and before To; payments by when they were created. Nil sets no bound
	Zone     *time.Location // of dates and times; nil for UTC
	AsOf     *uint64        // entries as they were when the journal ended at this row; nil for the present ones
	Since    *uint64        // instead, what has become different since the journal ended at this row
	Metadata []string       // keys that get a column
	Excel    bool           // begin with a byte order mark, by which spreadsheets know UTF-8
}

// Export is an export of one moment.
type Export struct {
	// Sequence is the last row that the export takes into account; of the table of payments it is
	// known when that is written. The same query as of it gives the same entries, byte for byte, at
	// any later time.
	Sequence uint64
	// Decoded is the last row there was when a rebuild decoded bodies to something else than
	// before, if that came after the row that was asked for, else 0. Up to it, facts can be others
	// than they were then.
	Decoded uint64

	l     *Ledger
	query ExportQuery
	now   uint64 // the last row on disk when the export began
	lines *lineFormat
}

// NewExport prepares an export; [Export.Write] makes it. It returns [ErrAhead] for a sequence that
// the ledger has not reached.
func (l *Ledger) NewExport(q ExportQuery) (*Export, error) {
	q.Zone = cmp.Or(q.Zone, time.UTC)
	x := &Export{l: l, query: q, now: l.published.Load().last}
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
	err := l.store.View(func(tx *store.Tx) error {
		decoded, err := readDecoded(tx)
		if begin <= decoded && (q.AsOf != nil || q.Since != nil) {
			x.Decoded = decoded
		}
		return err
	})
	return x, err
}

// Write writes the export to w, all of it as of one moment although it is read in many short
// transactions. Once ctx has ended it stops and returns the context's error.
func (x *Export) Write(ctx context.Context, w io.Writer) (err error) {
	w = ContextWriter(ctx, w)
	names := paymentColumns
	if x.query.Table == ExportEntries {
		names = entryColumns
	}
	head := x.lines.head(names)
	if x.query.Excel {
		head = append([]byte("\ufeff"), head...)
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	if x.query.Table == ExportPayments {
		x.Sequence, err = x.l.eachPayment(ctx, x.query.From, x.query.To, func(f *state) error {
			_, err := w.Write(x.lines.line(paymentColumns, x.lines.paymentCells(f), f.view.Metadata))
			return err
		})
		return err
	}
	return x.entries(ctx, w)
}

// entries writes the table of entries in the order of (time, payment, entry id).
//
// A view is made in two passes, neither of which needs one long transaction. The first walks the
// payments while events go on changing them. The second replaces what it found of all payments that
// rows which came meanwhile have touched: it reads each of them as of the view's own last row,
// which no later row can change.
func (x *Export) entries(ctx context.Context, w io.Writer) (err error) {
	s := x.l.newSorter()
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
	end, err := x.l.lastSeen()
	if err != nil {
		return err
	}
	again := map[string]bool{}
	err = x.l.touched(ctx, x.now, end, func(tx *store.Tx, id string) error {
		if again[id] {
			return nil
		}
		again[id] = true
		f, err := x.l.past(tx, x.Sequence).payment(id)
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

// present adds the entries of the payments as they are. It reads each payment once, however many
// entries it has: the index names those that moved money between the bounds.
func (x *Export) present(ctx context.Context, s *sorter) error {
	ids := x.l.newSorter()
	err := x.l.walkIndex(ctx, x.query.From, x.query.To, func(_ *store.Tx, at int64, id string, _ []byte) error {
		return ids.add([]byte(id), timeKey(at, id))
	})
	if err == nil {
		err = x.eachOf(ctx, ids, func(tx *store.Tx, r record) error {
			id := string(r.key)
			f, err := readState(tx, id)
			if err != nil {
				return err
			}
			if f == nil { // it has become part of another payment meanwhile, or the ledger is damaged
				listed, err := tx.Get(bucketEntries, r.line)
				if err == nil && listed != nil {
					err = fmt.Errorf("%w: payment %.80s is missing and has entries", ErrCorrupt, id)
				}
				return err
			}
			return x.add(s, f, firstPass)
		})
	}
	return errors.Join(err, ids.close())
}

// asOf adds the entries of the payments as they were.
func (x *Export) asOf(ctx context.Context, s *sorter) error {
	return x.l.walkSlices(ctx, bucketPayments, []byte{}, nil, func(tx *store.Tx, key, _ []byte) error {
		p := x.l.past(tx, x.Sequence)
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

// add adds the entries of a payment that are asked for; a nil payment has none.
func (x *Export) add(s *sorter, f *state, pass byte) error {
	if f == nil {
		return nil
	}
	for i := range f.entries {
		if e := &f.entries[i]; x.asked(e) {
			if err := s.add(lineKey(e, f.view.ID, pass), x.entryLine(f, e, 1, "")); err != nil {
				return err
			}
		}
	}
	return nil
}

// asked reports whether an entry lies between the bounds.
func (x *Export) asked(e *Entry) bool {
	return (x.query.From == nil || e.At >= *x.query.From) && (x.query.To == nil || e.At < *x.query.To)
}

// differences adds what is no longer as it was when the journal ended at a row, and what is
// instead.
func (x *Export) differences(ctx context.Context, s *sorter, since uint64) error {
	ids := x.l.newSorter()
	err := x.l.touched(ctx, since, x.now, func(_ *store.Tx, id string) error { return ids.add([]byte(id), nil) })
	if err == nil {
		err = x.eachOf(ctx, ids, func(tx *store.Tx, r record) error {
			id := string(r.key)
			before, err := x.l.past(tx, since).payment(id)
			if err != nil {
				return err
			}
			after, err := x.l.past(tx, x.now).payment(id)
			if err != nil {
				return err
			}
			return x.difference(s, before, after)
		})
	}
	return errors.Join(err, ids.close())
}

// eachOf visits the first record of each key, in transactions that are short.
func (x *Export) eachOf(ctx context.Context, ids *sorter, visit func(tx *store.Tx, r record) error) error {
	var page []record
	flush := func() error {
		for len(page) > 0 {
			err := x.l.slice(ctx, func(tx *store.Tx) error {
				began := time.Now()
				for len(page) > 0 {
					if err := ctx.Err(); err != nil {
						return err
					}
					if err := visit(tx, page[0]); err != nil {
						return err
					}
					if page = page[1:]; time.Since(began) > sliceTime {
						break
					}
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

// difference adds the entries of a payment whose lines have become others, or are new or gone; nil
// has none.
func (x *Export) difference(s *sorter, before, after *state) error {
	was, is := x.linesOf(before), x.linesOf(after)
	for _, side := range []struct {
		f          *state
		own, other map[string][]byte
		sign       int64
		late       string
		pass       byte
	}{{before, was, is, -1, "removed", firstPass}, {after, is, was, 1, "added", secondPass}} {
		if side.f == nil {
			continue
		}
		for i := range side.f.entries {
			e := &side.f.entries[i]
			if line, ok := side.own[e.ID]; !ok || bytes.Equal(line, side.other[e.ID]) {
				continue
			}
			if err := s.add(lineKey(e, side.f.view.ID, side.pass), x.entryLine(side.f, e, side.sign, side.late)); err != nil {
				return err
			}
		}
	}
	return nil
}

// linesOf returns the lines of a payment's entries that are asked for, by entry id.
func (x *Export) linesOf(f *state) map[string][]byte {
	if f == nil {
		return nil
	}
	lines := map[string][]byte{}
	for i := range f.entries {
		if e := &f.entries[i]; x.asked(e) {
			lines[e.ID] = x.entryLine(f, e, 1, "")
		}
	}
	return lines
}

// Lines of the second pass replace those of the first; of two lines about one entry, what was
// removed comes first.
const (
	firstPass  = 1
	secondPass = 2
)

// lineKey orders lines by (time, payment, entry id). No id has a NUL in it.
func lineKey(e *Entry, payment string, pass byte) []byte {
	key := append(timeKey(e.At, payment), 0)
	return append(append(key, e.ID...), 0, pass)
}

func readLineKey(key []byte) (pass byte, payment string) {
	payment, _, _ = strings.Cut(string(key[8:]), "\x00")
	return key[len(key)-1], payment
}

// newSorter returns a sorter whose file leaves free what is reserved for events.
func (l *Ledger) newSorter() *sorter {
	return &sorter{open: l.store.TempFile, guard: func(w io.Writer) io.Writer { return l.store.Reserved(l.store.TempDir(), w) }}
}
