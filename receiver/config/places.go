package config

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Exposed lists the secrets in the service's environment files that every user can read.
func (e *Environment) Exposed() []Exposed {
	if e.Service == nil {
		return nil
	}
	return e.Service.exposed
}

// SocketPath is where a receiver may listen.
type SocketPath struct {
	Path string
	// Ask means that the receiver there may hold another ledger than that in [Environment.DataDir].
	Ask bool
}

// SocketPaths lists where the receiver that holds the ledger in [Environment.DataDir] may listen.
// If the caller sets that folder, a service is listed only if the folder is its own.
func (e *Environment) SocketPaths() (list []SocketPath) {
	dir, socket := e.directories()
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
		if e.Service == nil { // in a container its socket may be visible, but not its units
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

// services lists the packaged service and its instances, without those that cannot be read.
func (e *Environment) services() (list []*Service) {
	for _, instance := range append([]string{""}, Instances(e.root)...) {
		if service, err := findService(e.root, instance); err == nil && service != nil {
			list = append(list, service)
		}
	}
	return list
}

// Keeper returns the service whose ledger is in [Environment.DataDir], or nil if none exists.
func (e *Environment) Keeper() *Service {
	dir := e.DataDir()
	for _, service := range append([]*Service{e.Service}, e.services()...) {
		if service != nil && sameFolder(service.DataDir, dir) {
			return service
		}
	}
	return nil
}

// sameFolder reports whether two paths lead to the same folder. It compares the paths themselves if
// one of the folders is not accessible.
func sameFolder(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	return plainPath(a) == plainPath(b)
}

// plainPath returns a path as people write it. systemd keeps the folders of a service with
// DynamicUser= in /var/lib/private, which only root can read, behind symbolic links.
func plainPath(path string) string {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return strings.Replace(path, "/var/lib/private/", "/var/lib/", 1)
}

// SameLedger reports whether path, the file of a receiver's ledger, is the ledger in folder dir.
func SameLedger(path, dir string) bool {
	return path != "" && sameFolder(filepath.Dir(path), dir)
}

// streamAddress turns an address of ListenStream= into host:port. systemd.socket(5)
func streamAddress(listen string) string {
	if !strings.Contains(listen, ":") { // only a port means every address
		return net.JoinHostPort("", listen)
	}
	return strings.Replace(listen, "*:", ":", 1)
}

// Listens returns where the socket unit of the webhook listener listens, as host:port or as the
// path of a unix socket, and the unit's name; both are empty if none exists.
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
