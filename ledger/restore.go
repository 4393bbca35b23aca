package ledger

import (
	"context"
	"errors"
	"fmt"

	"tillhook/ledger/rebuild"
	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Header is the metadata of a ledger file.
type Header struct {
	Livemode bool // the mode that the file is bound to
	Older    bool // its schema is older than the current one; a receiver migrates the file when it opens it
}

// ReadHeader reads the metadata of a ledger or of a copy of one. It reads files of older schemas
// too, and ignores damage elsewhere in the file. No receiver may have the file open ([ErrLocked]).
func ReadHeader(path string) (h Header, err error) {
	s, err := store.Open(path, store.Options{Layout: schema.Layout, ReadOnly: true, Unbuffered: true})
	if err != nil {
		return h, err
	}
	err = s.View(func(tx *store.Tx) error {
		version, err := schema.ReadVersion(tx)
		if err != nil {
			return err
		}
		h.Older = version < schema.Version
		h.Livemode, err = schema.ReadMode(tx)
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil {
		return h, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// RestoreResult is the result of [RestoreFrom].
type RestoreResult struct {
	Path string // the ledger
	Kept string // the previous ledger; empty if the directory had none
}

// CheckRestore returns why [RestoreFrom] must not replace what has the ledger's path in a
// directory, or nil.
func CheckRestore(dir, from string) error { return store.CheckReplace(Path(dir), from) }

// RestoreFrom replaces the ledger in a directory with a copy of the file from. The copy gets the
// owner and the permissions of the old ledger or, if there was no ledger, of the directory. The old
// file is kept beside it. No receiver may be running ([ErrLocked]). RestoreFrom does not verify the
// file: the caller must have done that. If it fails or ctx ends, the ledger is unchanged.
func RestoreFrom(ctx context.Context, dir, from string) (*RestoreResult, error) {
	kept, err := store.Replace(ctx, Path(dir), from)
	if err != nil {
		return nil, err
	}
	return &RestoreResult{Path: Path(dir), Kept: kept}, nil
}

// Rebuild writes the ledger in opts.Dir again from its events; see [rebuild.Run]. No receiver may
// be running ([ErrLocked]). Rebuild needs free space for two more files of that size.
func Rebuild(ctx context.Context, opts Options, decode bool) (*rebuild.Result, error) {
	path := Path(opts.Dir)
	if err := store.MustExist(path, "no ledger at"); err != nil {
		return nil, err
	}
	lock, err := store.LockDir(path)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	return rebuild.Run(ctx, opts.rebuild(), decode)
}
