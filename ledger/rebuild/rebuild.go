// Package rebuild writes a ledger anew from its rows and bodies: to migrate it to the current
// schema, to decode its bodies again, to restore damaged rows and derived data, or to compact it.
//
// A rebuild reads the old file in one transaction and posts each row, in order, into a draft of a
// new file, as the committer would (package posting). Rows keep their sequences. Events that can
// leave quarantine are posted last, in new rows. The draft is compacted and verified (package
// check) before it replaces the old file, which is kept.
package rebuild

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tillhook/ledger/backup"
	"tillhook/ledger/check"
	"tillhook/ledger/fold"
	"tillhook/ledger/posting"
	"tillhook/ledger/retention"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Result describes a rebuild.
type Result struct {
	Schema    uint64 // of the old file
	Events    uint64
	Payments  uint64
	Decoded   uint64 // events whose bodies were decoded again
	Unusable  uint64 // events whose bodies the decoder rejects or decodes as other events; they keep their facts
	Gone      uint64 // events whose bodies were no longer stored, and so not decoded again
	Released  uint64 // events that left quarantine
	Recreated uint64 // damaged rows that were restored from their bodies
	Path      string // the ledger
	Kept      string // the old file
	Backup    string // a copy of the old file in the backup directory; empty if none was requested
	Expired   uint64 // bodies that were older than the retention period
	OldBytes  int64  // size of the old file
	NewBytes  int64  // size of the new one
}

// rebuildStep is the number of rows that are written in one transaction.
const rebuildStep = 2000

// Options say which ledger is rebuilt, and how.
type Options struct {
	Path     string // the ledger
	Livemode bool   // the mode that it must have
	// Decode decodes a body as the receiver does; nil if no body is decoded again.
	Decode func(raw []byte) *posting.Event
	// Now is the time of this machine's clock.
	Now time.Time
	// Retention is how long bodies are kept; 0 keeps all.
	Retention time.Duration
	// BackupDir is where a file of an older schema is copied to first; empty for no copy.
	BackupDir string
	// BackupKeep is how many of those copies are kept; 0 keeps all.
	BackupKeep int
	// Progress, if set, is called with how many rows of the old file are written.
	Progress func(rows, of uint64)
}

// Run writes a ledger again from its events, into a compact file of the current schema. The
// new file replaces the old one after it has been verified; the old one is kept beside it. The
// caller holds the lock of the directory. If Run fails or ctx ends, the old file is
// unchanged and no other file is left, except a backup that was requested. If decode is true, the
// bodies that are still stored are decoded again; events without a body keep their stored facts.
func Run(ctx context.Context, opts Options, decode bool) (_ *Result, err error) {
	path := opts.Path
	// The source is opened read-only, so damage to data that only writers need does not prevent a
	// rebuild. The lock is exclusive, because where directories cannot be locked two rebuilds would
	// replace each other's files.
	source, err := store.Open(path, store.Options{Layout: schema.Layout, ReadOnly: true, Exclusive: true, Unbuffered: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	bodies, err := schema.NewBodyCodec()
	if err != nil {
		return nil, err
	}
	r := &rebuilder{source: source, bodies: bodies, opts: opts, decode: decode, usable: map[uint64]bool{}, done: Result{Path: path}}
	made, err := r.write(ctx)
	if made != "" {
		defer func() { _ = os.Remove(made) }() // renamed on success, of no use otherwise
	}
	if err != nil {
		if !errors.Is(err, schema.ErrOtherMode) {
			err = fmt.Errorf("write %s anew: %w", path, err)
		}
		return nil, err
	}
	if _, err := check.Verify(ctx, made); ctx.Err() != nil {
		return nil, fmt.Errorf("write %s anew: %w", path, ctx.Err())
	} else if err != nil {
		return nil, fmt.Errorf("the rebuilt ledger is not sound, and the old one was left as it is: %w", err)
	}
	if r.done.OldBytes, r.done.NewBytes, err = source.CopyOwner(made); err != nil {
		return nil, fmt.Errorf("give the rebuilt ledger the old one's owner and mode: %w", err)
	}
	if err := source.StillAt(); err != nil {
		return nil, err
	}
	target := source.Target() // a symbolic link to it stays as it is
	r.done.Kept = store.KeptName(target, time.Now())
	if err := source.KeepAs(r.done.Kept); err != nil {
		return nil, fmt.Errorf("keep the old ledger: %w", err)
	}
	if err := os.Rename(made, target); err != nil {
		return nil, errors.Join(fmt.Errorf("put the rebuilt ledger in its place: %w", err), os.Remove(r.done.Kept))
	}
	return &r.done, store.SyncDir(filepath.Dir(target))
}

// rebuilder is the state of a rebuild in progress.
type rebuilder struct {
	source   *store.Store
	bodies   *schema.BodyCodec
	opts     Options
	decode   bool
	livemode bool
	id       string // of the ledger
	received int64  // of the previous row, Unix milliseconds
	// usable holds the rows in quarantine that the decoder can use and that no row read so far
	// refers to.
	usable  map[uint64]bool
	poster  *posting.Poster
	due     retention.Due // which bodies are too old to be kept
	changed bool          // decoding a body again changed its row
	done    Result
}

// write writes the new file and returns its name.
func (r *rebuilder) write(ctx context.Context) (made string, err error) {
	err = r.source.View(func(from *store.Tx) (err error) {
		if err := r.check(from); err != nil {
			return err
		}
		r.poster = posting.NewPoster(r.livemode, r.bodies)
		if r.done.Schema < schema.Version && r.opts.BackupDir != "" {
			if r.done.Backup, err = backup.BeforeMigrations(r.opts.BackupDir, r.livemode, r.id).Add(ctx, r.source, r.opts.BackupKeep); err != nil {
				return err
			}
		}
		seen, wall := r.retentionTime(from)
		r.due = retention.NewDue(seen.Add(-r.opts.Retention), wall)
		draft, err := store.CreateDraft(r.source.Target(), schema.Layout, func(to *store.Tx) error { return r.initialise(to, from) })
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, draft.Discard()) }()
		if err := r.rows(ctx, from, draft); err != nil {
			return err
		}
		made, err = draft.Compact(ctx, r.source.Target())
		return err
	})
	return made, err
}

// check reads the metadata of the old file and returns an error if the file cannot be rebuilt.
func (r *rebuilder) check(from *store.Tx) (err error) {
	if r.done.Schema, err = schema.ReadVersion(from); err != nil {
		return err
	}
	if r.livemode, err = schema.ReadMode(from); err != nil {
		return err
	}
	r.id = schema.ReadID(from)
	if r.done.Schema < schema.Version {
		if r.opts.Decode == nil {
			return schema.ErrOlder
		}
		r.decode = true // an older version may have stored fewer facts than the bodies contain
	}
	if r.livemode != r.opts.Livemode {
		return schema.OtherMode(r.done.Path, r.livemode)
	}
	if !from.Exists(schema.BucketEvents) || !from.Exists(schema.BucketBodies) {
		return fmt.Errorf("%w: its events are missing", store.ErrFormat)
	}
	return nil
}

// initialise makes the new file an empty ledger with the id and the retention time of the old one.
func (r *rebuilder) initialise(to, from *store.Tx) error {
	if err := schema.Initialise(to, r.livemode); err != nil {
		return err
	}
	if r.id != schema.NoID { // otherwise the new file keeps the id that it was created with
		if err := to.Put(schema.BucketMeta, schema.MetaID, []byte(r.id)); err != nil {
			return err
		}
	}
	if ms, err := schema.ReadCheckpoint(from, retention.Checkpoint); err == nil && ms != 0 {
		return schema.PutCheckpoint(to, retention.Checkpoint, ms)
	}
	return nil
}

// rows writes every row of the old file to the new one, in order, and then posts the events that
// can leave quarantine.
func (r *rebuilder) rows(ctx context.Context, from *store.Tx, draft *store.Draft) error {
	newest := schema.LastRow(from)
	var now posting.State
	write := func(fill func(b *posting.Batch) error) (err error) {
		now, err = r.poster.Write(draft.Fill, now, fill)
		return err
	}
	for whole := false; !whole; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := write(func(b *posting.Batch) error {
			if err := r.someRows(b, from); err != nil {
				return err
			}
			if whole = b.Last >= newest; whole {
				return r.keepDecoded(b.Tx, from, b.Last)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if r.opts.Progress != nil && newest > 0 {
			r.opts.Progress(now.Last, newest)
		}
	}
	for seqs := range slices.Chunk(slices.Sorted(maps.Keys(r.usable)), rebuildStep) {
		err := write(func(b *posting.Batch) error {
			for _, seq := range seqs {
				if err := r.release(b, from, seq); err != nil {
					return fmt.Errorf("event row %d: %w", seq, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	r.done.Events = now.Last
	for _, n := range now.Counts.Statuses {
		r.done.Payments += n
	}
	return nil
}

// someRows writes at most rebuildStep rows after the last one.
func (r *rebuilder) someRows(b *posting.Batch, from *store.Tx) error {
	n := 0
	for e := range from.Ascend(schema.BucketEvents, schema.SeqKey(b.Last+1)) {
		if n == rebuildStep {
			return nil
		}
		n++
		next := b.Last + 1
		if len(e.Key) != 8 || schema.SeqOf(e.Key) != next {
			return fmt.Errorf("%w: event row %d is missing", store.ErrCorrupt, next)
		}
		if err := r.row(b, from, next, e); err != nil {
			return fmt.Errorf("event row %d: %w", next, err)
		}
	}
	return nil
}

// keepDecoded stores the last row at the time of the latest rebuild that decoded a body differently
// than before. Exports of past states report it.
func (r *rebuilder) keepDecoded(to, from *store.Tx, last uint64) error {
	decoded, err := schema.ReadDecoded(from)
	if err != nil {
		return err
	}
	if r.changed {
		decoded = last
	}
	if decoded == 0 {
		return nil
	}
	return schema.WriteDecoded(to, decoded)
}

// row writes one row. It decodes a damaged row again from its body.
func (r *rebuilder) row(b *posting.Batch, from *store.Tx, seq uint64, e store.Entry) error {
	old, err := r.read(e)
	kept, bodyErr := from.Get(schema.BucketBodies, schema.SeqKey(seq))
	body := kept
	if bodyErr == nil {
		body, bodyErr = schema.ReadBody(from, seq)
	}
	switch {
	case err != nil && (bodyErr != nil || body == nil || r.opts.Decode == nil):
		return fmt.Errorf("%w; nor is there a sound body to make it from again: restore a copy of the ledger", err)
	case err != nil:
		raw, rawErr := r.bodies.Decode(body)
		if rawErr != nil {
			return fmt.Errorf("%w; its body: %w", err, rawErr)
		}
		if old, err = r.again(b, from, seq, raw, schema.RowOfBody(kept)); err != nil {
			return err
		}
		r.done.Recreated++
	case bodyErr != nil:
		return fmt.Errorf("its body: %w", bodyErr)
	case body == nil && r.decode:
		if old.Outcome != schema.Quarantined { // otherwise the event left quarantine, and its new row is counted
			r.done.Gone++
		}
	case body != nil && r.decode:
		raw, err := r.bodies.Decode(body)
		if err != nil {
			return fmt.Errorf("its body: %w", err)
		}
		counted := r.done
		if r.reread(old, seq, raw); schema.RowOfBody(kept) != 0 { // the body was counted with the row that stores it
			r.done = counted
		}
	}
	r.received = old.Received
	delete(r.usable, old.Released)
	var entry *schema.QuarantineEntry
	if old.Outcome == schema.Quarantined {
		if entry, err = r.entry(b, from, seq, old, body); err != nil {
			return err
		}
	}
	return r.put(b, old, seq, bytes.Clone(kept), entry)
}

// retentionTime returns the time by which bodies are deleted, and this machine's time. See the type
// [retentionTime].
func (r *rebuilder) retentionTime(from *store.Tx) (seen, wall time.Time) {
	wall = r.opts.Now
	if seen = retention.TimeSeen(from, wall); seen.After(wall) {
		seen = wall
	}
	return seen, wall
}

// put writes a row to the new file, without its body if the body is older than the retention
// period.
func (r *rebuilder) put(b *posting.Batch, row *schema.Row, seq uint64, body []byte, entry *schema.QuarantineEntry) error {
	if r.opts.Retention > 0 && body != nil && retention.Expires(row) && r.due.Has(row) {
		body = nil
		r.done.Expired++
		if row.Released != 0 {
			if err := b.Tx.Delete(schema.BucketBodies, schema.SeqKey(row.Released)); err != nil {
				return err
			}
		}
	}
	return b.Restore(row, seq, body, entry)
}

// entry returns the quarantine entry of a row that is in quarantine, or was until a later row.
func (r *rebuilder) entry(b *posting.Batch, from *store.Tx, seq uint64, row *schema.Row, body []byte) (*schema.QuarantineEntry, error) {
	had, _ := schema.ReadQuarantineEntry(from, seq) // a damaged entry is replaced
	expected, snapshot := false, ""
	switch {
	case r.opts.Decode != nil && body != nil && (had == nil || r.decode):
		raw, err := r.bodies.Decode(body)
		if err != nil {
			return nil, fmt.Errorf("its body: %w", err)
		}
		e := r.opts.Decode(raw)
		expected, snapshot = e.Expected, e.Snapshot
	case had != nil:
		expected, snapshot = had.State == schema.Expected, had.Awaits
	}
	entry, err := schema.NewQuarantineEntry(b.Tx, row.ID, row.Livemode, expected, snapshot)
	if err == nil && had != nil && had.State == schema.Dismissed {
		entry.State = schema.Dismissed
	}
	return entry, err
}

// release posts an event in quarantine that the decoder can use. Its new row follows all others.
func (r *rebuilder) release(b *posting.Batch, from *store.Tx, seq uint64) error {
	old, err := schema.ReadRow(b.Tx, seq)
	if err != nil {
		return err
	}
	body, err := schema.ReadBody(from, seq)
	if err != nil {
		return err
	}
	raw, err := r.bodies.Decode(body)
	if err != nil {
		return err
	}
	made := *old
	made.Outcome, made.Reason, made.Released, made.Repeats = schema.Recorded, "", seq, 0
	restate(&made, r.opts.Decode(raw))
	r.done.Released++
	return r.put(b, &made, b.Last+1, schema.BodyReference(seq), nil)
}

// restate replaces the fields of a row that come from its body.
func restate(r *schema.Row, e *posting.Event) {
	r.Type, r.Created, r.APIVersion, r.Facts = e.Type, e.Created, e.APIVersion, e.Facts
	// If the body does not name them, they keep the values known from how the event was read.
	r.Account, r.Context = cmp.Or(e.Account, r.Account), cmp.Or(e.Context, r.Context)
}

// read decodes a row of the old file.
func (r *rebuilder) read(e store.Entry) (*schema.Row, error) {
	value, err := e.Value()
	if err != nil {
		return nil, err
	}
	return schema.RowDecoders[r.done.Schema](value)
}

// reread decodes a body again and replaces the fields of the row that come from it. A row whose
// body the decoder cannot use is not changed. A row in quarantine stays there; if the decoder can
// use its event, the event gets a new row at the end.
func (r *rebuilder) reread(old *schema.Row, seq uint64, raw []byte) {
	if r.opts.Decode == nil {
		return
	}
	e := r.opts.Decode(raw)
	switch {
	case e.ID == old.ID && e.Livemode == old.Livemode && e.Quarantine != "" && old.Outcome == schema.Quarantined:
		r.done.Decoded++ // it stays in quarantine
		return
	case e.Quarantine != "" || e.ID != old.ID || e.Livemode != old.Livemode || e.Facts.Check() != nil:
		r.done.Unusable++
		return
	}
	r.done.Decoded++
	if old.Outcome == schema.Quarantined {
		r.usable[seq] = true
		return
	}
	before := old.Encode()
	if restate(old, e); !bytes.Equal(old.Encode(), before) {
		r.changed = true
	}
}

// again restores a lost row from its body. other is the row that stores the body, or 0 if that is
// the lost row itself. The body does not contain the time of receipt, so the new row gets the later
// of the event's creation time and the time of receipt of the previous row.
func (r *rebuilder) again(b *posting.Batch, from *store.Tx, seq uint64, raw []byte, other uint64) (*schema.Row, error) {
	e := r.opts.Decode(raw)
	source := schema.Webhook
	if strings.HasPrefix(e.ID, schema.FetchedPrefix) {
		source = schema.Fetch
	}
	row := e.Row()
	made := &row
	made.Source, made.Received, made.Size = source, max(r.received, e.Created*1000), uint64(len(raw))
	if made.Reason == "" && r.releasedLater(from, seq) {
		made.Reason = schema.Undecodable // or another reason, which is lost
	}
	if made.Reason != "" {
		made.Outcome, made.Facts = schema.Quarantined, fold.Facts{}
	}
	if other == 0 { // the event may have left quarantine by a delivery with another body
		had, known, err := schema.LookupID(b.Tx, e.Livemode, e.ID)
		if err != nil {
			return nil, err
		}
		if known {
			before, err := schema.ReadRow(b.Tx, had)
			if err != nil {
				return nil, err
			}
			if before.Outcome == schema.Quarantined {
				other = had
			}
		}
	}
	made.Released = other
	return made, nil
}

// releasedLater reports whether a later row of the old file refers to seq as the row in which its
// event was in quarantine.
func (r *rebuilder) releasedLater(from *store.Tx, seq uint64) bool {
	for e := range from.Ascend(schema.BucketEvents, schema.SeqKey(seq+1)) {
		if later, err := r.read(e); err == nil && later.Released == seq {
			return true
		}
	}
	return false
}
