package config

import (
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxSocketPath is what a unix address holds on Linux: sun_path less the NUL at its end (unix(7)).
const maxSocketPath = 107

// maxMaxBody keeps one body far below what all bodies together may take.
const maxMaxBody = 32 << 20

// plain trims a value that is no secret, and says so.
func (r *reader) plain(name, value string) string {
	trimmed := trim(value)
	if trimmed != value {
		r.warn("%s had white space or quotes around it; they were left out", name)
	}
	return trimmed
}

// doors reads where to listen.
func (r *reader) doors() {
	c := &r.config
	c.Listen = r.address("TILLHOOK_LISTEN", r.vars.Listen)
	if operator := r.plain("TILLHOOK_OPERATOR_LISTEN", r.vars.OperatorListen); operator != "off" {
		c.OperatorListen = r.address("TILLHOOK_OPERATOR_LISTEN", operator)
	}
	if _, port, _ := net.SplitHostPort(c.Listen); c.Listen != "" && c.Listen == c.OperatorListen && port != "0" {
		r.fault("TILLHOOK_OPERATOR_LISTEN", "is the same as TILLHOOK_LISTEN", "give the operator's door a port of its own, or set it to off")
	}
	r.path()
	if c.OperatorSocket == "off" {
		r.fault("TILLHOOK_OPERATOR_SOCKET", "cannot be off", "the commands reach the receiver through it; set it to a path, or unset it")
	}
	if len(c.OperatorSocket) > maxSocketPath {
		r.fault("TILLHOOK_OPERATOR_SOCKET", "is longer than 107 bytes, which is what a unix socket's address holds", "set it to a shorter path (by default it lies in the data folder)")
	}
	if s := r.plain("TILLHOOK_PUBLIC_URL", r.vars.PublicURL); s != "" {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			r.fault("TILLHOOK_PUBLIC_URL", "is not the address of a web endpoint", "write it as Stripe has it: https://host/path")
		} else {
			c.PublicURL = u
		}
	}
	if s := r.plain("STRIPE_API_BASE", r.vars.APIBase); s != "" {
		c.StripeAPIBase = r.apiBase(s)
	}
}

func (r *reader) address(name, value string) string {
	value = r.plain(name, value)
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		r.fault(name, "is not host:port", "write it like 127.0.0.1:8080, or :8080 for every address of this machine")
		return ""
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		r.fault(name, "has no port from 0 to 65535", "write it like 127.0.0.1:8080")
		return ""
	}
	if strings.ContainsAny(host, " /@%") {
		r.fault(name, "has a host that is no name and no address", "write it like 127.0.0.1:8080")
		return ""
	}
	return value
}

func (r *reader) path() {
	const name, mend = "TILLHOOK_WEBHOOK_PATH", "write it like /webhooks/stripe, as the endpoint's URL at Stripe has it"
	p := r.plain(name, r.vars.WebhookPath)
	switch {
	case !strings.HasPrefix(p, "/"):
		r.fault(name, "does not start with a slash", mend)
	case strings.ContainsAny(p, "?#% ") || !printable(p):
		r.fault(name, "has a character that a path of ours cannot have", mend)
	case strings.Contains(p, "//") || strings.Contains(p+"/", "/./") || strings.Contains(p+"/", "/../"):
		r.fault(name, "has an empty or a dotted part", mend)
	case strings.TrimSuffix(p, "/") == "/healthz":
		r.fault(name, "is the path of the liveness check", mend)
	default:
		if r.config.WebhookPath = strings.TrimSuffix(p, "/"); p == "/" {
			r.config.WebhookPath = "/"
		}
	}
}

// apiBase reads another place for Stripe's API. The key goes there, so it leaves this machine encrypted or not at all.
func (r *reader) apiBase(s string) *url.URL {
	const name = "STRIPE_API_BASE"
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		r.fault(name, "is not a URL", "write it like https://api.stripe.com, or unset it")
		return nil
	}
	host, ipErr := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || ipErr == nil && host.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		r.fault(name, "is neither https nor on this machine", "the API key would travel in the open; use https, or unset it")
		return nil
	}
	return u
}

// limits reads the numbers.
func (r *reader) limits() {
	c := &r.config
	const toleranceMend = "Stripe's own is 5m; the time of a signature must be checked, or an old delivery can be replayed"
	if d, ok := r.duration("TILLHOOK_TOLERANCE", r.vars.Tolerance); ok {
		switch {
		case d == 0:
			r.fault("TILLHOOK_TOLERANCE", "is 0", toleranceMend)
		case d < time.Second:
			r.fault("TILLHOOK_TOLERANCE", "is less than a second, which is what signatures count in", toleranceMend)
		case d > 24*time.Hour:
			r.fault("TILLHOOK_TOLERANCE", "is longer than a day", toleranceMend)
		}
		c.Tolerance = d
	}
	const bodyMend = "write a number of bytes from 1 to 33554432; Stripe's events can have 300000, 1048576 is the default"
	if n, err := strconv.ParseInt(r.plain("TILLHOOK_MAX_BODY", r.vars.MaxBody), 10, 64); err != nil || n < 1 || n > maxMaxBody {
		r.fault("TILLHOOK_MAX_BODY", "is not a number of bytes that can be", bodyMend)
	} else {
		if c.MaxBody = n; n < 512<<10 {
			r.warn("TILLHOOK_MAX_BODY is below 524288: Stripe's events can have 300000 bytes, and one that is refused is tried again for three days")
		}
	}
	c.Retention = r.retention("TILLHOOK_RETENTION", r.vars.Retention)
	if c.ReconcileEvery, _ = r.duration("TILLHOOK_RECONCILE_EVERY", r.vars.ReconcileEvery); c.ReconcileEvery != 0 && c.ReconcileEvery < time.Minute {
		r.fault("TILLHOOK_RECONCILE_EVERY", "is shorter than a minute", "15m is the default, 0 switches it off")
	}
}

func (r *reader) logging() {
	c := &r.config
	switch c.LogFormat = r.plain("TILLHOOK_LOG_FORMAT", r.vars.LogFormat); c.LogFormat {
	case "text", "json":
	default:
		r.fault("TILLHOOK_LOG_FORMAT", "is neither text nor json", "write one of the two")
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[r.plain("TILLHOOK_LOG_LEVEL", r.vars.LogLevel)]
	if !ok {
		r.fault("TILLHOOK_LOG_LEVEL", "is none of debug, info, warn, error", "write one of the four")
	}
	c.LogLevel = level
}

// backups reads where and how often the ledger is copied.
func (r *reader) backups() {
	c := &r.config
	c.BackupDir = r.plain("TILLHOOK_BACKUP_DIR", r.vars.BackupDir)
	if info, err := os.Stat(c.BackupDir); err == nil && !info.IsDir() {
		r.fault("TILLHOOK_BACKUP_DIR", "is a file", "name a folder, which is made where there is none")
	}
	if d, ok := r.duration("TILLHOOK_BACKUP_EVERY", r.vars.BackupEvery); ok && d < time.Minute {
		r.fault("TILLHOOK_BACKUP_EVERY", "is shorter than a minute", "24h is the default")
	} else {
		c.BackupEvery = d
	}
	if n, err := strconv.ParseUint(r.plain("TILLHOOK_BACKUP_KEEP", r.vars.BackupKeep), 10, 16); err != nil || n == 0 {
		r.fault("TILLHOOK_BACKUP_KEEP", "is not a number from 1 to 65535", "7 is the default")
	} else {
		c.BackupKeep = int(n)
	}
}

// reconciling says of what can have no effect that it has none.
func (r *reader) reconciling() {
	if r.set["TILLHOOK_RECONCILE_EVERY"] != "" && r.config.ReconcileEvery != 0 && r.config.SecretKey == "" {
		r.warn("TILLHOOK_RECONCILE_EVERY has no effect without STRIPE_SECRET_KEY: events that Stripe could not deliver are not fetched")
	}
}
