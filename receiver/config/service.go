package config

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/caarlos0/env/v10"
)

// ServiceDir is where the packaged service has its settings and secrets.
const ServiceDir = "/etc/tillhook"

// Account is what it takes to ask Stripe's API.
type Account struct {
	Key      string
	Livemode bool
	APIBase  *url.URL // nil for Stripe's own
	Endpoint string   // the URL that the endpoint has, or is to have, at Stripe; empty if that is not known
}

// LoadAccount reads of an environment what it takes to ask Stripe's API: there may be no signing secret yet. The error is a [Faults].
func LoadAccount(environ []string) (*Account, error) {
	r := &reader{set: env.ToMap(environ)}
	if err := env.ParseWithOptions(&r.vars, env.Options{Environment: r.set}); err != nil {
		return nil, fmt.Errorf("the table of variables is wrong: %T", err)
	}
	r.mode()
	r.doors()
	r.tls()
	if r.config.SecretKey == "" && !r.hasFault(secretKeyName) {
		r.fault(secretKeyName, "is not set", "Stripe can only be asked with a key; "+keyHint)
	}
	if len(r.faults) > 0 {
		return nil, r.faults
	}
	return &Account{r.config.SecretKey, r.config.Livemode, r.config.StripeAPIBase, r.config.Endpoint()}, nil
}

// Service is the environment that the packaged service has, for a command that is typed at a shell. An environment that has settings of its
// own stands as it is, as does one where there is no such service; from is empty then. An instance is that of a template unit; empty for none.
func Service(environ []string, dir, instance string) (_ []string, from string, err error) {
	if instance == "" {
		for name, value := range env.ToMap(environ) {
			if value != "" && (strings.HasPrefix(name, "STRIPE_") || strings.HasPrefix(name, "TILLHOOK_")) {
				return environ, "", nil
			}
		}
	}
	state, socket := "tillhook", "operator.sock"
	if instance != "" {
		if strings.ContainsAny(instance, "/ ") {
			return nil, "", fmt.Errorf("%q is not the name of an instance", instance)
		}
		dir, state, socket = filepath.Join(dir, instance), "tillhook@"+instance, filepath.Join(instance, socket)
	}
	file := filepath.Join(dir, "tillhook.env")
	text, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) && instance == "" {
		return environ, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the settings of the service: %w; run this as root", err)
	}
	defer text.Close()
	merged := append(environ[:len(environ):len(environ)], "CREDENTIALS_DIRECTORY="+dir, "STATE_DIRECTORY="+filepath.Join("/var/lib", state),
		"TILLHOOK_OPERATOR_SOCKET="+filepath.Join("/run/tillhook", socket))
	for lines := bufio.NewScanner(text); lines.Scan(); { // systemd.exec(5), EnvironmentFile=
		line := strings.TrimSpace(lines.Text())
		name, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		merged = append(merged, strings.TrimSpace(name)+"="+trim(value))
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, "", fmt.Errorf("look for the secrets of the service: %w; run this as root", err)
	}
	for _, name := range []string{webhookSecretName, secretKeyName} {
		f, err := os.Open(filepath.Join(dir, strings.ToLower(name)))
		if errors.Is(err, fs.ErrPermission) {
			return nil, "", fmt.Errorf("read the secrets of the service: %w; run this as root", err)
		}
		if err == nil {
			_ = f.Close() // it was only looked at
		}
	}
	return merged, file, nil
}
