package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mutation breaks one rule of the program.
type mutation struct {
	name     string // the rule that is broken
	file     string
	old, new string // old occurs exactly once in file
	pkg, run string // the tests that must fail: a package, and go test's -run
}

// mutated returns the source file with the mutation.
func (m mutation) mutated() ([]byte, error) {
	source, err := os.ReadFile(m.file)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(source, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("%s contains the text %d times, not once: %q", m.file, n, m.old)
	}
	return bytes.Replace(source, []byte(m.old), []byte(m.new), 1), nil
}

// kill runs the tests with the mutation. It returns an error if they pass or cannot be run.
func (m mutation) kill() error {
	source, err := m.mutated()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "breakage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	mutated := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(mutated, source, 0o600); err != nil {
		return err
	}
	test := exec.Command("go", "test", "-vet=off", "-count=1", "-timeout="+m.timeout(), "-run", m.run, m.pkg)
	if m.isGo() {
		test.Env, err = overlayEnv(dir, m.file, mutated)
	} else {
		test.Env, err = packageEnv(dir, m.file)
	}
	if err != nil {
		return err
	}
	out, err := test.CombinedOutput()
	switch text := string(out); {
	case err == nil:
		return fmt.Errorf("%s %s passes", m.pkg, m.run)
	case !strings.Contains(text, "--- FAIL") && !strings.Contains(text, "panic: ") && !strings.Contains(text, "fatal error: "):
		return fmt.Errorf("the tests did not run:\n%s", text[:min(len(text), 2000)])
	}
	return nil
}

// isGo reports whether a Go file is mutated, not a systemd unit or a maintainer script.
func (m mutation) isGo() bool { return filepath.Ext(m.file) == ".go" }

// timeout returns go test's -timeout. Tests of units and maintainer scripts boot a container, which
// takes minutes.
func (m mutation) timeout() string {
	if m.isGo() {
		return "60s"
	}
	return "15m"
}

// overlayEnv returns the environment in which the go command compiles mutated instead of file, in
// programs that the tests build as well. It writes the overlay to dir.
func overlayEnv(dir, file, mutated string) ([]string, error) {
	original, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutated}})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		return nil, err
	}
	return append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+path), nil
}

// packageEnv returns the environment in which the Debian packages are built with the units or the
// maintainer scripts in dir, which holds a mutated one. It copies the others to dir.
func packageEnv(dir, file string) ([]string, error) {
	variable, pattern := "UNITS", "tillhook*.*"
	if filepath.Ext(file) == "" {
		variable, pattern = "SCRIPTS", "p[or]*" // postinst, postrm, prerm
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(file), pattern))
	if err != nil {
		return nil, err
	}
	for _, other := range files {
		if filepath.Base(other) == filepath.Base(file) {
			continue
		}
		text, err := os.ReadFile(other)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(other)), text, 0o600); err != nil {
			return nil, err
		}
	}
	return append(os.Environ(), variable+"="+dir), nil
}
