package config

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Exposed lists the secrets that stand in files of the service's settings that everybody can read.
func (e *Environment) Exposed() []Exposed {
	if e.Service == nil {
		return nil
	}
	return e.Service.exposed
}

// SocketPath is where a receiver may answer.
type SocketPath struct {
	Path string
	// Ask says that the receiver there may hold another ledger than that in [Environment.DataDir].
	Ask bool
}

// SocketPaths lists where the receiver that holds the ledger in [Environment.DataDir] may answer.
// Where the caller names that folder, a service counts only if the folder is its own.
func (e *Environment) SocketPaths() (list []SocketPath) {
	dir, socket := e.places()
	add := func(path string, ask bool) {
		if !slices.ContainsFunc(list, func(known SocketPath) bool { return known.Path == path }) {
			list = append(list, SocketPath{path, ask})
		}
	}
	inside := filepath.Join(dir, "operator.sock")
	ownDir := e.own[dataDirName] != ""
	if e.own[operatorSocketName] != "" {
		add(socket, ownDir && socket != inside)
		add(inside, false)
		return list
	}
	if !ownDir {
		add(socket, false)
		if e.Service == nil { // it can be reached where its units cannot be seen, as in a container
			add("/run/tillhook/operator.sock", false)
		}
		add(inside, false)
		return list
	}
	add(inside, false)
	for _, service := range e.services() {
		if sameFolder(service.DataDir, dir) {
			add(service.Socket, true)
		}
	}
	return list
}

// services lists the service and all of its instances. What cannot be read is left out.
func (e *Environment) services() (list []*Service) {
	for _, instance := range append([]string{""}, Instances(e.root)...) {
		if service, err := findService(e.root, instance); err == nil && service != nil {
			list = append(list, service)
		}
	}
	return list
}

// Keeper returns the service whose ledger lies in [Environment.DataDir]; nil if that is no service's.
func (e *Environment) Keeper() *Service {
	dir := e.DataDir()
	if e.Service != nil && sameFolder(e.Service.DataDir, dir) {
		return e.Service
	}
	for _, service := range e.services() {
		if sameFolder(service.DataDir, dir) {
			return service
		}
	}
	return nil
}

// sameFolder reports whether two paths lead to one folder. A folder that cannot be looked at is
// compared by its name.
func sameFolder(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	return plainPath(a) == plainPath(b)
}

// plainPath is a path as people write it: systemd keeps the folders of a service with DynamicUser=
// in /var/lib/private, where only root can look, and has links lead there.
func plainPath(path string) string {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return strings.Replace(path, "/var/lib/private/", "/var/lib/", 1)
}

// SameLedger reports whether a receiver that says that it holds the ledger of that path holds the
// one in a folder.
func SameLedger(path, dir string) bool {
	return path != "" && sameFolder(filepath.Dir(path), dir)
}

// streamAddress turns an address of ListenStream= into host:port. systemd.socket(5)
func streamAddress(listen string) string {
	if !strings.Contains(listen, ":") { // a port alone is on every address
		return net.JoinHostPort("", listen)
	}
	return strings.Replace(listen, "*:", ":", 1)
}

// Listens returns where the public socket unit listens, as host:port or the path of a unix socket,
// and the unit's name; empty where there is none.
func (e *Environment) Listens() (address, unit string) {
	if e.Service == nil {
		return "", ""
	}
	if address, unit = e.Service.listens(publicSocket); address != "" && !isUnix(address) {
		address = streamAddress(address)
	}
	return address, unit
}

func isUnix(address string) bool {
	return strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@")
}
