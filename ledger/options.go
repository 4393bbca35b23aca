package ledger

import (
	"time"

	"tillhook/ledger/rebuild"
)

// Options say where a ledger is and what it may hold.
type Options struct {
	// Dir is the directory; it is created with mode 0700 if it does not exist.
	Dir string
	// Livemode is the mode that the first opening binds the ledger to, and every later one must
	// have.
	Livemode bool
	// Decode decodes a body as the receiver does; nil where nothing is decoded again.
	Decode func(raw []byte) *Event
	// Decoder names the version of Decode. A start with another one tries the events in quarantine
	// again.
	Decoder string
	// Released, if set, is called for every event that leaves quarantine without a new delivery.
	Released func(e *Event, res Result)
	// Expired, if set, is called with how many bodies retention deleted: once it has deleted all
	// that were due, and every minute before.
	Expired func(bodies int)
	// ClockJumped, if set, is called when this machine's clock gets far ahead of the time by which
	// bodies are deleted, once each time: it has jumped, or the receiver was off for long. See
	// [Ledger.RetentionLag].
	ClockJumped func(ahead time.Duration)
	// Rebuilding, if set, is called during a rebuild with how many rows of the old file are
	// written.
	Rebuilding func(rows, of uint64)
	// Now, if set, takes the place of this machine's clock.
	Now func() time.Time
	// CheckEvery is how often the committer checks the file while nothing is written; 0 stands for
	// 2 seconds.
	CheckEvery time.Duration
	// Retention is how long bodies are kept by a rebuild; 0 keeps all. See [Ledger.RunRetention].
	Retention time.Duration
	// BackupDir is where a file of an older schema is copied to before it is migrated; empty for no
	// copy.
	BackupDir string
	// BackupKeep is how many of those copies are kept; 0 keeps all.
	BackupKeep int
	// Observe, if set, is called by the committer after every commit, failed or not, and after
	// every try to recover from a failed one. It must not block.
	Observe func(CommitStats)
}

// rebuild returns the options of a rebuild.
func (o *Options) rebuild() rebuild.Options {
	now := time.Now()
	if o.Now != nil {
		now = o.Now()
	}
	return rebuild.Options{
		Path: Path(o.Dir), Livemode: o.Livemode, Decode: o.Decode, Now: now, Retention: o.Retention,
		BackupDir: o.BackupDir, BackupKeep: o.BackupKeep, Progress: o.Rebuilding,
	}
}

// CommitStats describes one commit.
type CommitStats struct {
	Events   int           // deliveries that it answered, repeats included; 0 for a try to recover
	Duration time.Duration // from the beginning of the transaction to the end of its last sync
	Err      error         // nil if the transaction is durable
}
