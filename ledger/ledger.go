// Package ledger keeps what Stripe said, and what follows from it, in one bbolt file.
//
// Its nouns: an [Event] is one verified delivery, written down once; its [Facts] are what it
// states about a payment; a [Payment] is the fold of all facts about it. [Ledger.Append] is the
// one door in, for whoever brings events. Reading is by page and hands out copies.
//
// # On disk
//
// One file, ledger.db, mode 0600, in a folder of mode 0700. Buckets (schema.go holds the codecs):
//
//	meta            schema version, mode, id, running counts; and the thin events that wait for their snapshot event (quarantine.go)
//	events          sequence          -> envelope, outcome and facts of an event, in arrival order
//	bodies          sequence          -> the raw body, packed, or the row that has it; apart, so that it can be deleted alone
//	ids             livemode, id      -> sequence; of an event that left quarantine, that of its new row
//	payments        payment id        -> the folded state, and the sequences of the events it was folded from
//	payments_time   created, id       -> nothing: the order in which payments are listed
//	links           other id          -> targets: an event named both; a target is its PaymentIntent, else its charge
//	entries         time, payment     -> what the payment moved in that second, by currency
//	totals          day, currency, account -> what came and went on that day, in UTC; and on all days
//	quarantine      sequence          -> state of an event that lies in quarantine now
//	fresh           record            -> what a commit wrote under ids, on its way to its places (fresh.go)
//
// Sequences start at 1 and have no gaps. Every value ends in a CRC-32C over its key and itself,
// because bbolt checks only its two meta pages.
//
// # Dangers
//
//   - bbolt shows a commit to readers before its last sync has returned, so what a reader sees may
//     still be lost. Append answers "known" only for what is on disk.
//   - A failed commit may be on disk or not. See mend.go for how the file is made trustworthy.
//   - A reader that keeps a transaction open stops pages from being reused. Every query here is short.
//
// The package knows nothing of HTTP, of Stripe's JSON or of metrics, and never logs.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Errors of opening.
var (
	// ErrNotFound: the folder holds no ledger and the caller may not make one; or no row has that id.
	ErrNotFound = errors.New("not found")
	// ErrLocked: another process has the ledger open. bbolt lets one process in.
	ErrLocked = errors.New("the ledger is held by another process")
	// ErrOtherMode: the ledger was bound to the other mode by its first start.
	ErrOtherMode = errors.New("the ledger belongs to the other mode")
	// ErrMissing: a receiver lost the ledger while it ran, and an empty one must not take its place
	// unasked.
	ErrMissing = errors.New("the ledger is missing")
	// ErrSchema: the file was written by a newer version, or is no ledger at all.
	ErrSchema = errors.New("the file is not a ledger this version can read")
)

// Errors of writing and reading.
var (
	// ErrUnavailable: the event is not durably written; whether it is written at all is unknown.
	// The sender should try again: an event that did get in is then known.
	ErrUnavailable = errors.New("the ledger is not available")
	// ErrOverloaded: too much is waiting for the disk already; nothing was written.
	ErrOverloaded = errors.New("too many events are waiting for the disk")
	// ErrClosed: the ledger is closing; nothing was written.
	ErrClosed = errors.New("the ledger is closed")
	// ErrReadOnly: the ledger was opened for reading.
	ErrReadOnly = errors.New("the ledger is open for reading only")
	// ErrCorrupt: a stored value does not match its checksum or cannot be read.
	ErrCorrupt = errors.New("a stored value is damaged")
	// ErrGone: the event is known, its raw body is no longer kept.
	ErrGone = errors.New("the body is no longer kept")
	// ErrOtherID: a body that is decoded again names another event than it did when it came.
	ErrOtherID = errors.New("the body names another event")
	// ErrCursor: a page was asked for after a row that does not exist, or by what is no cursor of
	// the list.
	ErrCursor = errors.New("no such place in the list")
)

// fileName is the ledger inside its folder.
const fileName = "ledger.db"

// mapSize is the address space set aside for the file. bbolt can grow its map only while no reader
// holds a transaction; a map that never grows never waits for one. It costs no memory, and fits
// the 39 bit address space of small arm64 kernels.
const mapSize = 256 << 30

// Options say where a ledger lies and what it may hold.
type Options struct {
	// Dir is the folder; it is made with mode 0700 where it does not exist.
	Dir string
	// Livemode is the mode the ledger is bound to by its first opening, and must have at any later one.
	Livemode bool
	// Decode reads a body as the receiver does, for what is to be decoded again; nil where nothing is.
	Decode func(raw []byte) *Event
	// Decoder names the version of Decode. A start with another one tries what lies in quarantine again.
	Decoder string
	// Released, if set, is called for every event that leaves quarantine without being delivered again.
	Released func(e *Event, res Result)
	// Expired, if set, is told how many bodies retention deleted: once it has deleted all that were due, and every minute before.
	Expired func(bodies int)
	// ClockJumped, if set, is called when this machine's clock gets far ahead of the time by which
	// bodies are deleted, once each time: it has jumped, or the receiver was off for long. See
	// [Ledger.RetentionLag].
	ClockJumped func(ahead time.Duration)
	// Rebuilding, if set, is called as a rebuild goes on, with how many of the old file's rows have
	// been written to the new one.
	Rebuilding func(rows, of uint64)
	// Now, if set, takes the place of this machine's clock.
	Now func() time.Time
	// LookEvery is how often the committer looks at the file when nothing is to be written; 0
	// stands for 2 seconds.
	LookEvery time.Duration
	// Retention is how long bodies are kept by a rebuild; 0 keeps all. See [Ledger.KeepBodies].
	Retention time.Duration
	// BackupDir is where a copy of a file of an older schema is put before it is brought up to date; empty for none.
	BackupDir string
	// BackupKeep is how many of those copies are kept; 0 keeps all.
	BackupKeep int
	// Observe, if set, is called by the writing goroutine after every commit, failed or not, and after
	// every try to get going again after a failed one. It must not block.
	Observe func(CommitStats)
}

// CommitStats tells what one commit took.
type CommitStats struct {
	Events   int           // how many deliveries it answered, repeats included; 0 for a try to get going again
	Duration time.Duration // from the beginning of the transaction to the end of its last sync
	Err      error         // nil if both syncs succeeded
}

// Ledger is an open ledger. Its methods may be called from any goroutine.
type Ledger struct {
	// Migrated tells what Open did to bring an older file up to date; nil if it was.
	Migrated *RebuildResult
	// Created reports that there was no ledger, and that Open made an empty one.
	Created bool

	opts     Options
	path     string
	db       *bolt.DB
	folder   *os.File // holds the data folder's lock; nil for a reader, and where folders cannot be locked
	file     *os.File // the handle bbolt writes through, for making the file trustworthy after a failed commit
	pageSize int64    // asking bbolt for it later reads the file, which may have been cut short
	livemode bool
	id       string // what tells its copies from those of others
	readOnly bool
	bodies   *bodyCodec

	fresh       freshness // the committer's own
	hot         hotPayments
	heavy       []*pending // that wait besides those in the queue; the committer's own
	versions    atomic.Pointer[[]version]
	together    atomic.Pointer[together]
	unsettled   unsettled // what a failed commit left; the committer's own
	size        int64     // of the file before the batch under way; the committer's own
	spoiled     fileState // what became of the file's contents while it was open; the committer's own
	rescue      rescue    // the committer's own
	room        *room     // on the ledger's disk
	flushAt     time.Time // when counted repeats are to be written; zero if none wait; the committer's own
	queue       chan *pending
	queuedBytes atomic.Int64
	turn        chan time.Time // of slices of long reads; see slice
	bounds      readBounds
	wake        chan struct{} // tells the committer that it cannot go on
	round       chan struct{} // takes one each time the committer is asked whether it has come round
	stopped     chan struct{} // closed when Run has returned
	running     atomic.Bool
	locked      atomic.Bool // bbolt holds locks of its own for good; see lock

	durableSeq atomic.Uint64 // every row up to here is on disk
	durableTx  atomic.Uint64 // and so is every transaction up to here
	failure    atomic.Pointer[failure]
	damage     atomic.Pointer[damage] // nil where the last event met none
	began      atomic.Int64           // unix nanoseconds at which the commit under way began, 0 if there is none
	lastCommit atomic.Int64           // unix nanoseconds of the last commit that succeeded
	counts     atomic.Pointer[counts]
	lastEvent  atomic.Pointer[delivery] // the newest event that was delivered, nil for none

	retention    retentionTime // KeepBodies' own, once the ledger is open
	retentionLag atomic.Int64  // see RetentionLag; at the last look
	retentionAt  atomic.Int64  // the time to delete by at the last look, Unix nanoseconds

	mu      sync.Mutex        // guards repeats
	repeats map[uint64]uint64 // deliveries of known events not yet written to their rows
}

// Open is [OpenContext] without an end.
func Open(opts Options) (*Ledger, error) { return OpenContext(context.Background(), opts) }

// OpenContext opens the ledger in opts.Dir for writing and makes an empty one if there is none. It
// returns [ErrLocked] if another process holds the lock of the folder or of the file for longer than
// an instant, and [ErrMissing] if a receiver lost the ledger of that folder. Nothing is written
// until [Ledger.Run] runs, except that a file of an older schema is rewritten; ctx ends that and
// leaves the old file as it is. The caller closes the ledger.
func OpenContext(ctx context.Context, opts Options) (_ *Ledger, err error) {
	folder, err := lockFolder(opts.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlockFolder(folder)
		}
	}()
	path := filepath.Join(opts.Dir, fileName)
	there, err := exists(path)
	if err != nil {
		return nil, fmt.Errorf("look for the ledger: %w", err)
	}
	if !there {
		if err := refuseIfMissing(path); err != nil {
			return nil, err
		}
		if err := create(opts.Dir, opts.Livemode); err != nil {
			return nil, err
		}
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
	l.opts, l.Migrated, l.Created, l.folder = opts, migrated, !there, folder
	if l.livemode != opts.Livemode {
		return nil, errors.Join(otherMode(path, l.livemode), l.Close())
	}
	if err := l.view(func(tx *txn) error { l.retention.begin(tx, l.wall()); return nil }); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	clearMissing(path)
	return l, nil
}

// otherMode refuses a ledger of the mode that the configuration does not say.
func otherMode(path string, livemode bool) error {
	have, want := ModeName(livemode), ModeName(!livemode)
	return fmt.Errorf("%w: %s holds %s mode payments, the configuration says %s; set TILLHOOK_DATA_DIR to another folder for %s mode",
		ErrOtherMode, path, have, want, want)
}

// OpenReadOnly opens an existing ledger beside nobody: bbolt's lock keeps it from a file that a
// receiver holds ([ErrLocked]), and it never makes one ([ErrNotFound]).
func OpenReadOnly(dir string) (*Ledger, error) {
	path := filepath.Join(dir, fileName)
	there, err := exists(path)
	if err != nil {
		return nil, fmt.Errorf("look for the ledger: %w", err)
	}
	if !there {
		return nil, fmt.Errorf("%w: no ledger at %s", ErrNotFound, path)
	}
	return open(path, true)
}

// openFile opens a file of any schema, and believes nothing in it yet.
func openFile(path string, readOnly bool) (_ *Ledger, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err := inspect(path); err != nil {
		return nil, err
	}
	l := &Ledger{
		path:     path,
		room:     &room{path: path},
		readOnly: readOnly,
		queue:    make(chan *pending, maxQueued),
		wake:     make(chan struct{}, 1),
		round:    make(chan struct{}),
		turn:     make(chan time.Time, 1),
		bounds:   usualBounds,
		stopped:  make(chan struct{}),
		repeats:  map[uint64]uint64{},
	}
	l.turn <- time.Time{}
	defer func() {
		if err != nil && l.file != nil {
			_ = unlockAndClose(l.file) // bbolt leaves it open and locked where it panics
		}
	}()
	defer damaged(&err)
	if err := whileHeld(l.openDB); err != nil {
		return nil, err
	}
	// bbolt opens a file and then waits for its lock: meanwhile a rebuild may have put another one
	// in its place.
	if err := l.isAt(path); err != nil {
		return nil, errors.Join(err, l.closeFile())
	}
	if l.bodies, err = newBodyCodec(); err != nil {
		return nil, errors.Join(err, l.closeFile())
	}
	return l, nil
}

// openDB has bbolt open the file and take its lock.
func (l *Ledger) openDB() error {
	l.file = nil
	db, err := bolt.Open(l.path, 0o600, &bolt.Options{
		Timeout:         time.Millisecond, // one try
		ReadOnly:        l.readOnly,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mapSize,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			// Open has made the file; bbolt must not make another one.
			f, err := os.OpenFile(name, flag&^os.O_CREATE, perm)
			if l.file == nil {
				l.file = f
			}
			return f, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: %s", ErrLocked, l.path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return fmt.Errorf("%w: %s: %w", ErrSchema, l.path, err)
	case err != nil:
		return opening(l.path, err)
	}
	l.db, l.pageSize = db, int64(db.Info().PageSize)
	return nil
}

// isAt demands that the open file is the one that bears the name.
func (l *Ledger) isAt(path string) error {
	here, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the open ledger: %w", err)
	}
	there, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look for the ledger: %w", err)
	}
	if !os.SameFile(here, there) {
		return fmt.Errorf("%w: %s was put in place just now; try again", ErrLocked, path)
	}
	return nil
}

// open opens a file of the present schema.
func open(path string, readOnly bool) (_ *Ledger, err error) {
	l, err := openFile(path, readOnly)
	if err != nil {
		return nil, err
	}
	if !readOnly {
		err = l.settle()
	}
	if err == nil {
		err = l.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), l.Close())
	}
	return l, nil
}

// load reads what the ledger keeps in memory from the file: mode, counts and the last sequence.
// All that a reader sees counts as durable afterwards: a writer calls it only on a settled file.
func (l *Ledger) load() error {
	if !l.readOnly {
		if err := l.countFree(); err != nil {
			return err
		}
	}
	return l.viewFile(func(file *bolt.Tx) error {
		tx := inPlace(file) // meta and rows are never fresh
		livemode, err := readMeta(tx)
		if err != nil {
			return err
		}
		if err := l.fresh.load(file); err != nil {
			return fmt.Errorf("%w, on its way to its place: tillhook rebuild makes it anew from the events, which are in theirs", err)
		}
		l.fresh.tx = uint64(file.ID())
		l.versions.Store(&[]version{l.fresh.version()})
		l.together.Store(nil)
		if l.counts.Load() == nil { // the first time; readers look at it from then on
			l.livemode, l.id = livemode, readID(tx)
		}
		c, err := readCounts(tx)
		if err != nil {
			return err
		}
		l.counts.Store(c)
		l.lastEvent.Store(lastDelivery(tx))
		l.durableSeq.Store(lastRow(tx))
		l.durableTx.Store(uint64(tx.ID()))
		return nil
	})
}

// countFree has bbolt count its free pages, which it does at the end of a writing transaction, even of
// one that wrote nothing.
func (l *Ledger) countFree() (err error) {
	begun := false
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { l.lock(begun, err) }()
	defer damaged(&err)
	tx, err := l.db.Begin(true)
	begun = true
	if err != nil {
		return err
	}
	return tx.Rollback()
}

// viewFile reads in one transaction. bbolt panics on a page that is damaged in its header, and the process
// faults on one that cannot be read from the disk or was cut off; here that is [ErrCorrupt] like any other damage.
func (l *Ledger) viewFile(read func(tx *bolt.Tx) error) (err error) {
	if f := l.failure.Load(); f != nil && f.unreadable {
		return f.err
	}
	begun := false
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { l.lock(begun, err) }()
	defer damaged(&err)
	return l.db.View(func(tx *bolt.Tx) error {
		begun = true
		return read(tx)
	})
}

// view is viewFile with what is fresh.
func (l *Ledger) view(read func(tx *txn) error) error {
	return l.viewFile(func(file *bolt.Tx) error {
		tx, err := l.seen(file)
		if err != nil {
			return err
		}
		return read(tx)
	})
}

// lock tells that bbolt panicked while it began a transaction, if it did. It then holds locks of its own
// that nobody will release: every further call would wait for ever. Run ends, and Close leaves bbolt alone.
func (l *Ledger) lock(begun bool, err error) {
	if begun || !errors.Is(err, ErrCorrupt) || l.readOnly {
		return
	}
	l.locked.Store(true)
	l.failure.Store(&failure{err: fmt.Errorf("%w: %w: %w", ErrUnavailable, errPanic, err), final: true})
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// damaged turns a panic of bbolt's into an error.
func damaged(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", ErrCorrupt, r)
	}
}

// Close releases the file. Run must have returned. Appends that come later fail.
func (l *Ledger) Close() error {
	if l.running.Load() {
		select {
		case <-l.stopped:
		default:
			return errors.New("close the ledger: its committer is still running")
		}
	}
	defer unlockFolder(l.folder)
	if l.locked.Load() {
		return unlockAndClose(l.file)
	}
	return l.closeFile()
}

// closeFile closes the file and releases its lock. bbolt waits for open transactions, and then
// unlocks only a file that is open for writing.
func (l *Ledger) closeFile() error {
	if l.readOnly {
		kept, err := duplicate(l.file)
		if err != nil {
			return errors.Join(fmt.Errorf("close the ledger: %w", err), l.db.Close())
		}
		defer func() { _ = unlockAndClose(kept) }() // it was only read
	}
	if err := l.db.Close(); err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// ReadOnly tells that nobody writes the ledger while it is open: reading may take as long as it likes.
func (l *Ledger) ReadOnly() bool { return l.readOnly }

// Path is where the ledger of a data folder lies.
func Path(dir string) string { return filepath.Join(dir, fileName) }

// Livemode is the mode the ledger is bound to.
func (l *Ledger) Livemode() bool { return l.livemode }

// Path is where the file lies.
func (l *Ledger) Path() string { return l.path }

// ModeName is Stripe's word for a mode: "live" or "test".
func ModeName(livemode bool) string {
	if livemode {
		return "live"
	}
	return "test"
}
