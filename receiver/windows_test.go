package receiver_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"tillhook/receiver/operator"
)

// Windows of faults, opened and closed while events come: a disk that is broken for a moment, again
// and again, is not worse than one that stays broken.

// window breaks the program's disk until the returned function repairs it.
type window func(t *testing.T, p *program) (repair func())

// calls makes system calls on the ledger's file fail.
func calls(names, errno string) window { return tampered(names, "error="+errno) }

// tampered has strace tamper with system calls on the ledger's file. See strace(1).
func tampered(names, fault string) window {
	return func(t *testing.T, p *program) func() {
		t.Helper()
		tracer := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(p.cmd.Process.Pid), "-P", filepath.Join(p.dir, "ledger.db"),
			"-e", "trace="+names, "--inject="+names+":"+fault)
		if err := tracer.Start(); err != nil {
			t.Fatal(err)
		}
		comes(t, "strace is attached", func() bool { return traced(t, p) })
		return func() {
			if err := tracer.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			_ = tracer.Wait() // it ends by the signal
		}
	}
}

// traced reports whether every thread of the program has a tracer. proc_pid_status(5)
func traced(t *testing.T, p *program) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("the program has no threads: %v", err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err == nil && regexp.MustCompile(`TracerPid:\s+0\n`).Match(text) {
			return false
		}
	}
	return true
}

// In each window events are refused, /readyz reports, and nothing that was acknowledged is lost;
// after it they are taken again, without a restart.
func TestFaultsInWindows(t *testing.T) {
	t.Parallel()
	needsRoot(t, "strace")
	windows := 2
	if *long {
		windows = 40
	}
	d := newDisk(t, 512)
	p := build(t)
	p.dir = filepath.Join(d.dir, "data")
	socket := filepath.Join(t.TempDir(), "operator.sock")
	p.env = []string{"TILLHOOK_OPERATOR_SOCKET=" + socket}
	p.start(t)
	asks := operator.Dial(socket)
	c := p.crowd(t, 8)
	refused := func() int { c.mu.Lock(); defer c.mu.Unlock(); return c.others["503 storage_unavailable"] }
	for range windows {
		for what, open := range map[string]window{
			"data and meta pages are not written (EIO)":    calls("pwrite64", "EIO"),
			"data and meta pages are not written (ENOSPC)": calls("pwrite64", "ENOSPC"),
			"the file system only reads (EROFS)":           calls("pwrite64", "EROFS"),
			"no sync succeeds (EIO)":                       calls("fdatasync,fsync", "EIO"),
			"no sync succeeds (ENOSPC)":                    calls("fdatasync,fsync", "ENOSPC"),
		} {
			before := c.acknowledged()
			comes(t, "events are acknowledged before "+what, func() bool { return c.acknowledged() >= before+20 })
			already := refused()
			repair := open(t, p)
			comes(t, "events are refused while "+what, func() bool { return refused() >= already+10 })
			if _, err := asks.Get(t.Context(), "/readyz", nil); err == nil {
				t.Errorf("%s, and /readyz does not tell", what)
			}
			time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // any time may go by
			during := c.acknowledged()
			comes(t, "more events are refused while "+what, func() bool { return refused() >= already+30 })
			if now := c.acknowledged(); now != during {
				t.Errorf("%d events were acknowledged while %s", now-during, what)
			}
			repair()
			after := c.acknowledged()
			comes(t, "events are acknowledged after "+what, func() bool { return c.acknowledged() >= after+20 })
			comes(t, "/readyz reports that it is over", func() bool { _, err := asks.Get(t.Context(), "/readyz", nil); return err == nil })
		}
	}
	c.end()
	delete(c.others, "503 storage_unavailable")
	delete(c.others, "none") // broken off at the end
	if len(c.others) > 0 {
		t.Errorf("other answers: %v", c.others)
	}
	p.kill(t)
	kept(t, p.dir, c.acked)
	t.Logf("%d windows, %d acknowledged events, 0 lost", 5*windows, len(c.acked))
}
