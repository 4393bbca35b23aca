package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"tillhook/ledger/wording"
	"tillhook/receiver/config"
	"tillhook/receiver/delivery"

	"github.com/spf13/cobra"
)

func (p *Program) sendCommand() *cobra.Command {
	var to, typ, secretFile string
	var times int
	var age time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "send FILE… | --type TYPE",
		Short: "Sign an event and send it as Stripe would",
		Long: `Sign the body in each FILE ("-" is standard input) or a sample event, and POST it to the receiver. The
body is sent unchanged. The secret is the first of STRIPE_WEBHOOK_SECRET. Secret and address come
from the environment, or else from the installed service (as root). The exit status is 0 if Tillhook
answered every delivery with 2xx.`,
		Example: `  tillhook send --type payment_intent.succeeded
  tillhook send event.json --times 3
  tillhook send event.json --age 10m --to https://shop.example/webhooks/stripe`,
		Args: func(c *cobra.Command, args []string) error {
			if typ != "" && len(args) > 0 {
				return usagef("send files or a sample, not both")
			}
			if typ == "" && len(args) == 0 {
				return usagef("name the files to send, or a sample with --type: %s", strings.Join(p.sampleTypes(), ", "))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if times < 1 {
				return usagef("--times %d is less than 1", times)
			}
			if u, err := url.Parse(to); to != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
				return usagef("--to %q is not a URL to send to: write it like https://shop.example/webhooks/stripe", to)
			}
			bodies, err := p.bodies(typ, args)
			if err != nil {
				return err
			}
			settings, err := p.settings()
			if err != nil {
				return err
			}
			target, err := settings.Sender(secretFile)
			if err != nil {
				return err
			}
			if to != "" {
				*target = config.Target{URL: to, Secret: target.Secret}
			}
			return p.deliver(c.Context(), settings, target, bodies, times, age, asJSON)
		},
	}
	c.Flags().StringVar(&typ, "type", "", "send the sample event of this `type`")
	completeBy(c, "type", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return p.sampleTypes(), cobra.ShellCompDirectiveNoFileComp
	})
	c.Flags().StringVar(&to, "to", "", "send to this `url` (default: that of the service, or of TILLHOOK_LISTEN)")
	c.Flags().StringVar(&secretFile, "secret-file", "", "sign with the secret in this `file`")
	c.Flags().IntVar(&times, "times", 1, "send each body this `number` of times")
	c.Flags().DurationVar(&age, "age", 0, "sign with a time this long ago; a negative age is in the future")
	c.Flags().BoolVar(&asJSON, "json", false, "print the answers unchanged, one on each line")
	return c
}

// deliver sends each body a number of times and prints the answers. It returns an error if a
// delivery was not received, or if another program answered.
func (p *Program) deliver(ctx context.Context, settings *config.Environment, target *config.Target, bodies [][]byte, times int,
	age time.Duration, asJSON bool) error {
	s := delivery.New(target)
	failed, foreign, refused := 0, 0, ""
	var noReceiver error
	for _, body := range bodies {
		for range times {
			d, err := s.Send(ctx, body, age)
			if err != nil {
				return err
			}
			switch {
			case !d.FromTillhook():
				foreign++
				noReceiver = otherProgram(d, s, settings)
			case !d.Accepted():
				failed++
				refused = d.Error.Code
			}
			if err := p.report(d, asJSON); err != nil {
				return err
			}
		}
	}
	switch all := len(bodies) * times; {
	case foreign == all:
		return noReceiver
	case foreign > 0:
		return fmt.Errorf("%d of %s: %w", foreign, wording.Plural(all, "delivery"), noReceiver)
	case failed == 1 && all == 1:
		return errors.New("the delivery was not received; Stripe would send it again" + p.forInstance(refusalHints[refused]))
	case failed > 0:
		return fmt.Errorf("%d of %s %s not received; Stripe would send %s again", failed, wording.Plural(all, "delivery"), wording.Verb(failed, "was", "were"), wording.Verb(failed, "it", "them"))
	}
	return nil
}

// sampleTypes lists the types of the sample events.
func (p *Program) sampleTypes() []string {
	names, _ := fs.Glob(p.Samples, "*.json") // the pattern is valid
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, ".json")
	}
	return names
}

// refusalHints explain refusals, by code, beyond what the answer says to an unknown sender.
var refusalHints = map[string]string{
	"not_configured":      ". See what is wrong: tillhook doctor",
	"storage_unavailable": ". See what is wrong: tillhook doctor",
	"address_not_allowed": ". TILLHOOK_ALLOW_STRIPE_IPS allows only deliveries from Stripe's addresses, and this machine has none of them",
}

func (p *Program) sample(typ string) ([]byte, error) {
	body, err := fs.ReadFile(p.Samples, typ+".json")
	if err != nil {
		return nil, usagef("there is no sample of type %q; the types are: %s", typ, strings.Join(p.sampleTypes(), ", "))
	}
	return body, nil
}

func (p *Program) bodies(typ string, files []string) ([][]byte, error) {
	if typ != "" {
		body, err := p.sample(typ)
		return [][]byte{body}, err
	}
	var bodies [][]byte
	for _, file := range files {
		var body []byte
		var err error
		if file == "-" {
			body, err = io.ReadAll(p.Stdin)
		} else {
			body, err = os.ReadFile(file)
		}
		if err != nil {
			return nil, fmt.Errorf("read the body to send: %w", err)
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// otherProgram returns the error for an answer by another program.
func otherProgram(d *delivery.Answer, s *delivery.Sender, settings *config.Environment) error {
	who := ""
	if d.Server != "" {
		who = fmt.Sprintf(" (%.60s)", wording.Escape(d.Server))
	}
	find := "TILLHOOK_LISTEN is where the receiver listens"
	if address, unit := settings.Listens(); unit != "" {
		find = fmt.Sprintf("%s has ListenStream=%s; systemctl status %s shows whether it could be opened", unit, address, unit)
	}
	return fmt.Errorf("the server that answered %d at %s is not Tillhook%s: nothing was delivered; %s, and --to sends elsewhere",
		d.Status, s.Target, who, find)
}

func (p *Program) report(d *delivery.Answer, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(p.Stdout, "%s\n", bytes.TrimSpace(d.Body))
		return err
	}
	line := []string{fmt.Sprint(d.Status), wording.Escape(d.Outcome())}
	for _, s := range []string{d.Result.EventID, d.Result.PaymentID, d.Error.Message} {
		if s != "" {
			line = append(line, wording.Escape(s))
		}
	}
	_, err := fmt.Fprintf(p.Stdout, "%s  (%.1f ms)\n", strings.Join(line, "  "), float64(d.Took.Microseconds())/1e3)
	return err
}
