package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/config"
	"tillhook/receiver/operator"
)

// dialTime bounds a connection to a unix socket, and the tries while its backlog is full.
const dialTime = time.Second

// client returns a client of the receiver that holds the ledger or, if none does, of the ledger
// itself. Only one process can open a ledger, so one that a receiver holds is read through it.
func (p *Program) client(ctx context.Context) (client *operator.Client, closeClient func() error, err error) {
	client, looked, err := p.receiver(ctx)
	if client != nil || err != nil {
		return client, func() error { return nil }, err
	}
	s, err := p.settings()
	if err != nil {
		return nil, nil, err
	}
	l, err := ledger.OpenReadOnly(s.DataDir())
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil, nil, p.noLedger(looked, s)
	case errors.Is(err, ledger.ErrLocked):
		return nil, nil, heldElsewhere(looked, s)
	case errors.Is(err, fs.ErrPermission):
		return nil, nil, inaccessible(looked, s)
	case err != nil:
		return nil, nil, err
	}
	return operator.Local(l), l.Close, nil
}

// heldElsewhere is the error if a process holds the ledger and answers at none of the sockets that
// were tried.
func heldElsewhere(looked []string, s *config.Environment) error {
	return fmt.Errorf("%w: %s, which does not answer at %s: set TILLHOOK_OPERATOR_SOCKET to its socket",
		ledger.ErrLocked, ledger.Path(s.DataDir()), strings.Join(looked, " or "))
}

// isHeld reports whether a process is known to hold the ledger.
func isHeld(s *config.Environment) bool {
	held, err := ledger.IsLocked(s.DataDir())
	return held && err == nil
}

// noLedger is the error if no receiver answers and there is no ledger.
func (p *Program) noLedger(looked []string, s *config.Environment) error {
	more := ""
	if known := config.Instances(p.machineRoot()); s.Service != nil && p.instance == "" && len(known) > 0 {
		more = "; for another receiver on this machine add --instance: " + strings.Join(known, ", ")
	}
	return fmt.Errorf("no receiver answers at %s, and there is no ledger in %s: %s, or set TILLHOOK_DATA_DIR to its folder%s",
		strings.Join(looked, " or "), s.DataDir(), startIt(s), more)
}

// inaccessible is the error if no receiver answers and this user may not read the data folder.
func inaccessible(looked []string, s *config.Environment) error {
	return fmt.Errorf("no receiver answers at %s, and this user may not read %s: %s, or run this as root",
		strings.Join(looked, " or "), s.DataDir(), startIt(s))
}

// startIt returns how to start a receiver, for the middle of a sentence.
func startIt(s *config.Environment) string {
	if keeper := s.Keeper(); keeper != nil {
		return "start it with systemctl start " + unitName(keeper.Unit)
	}
	return "start one with tillhook serve"
}

// unitName returns the short name of a service, as used with systemctl.
func unitName(unit string) string { return strings.TrimSuffix(unit, ".service") }

// receiver returns a client of the running receiver that holds the ledger, or nil if none answers,
// and the paths of the sockets that it tried.
func (p *Program) receiver(ctx context.Context) (client *operator.Client, looked []string, err error) {
	s, err := p.settings()
	if err != nil {
		return nil, nil, err
	}
	var denied error
	invisible := false
	for _, at := range s.SocketPaths() {
		conn, err := dialSocket(ctx, at.Path)
		switch {
		case err == nil:
			_ = conn.Close() // it was only a test
			client := operator.Dial(at.Path)
			if keeper := s.Keeper(); keeper != nil {
				client.Hint = "see systemctl status " + unitName(keeper.Unit) + " and journalctl -u " + unitName(keeper.Unit)
			}
			if at.Ask {
				if held, err := ledger.IsLocked(s.DataDir()); err == nil && !held {
					continue // no receiver holds it, so that one cannot
				}
				holds, err := holdsLedger(ctx, client, s.DataDir())
				if err != nil {
					return nil, nil, err
				}
				if !holds {
					continue
				}
			}
			return client, append(looked, at.Path), nil
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case errors.Is(err, syscall.EAGAIN):
			return nil, nil, fmt.Errorf("the receiver at %s accepts no more connections: it is overloaded, or hangs; try again, and if it stays so, restart the receiver", at.Path)
		case errors.Is(err, fs.ErrPermission) && denied == nil:
			if _, unseen := os.Lstat(at.Path); unseen != nil {
				invisible = true
			} else {
				denied = fmt.Errorf("this user may not connect to the receiver's socket %s: run this as root, or join the group that owns it", at.Path)
			}
		}
		looked = append(looked, at.Path)
	}
	if denied == nil && invisible {
		denied = inaccessible(looked, s)
	}
	return nil, looked, denied
}

// dialSocket connects to a unix socket. While its backlog is full, which Linux reports as EAGAIN at
// once, it tries again for dialTime.
func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	for end := time.Now().Add(dialTime); ; {
		conn, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) || time.Now().After(end) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(dialTime / 20):
		}
	}
}

// holdsLedger asks a receiver whether it holds the ledger in folder dir.
func holdsLedger(ctx context.Context, client *operator.Client, dir string) (bool, error) {
	answer, err := client.Get(ctx, "/api/receiver", nil)
	var status operator.ReceiverStatus
	if err == nil {
		err = json.Unmarshal(answer, &status)
	}
	if err != nil {
		return false, fmt.Errorf("find out whether the running receiver holds the ledger in %s: %w", dir, err)
	}
	return config.SameLedger(status.Ledger, dir), nil
}
