package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACME configures how certificates are obtained.
type ACME struct {
	Domains   []string
	Directory string         // URL of the ACME server; empty for Let's Encrypt
	Roots     *x509.CertPool // for the connection to it; nil for the system's
	Dir       string         // directory for the account key and the certificates; created when needed
	// Explain returns a network error in plain words; nil leaves it as it is.
	Explain func(error) error
}

// diskCache is a directory whose files are durable when Put returns.
type diskCache struct{ autocert.DirCache }

// Put writes a file and syncs it. An account key that a power failure cut short would stop all
// renewals, because autocert does not replace it.
func (c diskCache) Put(ctx context.Context, name string, data []byte) error {
	err := c.DirCache.Put(ctx, name, data)
	dir := string(c.DirCache)
	for _, path := range []string{filepath.Join(dir, name), dir, filepath.Dir(dir)} {
		if err == nil {
			err = syncPath(path)
		}
	}
	return err
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Obtain makes Run obtain and renew certificates by ACME. Stored certificates of an earlier run are
// used at once, so that no handshake fails until Run has checked them.
func (c *Certificates) Obtain(a ACME) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: a.Roots, MinVersion: tls.VersionTLS12}
	if c.explain = a.Explain; c.explain == nil {
		c.explain = func(err error) error { return err }
	}
	c.errors = &acmeErrors{next: transport, describe: c.describe}
	c.domains = a.Domains
	store := diskCache{autocert.DirCache(a.Dir)}
	c.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: store, HostPolicy: allowHosts(a.Domains),
		Client: &acme.Client{DirectoryURL: a.Directory,
			HTTPClient: &http.Client{Transport: c.errors, Timeout: time.Minute}, UserAgent: "tillhook"},
	}
	if a.Directory == "" {
		c.manager.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	for _, name := range a.Domains {
		if stored := storedCertificate(store, name); stored != nil {
			c.set(name, stored)
		}
	}
}

// storedCertificate returns the certificate that autocert stored for a domain, its key and chain in
// one PEM file, or nil if it cannot be used now. Run reports the reason.
func storedCertificate(store autocert.Cache, name string) *tls.Certificate {
	data, err := store.Get(context.Background(), name)
	if err != nil {
		return nil
	}
	cert, err := tls.X509KeyPair(data, data)
	if err != nil || cert.Leaf.VerifyHostname(name) != nil || time.Now().After(cert.Leaf.NotAfter) {
		return nil
	}
	return &cert
}

// allowHosts returns a policy that allows certificates for the domains, and answers to challenges
// under their names on any port.
func allowHosts(domains []string) autocert.HostPolicy {
	listed := autocert.HostWhitelist(domains...)
	return func(ctx context.Context, host string) error {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		return listed(ctx, host)
	}
}

// Challenges returns a handler for port 80 that answers the challenges of ACME servers. Everything
// else gets 404, because an event posted there would travel unencrypted.
func (c *Certificates) Challenges() http.Handler {
	reject := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		WriteError(w, req, http.StatusNotFound, "not_found", "There is nothing here. Use https.")
	})
	if c.manager == nil {
		return reject
	}
	return c.manager.HTTPHandler(reject)
}

const (
	// acmeCheck is the time between two checks of the certificates, or a fiftieth of their lifetime
	// if that is less.
	acmeCheck = time.Minute
	// acmeRetry and acmeRetryMost are the first and the longest pause after a failure. Let's
	// Encrypt allows five failures an hour.
	acmeRetry     = time.Minute
	acmeRetryMost = time.Hour
	// acmeRepeat is the time after which a continuing problem is logged again.
	acmeRepeat = time.Hour
)

// acmeAdvice is the next step where no certificate can be obtained.
const acmeAdvice = "the domain must lead to this machine, and port 443 (or 80, with tillhook-http.socket) must be " +
	"open to everybody"

// Run obtains and renews the certificates of Obtain, and reports problems, until ctx ends.
func (c *Certificates) Run(ctx context.Context) error {
	var reported time.Time
	retry := acmeRetry
	for {
		problem, pause, missing := c.check(ctx)
		if ctx.Err() != nil {
			return nil
		}
		c.mu.Lock()
		before := c.problem
		c.problem = problem
		c.mu.Unlock()
		if problem != "" && (before == "" || time.Since(reported) > acmeRepeat) {
			reported = time.Now()
			c.log.Error("no certificate could be obtained; trying again", "problem", problem, "next", acmeAdvice)
		}
		if missing {
			pause, retry = retry, min(2*retry, acmeRetryMost)
		} else {
			retry = acmeRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// check obtains the certificate of each domain. It returns what is wrong, the pause before the next
// check, and whether a domain has no certificate.
func (c *Certificates) check(ctx context.Context) (problem string, pause time.Duration, missing bool) {
	pause = acmeCheck
	for _, name := range c.domains {
		cert, err := c.obtain(ctx, name)
		if ctx.Err() != nil {
			return "", 0, false
		}
		if err != nil {
			problem, missing = fmt.Sprintf("There is no certificate of %s: %s.", name,
				strings.TrimSuffix(c.describe(err), ".")), true
			continue
		}
		pause = min(pause, max(cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/50, time.Second))
		if old := c.current(name); old == nil || !bytes.Equal(old.Certificate[0], cert.Certificate[0]) {
			c.set(name, cert)
			c.log.Info("certificate", "domain", name, "ends", cert.Leaf.NotAfter.UTC().Format(time.RFC3339), "issuer",
				cert.Leaf.Issuer.CommonName)
		}
		if overdue(cert, time.Now()) {
			problem = fmt.Sprintf("The certificate of %s ends on %s and could not be renewed: %s.", name,
				cert.Leaf.NotAfter.UTC().Format(time.RFC3339), strings.TrimSuffix(c.errors.reason(), "."))
		}
	}
	return problem, pause, missing
}

// describe returns in words why no certificate could be obtained.
func (c *Certificates) describe(err error) string {
	var request *url.Error
	var network *net.OpError
	if errors.As(err, &request) || errors.As(err, &network) {
		return "the ACME server cannot be asked: " + c.explain(err).Error()
	}
	return err.Error()
}

// obtain returns the certificate of a domain: the stored one, or a new one after some seconds.
func (c *Certificates) obtain(ctx context.Context, name string) (*tls.Certificate, error) {
	type result struct {
		cert *tls.Certificate
		err  error
	}
	done := make(chan result, 1)
	go func() {
		cert, err := c.manager.GetCertificate(&tls.ClientHelloInfo{ServerName: name,
			SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256},
			CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
		done <- result{cert, err}
	}()
	select {
	case r := <-done:
		return r.cert, r.err
	case <-ctx.Done(): // autocert gives up by itself after some minutes
		return nil, ctx.Err()
	}
}

// acmeErrors remembers the last error of an ACME server or of the way to it, because autocert does
// not report why a renewal failed.
type acmeErrors struct {
	next     http.RoundTripper
	describe func(error) string

	mu   sync.Mutex // guards last
	last string
}

// maxProblem bounds what is kept of an answer, in bytes. See RFC 8555, section 6.7.
const maxProblem = 1 << 10

func (a *acmeErrors) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := a.next.RoundTrip(req)
	problem := ""
	switch {
	case err != nil:
		problem = a.describe(err)
	case res.StatusCode >= http.StatusBadRequest:
		text, readErr := io.ReadAll(io.LimitReader(res.Body, maxProblem))
		if readErr != nil {
			text = nil
		}
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(text), res.Body), res.Body}
		problem = fmt.Sprintf("%s: %s", res.Status, strings.Join(strings.Fields(string(text)), " "))
	default:
		return res, nil
	}
	a.mu.Lock()
	a.last = problem
	a.mu.Unlock()
	return res, err
}

func (a *acmeErrors) reason() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == "" {
		return "the ACME server gave no reason"
	}
	return a.last
}
