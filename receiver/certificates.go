package receiver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// Certificates are those of the public door. They come from outside (Use), or are got and renewed by ACME (Run).
//
// A handshake never makes one: it is shown what there is, or ends. Who calls by a name that is not ours, or
// before there is a certificate, costs no request to anybody.
type Certificates struct {
	domains []string
	manager *autocert.Manager // nil where they come from outside
	errors  *acmeErrors
	log     *slog.Logger
	tell    func(end time.Time)
	look    time.Duration // how often files are looked at

	mu      sync.RWMutex // guards what follows
	current map[string]*tls.Certificate
	trouble string
}

// ACME says for whom certificates are got, and where.
type ACME struct {
	Domains   []string
	Directory string         // empty for Let's Encrypt's
	Roots     *x509.CertPool // nil for the system's
	Store     Store          // keeps account and certificates
}

// Store keeps small files, durably. The error where there is none is an [fs.ErrNotExist].
type Store interface {
	Get(ctx context.Context, name string) ([]byte, error)
	Put(ctx context.Context, name string, data []byte) error
	Delete(ctx context.Context, name string) error
}

// cache is a store as autocert wants it.
type cache struct{ Store }

func (c cache) Get(ctx context.Context, name string) ([]byte, error) {
	data, err := c.Store.Get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, autocert.ErrCacheMiss
	}
	return data, err
}

// anyName is the key of a certificate that is shown whatever name was called.
const anyName = ""

// NewCertificates begins with none. tell is called with the time at which the first of them ends, whenever that changes.
func NewCertificates(log *slog.Logger, tell func(end time.Time)) *Certificates {
	return &Certificates{log: log, tell: tell, look: filesEvery, current: map[string]*tls.Certificate{}}
}

// Use shows a certificate to everybody from the next handshake on.
func (c *Certificates) Use(cert *tls.Certificate) { c.show(anyName, cert) }

// Get has Run get certificates, and renew them. Those that are kept from an earlier start are shown
// at once, so that no handshake fails until Run comes round.
func (c *Certificates) Get(a ACME) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: a.Roots, MinVersion: tls.VersionTLS12}
	c.errors = &acmeErrors{next: transport}
	c.domains = a.Domains
	c.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: cache{a.Store}, HostPolicy: only(a.Domains),
		Client: &acme.Client{DirectoryURL: a.Directory, HTTPClient: &http.Client{Transport: c.errors, Timeout: time.Minute}, UserAgent: "tillhook"},
	}
	if a.Directory == "" {
		c.manager.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	for _, name := range a.Domains {
		if kept := keptCertificate(a.Store, name); kept != nil {
			c.show(name, kept)
		}
	}
}

// keptCertificate returns the certificate that autocert keeps for a domain: its key and its chain
// in one file of PEM. It returns nil where there is none that can be shown now; Run says why.
func keptCertificate(store Store, name string) *tls.Certificate {
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

// only lets certificates be got for those domains, and challenges be answered under their names, whatever the port.
func only(domains []string) autocert.HostPolicy {
	listed := autocert.HostWhitelist(domains...)
	return func(ctx context.Context, host string) error {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		return listed(ctx, host)
	}
}

// filesEvery is how often a certificate's files are looked at.
const filesEvery = 5 * time.Second

// Follow loads a certificate whenever one of its files has changed, and uses it, until ctx ends. What cannot be loaded is told,
// and the old one kept.
func (c *Certificates) Follow(ctx context.Context, files []string, load func() (*tls.Certificate, error)) error {
	stamps := func() (list []time.Time) {
		for _, path := range files {
			var at time.Time
			if info, err := os.Stat(path); err == nil {
				at = info.ModTime()
			}
			list = append(list, at)
		}
		return list
	}
	for seen := stamps(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.look):
		}
		now := stamps()
		if slices.EqualFunc(now, seen, time.Time.Equal) {
			continue
		}
		seen = now
		cert, err := load()
		if err != nil {
			c.log.Error("the certificate's files have changed and are of no use; the old certificate is kept", "error", err)
			continue
		}
		c.Use(cert)
		c.log.Info("the certificate's files have changed: the new one is shown", "ends", cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
}

// Config is what the door speaks TLS with: HTTP/1.1 alone, whose limits the door knows.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1", acme.ALPNProto}, GetCertificate: c.certificate}
}

// Challenges answers what an ACME server asks by HTTP on port 80, and nothing else: who posts events there would
// post them in the open.
func (c *Certificates) Challenges() http.Handler {
	nothing := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h["Content-Type"], h["Cache-Control"] = contentType, cacheControl
		h.Set("Connection", "close")
		w.WriteHeader(http.StatusNotFound)
		a := answer{code: "not_found", message: "There is nothing here. Use https."}
		_, _ = w.Write(a.text()) // nobody is there to be told of a failure
		linger(w, req)
	})
	if c.manager == nil {
		return nothing
	}
	return c.manager.HTTPHandler(nothing)
}

func (c *Certificates) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.manager != nil && slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		return c.manager.GetCertificate(hello) // the answer to a challenge, where one is open
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	name := anyName
	if c.manager != nil {
		name = strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	}
	if cert := c.current[name]; cert != nil {
		return cert, nil
	}
	return nil, errors.New("no certificate for this name")
}

func (c *Certificates) show(name string, cert *tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current[name] = cert
	end := cert.Leaf.NotAfter
	for _, other := range c.current {
		if other.Leaf.NotAfter.Before(end) {
			end = other.Leaf.NotAfter
		}
	}
	c.tell(end)
}

// Trouble tells what is wrong with the certificates, in a sentence; empty if nothing is.
func (c *Certificates) Trouble() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for name, cert := range c.current {
		if c.trouble == "" && late(cert, time.Now()) {
			return fmt.Sprintf("The certificate%s ends on %s and has not been renewed.", of(name), cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return c.trouble
}

// Findings say whether the certificates are in their time. c may be nil, for a public door without
// TLS: nothing is found then.
func (c *Certificates) Findings() []health.Finding {
	if c == nil {
		return nil
	}
	f := health.Finding{Code: health.Certificate, Severity: health.OK, Message: "The certificate of the public door is in its time."}
	if trouble := c.Trouble(); trouble != "" {
		f.Severity, f.Message, f.Next = health.Warn, trouble, "see the log; Stripe delivers nothing to an endpoint without a valid certificate"
	}
	return []health.Finding{f}
}

func of(name string) string {
	if name == anyName {
		return ""
	}
	return " of " + name
}

// late tells that a certificate should have been renewed: that is done when a third of its time is left, or 30 days.
func late(cert *tls.Certificate, now time.Time) bool {
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	return cert.Leaf.NotAfter.Sub(now) < min(life/4, 21*24*time.Hour)
}

const (
	// acmeLook is how often certificates are looked at, or as often as a fiftieth of their time where that is short.
	acmeLook = time.Minute
	// acmeRetry and acmeRetryMost are the pauses after tries that failed. Let's Encrypt allows five failures an hour.
	acmeRetry     = time.Minute
	acmeRetryMost = time.Hour
	// acmeAgain is how often what does not get better is said again.
	acmeAgain = time.Hour
)

// Run gets certificates, if that is what they come from, has them renewed, and tells what goes wrong, until ctx ends.
func (c *Certificates) Run(ctx context.Context) error {
	var said time.Time
	retry := acmeRetry
	for {
		pause, trouble, missing := acmeLook, "", false
		for _, name := range c.domains {
			cert, err := c.obtain(ctx, name)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				trouble, missing = fmt.Sprintf("There is no certificate of %s: %s.", name, strings.TrimSuffix(acmeFault(err), ".")), true
				continue
			}
			pause = min(pause, max(cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)/50, time.Second))
			if old := c.shown(name); old == nil || !bytes.Equal(old.Certificate[0], cert.Certificate[0]) {
				c.show(name, cert)
				c.log.Info("certificate", "domain", name, "ends", cert.Leaf.NotAfter.UTC().Format(time.RFC3339), "issuer", cert.Leaf.Issuer.CommonName)
			}
			if late(cert, time.Now()) {
				trouble = fmt.Sprintf("The certificate of %s ends on %s and could not be renewed: %s.", name, cert.Leaf.NotAfter.UTC().Format(time.RFC3339), strings.TrimSuffix(c.errors.said(), "."))
			}
		}
		c.mu.Lock()
		before := c.trouble
		c.trouble = trouble
		c.mu.Unlock()
		if trouble != "" && (before == "" || time.Since(said) > acmeAgain) {
			said = time.Now()
			c.log.Error("a certificate could not be got; trying again", "trouble", trouble, "next", acmeNext)
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

// acmeNext is what to look at.
const acmeNext = "the domain must lead to this machine, and port 443 (or 80, with tillhook-http.socket) must be open to everybody"

// acmeFault returns in words why there was no certificate.
func acmeFault(err error) string {
	var request *url.Error
	var network *net.OpError
	if errors.As(err, &request) || errors.As(err, &network) {
		return "the ACME server cannot be asked: " + stripe.Plainly(err).Error()
	}
	return err.Error()
}

func (c *Certificates) shown(name string) *tls.Certificate {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.current[name]
}

// obtain asks for a certificate of a domain: the one there is, or a new one, which takes some seconds.
func (c *Certificates) obtain(ctx context.Context, name string) (*tls.Certificate, error) {
	type result struct {
		cert *tls.Certificate
		err  error
	}
	done := make(chan result, 1)
	go func() {
		cert, err := c.manager.GetCertificate(&tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256},
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

// acmeErrors remembers what an ACME server, or the way to it, last had to complain of: autocert tells nobody why it could not renew.
type acmeErrors struct {
	next http.RoundTripper

	mu   sync.Mutex // guards last
	last string
}

// maxProblem is how much of an answer is kept. RFC 8555, section 6.7
const maxProblem = 1 << 10

func (a *acmeErrors) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := a.next.RoundTrip(req)
	complaint := ""
	switch {
	case err != nil:
		complaint = acmeFault(err)
	case res.StatusCode >= http.StatusBadRequest:
		text, readErr := io.ReadAll(io.LimitReader(res.Body, maxProblem))
		if readErr != nil {
			text = nil
		}
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(text), res.Body), res.Body}
		complaint = fmt.Sprintf("%s: %s", res.Status, strings.Join(strings.Fields(string(text)), " "))
	default:
		return res, nil
	}
	a.mu.Lock()
	a.last = complaint
	a.mu.Unlock()
	return res, err
}

func (a *acmeErrors) said() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == "" {
		return "the ACME server gave no reason"
	}
	return a.last
}
