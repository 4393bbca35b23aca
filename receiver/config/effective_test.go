package config_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"tillhook/receiver/config"
)

// values returns the effective values by name, and checks that all settings are among them.
func values(t *testing.T, e *config.Environment) (map[string]config.Value, error) {
	t.Helper()
	list, err := e.Values()
	byName := map[string]config.Value{}
	for i, v := range list {
		if v.Name != config.Names()[i] {
			t.Errorf("value %d is of %s, want %s", i, v.Name, config.Names()[i])
		}
		byName[v.Name] = v
	}
	return byName, err
}

func TestEffectiveValues(t *testing.T) {
	m := newMachine(t)
	m.install()
	file := m.write("etc/tillhook/tillhook.env", "TILLHOOK_RETENTION=30d\nTILLHOOK_MAX_BODY=600000\nTILLHOOK_TLS_DOMAIN=hooks.haderer.example\n")
	secret := m.write("etc/tillhook/stripe_webhook_secret", "whsec_"+strings.Repeat("Q", 32)+"\n")
	key := m.write("own_secret", goodKey)
	m.write("etc/systemd/system/tillhook.service.d/own.conf", "[Service]\nEnvironment=TILLHOOK_BACKUP_KEEP=3\n")
	got, err := values(t, m.find("", "TILLHOOK_MAX_BODY=700000", "STRIPE_SECRET_KEY_FILE="+key, "TILLHOOK_BACKUP_DIR=/b/whsec_Qm9va2Jp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []config.Value{
		{"STRIPE_WEBHOOK_SECRET", "whsec_… (of the usual length)", config.FromCredential, secret, true, true},
		{"STRIPE_SECRET_KEY", "rk_test_… (shorter than usual)", config.FromFile, key, true, true},
		{"STRIPE_MODE", "test", config.FromSetting, "STRIPE_SECRET_KEY", false, true},
		{"STRIPE_API_BASE", "", config.FromNowhere, "", false, true},
		{"TILLHOOK_PUBLIC_URL", "https://hooks.haderer.example/webhooks/stripe", config.FromSetting, "TILLHOOK_TLS_DOMAIN", false, true},
		{"TILLHOOK_LISTEN", "127.0.0.1:8080", config.FromService, "tillhook.socket", false, true},
		{"TILLHOOK_RETENTION", "30d", config.FromService, file, false, true},
		{"TILLHOOK_MAX_BODY", "700000", config.FromEnvironment, "", false, true},
		{"TILLHOOK_BACKUP_DIR", "/b/whsec_…", config.FromEnvironment, "", false, true},
		{"TILLHOOK_BACKUP_KEEP", "3", config.FromService, "tillhook.service", false, true},
		{"TILLHOOK_DATA_DIR", filepath.Join(m.root, "var/lib/tillhook"), config.FromService, "tillhook.service", false, true},
		{"TILLHOOK_TOLERANCE", "5m", config.FromDefault, "", false, true},
	} {
		if got[want.Name] != want {
			t.Errorf("got  %+v\nwant %+v", got[want.Name], want)
		}
	}
}

// An invalid configuration has values too, but not those of invalid settings.
func TestValuesOfAnInvalidConfiguration(t *testing.T) {
	e, err := config.Read([]string{"STRIPE_WEBHOOK_SECRET=" + goodSecret + ",Qm9va2JpbmRlcnNBbmRJbms", "STRIPE_MODE=" + goodKey, "STATE_DIRECTORY=/s:/t", "TILLHOOK_TOLERANCE=10m"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := values(t, e)
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) != 2 {
		t.Errorf("it has the errors %v", err)
	}
	for _, want := range []config.Value{
		{"STRIPE_WEBHOOK_SECRET", "", config.FromEnvironment, "", true, false},
		{"STRIPE_MODE", "", config.FromEnvironment, "", false, false},
		{"TILLHOOK_TOLERANCE", "10m", config.FromEnvironment, "", false, true},
		{"TILLHOOK_DATA_DIR", "/s", config.FromSetting, "STATE_DIRECTORY", false, true},
	} {
		if got[want.Name] != want {
			t.Errorf("got  %+v\nwant %+v", got[want.Name], want)
		}
	}
}

// Only the kind of a secret and a class of its length are shown.
func TestSecretsAreMasked(t *testing.T) {
	for secret, want := range map[string]string{
		"whsec_" + strings.Repeat("a", 31):              "whsec_… (shorter than usual)",
		"whsec_" + strings.Repeat("a", 32):              "whsec_… (of the usual length)",
		"whsec_" + strings.Repeat("a", 64):              "whsec_… (of the usual length)",
		"whsec_" + strings.Repeat("a", 65):              "whsec_… (longer than usual)",
		"whsec_a+b/c=_" + strings.Repeat("a", 32):       "whsec_… (of the usual length)",
		"whsec_x,whsec_y":                               "whsec_… (shorter than usual), whsec_… (shorter than usual)",
		"whsec_whsec_" + strings.Repeat("sk_test_", 10): "whsec_… (longer than usual)",
	} {
		e, err := config.Read([]string{"STRIPE_WEBHOOK_SECRET=" + secret, "STRIPE_MODE=test"})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := values(t, e); err != nil || got["STRIPE_WEBHOOK_SECRET"].Value != want {
			t.Errorf("%q is shown as %q, want %q (%v)", secret, got["STRIPE_WEBHOOK_SECRET"].Value, want, err)
		}
	}
}
