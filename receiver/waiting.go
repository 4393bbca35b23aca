package receiver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/server"
)

// A ledger that cannot be opened is tried again after firstRetry, then after twice as long each
// time, up to lastRetry. While the next step stays the same, the log repeats it every repeatAfter.
const (
	firstRetry  = time.Second
	lastRetry   = 30 * time.Second
	repeatAfter = 10 * time.Minute
)

// Waiting stands in for a receiver whose ledger cannot be opened. It answers 503 to everything but
// the liveness probe and tries to open the ledger again. A process that ended instead would be
// started again every second, and callers would wait for an answer that does not come.
type Waiting struct {
	Public   []net.Listener // their callers do not learn the reason; Run leaves the listeners open
	Operator []net.Listener // their callers do; Run leaves the listeners open
	Listen   string         // host:port of the operator's TCP port; empty if it is off
	Path     string         // of the ledger
	Open     func() error   // tries to open the ledger
	Log      *slog.Logger

	status atomic.Pointer[string]
	logged string    // the next step that was logged last; Run's own, as is at
	at     time.Time // when that was
}

// Status returns what is wrong and the next step, in one line.
func (w *Waiting) Status() string {
	if s := w.status.Load(); s != nil {
		return *s
	}
	return ""
}

// Run returns nil once Open has succeeded, or ctx's error once ctx ends. Failed is called before.
func (w *Waiting) Run(ctx context.Context) (err error) {
	doors := NewGroup(w.Log)
	defer func() { err = errors.Join(err, doors.Stop()) }()
	if err := w.serve(doors); err != nil {
		return err
	}
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-doors.Ended():
			return err
		case <-time.After(pause):
		}
		again := w.Open()
		if again == nil {
			w.Log.Info("the ledger was opened: events are taken again", "ledger", w.Path)
			return nil
		}
		w.Failed(again)
	}
}

// Failed sets Status to why the ledger was not opened, and logs it where the next step is another
// one than before. (An error's text may be another one each time: it can name a temporary file.)
func (w *Waiting) Failed(err error) {
	next := w.advice(err)
	status := fmt.Sprintf("FAULT: every event is answered 503: the ledger cannot be opened: %v. Next step: %s", err, next)
	w.status.Store(&status)
	if next == w.logged && time.Since(w.at) < repeatAfter {
		return
	}
	w.logged, w.at = next, time.Now()
	w.Log.Error("the ledger cannot be opened: senders are answered 503, and it is tried again by itself", "error", err, "next", next)
}

// serve begins to answer on every listener.
func (w *Waiting) serve(doors *Group) error {
	public := server.Unavailable("storage_unavailable", "The receiver cannot open its ledger; its log says why.")
	private := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = rw.Write([]byte("ok")) // the caller may have gone
			return
		}
		server.Unavailable("storage_unavailable", w.Status()).ServeHTTP(rw, r)
	})
	for name, side := range map[string]struct {
		listeners []net.Listener
		handler   http.Handler
	}{"public": {w.Public, public}, "operator's": {w.Operator, private}} {
		for _, l := range side.listeners {
			own, err := server.Duplicate(l)
			if err != nil {
				return fmt.Errorf("answer on the %s socket: %w", name, err)
			}
			doors.Serves(name+" socket", server.New(own, side.handler, w.Log))
		}
	}
	if w.Listen == "" {
		return nil
	}
	l, err := server.Listen(w.Listen)
	if err != nil {
		w.Log.Warn("the operator's port cannot be opened (TILLHOOK_OPERATOR_LISTEN)", "error", err)
		return nil
	}
	doors.Serves("operator's port", server.New(l, private, w.Log))
	return nil
}

// advice returns the next step for a ledger that cannot be opened.
func (w *Waiting) advice(err error) string {
	is := func(causes ...error) bool {
		for _, cause := range causes {
			if errors.Is(err, cause) {
				return true
			}
		}
		return false
	}
	switch {
	case is(ledger.ErrLocked):
		return "end the other program that has the file open: fuser -v " + w.Path
	case is(fs.ErrPermission):
		return fmt.Sprintf("give it to the user that the receiver runs as, who owns the data folder: chown --reference=%s %s", filepath.Dir(w.Path), w.Path)
	case is(ledger.ErrNoRoom, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG):
		return "make room on the disk"
	case is(syscall.ENOTDIR, fs.ErrExist):
		return "move away what stands in the place of the data folder, or set TILLHOOK_DATA_DIR to another folder and restart"
	case is(syscall.EROFS):
		return "mount the disk writable"
	case is(ledger.ErrMissing):
		return "put it back, or restore a backup: tillhook restore FILE"
	case is(ledger.ErrSchema):
		return "if a newer version wrote the file, install that version; else restore a backup"
	case is(ledger.ErrCorrupt):
		return "stop the receiver and run tillhook rebuild, or restore a backup"
	}
	return "look at the disk: space, mount, dmesg"
}
