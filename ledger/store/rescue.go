package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// rescueAgain is the pause after a failed try to write a deleted file back.
const rescueAgain = 5 * time.Second

// rescue writes a file back that was deleted while it was open. The writing goroutine owns it;
// another one does the work, because that can take longer than the writer may be silent.
type rescue struct {
	done  chan struct{} // closed at the end of a try; nil before the first one
	again time.Time     // no try before then

	path string // of the copy; read only after done is closed, like err
	err  error
}

// begin begins a try, unless one is running, or one succeeded or failed just now.
func (r *rescue) begin(s *Store) {
	if r.running() || r.saved() != "" || time.Now().Before(r.again) {
		return
	}
	r.done, r.again = make(chan struct{}), time.Now().Add(rescueAgain)
	go func() {
		defer close(r.done)
		r.path, r.err = s.writeBack()
	}()
}

// finish begins a try if none is running, and waits for it.
func (r *rescue) finish(s *Store) {
	r.again = time.Time{}
	r.begin(s)
	if r.done != nil {
		<-r.done
	}
}

func (r *rescue) running() bool {
	if r.done == nil {
		return false
	}
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

// saved returns the path of the copy, "" before one is made.
func (r *rescue) saved() string {
	if r.done == nil || r.running() {
		return ""
	}
	return r.path
}

// next says what to do about a file that was deleted.
func (r *rescue) next(path, again string) string {
	switch {
	case r.done == nil, r.running():
		return "wait: the receiver has it still open and writes it back"
	case r.err != nil:
		return fmt.Sprintf("do not stop the receiver, which has it still open and tries to write it back (%v)", r.err)
	case r.path == resolve(path):
		return "nothing: the receiver wrote it back, and its next start opens it"
	}
	return "another file has its place now: " + again + ". What the receiver had acknowledged is in " + r.path
}

// writeBack copies the open file to its path or, if that is taken, to a file beside it. No
// transaction writes to the open file meanwhile.
func (s *Store) writeBack() (string, error) {
	path := resolve(s.path) // a symbolic link stays one
	dir := filepath.Dir(path)
	if err := MakeDir(dir); err != nil {
		return "", err
	}
	size, err := s.usedBytes()
	if err != nil {
		return "", err
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err == nil && int64(disk.Bavail)*disk.Bsize < size {
		return "", fmt.Errorf("%w: free %d MiB in %s", ErrNoSpace, size>>20+1, dir)
	}
	err = Save(path, s.CopyFile, nil)
	if errors.Is(err, fs.ErrExist) {
		path = nameBeside(path, time.Now(), deletedSuffix)
		err = Save(path, s.CopyFile, nil)
	}
	if err != nil {
		return "", err
	}
	return path, nil
}

// missingSuffix names, behind the path of a file, a note that a process leaves when it lost the
// file and could not put it back. The next start would otherwise create an empty file and
// acknowledge events to it.
const missingSuffix = ".missing"

// refuseIfMissing returns [ErrMissing] if a process left a note that the file at path is missing.
func refuseIfMissing(path string) error {
	there, err := exists(path + missingSuffix)
	switch {
	case err != nil:
		return fmt.Errorf("find the ledger: %w", err)
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

// clearMissing deletes the note. A note that stays does no harm while the file exists.
func clearMissing(path string) { _ = os.Remove(path + missingSuffix) }
