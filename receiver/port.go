package receiver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"tillhook/receiver/health"
)

// Port serves metrics and health on a TCP port. Events are received without it, too: a port that
// another program uses is reported and tried again.
type Port struct {
	Address string // host:port
	Handler http.Handler
	Every   time.Duration // between two tries to open it
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
			p.Log.Warn("the port for metrics and health cannot be opened; events are received all the same, and it is tried again",
				"error", err, "every", p.Every.String(), "next", portAdvice)
		}
		return ""
	}
	if p.problem.Swap(nil) != nil {
		p.Log.Info("the port for metrics and health is open now", "address", l.Addr().String())
	}
	p.listener = l
	return l.Addr().String()
}

// Run serves until ctx ends. It opens the port first where that has not been possible.
func (p *Port) Run(ctx context.Context) error {
	for p.listener == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(p.Every):
			p.Open()
		}
	}
	door := NewDoor(p.listener, p.Handler, p.Log)
	ended := make(chan error, 1)
	go func() { ended <- door.Serve() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), doorsTime)
	defer cancel()
	return door.Shutdown(ctx)
}

const portAdvice = "set TILLHOOK_OPERATOR_LISTEN to another address, or to off, and restart"

// Findings returns what is wrong with the port, if anything is.
func (p *Port) Findings() []health.Finding {
	problem := p.problem.Load()
	if problem == nil {
		return nil
	}
	return []health.Finding{{Code: health.OperatorPort, Severity: health.Warn, Next: portAdvice,
		Message: fmt.Sprintf("The port for metrics and health cannot be opened: %s.", *problem)}}
}
