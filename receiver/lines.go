package receiver

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"
)

// maxLines bounds what waits to be written, in bytes: behind a log that nobody takes, events wait.
const maxLines = 1 << 20

// Lines writes a log. While Run runs, lines that come together are written together, by Run, and whoever logs does not wait
// for that; before and after, each is written at once. The end of the process takes with it what came in the last moment.
type Lines struct {
	to   io.Writer
	more chan struct{} // told when something waits

	mu      sync.Mutex // guards what follows
	room    sync.Cond
	waiting bytes.Buffer
	running bool
}

// NewLines writes to a file, a pipe or whatever else takes a log. Its errors are nobody's: there is no other place to tell them.
func NewLines(to io.Writer) *Lines {
	l := &Lines{to: to, more: make(chan struct{}, 1)}
	l.room.L = &l.mu
	return l
}

// Write takes one line, or several. It never fails.
func (l *Lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.running && l.waiting.Len() > 0 && l.waiting.Len()+len(line) > maxLines {
		l.room.Wait()
	}
	if !l.running {
		_, _ = l.to.Write(line)
		return len(line), nil
	}
	l.waiting.Write(line)
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(line), nil
}

// endTime is what the last lines of a log get, whatever was slow before.
const endTime = time.Second

// Start has lines written together until the returned function is called, which sees to the last ones.
func (l *Lines) Start() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return func() {
		cancel()
		select {
		case <-ended: // it has no error
		case <-time.After(endTime):
		}
	}
}

// Run writes what comes until ctx ends, and then what still waits. It runs once.
func (l *Lines) Run(ctx context.Context) error {
	l.mu.Lock()
	l.running = true
	l.mu.Unlock()
	var writing bytes.Buffer
	for ctx.Err() == nil {
		select {
		case <-l.more:
		case <-ctx.Done():
			continue
		}
		l.mu.Lock()
		writing, l.waiting = l.waiting, writing
		l.room.Broadcast()
		l.mu.Unlock()
		_, _ = writing.WriteTo(l.to)
		writing.Reset()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.waiting.WriteTo(l.to)
	l.waiting.Reset()
	l.running = false
	l.room.Broadcast()
	return nil
}
