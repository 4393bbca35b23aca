package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Port serves a handler on a TCP port or a unix socket that the program can do without. If it
// cannot be opened, Port reports that and tries again.
type Port struct {
	Name    string // for the log
	Address string // host:port, or the path of a socket
	Listen  func(address string) (net.Listener, error)
	Handler http.Handler
	Every   time.Duration // between two attempts to open it
	Advice  string        // the next step where it cannot be opened, for the log
	Log     *slog.Logger

	listener net.Listener           // from Open to Run
	problem  atomic.Pointer[string] // why it is not open; nil while it is
}

// Open tries to open the port and returns the address that it listens on, "" if it could not be
// opened. Run must follow.
func (p *Port) Open() (address string) {
	l, err := p.Listen(p.Address)
	if err != nil {
		if problem := err.Error(); p.problem.Swap(&problem) == nil {
			p.Log.Warn(p.Name+" cannot be opened; events are received without it, and it is tried again",
				"error", err, "every", p.Every.String(), "next", p.Advice)
		}
		return ""
	}
	if p.problem.Swap(nil) != nil {
		p.Log.Info(p.Name+" is open now", "address", l.Addr().String())
	}
	p.listener = l
	return l.Addr().String()
}

// Close closes a port that Open has opened and that does not run.
func (p *Port) Close() {
	if p.listener != nil {
		_ = p.listener.Close() // nothing was written to it
	}
}

// Run serves until ctx ends. It opens the port first if Open has not succeeded.
func (p *Port) Run(ctx context.Context) error {
	for p.listener == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(p.Every):
			p.Open()
		}
	}
	s := New(p.listener, p.Handler, p.Log)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	return s.Shutdown(ctx)
}

// Problem returns why the port is not open, "" while it is.
func (p *Port) Problem() string {
	if problem := p.problem.Load(); problem != nil {
		return *problem
	}
	return ""
}
