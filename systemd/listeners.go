package systemd

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
)

// Listeners are the sockets that the service manager opened for this process, by the
// FileDescriptorName= of the units beside this package.
type Listeners struct {
	Public, Operator, Challenges []net.Listener

	unknown []net.Listener // of another name
	fault   *Fault
}

// Fault is what is wrong with the sockets, so that a receiver cannot start.
type Fault struct {
	Name    string // of the socket
	Problem string
	Mend    string // the next step
}

// NewListeners returns listeners of the sockets, which it closes. The service manager keeps them
// open.
func NewListeners(sockets []*os.File) *Listeners {
	s := &Listeners{}
	for _, f := range sockets {
		name := f.Name()
		l, err := net.FileListener(f)
		if err := errors.Join(err, f.Close()); err != nil {
			s.fault = &Fault{"the socket " + name, "that the service manager passed is of no use (" + err.Error() + ")", "look at its unit: it needs ListenStream="}
			continue
		}
		switch name {
		case "public":
			s.Public = append(s.Public, l)
		case "operator":
			s.Operator = append(s.Operator, l)
		case "http":
			s.Challenges = append(s.Challenges, l)
		default:
			s.unknown = append(s.unknown, l)
			s.fault = &Fault{"the socket " + name, "that the service manager passed has a name that means nothing", "give its unit FileDescriptorName=public, operator or http"}
		}
	}
	return s
}

// All returns every one of them.
func (s *Listeners) All() []net.Listener {
	return slices.Concat(s.Public, s.Operator, s.Challenges, s.unknown)
}

// Check returns what a receiver cannot start with, nil for nothing. Where other sockets were
// passed, the public one must be, too: its unit says where senders connect, and listening on
// another address would go unnoticed. usual is the address of the unit as it is packaged.
func (s *Listeners) Check(usual string) *Fault {
	if s.fault != nil || len(s.Public) > 0 || len(s.All()) == 0 {
		return s.fault
	}
	l, err := net.Listen("tcp", usual)
	if err == nil {
		err = l.Close() // it was only tried
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return &Fault{"tillhook.socket", "is not open: another program listens on " + usual,
			"end that program (ss -ltnp shows which), or choose another port with \"systemctl edit tillhook.socket\": " +
				"[Socket], ListenStream=, ListenStream=127.0.0.1:8081, a line each; then systemctl restart tillhook"}
	}
	return &Fault{"tillhook.socket", "is not open", "systemctl status tillhook.socket says why; then systemctl restart tillhook"}
}
