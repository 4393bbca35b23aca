package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"os"
	"strings"
)

// TLS is what the public door is to do about it: nothing, a certificate from files, or one that is got by ACME.
type TLS struct {
	CertFile, KeyFile string           // both or none
	Certificate       *tls.Certificate // what they hold
	Domains           []string         // that a certificate is got for
	Directory         string           // the ACME server's; empty for Let's Encrypt's
	Roots             *x509.CertPool   // that the ACME server's own certificate is checked against; nil for the system's
}

// On tells whether the public door speaks TLS.
func (t *TLS) On() bool { return t.Certificate != nil || len(t.Domains) > 0 }

const (
	domainName    = "TILLHOOK_TLS_DOMAIN"
	certName      = "TILLHOOK_TLS_CERT"
	keyName       = "TILLHOOK_TLS_KEY"
	directoryName = "TILLHOOK_ACME_DIRECTORY"
	caName        = "TILLHOOK_ACME_CA"
)

// tls reads how the public door gets its certificate.
func (r *reader) tls() {
	t := &r.config.TLS
	t.CertFile, t.KeyFile = r.plain(certName, r.vars.TLSCert), r.plain(keyName, r.vars.TLSKey)
	switch {
	case t.CertFile == "" && t.KeyFile == "":
	case r.vars.TLSDomain != "":
		r.fault(domainName, "is set, and so is "+certName+" or "+keyName, "keep one of the two ways to get a certificate")
	case t.KeyFile == "":
		r.fault(keyName, "is not set, and "+certName+" is", "name the file with the certificate's private key")
	case t.CertFile == "":
		r.fault(certName, "is not set, and "+keyName+" is", "name the file with the certificate and its chain, PEM")
	default:
		var faults Faults
		if pair, err := LoadPair(t.CertFile, t.KeyFile); errors.As(err, &faults) {
			r.faults = append(r.faults, faults...)
		} else {
			t.Certificate = pair
		}
	}
	r.acme(t)
}

// LoadPair reads a certificate with its chain, and its key. The error is a [Faults], without paths.
func LoadPair(certFile, keyFile string) (*tls.Certificate, error) {
	var content [2][]byte
	for i, file := range []struct{ name, path string }{{certName, certFile}, {keyName, keyFile}} {
		var err error
		if content[i], err = os.ReadFile(file.path); err != nil {
			return nil, Faults{{file.name, "names a file that cannot be read (" + reason(err) + ")", "check the path and who may read it"}}
		}
	}
	pair, err := tls.X509KeyPair(content[0], content[1])
	if err != nil { // its text tells what is missing, and prints nothing of either
		return nil, Faults{{certName, "and " + keyName + " do not go together (" + strings.TrimPrefix(err.Error(), "tls: ") + ")",
			"name the certificate with its chain and the private key it was made with, both PEM"}}
	}
	return &pair, nil
}

// acme reads what certificates are to be got for, and from whom.
func (r *reader) acme(t *TLS) {
	for _, name := range strings.FieldsFunc(r.plain(domainName, r.vars.TLSDomain), func(c rune) bool { return c == ',' || c == ' ' }) {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if problem := domainProblem(name); problem != "" {
			r.fault(domainName, problem, "write the name that Stripe calls, like hooks.example.com; several are separated by commas")
			return
		}
		t.Domains = append(t.Domains, name)
	}
	directory, ca := r.plain(directoryName, r.vars.ACMEDirectory), r.plain(caName, r.vars.ACMECA)
	if r.vars.TLSDomain == "" {
		if directory != "" || ca != "" {
			r.fault(domainName, "is not set, and "+directoryName+" or "+caName+" is", "set the domain that a certificate is to be got for, or unset both")
		}
		return
	}
	if directory != "" {
		if u, err := url.Parse(directory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			r.fault(directoryName, "is not an https URL", "write it like https://acme-v02.api.letsencrypt.org/directory, or unset it for that one")
		}
		t.Directory = directory
	}
	if ca != "" {
		t.Roots = r.roots(ca)
	}
}

func domainProblem(name string) string {
	switch _, err := netip.ParseAddr(name); {
	case err == nil:
		return "is an address, and certificates are got for names"
	case strings.HasPrefix(name, "*."):
		return "has a wildcard, which takes a proof by DNS"
	case !strings.Contains(name, "."), len(name) > 253, strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "",
		strings.HasPrefix(name, "."), strings.Contains(name, ".."):
		return "is not the name of a host"
	}
	return ""
}

// roots reads the certificates that an ACME server of one's own is checked against.
func (r *reader) roots(path string) *x509.CertPool {
	content, err := os.ReadFile(path)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(content) {
		err = errors.New("no certificate in PEM form is in it")
	}
	if err != nil {
		r.fault(caName, "names a file that is of no use ("+reason(err)+")", "name the certificate of the ACME server's own root")
		return nil
	}
	return pool
}

// addresses reads who may call the public door.
func (r *reader) addresses() {
	c := &r.config
	switch c.StripeIPs = r.plain("TILLHOOK_ALLOW_STRIPE_IPS", r.vars.StripeIPs); {
	case c.StripeIPs == "on", c.StripeIPs == "off":
	case !strings.HasPrefix(c.StripeIPs, "/"):
		r.fault("TILLHOOK_ALLOW_STRIPE_IPS", "is neither on nor off nor a path that begins with a slash",
			"write on for the addresses this version knows, or the path of a copy of https://stripe.com/files/ips/ips_webhooks.txt")
	}
	for _, entry := range strings.FieldsFunc(r.plain("TILLHOOK_TRUSTED_PROXIES", r.vars.TrustedProxies), func(c rune) bool { return c == ',' || c == ' ' }) {
		prefix, err := netip.ParsePrefix(entry)
		if addr, addrErr := netip.ParseAddr(entry); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		switch {
		case err != nil:
			r.fault("TILLHOOK_TRUSTED_PROXIES", "has an entry that is no address and no network", "write it like 127.0.0.1,10.0.0.0/8")
			return
		case prefix.Bits() == 0:
			r.fault("TILLHOOK_TRUSTED_PROXIES", "trusts every address there is", "name the proxy's own address: who is trusted can say to be anybody")
			return
		}
		c.TrustedProxies = append(c.TrustedProxies, prefix.Masked())
	}
}
