package stripe

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"
)

// expansions are the links of an object that Stripe is asked to replace with the linked object.
// https://docs.stripe.com/api/expanding_objects
type expansions struct {
	links   []string // any key that can read the object can expand these
	balance []string // balance transactions: a restricted key needs a further permission
}

// balanceAccess remembers the accounts for which the key cannot expand balance transactions.
// Without them the fee and the day of the balance are unknown.
type balanceAccess struct {
	mu      sync.Mutex
	refused map[Account]time.Time // when to ask again
}

// balanceRetryAfter is how long a refusal is remembered. Each retry costs one call, and a
// permission that is granted later takes effect within this time.
const balanceRetryAfter = 24 * time.Hour

// read calls fetch with the parameters to expand. If Stripe refuses them, it calls fetch again
// without the balance transactions and returns the error of that call.
func (b *balanceAccess) read(account Account, params url.Values, x expansions, prefix string, fetch func(url.Values) error) error {
	with := func(names []string) url.Values {
		asked := maps.Clone(params)
		if asked == nil {
			asked = url.Values{}
		}
		for _, name := range names {
			asked.Add("expand[]", prefix+name)
		}
		return asked
	}
	plain := with(x.links)
	if len(x.balance) == 0 || b.isRefused(account) {
		return fetch(plain)
	}
	err := fetch(with(slices.Concat(x.links, x.balance)))
	var refused *APIError
	if !errors.As(err, &refused) || !refused.Forbidden() {
		return err
	}
	err = fetch(plain)
	if err == nil || errors.As(err, &refused) && refused.Missing() { // only the expansion was refused
		b.remember(account)
	}
	return err
}

func (b *balanceAccess) isRefused(account Account) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.refused[account])
}

func (b *balanceAccess) remember(account Account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused == nil {
		b.refused = map[Account]time.Time{}
	}
	b.refused[account] = time.Now().Add(balanceRetryAfter)
}

func (b *balanceAccess) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = nil
}
