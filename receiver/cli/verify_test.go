package cli

import (
	"errors"
	"os/exec"
	"testing"
	"time"
)

// A child that waits without working is ended; one that ends by itself is waited for.
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
