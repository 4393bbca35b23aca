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
			for _, args := range [][]string{{"payments"}, {"export"}, {"backup", "x.db"}, {"rebuild"}, {"restore", backup, "--yes"}, {"serve"}} {
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
