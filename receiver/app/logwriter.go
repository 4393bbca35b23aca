package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"tillhook/receiver/health"
)

const (
	// maxBuffered bounds the lines that wait to be written, in bytes.
	maxBuffered = 1 << 20
	// maxWait is how long Write waits, in total, for a log that is not read. After that it drops
	// lines until the log is read again.
	maxWait = 100 * time.Millisecond
	// dropsMatter is how long dropped lines are a finding after the last one.
	dropsMatter = 30 * time.Second
	// flushTime bounds the writing of the last lines.
	flushTime = time.Second
)

// LogWriter writes a log. While Run runs, Run writes all lines that wait together, and Write does
// not wait for that; before and after, Write writes each line itself. A log that is not read loses
// lines and never stops the program: once maxBuffered bytes wait, Write waits for maxWait in total
// and then drops lines until there is space. A crash loses the lines that wait.
type LogWriter struct {
	to    io.Writer
	more  chan struct{} // receives when a line waits
	start time.Time

	mu        sync.Mutex    // guards what follows
	space     chan struct{} // closed, and replaced, when there is space again
	waiting   bytes.Buffer
	running   bool
	fullSince time.Time // when Write began to wait for space; zero while there is some
	lost      uint64    // dropped lines that Run has not reported yet

	dropped  atomic.Uint64 // lines, since the start
	lastDrop atomic.Int64  // nanoseconds since start, so that no change of the clock matters; 0 for none
}

// NewLogWriter returns a LogWriter. It counts lines that to fails to write as dropped, because an
// error of the log cannot be logged.
func NewLogWriter(to io.Writer) *LogWriter {
	return &LogWriter{to: to, more: make(chan struct{}, 1), space: make(chan struct{}), start: time.Now()}
}

// Write takes one or more lines. It never fails.
func (l *LogWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running && l.full(line) {
		l.awaitSpace(line)
	}
	switch {
	case !l.running:
		_, _ = l.to.Write(line)
	case l.full(line):
		l.drop(line)
	default:
		l.waiting.Write(line)
		select {
		case l.more <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

func (l *LogWriter) full(line []byte) bool {
	return l.waiting.Len() > 0 && l.waiting.Len()+len(line) > maxBuffered
}

// awaitSpace waits until there is space for a line, or there was none for maxWait. It releases the
// lock meanwhile.
func (l *LogWriter) awaitSpace(line []byte) {
	if l.fullSince.IsZero() {
		l.fullSince = time.Now()
	}
	for l.running && l.full(line) {
		wait := maxWait - time.Since(l.fullSince)
		if wait <= 0 {
			return
		}
		space := l.space
		l.mu.Unlock()
		select {
		case <-space:
		case <-time.After(wait):
		}
		l.mu.Lock()
	}
}

// drop counts lines that will not be written.
func (l *LogWriter) drop(lines []byte) {
	n := uint64(max(1, bytes.Count(lines, []byte("\n"))))
	l.lost += n
	l.dropped.Add(n)
	l.lastDrop.Store(max(1, int64(time.Since(l.start))))
}

// Dropped returns the number of lines dropped since the start.
func (l *LogWriter) Dropped() uint64 { return l.dropped.Load() }

// Findings reports that lines are being dropped, or were a moment ago.
func (l *LogWriter) Findings() []health.Finding {
	if last := l.lastDrop.Load(); last == 0 || time.Since(l.start)-time.Duration(last) > dropsMatter {
		return nil
	}
	return []health.Finding{{Code: health.Log, Severity: health.Warn,
		Message: fmt.Sprintf("The log is not read fast enough, or cannot be written. Lines dropped since the start: %d.", l.Dropped()),
		Next: "see whether its reader works: systemctl status systemd-journald, the disk of the log, or the other " +
			"end of the pipe"}}
}

// Start starts Run and returns a function that ends it, after the last lines are written or
// flushTime is over. Run calls report as soon as it can write after lines were dropped.
func (l *LogWriter) Start(report func(dropped uint64)) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l.mu.Lock()
	l.running = true // Run may begin later
	l.mu.Unlock()
	go func() { ended <- l.Run(ctx, report) }()
	return func() {
		cancel()
		select {
		case <-ended: // Run has no error
		case <-time.After(flushTime):
		}
	}
}

// Run writes lines until ctx ends, and then the lines that wait. Only one Run may run.
func (l *LogWriter) Run(ctx context.Context, report func(dropped uint64)) error {
	l.mu.Lock()
	l.running = true
	l.mu.Unlock()
	var writing bytes.Buffer
	failed := false // the last write
	for {
		select {
		case <-l.more:
		case <-ctx.Done():
		}
		l.mu.Lock()
		lost := l.lost
		if failed { // a line about the loss would be lost, too
			lost = 0
		}
		if ctx.Err() != nil && l.waiting.Len() == 0 && lost == 0 {
			l.running = false
			l.wakeWriters()
			l.mu.Unlock()
			return nil
		}
		writing, l.waiting = l.waiting, writing
		l.lost -= lost
		l.wakeWriters()
		l.mu.Unlock()
		if lost > 0 {
			report(lost) // its line follows those being written now, which is where lines are missing
		}
		// The lock is not held: this may wait for a log that is not read, and Write must not.
		_, err := writing.WriteTo(l.to)
		if failed = err != nil; failed {
			l.mu.Lock()
			l.drop(writing.Bytes())
			l.mu.Unlock()
		}
		writing.Reset()
	}
}

// wakeWriters wakes the calls that wait for space. The caller holds the lock.
func (l *LogWriter) wakeWriters() {
	l.fullSince = time.Time{}
	close(l.space)
	l.space = make(chan struct{})
}
