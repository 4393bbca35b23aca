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

	"github.com/spf13/cobra"

	"tillhook/ledger"
	"tillhook/receiver/config"
	"tillhook/receiver/health"
	"tillhook/receiver/reconcile"
	"tillhook/receiver/stripe"
)

// endpointTime bounds each thing that the endpoint commands ask of Stripe, retries included.
const endpointTime = 15 * time.Second

// errStripeSilent is the error of a question that Stripe did not answer in time.
var errStripeSilent = fmt.Errorf("no answer from Stripe's API for %s: look at this machine's network, and at a firewall for what goes out", endpointTime)

// inTime asks something of Stripe, and waits a bounded time for the answer.
func inTime(ctx context.Context, ask func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, endpointTime)
	defer cancel()
	err := ask(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return errStripeSilent
	}
	return err
}

// explainChange adds to the error of a change that may have been made all the same.
func explainChange(err error) error {
	if errors.Is(err, errStripeSilent) {
		return fmt.Errorf("%w; whether it was changed is not known: see the Dashboard (Developers, Webhooks) before you try again", err)
	}
	return explainKey(err)
}

// endpoints is what the endpoint commands work with.
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
		Short: "Make, complete, enable or list the endpoints at Stripe",
		Long: `Make, complete or enable the webhook endpoint at Stripe that sends to this receiver, or list all that the account has.
Each asks before it changes anything.

They need STRIPE_SECRET_KEY, which must be allowed to write webhook endpoints (to list them, to read them); a key for
that alone can be given for one call.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return usagef("say what to do: list, create, update or enable")
		},
	}
	c.AddCommand(p.endpointList(), p.endpointCreate(), p.endpointUpdate(), p.endpointEnable())
	return c
}

func (e *endpoints) register(c *cobra.Command) *cobra.Command {
	e.registerURL(c)
	c.Flags().BoolVar(&e.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&e.asJSON, "json", false, "print the endpoint as JSON")
	return c
}

func (e *endpoints) registerURL(c *cobra.Command) {
	c.Flags().StringVar(&e.address, "url", "", "the endpoint's `url` (default: TILLHOOK_PUBLIC_URL, or https:// and TILLHOOK_TLS_DOMAIN)")
}

// open reads the configuration, in which the URL must be, and lists what there is.
func (e *endpoints) open(ctx context.Context) error {
	if err := e.configure(); err != nil {
		return err
	}
	if e.address == "" {
		return config.Faults{{Name: "TILLHOOK_PUBLIC_URL", Problem: "is not set", Fix: "set it to the URL by which Stripe is to reach this receiver, or give it with --url"}}
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
	e.api.Backoff = 200 * time.Millisecond // somebody waits
	return explainKey(inTime(ctx, func(ctx context.Context) (err error) {
		var skipped []error
		e.all, skipped, err = e.api.Endpoints(ctx)
		for _, err := range skipped {
			fmt.Fprintln(e.Stderr, "tillhook:", err)
		}
		return err
	}))
}

// explainKey adds what a key that was refused needs.
func explainKey(err error) error {
	var refused *stripe.APIError
	switch {
	case !errors.As(err, &refused):
		return err
	case refused.Forbidden():
		return fmt.Errorf("%w; give it that for now, or use one that has it", err)
	case refused.Refused():
		return fmt.Errorf("%w; use a key that is in the Dashboard (Developers, API keys)", err)
	}
	return err
}

// find is the endpoint that was named, or the only one of the address.
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
		return nil, fmt.Errorf("no endpoint of this account, in %s mode, has the id %q", ledger.ModeName(e.account.Livemode), named[0])
	case len(same) == 1:
		return &same[0], nil
	case len(same) > 1:
		var names []string
		for _, it := range same {
			names = append(names, clean(it.ID)+" ("+clean(it.Status)+")")
		}
		return nil, &ambiguousEndpoint{clean(same[0].ID),
			fmt.Sprintf("%d endpoints have the URL %s: name one of them: %s", len(same), e.address, strings.Join(names, ", "))}
	}
	for _, f := range reconcile.Examine(e.all, e.address, e.account.Livemode).Findings {
		if f.Severity == health.Fail {
			return nil, fmt.Errorf("%s %s", f.Message, f.Next)
		}
	}
	return nil, fmt.Errorf("no endpoint at Stripe has the URL %s: make one with tillhook endpoint create", e.address)
}

// ambiguousEndpoint is the error of a command that would have to choose.
type ambiguousEndpoint struct{ first, text string }

func (s *ambiguousEndpoint) Error() string { return s.text }

func atMostOneID(_ *cobra.Command, args []string) error {
	if len(args) > 1 || len(args) == 1 && args[0] == "" {
		return usagef("name one endpoint, or none for the one of this receiver's URL, and not %q", args)
	}
	return nil
}

func (e *endpoints) show(it *stripe.Endpoint, done string) error {
	if e.asJSON {
		enc := json.NewEncoder(e.Stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(it)
	}
	_, err := fmt.Fprintf(e.Stdout, "%s: %s for %s, %s, %s, API version %s\n", done, clean(it.ID), clean(it.URL), clean(it.Status), ledger.Plural(len(it.EnabledEvents), "event type"), orDash(ledger.OrNull(it.APIVersion)))
	return err
}

func (p *Program) endpointCreate() *cobra.Command {
	e := &endpoints{Program: p}
	var version, secretFile string
	var another bool
	c := e.register(&cobra.Command{
		Use:   "create",
		Args:  noArguments,
		Short: "Make an endpoint that is sent every event type that moves money",
		Long: `Make an endpoint at Stripe that is sent every event type that moves money, in bodies of one API version. Its signing secret
is told once, here, and never again: it is printed, or written to a new file that its owner alone can read.`,
		Example: `  tillhook endpoint create --secret-file /etc/tillhook/stripe_webhook_secret`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := e.open(c.Context()); err != nil {
				return err
			}
			at := slices.IndexFunc(e.all, func(it stripe.Endpoint) bool { return reconcile.SameURL(it.URL, e.address) })
			if at >= 0 && !another {
				return fmt.Errorf("there is an endpoint for %s already, at most with another query: %s (%s); tillhook endpoint update adds what it lacks, --another makes a second one, under a secret of its own",
					e.address, clean(e.all[at].ID), clean(e.all[at].Status))
			}
			if err := e.confirm(e.yes, "Make a %s mode endpoint for %s, with %d event types, of API version %s?", ledger.ModeName(e.account.Livemode), e.address, len(stripe.Types), version); err != nil {
				return err
			}
			return e.create(c.Context(), version, secretFile)
		},
	})
	c.Flags().StringVar(&version, "api-version", stripe.PinnedVersion, "the API `version` of the bodies it is sent")
	c.Flags().StringVar(&secretFile, "secret-file", "", "write the signing secret to this new `file` instead of printing it")
	c.Flags().BoolVar(&another, "another", false, "make it beside one that has the same URL")
	return c
}

// create has the endpoint made. The file for its secret is there first: what could not be kept would be lost.
func (e *endpoints) create(ctx context.Context, version, secretFile string) (err error) {
	var file *os.File
	if secretFile != "" {
		file, err = os.OpenFile(secretFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("make the file for the secret: %w; name one that does not exist yet", err)
		}
	}
	var made *stripe.Endpoint
	err = inTime(ctx, func(ctx context.Context) (err error) {
		made, err = e.api.CreateEndpoint(ctx, e.address, version, "Tillhook")
		return err
	})
	if err != nil {
		if file != nil {
			err = errors.Join(err, file.Close(), os.Remove(secretFile))
		}
		return explainChange(err)
	}
	secret := made.Secret
	if made.Secret = ""; !e.asJSON || file != nil {
		if err := e.show(made, "Made"); err != nil {
			return err
		}
	}
	if file != nil {
		_, err = file.WriteString(secret + "\n")
		if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
			return fmt.Errorf("keep the secret: %w; roll it in the Dashboard to get another one", err)
		}
		fmt.Fprintf(e.Stderr, "The signing secret is in %s; start or restart the receiver.\n", secretFile)
		return nil
	}
	if e.asJSON {
		made.Secret = secret
		return e.show(made, "")
	}
	where := ""
	if settings, err := e.settings(); err == nil && settings.Service != nil {
		where = " (the part behind = into " + filepath.Join("/etc/tillhook", e.instance, "stripe_webhook_secret") + ")"
	}
	fmt.Fprintln(e.Stderr, "This is its signing secret. Stripe tells it once; put it into the receiver's configuration now"+where+":")
	_, err = fmt.Fprintf(e.Stdout, "STRIPE_WEBHOOK_SECRET=%s\n", secret)
	return err
}

// change has something done to the endpoint that was named, and tells what became of it.
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
			return own, "It lacks nothing", nil
		}
		if err := e.confirm(e.yes, "Add to the endpoint %s: %s?", clean(own.ID), strings.Join(missing, ", ")); err != nil {
			return nil, "", err
		}
		err := inTime(ctx, func(ctx context.Context) (err error) {
			own, err = e.api.SetTypes(ctx, own.ID, slices.Concat(own.EnabledEvents, missing))
			return err
		})
		return own, "Updated", err
	}
	return e.register(&cobra.Command{
		Use:   "update [ID]",
		Args:  atMostOneID,
		Short: "Have the endpoint be sent the event types that it lacks",
		RunE:  func(c *cobra.Command, args []string) error { return e.change(c, args, update) },
	})
}

func (p *Program) endpointEnable() *cobra.Command {
	e := &endpoints{Program: p}
	enable := func(ctx context.Context, own *stripe.Endpoint) (*stripe.Endpoint, string, error) {
		if own.Enabled() {
			return own, "It is enabled", nil
		}
		if err := e.confirm(e.yes, "Enable the endpoint %s for %s?", clean(own.ID), own.URL); err != nil {
			return nil, "", err
		}
		err := inTime(ctx, func(ctx context.Context) (err error) {
			own, err = e.api.EnableEndpoint(ctx, own.ID)
			return err
		})
		return own, "Enabled", err
	}
	return e.register(&cobra.Command{
		Use:   "enable [ID]",
		Args:  atMostOneID,
		Short: "Have Stripe send to the endpoint again",
		Long: `Have Stripe send to the endpoint again. What was made while it was disabled is never sent; the receiver fetches it when it
compares the ledger with Stripe's list of events (tillhook reconcile).`,
		RunE: func(c *cobra.Command, args []string) error { return e.change(c, args, enable) },
	})
}
