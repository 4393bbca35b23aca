// Package config reads the environment and checks it, all of it, before anything starts.
//
// A configuration is right as a whole or refused as a whole: every fault is found and reported at
// once, each with the variable's name, what is wrong and the mend, and none with the value: a fault
// is printed to logs, and the value may be a secret in the wrong place. The package opens no file
// but those that hold secrets or settings, and knows none of the other rooms.
//
// [Load] reads the environment of a receiver. A command works with that of its caller, merged with
// what the units of the installed service say ([Find]).
package config

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v10"
)

// Config is a configuration without faults.
type Config struct {
	WebhookSecrets []string // whole, "whsec_…", in the order given
	SecretKey      string   // Stripe API key; empty for a receiver that holds none
	Livemode       bool

	Listen         string // host:port of the public door
	WebhookPath    string // without a slash at its end, unless it is "/"
	OperatorListen string // host:port; empty if it is off
	OperatorSocket string // path of the unix socket
	DataDir        string

	Tolerance time.Duration // between a signature's time and ours, either way
	MaxBody   int64         // bytes

	Retention      time.Duration // of raw bodies; 0 keeps them
	BackupDir      string        // empty for no scheduled copies
	BackupEvery    time.Duration
	BackupKeep     int           // copies
	ReconcileEvery time.Duration // 0 is off
	PublicURL      *url.URL      // nil if not given
	StripeAPIBase  *url.URL      // nil for Stripe's own

	WebhookSecretFrom Origin
	SecretKeyFrom     Origin

	TLS TLS // of the public door

	StripeIPs      string         // "off", "on" for the addresses that come with this version, or the path of a file with others
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed

	LogFormat string // "text" or "json"
	LogLevel  slog.Level

	// Warnings are what is odd and was put up with, a sentence each, without values.
	Warnings []string
}

// Origin is where a secret came from: what can be read again while the receiver runs, and what cannot.
type Origin string

// Origins of secrets.
const (
	FromNowhere    Origin = ""
	FromVariable   Origin = "the environment"
	FromFile       Origin = "a file"
	FromCredential Origin = "a credential"
)

// Reread says what a reload has done with a secret from there.
func (o Origin) Reread() string {
	switch o {
	case FromFile:
		return "read again"
	case FromNowhere:
		return "none"
	}
	return "from " + string(o) + ": a change needs a restart"
}

// variables are the environment as it is read: texts only, because the library's own errors print
// values and name struct fields. https://pkg.go.dev/github.com/caarlos0/env/v10
type variables struct {
	WebhookSecret     string `env:"STRIPE_WEBHOOK_SECRET"`
	WebhookSecretFile string `env:"STRIPE_WEBHOOK_SECRET_FILE"`
	SecretKey         string `env:"STRIPE_SECRET_KEY"`
	SecretKeyFile     string `env:"STRIPE_SECRET_KEY_FILE"`
	Mode              string `env:"STRIPE_MODE"`
	APIBase           string `env:"STRIPE_API_BASE"`

	Listen         string `env:"TILLHOOK_LISTEN" envDefault:"127.0.0.1:8080"`
	WebhookPath    string `env:"TILLHOOK_WEBHOOK_PATH" envDefault:"/webhooks/stripe"`
	OperatorListen string `env:"TILLHOOK_OPERATOR_LISTEN" envDefault:"127.0.0.1:9464"`
	OperatorSocket string `env:"TILLHOOK_OPERATOR_SOCKET"`
	DataDir        string `env:"TILLHOOK_DATA_DIR"`
	Tolerance      string `env:"TILLHOOK_TOLERANCE" envDefault:"5m"`
	MaxBody        string `env:"TILLHOOK_MAX_BODY" envDefault:"1048576"`
	Retention      string `env:"TILLHOOK_RETENTION" envDefault:"90d"`
	LogFormat      string `env:"TILLHOOK_LOG_FORMAT" envDefault:"text"`
	LogLevel       string `env:"TILLHOOK_LOG_LEVEL" envDefault:"info"`
	PublicURL      string `env:"TILLHOOK_PUBLIC_URL"`
	ReconcileEvery string `env:"TILLHOOK_RECONCILE_EVERY" envDefault:"15m"`
	BackupDir      string `env:"TILLHOOK_BACKUP_DIR"`
	BackupEvery    string `env:"TILLHOOK_BACKUP_EVERY" envDefault:"24h"`
	BackupKeep     string `env:"TILLHOOK_BACKUP_KEEP" envDefault:"7"`
	TLSDomain      string `env:"TILLHOOK_TLS_DOMAIN"`
	TLSCert        string `env:"TILLHOOK_TLS_CERT"`
	TLSKey         string `env:"TILLHOOK_TLS_KEY"`
	ACMEDirectory  string `env:"TILLHOOK_ACME_DIRECTORY"`
	ACMECA         string `env:"TILLHOOK_ACME_CA"`
	StripeIPs      string `env:"TILLHOOK_ALLOW_STRIPE_IPS" envDefault:"off"`
	TrustedProxies string `env:"TILLHOOK_TRUSTED_PROXIES"`

	// Set by systemd: systemd.exec(5).
	CredentialsDir string `env:"CREDENTIALS_DIRECTORY"`
	RuntimeDir     string `env:"RUNTIME_DIRECTORY"`
	StateDir       string `env:"STATE_DIRECTORY"`
}

// Endpoint is the URL that the endpoint has at Stripe; empty if that is not known.
func (c *Config) Endpoint() string {
	switch {
	case c.PublicURL != nil:
		return c.PublicURL.String()
	case len(c.TLS.Domains) > 0:
		return "https://" + c.TLS.Domains[0] + c.WebhookPath
	}
	return ""
}

// Logger logs as the configuration says.
func (c *Config) Logger(to io.Writer) *slog.Logger { return slog.New(c.handler(to, nil)) }

// UndatedHandler is that of Logger for a log that notes the time of each line itself. Records in
// JSON have their time all the same, for the programs that read them.
func (c *Config) UndatedHandler(to io.Writer) slog.Handler {
	return c.handler(to, func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
			return slog.Attr{}
		}
		return a
	})
}

func (c *Config) handler(to io.Writer, text func([]string, slog.Attr) slog.Attr) slog.Handler {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.NewJSONHandler(to, options)
	}
	options.ReplaceAttr = text
	return slog.NewTextHandler(to, options)
}

// Load reads an environment in the form of os.Environ. The error is a [Faults].
func Load(environ []string) (*Config, error) {
	values := env.ToMap(environ)
	maps.DeleteFunc(values, func(_, value string) bool { return value == "" }) // empty is unset
	r := &reader{set: values}
	if err := env.ParseWithOptions(&r.vars, env.Options{Environment: values}); err != nil {
		return nil, fmt.Errorf("the table of variables is wrong: %T", err) // its text would print values
	}
	return r.all()
}

// all reads every variable.
func (r *reader) all() (*Config, error) {
	r.refuseUnknown()
	r.config.DataDir, r.config.OperatorSocket = places(&r.vars)
	r.signing()
	r.mode()
	r.doors()
	r.limits()
	r.logging()
	r.backups()
	r.tls()
	r.addresses()
	r.reconciling()
	if err := r.err(); err != nil {
		return nil, err
	}
	return &r.config, nil
}

// reachable turns an address to listen on into one to connect to.
func reachable(listen string) string {
	host, port, _ := net.SplitHostPort(listen)
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func places(vars *variables) (dataDir, socket string) {
	dataDir = trim(vars.DataDir)
	if dataDir == "" {
		dataDir = firstOf(vars.StateDir)
	}
	if dataDir == "" {
		dataDir = "tillhook-data"
	}
	socket = trim(vars.OperatorSocket)
	if dir := firstOf(vars.RuntimeDir); socket == "" && dir != "" {
		socket = filepath.Join(dir, "operator.sock")
	}
	if socket == "" {
		socket = filepath.Join(dataDir, "operator.sock")
	}
	return dataDir, socket
}

// firstOf takes the first folder of a list as systemd writes it.
func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ":")
	return first
}

// reader collects what is right and what is not.
type reader struct {
	set    map[string]string // what is set and not empty
	vars   variables
	config Config
	faults Faults

	service  map[string]credential // the credentials of the service, for a command; nil in the service itself
	replaced []string              // secrets of the service that the caller gives in another form
	barred   error                 // why a secret of the service cannot be read by this user
}

func (r *reader) fault(name, problem, mend string) {
	r.faults = append(r.faults, Fault{Name: name, Problem: problem, Mend: mend})
}

func (r *reader) warn(format string, args ...any) {
	r.config.Warnings = append(r.config.Warnings, fmt.Sprintf(format, args...))
}

// Fault is one thing that is wrong with the configuration.
type Fault struct {
	Name    string // the variable
	Problem string // "is not set"; never a value
	Mend    string // what to do about it
}

func (f Fault) String() string { return f.Name + " " + f.Problem + ": " + f.Mend }

// Faults are all that is wrong with a configuration, in the order of the variables.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	if len(lines) == 1 {
		return "the configuration has a fault: " + lines[0]
	}
	return fmt.Sprintf("the configuration has %d faults:\n  %s", len(lines), strings.Join(lines, "\n  "))
}

// refuseUnknown finds names of ours that nothing reads: a misspelt variable would be a setting that silently is not set.
func (r *reader) refuseUnknown() {
	params, err := env.GetFieldParams(&r.vars)
	if err != nil {
		r.fault("TILLHOOK_", "cannot be listed", "this is a fault of tillhook's own")
		return
	}
	var known []string
	for _, p := range params {
		known = append(known, p.Key)
	}
	for _, name := range slices.Sorted(maps.Keys(r.set)) {
		if !strings.HasPrefix(name, "TILLHOOK_") || slices.Contains(known, name) {
			continue
		}
		if strings.HasPrefix(name, "TILLHOOK_RELAY_") {
			r.fault(name, "asks for the relay", "this version does not hand events on; unset it")
			continue
		}
		nearest := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
		r.fault(name, "is not a variable of tillhook", "did you mean "+nearest+"? Correct the name or unset it")
	}
}

// distance is how many letters must be put in, taken out or replaced to make one word of another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
