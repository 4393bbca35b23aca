// Package ledger stores the events that Stripe sends, and the payments that follow from them, in
// one file.
//
// An [Event] is one verified event, stored once. Its [Facts] are the statements that it makes about
// a payment, and a [Payment] is the fold of all facts about it (package fold). [Ledger.Append] is
// the only way to add an event, whatever its source. Queries return pages and copies.
//
// # The way of an event
//
// [Ledger.Append] compresses the body and queues the event (append.go, queue.go). The committer,
// which is one goroutine in [Ledger.Run], takes up to 2,048 queued events, but only one of those
// with more than 256 objects (committer.go, queue.go). It answers repeats of durable events at
// once. It posts the others in one transaction: package posting plans an event, which reads
// everything and can fail for that event only, and then applies it, which writes its row, its body,
// its payment and all that depends on them. Package store makes the transaction durable. Then the
// committer publishes the new state for readers and answers each Append. There is no timer: while
// one commit syncs, the events of the next one queue.
//
// # How a failed commit is recovered
//
// If a write or a sync fails, it is unknown what is on disk: the page cache may show a transaction
// that the disk lost. The committer answers the batch with [ErrUnavailable] and refuses all further
// events. Once a second it lets the store make the file trustworthy (store.Recover), reads the
// state again from it, and proves with an empty commit that it can be written. Then it accepts
// events. Senders retry, and what had become durable is a repeat. A failure that needs the file to
// be opened again ends Run.
//
// # Packages
//
//	store      ordered keys and values with transactions in one file; knows no payments
//	fold       facts -> payment, movements of money, timeline; pure
//	schema     what is stored, under which keys and in which form
//	posting    writes into a transaction what follows from an event
//	scan       reads the ledger in short transactions
//	check      verifies a ledger
//	rebuild    writes a ledger anew from its events
//	retention  which bodies are older than the retention period
//	backup     the copies in a directory
//	export     writes payments and movements of money as CSV or JSON Lines
//	wording    texts for people
//
// Package ledger joins them: it opens a ledger, commits, answers queries, and runs what must happen
// beside events.
//
// # Dangers
//
//   - A reader sees a transaction before it is durable. Append answers that an event is a repeat
//     only if the event is durable.
//   - A failed commit may be on disk or not. The committer accepts no event before it has
//     recovered.
//   - While a read transaction is open, pages are not reused. Every query is short or divided into
//     slices (package scan).
//
// The package does not depend on HTTP, on Stripe's JSON or on metrics, and it never logs.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"tillhook/ledger/posting"
	"tillhook/ledger/rebuild"
	"tillhook/ledger/scan"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Errors that are returned when a ledger is opened.
var (
	// ErrNotFound is returned if the directory contains no ledger and the caller may not create
	// one, or if no row has the given id.
	ErrNotFound = store.ErrNotFound
	// ErrLocked is returned if another process has the ledger open.
	ErrLocked = store.ErrLocked
	// ErrOtherMode is returned if the ledger was created for the other mode.
	ErrOtherMode = schema.ErrOtherMode
	// ErrMissing is returned if a receiver lost the ledger while it was running. An empty ledger
	// must not replace it unless the operator asks for that.
	ErrMissing = store.ErrMissing
	// ErrSchema is returned for a file that a newer version wrote or that is not a ledger.
	ErrSchema = store.ErrFormat
)

// Errors that are returned when a ledger is written or read.
var (
	// ErrUnavailable is returned if the event is not known to be durable; it may have been written
	// or not. The sender should retry. If the event was written, the retry is a repeat.
	ErrUnavailable = store.ErrUnavailable
	// ErrOverloaded is returned if too many events are waiting for the disk. Nothing was written.
	ErrOverloaded = errors.New("too many events are waiting for the disk")
	// ErrClosed is returned if the ledger is closing. Nothing was written.
	ErrClosed = errors.New("the ledger is closed")
	// ErrReadOnly is returned if the ledger was opened for reading only.
	ErrReadOnly = errors.New("the ledger is open for reading only")
	// ErrCorrupt is returned if a stored value does not match its checksum or cannot be decoded.
	ErrCorrupt = store.ErrCorrupt
	// ErrNoSpace is returned if a copy or an export would take disk space that is reserved for
	// events.
	ErrNoSpace = store.ErrNoSpace
	// ErrGone is returned if the event is known but its raw body is no longer stored.
	ErrGone = errors.New("the body is no longer kept")
	// ErrOtherID is returned if decoding a body again gives another event id than before.
	ErrOtherID = errors.New("the body names another event")
	// ErrCursor is returned for a page that starts after a row that does not exist, and for a
	// cursor of another list.
	ErrCursor = errors.New("the cursor is not valid for this list")
)

// FileFault is what happened to the ledger's file while it was open.
type FileFault = store.FileFault

// PathFault is what is wrong at the path of a ledger or of its directory.
type PathFault = store.PathFault

// fileName is the name of the ledger inside its directory.
const fileName = "ledger.db"

// Ledger is an open ledger. Its methods may be called from any goroutine.
type Ledger struct {
	// Migrated is the result of migrating an older file to the current schema. It is nil if Open
	// did not have to.
	Migrated *rebuild.Result
	// Created reports whether Open created an empty ledger.
	Created bool

	*shared
	opts      Options
	store     *store.Store
	lock      *store.DirLock // nil if read-only
	livemode  bool
	id        string // the same in its copies, and in no other ledger
	readOnly  bool
	bodies    *schema.BodyCodec
	committer committer // its fields belong to Run

	reads *scan.Reader

	damage       atomic.Pointer[damage] // nil if the last event met none
	retention    retentionTime          // belongs to RunRetention
	retentionLag atomic.Int64           // as of the last call of retention.now; see RetentionLag
	retentionAt  atomic.Int64           // the retention time of that call, in Unix nanoseconds
}

// Open is [OpenContext] with a context that does not end.
func Open(opts Options) (*Ledger, error) { return OpenContext(context.Background(), opts) }

// OpenContext opens the ledger in opts.Dir for writing, and creates an empty one if the directory
// contains none. It returns [ErrLocked] if another process holds the directory or the file for
// longer than a moment, and [ErrMissing] if a receiver lost the ledger of that directory. No event
// is written until [Ledger.Run] runs. OpenContext itself may create the directory and an empty
// ledger, delete temporary files of earlier processes, sync the meta pages, and rebuild a file of
// an older schema. If ctx ends during the rebuild, the old file remains as it is. The caller must
// close the ledger.
func OpenContext(ctx context.Context, opts Options) (_ *Ledger, err error) {
	path := Path(opts.Dir)
	lock, err := store.LockDir(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Release()
		}
	}()
	created, err := store.Create(path, schema.Layout, func(tx *store.Tx) error { return schema.Initialise(tx, opts.Livemode) })
	if err != nil {
		return nil, err
	}
	l, err := open(path, false)
	var migrated *rebuild.Result
	if errors.Is(err, schema.ErrOlder) && opts.Decode != nil {
		if migrated, err = rebuild.Run(ctx, opts.rebuild(), true); err == nil {
			l, err = open(path, false)
		}
	}
	if err != nil {
		return nil, err
	}
	l.Migrated, l.Created, l.lock = migrated, created, lock
	l.opts, l.committer.observe, l.committer.check = opts, opts.Observe, opts.CheckEvery
	if l.livemode != opts.Livemode {
		return nil, errors.Join(schema.OtherMode(path, l.livemode), l.Close())
	}
	if err := l.store.View(func(tx *store.Tx) error { l.retention.begin(tx, l.wall()); return nil }); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.store.ClearMissing()
	return l, nil
}

// OpenReadOnly opens an existing ledger for reading. It returns [ErrLocked] if a receiver holds the
// ledger, and [ErrNotFound] if the directory contains none.
func OpenReadOnly(dir string) (*Ledger, error) {
	return open(Path(dir), true)
}

// open opens a file of the current schema.
func open(path string, readOnly bool) (*Ledger, error) {
	l := &Ledger{
		shared:   &shared{queue: newQueue(), wake: make(chan struct{}, 1), idle: make(chan struct{})},
		readOnly: readOnly,
	}
	var err error
	if l.bodies, err = schema.NewBodyCodec(); err != nil {
		return nil, err
	}
	l.store, err = store.Open(path, store.Options{
		Layout: schema.Layout, ReadOnly: readOnly, Wedged: l.wedge,
		Check: func(tx *store.Tx) error {
			livemode, err := schema.ReadMeta(tx)
			if l.store == nil { // later, in a recovery, other goroutines read them
				l.livemode, l.id = livemode, schema.ReadID(tx)
			}
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	l.reads = scan.New(l.store, l.busy)
	l.committer = committer{shared: l.shared, store: l.store, poster: posting.NewPoster(l.livemode, l.bodies)}
	if err := l.committer.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), l.store.Close())
	}
	return l, nil
}

// Close releases the file. Run must have returned. Later calls of Append fail.
func (l *Ledger) Close() error {
	if l.running.Load() {
		select {
		case <-l.queue.stopped:
		default:
			return errors.New("close the ledger: its committer is still running")
		}
	}
	defer l.lock.Release()
	return l.store.Close()
}

// ReadOnly reports whether the ledger was opened for reading. No process writes to it then, so a
// read may take any time.
func (l *Ledger) ReadOnly() bool { return l.readOnly }

// Path returns the path of the ledger in a data directory.
func Path(dir string) string { return filepath.Join(dir, fileName) }

// Livemode reports whether the ledger is bound to live mode.
func (l *Ledger) Livemode() bool { return l.livemode }

// Path returns the path of the file.
func (l *Ledger) Path() string { return l.store.Path() }

// idleTime is the time after the last commit from which long reads run without waiting.
const idleTime = time.Second

// busy reports whether events are arriving.
func (l *Ledger) busy() bool {
	return !l.readOnly && (len(l.queue.waiting) > 0 || time.Since(l.published.Load().lastCommit) < idleTime)
}
