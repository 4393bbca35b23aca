package systemd

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
)

// Listeners are the sockets that the service manager opened for this process, by the
// FileDescriptorName= of the units in this directory.
type Listeners struct {
	Public, Operator, Challenges []net.Listener

	unknown []net.Listener // with another name
	fault   *Fault
}

// Fault is a fault of the sockets that keeps a receiver from starting.
type Fault struct {
	Name    string // name of the socket
	Problem string
	Fix     string // the next step
}

// NewListeners returns listeners for the sockets and closes the files. The service manager keeps
// the sockets open.
func NewListeners(sockets []*os.File) *Listeners {
	s := &Listeners{}
	for _, f := range sockets {
		name := f.Name()
		l, err := net.FileListener(f)
		if err := errors.Join(err, f.Close()); err != nil {
			s.fault = &Fault{"the socket " + name, "that systemd passed cannot be used (" + err.Error() + ")", "check its unit: it needs ListenStream="}
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
			s.fault = &Fault{"the socket " + name, "that systemd passed has an unknown name", "set FileDescriptorName=public, operator or http in its unit"}
		}
	}
	return s
}

// All returns all listeners.
func (s *Listeners) All() []net.Listener {
	return slices.Concat(s.Public, s.Operator, s.Challenges, s.unknown)
}

// Check returns a fault that keeps a receiver from starting, or nil. If any socket was passed, the
// public one must be among them: its unit says where senders connect, and listening on another
// address would go unnoticed. usual is the address of the packaged unit.
func (s *Listeners) Check(usual string) *Fault {
	if s.fault != nil || len(s.Public) > 0 || len(s.All()) == 0 {
		return s.fault
	}
	l, err := net.Listen("tcp", usual)
	if err == nil {
		err = l.Close() // only probes the port
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return &Fault{"tillhook.socket", "is not open: another program listens on " + usual,
			"stop that program (ss -ltnp shows which), or choose another port with \"systemctl edit tillhook.socket\": " +
				"[Socket], ListenStream=, ListenStream=127.0.0.1:8081, on a line each; then run systemctl restart tillhook"}
	}
	return &Fault{"tillhook.socket", "is not open", "run systemctl status tillhook.socket for the reason; then systemctl restart tillhook"}
}
