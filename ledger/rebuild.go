package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// RebuildResult tells what a rebuild did.
type RebuildResult struct {
	Schema   uint64 // of the old file
	Events   uint64
	Payments uint64
	Decoded  uint64 // events whose bodies were read again
	Unusable uint64 // events whose bodies the decoder cannot use, or takes for other events; their stored facts stay
	Gone     uint64 // events whose bodies are no longer there to be read again
	Released uint64 // events that left quarantine
	Mended   uint64 // damaged rows that were made from their bodies again
	Path     string // the ledger
	Kept     string // the old file
	Backup   string // a copy of it in the folder for backups; empty if none was asked for
	Expired  uint64 // bodies that were older than they are to be kept
	OldBytes int64  // size of the old file
	NewBytes int64  // size of the new one
}

// oldTime is the time in the name of a file that was the ledger until then, in UTC.
const oldTime = "20060102T150405.000Z"

// rebuildStep rows are written in one transaction.
const rebuildStep = 2000

// Rebuild writes the ledger in opts.Dir anew from its events: into a compact file of the present
// schema, which takes the old one's place when it has been checked. The old one is kept beside it.
// No receiver may run ([ErrLocked]). It needs free space for two more files of that size. When it
// fails, or ctx ends, the old file is as it was and nothing else is left. With decode, bodies that
// are still there are read again by opts.Decode; what is not there keeps its stored facts.
func Rebuild(ctx context.Context, opts Options, decode bool) (*RebuildResult, error) {
	path := filepath.Join(opts.Dir, fileName)
	if err := mustExist(path, "no ledger at"); err != nil {
		return nil, err
	}
	folder, err := lockFolder(opts.Dir)
	if err != nil {
		return nil, err
	}
	defer unlockFolder(folder)
	return rebuildLocked(ctx, opts, decode)
}

// rebuildLocked is Rebuild for a caller that holds the folder's lock.
func rebuildLocked(ctx context.Context, opts Options, decode bool) (_ *RebuildResult, err error) {
	path := filepath.Join(opts.Dir, fileName)
	// For reading: bbolt's lock keeps every receiver out all the same, and damage to what only writers need is no obstacle.
	source, err := openFile(path, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	// Where folders cannot be locked, two rebuilds would otherwise put their files in each other's
	// place.
	if err := lockFile(source.file, syscall.LOCK_EX); err != nil {
		return nil, err
	}
	r := &rebuild{source: source, opts: opts, decode: decode, usable: map[uint64]bool{}, done: RebuildResult{Path: path}}
	made, err := r.write(ctx)
	if made != "" {
		defer func() { _ = os.Remove(made) }() // it has another name by then, or is of no use
	}
	if err != nil {
		if !errors.Is(err, ErrOtherMode) {
			err = fmt.Errorf("write %s anew: %w", path, err)
		}
		return nil, err
	}
	if _, err := verify(ctx, made); ctx.Err() != nil {
		return nil, fmt.Errorf("write %s anew: %w", path, ctx.Err())
	} else if err != nil {
		return nil, fmt.Errorf("the rebuilt ledger is not sound, and the old one was left as it is: %w", err)
	}
	if err := r.takeOver(made); err != nil {
		return nil, fmt.Errorf("give the rebuilt ledger the old one's owner and mode: %w", err)
	}
	if err := source.isAt(path); err != nil {
		return nil, err
	}
	r.done.Kept = filepath.Join(opts.Dir, "ledger-"+time.Now().UTC().Format(oldTime)+".db.old")
	if err := source.keepAs(r.done.Kept); err != nil {
		return nil, fmt.Errorf("keep the old ledger: %w", err)
	}
	if err := os.Rename(made, path); err != nil {
		return nil, errors.Join(fmt.Errorf("put the rebuilt ledger in its place: %w", err), os.Remove(r.done.Kept))
	}
	return &r.done, syncDir(opts.Dir)
}

// takeOver gives the new file the owner and the mode of the old one: root rebuilds the ledger of a
// service that is not root. It notes how large both are.
func (r *rebuild) takeOver(made string) error {
	old, err := r.source.file.Stat()
	if err != nil {
		return err
	}
	info, err := os.Stat(made)
	if err != nil {
		return err
	}
	r.done.OldBytes, r.done.NewBytes = old.Size(), info.Size()
	if err := os.Chmod(made, old.Mode().Perm()); err != nil {
		return err
	}
	if stat, ok := old.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		return os.Chown(made, int(stat.Uid), int(stat.Gid))
	}
	return nil
}

// keepAs gives the ledger's file another name, too. Where the file system has no hard links it is
// copied: a rename would leave a moment without a ledger, and a process that starts then makes an
// empty one.
func (l *Ledger) keepAs(name string) error {
	err := os.Link(l.path, name)
	if err == nil || !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return Save(name, l.copyFile, nil)
}

// copyFile copies the file byte for byte, without the space behind its last page. Nobody may be
// writing to it.
func (l *Ledger) copyFile(w io.Writer) error {
	size, err := l.used()
	if err == nil {
		_, err = io.Copy(w, io.NewSectionReader(l.file, 0, size))
	}
	return err
}

// used returns how many bytes of the file its pages take.
func (l *Ledger) used() (int64, error) {
	newest, err := l.newestMeta()
	if err == nil && newest == nil {
		err = fmt.Errorf("%w: neither of its meta pages is sound", ErrCorrupt)
	}
	if err != nil {
		return 0, err
	}
	return int64(newest.pages * newest.pageSize), nil
}

// rebuild is one under way.
type rebuild struct {
	source   *Ledger
	opts     Options
	decode   bool
	livemode bool
	id       string // of the ledger
	received int64  // of the row before
	// usable are rows in quarantine that the decoder can use and that no row read so far refers to.
	usable  map[uint64]bool
	hot     hotPayments
	due     due  // bodies that are older than they are kept
	changed bool // a row says something else now that its body was decoded again
	done    RebuildResult
}

// write makes the new file and returns its name.
func (r *rebuild) write(ctx context.Context) (made string, err error) {
	err = r.source.viewFile(func(file *bolt.Tx) error {
		from := inPlace(file) // nothing is read of it that could be fresh
		if r.done.Schema, err = readVersion(from); err != nil {
			return err
		}
		if r.livemode, err = readMode(from); err != nil {
			return err
		}
		r.id = readID(from)
		if r.done.Schema < schemaVersion {
			if r.opts.Decode == nil {
				return errOlder
			}
			r.decode = true // the decoder of an older schema may have stored less of what bodies state
		}
		if r.livemode != r.opts.Livemode {
			return otherMode(r.done.Path, r.livemode)
		}
		if r.done.Schema < schemaVersion && r.opts.BackupDir != "" {
			if r.done.Backup, err = r.backup(ctx); err != nil {
				return err
			}
		}
		draft, err := makeEmpty(r.opts.Dir, r.livemode)
		if err != nil {
			return err
		}
		defer os.Remove(draft)
		// Nobody has seen the file yet, and it is not kept.
		db, err := bolt.Open(draft, 0o600, &bolt.Options{Timeout: time.Millisecond, NoSync: true, NoGrowSync: true, NoFreelistSync: true, InitialMmapSize: mapSize})
		if err != nil {
			return err
		}
		seen, wall := r.retentionTime(from)
		r.due = due{before: seen.Add(-r.opts.Retention).UnixMilli(), wall: wall.UnixMilli()}
		err = db.Update(func(tx *bolt.Tx) error {
			to := inPlace(tx)
			if r.id != noID { // else the id that the new file was made with stands
				if err := put(to, bucketMeta, metaID, []byte(r.id)); err != nil {
					return err
				}
			}
			if ms, e := readMark(from, retentionMark); e == nil && ms != 0 {
				return putMark(to, retentionMark, ms)
			}
			return nil
		})
		if err == nil {
			err = r.rows(ctx, from, db)
		}
		if err == nil {
			made, err = compact(ctx, db, r.opts.Dir)
		}
		return errors.Join(err, db.Close())
	})
	return made, err
}

// rows writes every row of the old file to the new one, in order.
func (r *rebuild) rows(ctx context.Context, from *txn, to *bolt.DB) error {
	bucket := from.Bucket(bucketEvents)
	if bucket == nil || from.Bucket(bucketBodies) == nil {
		return fmt.Errorf("%w: its events are missing", ErrSchema)
	}
	cursor := bucket.Cursor()
	newest, _ := cursor.Last()
	key, stored := cursor.First()
	sum, next := counts{}, uint64(1)
	for whole := false; !whole; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := to.Update(func(tx *bolt.Tx) error {
			b := r.booking(tx, sum, next-1)
			for range rebuildStep {
				if whole = key == nil; whole {
					break
				}
				if len(key) != 8 || seqOf(key) != next {
					return fmt.Errorf("%w: event row %d is missing", ErrCorrupt, next)
				}
				if err := r.row(b, from, next, stored); err != nil {
					return fmt.Errorf("event row %d: %w", next, err)
				}
				key, stored = cursor.Next()
				next++
			}
			sum = b.counts
			if whole {
				if err := r.keepDecoded(b.tx, from, next-1); err != nil {
					return err
				}
			}
			return b.writeSums()
		})
		if err != nil {
			return err
		}
		if r.opts.Rebuilding != nil && len(newest) == 8 {
			r.opts.Rebuilding(next-1, seqOf(newest))
		}
	}
	last := next - 1
	for seqs := range slices.Chunk(slices.Sorted(maps.Keys(r.usable)), rebuildStep) {
		err := to.Update(func(tx *bolt.Tx) error {
			b := r.booking(tx, sum, last)
			for _, seq := range seqs {
				if err := r.release(b, from, seq); err != nil {
					return fmt.Errorf("event row %d: %w", seq, err)
				}
			}
			sum, last = b.counts, b.last
			return b.writeSums()
		})
		if err != nil {
			return err
		}
	}
	r.done.Events = last
	for _, n := range sum.statuses {
		r.done.Payments += n
	}
	return nil
}

// booking begins a transaction on the new file, behind its last row.
func (r *rebuild) booking(tx *bolt.Tx, sum counts, last uint64) *booking {
	tx.Bucket(bucketEvents).FillPercent, tx.Bucket(bucketBodies).FillPercent = 1, 1 // they are only ever appended to
	return &booking{tx: inPlace(tx), counts: sum, last: last, livemode: r.livemode, bodies: r.source.bodies, hot: &r.hot}
}

// keepDecoded stores up to which row a rebuild last decoded bodies and read something else in them:
// exports of the past say so.
func (r *rebuild) keepDecoded(to, from *txn, last uint64) error {
	decoded, err := readDecoded(from)
	if err != nil {
		return err
	}
	if r.changed {
		decoded = last
	}
	if decoded == 0 {
		return nil
	}
	return writeDecoded(to, decoded)
}

// row writes one row.
func (r *rebuild) row(b *booking, from *txn, seq uint64, stored []byte) error {
	old, err := r.read(seq, stored)
	kept, bodyErr := get(from, bucketBodies, seqKey(seq))
	body := kept
	if bodyErr == nil {
		body, bodyErr = readBody(from, seq)
	}
	switch {
	case err != nil && (bodyErr != nil || body == nil || r.opts.Decode == nil):
		return fmt.Errorf("%w; nor is there a sound body to make it from again: restore a copy of the ledger", err)
	case err != nil:
		raw, rawErr := r.source.bodies.decode(body)
		if rawErr != nil {
			return fmt.Errorf("%w; its body: %w", err, rawErr)
		}
		if old, err = r.again(b, from, seq, raw, rowOfBody(kept)); err != nil {
			return err
		}
		r.done.Mended++
	case bodyErr != nil:
		return fmt.Errorf("its body: %w", bodyErr)
	case body == nil && r.decode:
		if old.outcome != Quarantined { // else it left quarantine, and its new row counts
			r.done.Gone++
		}
	case body != nil && r.decode:
		raw, err := r.source.bodies.decode(body)
		if err != nil {
			return fmt.Errorf("its body: %w", err)
		}
		counted := r.done
		if r.reread(old, seq, raw); rowOfBody(kept) != 0 { // the body counted with the row that it is stored with
			r.done = counted
		}
	}
	r.received = old.received
	delete(r.usable, old.released)
	var entry *quarantineEntry
	if old.outcome == Quarantined {
		if entry, err = r.entry(b, from, seq, old, body); err != nil {
			return err
		}
	}
	return r.put(b, old, seq, bytes.Clone(kept), entry)
}

// retentionTime returns the time by which bodies are deleted, and this machine's: see
// [retentionTime].
func (r *rebuild) retentionTime(from *txn) (seen, wall time.Time) {
	wall = time.Now()
	if r.opts.Now != nil {
		wall = r.opts.Now()
	}
	if seen = timeSeen(from, wall); seen.After(wall) {
		seen = wall
	}
	return seen, wall
}

// put writes a row to the new file, without its body if that is older than bodies are kept.
func (r *rebuild) put(b *booking, row *row, seq uint64, body []byte, entry *quarantineEntry) error {
	if r.opts.Retention > 0 && body != nil && row.expires() && r.due.has(row) {
		body = nil
		r.done.Expired++
		if row.released != 0 {
			if err := remove(b.tx, bucketBodies, seqKey(row.released)); err != nil {
				return err
			}
		}
	}
	return b.restore(row, seq, body, entry)
}

// entry makes the entry in quarantine of a row that lies there, or did until a later row.
func (r *rebuild) entry(b *booking, from *txn, seq uint64, row *row, body []byte) (*quarantineEntry, error) {
	had, _ := readQuarantineEntry(from, seq) // a damaged one is made anew
	expected, snapshot := false, ""
	switch {
	case r.opts.Decode != nil && body != nil && (had == nil || r.decode):
		raw, err := r.source.bodies.decode(body)
		if err != nil {
			return nil, fmt.Errorf("its body: %w", err)
		}
		e := r.opts.Decode(raw)
		expected, snapshot = e.Expected, e.Snapshot
	case had != nil:
		expected, snapshot = had.state == Expected, had.awaits
	}
	entry, err := newQuarantineEntry(b.tx, row.id, row.livemode, expected, snapshot)
	if err == nil && had != nil && had.state == Dismissed {
		entry.state = Dismissed
	}
	return entry, err
}

// release books an event in quarantine, which the decoder can use, in a new row behind all others.
func (r *rebuild) release(b *booking, from *txn, seq uint64) error {
	old, err := readRow(b.tx, seq)
	if err != nil {
		return err
	}
	body, err := readBody(from, seq)
	if err != nil {
		return err
	}
	raw, err := r.source.bodies.decode(body)
	if err != nil {
		return err
	}
	made := *old
	made.outcome, made.reason, made.released, made.repeats = Recorded, "", seq, 0
	made.restates(r.opts.Decode(raw))
	r.done.Released++
	return r.put(b, &made, b.last+1, bodyOf(seq), nil)
}

// restates replaces what a row says of its body.
func (r *row) restates(e *Event) {
	r.typ, r.created, r.apiVersion, r.facts = e.Type, e.Created, e.APIVersion, e.Facts
	// They may have been known by the way the event was read.
	r.account, r.context = cmp.Or(e.Account, r.account), cmp.Or(e.Context, r.context)
}

// read decodes a row of the old file.
func (r *rebuild) read(seq uint64, stored []byte) (*row, error) {
	value, err := unseal(bucketEvents, seqKey(seq), stored)
	if err != nil {
		return nil, err
	}
	return rowDecoders[r.done.Schema](value)
}

// reread replaces what a row says of its body by what the body says to the present decoder. What
// that cannot use stays as it was. A row in quarantine stays there; what can be used of those gets
// a new row at the end.
func (r *rebuild) reread(old *row, seq uint64, raw []byte) {
	if r.opts.Decode == nil {
		return
	}
	e := r.opts.Decode(raw)
	switch {
	case e.ID == old.id && e.Livemode == old.livemode && e.Quarantine != "" && old.outcome == Quarantined:
		r.done.Decoded++ // it stays there
		return
	case e.Quarantine != "" || e.ID != old.id || e.Livemode != old.livemode || e.Facts.Check() != nil:
		r.done.Unusable++
		return
	}
	r.done.Decoded++
	if old.outcome == Quarantined {
		r.usable[seq] = true
		return
	}
	before := old.encode()
	if old.restates(e); !bytes.Equal(old.encode(), before) {
		r.changed = true
	}
}

// again makes a row that is lost from its body, which it has from the row other if that is not 0.
// When it came is not in there: no earlier than the row before.
func (r *rebuild) again(b *booking, from *txn, seq uint64, raw []byte, other uint64) (*row, error) {
	e := r.opts.Decode(raw)
	source := Webhook
	if strings.HasPrefix(e.ID, FetchedPrefix) {
		source = Fetch
	}
	made := &row{
		id: e.ID, typ: e.Type, account: e.Account, context: e.Context, livemode: e.Livemode, created: e.Created, received: max(r.received, e.Created*1000),
		apiVersion: e.APIVersion, source: source, size: uint64(len(raw)), reason: e.Quarantine, facts: e.Facts, outcome: Recorded,
	}
	if made.reason == "" && r.releasedLater(from, seq) {
		made.reason = Undecodable // or another one, which is lost
	}
	if made.reason != "" {
		made.outcome, made.facts = Quarantined, Facts{}
	}
	if other == 0 { // it may be the usable form of an event that lay in quarantine
		had, known, err := lookupID(b.tx, e.Livemode, e.ID)
		if err != nil {
			return nil, err
		}
		if known {
			before, err := readRow(b.tx, had)
			if err != nil {
				return nil, err
			}
			if before.outcome == Quarantined {
				other = had
			}
		}
	}
	made.released = other
	return made, nil
}

// releasedLater reports whether a row of the old file refers to that one as the one in which its
// event lay in quarantine.
func (r *rebuild) releasedLater(from *txn, seq uint64) bool {
	c := from.Bucket(bucketEvents).Cursor()
	for key, stored := c.Seek(seqKey(seq + 1)); key != nil; key, stored = c.Next() {
		if len(key) != 8 {
			continue
		}
		if later, err := r.read(seqOf(key), stored); err == nil && later.released == seq {
			return true
		}
	}
	return false
}

// restore writes a row that has been in a ledger before. What came of it when it arrived stands, unless it is
// about a payment only now, or no longer. entry is nil unless it lies in quarantine.
func (b *booking) restore(r *row, seq uint64, body []byte, entry *quarantineEntry) (err error) {
	var c consequences
	var old *row
	if r.released != 0 {
		if old, err = readRow(b.tx, r.released); err != nil {
			return err
		}
		if old.outcome != Quarantined || old.id != r.id || old.livemode != r.livemode {
			return fmt.Errorf("%w: it refers to row %d, which is not the same event in quarantine", ErrCorrupt, r.released)
		}
	}
	if r.outcome != Quarantined && r.facts.PaymentID() != "" {
		if c, err = b.follow(r, seq); err != nil {
			return err
		}
		if r.outcome == Recorded {
			r.outcome = outcome(c.changes)
		}
	} else if r.outcome != Quarantined {
		r.outcome = Recorded
	}
	a, err := b.planQuarantine(r, old, entry)
	if err != nil {
		return err
	}
	return b.record(r, seq, body, old, &a, &c)
}
