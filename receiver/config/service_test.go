package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tillhook/receiver/config"
)

// A command typed at a shell has the settings of the service, unless it has any of its own.
func TestTheServicesEnvironment(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shell := []string{"PATH=/bin", "STRIPE_MODE="}
	if got, from, err := config.Service(shell, dir, ""); err != nil || from != "" || !slices.Equal(got, shell) {
		t.Errorf("without a service: %v, %q, %v", got, from, err)
	}
	write("tillhook.env", "# a comment\n; another\nSTRIPE_MODE=test\n  TILLHOOK_PUBLIC_URL = \"https://pay.haderer.example/\" \nnonsense\n")
	write("stripe_webhook_secret", goodSecret+"\n")
	got, from, err := config.Service(shell, dir, "")
	if err != nil || from != filepath.Join(dir, "tillhook.env") {
		t.Fatalf("%q, %v", from, err)
	}
	c, err := config.Load(got)
	if err != nil || c.Livemode || c.WebhookSecrets[0] != goodSecret || c.WebhookSecretFrom != config.FromCredential || c.DataDir != "/var/lib/tillhook" ||
		c.OperatorSocket != "/run/tillhook/operator.sock" || c.Endpoint() != "https://pay.haderer.example/" {
		t.Errorf("%+v, %v", c, err)
	}
	own := []string{"STRIPE_MODE=live"}
	if got, from, err := config.Service(own, dir, ""); err != nil || from != "" || !slices.Equal(got, own) {
		t.Errorf("beside settings of its own: %v, %q, %v", got, from, err)
	}
	write("live/tillhook.env", "STRIPE_MODE=live\n")
	write("live/stripe_webhook_secret", "whsec_ofLive\n")
	if got, _, err = config.Service(own, dir, "live"); err != nil {
		t.Fatal(err)
	}
	if c, err = config.Load(got); err != nil || !c.Livemode || c.DataDir != "/var/lib/tillhook@live" || c.OperatorSocket != "/run/tillhook/live/operator.sock" || c.WebhookSecrets[0] != "whsec_ofLive" {
		t.Errorf("of an instance: %+v, %v", c, err)
	}
	for _, name := range []string{"none", "../x"} {
		if _, _, err := config.Service(own, dir, name); err == nil {
			t.Errorf("an instance %q was found", name)
		}
	}
}

func TestAnAccountNeedsNoSigningSecret(t *testing.T) {
	a, err := config.LoadAccount([]string{"STRIPE_SECRET_KEY=" + goodKey, "TILLHOOK_TLS_DOMAIN=pay.haderer.example", "TILLHOOK_WEBHOOK_PATH=/hooks", "STRIPE_API_BASE=http://127.0.0.1:1"})
	if err != nil || a.Key != goodKey || a.Livemode || a.Endpoint != "https://pay.haderer.example/hooks" || a.APIBase.Host != "127.0.0.1:1" {
		t.Errorf("%+v, %v", a, err)
	}
	for _, env := range [][]string{nil, {"STRIPE_MODE=test"}, {"STRIPE_SECRET_KEY=pk_test_x"}} {
		if _, err := config.LoadAccount(env); err == nil || !strings.Contains(err.Error(), "STRIPE_SECRET_KEY") {
			t.Errorf("%v: %v", env, err)
		}
	}
}
