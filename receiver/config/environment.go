package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caarlos0/env/v10"
)

// Environment is a parsed environment: that of a receiver, or that of a command merged with the
// environment of the installed service.
type Environment struct {
	Service *Service // the installed service, for a command; nil if none exists

	root     string
	own      map[string]string // variables of this process, without empty ones
	values   map[string]string // own, merged with those of the service
	systemd  systemd
	replaced []string // secrets of the service that the caller replaces
}

// systemd is what the service manager sets for this process. systemd.exec(5)
type systemd struct {
	Credentials string   `env:"CREDENTIALS_DIRECTORY"`
	State       []string `env:"STATE_DIRECTORY" envSeparator:":"`
	Runtime     []string `env:"RUNTIME_DIRECTORY" envSeparator:":"`
}

// Read parses an environment in the form of os.Environ. Values are checked when they are needed.
func Read(environ []string) (*Environment, error) {
	values := env.ToMap(environ)
	maps.DeleteFunc(values, func(_, value string) bool { return value == "" }) // empty is unset
	e := &Environment{own: values, values: values}
	if err := env.ParseWithOptions(&e.systemd, env.Options{Environment: values}); err != nil {
		return nil, fmt.Errorf("parse the environment: %w", err)
	}
	return e, nil
}

// Load reads the configuration of a receiver from an environment in the form of os.Environ. The
// error is a [Faults].
func Load(environ []string) (*Config, error) {
	e, err := Read(environ)
	if err != nil {
		return nil, err
	}
	return e.Receiver()
}

// Find parses a command's environment and merges it with that of the installed service, or of one
// of its instances, whose units and files are below root. The caller's variables win one by one. It
// fails only if units cannot be read ([UnknownInstance], and errors of the file system).
func Find(environ []string, root, instance string) (*Environment, error) {
	e, err := Read(environ)
	if err != nil {
		return nil, err
	}
	e.root = cmp.Or(root, "/")
	if e.Service, err = findService(e.root, instance); err != nil {
		return nil, err
	}
	if e.Service != nil {
		e.merge(e.Service)
	}
	return e, nil
}

// merge adds the variables of the service that the caller does not set. A secret of the caller
// replaces that of the service in all its forms.
func (e *Environment) merge(s *Service) {
	for secret := range settings() {
		if !secret.secret {
			continue
		}
		_, passed := (&reader{systemd: e.systemd}).credential(secret.name)
		if passed || e.own[secret.name] != "" || e.own[secret.name+"_FILE"] != "" {
			e.replaced = append(e.replaced, secret.name)
		}
	}
	// These folders belong to the unit of the calling process, such as a backup job, not to the
	// receiver.
	e.systemd.State, e.systemd.Runtime = nil, nil
	e.values = maps.Clone(s.environ)
	maps.DeleteFunc(e.values, func(name, value string) bool {
		return !isOurs(name) || value == "" || slices.Contains(e.replaced, strings.TrimSuffix(name, "_FILE"))
	})
	e.values[dataDirName], e.values[operatorSocketName] = s.DataDir, s.Socket
	maps.Copy(e.values, e.own)
}

func isOurs(name string) bool {
	return strings.HasPrefix(name, "TILLHOOK_") || strings.HasPrefix(name, "STRIPE_")
}

// From describes, for people, where the settings come from.
func (e *Environment) From() string {
	if e.Service == nil {
		return "The environment"
	}
	where := e.Service.Unit
	if len(e.Service.files) > 0 {
		where = strings.Join(e.Service.files, ", ")
	}
	where = "The service's environment (" + where + ")"
	if names := slices.DeleteFunc(slices.Sorted(maps.Keys(e.own)), func(name string) bool { return !isOurs(name) }); len(names) > 0 {
		where += ", with " + strings.Join(names, ", ") + " of this one,"
	}
	return where
}

// read reads the settings of these names, or all of them. The error says why the service's settings
// are unknown; errors of values are in the reader.
func (e *Environment) read(names ...string) (*reader, error) {
	r := &reader{values: e.values, systemd: e.systemd, replaced: e.replaced, config: Config{environment: e}}
	if e.Service != nil {
		if e.Service.fault != nil {
			return nil, e.Service.fault
		}
		r.service = e.Service.credentials
	}
	r.config.DataDir, r.config.OperatorSocket = e.directories()
	r.read(names...)
	return r, nil
}

// load returns a Config with the settings of these names, or all of them.
func (e *Environment) load(names ...string) (*Config, error) {
	r, err := e.read(names...)
	if err != nil {
		return nil, err
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return &r.config, nil
}

// Receiver reads all settings. The error is a [Faults], or says which file of the service cannot be
// read.
func (e *Environment) Receiver() (*Config, error) { return e.load() }

// Maintenance reads what maintaining a ledger needs: where it lies, how long bodies are kept, and
// where backups go. It needs no secret and no mode. The error is that of [Environment.Receiver].
func (e *Environment) Maintenance() (*Config, error) {
	return e.load(dataDirName, retentionName, backupDirName, backupEveryName, backupKeepName)
}

// WebhookTLS returns the TLS settings of the webhook listener as far as they have no errors. Other
// settings do not matter, so that a receiver that is not configured can say so over TLS.
func (e *Environment) WebhookTLS() TLS {
	r, err := e.read(domainName, directoryName, caName, certName, keyName)
	if err != nil {
		return TLS{}
	}
	return r.config.TLS
}

// Account is what is needed to call Stripe's API.
type Account struct {
	Key      string
	Livemode bool
	APIBase  *url.URL // nil for Stripe's own
	Endpoint string   // the URL that the endpoint has, or will have, at Stripe; empty if unknown
}

// Account reads what is needed to call Stripe's API; there may be no signing secret yet. The error
// is that of [Environment.Receiver].
func (e *Environment) Account() (*Account, error) {
	r, err := e.read(secretKeyName, modeName, apiBaseName, publicURLName, pathName, domainName)
	if err != nil {
		return nil, err
	}
	if r.config.SecretKey == "" && !r.hasFault(secretKeyName) {
		r.fault(secretKeyName, "is not set", "Stripe's API needs a key; "+keyKind)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return &Account{r.config.SecretKey, r.config.Livemode, r.config.StripeAPIBase, r.config.Endpoint()}, nil
}

// Target is where an event is sent, and how it is signed.
type Target struct {
	URL    string
	Socket string // path of the unix socket to send to; empty for TCP
	Local  bool   // the URL has an address of this machine, for which no certificate is valid
	Secret string
}

// Sender finds where the receiver listens, and the first of its signing secrets. A secretFile
// replaces every form of the secret. The error is that of [Environment.Receiver].
func (e *Environment) Sender(secretFile string) (*Target, error) {
	if secretFile != "" {
		with := *e
		with.values = maps.Clone(e.values)
		delete(with.values, webhookSecretName)
		with.values[webhookSecretName+"_FILE"] = secretFile
		with.replaced = append(slices.Clone(e.replaced), webhookSecretName)
		with.systemd.Credentials = ""
		e = &with
	}
	listen := ""
	if e.Service != nil && e.own[listenName] == "" {
		listen, _ = e.Listens()
	}
	names := []string{webhookSecretName, pathName}
	if listen == "" {
		names = append(names, listenName)
	}
	if e.values[certName] == "" {
		names = append(names, domainName)
	}
	c, err := e.load(names...)
	if err != nil {
		return nil, err
	}
	t := &Target{Secret: c.WebhookSecrets[0]}
	switch {
	case len(c.TLS.Domains) > 0: // where Stripe sends, too
		t.URL = "https://" + c.TLS.Domains[0]
	case isUnix(listen):
		t.Socket, t.URL = listen, "http://localhost"
	default:
		t.URL = "http://" + reachable(cmp.Or(listen, c.Listen))
	}
	if e.values[certName] != "" {
		t.URL, t.Local = strings.Replace(t.URL, "http:", "https:", 1), true
	}
	t.URL += c.WebhookPath
	return t, nil
}

// DataDir returns the folder of the ledger.
func (e *Environment) DataDir() string {
	dir, _ := e.directories()
	return dir
}

func (e *Environment) directories() (dataDir, socket string) {
	return directories(e.values, append(e.systemd.State, "")[0], append(e.systemd.Runtime, "")[0])
}

// directories returns the folder of the ledger and the operator's socket of a receiver with these
// variables and, from systemd, a state and a runtime folder.
func directories(values map[string]string, state, runtime string) (dataDir, socket string) {
	dataDir = cmp.Or(trim(values[dataDirName]), state, "tillhook-data")
	return dataDir, cmp.Or(trim(values[operatorSocketName]), filepath.Join(cmp.Or(runtime, dataDir), "operator.sock"))
}
