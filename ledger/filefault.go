package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The ledger's file can be deleted, moved, replaced, cut short or overwritten while it is open.
// bbolt would not notice: it goes on with the open file, and what it acknowledges is gone when the
// process ends. So the committer looks at the file before each batch and before it acknowledges
// one, and every few seconds in between. As long as the file is not in its place, every event is
// refused:
//
//   - A file that was deleted exists only as long as it is open, so it is first written back to its path, or beside the
//     file that has the path by then.
//   - A file that was moved, or whose file system was unmounted, lost nothing. It is waited for.
//   - Run ends, so that the process can start again, only once there is a whole ledger at the path.
//
// A look costs 3 µs (BenchmarkLook): two system calls that need no disk, beside two syncs.

// lookEvery is the default of [Options.LookEvery].
const lookEvery = 2 * time.Second

// rescueAgain is the pause after a failed try to write a deleted file back.
const rescueAgain = 5 * time.Second

// deletedSuffix ends the name of a ledger that was deleted while it was open, and saved beside
// another file that has its path.
const deletedSuffix = ".db.deleted"

// FileFault is what happened to the ledger's file while it was open.
type FileFault struct {
	What string // a sentence without its full stop
	Next string // what to do about it
}

func (f *FileFault) Error() string { return f.What + "; " + f.Next }

// fileState is what became of the ledger's file.
type fileState int

const (
	fileInPlace     fileState = iota
	fileGone                  // there is nothing at its path
	fileReplaced              // there is another file at its path
	fileCut                   // it is shorter than what is in use of it, or was
	fileOverwritten           // another program wrote to it
	fileUnknown               // looking at it fails
)

// fileLook is what a look at the ledger's file found.
type fileLook struct {
	state    fileState
	nameless bool  // it was deleted: its contents end with the process
	size     int64 // of the open file
	err      error // of a look that failed
}

// look looks at the open file and at the path. It costs two system calls.
func (l *Ledger) look() fileLook {
	var here, there syscall.Stat_t
	if err := syscall.Fstat(int(l.file.Fd()), &here); err != nil {
		return fileLook{state: fileUnknown, err: fmt.Errorf("look at the open file: %w", err)}
	}
	found := fileLook{state: l.spoiled, size: here.Size}
	switch err := syscall.Stat(l.path, &there); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		found.state = fileGone
	case err != nil:
		return fileLook{state: fileUnknown, err: &fs.PathError{Op: "stat", Path: l.path, Err: err}}
	case here.Dev != there.Dev || here.Ino != there.Ino:
		found.state = fileReplaced
	default:
		return found
	}
	found.nameless = here.Nlink == 0 || deletedLater(l.lies())
	return found
}

// lookInside is look, and looks at the meta pages of a file that is in its place: its newest
// transaction must be one of two. A file that was cut short or overwritten stays so: what was cut
// off does not come back when the file grows again.
func (l *Ledger) lookInside(tx, otherTx uint64) fileLook {
	found := l.look()
	if found.state != fileInPlace {
		return found
	}
	newest, err := l.newestMeta()
	switch {
	case err != nil:
		return fileLook{state: fileUnknown, err: err}
	case found.size < 2*l.pageSize, newest != nil && found.size < int64(newest.pages*newest.pageSize):
		l.spoiled = fileCut
	case newest == nil || newest.tx != tx && newest.tx != otherTx:
		l.spoiled = fileOverwritten
	}
	found.state = l.spoiled
	return found
}

// newestMeta reads the newer of the meta pages, nil if neither is sound.
func (l *Ledger) newestMeta() (newest *meta, err error) {
	for page := range int64(2) {
		m, err := readMetaPage(l.file, page*l.pageSize)
		if err != nil {
			return nil, fmt.Errorf("read the meta pages: %w", err)
		}
		if m != nil && (newest == nil || m.tx > newest.tx) {
			newest = m
		}
	}
	return newest, nil
}

// lies returns the path that the open file has now, "" if that is not known.
func (l *Ledger) lies() string {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", l.file.Fd()))
	if err != nil || strings.HasSuffix(path, " (deleted)") || path == l.path {
		return ""
	}
	return path
}

// deletedLater reports whether a name is one that a network file system gives to a file that was
// deleted while it is open: it goes when the file is closed.
func deletedLater(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, ".nfs") || strings.HasPrefix(name, ".fuse_hidden")
}

// inPlace looks at the file and refuses all events if it is not as the last commit left it. That
// another program wrote to it is seen only with inside, or in the transaction that follows.
func (l *Ledger) inPlace(inside bool) bool {
	l.began.Store(time.Now().UnixNano()) // a file system can hang
	defer l.began.Store(0)
	found := l.look()
	if inside || found.size < l.size {
		tx := l.durableTx.Load()
		found = l.lookInside(tx, tx)
	}
	l.size = found.size
	if found.state == fileInPlace {
		return true
	}
	l.observe(CommitStats{Err: l.refuse(found)})
	return false
}

// stillInPlace looks at the file after a commit, before that is acknowledged. A file that was cut
// short during the commit can have grown again by what the commit wrote, but not to the size that
// it had before.
func (l *Ledger) stillInPlace() error {
	found := l.look()
	if found.state == fileInPlace && found.size < l.size {
		l.spoiled, found.state = fileCut, fileCut
	}
	if found.state != fileInPlace {
		return l.fault(found)
	}
	return nil
}

// ours demands that the newest transaction that the file shows is the last one that was committed
// here.
func (l *Ledger) ours(newest uint64) error {
	if newest == l.durableTx.Load() {
		return nil
	}
	l.spoiled = fileOverwritten
	return l.fault(fileLook{state: fileOverwritten})
}

// putRight looks at the file while events are refused, and does what can be done about it. It
// returns nil once the file is in its place: a failed commit may be in it, or not.
func (l *Ledger) putRight() error {
	tx := l.durableTx.Load()
	found := l.lookInside(tx, tx+1)
	if found.state == fileInPlace {
		return nil
	}
	return l.refuse(found)
}

// refuse refuses all events because of what became of the file, and begins to write it back if it
// was deleted.
func (l *Ledger) refuse(found fileLook) error {
	if found.nameless {
		if found.state == fileGone && l.rescue.kept() == l.path {
			l.rescue = rescue{} // that copy was deleted, too
		}
		l.rescue.begin(l)
	} else if found.state == fileGone {
		_ = noteMissing(l.path) // the folder may be gone, too, or be the place where another file system was
	}
	fault := l.fault(found)
	if !l.locked.Load() {
		l.failure.Store(&failure{err: fmt.Errorf("%w: %w", ErrUnavailable, fault), final: l.startsAgain(found),
			unreadable: found.state == fileCut || found.state == fileOverwritten})
	}
	return fault
}

// startsAgain reports whether the next start finds a whole ledger, and this process holds nothing
// that would be lost.
func (l *Ledger) startsAgain(found fileLook) bool {
	switch {
	case found.nameless && l.rescue.kept() == "":
		return false
	case found.state == fileReplaced, found.state == fileOverwritten, l.rescue.kept() == l.path:
		return inspect(l.path) == nil
	}
	return false
}

// fault says what became of the file, and what to do.
func (l *Ledger) fault(found fileLook) *FileFault {
	const during = " while the receiver was running"
	again := "nothing: it is a ledger, and the receiver starts again with it"
	if err := inspect(l.path); err != nil {
		again = fmt.Sprintf("put a whole ledger there, and the receiver starts again with it (%v)", err)
	}
	switch found.state {
	case fileGone, fileReplaced:
		f := &FileFault{What: "the ledger " + l.path + " was deleted" + during, Next: again}
		switch {
		case found.nameless:
			f.Next = l.rescue.next(l.path, again)
		case found.state == fileReplaced:
			f.What = "another file was put in the place of the ledger " + l.path + during
			f.Next += ". Events received since that file was made are only in the old one"
		default:
			f.What = "the ledger " + l.path + " was moved, or its file system was unmounted," + during
			f.Next = "put it back, and the receiver goes on; or restore a backup, and the receiver starts again with it"
		}
		if at := l.lies(); at != "" && !found.nameless {
			f.Next += "; the file is " + at + " now"
		}
		return f
	case fileCut:
		return &FileFault{fmt.Sprintf("the ledger %s was cut short%s", l.path, during), "move it away and put a backup in its place, and the receiver starts again with that"}
	case fileOverwritten:
		return &FileFault{"another program wrote to the ledger " + l.path + during, again}
	}
	return &FileFault{fmt.Sprintf("the ledger %s cannot be looked at (%v)", l.path, found.err), "look at the permissions of its folder, and at the disk"}
}

// leaveFile looks at the file for the last time, after the last commit. A file that was deleted is
// written back now.
func (l *Ledger) leaveFile() error {
	tx := l.durableTx.Load()
	found := l.lookInside(tx, tx+1)
	if found.state == fileInPlace {
		return nil
	}
	for n := 0; found.nameless && n < 2; n++ { // a try may be under way, and fail
		l.rescue.again = time.Time{}
		l.rescue.begin(l)
		l.rescue.wait()
	}
	if found.state == fileGone && l.rescue.kept() != l.path {
		// A start would make the folder, too.
		_ = errors.Join(makeDir(filepath.Dir(l.path)), noteMissing(l.path))
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, l.fault(found))
}

// rescue writes a ledger back whose file was deleted. The committer owns it; a goroutine does the
// work, because that can take longer than the committer may be silent, and ends with done.
type rescue struct {
	done  chan struct{} // nil before the first try
	again time.Time     // no try before then

	path string // of the copy; to be read once done is closed, like err
	err  error
}

// begin begins a try, unless there is one, or one succeeded or failed just now.
func (r *rescue) begin(l *Ledger) {
	if r.running() || r.kept() != "" || time.Now().Before(r.again) {
		return
	}
	r.done, r.again = make(chan struct{}), time.Now().Add(rescueAgain)
	go func() {
		defer close(r.done)
		r.path, r.err = l.writeBack()
	}()
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

func (r *rescue) wait() {
	if r.done != nil {
		<-r.done
	}
}

// kept returns the path of the copy, "" before one is made.
func (r *rescue) kept() string {
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
	case r.path == path:
		return "nothing: the receiver wrote it back, and its next start opens it"
	}
	return "another file has its place now: " + again + ". What the receiver had acknowledged is in " + r.path
}

// writeBack copies the open file to its path or, if that is taken, to a file beside it. Nobody
// writes to the open file.
func (l *Ledger) writeBack() (string, error) {
	dir := filepath.Dir(l.path)
	if err := makeDir(dir); err != nil {
		return "", err
	}
	size, err := l.used()
	if err != nil {
		return "", err
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err == nil && int64(disk.Bavail)*disk.Bsize < size {
		return "", fmt.Errorf("%w: make room for %d MiB in %s", ErrNoRoom, size>>20+1, dir)
	}
	path := l.path
	err = Save(path, l.copyFile, nil)
	if errors.Is(err, fs.ErrExist) {
		path = filepath.Join(dir, "ledger-"+time.Now().UTC().Format(oldTime)+deletedSuffix)
		err = Save(path, l.copyFile, nil)
	}
	if err != nil {
		return "", err
	}
	return path, nil
}
