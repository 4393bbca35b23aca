package cli

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"

	"tillhook/receiver/health"
)

// lookAtSocketUnits checks whether the service's public socket is open, where a socket unit opens
// it: the port is not the receiver's own then, and TILLHOOK_LISTEN does not change it.
func (d *doctor) lookAtSocketUnits(ctx context.Context) {
	address, unit := d.settings.Listens()
	if unit == "" {
		return
	}
	states, err := unitStates(ctx, unit)
	if err != nil {
		d.unknown(health.PublicPort, "look at it: systemctl status "+unit, "Whether %s is open cannot be found out: %v.", unit, err)
		return
	}
	change := "systemctl edit " + unit + ", with the lines [Socket], ListenStream= and ListenStream=127.0.0.1:8081, then systemctl restart " + unit
	switch {
	case states[unit] == "active":
		d.ok(health.PublicPort, "%s listens on %s; deliveries wait there while the receiver does not run.", unit, address)
	case strings.HasPrefix(address, "/"), strings.HasPrefix(address, "@"):
		d.fail(health.PublicPort, "systemctl start "+unit, "%s does not listen on %s.", unit, address)
	case inUse(address):
		d.fail(health.PublicPort, "see which: ss -ltnp; end it, or give the socket another port: "+change,
			"Another program listens on %s, so that %s cannot. TILLHOOK_LISTEN does not change that port.", address, unit)
	default:
		d.fail(health.PublicPort, "systemctl start "+unit, "%s does not listen on %s, which is free.", unit, address)
	}
}

// inUse reports whether an address cannot be listened on because another program does.
func inUse(address string) bool {
	l, err := net.Listen("tcp", address)
	if err == nil {
		_ = l.Close() // it was only tried
	}
	return errors.Is(err, syscall.EADDRINUSE)
}
