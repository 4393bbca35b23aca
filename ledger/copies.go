package ledger

import (
	"context"
	"io"
	"os"

	"tillhook/ledger/check"
	"tillhook/ledger/export"
	"tillhook/ledger/store"
)

// DirState is the state of a data directory as it appears without opening its ledger.
type DirState = store.DirState

// InspectDir returns the state of a data directory. It opens no ledger and writes nothing.
func InspectDir(dir string) (DirState, error) { return store.InspectDir(Path(dir)) }

// Inspect returns why no ledger can be in the file of a directory. It opens no ledger and writes
// nothing. Damage elsewhere than in the first two pages is found only by package check.
func Inspect(dir string) error { return store.Inspect(Path(dir)) }

// IsLocked reports whether another process holds the ledger in a directory.
func IsLocked(dir string) (bool, error) { return store.IsLocked(Path(dir)) }

// CopyTo writes a consistent copy of the ledger to w: a complete file that can be opened. w should
// be a file, because no page is reused until w has taken the whole copy.
func (l *Ledger) CopyTo(w io.Writer) error { return l.store.CopyTo(w) }

// WithCopy calls use with the path of a copy of the ledger and removes the copy afterwards. It
// returns [ErrNoSpace] if the copy would take disk space that is reserved for events.
func (l *Ledger) WithCopy(ctx context.Context, use func(path string) error) error {
	return l.store.WithCopy(ctx, use)
}

// Spool runs fill into an unlinked temporary file in the data directory and returns it rewound, so
// that a slow reader holds a file open and not a read transaction. It returns [ErrNoSpace] before
// it takes disk space that is reserved for events.
func (l *Ledger) Spool(fill func(w io.Writer) error) (*os.File, error) { return l.store.Spool(fill) }

// SpoolCopy returns a copy of the ledger in a temporary file, as [Ledger.Spool] does.
func (l *Ledger) SpoolCopy(ctx context.Context) (*os.File, error) { return l.store.SpoolCopy(ctx) }

// Save calls fill to write a copy of a ledger to a new file of mode 0600, and syncs it. If check is
// not nil, it must accept the file before the file gets its final name. Save never replaces a file.
func Save(path string, fill func(w io.Writer) error, check func(made string) error) error {
	return store.Save(path, fill, check)
}

// ContextWriter returns a writer to w that fails once ctx has ended.
func ContextWriter(ctx context.Context, w io.Writer) io.Writer { return store.ContextWriter(ctx, w) }

// KeepReserve returns a writer to w, a file in the directory dir. The writer returns [ErrNoSpace]
// before it takes disk space that is reserved for the events of a receiver whose data directory is
// dataDir.
func KeepReserve(dataDir, dir string, w io.Writer) io.Writer {
	return store.NewReserve(Path(dataDir)).Writer(dir, w)
}

// NewExport prepares an export of the ledger, which its Write writes. It returns [export.ErrAhead]
// for a sequence that the ledger has not reached.
func (l *Ledger) NewExport(q export.Query) (*export.Export, error) {
	return export.New(l.store, l.reads, l.livemode, l.published.Load().Last, q)
}

// Check verifies the whole ledger, and returns the faults that it finds, joined; see [check.Run].
func (l *Ledger) Check() error { return check.Run(context.Background(), l.store) }
