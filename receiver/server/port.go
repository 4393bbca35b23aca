package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Port serves a handler on a TCP port that the program can do without. If another program uses the
// port, Port reports that and tries again.
type Port struct {
	Address string // host:port
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
	l, err := Listen(p.Address)
	if err != nil {
		if problem := err.Error(); p.problem.Swap(&problem) == nil {
			p.Log.Warn("the port for metrics and health cannot be opened; events are received without it, and it is "+
				"tried again",
				"error", err, "every", p.Every.String(), "next", p.Advice)
		}
		return ""
	}
	if p.problem.Swap(nil) != nil {
		p.Log.Info("the port for metrics and health is open now", "address", l.Addr().String())
	}
	p.listener = l
	return l.Addr().String()
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
