package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tillhook/receiver/cli"
)

// Nothing that a command prints, neither answers nor errors, controls a terminal.
func TestOutputIsEscaped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "\x1b[2J\u202ex")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	p := &cli.Program{Version: "v1\u202e\x9b", Stdout: &out, Stderr: &errs}
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"backup", path}} {
		p.Run(t.Context(), args)
	}
	if got := out.String(); strings.Count(got, `v1\u202e`) != 2 || strings.Contains(got, "\u202e") || strings.Contains(got, "\x9b") {
		t.Errorf("standard output has %q", got)
	}
	if got := errs.String(); !strings.Contains(got, `/\u001b[2J\u202ex exists already`) || strings.ContainsAny(got, "\x1b\u202e") {
		t.Errorf("standard error has %q", got)
	}
}
