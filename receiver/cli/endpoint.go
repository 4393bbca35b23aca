package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/config"
	"tillhook/receiver/health"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
	"tillhook/receiver/terminal"

	"github.com/spf13/cobra"
)

// endpointTime bounds each request of the endpoint commands to Stripe, including retries and the
// time that Stripe asks to wait.
const endpointTime = 15 * time.Second

// inTime calls ask with a context that bounds it to endpointTime, and shows what it waits for.
func (p *Program) inTime(ctx context.Context, ask func(ctx context.Context) error) error {
	defer p.progress(ctx, "Waiting for Stripe's API", nil)()
	bounded, cancel := context.WithTimeout(ctx, endpointTime)
	defer cancel()
	err := ask(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w for %s: try again later", stripe.ErrSilent, endpointTime)
	}
	return err
}

// explainChange adds to an error that the change may have been made nevertheless.
func explainChange(err error) error {
	if errors.Is(err, stripe.ErrSilent) {
		return fmt.Errorf("%w; it is unknown whether the change was made: see the Dashboard (Developers, Webhooks) before you try again", err)
	}
	return explainKey(err)
}

// endpoints is the state of an endpoint command.
type endpoints struct {
	*Program
	address string // --url
	yes     bool
	asJSON  bool

	api     *stripe.API
	account *config.Account
	all     []stripe.Endpoint
}

func (p *Program) endpointCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "endpoint",
		Short: "Create, update, enable or list the endpoints at Stripe",
		Long: `Create, update or enable the webhook endpoint at Stripe that sends to this receiver, or list all
endpoints of the account. Each command asks before it changes anything.

They need STRIPE_SECRET_KEY with the permission to write webhook endpoints (for list, to read them).
It can be set for one call only.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return usagef("name a command: list, create, update or enable")
		},
	}
	c.AddCommand(p.endpointList(), p.endpointCreate(), p.endpointUpdate(), p.endpointEnable())
	return c
}

func (e *endpoints) register(c *cobra.Command) *cobra.Command {
	e.registerURL(c)
	c.Flags().BoolVar(&e.yes, "yes", false, "do not ask for confirmation")
	c.Flags().BoolVar(&e.asJSON, "json", false, "print the endpoint as JSON")
	return c
}

func (e *endpoints) registerURL(c *cobra.Command) {
	c.Flags().StringVar(&e.address, "url", "", "the endpoint's `url` (default: TILLHOOK_PUBLIC_URL, or https:// and TILLHOOK_TLS_DOMAIN)")
}

// open reads the configuration, which must have the URL, and lists the endpoints.
func (e *endpoints) open(ctx context.Context) error {
	if err := e.configure(); err != nil {
		return err
	}
	if e.address == "" {
		return config.Faults{{Name: "TILLHOOK_PUBLIC_URL", Problem: "is not set", Fix: "set it to the URL at which Stripe reaches this receiver, or give it with --url"}}
	}
	return e.fetch(ctx)
}

// configure reads the configuration.
func (e *endpoints) configure() error {
	s, err := e.settings()
	if err != nil {
		return err
	}
	if e.account, err = s.Account(); err != nil {
		return err
	}
	if e.address == "" {
		e.address = e.account.Endpoint
	}
	return nil
}

// fetch lists the account's endpoints.
func (e *endpoints) fetch(ctx context.Context) error {
	e.api = stripe.NewAPI(e.account.Key, e.account.APIBase, e.Version)
	e.api.Interactive()
	return explainKey(e.inTime(ctx, func(ctx context.Context) (err error) {
		var skipped []error
		e.all, skipped, err = e.api.Endpoints(ctx)
		for _, err := range skipped {
			fmt.Fprintln(e.Stderr, "tillhook:", err)
		}
		return err
	}))
}

// explainKey adds to an error what a refused key needs.
func explainKey(err error) error {
	var refused *stripe.APIError
	switch {
	case !errors.As(err, &refused):
		return err
	case refused.Forbidden():
		return fmt.Errorf("%w; give the key that permission for now, or use one that has it", err)
	case refused.Refused():
		return fmt.Errorf("%w; use a key from the Dashboard (Developers, API keys)", err)
	}
	return err
}

// find returns the endpoint that was named, or the only one with this receiver's URL.
func (e *endpoints) find(named []string) (*stripe.Endpoint, error) {
	var same, queried []stripe.Endpoint
	for _, it := range e.all {
		if len(named) == 1 && it.ID == named[0] {
			return &it, nil
		}
		switch {
		case it.URL == e.address:
			same = append(same, it)
		case reconcile.SameURL(it.URL, e.address):
			queried = append(queried, it)
		}
	}
	if len(same) == 0 {
		same = queried
	}
	switch {
	case len(named) == 1:
		return nil, fmt.Errorf("no endpoint of this account in %s mode has the id %q", ledger.ModeName(e.account.Livemode), named[0])
	case len(same) == 1:
		return &same[0], nil
	case len(same) > 1:
		var names []string
		for _, it := range same {
			names = append(names, wording.Escape(it.ID)+" ("+wording.Escape(it.Status)+")")
		}
		return nil, &ambiguousEndpoint{wording.Escape(same[0].ID),
			fmt.Sprintf("%d endpoints have the URL %s: name one of them: %s", len(same), e.address, strings.Join(names, ", "))}
	}
	for _, f := range reconcile.Examine(e.all, e.address, e.account.Livemode).Findings {
		if f.Severity == health.Fail {
			return nil, fmt.Errorf("%s %s", f.Message, f.Next)
		}
	}
	return nil, fmt.Errorf("no endpoint at Stripe has the URL %s: create one with tillhook endpoint create", e.address)
}

// ambiguousEndpoint is the error if several endpoints match.
type ambiguousEndpoint struct{ first, text string }

func (s *ambiguousEndpoint) Error() string { return s.text }

func atMostOneID(_ *cobra.Command, args []string) error {
	if len(args) > 1 || len(args) == 1 && args[0] == "" {
		return usagef("name one endpoint, or none for the one with this receiver's URL, but not %q", args)
	}
	return nil
}

func (e *endpoints) show(it *stripe.Endpoint, done string) error {
	if e.asJSON {
		enc := json.NewEncoder(e.Stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(it)
	}
	_, err := fmt.Fprintf(e.Stdout, "%s: %s for %s, %s, %s, API version %s\n", done, wording.Escape(it.ID), wording.Escape(it.URL), wording.Escape(it.Status), wording.Plural(len(it.EnabledEvents), "event type"), terminal.OrDash(ledger.OrNull(it.APIVersion)))
	return err
}

func (p *Program) endpointCreate() *cobra.Command {
	e := &endpoints{Program: p}
	var version, secretFile string
	var another bool
	c := e.register(&cobra.Command{
		Use:   "create",
		Args:  noArguments,
		Short: "Create an endpoint for every event type that moves money",
		Long: `Create an endpoint at Stripe for every event type that moves money, with bodies of one API version.
Stripe shows its signing secret only once: it is printed here, or written to a new file that only its
owner can read.`,
		Example: `  tillhook endpoint create --secret-file /etc/tillhook/stripe_webhook_secret`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := e.open(c.Context()); err != nil {
				return err
			}
			at := slices.IndexFunc(e.all, func(it stripe.Endpoint) bool { return reconcile.SameURL(it.URL, e.address) })
			if at >= 0 && !another {
				return fmt.Errorf("an endpoint for %s exists already, perhaps with another query: %s (%s); tillhook endpoint update adds missing event types, --another creates a second one with its own secret",
					e.address, wording.Escape(e.all[at].ID), wording.Escape(e.all[at].Status))
			}
			if err := e.confirm(e.yes, "Create a %s mode endpoint for %s, with %d event types of API version %s?", ledger.ModeName(e.account.Livemode), e.address, len(stripe.Types), version); err != nil {
				return err
			}
			return e.create(c.Context(), version, secretFile)
		},
	})
	c.Flags().StringVar(&version, "api-version", stripe.PinnedVersion, "the API `version` of the bodies")
	c.Flags().StringVar(&secretFile, "secret-file", "", "write the signing secret to this new `file` instead of printing it")
	c.Flags().BoolVar(&another, "another", false, "create it beside one with the same URL")
	return c
}

// create creates the endpoint. It creates the file for the secret first, because Stripe shows the
// secret only once.
func (e *endpoints) create(ctx context.Context, version, secretFile string) (err error) {
	var file *os.File
	if secretFile != "" {
		file, err = os.OpenFile(secretFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("create the file for the secret: %w; name one that does not exist yet", err)
		}
	}
	var created *stripe.Endpoint
	err = e.inTime(ctx, func(ctx context.Context) (err error) {
		created, err = e.api.CreateEndpoint(ctx, e.address, version, "Tillhook")
		return err
	})
	if err != nil {
		if file != nil {
			err = errors.Join(err, file.Close(), os.Remove(secretFile))
		}
		return explainChange(err)
	}
	secret := created.Secret
	if created.Secret = ""; !e.asJSON || file != nil {
		if err := e.show(created, "Created"); err != nil {
			return err
		}
	}
	if file != nil {
		_, err = file.WriteString(secret + "\n")
		if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
			return fmt.Errorf("store the secret: %w; roll it in the Dashboard to get another one", err)
		}
		fmt.Fprintf(e.Stderr, "The signing secret is in %s; start or restart the receiver.\n", secretFile)
		return nil
	}
	if e.asJSON {
		created.Secret = secret
		return e.show(created, "")
	}
	where := ""
	if settings, err := e.settings(); err == nil && settings.Service != nil {
		where = " (the part behind = belongs in " + filepath.Join("/etc/tillhook", e.instance, "stripe_webhook_secret") + ")"
	}
	fmt.Fprintln(e.Stderr, "This is its signing secret. Stripe shows it only once; put it into the receiver's configuration now"+where+":")
	_, err = fmt.Fprintf(e.Stdout, "STRIPE_WEBHOOK_SECRET=%s\n", secret)
	return err
}

// change makes a change to the endpoint that was named, and prints the result.
func (e *endpoints) change(c *cobra.Command, named []string, do func(ctx context.Context, own *stripe.Endpoint) (changed *stripe.Endpoint, done string, err error)) error {
	if err := e.open(c.Context()); err != nil {
		return err
	}
	own, err := e.find(named)
	var several *ambiguousEndpoint
	if errors.As(err, &several) {
		return fmt.Errorf("%w; for the first: %s", err, e.forInstance(c.CommandPath()+" "+several.first))
	}
	if err != nil {
		return err
	}
	changed, done, err := do(c.Context(), own)
	if err != nil {
		return explainChange(err)
	}
	return e.show(changed, done)
}

func (p *Program) endpointUpdate() *cobra.Command {
	e := &endpoints{Program: p}
	update := func(ctx context.Context, own *stripe.Endpoint) (*stripe.Endpoint, string, error) {
		missing := own.MissingTypes()
		if len(missing) == 0 {
			return own, "No event type is missing", nil
		}
		if err := e.confirm(e.yes, "Add to the endpoint %s: %s?", wording.Escape(own.ID), strings.Join(missing, ", ")); err != nil {
			return nil, "", err
		}
		err := e.inTime(ctx, func(ctx context.Context) (err error) {
			own, err = e.api.SetTypes(ctx, own.ID, slices.Concat(own.EnabledEvents, missing))
			return err
		})
		return own, "Updated", err
	}
	return e.register(&cobra.Command{
		Use:   "update [ID]",
		Args:  atMostOneID,
		Short: "Add the missing event types to the endpoint",
		RunE:  func(c *cobra.Command, args []string) error { return e.change(c, args, update) },
	})
}

func (p *Program) endpointEnable() *cobra.Command {
	e := &endpoints{Program: p}
	enable := func(ctx context.Context, own *stripe.Endpoint) (*stripe.Endpoint, string, error) {
		if own.Enabled() {
			return own, "Enabled already", nil
		}
		if err := e.confirm(e.yes, "Enable the endpoint %s for %s?", wording.Escape(own.ID), own.URL); err != nil {
			return nil, "", err
		}
		err := e.inTime(ctx, func(ctx context.Context) (err error) {
			own, err = e.api.EnableEndpoint(ctx, own.ID)
			return err
		})
		return own, "Enabled", err
	}
	return e.register(&cobra.Command{
		Use:   "enable [ID]",
		Args:  atMostOneID,
		Short: "Enable the endpoint again",
		Long: `Enable the endpoint again. Stripe never sends the events that happened while it was disabled; the
receiver fetches them when it compares the ledger with Stripe's list (tillhook reconcile).`,
		RunE: func(c *cobra.Command, args []string) error { return e.change(c, args, enable) },
	})
}
