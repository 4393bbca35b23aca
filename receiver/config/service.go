package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Service is a receiver that systemd runs, as described by its units.
type Service struct {
	Unit    string   // tillhook.service, or tillhook@NAME.service
	Sockets []Socket // units that open its sockets
	DataDir string
	Socket  string // path of the operator's socket

	files       []string // its environment files that exist
	environ     map[string]string
	origins     map[string]string // the file or unit that sets each variable
	credentials map[string]credential
	exposed     []Exposed
	// fault is why the environment is unknown. What the units say about folders and sockets is
	// known nevertheless.
	fault error
}

// Exposed is a secret in an environment file that every user of the machine can read.
type Exposed struct{ Variable, File string }

// Socket is a socket unit of a service.
type Socket struct {
	Unit   string
	Name   string   // its FileDescriptorName=
	Listen []string // addresses and paths of its ListenStream=
}

// Names of the sockets that a receiver takes from the service manager.
const (
	publicSocket   = "public"
	operatorSocket = "operator"
)

// UnknownInstance is the error for an instance that is not set up.
type UnknownInstance struct {
	Name  string
	Known []string
}

func (u *UnknownInstance) Error() string {
	if len(u.Known) == 0 {
		return fmt.Sprintf("there is no instance %q: none is set up on this machine", u.Name)
	}
	return fmt.Sprintf("there is no instance %q; there are: %s", u.Name, strings.Join(u.Known, ", "))
}

// Instances lists the instances of the template unit for which this machine has settings, a ledger,
// units, or links that start them.
func Instances(root string) []string {
	var names []string
	add := func(pattern, before, after string) {
		paths, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are constants
		for _, path := range paths {
			name := filepath.Base(path)
			if !strings.HasPrefix(name, before) || !strings.HasSuffix(name, after) {
				continue
			}
			name = strings.TrimSuffix(strings.TrimPrefix(name, before), after)
			if isInstance(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if _, err := readUnit(root, "tillhook@.service"); err == nil {
		settings, _ := filepath.Glob(filepath.Join(root, "etc/tillhook/*/*"))
		for _, path := range settings {
			name := filepath.Base(filepath.Dir(path))
			if filepath.Ext(name) != ".d" && isInstance(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		add("var/lib/tillhook@*", "tillhook@", "")
		for _, folder := range unitFolders {
			add(folder+"/tillhook@*.service.d", "tillhook@", ".service.d")
			add(folder+"/*.wants/tillhook@*.service", "tillhook@", ".service")
			add(folder+"/*.requires/tillhook@*.service", "tillhook@", ".service")
		}
	}
	for _, folder := range unitFolders {
		add(folder+"/tillhook@*.service", "tillhook@", ".service")
	}
	slices.Sort(names)
	return names
}

func isInstance(name string) bool {
	return name != "" && !strings.ContainsAny(name, "/ ") && name[0] != '.'
}

// findService reads the units of the packaged service, or of one of its instances. It returns nil
// if the packaged service is not installed.
func findService(root, instance string) (*Service, error) {
	name := "tillhook.service"
	if instance != "" {
		known := Instances(root)
		if !slices.Contains(known, instance) {
			return nil, &UnknownInstance{instance, known}
		}
		name = "tillhook@" + instance + ".service"
	}
	u, err := readUnit(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		if instance != "" {
			return nil, err
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &Service{Unit: name, environ: map[string]string{}, origins: map[string]string{}, fault: u.fault}
	s.readEnvironment(root, u)
	s.readCredentials(root, u)
	if s.Sockets, err = socketsOf(root, name); err != nil {
		return nil, err
	}
	s.directories(root, u)
	return s, nil
}

// readEnvironment reads the variables that the unit sets.
func (s *Service) readEnvironment(root string, u *unit) {
	set := func(variable, origin string) {
		if name, value, ok := strings.Cut(variable, "="); ok && isName(name) {
			s.environ[name], s.origins[name] = value, origin
		}
	}
	for _, line := range u.all("Service", "Environment") {
		for _, word := range words(line) {
			set(u.expand(word), s.Unit)
		}
	}
	for _, file := range u.all("Service", "EnvironmentFile") {
		pattern, optional := strings.CutPrefix(u.expand(file), "-")
		pattern = filepath.Join(root, pattern)
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			paths = []string{pattern}
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			switch {
			case err == nil:
				s.files = append(s.files, path)
				info, err := os.Stat(path)
				open := err == nil && info.Mode()&0o004 != 0
				for _, variable := range parseEnvFile(string(text)) {
					set(variable, path)
					name, value, _ := strings.Cut(variable, "=")
					if open && value != "" && (name == webhookSecretName || name == secretKeyName) {
						s.exposed = append(s.exposed, Exposed{name, path})
					}
				}
			case optional && errors.Is(err, fs.ErrNotExist):
			case errors.Is(err, fs.ErrPermission):
				s.fault = errors.Join(s.fault, fmt.Errorf("read the settings of %s: %w; run this as root", s.Unit, err))
			default:
				s.fault = errors.Join(s.fault, fmt.Errorf("read the settings of %s, which cannot start without them: %w", s.Unit, err))
			}
		}
	}
	for _, line := range u.all("Service", "UnsetEnvironment") {
		for _, word := range words(line) {
			name, value, only := strings.Cut(u.expand(word), "=")
			if !only || s.environ[name] == value {
				delete(s.environ, name)
			}
		}
	}
}

// socketsOf reads the socket units that belong to a service: by Service=, or by their names.
func socketsOf(root, service string) (list []Socket, err error) {
	stem, at := "tillhook", ""
	if _, instance, ok := strings.Cut(strings.TrimSuffix(service, ".service"), "@"); ok {
		at = "@" + instance
	}
	seen := map[string]bool{}
	for _, folder := range unitFolders {
		paths, _ := filepath.Glob(filepath.Join(root, folder, stem+"*.socket")) // the pattern is a constant
		for _, path := range paths {
			name := filepath.Base(path)
			if prefix, rest, ok := strings.Cut(name, "@"); ok && rest == ".socket" && at != "" {
				name = prefix + at + ".socket"
			}
			if seen[name] || template(name) == name && strings.Contains(name, "@") {
				continue
			}
			seen[name] = true
			u, err := readUnit(root, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			activates := u.expand(u.last("Socket", "Service"))
			if cmp.Or(activates, strings.TrimSuffix(name, ".socket")+".service") != service {
				continue
			}
			one := Socket{Unit: name, Name: cmp.Or(u.expand(u.last("Socket", "FileDescriptorName")), name)}
			for _, address := range u.all("Socket", "ListenStream") {
				if address = u.expand(address); strings.HasPrefix(address, "/") {
					address = filepath.Join(root, address)
				}
				one.Listen = append(one.Listen, address)
			}
			list = append(list, one)
		}
	}
	return list, nil
}

// listens returns the first address of the socket unit with this FileDescriptorName=, and the unit;
// both are empty if none exists.
func (s *Service) listens(name string) (address string, unit string) {
	for _, socket := range s.Sockets {
		if socket.Name == name && len(socket.Listen) > 0 {
			return socket.Listen[0], socket.Unit
		}
	}
	return "", ""
}

// Units lists the units of the service: first those of its sockets, which start it, then its own.
func (s *Service) Units() (units []string) {
	for _, socket := range s.Sockets {
		units = append(units, socket.Unit)
	}
	return append(units, s.Unit)
}

// directories finds the folder of the ledger and the operator's socket. A socket that systemd
// passes takes precedence over the variable.
func (s *Service) directories(root string, u *unit) {
	first := func(setting, below string) string {
		for _, line := range u.all("Service", setting) {
			for _, word := range words(line) {
				name, _, _ := strings.Cut(u.expand(word), ":") // NAME:LINK
				return filepath.Join(root, below, name)
			}
		}
		return ""
	}
	s.DataDir, s.Socket = directories(s.environ, first("StateDirectory", "var/lib"), first("RuntimeDirectory", "run"))
	working := cmp.Or(u.expand(strings.TrimPrefix(u.last("Service", "WorkingDirectory"), "-")), "/")
	for _, path := range []*string{&s.DataDir, &s.Socket} {
		if !filepath.IsAbs(*path) {
			*path = filepath.Join(working, *path)
		}
	}
	if passed, _ := s.listens(operatorSocket); strings.HasPrefix(passed, "/") {
		s.Socket = passed
	}
}
