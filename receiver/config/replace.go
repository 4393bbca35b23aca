package config

import (
	"fmt"
	"slices"
	"strings"
)

// wholeSecret is the number of characters behind "whsec_" in Stripe's signing secrets of endpoints;
// those of stripe listen have more.
const wholeSecret = 32

// Replaces returns, as [Faults], the secrets from files that look truncated beside those in use. A
// file may be read while it is being written, and a receiver with a part of a secret would refuse
// every delivery.
func (c *Config) Replaces(inUse *Config) error {
	const problem, fix = "holds a part of a secret: it was probably read while it was being written",
		"write a new file beside it, rename that over it (mv), and reload again; if the secret is really this short, restart"
	var faults Faults
	if c.WebhookSecretFrom == FromFile {
		for i, secret := range c.WebhookSecrets {
			if !slices.Contains(inUse.WebhookSecrets, secret) && looksCut(secret, "whsec_", wholeSecret, inUse.WebhookSecrets) {
				name := webhookSecretName + "_FILE"
				if n := len(c.WebhookSecrets); n > 1 {
					name += fmt.Sprintf(", entry %d of %d,", i+1, n)
				}
				faults = append(faults, Fault{name, problem, fix})
			}
		}
	}
	if c.SecretKeyFrom == FromFile && c.SecretKey != inUse.SecretKey && looksCut(c.SecretKey, "", 0, []string{inUse.SecretKey}) {
		faults = append(faults, Fault{secretKeyName + "_FILE", problem, fix})
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// looksCut reports whether a secret is the beginning of one in use, or too short: shorter than half
// of each of them or, if they have at least the length of a whole secret, shorter than that. A
// secret of exactly that length is whole: the one in use was pasted with something behind it.
func looksCut(secret, prefix string, whole int, inUse []string) bool {
	shortest := -1
	for _, other := range inUse {
		if strings.HasPrefix(other, secret) && (whole == 0 || len(secret) != len(prefix)+whole) {
			return true
		}
		if n := len(strings.TrimPrefix(other, prefix)); shortest < 0 || n < shortest {
			shortest = n
		}
	}
	least := shortest/2 + 1
	if whole > 0 && shortest >= whole {
		least = whole
	}
	return len(strings.TrimPrefix(secret, prefix)) < least
}
