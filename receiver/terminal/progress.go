package terminal

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"tillhook/ledger/wording"
)

// progressEvery is the interval between updates of the line of progress. Shorter work shows none.
const progressEvery = 500 * time.Millisecond

// Progress shows one line on a terminal with what is being done, for how long, and how far it is,
// until the returned function is called, which erases the line and may be called twice. status
// returns how far it is, or "" while that is unknown; it may be nil. Nothing is shown if terminal
// is not a terminal.
func Progress(ctx context.Context, terminal io.Writer, what string, status func(ctx context.Context) string) (end func()) {
	if !IsTerminal(terminal) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	begun := time.Now()
	go func() {
		defer close(done)
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		shown := false
		for {
			select {
			case <-ctx.Done():
				if shown {
					_, _ = io.WriteString(terminal, "\r\x1b[K")
				}
				return
			case <-ticker.C:
			}
			line := what + ": " + elapsed(time.Since(begun))
			if status != nil {
				if text := status(ctx); text != "" {
					line += ", " + text
				}
			}
			line = wording.Escape(line)
			if width := Width(terminal); width > 1 { // a longer line would not be erased completely
				line = shorten(line, width-1)
			}
			if ctx.Err() == nil {
				shown = true
				_, _ = io.WriteString(terminal, "\r\x1b[K"+line)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// elapsed formats the time that something has taken.
func elapsed(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}

// StatusText is a text for a line of progress that another goroutine updates.
type StatusText struct{ text atomic.Pointer[string] }

// Set formats the text.
func (n *StatusText) Set(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.text.Store(&text)
}

// Status returns the text, for [Progress].
func (n *StatusText) Status(context.Context) string {
	if text := n.text.Load(); text != nil {
		return *text
	}
	return ""
}

// Meter counts the bytes that are read from an answer.
type Meter struct {
	answer      io.Reader
	read, whole atomic.Int64 // bytes; whole is 0 if it is unknown
}

// Begin makes m read from an answer. Its size is known if it has a method Size.
func (m *Meter) Begin(answer io.Reader) {
	m.answer = answer
	if sized, ok := answer.(interface{ Size() int64 }); ok {
		m.whole.Store(max(0, sized.Size()))
	}
}

// Bytes returns how many bytes were read.
func (m *Meter) Bytes() int64 { return m.read.Load() }

// Read implements [io.Reader].
func (m *Meter) Read(b []byte) (int, error) {
	n, err := m.answer.Read(b)
	m.read.Add(int64(n))
	return n, err
}

// Mega is the unit of sizes in lines of progress.
const Mega = 1e6

// Status returns how much of the answer was read.
func (m *Meter) Status(context.Context) string {
	read, whole := float64(m.read.Load())/Mega, float64(m.whole.Load())/Mega
	switch {
	case read == 0:
		return ""
	case whole > 0:
		return fmt.Sprintf("%.1f of %.1f MB", read, whole)
	}
	return fmt.Sprintf("%.1f MB", read)
}
