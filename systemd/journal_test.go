package systemd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tillhook/systemd"
)

// The journal is recognized by device and inode of its connection. Another file is not the journal.
func TestToJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{"": false, "1:2": false, fmt.Sprintf("%d:%d", stat.Dev, stat.Ino): true, fmt.Sprintf("%d:%d", stat.Dev, stat.Ino+1): false} {
		t.Setenv("JOURNAL_STREAM", stream)
		if got := systemd.ToJournal(f); got != want {
			t.Errorf("JOURNAL_STREAM=%s: %t", stream, got)
		}
	}
}

// Each line has the priority of its level, also through derived loggers.
func TestLinesHavePriorities(t *testing.T) {
	var out bytes.Buffer
	h := systemd.JournalHandler(&out, func(to io.Writer) slog.Handler {
		return slog.NewJSONHandler(to, &slog.HandlerOptions{Level: slog.LevelInfo})
	})
	if h.Enabled(context.Background(), slog.LevelDebug) || !h.Enabled(context.Background(), slog.LevelInfo) {
		t.Error("the level is ignored")
	}
	log := slog.New(h)
	log.Debug("one")
	log.Info("two")
	log.With("key", "value").Warn("three")
	log.WithGroup("group").Error("four", "key", "value")
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, line[:3])
	}
	if strings.Join(got, "") != "<6><4><3>" || !strings.Contains(out.String(), `"key":"value"`) || !strings.Contains(out.String(), `"group":{"key":"value"}`) {
		t.Errorf("it wrote\n%s", &out)
	}
	out.Reset()
	const text = "tillhook: two faults:\n  one\n<4>level=WARN\n"
	if n, err := io.WriteString(systemd.JournalErrors(&out), text); n != len(text) || err != nil {
		t.Error(n, err)
	}
	if want := "<3>tillhook: two faults:\n<3>  one\n<4>level=WARN\n"; out.String() != want {
		t.Errorf("it wrote %q, want %q", &out, want)
	}
}
