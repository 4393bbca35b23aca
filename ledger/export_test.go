package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger/posting"
	"tillhook/ledger/scan"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Seal returns a stored value with its checksum, for tests that write to the file directly.
func Seal(bucket, key, value string) []byte {
	sum := crc32.Checksum([]byte(bucket+key+value), crc32.MakeTable(crc32.Castagnoli))
	return binary.BigEndian.AppendUint32([]byte(value), sum)
}

// OlderSchema is the number of the schema before the present one. Only tests have files of it. In
// these files each row begins with an additional byte.
const OlderSchema = schema.Version - 1

const olderMark = 0xfe

func init() {
	schema.RowDecoders[OlderSchema] = func(value []byte) (*schema.Row, error) {
		if len(value) == 0 || value[0] != olderMark {
			return nil, fmt.Errorf("%w: not a row of schema %d", ErrCorrupt, OlderSchema)
		}
		return schema.DecodeRow(value[1:])
	}
}

// MakeOlder converts a file of the present schema to OlderSchema.
func MakeOlder(tx *bolt.Tx) error {
	events := tx.Bucket([]byte("events"))
	rows := map[string][]byte{}
	err := events.ForEach(func(key, sealed []byte) error {
		rows[string(key)] = append([]byte{olderMark}, sealed[:len(sealed)-store.ChecksumSize]...)
		return nil
	})
	for key, value := range rows {
		err = errors.Join(err, events.Put([]byte(key), Seal("events", key, string(value))))
	}
	return errors.Join(err, SetSchema(tx, OlderSchema))
}

// SetSchema changes the schema number of a file.
func SetSchema(tx *bolt.Tx, version uint64) error {
	return tx.Bucket([]byte("meta")).Put(schema.MetaSchema,
		Seal("meta", string(schema.MetaSchema), string(binary.AppendUvarint(nil, version))))
}

// LimitBuffer makes the write buffer flush after a few entries. Call it before Run.
func (l *Ledger) LimitBuffer(entries int) { l.store.LimitBuffer(entries) }

// LimitReads sets the limits of a request: the rows and bytes that it examines, the bytes of a
// page, and the rows that it reads in one transaction.
func (l *Ledger) LimitReads(rows, bytes, page, slice int) {
	l.reads.Bounds = scan.Bounds{Rows: rows, Bytes: bytes, Page: page, Slice: slice}
}

// Slice runs read as one slice of a long read.
func (l *Ledger) Slice(ctx context.Context, read func()) error {
	return l.reads.Slice(ctx, func(*store.Tx) error { read(); return nil })
}

// SetLastCommit sets the time of the last commit of events.
func (l *Ledger) SetLastCommit(at time.Time) {
	now := *l.published.Load()
	now.lastCommit = at
	l.published.Store(&now)
}

// Buffered returns the number of entries in the write buffer, and of records in its log. Run must
// have ended.
func (l *Ledger) Buffered() (entries, records int) {
	entries, records, _ = l.store.BufferSizes()
	return entries, records
}

// Write commits one value, and calls during while the transaction is open.
func (l *Ledger) Write(ctx context.Context, during func() error) error {
	return l.do(ctx, func(b *posting.Batch) (func() error, error) {
		return func() error {
			return errors.Join(b.Tx.Put(schema.BucketMeta, schema.MetaDecoder, []byte("one")), during())
		}, nil
	})
}

// ID returns the id of the ledger, which is a part of the names of its copies.
func (l *Ledger) ID() string { return l.id }

// CopyInto copies the ledger to a file in a directory, and leaves the reserve of the disk free.
func (l *Ledger) CopyInto(ctx context.Context, dir string, w io.Writer) error {
	return l.store.CopyInto(ctx, dir, w)
}

// CheckFile makes the check that the committer makes before each batch. Run must not be running.
func (l *Ledger) CheckFile() bool { return l.store.CheckFile(false) == nil }

// RecoverAfter fails a commit with failure and tries once to recover. Run must have ended.
func (l *Ledger) RecoverAfter(failure error) error {
	err := l.store.Write(func(*store.Tx) error { return failure })
	if !errors.Is(err, failure) {
		return err
	}
	return l.recoverFrom(err)
}

func (l *Ledger) recoverFrom(failure error) error {
	l.committer.refuse(failure)
	l.committer.tryRecover()
	if f := l.failure(); f != nil {
		return f.err
	}
	return nil
}

// Queued returns the number of events that wait for the committer.
func (l *Ledger) Queued() int { return len(l.queue.waiting) }

// WaitingRepeats returns the number of rows whose counts of repeats are not written yet.
func (l *Ledger) WaitingRepeats() int { return l.repeats.rows() }

// Trial is the contents of a ledger after [Ledger.Try].
type Trial struct {
	Payments    []*Payment // by id
	Entries     map[string][]Entry
	Unexplained map[string][]string
	Totals      []Total
	Folded      string // all stored payments, their indexes, links and totals
}

// Try posts events one after the other, as the committer does, into one transaction that is rolled
// back.
func (l *Ledger) Try(events []*Event) (t *Trial, err error) {
	err = l.store.Try(func(tx *store.Tx) error {
		run := func(fill func(*store.Tx) error) error { return fill(tx) }
		now, err := posting.NewPoster(l.livemode, l.bodies).Write(run, l.published.Load().State, func(b *posting.Batch) error {
			for _, e := range events {
				p := newPending(e, []byte{schema.BodyPlain})
				if err := b.Post(&p.Item); err != nil || p.Err != nil {
					return fmt.Errorf("%s: %w %w", e.ID, err, p.Err)
				}
			}
			return nil
		})
		if err == nil {
			t, err = l.contents(tx, &now.Counts)
		}
		return err
	})
	return t, err
}

func (l *Ledger) contents(tx *store.Tx, counts *schema.Counts) (*Trial, error) {
	t := &Trial{Totals: []Total{}, Entries: map[string][]Entry{}, Unexplained: map[string][]string{}}
	var folded strings.Builder
	fmt.Fprintln(&folded, counts.Statuses, counts.Flags, counts.Unknown)
	for _, bucket := range []store.Bucket{schema.BucketPayments, schema.BucketPaymentsTime, schema.BucketLinks, schema.BucketEntries, schema.BucketLists,
		schema.BucketTotals} {
		for e := range tx.Ascend(bucket, nil) {
			key := e.Key
			value, err := e.Value()
			if err == nil && bucket == schema.BucketPayments { // without the sequences, which depend on the order of arrival
				var s *schema.State
				if s, err = schema.DecodeState(tx, string(key), value); err == nil {
					t.Payments = append(t.Payments, s.Payment)
					t.Entries[s.Payment.ID] = s.Entries
					t.Unexplained[s.Payment.ID] = s.Unexplained
					s.Rows = nil
					value = s.Encode()
				}
			}
			if id, rest, _ := strings.Cut(string(key), "\x00"); bucket == schema.BucketLists && rest[0] == schema.ListRows {
				key, value = []byte(id), nil // only their number does not depend on the order of arrival
			}
			if err == nil && bucket == schema.BucketTotals {
				var total Total
				// Folded includes the sums over all days, Totals does not.
				if total, err = readTotal(key, value); err == nil && total.Day != "" {
					t.Totals = append(t.Totals, total)
				}
			}
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&folded, "%s %q %q\n", schema.Layout[bucket].Name, key, value)
		}
	}
	t.Folded = folded.String()
	return t, nil
}

// Row is a stored event, and Folded the stored result of a fold.
type (
	Row    = schema.Row
	Folded = schema.State
)

// RowOf returns the row of an event.
func RowOf(e *Event) *Row {
	return &schema.Row{ID: e.ID, Type: e.Type, Created: e.Created, Received: e.Received.UnixMilli(), APIVersion: e.APIVersion,
		Source:  e.Source,
		Outcome: Applied, Size: uint64(len(e.Raw)), Facts: e.Facts}
}

// Fold folds rows into a payment.
func Fold(id string, rows []*Row) *Folded { return schema.FoldRows(id, false, rows) }

// Encode returns the stored form of a row and of the result of a fold.
func Encode(r *Row, s *Folded) (row, state []byte) { return r.Encode(), s.Encode() }

// EncodeBody returns the stored form of the body of an event.
func (l *Ledger) EncodeBody(e *Event) []byte { return l.bodies.Encode(e.Raw) }

// Expire deletes the bodies that were received before a time, as RunRetention does over time.
func (l *Ledger) Expire(ctx context.Context, before time.Time) error {
	for range 10000 {
		if _, more, err := l.expire(ctx, before); err != nil || !more {
			return err
		}
	}
	return errors.New("retention does not end")
}

// Expired returns the last row that retention has passed.
func (l *Ledger) Expired() uint64 { return l.published.Load().Counts.Expired }

// BufferedBytes returns the size of the active generation of the write buffer. The committer must
// be idle.
func (l *Ledger) BufferedBytes() int {
	_, _, bytes := l.store.BufferSizes()
	return bytes
}

// CommitBatch posts events in one transaction. It returns the bytes of the pages that the
// transaction wrote, and the number of pages in use afterwards. Run must not be running.
func (l *Ledger) CommitBatch(events []*Event) (written int64, pages int, err error) {
	batch := make([]*pending, len(events))
	for i, e := range events {
		batch[i] = newPending(e, l.bodies.Encode(e.Raw))
	}
	before, err := l.store.Sizes(nil)
	if err != nil {
		return 0, 0, err
	}
	l.committer.commit(batch)
	for _, p := range batch {
		if p.Err != nil {
			return 0, 0, p.Err
		}
	}
	err = l.store.View(func(tx *store.Tx) error {
		after, err := l.store.Sizes(tx)
		written, pages = after.PageBytes-before.PageBytes, int(after.Pages-after.FreePages)
		return err
	})
	return written, pages, err
}

// LimitCache limits the cache of payments to about so many events. Call it before Run.
func (l *Ledger) LimitCache(events int) { l.committer.poster.Cache.Limit = events * 768 }

// CacheSize returns the number of cached payments, their size and the limit of that size. Run must
// not be running.
func (l *Ledger) CacheSize() (payments, size, limit int) {
	payments, size = l.committer.poster.Cache.Sizes()
	return payments, size, l.committer.poster.Cache.Limit
}

// CommitAtSecondAttempt commits events after an attempt that was rolled back, as the store does if
// it finds the page of a buffered entry damaged. Run must not be running.
func (l *Ledger) CommitAtSecondAttempt(events []*Event) error {
	run := func(fill func(*store.Tx) error) error { return errors.Join(l.store.Try(fill), l.store.Write(fill)) }
	now, err := l.committer.poster.Write(run, l.published.Load().State, func(b *posting.Batch) error {
		for _, e := range events {
			p := newPending(e, l.bodies.Encode(e.Raw))
			if err := b.Post(&p.Item); err != nil || p.Err != nil {
				return fmt.Errorf("%s: %w %w", e.ID, err, p.Err)
			}
		}
		return nil
	})
	if err == nil {
		l.committer.publish(now, nil)
	}
	return err
}

// RollBack posts events in a transaction that fails, and recovers.
func (l *Ledger) RollBack(events []*Event) error {
	var batch []*pending
	for _, e := range events {
		batch = append(batch, newPending(e, l.bodies.Encode(e.Raw)))
	}
	failure := errors.New("rolled back")
	batch = append(batch, &pending{Item: posting.Item{Job: func(*posting.Batch) (func() error, error) {
		return func() error { return failure }, nil
	}}})
	if _, err := l.committer.write(batch, nil); !errors.Is(err, failure) {
		return err
	}
	return l.recoverFrom(failure)
}
