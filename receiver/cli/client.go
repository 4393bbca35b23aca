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
	"time"

	"tillhook/ledger"
	"tillhook/receiver/config"
	"tillhook/receiver/operator"
)

// dialTime bounds a connection to a unix socket, which waits only where very many others wait, too.
const dialTime = time.Second

// client returns a client of the receiver that holds the ledger, or of the ledger itself where no
// receiver does: bbolt admits one process, so a ledger that a receiver holds can be read only
// through it.
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
		return nil, nil, fmt.Errorf("%w, which does not answer at %s: name its socket in TILLHOOK_OPERATOR_SOCKET", err, strings.Join(looked, " or "))
	case errors.Is(err, fs.ErrPermission):
		return nil, nil, inaccessible(looked, s)
	case err != nil:
		return nil, nil, err
	}
	return operator.Local(l), l.Close, nil
}

func (p *Program) noLedger(looked []string, s *config.Environment) error {
	more := ""
	if known := config.Instances(p.machineRoot()); s.Service != nil && p.instance == "" && len(known) > 0 {
		more = "; for another receiver of this machine give --instance: " + strings.Join(known, ", ")
	}
	return fmt.Errorf("no receiver answers at %s, and there is no ledger in %s: %s, or name its folder in TILLHOOK_DATA_DIR%s",
		strings.Join(looked, " or "), s.DataDir(), startIt(s), more)
}

// inaccessible is the error where no receiver answers and this user may not look into the data folder.
func inaccessible(looked []string, s *config.Environment) error {
	return fmt.Errorf("no receiver answers at %s, and this user may not look into %s: %s, or run this as root",
		strings.Join(looked, " or "), s.DataDir(), startIt(s))
}

// startIt says how a receiver is started.
func startIt(s *config.Environment) string {
	if keeper := s.Keeper(); keeper != nil {
		return "start it with systemctl start " + unitName(keeper.Unit)
	}
	return "start one with tillhook serve"
}

// unitName is how systemctl is told of a service.
func unitName(unit string) string { return strings.TrimSuffix(unit, ".service") }

// receiver finds the running receiver that holds the ledger, by its socket. It returns nil, and
// where it looked, if none answers.
func (p *Program) receiver(ctx context.Context) (client *operator.Client, looked []string, err error) {
	s, err := p.settings()
	if err != nil {
		return nil, nil, err
	}
	var barred error
	inDark := false
	for _, at := range s.SocketPaths() {
		conn, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "unix", at.Path)
		switch {
		case err == nil:
			_ = conn.Close() // it was only tried
			client := operator.Dial(at.Path)
			if keeper := s.Keeper(); keeper != nil {
				client.Hint = "see systemctl status " + unitName(keeper.Unit) + " and journalctl -u " + unitName(keeper.Unit)
			}
			if at.Ask {
				if held, err := ledger.IsLocked(s.DataDir()); err == nil && !held {
					continue // whatever that receiver would answer
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
		case errors.Is(err, fs.ErrPermission) && barred == nil:
			if _, unseen := os.Lstat(at.Path); unseen != nil {
				inDark = true
			} else {
				barred = fmt.Errorf("a receiver's socket is at %s, but you may not use it: run this as root, or join the group that owns it", at.Path)
			}
		}
		looked = append(looked, at.Path)
	}
	if barred == nil && inDark {
		barred = inaccessible(looked, s)
	}
	return nil, looked, barred
}

// holdsLedger asks a receiver whether it holds the ledger in a folder.
func holdsLedger(ctx context.Context, client *operator.Client, dir string) (bool, error) {
	answer, err := client.Get(ctx, "/api/receiver", nil)
	var status operator.DoorStatus
	if err == nil {
		err = json.Unmarshal(answer, &status)
	}
	if err != nil {
		return false, fmt.Errorf("find out whether the running receiver holds the ledger in %s: %w", dir, err)
	}
	return config.SameLedger(status.Ledger, dir), nil
}
