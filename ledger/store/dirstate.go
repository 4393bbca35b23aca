package store

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// DirState is the state of a data directory as it looks from outside.
type DirState struct {
	Dir      string
	There    bool        // the directory exists
	Mode     fs.FileMode // its permissions
	Owner    string      // the name of its owner, or the number
	Writable bool        // by this process; of a directory that does not exist, that it can be created

	File      bool // the ledger exists
	FileMode  fs.FileMode
	FileBytes int64
	Holder    int // the process that holds it; 0 for none, or one that cannot be seen
	// Missing is the path of the note of a receiver that lost the ledger while it ran; empty for
	// none.
	Missing string
	// Deleted are the ledgers that were deleted while a receiver ran, and that it saved beside
	// another file that had taken their place.
	Deleted []string

	FreeBytes  uint64 // on its file system, for this process
	TotalBytes uint64
}

// InspectDir returns the state of the directory of the file at path. It opens no store and writes
// nothing.
func InspectDir(path string) (DirState, error) {
	dir := filepath.Dir(path)
	p := DirState{Dir: dir}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return p, fmt.Errorf("stat the data folder: %w", explainPath(dir, err))
	case !info.IsDir():
		return p, fmt.Errorf("the data folder %s is a file", dir)
	default:
		p.There, p.Mode = true, info.Mode().Perm()
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			p.Owner = userName(stat.Uid)
		}
	}
	target := resolve(path)
	nearest := nearestDir(filepath.Dir(target))
	const writeAndSearch = 0x2 | 0x1 // access(2)
	p.Writable = syscall.Access(nearestDir(dir), writeAndSearch) == nil && syscall.Access(nearest, writeAndSearch) == nil
	var space syscall.Statfs_t
	if err := syscall.Statfs(nearest, &space); err != nil {
		return p, fmt.Errorf("read the free space of %s: %w", nearest, err)
	}
	p.FreeBytes, p.TotalBytes = space.Bavail*uint64(space.Bsize), space.Blocks*uint64(space.Bsize)
	note := path + missingSuffix
	if there, err := exists(note); there && err == nil {
		p.Missing = note
	}
	p.Deleted = matching(filepath.Dir(target), strings.TrimSuffix(filepath.Base(target), ".db")+"-*"+deletedSuffix)
	file, err := os.Stat(path)
	if err != nil {
		if err = explainPath(path, err); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			err = nil // the permissions of the directory say it
		}
		return p, err
	}
	p.File, p.FileMode, p.FileBytes = true, file.Mode().Perm(), file.Size()
	if stat, ok := file.Sys().(*syscall.Stat_t); ok {
		p.Holder = holder(stat)
	}
	return p, nil
}

// nearestDir returns a directory, or the nearest one above it that exists.
func nearestDir(dir string) string {
	for up := filepath.Clean(dir); ; up = filepath.Dir(up) {
		if _, err := os.Stat(up); err == nil || up == filepath.Dir(up) {
			return up
		}
	}
}

func userName(id uint32) string {
	number := strconv.FormatUint(uint64(id), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}

// holder returns the process that has bbolt's lock on a file, 0 if it cannot be seen. proc_locks(5)
func holder(file *syscall.Stat_t) int {
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer locks.Close()
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		if pid, device, inode, ok := readLock(lines.Text()); ok && inode == file.Ino && (device == file.Dev || opens(pid, file)) {
			return pid
		}
	}
	return 0
}

// readLock reads the line of a lock that flock(2) took:
//
//	1: FLOCK  ADVISORY  WRITE 4711 08:01:131075 0 EOF
//
// The device is in hexadecimal.
func readLock(line string) (pid int, device, inode uint64, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || f[1] != "FLOCK" {
		return 0, 0, 0, false
	}
	pid, err := strconv.Atoi(f[4])
	id := strings.Split(f[5], ":")
	if err != nil || pid <= 0 || len(id) != 3 {
		return 0, 0, 0, false
	}
	major, majorErr := strconv.ParseUint(id[0], 16, 32)
	minor, minorErr := strconv.ParseUint(id[1], 16, 32)
	inode, err = strconv.ParseUint(id[2], 10, 64)
	if err := errors.Join(majorErr, minorErr, err); err != nil {
		return 0, 0, 0, false
	}
	return pid, unix.Mkdev(uint32(major), uint32(minor)), inode, true
}

// opens reports whether a process has a file open. On some file systems (btrfs, overlays) stat(2)
// returns another device than the one in /proc/locks.
func opens(pid int, file *syscall.Stat_t) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false // of another user
	}
	for _, e := range entries {
		var open syscall.Stat_t
		if syscall.Stat(filepath.Join(dir, e.Name()), &open) == nil && open.Dev == file.Dev && open.Ino == file.Ino {
			return true
		}
	}
	return false
}
