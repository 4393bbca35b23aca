package ledger

import (
	"strings"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// Account is a connected account or an account of an organization.
type Account struct {
	ID      string
	Context string // the path to send in the Stripe-Context header; empty for a connected account
}

// Accounts returns the accounts that events came from, sorted by id. It omits accounts that have
// only events of the other mode.
func (l *Ledger) Accounts() (list []Account, err error) {
	err = l.store.View(func(tx *store.Tx) error {
		for e := range tx.Prefix(schema.BucketMeta, []byte(schema.AccountPrefix)) {
			context, err := e.Value()
			if err != nil {
				return err
			}
			list = append(list, Account{strings.TrimPrefix(string(e.Key), schema.AccountPrefix), string(context)})
		}
		return nil
	})
	return list, err
}
