package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"tillhook/ledger"
	"tillhook/receiver/operator"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

// listedEndpoint is an endpoint in a list.
type listedEndpoint struct {
	stripe.Endpoint
	Own *bool `json:"own"` // whether it has this receiver's URL; nil if that is unknown
}

func (p *Program) endpointList() *cobra.Command {
	e := &endpoints{Program: p}
	c := &cobra.Command{
		Use:   "list",
		Args:  noArguments,
		Short: "List the account's endpoints at Stripe",
		Long: `List the account's webhook endpoints at Stripe in the mode of the key, newest first. OWN shows which
ones have the URL of this receiver.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := e.configure(); err != nil {
				return err
			}
			if err := e.fetch(c.Context()); err != nil {
				return err
			}
			list := operator.List[listedEndpoint]{Object: "list", Data: []listedEndpoint{}}
			for _, it := range e.all {
				listed := listedEndpoint{Endpoint: it}
				if e.address != "" {
					own := reconcile.SameURL(it.URL, e.address)
					listed.Own = &own
				}
				list.Data = append(list.Data, listed)
			}
			if e.asJSON {
				enc := json.NewEncoder(p.Stdout)
				enc.SetEscapeHTML(false)
				return enc.Encode(list)
			}
			return e.showList(list.Data)
		},
	}
	e.registerURL(c)
	c.Flags().BoolVar(&e.asJSON, "json", false, "print the endpoints as JSON")
	return c
}

func (e *endpoints) showList(list []listedEndpoint) error {
	if len(list) == 0 {
		fmt.Fprintf(e.Stderr, "The account has no endpoints in %s mode; tillhook endpoint create creates one.\n", ledger.ModeName(e.account.Livemode))
		return nil
	}
	var rows [][]string
	for _, it := range list {
		events := strconv.Itoa(len(it.EnabledEvents))
		if slices.Contains(it.EnabledEvents, "*") {
			events = "all"
		}
		own := "unknown"
		if it.Own != nil {
			own = map[bool]string{true: "yes", false: "no"}[*it.Own]
		}
		rows = append(rows, []string{it.ID, own, it.Status, terminal.OrDash(ledger.OrNull(it.APIVersion)), events, it.URL})
	}
	if err := e.table([]terminal.Column{{Head: "ENDPOINT"}, {Head: "OWN"}, {Head: "STATUS"}, {Head: "API VERSION", Spare: true},
		{Head: "EVENTS", Right: true, Spare: true}, {Head: "URL", Cut: true}}, rows); err != nil {
		return err
	}
	if e.address == "" {
		fmt.Fprintln(e.Stderr, "It is unknown which of them is this receiver's: set TILLHOOK_PUBLIC_URL, or give its URL with --url.")
	}
	return nil
}
