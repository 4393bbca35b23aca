package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/config"
	"tillhook/receiver/operator"
)

// packagedSocket is where the packaged service puts its socket.
const packagedSocket = "/run/tillhook/operator.sock"

// client finds whom to ask: a running receiver by its socket, else the ledger itself. bbolt lets one
// process in, so a ledger that a receiver holds is reached through that receiver only.
func (p *Program) client() (client *operator.Client, closeClient func() error, err error) {
	client, looked, err := p.receiver()
	if client != nil || err != nil {
		return client, func() error { return nil }, err
	}
	dataDir, _ := config.Places(p.Environ)
	l, err := ledger.OpenReadOnly(dataDir)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil, nil, nothingThere(looked, dataDir)
	case errors.Is(err, ledger.ErrHeld):
		return nil, nil, fmt.Errorf("%w, which does not answer at %s: name its socket in TILLHOOK_OPERATOR_SOCKET", err, strings.Join(looked, " or "))
	case err != nil:
		return nil, nil, err
	}
	return operator.Local(l), l.Close, nil
}

func nothingThere(looked []string, dataDir string) error {
	return fmt.Errorf("no receiver answers at %s, and there is no ledger in %s: start one with tillhook serve, or name its folder in TILLHOOK_DATA_DIR",
		strings.Join(looked, " or "), dataDir)
}

// receiver finds a running one by its socket; nil, and where it was looked for, if none answers.
func (p *Program) receiver() (client *operator.Client, looked []string, err error) {
	dataDir, socket := config.Places(p.Environ)
	own := filepath.Join(dataDir, "operator.sock")
	var barred error
	for _, path := range []string{socket, packagedSocket, own} {
		if slices.Contains(looked, path) {
			continue
		}
		looked = append(looked, path)
		conn, err := net.DialTimeout("unix", path, time.Second)
		switch {
		case err == nil:
			return operator.Dial(path), looked, conn.Close()
		case errors.Is(err, fs.ErrPermission):
			err := fmt.Errorf("a receiver's socket is at %s, but you may not use it: run this as root, or join the group that owns it", path)
			if path != own {
				return nil, nil, err
			}
			barred = err // a folder that happens to be the present one says nothing of the service
		}
	}
	return nil, looked, barred
}
