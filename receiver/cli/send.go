package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tillhook/receiver/config"
	"tillhook/receiver/stripe"
)

func (p *Program) sendCommand() *cobra.Command {
	var to, typ, secretFile string
	var times int
	var age time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "send FILE… | --type TYPE",
		Short: "Sign an event and post it, as Stripe would",
		Long: `Sign the body in each FILE ("-" is standard input) as it is and post it, or one of the sample events.
The secret is STRIPE_WEBHOOK_SECRET, from the environment or a file, the first of several. The exit
status is 0 if every delivery was answered with 2xx.`,
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
				return usagef("--times %d: send it once at least", times)
			}
			bodies, err := p.bodies(typ, args)
			if err != nil {
				return err
			}
			target, secret, err := config.Sender(p.Environ, secretFile)
			if err != nil {
				return err
			}
			if to != "" {
				target = to
			}
			s := sender{target: target, secret: secret}
			failed := 0
			for _, body := range bodies {
				for range times {
					d, err := s.send(c.Context(), body, age)
					if err != nil {
						return err
					}
					if !d.received() {
						failed++
					}
					if err := p.report(d, asJSON); err != nil {
						return err
					}
				}
			}
			if failed > 0 {
				return fmt.Errorf("%d of %d deliveries were not received; Stripe would try them again", failed, len(bodies)*times)
			}
			return nil
		},
	}
	c.Flags().StringVar(&typ, "type", "", "send the sample event of this `type`")
	c.Flags().StringVar(&to, "to", "", "post to this `url` (default: where TILLHOOK_LISTEN and TILLHOOK_WEBHOOK_PATH say)")
	c.Flags().StringVar(&secretFile, "secret-file", "", "sign with the secret in this `file`")
	c.Flags().IntVar(&times, "times", 1, "send each body this often, one after the other")
	c.Flags().DurationVar(&age, "age", 0, "sign it as if this long ago; a negative age is the future")
	c.Flags().BoolVar(&asJSON, "json", false, "print the answers as they are, one a line")
	return c
}

// sampleTypes are the names --type knows.
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

func (p *Program) sample(typ string) ([]byte, error) {
	body, err := fs.ReadFile(p.Samples, typ+".json")
	if err != nil {
		return nil, usagef("there is no sample of type %q; there are: %s", typ, strings.Join(p.sampleTypes(), ", "))
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

// sender posts as Stripe does: signed, and following no redirect.
type sender struct{ target, secret string }

// delivery is how one was answered.
type delivery struct {
	status int
	body   []byte
	took   time.Duration
	Result struct {
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

// outcome is the answer in a word or two.
func (d *delivery) outcome() string {
	switch {
	case d.Result.Reason != "":
		return d.Result.Status + ": " + d.Result.Reason
	case d.Result.Status != "":
		return d.Result.Status
	case d.Error.Code != "":
		return d.Error.Code
	}
	return "(not an answer of tillhook)"
}

func (s sender) send(ctx context.Context, body []byte, age time.Duration) (*delivery, error) {
	return s.post(ctx, body, stripe.Sign(body, s.secret, time.Now().Add(-age)))
}

func (s sender) post(ctx context.Context, body []byte, signature string) (*delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target, bytes.NewReader(body))
	if err != nil {
		return nil, usagef("the address to post to cannot be used: %v", err)
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Stripe-Signature", signature)
	r.Header.Set("User-Agent", "tillhook send (not Stripe)")
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	start := time.Now()
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("nothing was delivered: %w; is a receiver running there (tillhook serve)?", err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	d := &delivery{status: resp.StatusCode, body: answer, took: time.Since(start)}
	if err := json.Unmarshal(answer, d); err != nil {
		d.Result.Status, d.Error.Code = "", "" // another program answered; its status says enough
	}
	return d, nil
}

func (p *Program) report(d *delivery, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(p.Stdout, "%s\n", bytes.TrimSpace(d.body))
		return err
	}
	line := []string{fmt.Sprint(d.status), clean(d.outcome())}
	for _, s := range []string{d.Result.EventID, d.Result.PaymentID, d.Error.Message} {
		if s != "" {
			line = append(line, clean(s))
		}
	}
	_, err := fmt.Fprintf(p.Stdout, "%s  (%.1f ms)\n", strings.Join(line, "  "), float64(d.took.Microseconds())/1e3)
	return err
}
