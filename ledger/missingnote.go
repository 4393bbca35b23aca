package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// missingSuffix names, behind the ledger's own path, a note that a receiver leaves when it lost the
// ledger and could not put it back. The next start would otherwise make an empty ledger and
// acknowledge events to it.
const missingSuffix = ".missing"

// refuseIfMissing returns [ErrMissing] if a receiver left a note that the ledger at path is
// missing.
func refuseIfMissing(path string) error {
	there, err := exists(path + missingSuffix)
	switch {
	case err != nil:
		return fmt.Errorf("look for the ledger: %w", err)
	case there:
		return fmt.Errorf("%w: %s was there while a receiver ran, and then was gone; put it back or restore a backup, or delete %s to begin with an empty ledger",
			ErrMissing, path, path+missingSuffix)
	}
	return nil
}

// noteMissing leaves the note.
func noteMissing(path string) error {
	f, err := os.OpenFile(path+missingSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "A receiver lost the ledger %s while it ran. Put it back or restore a backup.\n"+
		"While this file is here, tillhook does not begin an empty ledger in this folder.\n", path)
	return errors.Join(err, f.Sync(), f.Close())
}

// clearMissing deletes the note. A note that stays does no harm while the ledger is there.
func clearMissing(path string) { _ = os.Remove(path + missingSuffix) }
