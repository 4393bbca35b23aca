package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/server"
	"tillhook/systemd"
)

// A ledger that cannot be opened is tried again after firstRetry, then after twice as long each
// time, up to lastRetry. While the next step stays the same, the log repeats it every repeatAfter.
const (
	firstRetry  = time.Second
	lastRetry   = 30 * time.Second
	repeatAfter = 10 * time.Minute
)

// isService reports whether a service manager runs this process and holds its sockets. If such a
// process exited, it would be started again every second, and callers would wait in the sockets.
func (a *App) isService() bool { return systemd.Managed() && len(a.sockets.All()) > 0 }

// waiter stands in for a receiver whose ledger cannot be opened. It answers 503 to everything but
// the liveness probe, and tries to open the ledger again.
type waiter struct {
	*App
	path   string       // of the ledger
	status atomic.Value // string: what is wrong and the next step
	logged string       // the next step that was logged last
	at     time.Time    // when that was
}

func (w *waiter) statusLine() string { return w.status.Load().(string) }

// waitForLedger answers 503 on the passed sockets until the ledger can be opened. It returns nil if
// ctx ends first.
func (a *App) waitForLedger(ctx context.Context, failed error) error {
	w := &waiter{App: a, path: ledger.Path(a.config.DataDir)}
	w.failed(failed)
	a.warn(systemd.Ready(w.statusLine()), "the ledger cannot be opened") // else "systemctl start" would wait
	g := NewGroup(a.log)
	g.Go("systemd notifier", func(ctx context.Context) error {
		return systemd.RunNotifier(ctx, func(context.Context) error { return nil }, w.statusLine)
	})
	err := w.serve(g)
	if err == nil {
		err = w.retry(ctx, g)
	}
	if err = errors.Join(err, g.Stop()); ctx.Err() != nil {
		return nil
	}
	return err
}

// retry returns nil once the ledger is open.
func (w *waiter) retry(ctx context.Context, g *Group) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-g.Ended():
			return err
		case <-time.After(pause):
		}
		err := w.openLedger(ctx)
		if err == nil {
			w.log.Info("the ledger was opened: events are accepted again", "ledger", w.path)
			return nil
		}
		w.failed(err)
	}
}

// failed records why the ledger was not opened, and logs it if the next step is another one than
// before. (The error's text may differ each time: it can name a temporary file.)
func (w *waiter) failed(err error) {
	next := openAdvice(w.path, err)
	if fault := new(ledger.PathFault); errors.As(err, &fault) {
		err = fmt.Errorf("%s", fault.What()) // without its next step
	}
	w.status.Store(fmt.Sprintf("FAULT: every event is answered 503: the ledger cannot be opened: %v. Next step: %s",
		err, next))
	if next == w.logged && time.Since(w.at) < repeatAfter {
		return
	}
	w.logged, w.at = next, time.Now()
	w.log.Error("the ledger cannot be opened: senders are answered 503, and the receiver keeps trying", "error", err,
		"next", next)
}

// serve starts servers on duplicates of the passed sockets, and on the operator's port. Stripe's
// side is not told the reason. The webhook listener speaks TLS as the receiver will, with a
// certificate that is there already: else Stripe would see a TLS failure instead of the 503.
func (w *waiter) serve(g *Group) error {
	public := server.Unavailable("storage_unavailable", "The receiver cannot open its ledger; its log says why.")
	private := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = rw.Write([]byte("ok")) // the client may be gone
			return
		}
		server.Unavailable("storage_unavailable", w.statusLine()).ServeHTTP(rw, r)
	})
	var secure *tls.Config
	if w.config.TLS.On() {
		certificates := w.newCertificates()
		secure = certificates.Config()
		w.followCertificate(g, certificates)
	}
	for name, side := range map[string]struct {
		listeners []net.Listener
		handler   http.Handler
		tls       *tls.Config
	}{
		"public":     {w.sockets.Public, public, secure},
		"challenges": {w.sockets.Challenges, public, nil},
		"operator's": {w.sockets.Operator, private, nil},
	} {
		for _, l := range side.listeners {
			own, err := server.Duplicate(l)
			if err != nil {
				return fmt.Errorf("answer on the %s socket: %w", name, err)
			}
			s := server.New(own, side.handler, w.log)
			s.UseTLS(side.tls)
			g.Serve(name+" socket", s)
		}
	}
	if w.config.OperatorListen == "" {
		return nil
	}
	l, err := server.Listen(w.config.OperatorListen)
	if err != nil {
		w.log.Warn("the operator's port cannot be opened (TILLHOOK_OPERATOR_LISTEN)", "error", err)
		return nil
	}
	g.Serve("operator's port", server.New(l, private, w.log))
	return nil
}

// openAdvice returns the next step for a ledger that cannot be opened.
func openAdvice(path string, err error) string {
	is := func(causes ...error) bool {
		return slices.ContainsFunc(causes, func(cause error) bool { return errors.Is(err, cause) })
	}
	fault := new(ledger.PathFault)
	switch {
	case is(ledger.ErrLocked):
		return "end the other program that has the file open: fuser -v " + path
	case is(fs.ErrPermission):
		return permissionAdvice(path)
	case is(ledger.ErrNoSpace, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG):
		return "free some space on the disk"
	case errors.As(err, &fault):
		return fault.Next
	case is(syscall.ENOTDIR, fs.ErrExist):
		return "move away what is in the place of the data folder, or set TILLHOOK_DATA_DIR to another folder and " +
			"restart"
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

// permissionAdvice returns the next step for a ledger that this user may not open: about the file
// only if this user may use its folder.
func permissionAdvice(path string) string {
	const writeAndSearch = 0x2 | 0x1 // access(2)
	if syscall.Access(filepath.Dir(path), writeAndSearch) == nil && syscall.Access(path, 0) == nil {
		return fmt.Sprintf("give it to the user that the receiver runs as, who owns the data folder: chown "+
			"--reference=%s %s", filepath.Dir(path), path)
	}
	return fmt.Sprintf("let the user that the receiver runs as (%d) enter the folder and write to it: namei -l %s shows "+
		"which part of the path refuses", os.Geteuid(), path)
}
