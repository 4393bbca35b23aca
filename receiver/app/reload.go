package app

import (
	"context"
	"fmt"

	"tillhook/ledger"
	"tillhook/receiver/config"
	"tillhook/receiver/stripe"
	"tillhook/systemd"
)

// Reload reads again the part of the configuration that comes from files, and uses it. If any of it
// is wrong, the old configuration stays and a finding says so. Reload waits until the receiver
// serves, or ctx ends. Only one Reload may run at a time.
func (a *App) Reload(ctx context.Context) {
	select {
	case <-a.serving:
	case <-ctx.Done():
		return
	}
	a.warn(systemd.Reloading(), "a reload has begun")
	a.reloadError.Store(nil)
	if err := a.applyFiles(); err != nil {
		a.log.Error("not reloaded: the configuration stays as it is", "error", err)
		a.reloadError.Store(&err)
	}
	a.warn(systemd.Ready(a.statusLine()), "a reload has ended")
}

func (a *App) applyFiles() error {
	c, err := a.config.Reload()
	if err != nil {
		return err
	}
	if c.Livemode != a.config.Livemode {
		return fmt.Errorf("the API key is now of %s mode, and a ledger has one mode", ledger.ModeName(c.Livemode))
	}
	if err := c.Replaces(a.reloaded); err != nil {
		return err
	}
	if err := a.setAllowlist(c); err != nil {
		return err
	}
	a.reloaded = c
	for _, warning := range c.Warnings {
		a.log.Warn(warning)
	}
	if c.WebhookSecretFrom == config.FromFile {
		a.verifier.Replace(c.WebhookSecrets)
	}
	if c.SecretKeyFrom == config.FromFile && a.api != nil {
		a.api.SetKey(c.SecretKey)
	}
	if c.TLS.Certificate != nil {
		a.certificates.Use(c.TLS.Certificate)
	}
	a.log.Info("reloaded the values that files hold; those from the environment and from credentials need a restart",
		"secrets", len(c.WebhookSecrets),
		"signing_secrets", c.WebhookSecretFrom.Reread(), "api_key", c.SecretKeyFrom.Reread())
	return nil
}

// setAllowlist makes the webhook listener accept only the addresses that the configuration names.
func (a *App) setAllowlist(c *config.Config) error {
	if c.StripeIPs == "off" {
		return nil
	}
	list, asOf, err := stripe.Addresses(c.StripeIPs)
	if err != nil {
		return config.Faults{{Name: "TILLHOOK_ALLOW_STRIPE_IPS",
			Problem: "names a file that cannot be used (" + err.Error() + ")",
			Fix:     "make it a copy of https://stripe.com/files/ips/ips_webhooks.txt"}}
	}
	a.handler.Allow(list)
	a.log.Info("only Stripe's addresses may deliver", "addresses", len(list), "as_of", asOf)
	return nil
}
