package cli

import (
	"github.com/spf13/cobra"

	"tillhook/receiver/config"
)

func (p *Program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the receiver",
		Long: `Run the receiver until it is told to stop (SIGTERM, SIGINT). SIGHUP has it read again what it is
told by files: secrets from NAME_FILE, certificates, addresses.

It is configured by environment variables alone. Required are STRIPE_WEBHOOK_SECRET (the endpoint's
signing secret, whsec_…) and one of STRIPE_SECRET_KEY and STRIPE_MODE (test or live). Every fault is
reported at once, and the exit status is 78; what may pass (a port in use, a full disk) is 1.`,
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

// configError is why serve does not start before its configuration is another one.
type configError struct{ error }

func (r configError) Unwrap() error { return r.error }
