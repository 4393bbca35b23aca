package systemd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
)

// ToJournal reports whether a file is the connection to the journal that the service manager made
// for this process ($JOURNAL_STREAM of systemd.exec(5)). A file that it was redirected to is not.
func ToJournal(f *os.File) bool {
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &stat); err != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// Priorities of sd-daemon(3). The journal takes them from the beginning of a line, and does not
// show them.
const (
	priorityError   = "<3>"
	priorityWarning = "<4>"
	priorityInfo    = "<6>"
	priorityDebug   = "<7>"
)

// JournalHandler returns a handler whose lines begin with their priority, for "journalctl -p
// warning". make returns a handler that writes each record with one call.
func JournalHandler(to io.Writer, make func(to io.Writer) slog.Handler) slog.Handler {
	h := journalHandler{}
	for priority := range h {
		h[priority] = make(prefixer{to, [...]string{priorityDebug, priorityInfo, priorityWarning, priorityError}[priority]})
	}
	return h
}

// journalHandler holds a handler for each of debug, info, warn and error: they differ in what their
// lines begin with.
type journalHandler [4]slog.Handler

func (h journalHandler) of(level slog.Level) slog.Handler {
	switch {
	case level >= slog.LevelError:
		return h[3]
	case level >= slog.LevelWarn:
		return h[2]
	case level >= slog.LevelInfo:
		return h[1]
	}
	return h[0]
}

func (h journalHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.of(level).Enabled(ctx, level)
}

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.of(r.Level).Handle(ctx, r)
}

func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for i := range h { // h is a copy
		h[i] = h[i].WithAttrs(attrs)
	}
	return h
}

func (h journalHandler) WithGroup(name string) slog.Handler {
	for i := range h {
		h[i] = h[i].WithGroup(name)
	}
	return h
}

// JournalErrors returns a writer for what ends a service: each line is an error of the journal, but
// those that have a priority already.
func JournalErrors(to io.Writer) io.Writer { return prefixer{to, priorityError} }

// prefixer writes a priority before each line that has none.
type prefixer struct {
	to     io.Writer
	prefix string
}

func (p prefixer) Write(text []byte) (int, error) {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if len(line) < 3 || line[0] != '<' || line[2] != '>' {
			out.WriteString(p.prefix)
		}
		out.Write(line)
	}
	if _, err := out.WriteTo(p.to); err != nil {
		return 0, err
	}
	return len(text), nil
}
