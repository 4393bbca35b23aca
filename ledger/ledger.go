// Package ledger records what Stripe said, and maintains what follows from it, in one file.
//
// An [Event] is one verified delivery, recorded once; its [Facts] are what it states about a
// payment; a [Payment] is the fold of all facts about it (package fold). [Ledger.Append] is the only
// way in, for every source of events. Queries return pages and copies.
//
// # The way of an event
//
// Append compresses the body and queues the event (queue.go). The committer, one goroutine, takes
// all that waits, answers repeats of durable events, and posts the rest in one transaction of
// package store (committer.go). Posting an event (posting.go) has two phases: plan reads everything
// and may fail for that event only, apply writes the row, the body, the indexes, the payment and the
// totals. When the transaction is durable, the committer publishes the new state and answers.
//
// # On disk
//
// One file, ledger.db, mode 0600, in a directory of mode 0700, with these buckets (schema.go holds
// the keys, row.go and state.go the values):
//
//	meta            schema version, mode, id, running counts, accounts, checkpoints; thin events that wait for their snapshot event
//	events          sequence          -> envelope, outcome and facts of an event, in arrival order
//	bodies          sequence          -> the raw body, compressed, or the row that has it
//	ids             livemode, id      -> sequence; of an event that left quarantine, that of its new row
//	payments        payment id        -> the folded state, and the sequences of the events it was folded from
//	payments_time   created, id       -> empty: the order in which payments are listed
//	links           other id          -> targets: an event named both; a target is its PaymentIntent, else its charge
//	entries         time, payment     -> what the payment moved in that second, by currency
//	lists           payment, kind, id -> an element of a long list of a payment
//	totals          day, currency, account -> the money of that day, in UTC; and of all days
//	quarantine      sequence          -> state of an event that is in quarantine now
//
// Sequences start at 1 and have no gaps.
//
// # Dangers
//
//   - A reader sees a transaction before it is durable. Append answers "known" only for what is.
//   - A failed commit may be on disk or not. No event is taken before the committer has recovered.
//   - A read transaction that stays open stops pages from being reused. Every query here is short, or
//     cut into slices (scan.go).
//
// The package knows nothing of HTTP, of Stripe's JSON or of metrics, and never logs.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"tillhook/ledger/store"
)

// Errors of opening.
var (
	// ErrNotFound is returned where the directory holds no ledger and the caller may not create one, or
	// where no row has an id.
	ErrNotFound = store.ErrNotFound
	// ErrLocked is returned where another process has the ledger open.
	ErrLocked = store.ErrLocked
	// ErrOtherMode is returned where the first start bound the ledger to the other mode.
	ErrOtherMode = errors.New("the ledger belongs to the other mode")
	// ErrMissing is returned where a receiver lost the ledger while it ran, and an empty one must not
	// take its place unasked.
	ErrMissing = store.ErrMissing
	// ErrSchema is returned for a file that a newer version wrote, or that is not a ledger.
	ErrSchema = store.ErrFormat
)

// Errors of writing and reading.
var (
	// ErrUnavailable is returned where the event is not durable; whether it was written is unknown. The
	// sender should retry: an event that was written is then known.
	ErrUnavailable = store.ErrUnavailable
	// ErrOverloaded is returned where too much is waiting for the disk; nothing was written.
	ErrOverloaded = errors.New("too many events are waiting for the disk")
	// ErrClosed is returned where the ledger is closing; nothing was written.
	ErrClosed = errors.New("the ledger is closed")
	// ErrReadOnly is returned where the ledger was opened for reading.
	ErrReadOnly = errors.New("the ledger is open for reading only")
	// ErrCorrupt is returned where a stored value does not match its checksum or cannot be read.
	ErrCorrupt = store.ErrCorrupt
	// ErrNoSpace is returned where a copy or an export would take disk space that is reserved for events.
	ErrNoSpace = store.ErrNoSpace
	// ErrGone is returned where the event is known and its raw body is no longer kept.
	ErrGone = errors.New("the body is no longer kept")
	// ErrOtherID is returned where a body that is decoded again names another event than before.
	ErrOtherID = errors.New("the body names another event")
	// ErrCursor is returned for a page after a row that does not exist, or for a cursor of another list.
	ErrCursor = errors.New("no such place in the list")
)

// FileFault is what happened to the ledger's file while it was open.
type FileFault = store.FileFault

// fileName is the name of the ledger inside its directory.
const fileName = "ledger.db"

// Ledger is an open ledger. Its methods may be called from any goroutine.
type Ledger struct {
	// Migrated is what Open did to bring an older file up to date; nil if it was.
	Migrated *RebuildResult
	// Created reports that Open created an empty ledger.
	Created bool

	*shared
	opts      Options
	store     *store.Store
	lock      *store.DirLock // nil for a reader
	livemode  bool
	id        string // shared by its copies, and by no other ledger
	readOnly  bool
	bodies    *bodyCodec
	committer committer // its fields belong to Run

	turn   chan time.Time // of slices of long reads; see slice
	bounds readBounds

	damage       atomic.Pointer[damage] // nil where the last event met none
	retention    retentionTime          // belongs to RunRetention
	retentionLag atomic.Int64           // see RetentionLag; at the last look
	retentionAt  atomic.Int64           // the time to delete by at the last look, Unix nanoseconds
}

// Open is [OpenContext] without an end.
func Open(opts Options) (*Ledger, error) { return OpenContext(context.Background(), opts) }

// OpenContext opens the ledger in opts.Dir for writing and creates an empty one if there is none. It
// returns [ErrLocked] if another process holds the directory or the file for longer than an instant,
// and [ErrMissing] if a receiver lost the ledger of that directory. Nothing is written until
// [Ledger.Run] runs, except that a file of an older schema is rebuilt; ctx ends that and leaves the
// old file as it is. The caller closes the ledger.
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
	created, err := store.Create(path, layout, func(tx *store.Tx) error { return initialise(tx, opts.Livemode) })
	if err != nil {
		return nil, err
	}
	l, err := open(path, false)
	var migrated *RebuildResult
	if errors.Is(err, errOlder) && opts.Decode != nil {
		if migrated, err = rebuildLocked(ctx, opts, true); err == nil {
			l, err = open(path, false)
		}
	}
	if err != nil {
		return nil, err
	}
	l.Migrated, l.Created, l.lock = migrated, created, lock
	l.opts, l.committer.observe, l.committer.check = opts, opts.Observe, opts.CheckEvery
	if l.livemode != opts.Livemode {
		return nil, errors.Join(otherMode(path, l.livemode), l.Close())
	}
	if err := l.store.View(func(tx *store.Tx) error { l.retention.begin(tx, l.wall()); return nil }); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.store.ClearMissing()
	return l, nil
}

// otherMode returns the error of a ledger of the mode that the configuration does not name.
func otherMode(path string, livemode bool) error {
	have, want := ModeName(livemode), ModeName(!livemode)
	return fmt.Errorf("%w: %s holds %s mode payments, the configuration says %s; set TILLHOOK_DATA_DIR to another folder for %s mode",
		ErrOtherMode, path, have, want, want)
}

// OpenReadOnly opens an existing ledger for reading. It returns [ErrLocked] if a receiver holds it,
// and [ErrNotFound] if there is none.
func OpenReadOnly(dir string) (*Ledger, error) {
	path := Path(dir)
	if err := store.MustExist(path, "no ledger at"); err != nil {
		return nil, err
	}
	return open(path, true)
}

// open opens a file of the present schema.
func open(path string, readOnly bool) (*Ledger, error) {
	l := &Ledger{
		shared:   &shared{queue: newQueue(), wake: make(chan struct{}, 1), idle: make(chan struct{})},
		readOnly: readOnly,
		turn:     make(chan time.Time, 1),
		bounds:   usualBounds,
	}
	l.turn <- time.Time{}
	var err error
	if l.bodies, err = newBodyCodec(); err != nil {
		return nil, err
	}
	l.store, err = store.Open(path, store.Options{
		Layout: layout, ReadOnly: readOnly, Wedged: l.wedge,
		Check: func(tx *store.Tx) (err error) {
			l.livemode, err = readMeta(tx)
			l.id = readID(tx)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	l.committer = committer{shared: l.shared, store: l.store, bodies: l.bodies, livemode: l.livemode}
	if err := l.committer.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), l.store.Close())
	}
	return l, nil
}

// Close releases the file. Run must have returned. Appends that come later fail.
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

// ReadOnly reports that no process writes the ledger while it is open: a read may take as long as it
// likes.
func (l *Ledger) ReadOnly() bool { return l.readOnly }

// Path returns the path of the ledger in a data directory.
func Path(dir string) string { return filepath.Join(dir, fileName) }

// Livemode reports the mode that the ledger is bound to.
func (l *Ledger) Livemode() bool { return l.livemode }

// Path returns the path of the file.
func (l *Ledger) Path() string { return l.store.Path() }

// ModeName returns Stripe's word for a mode: "live" or "test".
func ModeName(livemode bool) string {
	if livemode {
		return "live"
	}
	return "test"
}
