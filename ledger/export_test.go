package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Seal makes a stored value for tests that write one behind the ledger's back.
func Seal(bucket, key, value string) []byte {
	return seal([]byte(bucket), []byte(key), []byte(value))
}

// BuiltInDictionary returns the dictionary that bodies are compressed against.
func BuiltInDictionary() []byte { return builtinText }

// OlderSchema is the number before the present schema's. Only tests have files of it, in which rows
// begin with an additional byte.
const OlderSchema = schemaVersion - 1

const olderMark = 0xfe

func init() {
	rowDecoders[OlderSchema] = func(value []byte) (*row, error) {
		if len(value) == 0 || value[0] != olderMark {
			return nil, fmt.Errorf("%w: not a row of schema %d", ErrCorrupt, OlderSchema)
		}
		return decodeRow(value[1:])
	}
}

// MakeOlder turns a file of the present schema into one of OlderSchema.
func MakeOlder(tx *bolt.Tx) error {
	events := tx.Bucket(bucketEvents)
	rows := map[string][]byte{}
	err := events.ForEach(func(key, stored []byte) error {
		value, err := unseal(bucketEvents, key, stored)
		rows[string(key)] = append([]byte{olderMark}, value...)
		return err
	})
	for key, value := range rows {
		err = errors.Join(err, events.Put([]byte(key), seal(bucketEvents, []byte(key), value)))
	}
	return errors.Join(err, SetSchema(tx, OlderSchema))
}

// SetSchema gives a file the number of another schema.
func SetSchema(tx *bolt.Tx, version uint64) error {
	return put(inPlace(tx), bucketMeta, metaSchema, binary.AppendUvarint(nil, version))
}

// SmallGenerations has what is fresh settled after a few entries. It is called before Run.
func (l *Ledger) SmallGenerations(entries int) { l.fresh.limit = entries }

// BoundReads has a request examine so many rows and bytes, list so many bytes, and read so many
// rows in a transaction.
func (l *Ledger) BoundReads(rows, bytes, page, slice int) {
	l.bounds = readBounds{rows, bytes, page, slice}
}

// Slice runs read as a slice of a long read.
func (l *Ledger) Slice(ctx context.Context, read func()) error {
	return l.slice(ctx, func(*txn) error { read(); return nil })
}

// Committed has the ledger take it that events were committed at a time.
func (l *Ledger) Committed(at time.Time) { l.lastCommit.Store(at.UnixNano()) }

// Fresh is how many entries are not in their places, and how many records tell of them. Run must have ended.
func (l *Ledger) Fresh() (entries, records int) { return l.fresh.size(), l.fresh.records }

// Write is a commit of one value, during which something else happens.
func (l *Ledger) Write(ctx context.Context, during func() error) error {
	return l.do(ctx, func(b *booking) error {
		b.writing = true
		return errors.Join(put(b.tx, bucketMeta, metaDecoder, []byte("one")), during())
	})
}

// ID is what the names of its copies have in them.
func (l *Ledger) ID() string { return l.id }

// CopyInto copies the ledger to a file in a folder, with the reserve left free.
func (l *Ledger) CopyInto(ctx context.Context, dir string, w io.Writer) error {
	return l.copyInto(ctx, dir, w)
}

// LookAtFile is what the committer does before each batch. Run must not be running.
func (l *Ledger) LookAtFile() bool { return l.inPlace(false) }

// MendAfter is a commit that failed, and one try to mend. Run must have ended.
func (l *Ledger) MendAfter(err error) error {
	l.fresh.wary = false
	l.fail(err, nil, nil)
	l.tryToMend()
	if f := l.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

// Sorted sorts lines by their first three characters, with so many bytes in memory, and returns how
// many runs there were.
func Sorted(dir string, limit int, lines []string) (sorted []string, runs int, err error) {
	s := &sorter{limit: limit, open: func() (*os.File, error) { return os.CreateTemp(dir, "") }}
	for _, line := range lines {
		if err := s.add([]byte(line[:3]), []byte(line)); err != nil {
			return nil, 0, err
		}
	}
	err = s.each(func(r record) error { sorted = append(sorted, string(r.line)); return nil })
	return sorted, len(s.runs), errors.Join(err, s.close())
}

// Queued is how many events wait for the committer.
func (l *Ledger) Queued() int { return len(l.queue) }

// WaitingRepeats is how many rows have counts that are not written yet.
func (l *Ledger) WaitingRepeats() int { return l.waitingRepeats() }

// Trial is what a ledger would hold.
type Trial struct {
	Payments    []*Payment // by id
	Entries     map[string][]Entry
	Unexplained map[string][]string
	Totals      []Total
	Folded      string // every byte of the payments, their indexes, the links and the totals
}

// Try books events one after the other, as the committer does, into one transaction that is thrown away.
func (l *Ledger) Try(events []*Event) (*Trial, error) {
	file, err := l.db.Begin(true)
	if err != nil {
		return nil, err
	}
	defer file.Rollback()
	tx := inPlace(file)
	b := &booking{tx: tx, last: l.durableSeq.Load(), counts: *l.counts.Load(), livemode: l.livemode}
	for _, e := range events {
		p := newPending(e, []byte{bodyPlain})
		if err := b.book(p); err != nil || p.err != nil {
			return nil, fmt.Errorf("%s: %w %w", e.ID, err, p.err)
		}
	}
	if err := b.writeSums(); err != nil {
		return nil, err
	}
	return l.contents(tx, b)
}

func (l *Ledger) contents(tx *txn, b *booking) (*Trial, error) {
	t := &Trial{Totals: []Total{}, Entries: map[string][]Entry{}, Unexplained: map[string][]string{}}
	var folded strings.Builder
	fmt.Fprintln(&folded, b.counts.statuses, b.counts.flags, b.counts.unknown)
	for _, bucket := range [][]byte{bucketPayments, bucketPaymentsTime, bucketLinks, bucketEntries, bucketLists, bucketTotals} {
		err := tx.Bucket(bucket).ForEach(func(key, stored []byte) error {
			value, err := unseal(bucket, key, stored)
			if err == nil && string(bucket) == string(bucketPayments) { // without what belongs to the arrival
				var s *state
				if s, err = decodeState(tx, string(key), value); err == nil {
					s.rows = nil
					value = s.encode()
				}
			}
			if id, rest, _ := strings.Cut(string(key), "\x00"); string(bucket) == string(bucketLists) && rest[0] == listRows {
				key, value = []byte(id), nil // there are so many, whichever they are
			}
			fmt.Fprintf(&folded, "%s %q %q\n", bucket, key, value)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	t.Folded = folded.String()
	err := tx.Bucket(bucketPayments).ForEach(func(key, _ []byte) error {
		s, err := readState(tx, string(key))
		if err == nil {
			t.Payments = append(t.Payments, s.view)
			t.Entries[s.view.ID] = s.entries
			t.Unexplained[s.view.ID] = s.unexplained
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = tx.Bucket(bucketTotals).ForEach(func(key, stored []byte) error {
		value, err := unseal(bucketTotals, key, stored)
		if err != nil {
			return err
		}
		total, err := readTotal(key, value)
		if total.Day != "" { // the sums over all days are among what is folded
			t.Totals = append(t.Totals, total)
		}
		return err
	})
	return t, err
}

// Row is an event as it is stored, and Folded what events fold to.
type (
	Row    = row
	Folded = state
)

// RowOf is the row of an event.
func RowOf(e *Event) *Row {
	return &row{id: e.ID, typ: e.Type, created: e.Created, received: e.Received.UnixMilli(), apiVersion: e.APIVersion, source: e.Source,
		outcome: Applied, size: uint64(len(e.Raw)), facts: e.Facts}
}

// Fold folds rows into a payment.
func Fold(id string, rows []*Row) *Folded { return foldRows(id, false, rows) }

// Encode is a row and what it folds to as they are stored.
func Encode(r *Row, s *Folded) (row, state []byte) { return r.encode(), s.encode() }

// Pack is the body of an event as it is stored.
func (l *Ledger) Pack(e *Event) []byte { return l.bodies.encode(e.Raw) }

// Expire deletes at once what KeepBodies would, of bodies received before a time.
func (l *Ledger) Expire(ctx context.Context, before time.Time) error {
	for range 10000 {
		if _, more, err := l.expire(ctx, before); err != nil || !more {
			return err
		}
	}
	return errors.New("retention does not come to an end")
}

// Expired is the row that retention has got to.
func (l *Ledger) Expired() uint64 { return l.counts.Load().expired }

// FreshBytes is what is fresh in the newer generation. The committer must have come round, with nothing to do since.
func (l *Ledger) FreshBytes() int { return l.fresh.bytes }

// Settling tells that a generation is on its way to its places, as far as FreshBytes may be asked.
func (l *Ledger) Settling() bool { return l.fresh.settled < len(l.fresh.settling) }

// Waiting is how many events wait for the committer.
func (l *Ledger) Waiting() int { return len(l.queue) }

// CommitAtOnce books events in one transaction and returns how many bytes of pages it wrote, and
// how many pages are in use behind it. Run must not be running.
func (l *Ledger) CommitAtOnce(events []*Event) (written int64, pages int, err error) {
	batch := make([]*pending, len(events))
	for i, e := range events {
		batch[i] = newPending(e, l.bodies.encode(e.Raw))
	}
	before := l.db.Stats().TxStats
	l.commit(batch)
	for _, p := range batch {
		if p.err != nil {
			return 0, 0, p.err
		}
	}
	after := l.db.Stats()
	err = l.db.View(func(tx *bolt.Tx) error {
		pages = int(tx.Size())/l.db.Info().PageSize - after.FreePageN - after.PendingPageN
		return nil
	})
	return after.TxStats.GetPageAlloc() - before.GetPageAlloc(), pages, err
}

// SmallMemory has no more of payments remembered than about so many events. It is called before
// Run.
func (l *Ledger) SmallMemory(events int) { l.hot.limit = events * (&row{}).memory() }

// Hot is how many payments are remembered, and how much of them, of how much at most. Run must not
// be running.
func (l *Ledger) Hot() (payments, size, limit int) {
	return len(l.hot.payments), l.hot.size, l.hot.limit
}

// GiveUp books events in a transaction that is rolled back, and mends the file.
func (l *Ledger) GiveUp(events []*Event) error {
	var batch []*pending
	for _, e := range events {
		batch = append(batch, newPending(e, l.bodies.encode(e.Raw)))
	}
	failure := errors.New("given up")
	batch = append(batch, &pending{job: func(b *booking) error {
		b.writing = true
		return failure
	}})
	if _, err := l.write(batch, nil, 0); !errors.Is(err, failure) {
		return err
	}
	return l.MendAfter(failure)
}
