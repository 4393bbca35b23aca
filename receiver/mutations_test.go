package receiver_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutationTable runs the tests of .ci/breakage: its table fits the sources, and every mutation
// compiles. The pattern ./... does not match directories whose names begin with a dot, so that go
// test ./... does not run them itself.
func TestMutationTable(t *testing.T) {
	t.Parallel()
	const root = ".."
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatalf("the go command is needed: %v", err)
	}
	// go test repeats a cached result unless a file changed that this process has examined.
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // a temporary file, for example another test's
			return nil
		}
		if err != nil {
			return err
		}
		path, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		switch {
		case path == ".git":
			return fs.SkipDir
		case filepath.Ext(path) == ".go" || strings.HasPrefix(path, "systemd/") || strings.HasPrefix(path, ".ci/"):
			if _, err = os.Stat(file); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	test := exec.Command("go", "test", "-count=1", "./.ci/breakage")
	test.Dir = root
	if out, err := test.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
