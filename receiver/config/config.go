// Package config reads a receiver's configuration from environment variables and checks all of it
// before anything starts.
//
// The variables are declared once, in one table (settings.go): name, default, help, and the
// function that parses the value. Loading, the reference (README.md in this folder), the variables
// in the manual page and the command "tillhook config" come from that table.
//
// [Read] parses the environment of the process once; the methods of [Environment] read from it what
// a receiver ([Environment.Receiver]) or a command needs. A command's environment is that of its
// caller, merged with what the units of the installed service set ([Find]).
//
// A configuration is accepted or refused as a whole. Every error is reported at once, with the
// variable's name, what is wrong, and how to fix it, and never with the value: errors are written
// to logs, and the value may be a secret in the wrong variable. The package opens no files but
// those that hold secrets, certificates or settings.
package config

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"time"
)

// Config is a configuration without errors.
type Config struct {
	WebhookSecrets []string // complete, "whsec_…", in the order given
	SecretKey      string   // Stripe API key; empty for a receiver without one
	Livemode       bool

	Listen         string // host:port of the webhook listener
	WebhookPath    string // without a trailing slash, unless it is "/"
	OperatorListen string // host:port; empty if it is off
	OperatorSocket string // path of the unix socket
	DataDir        string

	Tolerance time.Duration // between a signature's time and ours, in either direction
	MaxBody   int64         // bytes

	Retention      time.Duration // of raw bodies; 0 keeps them
	BackupDir      string        // empty for no scheduled backups
	BackupEvery    time.Duration
	BackupKeep     int           // files
	ReconcileEvery time.Duration // 0 is off
	PublicURL      *url.URL      // nil if not set
	StripeAPIBase  *url.URL      // nil for Stripe's own

	WebhookSecretFrom Source
	SecretKeyFrom     Source

	TLS TLS // of the webhook listener

	StripeIPs      string         // "off", "on" for the addresses built into this version, or the path of a file with others
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed

	LogFormat string // "text" or "json"
	LogLevel  slog.Level

	// Warnings are accepted oddities, a sentence each, without values.
	Warnings []string

	environment *Environment
}

// TLS is where the webhook listener gets its certificate: nowhere, from files, or by ACME.
type TLS struct {
	CertFile, KeyFile string           // both or neither
	Certificate       *tls.Certificate // the content of the two files
	Domains           []string         // names to obtain a certificate for
	Directory         string           // URL of the ACME server's directory; empty for Let's Encrypt
	Roots             *x509.CertPool   // to check the ACME server's own certificate; nil for the system's
}

// On reports whether the webhook listener serves TLS.
func (t *TLS) On() bool { return t.Certificate != nil || len(t.Domains) > 0 }

// Reload reads the configuration again from the same environment, so that only the content of
// files can differ. The error is that of [Environment.Receiver].
func (c *Config) Reload() (*Config, error) { return c.environment.Receiver() }

// Endpoint returns the URL of the endpoint at Stripe, or "" if it is unknown.
func (c *Config) Endpoint() string {
	switch {
	case c.PublicURL != nil:
		return c.PublicURL.String()
	case len(c.TLS.Domains) > 0:
		return "https://" + c.TLS.Domains[0] + c.WebhookPath
	}
	return ""
}

// Logger returns a logger that writes to w in the configured format and level.
func (c *Config) Logger(w io.Writer) *slog.Logger { return slog.New(c.handler(w, nil)) }

// UndatedHandler returns the handler of [Config.Logger] for a log that records the time of each
// line itself. Records in JSON keep their time, for the programs that read them.
func (c *Config) UndatedHandler(w io.Writer) slog.Handler {
	return c.handler(w, func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
			return slog.Attr{}
		}
		return a
	})
}

func (c *Config) handler(w io.Writer, text func([]string, slog.Attr) slog.Attr) slog.Handler {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.NewJSONHandler(w, options)
	}
	options.ReplaceAttr = text
	return slog.NewTextHandler(w, options)
}
