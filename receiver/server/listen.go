package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Listen listens on a TCP address, host:port. 0.0.0.0 is every IPv4 address and no other; an empty
// host is every address.
func Listen(address string) (net.Listener, error) {
	network := "tcp"
	if a, err := netip.ParseAddrPort(address); err == nil && a.Addr().Is4() {
		network = "tcp4"
	}
	l, err := net.Listen(network, address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = &listenError{"another program listens on " + address +
			" (ss -ltnp shows which): end it, or set another address", err}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		err = &listenError{"this machine has no address " + address +
			": set one that it has, or 0.0.0.0 for all of them", err}
	case errors.Is(err, fs.ErrPermission):
		err = &listenError{"this user may not listen on " + address +
			": choose a port from 1024 on, or have a socket unit open it", err}
	case errors.As(err, new(*net.DNSError)):
		err = &listenError{"the host in " + address +
			" has no address: set an IP address of this machine, or 0.0.0.0 for all of them", err}
	case err != nil:
		err = &listenError{fmt.Sprintf("this machine cannot listen on %s (%v): set another address", address, err), err}
	}
	return l, err
}

// listenError says why a program cannot listen on an address, and what to do.
type listenError struct {
	text string
	err  error
}

func (e *listenError) Error() string { return e.text }
func (e *listenError) Unwrap() error { return e.err }

// Duplicate returns another listener of the same socket. Closing one leaves the other open.
func Duplicate(l net.Listener) (net.Listener, error) {
	socket, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("a listener of type %T cannot be duplicated", l)
	}
	f, err := socket.File()
	if err != nil {
		return nil, err
	}
	l, err = net.FileListener(f)
	return l, errors.Join(err, f.Close())
}

// ListenUnix listens on a unix socket that its group may use (mode 0660). It replaces a socket that
// an ended process left, and returns an error for one that answers.
func ListenUnix(path string) (net.Listener, error) {
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		return nil, errors.Join(fmt.Errorf("another process listens on %s", path), conn.Close())
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("another process seems to listen on %s: %w", path, err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s exists and is not a socket; set TILLHOOK_OPERATOR_SOCKET to another path", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace the socket of an earlier run: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
