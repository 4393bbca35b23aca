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

// ToJournal reports whether f is the connection to the journal that the service manager opened for
// this process ($JOURNAL_STREAM of systemd.exec(5)), and not a file that it was redirected to.
func ToJournal(f *os.File) bool {
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &stat); err != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// Priorities of sd-daemon(3). The journal strips them from the beginning of a line.
const (
	priorityError   = "<3>"
	priorityWarning = "<4>"
	priorityInfo    = "<6>"
	priorityDebug   = "<7>"
)

// JournalHandler returns a handler whose lines begin with the priority of their level, so that
// "journalctl -p warning" filters them. make must return a handler that writes each record with one
// call.
func JournalHandler(to io.Writer, make func(to io.Writer) slog.Handler) slog.Handler {
	h := journalHandler{}
	for priority := range h {
		h[priority] = make(prefixWriter{to, [...]string{priorityDebug, priorityInfo, priorityWarning, priorityError}[priority]})
	}
	return h
}

// journalHandler holds one handler each for debug, info, warn and error. They differ in the
// priority that they write.
type journalHandler [4]slog.Handler

func (h journalHandler) handler(level slog.Level) slog.Handler {
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
	return h.handler(level).Enabled(ctx, level)
}

func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.handler(r.Level).Handle(ctx, r)
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

// JournalErrors returns a writer that gives each line the priority of an error, unless the line has
// a priority.
func JournalErrors(to io.Writer) io.Writer { return prefixWriter{to, priorityError} }

// prefixWriter writes a priority before each line that has none.
type prefixWriter struct {
	to     io.Writer
	prefix string
}

func (p prefixWriter) Write(text []byte) (int, error) {
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
