package stripe

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"
)

// expansions are the links of an object that Stripe is asked to put the object in place of.
// https://docs.stripe.com/api/expanding_objects
type expansions struct {
	links   []string // that any key which reads the object may expand
	balance []string // balance transactions, which a restricted key needs a permission of its own for
}

// balanceAccess remembers for which accounts the key may not expand balance transactions. They have
// the fee, and the day on which Stripe books the money; a key that may not read them does without.
type balanceAccess struct {
	mu      sync.Mutex
	refused map[Account]time.Time // when to ask again
}

// askBalanceAgain is how long a refusal is remembered. It costs one more call, and a permission
// that is given later is noticed within this time.
const askBalanceAgain = 24 * time.Hour

// ask calls read with what is to be expanded. If that is refused it is called once more without the
// balance transactions, and the error, if any, is that call's.
func (b *balanceAccess) ask(account Account, params url.Values, x expansions, prefix string, read func(url.Values) error) error {
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
		return read(plain)
	}
	err := read(with(slices.Concat(x.links, x.balance)))
	var refused *APIError
	if !errors.As(err, &refused) || !refused.Forbidden() {
		return err
	}
	err = read(plain)
	if err == nil || errors.As(err, &refused) && refused.Missing() { // it was the expansion that was refused
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
	b.refused[account] = time.Now().Add(askBalanceAgain)
}

func (b *balanceAccess) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = nil
}
