package stripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
)

// ownAccount is the id of the account that a key belongs to.
type ownAccount struct {
	keys uint64 // API.Keys when Stripe was asked
	id   string // empty if Stripe does not say
}

// deniedOn matches the account in Stripe's message about a permission that a restricted key lacks.
var deniedOn = regexp.MustCompile(`for this endpoint on account '(acct_[A-Za-z0-9]+)'`)

// OwnAccount returns the id of the account that the key belongs to, or "" if Stripe does not say.
// It calls Stripe once per key. https://docs.stripe.com/api/accounts/retrieve
func (a *API) OwnAccount(ctx context.Context) (id string, err error) {
	keys := a.Keys()
	if own := a.own.Load(); own != nil && own.keys == keys {
		return own.id, nil
	}
	var account struct {
		ID string `json:"id"`
	}
	_, err = a.call(ctx, http.MethodGet, "/v1/account", Account{}, nil, &account)
	var refused *APIError
	switch {
	case errors.As(err, &refused) && refused.Forbidden():
		if named := deniedOn.FindStringSubmatch(refused.Message); named != nil {
			account.ID = named[1]
		}
	case errors.As(err, &refused) && refused.Missing():
	case err != nil:
		return "", fmt.Errorf("read the account of the API key: %w", err)
	}
	if !usableID(account.ID) {
		account.ID = ""
	}
	a.own.Store(&ownAccount{keys, account.ID})
	return account.ID, nil
}
