package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The file can be deleted, moved, replaced, cut short or overwritten while it is open. bbolt would
// not notice: it goes on with the open file, and what it acknowledges is lost when the process
// ends. So the writer checks the file before each batch and after each commit, and every few
// seconds in between. While the file is not in its place, nothing may be written:
//
//   - A file that was deleted exists only as long as it is open, so it is first written back to its
//     path, or beside the file that has the path by then (rescue.go).
//   - A file that was moved, or whose file system was unmounted, lost nothing. The writer waits for
//     it.
//   - The process ends, to start again, only once there is a whole file at the path
//     ([NeedsReopen]).
//
// A check costs 3 µs (BenchmarkCheckFile): two system calls that need no disk, beside two syncs.

// deletedSuffix ends the name of a file that was deleted while it was open, and saved beside
// another file that has its path.
const deletedSuffix = ".db.deleted"

// FileFault is what happened to the file while it was open.
type FileFault struct {
	What string // a sentence without its full stop
	Next string // what to do about it

	reopen bool // the next start finds a whole file
}

func (f *FileFault) Error() string { return f.What + "; " + f.Next }

// fileState is what happened to the file.
type fileState int

const (
	fileInPlace     fileState = iota
	fileGone                  // its path names nothing
	fileReplaced              // its path names another file
	fileCut                   // it is shorter than what is in use of it, or was
	fileOverwritten           // another program wrote to it
	fileUnknown               // the check itself failed
)

// fileCheck is the result of a check.
type fileCheck struct {
	state    fileState
	nameless bool  // it was deleted: its contents end with the process
	size     int64 // of the open file
	err      error // of a check that failed
}

// stat checks the open file and its path. It costs two system calls.
func (s *Store) stat() fileCheck {
	var here, there syscall.Stat_t
	if err := syscall.Fstat(int(s.file.Fd()), &here); err != nil {
		return fileCheck{state: fileUnknown, err: fmt.Errorf("stat the open file: %w", err)}
	}
	found := fileCheck{state: s.spoiled, size: here.Size}
	switch err := syscall.Stat(s.path, &there); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		found.state = fileGone
	case err != nil:
		return fileCheck{state: fileUnknown, err: &fs.PathError{Op: "stat", Path: s.path, Err: err}}
	case here.Dev != there.Dev || here.Ino != there.Ino:
		found.state = fileReplaced
	default:
		return found
	}
	found.nameless = here.Nlink == 0 || isDeletedName(s.currentPath())
	return found
}

// statInside is stat, and checks the meta pages of a file that is in its place: its newest
// transaction must be one of two. A file that was cut short or overwritten stays so: what was cut
// off does not come back when the file grows again.
func (s *Store) statInside(tx, otherTx uint64) fileCheck {
	found := s.stat()
	if found.state != fileInPlace {
		return found
	}
	newest, err := s.newestMeta()
	switch {
	case err != nil:
		return fileCheck{state: fileUnknown, err: err}
	case found.size < 2*s.pageSize, newest != nil && found.size < int64(newest.pages*newest.pageSize):
		s.spoiled = fileCut
	case newest == nil || newest.tx != tx && newest.tx != otherTx:
		s.spoiled = fileOverwritten
	}
	found.state = s.spoiled
	return found
}

// newestMeta reads the newer of the meta pages, nil if neither is sound.
func (s *Store) newestMeta() (newest *meta, err error) {
	for page := range int64(2) {
		m, err := readMetaPage(s.file, page*s.pageSize)
		if err != nil {
			return nil, fmt.Errorf("read the meta pages: %w", err)
		}
		if m != nil && (newest == nil || m.tx > newest.tx) {
			newest = m
		}
	}
	return newest, nil
}

// currentPath returns the path that the open file has now if that is another one; else "".
func (s *Store) currentPath() string {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd()))
	if err != nil || strings.HasSuffix(path, " (deleted)") || path == s.path {
		return ""
	}
	return path
}

// isDeletedName reports whether a name is one that a network file system gives to a file that was
// deleted while it is open: it is removed when the file is closed.
func isDeletedName(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, ".nfs") || strings.HasPrefix(name, ".fuse_hidden")
}

// CheckFile returns a [FileFault] if the file is not as the last commit left it, and begins to
// write it back if it was deleted. That another program wrote to the file is noticed only with
// inside, or by the transaction that follows.
func (s *Store) CheckFile(inside bool) error {
	found := s.stat()
	if inside || found.size < s.size {
		tx := s.durableTx.Load()
		found = s.statInside(tx, tx)
	}
	s.size = found.size
	if found.state == fileInPlace {
		return nil
	}
	return s.refuse(found)
}

// checkAfterCommit checks the file before a commit is acknowledged. A file that was cut short
// during the commit can have grown again by what the commit wrote, but not to the size that it had
// before.
func (s *Store) checkAfterCommit() error {
	found := s.stat()
	if found.state == fileInPlace && found.size < s.size {
		s.spoiled, found.state = fileCut, fileCut
	}
	if found.state != fileInPlace {
		return s.fault(found)
	}
	return nil
}

// checkNewest demands that the newest transaction that the file shows is the last one that was
// committed here.
func (s *Store) checkNewest(tx uint64) error {
	if tx == s.durableTx.Load() {
		return nil
	}
	s.spoiled = fileOverwritten
	return s.fault(fileCheck{state: fileOverwritten})
}

// checkWhileRefused checks the file after a failure, and does what can be done about it. It returns
// nil once the file is in its place: a failed commit may be in it, or not.
func (s *Store) checkWhileRefused() error {
	tx := s.durableTx.Load()
	found := s.statInside(tx, tx+1)
	if found.state == fileInPlace {
		return nil
	}
	return s.refuse(found)
}

// refuse returns what happened to the file, and begins to write it back if it was deleted.
func (s *Store) refuse(found fileCheck) error {
	if found.nameless {
		if found.state == fileGone && s.wasWrittenBack() {
			s.rescue = rescue{} // that copy was deleted, too
		}
		s.rescue.begin(s)
	} else if found.state == fileGone {
		_ = noteMissing(s.path) // the directory may be gone, too, or be a mount point that is empty now
	}
	fault := s.fault(found)
	fault.reopen = s.reopens(found)
	if found.state == fileCut || found.state == fileOverwritten {
		// The file does not hold what bbolt takes it to hold: reading it can end the process.
		err := fmt.Errorf("%w: %w", ErrUnavailable, fault)
		s.refused.Store(&err)
	}
	return fault
}

// reopens reports whether the next start finds a whole file, and this process holds nothing that
// would be lost.
func (s *Store) reopens(found fileCheck) bool {
	switch {
	case found.nameless && s.rescue.saved() == "":
		return false
	case found.state == fileReplaced, found.state == fileOverwritten, s.wasWrittenBack():
		return Inspect(s.path) == nil
	}
	return false
}

// wasWrittenBack reports whether a copy of the deleted file is where the path leads.
func (s *Store) wasWrittenBack() bool { return s.rescue.saved() == resolve(s.path) }

// fault says what happened to the file, and what to do.
func (s *Store) fault(found fileCheck) *FileFault {
	const during = " while the receiver was running"
	again := "nothing: it is a ledger, and the receiver starts again with it"
	if err := Inspect(s.path); err != nil {
		again = fmt.Sprintf("put a whole ledger there, and the receiver starts again with it (%v)", err)
	}
	switch found.state {
	case fileGone, fileReplaced:
		f := &FileFault{What: "the ledger " + s.path + " was deleted" + during, Next: again}
		switch {
		case found.nameless:
			f.Next = s.rescue.next(s.path, again)
		case found.state == fileReplaced:
			f.What = "another file was put in the place of the ledger " + s.path + during
			f.Next += ". Events received since that file was made are only in the old one"
		default:
			f.What = "the ledger " + s.path + " was moved, or its file system was unmounted," + during
			f.Next = "put it back, and the receiver goes on; or restore a backup, and the receiver starts again with it"
		}
		if at := s.currentPath(); at != "" && !found.nameless {
			f.Next += "; the file is " + at + " now"
		}
		return f
	case fileCut:
		return &FileFault{What: fmt.Sprintf("the ledger %s was cut short%s", s.path, during),
			Next: "move it away and put a backup in its place, and the receiver starts again with that"}
	case fileOverwritten:
		return &FileFault{What: "another program wrote to the ledger " + s.path + during, Next: again}
	}
	return &FileFault{What: fmt.Sprintf("the ledger %s cannot be examined (%v)", s.path, found.err),
		Next: "look at the permissions of its directory, and at the disk"}
}

// Leave checks the file for the last time, after the last Write, and returns what happened to it. A
// file that was deleted is written back first.
func (s *Store) Leave() error {
	tx := s.durableTx.Load()
	found := s.statInside(tx, tx+1)
	if found.state == fileInPlace {
		return nil
	}
	for n := 0; found.nameless && n < 2; n++ { // a try may be under way, and fail
		s.rescue.finish(s)
	}
	if found.state == fileGone && !s.wasWrittenBack() {
		// The next start would create the directory, too.
		_ = errors.Join(MakeDir(filepath.Dir(s.path)), noteMissing(s.path))
	}
	return s.fault(found)
}
