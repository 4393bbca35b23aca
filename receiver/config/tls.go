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

// domains reads the names to obtain a certificate for.
func (r *reader) domains(name, value string) {
	if value == "" && (r.values[directoryName] != "" || r.values[caName] != "") {
		r.fault(name, "is not set, and "+directoryName+" or "+caName+" is", "set the domain to obtain a certificate for, or unset both")
	}
	for _, domain := range list(value) {
		domain = strings.ToLower(strings.TrimSuffix(domain, "."))
		if problem := domainProblem(domain); problem != "" {
			r.fault(name, problem, "write the name that Stripe calls, like hooks.example.com; several are separated by commas")
			return
		}
		r.config.TLS.Domains = append(r.config.TLS.Domains, domain)
	}
}

func domainProblem(name string) string {
	switch _, err := netip.ParseAddr(name); {
	case err == nil:
		return "is an address, and certificates are issued for names"
	case strings.HasPrefix(name, "*."):
		return "has a wildcard, which needs a challenge by DNS"
	case !strings.Contains(name, "."), len(name) > 253, strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "",
		strings.HasPrefix(name, "."), strings.Contains(name, ".."):
		return "is not a host name"
	}
	return ""
}

// directory reads the URL of another ACME server than Let's Encrypt.
func (r *reader) directory(name, value string) {
	if value == "" || r.values[domainName] == "" {
		return
	}
	if u, err := url.Parse(value); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		r.fault(name, "is not an https URL", "write it like https://acme-v02.api.letsencrypt.org/directory, or unset it to use that one")
	}
	r.config.TLS.Directory = value
}

// roots reads the certificates to check the ACME server's own certificate.
func (r *reader) roots(name, value string) {
	if value == "" || r.values[domainName] == "" {
		return
	}
	pool := x509.NewCertPool()
	content, err := os.ReadFile(value)
	if err == nil && !pool.AppendCertsFromPEM(content) {
		err = errors.New("it holds no certificate in PEM form")
	}
	if err != nil {
		r.fault(name, "names a file that cannot be used ("+reason(err)+")", "name the root certificate of the ACME server")
		return
	}
	r.config.TLS.Roots = pool
}

// certificate reads the key file, and the certificate that it belongs to.
func (r *reader) certificate(name, value string) {
	t := &r.config.TLS
	t.KeyFile = value
	switch {
	case t.CertFile == "" && t.KeyFile == "":
	case r.values[domainName] != "":
		r.fault(domainName, "is set, and so is "+certName+" or "+keyName, "keep one of the two ways to get a certificate")
	case t.KeyFile == "":
		r.fault(name, "is not set, and "+certName+" is", "name the file with the certificate's private key")
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
}

// LoadPair reads a certificate with its chain, and its key. The error is a [Faults], without paths.
func LoadPair(certFile, keyFile string) (*tls.Certificate, error) {
	var content [2][]byte
	for i, file := range []struct{ name, path string }{{certName, certFile}, {keyName, keyFile}} {
		var err error
		if content[i], err = os.ReadFile(file.path); err != nil {
			return nil, Faults{{file.name, "names a file that cannot be read (" + reason(err) + ")", "check the path and its permissions"}}
		}
	}
	pair, err := tls.X509KeyPair(content[0], content[1])
	if err != nil { // its text says what is missing and contains nothing of either file
		return nil, Faults{{certName, "and " + keyName + " do not belong together (" + strings.TrimPrefix(err.Error(), "tls: ") + ")",
			"name the certificate with its chain and the private key it was made with, both PEM"}}
	}
	return &pair, nil
}
