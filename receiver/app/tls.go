package app

import (
	"context"
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"time"

	"tillhook/receiver/config"
	"tillhook/receiver/health"
	"tillhook/receiver/server"
	"tillhook/receiver/stripe"
)

// newCertificates returns the certificates of the webhook listener, and starts nothing.
func (a *App) newCertificates() *server.Certificates {
	return newCertificates(&a.config.TLS, a.config.DataDir, a.log, a.metrics.CertificateExpiry)
}

// newCertificates returns the certificates for a configuration: that of the files, or those that an
// earlier run obtained by ACME and stored in the data folder.
func newCertificates(c *config.TLS, dataDir string, log *slog.Logger, expiry func(end time.Time)) *server.Certificates {
	certificates := server.NewCertificates(log, expiry)
	switch {
	case c.Certificate != nil:
		certificates.Use(c.Certificate)
	case c.On():
		certificates.Obtain(server.ACME{Domains: c.Domains, Directory: c.Directory, Roots: c.Roots,
			Dir: filepath.Join(dataDir, "acme"), Explain: stripe.PlainError})
	}
	return certificates
}

// followCertificate makes the certificate from files follow its files; it does nothing without one.
func (a *App) followCertificate(g *Group, certificates *server.Certificates) {
	c := &a.config.TLS
	if c.Certificate == nil {
		return
	}
	g.Go("watcher of the certificate's files", func(ctx context.Context) error {
		return certificates.Follow(ctx, []string{c.CertFile, c.KeyFile},
			func() (*tls.Certificate, error) { return config.LoadPair(c.CertFile, c.KeyFile) })
	})
}

// serveCertificates starts what keeps the certificates of the webhook listener current, and answers
// the challenges for them.
func (a *App) serveCertificates() {
	c := &a.config.TLS
	a.followCertificate(a.group, a.certificates)
	for _, l := range a.sockets.Challenges {
		if len(c.Domains) == 0 {
			a.log.Warn("the service manager passed a socket for ACME challenges, and TILLHOOK_TLS_DOMAIN is not set: "+
				"it answers 404", "address", l.Addr().String())
		}
		a.group.Serve("ACME HTTP listener", server.New(l, a.certificates.Challenges(), a.log))
	}
	if len(c.Domains) > 0 { // after the challenges' listener
		a.group.Go("renewal of certificates", a.certificates.Run)
	}
}

// certificateFinding returns the state of the certificates; ok is false without TLS.
func (a *App) certificateFinding() (f health.Finding, ok bool) {
	if !a.config.TLS.On() {
		return f, false
	}
	if problem := a.certificates.Problem(); problem != "" {
		return health.Finding{Code: health.Certificate, Severity: health.Warn, Message: problem,
			Next: "see the log; Stripe delivers nothing to an endpoint without a valid certificate"}, true
	}
	return health.Finding{Code: health.Certificate, Severity: health.OK,
		Message: "The certificate of the webhook listener is valid and not due for renewal."}, true
}
