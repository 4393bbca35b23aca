package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files are small files that other rooms keep in the data folder, for their owner's eyes alone. Each is there whole or not at all, and
// on disk when Put returns. They are in no backup.
type Files struct{ dir string }

// NewFiles are those in a folder of that name inside the data folder. Nothing is made before the first Put.
func NewFiles(dataDir, name string) *Files { return &Files{filepath.Join(dataDir, name)} }

// Get reads a file. Where there is none the error is an [fs.ErrNotExist].
func (f *Files) Get(_ context.Context, name string) ([]byte, error) {
	path, err := f.path(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// Put writes a file, in the place of an older one.
func (f *Files) Put(_ context.Context, name string, data []byte) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := makeDir(f.dir); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(f.dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(temporary.Name()))
	}
	return syncDir(f.dir)
}

// Delete removes a file, if it is there.
func (f *Files) Delete(_ context.Context, name string) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (f *Files) path(name string) (string, error) {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, "/\\\x00") {
		return "", fmt.Errorf("%q is no name for a file", name)
	}
	return filepath.Join(f.dir, name), nil
}
