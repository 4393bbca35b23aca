package ledger_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// This file contains a file system that simulates a disk that forgets. What was written and not
// synced exists only in the memory of its process, and is lost in a power failure. A sync can fail
// as it does in Linux: the error is reported once, the page cache keeps showing the new bytes, and
// the disk never gets them.
//
// The test binary serves the file system in a process of its own, because a page fault on a file
// system that the same process serves would stop the scheduler that has to answer it. The process
// reads commands from its standard input, and answers each with "done":
//
//	arm N   the next sync of a meta page fails and is forgotten; after N more syncs of meta pages
//	        the power fails
//	revert  the next sync of a meta page fails and is forgotten, and the page cache shows the old
//	        bytes again; the power does not fail
//	cut     the power fails
//	stall   from now on writing a meta page takes 3 s

// asDisk in the environment makes the test binary serve this file system. Its value is the
// directory behind the file system and the mount point, separated by a colon.
const asDisk = "THIS_TEST_IS_A_DISK"

func TestMain(m *testing.M) {
	fileSystems := map[string]func(backing, mount string) error{asDisk: serveDisk, asNoLinks: serveNoLinks}
	for variable, serve := range fileSystems {
		if dirs := os.Getenv(variable); dirs != "" {
			backing, mount, _ := strings.Cut(dirs, ":")
			if err := serve(backing, mount); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			return
		}
	}
	if os.Getenv(asVerifier) != "" {
		serveVerify(os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// disk is the state of the only file of the file system.
type disk struct {
	fd int // of the file that holds the synced bytes

	mu      sync.Mutex // guards the following fields
	pending []extent   // writes since the last sync, in order
	size    int64      // as writers see it
	armed   bool
	left    int  // number of syncs of meta pages until the power fails
	failing bool // a sync was forgotten
	off     bool // the power has failed: nothing reaches the disk
	stall   bool // writing a meta page is slow
	revert  bool // the page cache drops the bytes of a forgotten sync
	file    *diskFile
}

type extent struct {
	off   int64
	bytes []byte
}

// metaBytes is the size of the two meta pages at the beginning of the file.
const metaBytes = 2 * 4096

func (d *disk) sync() syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return syscall.EIO
	}
	meta := false
	for _, e := range d.pending {
		meta = meta || e.off < metaBytes
	}
	switch {
	case meta && d.armed:
		d.armed, d.failing = false, !d.revert
		d.pending = nil
		if d.revert { // in the background, because the kernel waits for this sync
			go d.file.NotifyContent(0, metaBytes)
		}
		fmt.Println("forgotten")
		return syscall.EIO
	case meta && d.failing && d.left == 0:
		d.off = true
		fmt.Println("off")
		return syscall.EIO
	case meta && d.failing:
		d.left--
	}
	for _, e := range d.pending {
		if _, err := syscall.Pwrite(d.fd, e.bytes, e.off); err != nil {
			return fs.ToErrno(err)
		}
	}
	d.pending = nil
	return fs.ToErrno(syscall.Ftruncate(d.fd, d.size))
}

func (d *disk) write(b []byte, off int64) {
	d.mu.Lock()
	if d.stall && off < metaBytes {
		d.mu.Unlock()
		time.Sleep(3 * time.Second)
		d.mu.Lock()
	}
	defer d.mu.Unlock()
	d.pending = append(d.pending, extent{off, append([]byte(nil), b...)})
	d.size = max(d.size, off+int64(len(b)))
}

func (d *disk) read(b []byte, off int64) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	b = b[:max(0, min(int64(len(b)), d.size-off))]
	clear(b)
	_, _ = syscall.Pread(d.fd, b, off) // bytes after the end of the synced file are zero
	for _, e := range d.pending {
		if from, to := max(off, e.off), min(off+int64(len(b)), e.off+int64(len(e.bytes))); from < to {
			copy(b[from-off:to-off], e.bytes[from-e.off:])
		}
	}
	return b
}

// root is the root directory. Its only file is ledger.db, which is a diskFile.
type root struct {
	fs.Inode
	disk *disk
}

type diskFile struct {
	fs.Inode
	disk *disk
}

func (r *root) OnAdd(ctx context.Context) {
	r.disk.file = &diskFile{disk: r.disk}
	r.AddChild("ledger.db", r.NewPersistentInode(ctx, r.disk.file, fs.StableAttr{Mode: syscall.S_IFREG, Ino: 2}), false)
}

// Fsync does nothing: the only name in the directory always exists.
func (r *root) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return 0 }

func (f *diskFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (f *diskFile) Read(_ context.Context, _ fs.FileHandle, b []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultData(f.disk.read(b, off)), 0
}

func (f *diskFile) Write(_ context.Context, _ fs.FileHandle, b []byte, off int64) (uint32, syscall.Errno) {
	f.disk.write(b, off)
	return uint32(len(b)), 0
}

func (f *diskFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return f.disk.sync() }

func (f *diskFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	out.Mode, out.Size, out.Nlink = 0o600, uint64(f.disk.size), 1
	return 0
}

func (f *diskFile) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		f.disk.mu.Lock()
		f.disk.size = int64(size) // the ledger never truncates its file
		f.disk.mu.Unlock()
	}
	return f.Getattr(ctx, h, out)
}

// serveDisk mounts the file system, and obeys commands until the standard input ends.
func serveDisk(backing, mount string) error {
	fd, err := syscall.Open(filepath.Join(backing, "ledger.db"), syscall.O_RDWR, 0)
	if err != nil {
		return err
	}
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return err
	}
	d := &disk{fd: fd, size: stat.Size}
	server, err := fs.Mount(mount, &root{disk: d},
		&fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "forgetfs", Name: "forgetfs"}})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		d.mu.Lock()
		if _, err := fmt.Sscanf(in.Text(), "arm %d", &d.left); err == nil {
			d.armed = true
		}
		if in.Text() == "revert" {
			d.armed, d.revert = true, true
		}
		d.off = d.off || in.Text() == "cut"
		d.stall = d.stall || in.Text() == "stall"
		d.mu.Unlock()
		fmt.Println("done")
	}
	return server.Unmount()
}

// mountDisk mounts a disk that forgets over a directory that holds a ledger. The function command
// sends a command, and the answers arrive on the channel.
func mountDisk(t *testing.T, backing string) (mount string, command func(string), answers <-chan string) {
	t.Helper()
	mount, in, answers := startFileSystem(t, asDisk, backing)
	return mount, func(s string) {
		if _, err := io.WriteString(in, s+"\n"); err != nil {
			t.Fatal(err)
		}
	}, answers
}

// startFileSystem starts the test binary with the variable in its environment, so that it serves
// a file system over the directory backing, and waits until that is mounted. The channel has the
// lines that the process prints after that. The cleanup of the test ends the process.
func startFileSystem(t *testing.T, variable, backing string) (mount string, in io.Writer, lines <-chan string) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("file systems cannot be mounted here: uid %d, %v", os.Getuid(), err)
		}
		t.Skip("mounting a file system needs root and /dev/fuse")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mount = t.TempDir()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), variable+"="+backing+":"+mount)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	printed := make(chan string, 16)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			printed <- s.Text()
		}
		close(printed)
	}()
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process of the file system ended with %v", err)
		}
	})
	if line := <-printed; line != "mounted" {
		t.Fatalf("the process of the file system printed %q", line)
	}
	return mount, stdin, printed
}

// The sync of a meta page fails, so the page cache shows a commit that the disk does not hold.
// Later commits must not build on it: whenever the power fails, the file can be opened, is sound,
// and holds every acknowledged event.
func TestForgottenMetaPageLosesNothing(t *testing.T) {
	for left := range 6 {
		t.Run(fmt.Sprintf("power cut %d syncs later", left), func(t *testing.T) {
			t.Parallel()
			backing := t.TempDir()
			createAndClose(t, backing)
			mount, command, answers := mountDisk(t, backing)
			l, err := ledger.Open(ledger.Options{Dir: mount})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- l.Run(ctx) }()
			var acked []string
			n := 0
			send := func() {
				n++
				e := succeeded(fmt.Sprintf("evt_%04d", n), fmt.Sprintf("pi_%04d", n/3))
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if _, err := l.Append(ctx, e); err == nil {
					acked = append(acked, e.ID)
				} else if !errors.Is(err, ledger.ErrUnavailable) {
					t.Errorf("an append returned %v", err)
				}
			}
			for range 40 {
				send()
			}
			if len(acked) != 40 {
				t.Fatalf("%d of 40 events were acknowledged before the fault", len(acked))
			}
			command(fmt.Sprint("arm ", left))
			forgotten := false
			for off := false; !off; {
				select {
				case line := <-answers:
					forgotten = forgotten || line == "forgotten"
					off = line == "off"
				default:
					if n > 20000 {
						t.Fatal("the power never failed")
					}
					if send(); l.Health().Err != nil {
						time.Sleep(20 * time.Millisecond)
					}
				}
			}
			if !forgotten {
				t.Error("no sync was forgotten")
			}
			cancel()
			if err := <-ended; !errors.Is(err, ledger.ErrUnavailable) {
				t.Errorf("Run returned %v", err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}

			requireOnDisk(t, backing, acked)
		})
	}
}

// requireOnDisk requires that the file on the disk, read without the file system, is sound and
// holds all acknowledged events.
func requireOnDisk(t *testing.T, backing string, acked []string) {
	t.Helper()
	// Verify goes first, because it follows no reference between pages that could lead into a
	// cycle.
	if _, err := check.Verify(t.Context(), ledger.Path(backing)); err != nil {
		t.Fatalf("the file is not sound: %v", err)
	}
	after := ledgertest.Start(t, ledger.Options{Dir: backing})
	if err := after.Check(); err != nil {
		t.Errorf("the ledger is not sound: %v", err)
	}
	for _, id := range acked {
		if _, err := after.Event(id); err != nil {
			t.Errorf("%s was acknowledged and is lost: %v", id, err)
		}
	}
}

// A process ends right after the sync of a meta page has failed. The next process sees the commit
// in the page cache, although the disk does not hold it. What the next process acknowledges must be
// on the disk.
func TestRestartTrustsOnlyTheDisk(t *testing.T) {
	backing := t.TempDir()
	createAndClose(t, backing)
	mount, command, answers := mountDisk(t, backing)
	l, err := ledger.Open(ledger.Options{Dir: mount})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	command("arm 1000")
	if line := <-answers; line != "done" {
		t.Fatalf("the process of the file system printed %q", line)
	}
	if _, err := l.Append(t.Context(), succeeded("evt_2", "pi_1")); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("an event whose commit the disk forgot returned %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("Run returned %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	again, err := ledger.Open(ledger.Options{Dir: mount})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() { ended <- again.Run(ctx) }()
	if res := mustAppend(t, again, succeeded("evt_2", "pi_1")); res.Status != ledger.AlreadyProcessed {
		t.Errorf("the event that only the page cache shows returned %+v", res)
	}
	command("cut")
	for line := range answers { // "forgotten" comes first
		if line == "done" {
			break
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, ledger.ErrUnavailable) { // the count of the repeat cannot be written
		t.Errorf("Run returned %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	requireOnDisk(t, backing, []string{"evt_1", "evt_2"})
}

// During a slow commit, Append of a new event or of a repeat does not wait longer than its context.
func TestAppendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	backing := t.TempDir()
	createAndClose(t, backing)
	mount, command, answers := mountDisk(t, backing)
	l := ledgertest.Start(t, ledger.Options{Dir: mount})
	mustAppend(t, l, succeeded("evt_1", "pi_1"))
	command("stall")
	<-answers
	slow := make(chan error, 1)
	go func() {
		_, err := l.Append(t.Context(), succeeded("evt_2", "pi_2"))
		slow <- err
	}()
	canceled := 0
	for writing := true; writing; {
		select {
		case err := <-slow:
			if err != nil {
				t.Error(err)
			}
			writing = false
		default:
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if _, err := l.Append(ctx, succeeded("evt_1", "pi_1")); errors.Is(err, context.DeadlineExceeded) {
				canceled++
			} else if err != nil {
				t.Error(err)
			}
			cancel()
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("a repeat took %s", took)
			}
			time.Sleep(time.Millisecond)
		}
	}
	if canceled == 0 {
		t.Error("no repeat had to wait")
	}
}

// The sync of a meta page fails, and some time later the page cache shows the old page again. bbolt
// then has one state in memory and another one on its pages. Either the ledger recovers, or Run
// ends and the next start recovers. No acknowledged event is lost, no event is posted twice, and
// the process does not end.
func TestRevertedMetaPageLosesNothing(t *testing.T) {
	t.Parallel()
	backing := t.TempDir()
	createAndClose(t, backing)
	mount, command, answers := mountDisk(t, backing)
	var acked []string
	for round := range 3 {
		l, err := ledger.Open(ledger.Options{Dir: mount})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		for i := range 20 {
			acked = append(acked, fmt.Sprintf("evt_%d_%d", round, i))
			mustAppend(t, l, succeeded(acked[len(acked)-1], fmt.Sprintf("pi_%d", i)))
		}
		command("revert")
		<-answers
		unsure := succeeded(fmt.Sprintf("evt_%d_unsure", round), "pi_unsure")
		if _, err := l.Append(t.Context(), unsure); !errors.Is(err, ledger.ErrUnavailable) {
			t.Fatalf("an event whose commit the disk forgot returned %v", err)
		}
		<-answers
		for waiting := true; waiting; { // the next attempt follows after a second
			select {
			case err := <-ended:
				if !errors.Is(err, ledger.ErrUnavailable) {
					t.Errorf("Run returned %v", err)
				}
				ended <- nil
				waiting = false
			case <-time.After(20 * time.Millisecond):
				if waiting = l.Health().Err != nil; !waiting {
					mustAppend(t, l, unsure)
					acked = append(acked, unsure.ID)
				}
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	command("cut")
	<-answers
	requireOnDisk(t, backing, acked)
}
