package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"tillhook/ledger/wording"
	"tillhook/receiver/config"
	"tillhook/receiver/stripe"

	"github.com/spf13/cobra"
)

// sendTime bounds a delivery. Tillhook answers within 5 s, but a service may have to start first.
const sendTime = 15 * time.Second

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
	s := newSender(target)
	failed, foreign, refused := 0, 0, ""
	var otherProgram error
	for _, body := range bodies {
		for range times {
			d, err := s.send(ctx, body, age)
			if err != nil {
				return err
			}
			switch {
			case !d.ours():
				foreign++
				otherProgram = d.otherProgram(s, settings)
			case !d.received():
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
		return otherProgram
	case foreign > 0:
		return fmt.Errorf("%d of %s: %w", foreign, wording.Plural(all, "delivery"), otherProgram)
	case failed == 1 && all == 1:
		return errors.New("the delivery was not received; Stripe would send it again" + p.forInstance(refusalHints[refused]))
	case failed > 0:
		return fmt.Errorf("%d of %s %s not received; Stripe would send %s again", failed, wording.Plural(all, "delivery"), wording.Verb(failed, "was", "were"), wording.Verb(failed, "it", "them"))
	}
	return nil
}

// sampleTypes lists the types of the sample events.
func (p *Program) sampleTypes() []string {
	names, err := fs.Glob(p.Samples, "*.json")
	if err != nil {
		return nil
	}
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

// sender sends as Stripe does: signed, and without following redirects.
type sender struct {
	target, secret string
	client         http.Client
}

func newSender(t *config.Target) *sender {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if t.Socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", t.Socket)
		}
	}
	if t.Local { // the connection does not leave this machine
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	return &sender{target: t.URL, secret: t.Secret, client: http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// delivery is the answer to a delivery.
type delivery struct {
	status   int
	body     []byte
	server   string // the answer's Server header
	took     time.Duration
	Received *bool `json:"received"`
	Result   struct {
		Status    string `json:"status"`
		Reason    string `json:"reason"`
		EventID   string `json:"event_id"`
		PaymentID string `json:"payment_id"`
	} `json:"result"`
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func (d *delivery) received() bool { return d.status >= 200 && d.status <= 299 }

// ours reports whether Tillhook answered. Only {"received":true} is what Stripe's example handlers
// answer.
func (d *delivery) ours() bool {
	return d.Received != nil && (d.Result.Status != "" && d.Result.EventID != "" || d.Error.Code != "")
}

// otherProgram returns the error for an answer by another program.
func (d *delivery) otherProgram(s *sender, settings *config.Environment) error {
	who := ""
	if d.server != "" {
		who = fmt.Sprintf(" (%.60s)", wording.Escape(d.server))
	}
	find := "TILLHOOK_LISTEN is where the receiver listens"
	if address, unit := settings.Listens(); unit != "" {
		find = fmt.Sprintf("%s has ListenStream=%s; systemctl status %s shows whether it could be opened", unit, address, unit)
	}
	return fmt.Errorf("the server that answered %d at %s is not Tillhook%s: nothing was delivered; %s, and --to sends elsewhere",
		d.status, s.target, who, find)
}

// outcome returns the answer in one or two words.
func (d *delivery) outcome() string {
	switch {
	case d.Result.Reason != "":
		return d.Result.Status + ": " + d.Result.Reason
	case d.Result.Status != "":
		return d.Result.Status
	case d.Error.Code != "":
		return d.Error.Code
	}
	return "not an answer from Tillhook"
}

func (s *sender) send(ctx context.Context, body []byte, age time.Duration) (*delivery, error) {
	return s.post(ctx, body, stripe.Sign(body, s.secret, time.Now().Add(-age)))
}

func (s *sender) post(ctx context.Context, body []byte, signature string) (*delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target, bytes.NewReader(body))
	if err != nil {
		return nil, usagef("the URL to send to cannot be used: %v", err)
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Stripe-Signature", signature)
	r.Header.Set("User-Agent", "tillhook send (not Stripe)")
	start := time.Now()
	resp, err := s.client.Do(r)
	if err != nil {
		return nil, s.explainFailure(ctx, err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	d := &delivery{status: resp.StatusCode, body: answer, server: resp.Header.Get("Server"), took: time.Since(start)}
	if err := json.Unmarshal(answer, d); err != nil {
		d.Received = nil // another program answered
	}
	return d, nil
}

// explainFailure returns the error for a delivery without an answer.
func (s *sender) explainFailure(ctx context.Context, err error) error {
	err = stripe.PlainError(err) // the message names the address itself
	switch {
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fmt.Errorf("%s has not answered for %s: the receiver may be restarting or failing to start (systemctl status tillhook); it is unknown whether the event was stored", s.target, sendTime)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%s closed the connection before it answered: the receiver may be restarting (systemctl status tillhook)", s.target)
	}
	return fmt.Errorf("nothing was delivered to %s: %w; is a receiver running there (systemctl status tillhook, or tillhook serve)?", s.target, err)
}

func (p *Program) report(d *delivery, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(p.Stdout, "%s\n", bytes.TrimSpace(d.body))
		return err
	}
	line := []string{fmt.Sprint(d.status), wording.Escape(d.outcome())}
	for _, s := range []string{d.Result.EventID, d.Result.PaymentID, d.Error.Message} {
		if s != "" {
			line = append(line, wording.Escape(s))
		}
	}
	_, err := fmt.Fprintf(p.Stdout, "%s  (%.1f ms)\n", strings.Join(line, "  "), float64(d.took.Microseconds())/1e3)
	return err
}
