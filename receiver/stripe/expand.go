package stripe

import (
	"errors"
	"maps"
	"net/url"
	"sync/atomic"
)

// expansions are the links of an object that Stripe is asked to put the object in place of.
// https://docs.stripe.com/api/expanding_objects
type expansions struct {
	links   []string // that any key which reads the object may expand
	balance []string // balance transactions, which a restricted key needs a permission of its own for
}

// balanceAccess is whether the key may expand balance transactions. They have the fee, and the day on
// which Stripe books the money; a key that may not read them does without.
type balanceAccess struct{ state atomic.Int32 }

const (
	accessUnknown int32 = iota
	accessGranted
	accessRefused
)

// ask calls read with what is to be expanded. A key that is refused is asked once more without the
// balance transactions, and if that is granted it is not asked for them again.
func (b *balanceAccess) ask(params url.Values, x expansions, prefix string, read func(url.Values) error) error {
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
	if len(x.balance) == 0 || b.state.Load() == accessRefused {
		return read(plain)
	}
	err := read(with(append(append([]string{}, x.links...), x.balance...)))
	var refused *APIError
	switch {
	case err == nil:
		b.state.Store(accessGranted)
	case b.state.Load() == accessUnknown && errors.As(err, &refused) && refused.Forbidden():
		if err = read(plain); err == nil {
			b.state.Store(accessRefused)
		}
	}
	return err
}
