package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tillhook/receiver/config"
)

func TestSecretsThatLookCutShort(t *testing.T) {
	const real, other = "whsec_Qm9va2JpbmRlcnNBbmRJbmtRdWlsbHM4", "whsec_SW5rUXVpbGxzQm9va2JpbmRlcnNBbmR4"
	dir := t.TempDir()
	load := func(secrets, key string) *config.Config {
		t.Helper()
		env := []string{"STRIPE_MODE=test"}
		for name, text := range map[string]string{"STRIPE_WEBHOOK_SECRET_FILE": secrets, "STRIPE_SECRET_KEY_FILE": key} {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			env = append(env, name+"="+file)
		}
		c, err := config.Load(env)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, c := range []struct{ what, inUse, secrets, key, fault string }{
		{"nothing new", real, real, goodKey, ""},
		{"another one", real, other, goodKey, ""},
		{"one more", real, real + "," + other, goodKey, ""},
		{"one less", real + "," + other, other, goodKey, ""},
		{"a part", real, "whsec_te", goodKey, "STRIPE_WEBHOOK_SECRET_FILE holds a part"},
		{"a longer part", real, other[:30], goodKey, "STRIPE_WEBHOOK_SECRET_FILE holds a part"},
		{"a part of a list", real, real + "," + other[:20], goodKey, "STRIPE_WEBHOOK_SECRET_FILE, entry 2 of 2, holds a part"},
		{"a part of the same one", "whsec_ofATest", "whsec_ofATes", goodKey, "STRIPE_WEBHOOK_SECRET_FILE holds a part"},
		{"the one in use without what was pasted behind it", other + "Q", other, goodKey, ""},
		{"a part of that of stripe listen", other + other[6:], other + other[6:30], goodKey, "STRIPE_WEBHOOK_SECRET_FILE holds a part"},
		{"one of a test's", "whsec_theOldOne", "whsec_theNewOne", goodKey, ""},
		{"a part of a test's", "whsec_theOldOne", "whsec_te", goodKey, "STRIPE_WEBHOOK_SECRET_FILE holds a part"},
		{"another key", real, real, "sk_test_51QbD7sKvHadernBlz9w", ""},
		{"a part of the key", real, real, goodKey[:20], "STRIPE_SECRET_KEY_FILE holds a part"},
		{"a part of another key", real, real, "sk_test_51Q", "STRIPE_SECRET_KEY_FILE holds a part"},
	} {
		inUse := load(c.inUse, goodKey)
		err := load(c.secrets, c.key).Replaces(inUse)
		if c.fault == "" {
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		var faults config.Faults
		if !errors.As(err, &faults) || len(faults) != 1 || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), "rename") {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
