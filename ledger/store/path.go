package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// PathFault is what is wrong at the path of a ledger or of its directory. It is an [ErrFormat] for
// a file that no store can be in, an [ErrMissing] for a symbolic link to nothing, and else what the
// system returned.
type PathFault struct {
	Path    string
	Problem string // the sentence that begins with Path, without its full stop
	Next    string // what to do about it

	err error
}

func (f *PathFault) Error() string { return f.What() + "; " + f.Next }
func (f *PathFault) Unwrap() error { return f.err }

// What returns the error without the next step.
func (f *PathFault) What() string {
	what := f.Path + " " + f.Problem
	if f.err == ErrFormat || f.err == ErrMissing {
		what = f.err.Error() + ": " + what
	}
	return what
}

const otherFolder = "set TILLHOOK_DATA_DIR to another folder"

// explainPath turns the error of a system call about path into one for people. The error of a path
// that names nothing is returned as it is.
func explainPath(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		link := danglingLink(path)
		if link == "" {
			return err
		}
		return &PathFault{link, "is a symbolic link to " + resolve(link) + ", which does not exist",
			"mount the file system that holds it or put it back; to do without it, delete the link", ErrMissing}
	case errors.Is(err, syscall.ELOOP):
		return &PathFault{path, "is a symbolic link that leads back to itself", "delete the link, or make it again", err}
	case errors.Is(err, syscall.ENOTDIR):
		return &PathFault{fileAbove(path), "is not a directory", otherFolder, err}
	case errors.Is(err, fs.ErrPermission):
		return &PathFault{path, "cannot be accessed by this user (permission denied)",
			"run this as root, or as its owner; namei -l " + path + " shows who may", err}
	}
	return err
}

// danglingLink returns the first part of a path that is a symbolic link to nothing, "" for none.
func danglingLink(path string) string {
	if up := filepath.Dir(path); up != path {
		if link := danglingLink(up); link != "" {
			return link
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if _, err := os.Readlink(path); err != nil {
		return ""
	}
	return path
}

// fileAbove returns the first part of a path that exists and is not a directory.
func fileAbove(path string) string {
	found := path
	for up := path; ; up = filepath.Dir(up) {
		if info, err := os.Stat(up); err == nil && !info.IsDir() {
			found = up
		}
		if up == filepath.Dir(up) {
			return found
		}
	}
}

// resolve returns the path of the file that a path leads to: another one if its last part is a
// symbolic link. Whatever replaces the file, or is kept of it, must be beside that file and not
// beside the link. The file need not exist.
func resolve(path string) string {
	const maxLinks = 40 // as the kernel follows: path_resolution(7)
	at := path
	for range maxLinks {
		target, err := os.Readlink(at)
		if err != nil { // at is not a link
			if at == path {
				return path
			}
			// The kernel follows a link before the ".." behind it, which filepath.Dir does not.
			dir, name := at[:strings.LastIndexByte(at, '/')+1], at[strings.LastIndexByte(at, '/')+1:]
			if dir, err := filepath.EvalSymlinks(cmp.Or(dir, ".")); err == nil {
				return filepath.Join(dir, name)
			}
			return filepath.Clean(at)
		}
		if !filepath.IsAbs(target) {
			target = at[:strings.LastIndexByte(at, '/')+1] + target
		}
		at = target
	}
	return path
}

// findRegular returns the state of the regular file at path. It opens nothing: that would wait for
// the other end of a named pipe.
func findRegular(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		if err = explainPath(path, err); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: no ledger at %s", ErrNotFound, path)
		}
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &PathFault{path, "is not a regular file", "move it away, or " + otherFolder, ErrFormat}
	}
	return info, nil
}
