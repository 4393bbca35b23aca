package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// Certificates holds the TLS certificates of a server. They come from files (Use and Follow) or by
// ACME (Obtain and Run).
//
// A handshake never requests a certificate: it gets the current one or fails. So a client that
// calls by a foreign name, or before there is a certificate, causes no request to the ACME server.
type Certificates struct {
	domains   []string
	manager   *autocert.Manager // nil without ACME
	errors    *acmeErrors       // likewise
	explain   func(error) error // see ACME
	log       *slog.Logger
	notifyEnd func(end time.Time)
	interval  time.Duration // between two looks at the files

	mu      sync.RWMutex // guards what follows
	byName  map[string]*tls.Certificate
	problem string // of ACME
}

// anyName is the key of a certificate that is used for every name.
const anyName = ""

// followInterval is the time between two looks at a certificate's files.
const followInterval = 5 * time.Second

// NewCertificates returns an empty set. It calls notifyEnd with the earliest expiry of the
// certificates whenever one is set.
func NewCertificates(log *slog.Logger, notifyEnd func(end time.Time)) *Certificates {
	return &Certificates{log: log, notifyEnd: notifyEnd, interval: followInterval,
		byName: map[string]*tls.Certificate{}}
}

// Use sets the certificate of all names, from the next handshake on.
func (c *Certificates) Use(cert *tls.Certificate) { c.set(anyName, cert) }

// Follow loads the certificate and uses it whenever one of its files has changed, until ctx ends.
// If it cannot be loaded, Follow logs that and keeps the old one.
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
	for last := stamps(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.interval):
		}
		now := stamps()
		if slices.EqualFunc(now, last, time.Time.Equal) {
			continue
		}
		last = now
		cert, err := load()
		if err != nil {
			c.log.Error("the certificate's files have changed and cannot be used; the old certificate is kept", "error",
				err)
			continue
		}
		c.Use(cert)
		c.log.Info("the certificate's files have changed; the new certificate is used", "ends",
			cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
}

// Config returns the TLS configuration of a server. It offers HTTP/1.1 only, because the limits of
// [Server] are those of HTTP/1.1.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1", acme.ALPNProto},
		GetCertificate: c.forHandshake}
}

func (c *Certificates) forHandshake(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.manager != nil && slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		return c.manager.GetCertificate(hello) // answers a pending challenge
	}
	name := anyName
	if c.manager != nil {
		name = strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	}
	if cert := c.current(name); cert != nil {
		return cert, nil
	}
	return nil, errors.New("no certificate for this name")
}

func (c *Certificates) current(name string) *tls.Certificate {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byName[name]
}

func (c *Certificates) set(name string, cert *tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byName[name] = cert
	end := cert.Leaf.NotAfter
	for _, other := range c.byName {
		if other.Leaf.NotAfter.Before(end) {
			end = other.Leaf.NotAfter
		}
	}
	c.notifyEnd(end)
}

// Problem returns what is wrong with the certificates, in a sentence; "" if nothing is.
func (c *Certificates) Problem() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for name, cert := range c.byName {
		if c.problem == "" && overdue(cert, time.Now()) {
			of := ""
			if name != anyName {
				of = " of " + name
			}
			return fmt.Sprintf("The certificate%s ends on %s and has not been renewed.", of,
				cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return c.problem
}

// overdue reports whether a renewal is late: autocert renews with a third of the lifetime, or 30
// days, left; at a quarter, or 21 days, something is wrong.
func overdue(cert *tls.Certificate, now time.Time) bool {
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	return cert.Leaf.NotAfter.Sub(now) < min(life/4, 21*24*time.Hour)
}
