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

const (
	// maxSocketPath is the length of a unix address on Linux: sun_path without its NUL (unix(7)).
	maxSocketPath = 107
	// maxMaxBody keeps one body far below the limit of all bodies together.
	maxMaxBody = 32 << 20
)

// mode checks the mode against that of the key.
func (r *reader) mode(name, value string) {
	switch {
	case value != "" && value != "test" && value != "live":
		r.fault(name, "is neither test nor live", "set it to the mode of the endpoint whose secret you use")
	case value == "" && r.config.SecretKey == "" && !r.hasFault(secretKeyName):
		r.fault(name, "is not set, and neither is "+secretKeyName,
			"set one of them, so that no test payment gets into a live ledger: STRIPE_MODE to test or live, or the key")
	case value != "" && r.keyMode != "" && value != r.keyMode:
		r.fault(name, "says "+value+" and "+secretKeyName+" is a "+r.keyMode+" mode key", "use a key of the same mode, or unset STRIPE_MODE")
	}
	r.config.Livemode = r.keyMode == "live" || r.keyMode == "" && value == "live"
}

// apiBase reads another address of Stripe's API. The key is sent there, so the connection must be
// encrypted or stay on this machine.
func (r *reader) apiBase(name, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.User != nil {
		r.fault(name, "is not a URL", "write it like https://api.stripe.com, or unset it")
		return
	}
	host, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && host.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		r.fault(name, "is neither https nor on this machine", "the API key would be sent unencrypted; use https, or unset it")
		return
	}
	r.config.StripeAPIBase = u
}

func (r *reader) publicURL(name, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		r.fault(name, "is not the URL of a webhook endpoint", "write it as it is at Stripe: https://host/path")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		r.fault(name, "has more than scheme, host and path", "leave out the query (from ? on), a user name and a #fragment: "+
			"an endpoint at Stripe is recognized without them")
	default:
		r.config.PublicURL = u
	}
}

func (r *reader) reconcileEvery(name, value string) {
	d, ok := r.duration(name, value)
	switch {
	case ok && d != 0 && d < time.Minute:
		r.fault(name, "is shorter than a minute", "15m is the default, 0 turns it off")
	case d != 0 && r.values[name] != "" && r.config.SecretKey == "":
		r.warn("%s has no effect without STRIPE_SECRET_KEY: events that Stripe could not deliver are not fetched", name)
	}
	r.config.ReconcileEvery = d
}

// address checks an address to listen on and returns it, or "" after an error.
func (r *reader) address(name, value string) string {
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
		r.fault(name, "has a host that is neither a name nor an address", "write it like 127.0.0.1:8080")
		return ""
	}
	return value
}

// reachable turns an address to listen on into one to connect to.
func reachable(listen string) string {
	host, port, _ := net.SplitHostPort(listen)
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func (r *reader) path(name, value string) {
	const fix = "write it like /webhooks/stripe, as in the endpoint's URL at Stripe"
	switch {
	case !strings.HasPrefix(value, "/"):
		r.fault(name, "does not start with a slash", fix)
	case strings.ContainsAny(value, "?#% ") || !printable(value):
		r.fault(name, "has a character that is not allowed in it", fix)
	case strings.Contains(value, "//") || strings.Contains(value+"/", "/./") || strings.Contains(value+"/", "/../"):
		r.fault(name, "has an empty or a dotted part", fix)
	case strings.TrimSuffix(value, "/") == "/healthz":
		r.fault(name, "is the path of the liveness check", fix)
	case value == "/":
		r.config.WebhookPath = value
	default:
		r.config.WebhookPath = strings.TrimSuffix(value, "/")
	}
}

func (r *reader) tolerance(name, value string) {
	const fix = "Stripe's own is 5m; a signature's time must be checked, or an old delivery can be replayed"
	d, ok := r.duration(name, value)
	switch {
	case !ok:
	case d == 0:
		r.fault(name, "is 0", fix)
	case d < time.Second:
		r.fault(name, "is less than a second, the unit of signature times", fix)
	case d > day:
		r.fault(name, "is longer than a day", fix)
	case d > time.Hour:
		r.warn("%s is longer than an hour: a recorded delivery can be sent again for that long; Stripe's own is 5m", name)
	}
	r.config.Tolerance = d
}

func (r *reader) maxBody(name, value string) {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err != nil || n < 1 || n > maxMaxBody:
		r.fault(name, "is not a number of bytes in range",
			"write a number from 1 to 33554432; Stripe's events can have 300000 bytes, 1048576 is the default")
	case n < 512<<10:
		r.warn("%s is below 524288: Stripe's events can have 300000 bytes, and Stripe repeats a refused one for three days", name)
	}
	r.config.MaxBody = n
}

func (r *reader) stripeIPs(name, value string) {
	if value != "on" && value != "off" && !strings.HasPrefix(value, "/") {
		r.fault(name, "is neither on nor off nor a path that begins with a slash",
			"write on for the addresses built into this version, or the path of a copy of https://stripe.com/files/ips/ips_webhooks.txt")
	}
	r.config.StripeIPs = value
}

// list splits a list at commas and spaces.
func list(value string) []string {
	return strings.FieldsFunc(value, func(c rune) bool { return c == ',' || c == ' ' })
}

func (r *reader) trustedProxies(name, value string) {
	for _, entry := range list(value) {
		prefix, err := netip.ParsePrefix(entry)
		if addr, addrErr := netip.ParseAddr(entry); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		switch {
		case err != nil:
			r.fault(name, "has an entry that is neither an address nor a network", "write it like 127.0.0.1,10.0.0.0/8")
			return
		case prefix.Bits() == 0:
			r.fault(name, "trusts every address", "name the proxy's own address: a trusted client can claim any address")
			return
		}
		r.config.TrustedProxies = append(r.config.TrustedProxies, prefix.Masked())
	}
}

func (r *reader) operatorListen(name, value string) {
	if value == "off" {
		return
	}
	c := &r.config
	c.OperatorListen = r.address(name, value)
	if _, port, _ := net.SplitHostPort(c.Listen); c.Listen != "" && c.Listen == c.OperatorListen && port != "0" {
		r.fault(name, "is the same as "+listenName, "give the operator listener a port of its own, or set it to off")
	}
}

// operatorSocket checks the path, whether it was set or follows from the folders.
func (r *reader) operatorSocket(name, _ string) {
	switch path := r.config.OperatorSocket; {
	case path == "off":
		r.fault(name, "cannot be off", "commands reach the receiver through it; set it to a path, or unset it")
	case len(path) > maxSocketPath:
		r.fault(name, "is longer than 107 bytes, the limit of a unix socket's address", "set it to a shorter path (by default it is in the data folder)")
	}
}

func (r *reader) backupDir(name, value string) {
	if info, err := os.Stat(value); err == nil && !info.IsDir() {
		r.fault(name, "is a file", "name a folder; it is created if it does not exist")
	}
	r.config.BackupDir = value
}

func (r *reader) backupEvery(name, value string) {
	d, ok := r.duration(name, value)
	if ok && d < time.Minute {
		r.fault(name, "is shorter than a minute", "24h is the default")
	}
	r.config.BackupEvery = d
}

func (r *reader) backupKeep(name, value string) {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		r.fault(name, "is not a number from 1 to 65535", "7 is the default")
	}
	r.config.BackupKeep = int(n)
}

func (r *reader) logFormat(name, value string) {
	if value != "text" && value != "json" {
		r.fault(name, "is neither text nor json", "write one of the two")
	}
	r.config.LogFormat = value
}

func (r *reader) logLevel(name, value string) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[value]
	if !ok {
		r.fault(name, "is not debug, info, warn or error", "write one of the four")
	}
	r.config.LogLevel = level
}
