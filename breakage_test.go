package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The table of .ci/breakage fits the sources, and what chooses from it works. The go command leaves
// folders out whose name begins with a dot, so its tests are run from here.
func TestMutationTable(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatalf("the go command runs these tests: %v", err)
	}
	// go test takes a result from its cache unless a file changed that the test itself has looked
	// at.
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path == ".git":
			return fs.SkipDir
		case filepath.Ext(path) == ".go" || strings.HasPrefix(path, "systemd/") || strings.HasPrefix(path, ".ci/"):
			_, err = os.Stat(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // an editor's file, or another test's
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "test", "-count=1", "./.ci/breakage").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
