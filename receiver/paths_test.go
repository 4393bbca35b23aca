package receiver_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"tillhook/ledger"
)

// notLedgers put something at the path of a ledger that no command can use.
var notLedgers = map[string]struct {
	put  func(path string) error
	want string // in what every command prints
}{
	"a named pipe": {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "is not a regular file"},
	"a socket": {func(path string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		return l.Close()
	}, "is not a regular file"},
	"a directory":      {func(path string) error { return os.Mkdir(path, 0o700) }, "is not a regular file"},
	"a link to itself": {func(path string) error { return os.Symlink(filepath.Base(path), path) }, "is a symbolic link that leads back to itself"},
	"a dangling link":  {func(path string) error { return os.Symlink("../big/ledger.db", path) }, "big/ledger.db, which does not exist"},
}

// goText is what the Go library says of a failed system call.
var goText = regexp.MustCompile(`\b(open|stat|lstat|mkdir|listen tcp|lookup) [^ ]+: `)

// Whatever has the path of the ledger, each command ends with words and a next step.
func TestWhatIsNoLedgerIsNamed(t *testing.T) {
	t.Parallel()
	p := build(t)
	backup := filepath.Join(t.TempDir(), "good.db")
	made := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: made})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), os.Rename(ledger.Path(made), backup)); err != nil {
		t.Fatal(err)
	}
	for name, c := range notLedgers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			if err := errors.Join(os.Mkdir(dir, 0o700), c.put(ledger.Path(dir))); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"payments"}, {"export"}, {"backup", "x.db"}, {"verify"}, {"rebuild"}, {"restore", backup, "--yes"}, {"serve"}} {
				status, said := p.typed(t, []string{"TILLHOOK_OPERATOR_SOCKET=", "TILLHOOK_DATA_DIR=" + dir}, args...).ends(t)
				if status != 1 && status != 78 || !strings.Contains(said, c.want) || goText.MatchString(said) || !strings.Contains(said, ";") {
					t.Errorf("%v: %d %s", args, status, said)
				}
			}
			if info, err := os.Lstat(ledger.Path(dir)); err != nil || info.Mode().IsRegular() {
				t.Errorf("the path now has %v, %v", info, err)
			}
		})
	}
}

// What is in the place of the data folder is named, with the next step.
func TestADataFolderThatIsNone(t *testing.T) {
	t.Parallel()
	p := build(t)
	for _, args := range [][]string{{"payments"}, {"verify"}, {"rebuild"}, {"serve"}} {
		status, said := p.typed(t, []string{"TILLHOOK_OPERATOR_SOCKET=" + filepath.Join(t.TempDir(), "s"), "TILLHOOK_DATA_DIR=/dev/null"}, args...).ends(t)
		if status != 1 || !strings.Contains(said, "/dev/null is not a directory; set TILLHOOK_DATA_DIR to another folder") || goText.MatchString(said) {
			t.Errorf("%v: %d %s", args, status, said)
		}
	}
}

// A ledger that rebuild would refuse, too, is not advised to be rebuilt.
func TestNoRebuildIsAdvisedThatIsRefused(t *testing.T) {
	t.Parallel()
	p := build(t)
	for name, content := range map[string]string{"empty": "", "noise": strings.Repeat("noise", 10000)} {
		dir := t.TempDir()
		if err := os.WriteFile(ledger.Path(dir), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		status, said := p.typed(t, []string{"TILLHOOK_OPERATOR_SOCKET=", "TILLHOOK_DATA_DIR=" + dir}, "verify").ends(t)
		if status != 1 && status != 78 || strings.Contains(said, "rebuild") || !strings.Contains(said, "restore") && name == "noise" {
			t.Errorf("%s: %d %s", name, status, said)
		}
	}
}

// A receiver whose socket takes no more connections is not taken for one that does not run.
func TestAFullBacklog(t *testing.T) {
	t.Parallel()
	p := build(t)
	path := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for _, args := range [][]string{{"status"}, {"payments"}, {"verify"}} {
		status, said := p.typed(t, []string{"TILLHOOK_DATA_DIR=", "TILLHOOK_OPERATOR_SOCKET=" + path}, args...).ends(t)
		if status != 1 || !strings.Contains(said, "accepts no more connections") {
			t.Errorf("%v: %d %s", args, status, said)
		}
	}
}
