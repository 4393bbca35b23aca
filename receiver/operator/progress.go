package operator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// progressHeader is set by a client that accepts reports of progress, as interim answers (102, see
// RFC 2518, section 10.1), which not every HTTP client can read.
const progressHeader = "Tillhook-Progress"

// progressEvery is the time between two reports of progress.
const progressEvery = time.Second

// during runs work that can take long before the answer begins. It reports progress to a client
// that accepts that: once at the beginning, and then whenever figure has changed. work must not
// modify the answer's header.
func during(w http.ResponseWriter, r *http.Request, figure func() string, work func() error) error {
	if r.Header.Get(progressHeader) == "" {
		return work()
	}
	done := make(chan error, 1)
	go func() { done <- work() }()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	last := figure()
	progressed := func() {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendTime)) // not supported without a network
		w.WriteHeader(http.StatusProcessing)
	}
	progressed()
	for {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			if now := figure(); now != last {
				last = now
				progressed()
			}
		}
	}
}

// effort measures whether a goroutine makes progress: its thread uses the processor or gets pages.
// A thread that waits for a hanging disk does neither.
type effort struct{ thread atomic.Int64 }

// begin binds the calling goroutine to its thread until end is called.
func (e *effort) begin() (end func()) {
	runtime.LockOSThread()
	e.thread.Store(int64(syscall.Gettid()))
	return runtime.UnlockOSThread
}

// figure returns what the thread has used.
func (e *effort) figure() string {
	return Effort(fmt.Sprintf("/proc/self/task/%d/stat", e.thread.Load()))
}

// Effort returns the page faults and the processor time of a process or a thread, from its file
// stat below /proc. It is empty before the beginning and after the end. See proc_pid_stat(5).
func Effort(file string) string {
	stat, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // after the name, from the third field on
	if len(fields) < 13 {
		return ""
	}
	return strings.Join(fields[7:13], " ")
}

// Silent is the error of a receiver that accepted a request and did not answer in time.
type Silent struct {
	Socket string
	For    time.Duration
	Began  bool // it had begun to work on the answer
	Hint   string
}

func (s *Silent) Error() string {
	if s.Began {
		return fmt.Sprintf("the receiver at %s made no progress for %s, and the request was canceled: %s", s.Socket,
			s.For, s.Hint)
	}
	return fmt.Sprintf("the receiver at %s has not answered for %s: it may be restarting, or fail to start; %s",
		s.Socket, s.For, s.Hint)
}

// watch bounds the time of one request of a client.
type watch struct {
	client *Client
	caller context.Context
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer            // nil if the client waits for any time
	silent atomic.Pointer[Silent] // the error with which the timer ends the request
}

func (c *Client) watch(ctx context.Context) *watch {
	w := &watch{client: c, caller: ctx}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	if c.AnswerTime == 0 {
		return w
	}
	w.silent.Store(&Silent{Socket: c.socket, For: c.AnswerTime, Hint: c.Hint})
	w.timer = time.AfterFunc(c.AnswerTime, func() { w.cancel(w.silent.Load()) })
	w.ctx = httptrace.WithClientTrace(w.ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { w.progressed(); return nil },
	})
	return w
}

// progressed extends the time to the next sign of progress.
func (w *watch) progressed() {
	if w.timer != nil {
		w.silent.Store(&Silent{Socket: w.client.socket, For: w.client.StallTime, Began: true, Hint: w.client.Hint})
		w.timer.Reset(w.client.StallTime)
	}
}

func (w *watch) pause() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) end() {
	w.pause()
	w.cancel(nil)
}

// explain returns in plain words why there is no complete answer.
func (w *watch) explain(err error) error {
	var silent *Silent
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var dial *net.OpError
	switch {
	case errors.As(context.Cause(w.ctx), &silent):
		return silent
	case w.caller.Err() != nil:
		return context.Cause(w.caller)
	case w.client.socket == "":
		return err
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("no receiver answers at %s (%w): %s", w.client.socket, dial.Err, w.client.Hint)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the receiver at %s ended the connection before its answer was complete: it was stopped, "+
			"or failed; %s", w.client.socket, w.client.Hint)
	}
	return fmt.Errorf("ask the receiver at %s: %w", w.client.socket, err)
}

// watchedBody is an answer whose pieces must arrive in time. The reader may take any time between
// them.
type watchedBody struct {
	io.ReadCloser
	watch *watch
	size  int64
}

// Size returns the length of the answer in bytes, or less than 1 if it is not known.
func (b *watchedBody) Size() int64 { return b.size }

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.progressed()
	n, err := b.ReadCloser.Read(p)
	b.watch.pause()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.watch.explain(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.watch.end()
	return b.ReadCloser.Close()
}
