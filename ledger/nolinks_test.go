package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
)

// asNoLinks in the environment makes the test binary serve a file system that has neither hard
// links nor a rename that refuses to replace a file. Its value is the directory behind the file
// system and the mount point, separated by a colon. The process ends with its standard input.
const asNoLinks = "THIS_TEST_IS_A_FILE_SYSTEM_WITHOUT_LINKS"

type noLinks struct{ *fs.LoopbackNode }

func (*noLinks) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &noLinks{child.(*fs.LoopbackNode)}
}

func (*noLinks) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM // as FAT answers
}

func (n *noLinks) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, newName string,
	flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	return n.LoopbackNode.Rename(ctx, name, parent, newName, 0)
}

func serveNoLinks(backing, mount string) error {
	root := &fs.LoopbackRoot{Path: backing}
	node := &noLinks{&fs.LoopbackNode{RootData: root}}
	root.RootNode = node
	server, err := fs.Mount(mount, node, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true,
		FsName: "nolinks", Name: "nolinks"}})
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return server.Unmount()
}

// withoutLinks returns a directory on such a file system.
func withoutLinks(t *testing.T) (dir string) {
	t.Helper()
	mount, _, _ := startFileSystem(t, asNoLinks, t.TempDir())
	if err := os.WriteFile(filepath.Join(mount, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(mount, "a"), filepath.Join(mount, "b")); err == nil {
		t.Fatal("the file system has hard links")
	}
	dir = filepath.Join(mount, "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// On a file system without hard links a ledger can be created, rebuilt and copied, and no existing
// file is replaced.
func TestFileSystemWithoutHardLinks(t *testing.T) {
	dir := withoutLinks(t)
	s := startFileFaultTest(t, dir)
	must(t, ledger.Save(filepath.Join(dir, "copy.db"), s.l.CopyTo, nil))
	if err := ledger.Save(filepath.Join(dir, "copy.db"), s.l.CopyTo, nil); err == nil ||
		!strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second copy returned %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "copy.db")))
	err := ledger.Save(filepath.Join(dir, "copy.db"), s.l.CopyTo, func(string) error {
		return os.WriteFile(filepath.Join(dir, "copy.db"), []byte("mine"), 0o600)
	})
	if b := mustRead(t, filepath.Join(dir, "copy.db")); !errors.Is(err, os.ErrExist) || string(b) != "mine" {
		t.Errorf("a copy over a file that was created meanwhile returned %v, and the file holds %.20q", err, b)
	}
	must(t, s.stop())
	done, err := ledger.Rebuild(t.Context(), ledger.Options{Dir: dir}, false)
	must(t, err)
	s.requireAcked(done.Kept)
	s.requireAcked(s.path)
	if names := fileNames(t, dir); len(names) != 3 {
		t.Errorf("the directory holds %v", names)
	}
	l := ledgertest.Start(t, ledger.Options{Dir: dir})
	mustAppend(t, l, succeeded("evt_next", "pi_next"))
}
