package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caarlos0/env/v10"
)

// Settings are what a command works with: the settings of the installed service, merged with the
// environment of the caller, whose variables win one by one.
type Settings struct {
	Service *Service // nil where none is installed

	root     string
	own      map[string]string // the caller's environment, without what is empty
	values   map[string]string // merged
	replaced []string          // secrets that the caller gives, in whatever form
}

// secretNames are the variables that can also be given as NAME_FILE or as a credential.
var secretNames = [...]string{webhookSecretName, secretKeyName}

// Find reads the settings of the installed service, or of one of its instances, from the folders
// below root, and merges them with the caller's environment. It fails only where units cannot be
// read ([UnknownInstance], and errors of the file system); values that are wrong or unreadable are
// reported when they are needed.
func Find(environ []string, root, instance string) (*Settings, error) {
	s := &Settings{root: cmp.Or(root, "/"), own: env.ToMap(environ)}
	for name, value := range s.own {
		if value == "" { // empty is unset
			delete(s.own, name)
		}
	}
	var err error
	if s.Service, err = findService(s.root, instance); err != nil {
		return nil, err
	}
	s.merge()
	return s, nil
}

// merge lets each variable of the caller replace that of the service, and a secret in any form
// replace its other forms.
func (s *Settings) merge() {
	s.values = map[string]string{}
	for name, value := range s.own {
		s.values[name] = value
	}
	if s.Service == nil {
		return
	}
	// They say something of the calling unit, if it has any: a job that makes backups has folders
	// of its own.
	delete(s.values, "STATE_DIRECTORY")
	delete(s.values, "RUNTIME_DIRECTORY")
	for _, name := range secretNames {
		_, passed := (&reader{vars: variables{CredentialsDir: s.own["CREDENTIALS_DIRECTORY"]}}).credential(name)
		if passed || s.own[name] != "" || s.own[name+"_FILE"] != "" {
			s.replaced = append(s.replaced, name)
		}
	}
	for name, value := range s.Service.environ {
		if !strings.HasPrefix(name, "TILLHOOK_") && !strings.HasPrefix(name, "STRIPE_") ||
			value == "" || s.own[name] != "" || slices.Contains(s.replaced, strings.TrimSuffix(name, "_FILE")) {
			continue
		}
		s.values[name] = value
	}
	if s.own["TILLHOOK_DATA_DIR"] == "" {
		s.values["TILLHOOK_DATA_DIR"] = s.Service.DataDir
	}
	if s.own["TILLHOOK_OPERATOR_SOCKET"] == "" {
		s.values["TILLHOOK_OPERATOR_SOCKET"] = s.Service.Socket
	}
}

// Exposed lists the secrets that stand in files of the service's settings that everybody can read.
func (s *Settings) Exposed() []Exposed {
	if s.Service == nil {
		return nil
	}
	return s.Service.exposed
}

// From says where the settings come from, for people: the service's files and the caller's
// variables.
func (s *Settings) From() string {
	if s.Service == nil {
		return "The environment"
	}
	where := s.Service.Unit
	if len(s.Service.files) > 0 {
		where = strings.Join(s.Service.files, ", ")
	}
	where = "The service's environment (" + where + ")"
	if names := s.given(); len(names) > 0 {
		where += ", with " + strings.Join(names, ", ") + " of this one,"
	}
	return where
}

// given lists the variables of ours that the caller gives.
func (s *Settings) given() (names []string) {
	for name := range s.own {
		if strings.HasPrefix(name, "TILLHOOK_") || strings.HasPrefix(name, "STRIPE_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// read parses the merged variables. An error is one of the service's files.
func (s *Settings) read() (*reader, error) {
	if s.Service != nil && s.Service.fault != nil {
		return nil, s.Service.fault
	}
	r := &reader{set: s.values}
	if s.Service != nil {
		r.service, r.replaced = s.Service.credentials, s.replaced
	}
	if err := env.ParseWithOptions(&r.vars, env.Options{Environment: s.values}); err != nil {
		return nil, fmt.Errorf("the table of variables is wrong: %T", err) // its text would print values
	}
	return r, nil
}

// Load reads all of the settings, as serve does. The error is a [Faults], or one of the service's
// files.
func (s *Settings) Load() (*Config, error) {
	r, err := s.read()
	if err != nil {
		return nil, err
	}
	return r.all()
}

// LoadAccount reads what it takes to ask Stripe's API. The error is that of [Settings.Load].
func (s *Settings) LoadAccount() (*Account, error) {
	r, err := s.read()
	if err != nil {
		return nil, err
	}
	return r.account()
}

// LoadUpkeep reads only what the upkeep of a ledger needs: where it lies, how long bodies are kept,
// and where backups go. It needs no secret and no mode. The error is that of [Settings.Load].
func (s *Settings) LoadUpkeep() (*Config, error) {
	r, err := s.read()
	if err != nil {
		return nil, err
	}
	r.config.DataDir, r.config.OperatorSocket = places(&r.vars)
	r.limits()
	r.backups()
	r.faults = slices.DeleteFunc(r.faults, func(f Fault) bool {
		return f.Name != "TILLHOOK_RETENTION" && !strings.HasPrefix(f.Name, "TILLHOOK_BACKUP_")
	})
	return &r.config, r.err()
}

// DataDir returns the folder of the ledger.
func (s *Settings) DataDir() string {
	dir, _ := s.places()
	return dir
}

func (s *Settings) places() (dir, socket string) {
	return places(&variables{DataDir: s.values["TILLHOOK_DATA_DIR"], OperatorSocket: s.values["TILLHOOK_OPERATOR_SOCKET"],
		StateDir: s.values["STATE_DIRECTORY"], RuntimeDir: s.values["RUNTIME_DIRECTORY"]})
}

// SocketPath is where a receiver may answer.
type SocketPath struct {
	Path string
	// Ask says that the receiver there may hold another ledger than that in [Settings.DataDir].
	Ask bool
}

// SocketPaths lists where the receiver that holds the ledger in [Settings.DataDir] may answer.
// Where the caller names that folder, a service counts only if the folder is its own.
func (s *Settings) SocketPaths() (list []SocketPath) {
	dir, socket := s.places()
	add := func(path string, ask bool) {
		if !slices.ContainsFunc(list, func(known SocketPath) bool { return known.Path == path }) {
			list = append(list, SocketPath{path, ask})
		}
	}
	inside := filepath.Join(dir, "operator.sock")
	ownDir := s.own["TILLHOOK_DATA_DIR"] != ""
	if s.own["TILLHOOK_OPERATOR_SOCKET"] != "" {
		add(socket, ownDir && socket != inside)
		add(inside, false)
		return list
	}
	if !ownDir {
		add(socket, false)
		if s.Service == nil { // it can be reached where its units cannot be seen, as in a container
			add("/run/tillhook/operator.sock", false)
		}
		add(inside, false)
		return list
	}
	add(inside, false)
	for _, service := range s.services() {
		if sameFolder(service.DataDir, dir) {
			add(service.Socket, true)
		}
	}
	return list
}

// services lists the service and all of its instances. What cannot be read is left out.
func (s *Settings) services() (list []*Service) {
	for _, instance := range append([]string{""}, Instances(s.root)...) {
		if service, err := findService(s.root, instance); err == nil && service != nil {
			list = append(list, service)
		}
	}
	return list
}

// Keeper returns the service whose ledger lies in [Settings.DataDir]; nil if that is no service's.
func (s *Settings) Keeper() *Service {
	dir := s.DataDir()
	if s.Service != nil && sameFolder(s.Service.DataDir, dir) {
		return s.Service
	}
	for _, service := range s.services() {
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

// Target is where an event is posted to, and what it is signed with.
type Target struct {
	URL    string
	Socket string // of the unix socket that the URL is asked for at; empty for TCP
	Near   bool   // the address is this machine's, which no certificate is for
	Secret string
}

// Sender finds where the receiver listens, and the first of its signing secrets. A secretFile
// replaces every form of the secret. The error is that of [Settings.Load].
func (s *Settings) Sender(secretFile string) (*Target, error) {
	if secretFile != "" {
		own := *s
		own.values = map[string]string{}
		for name, value := range s.values {
			if name != webhookSecretName {
				own.values[name] = value
			}
		}
		own.values[webhookSecretName+"_FILE"] = secretFile
		own.replaced = append(slices.Clone(s.replaced), webhookSecretName)
		delete(own.values, "CREDENTIALS_DIRECTORY")
		s = &own
	}
	r, err := s.read()
	if err != nil {
		return nil, err
	}
	r.signing()
	r.path()
	if r.vars.TLSCert == "" {
		r.acme(&r.config.TLS)
	}
	t := &Target{URL: "http://"}
	listen := ""
	if s.Service != nil && s.own["TILLHOOK_LISTEN"] == "" {
		listen, _ = s.Listens()
	}
	switch {
	case isUnix(listen):
		t.Socket = listen
		t.URL += "localhost"
	case listen != "":
		t.URL += reachable(listen)
	default:
		t.URL += reachable(r.address("TILLHOOK_LISTEN", r.vars.Listen))
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	switch domains := r.config.TLS.Domains; {
	case len(domains) > 0: // where Stripe finds it, too
		t.URL, t.Socket = "https://"+domains[0], ""
	case r.vars.TLSCert != "":
		t.URL, t.Near = strings.Replace(t.URL, "http:", "https:", 1), true
	}
	t.URL += r.config.WebhookPath
	t.Secret = r.config.WebhookSecrets[0]
	return t, nil
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
func (s *Settings) Listens() (address, unit string) {
	if s.Service == nil {
		return "", ""
	}
	if address, unit = s.Service.listens(publicSocket); address != "" && !isUnix(address) {
		address = streamAddress(address)
	}
	return address, unit
}

func isUnix(address string) bool {
	return strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@")
}

// Account is what it takes to ask Stripe's API.
type Account struct {
	Key      string
	Livemode bool
	APIBase  *url.URL // nil for Stripe's own
	Endpoint string   // the URL that the endpoint has, or is to have, at Stripe; empty if that is not known
}

// account reads what it takes to ask Stripe's API: there may be no signing secret yet.
func (r *reader) account() (*Account, error) {
	r.mode()
	r.doors()
	r.tls()
	if r.config.SecretKey == "" && !r.hasFault(secretKeyName) {
		r.fault(secretKeyName, "is not set", "Stripe can only be asked with a key; "+keyKind)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return &Account{r.config.SecretKey, r.config.Livemode, r.config.StripeAPIBase, r.config.Endpoint()}, nil
}

// err returns what was found wrong; first what only another user can read.
func (r *reader) err() error {
	switch {
	case r.barred != nil:
		return fmt.Errorf("read the secrets of the service: %w; run this as root", r.barred)
	case len(r.faults) > 0:
		return r.faults
	}
	return nil
}

// credential finds a secret that the service manager passes to this process, or would pass to the
// service.
func (r *reader) credential(name string) (c credential, ok bool) {
	id := strings.ToLower(name)
	if r.vars.CredentialsDir != "" {
		path := filepath.Join(r.vars.CredentialsDir, id)
		if _, err := os.Lstat(path); err == nil && !isBlank(path) {
			return credential{path: path}, true
		}
	}
	if c, ok = r.service[id]; !ok || slices.Contains(r.replaced, name) {
		return credential{}, false
	}
	text, err := c.read(id)
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.barred = err
		return credential{}, false
	case err != nil:
		r.fault(name+" (credential)", "cannot be read: "+reason(err), "look at the unit's settings: systemctl cat tillhook")
		return credential{}, false
	}
	return credential{text: text}, strings.TrimSpace(text) != ""
}
