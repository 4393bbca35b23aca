package ledger

import (
	"errors"
	"fmt"
	"tillhook/ledger/store"
)

// Header is what a file says of itself.
type Header struct {
	Livemode bool // the mode that it is bound to
	Older    bool // it is of an older schema, and is brought up to date when a receiver opens it
}

// ReadHeader reads what a ledger, or a copy of one, says of itself: of any schema, and whatever
// else may be damaged. No receiver may hold it ([ErrLocked]).
func ReadHeader(path string) (h Header, err error) {
	if err := store.MustExist(path, "no ledger at"); err != nil {
		return h, err
	}
	s, err := store.Open(path, store.Options{Layout: layout, ReadOnly: true, Unbuffered: true})
	if err != nil {
		return h, err
	}
	err = s.View(func(tx *store.Tx) error {
		schema, err := readVersion(tx)
		if err != nil {
			return err
		}
		h.Older = schema < schemaVersion
		h.Livemode, err = readMode(tx)
		return err
	})
	if err := errors.Join(err, s.Close()); err != nil {
		return h, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// RestoreResult says what a restore did.
type RestoreResult struct {
	Path string // the ledger
	Kept string // the ledger that was there before; empty if there was none
}

// RestoreFrom puts a copy of the file from in the place of the ledger in a folder, under the owner
// and with the permissions of that ledger, or else of the folder. The old file is kept beside it.
// No receiver may run ([ErrLocked]). The caller has verified the copy. Where it fails, the ledger is
// as it was.
func RestoreFrom(dir, from string) (*RestoreResult, error) {
	kept, err := store.Replace(Path(dir), from)
	if err != nil {
		return nil, err
	}
	return &RestoreResult{Path: Path(dir), Kept: kept}, nil
}
