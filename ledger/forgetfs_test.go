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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// A disk that forgets, as a file system: what was written and not synced is in nobody's hands but
// this process's, and gone with the power. A sync can fail the way Linux's do: the error is told
// once, the page cache goes on showing the new bytes, and the disk never gets them.
//
// The test binary serves it as a process of its own (a page fault on our own file system would
// stop the very scheduler that has to answer it), told over its standard input:
//
//	arm N   the next sync of a meta page fails and is forgotten; N syncs of meta pages later the power goes
//	revert  the same, and the page cache shows the old bytes again; the power stays on
//	cut     the power goes
//	stall   writing a meta page takes 3 s from now on
//
// Each is answered "done".

// asDisk in the environment makes the test binary be the disk: directory and mount point, by a colon.
const asDisk = "THIS_TEST_IS_A_DISK"

func TestMain(m *testing.M) {
	if folders := os.Getenv(asDisk); folders != "" {
		backing, mount, _ := cutLast(folders)
		if err := serveDisk(backing, mount); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if folders := os.Getenv(asNoLinks); folders != "" {
		backing, mount, _ := cutLast(folders)
		if err := serveNoLinks(backing, mount); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(asVerifier) != "" {
		serveVerify(os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

func cutLast(s string) (before, after string, found bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == ':' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// disk is the state behind the one file of the file system.
type disk struct {
	fd int // of the file that holds what was synced

	mu      sync.Mutex // guards what follows
	pending []extent   // written since the last sync, in order
	size    int64      // as the writer sees it
	armed   bool
	left    int  // syncs of meta pages until the power goes
	failing bool // the forgotten sync has happened
	off     bool // the power is gone: nothing reaches the disk
	stall   bool // meta pages are slow
	revert  bool // what is forgotten is not shown any more
	file    *diskFile
}

type extent struct {
	off   int64
	bytes []byte
}

// metaBytes is where bbolt's two meta pages lie.
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
		if d.revert { // as a message to the kernel, which must not wait for this answer
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
	_, _ = syscall.Pread(d.fd, b, off) // behind the end of the synced file there are zeros
	for _, e := range d.pending {
		if from, to := max(off, e.off), min(off+int64(len(b)), e.off+int64(len(e.bytes))); from < to {
			copy(b[from-off:to-off], e.bytes[from-e.off:])
		}
	}
	return b
}

// root has one file, ledger.db; diskFile is it, opened.
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

// Fsync of the directory: its one name is always there.
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
		f.disk.size = int64(size) // the ledger only ever grows its file
		f.disk.mu.Unlock()
	}
	return f.Getattr(ctx, h, out)
}

// serveDisk mounts the file system and obeys until its standard input ends.
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
	server, err := fs.Mount(mount, &root{disk: d}, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "forgetfs", Name: "forgetfs"}})
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

// mounted starts a disk over a directory that holds a ledger. say tells it something, answers is what it answers.
func mountDisk(t *testing.T, backing string) (mount string, command func(string), answers <-chan string) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("file systems cannot be mounted here: uid %d, %v", os.Getuid(), err)
		}
		t.Skip("mounting a file system takes root and /dev/fuse")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mount = t.TempDir()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asDisk+"="+backing+":"+mount)
	in, err := cmd.StdinPipe()
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
	lines := make(chan string, 16)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
	}()
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the disk ended with %v", err)
		}
	})
	if line := <-lines; line != "mounted" {
		t.Fatalf("the disk says %q", line)
	}
	return mount, func(s string) {
		if _, err := io.WriteString(in, s+"\n"); err != nil {
			t.Fatal(err)
		}
	}, lines
}

// The sync of a meta page fails, so the page cache shows a commit that the disk does not have. What is
// committed after that must not build on it: wherever the power goes, the file opens, is sound, and
// holds every event that was acknowledged.
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
				t.Fatalf("%d of 40 events acknowledged on a sound disk", len(acked))
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
						t.Fatal("the power never went")
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
				t.Errorf("the committer ended with %v", err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}

			requireOnDisk(t, backing, acked)
		})
	}
}

// onDisk requires that what the disk has, seen without the file system, is sound and holds all that was acknowledged.
func requireOnDisk(t *testing.T, backing string, acked []string) {
	t.Helper()
	// First without following what may lead in circles.
	if _, err := ledger.Verify(ledger.Path(backing)); err != nil {
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

// A process ends right after a meta page's sync has failed. The next one sees the commit in the page
// cache, where the disk does not have it: what it acknowledges must be on the disk all the same.
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
		t.Fatalf("the disk says %q", line)
	}
	if _, err := l.Append(t.Context(), succeeded("evt_2", "pi_1")); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("an event whose commit the disk forgot returned %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, ledger.ErrUnavailable) {
		t.Errorf("the committer ended with %v", err)
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
		t.Errorf("the event that the page cache shows returned %+v", res)
	}
	command("cut")
	for line := range answers { // "forgotten" comes first
		if line == "done" {
			break
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, ledger.ErrUnavailable) { // the repeat's count has nowhere to go
		t.Errorf("the committer ended with %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	requireOnDisk(t, backing, []string{"evt_1", "evt_2"})
}

// A commit takes long. Whoever brings an event, known or not, waits no longer than he said.
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
	cut := 0
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
				cut++
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
	if cut == 0 {
		t.Error("no repeat had to wait")
	}
}

// The sync of a meta page fails, and some time after that the page cache shows the old page: bbolt has one
// state in memory and another on its pages. Either writing goes on, or Run ends and the next start goes on;
// nothing acknowledged is lost, nothing is posted twice, and the process lives.
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
		for waiting := true; waiting; { // the next try comes after a second
			select {
			case err := <-ended:
				if !errors.Is(err, ledger.ErrUnavailable) {
					t.Errorf("the committer ended with %v", err)
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
