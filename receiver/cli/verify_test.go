package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A child process that makes no progress is killed; one that works is waited for.
func TestAChildThatHangs(t *testing.T) {
	t.Parallel()
	if err := runWatched(exec.Command("sleep", "60"), 10*time.Millisecond, time.Second); !errors.Is(err, errNoProgress) {
		t.Errorf("one that hangs: %v", err)
	}
	var exit *exec.ExitError
	if err := runWatched(exec.Command("false"), time.Millisecond, time.Minute); !errors.As(err, &exit) || errors.Is(err, errNoProgress) {
		t.Errorf("one that fails: %v", err)
	}
	if err := runWatched(exec.Command("true"), time.Millisecond, time.Minute); err != nil {
		t.Errorf("one that is done: %v", err)
	}
}

// A line of progress has the size of what is verified, if this user can see it.
func TestVerifyingNamesTheSize(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ledger.db")
	if err := os.WriteFile(file, make([]byte, 1_500_000), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &Program{Environ: []string{"TILLHOOK_DATA_DIR=" + dir}, Root: dir}
	if got, want := p.verifying([]string{file}), "Verifying "+file+" (1.5 MB)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := p.verifying(nil), "Verifying the ledger (1.5 MB)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := p.verifying([]string{"nowhere"}), "Verifying nowhere"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
