package cli

import (
	"tillhook/receiver/config"

	"github.com/spf13/cobra"
)

func (p *Program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the receiver",
		Long: `Run the receiver until SIGTERM or SIGINT. On SIGHUP it reads files again: secrets from NAME_FILE,
certificates, lists of addresses.

It is configured only by environment variables. Required are STRIPE_WEBHOOK_SECRET (the endpoint's
signing secret, whsec_…) and one of STRIPE_SECRET_KEY and STRIPE_MODE (test or live). All errors are
reported at once, with exit status 78; for what can pass by itself (a port in use, a full disk) it
is 1.`,
		Args: noArguments,
		RunE: p.serve,
	}
}

func (p *Program) serve(c *cobra.Command, _ []string) error {
	cfg, err := config.Load(p.Environ)
	if err == nil {
		err = p.Serve(c.Context(), cfg, p.Stderr, func(Addresses) {})
	}
	if err != nil && isConfiguration(err) {
		return configError{err}
	}
	return err
}

// configError is an error of serve that only a change of the configuration fixes.
type configError struct{ error }

func (r configError) Unwrap() error { return r.error }
