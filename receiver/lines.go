package receiver

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
	// maxLines bounds what waits to be written, in bytes.
	maxLines = 1 << 20
	// maxWait is how long writing waits for room once the log is not read. After that lines are
	// dropped until it is read again.
	maxWait = 100 * time.Millisecond
	// dropsMatter is how long dropped lines are a finding after the last one.
	dropsMatter = 30 * time.Second
)

// Lines writes a log. While Run runs, lines that come together are written together, by Run, and
// the caller of Write does not wait for that; before and after, each is written at once. A log that
// is not read loses lines, and never stops the program: once maxLines wait, Write waits for maxWait
// in total, and then drops what comes until there is room. The end of the process takes with it
// what came in the last moment.
type Lines struct {
	to    io.Writer
	more  chan struct{} // receives when something waits
	start time.Time

	mu        sync.Mutex    // guards what follows
	room      chan struct{} // closed, and replaced, when there is room again
	waiting   bytes.Buffer
	running   bool
	fullSince time.Time // when Write began to wait for room; zero while there is room
	lost      uint64    // lines dropped that Run has not reported yet

	dropped  atomic.Uint64 // lines, since the start
	lastDrop atomic.Int64  // nanoseconds since start, which no change of the clock moves; 0 for none
}

// NewLines writes to a file, a pipe or whatever else takes a log. Its errors are not reported,
// because there is no other place to report them to; the lines count as dropped.
func NewLines(to io.Writer) *Lines {
	return &Lines{to: to, more: make(chan struct{}, 1), room: make(chan struct{}), start: time.Now()}
}

// Write takes one line, or several. It never fails.
func (l *Lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running && l.full(line) {
		l.await(line)
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

func (l *Lines) full(line []byte) bool {
	return l.waiting.Len() > 0 && l.waiting.Len()+len(line) > maxLines
}

// await waits until there is room for a line, or maxWait is over since there was none. It releases
// the lock meanwhile.
func (l *Lines) await(line []byte) {
	if l.fullSince.IsZero() {
		l.fullSince = time.Now()
	}
	for l.running && l.full(line) {
		wait := maxWait - time.Since(l.fullSince)
		if wait <= 0 {
			return
		}
		room := l.room
		l.mu.Unlock()
		select {
		case <-room:
		case <-time.After(wait):
		}
		l.mu.Lock()
	}
}

// drop counts lines that will not be written.
func (l *Lines) drop(lines []byte) {
	n := uint64(max(1, bytes.Count(lines, []byte("\n"))))
	l.lost += n
	l.dropped.Add(n)
	l.lastDrop.Store(max(1, int64(time.Since(l.start))))
}

// Dropped returns how many lines were dropped since the start.
func (l *Lines) Dropped() uint64 { return l.dropped.Load() }

// Findings say that lines are dropped, if that goes on or has just ended.
func (l *Lines) Findings() []health.Finding {
	if last := l.lastDrop.Load(); last == 0 || time.Since(l.start)-time.Duration(last) > dropsMatter {
		return nil
	}
	return []health.Finding{{Code: health.Log, Severity: health.Warn,
		Message: fmt.Sprintf("The log is not read fast enough, or cannot be written. Lines dropped since the start: %d.", l.Dropped()),
		Next:    "see whether what reads it works: systemctl status systemd-journald, the disk of the log, or the other end of the pipe"}}
}

// endTime is what the last lines of a log get, whatever was slow before.
const endTime = time.Second

// Start has lines written together until the returned function is called, which sees to the last
// ones. report is called with the number of lines that were dropped, once the log is read again.
func (l *Lines) Start(report func(dropped uint64)) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l.mu.Lock()
	l.running = true // from now on: Run may begin later
	l.mu.Unlock()
	go func() { ended <- l.Run(ctx, report) }()
	return func() {
		cancel()
		select {
		case <-ended: // it has no error
		case <-time.After(endTime):
		}
	}
}

// Run writes what comes until ctx ends, and then what still waits. It runs once.
func (l *Lines) Run(ctx context.Context, report func(dropped uint64)) error {
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
		if failed { // what is logged about the loss would be lost, too
			lost = 0
		}
		if ctx.Err() != nil && l.waiting.Len() == 0 && lost == 0 {
			l.running = false
			l.makeRoom()
			l.mu.Unlock()
			return nil
		}
		writing, l.waiting = l.waiting, writing
		l.lost -= lost
		l.makeRoom()
		l.mu.Unlock()
		if lost > 0 {
			report(lost) // its line follows what is written now, which is where the lines are missing
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

// makeRoom wakes who waits for room. The caller holds the lock.
func (l *Lines) makeRoom() {
	l.fullSince = time.Time{}
	close(l.room)
	l.room = make(chan struct{})
}
