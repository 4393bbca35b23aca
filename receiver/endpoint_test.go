package receiver_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
	"tillhook/receiver/stripe/stripetest"
)

// typed runs a command as it is typed, with what is answered to it.
func (c *clinic) typed(t *testing.T, answer string, args ...string) (out, said string, status int) {
	t.Helper()
	cmd := exec.Command(c.binary, args...)
	cmd.Dir = t.TempDir()
	for name, value := range c.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(answer), &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if strings.Contains(stdout.String()+stderr.String(), c.account.Key) {
		t.Errorf("%v prints the key: %s%s", args, &stdout, &stderr)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// An endpoint is made, completed and enabled; nothing is changed that was not agreed to, and the
// secret is told once.
func TestTheEndpointCommands(t *testing.T) {
	t.Parallel()
	p := build(t)
	c := newClinic(t, p)
	delete(c.env, "STRIPE_WEBHOOK_SECRET") // it exists only after the endpoint
	c.account = stripetest.New(t)
	c.env["STRIPE_API_BASE"] = c.account.URL
	made := func() int {
		n := 0
		for _, call := range c.account.Calls() {
			if call.Method == http.MethodPost {
				n++
			}
		}
		return n
	}
	for _, answer := range []string{"", "n\n", "no\n", "\n"} {
		out, said, status := c.typed(t, answer, "endpoint", "create")
		if status != 1 || made() != 0 || out != "" || !strings.Contains(said, "Create a test mode endpoint for "+c.env["TILLHOOK_PUBLIC_URL"]+", with 28 event types of API version 2026-08-26.dahlia? [y/N]") || !strings.Contains(said, "nothing was changed") {
			t.Errorf("answered %q: %d calls, status %d, %s%s", answer, made(), status, out, said)
		}
	}
	out, said, status := c.typed(t, "y\n", "endpoint", "create")
	if status != 0 || made() != 1 || !strings.Contains(out, "STRIPE_WEBHOOK_SECRET=whsec_theSecretOfMade1\n") || strings.Count(out, "whsec_") != 1 || !strings.Contains(said, "Stripe shows it only once") {
		t.Fatalf("status %d, %s%s", status, out, said)
	}
	if e := c.account.Endpoint("we_1Made1"); len(e["enabled_events"].([]any)) != len(stripe.Types) || e["api_version"] != stripe.PinnedVersion {
		t.Errorf("made %v", e)
	}
	if _, said, status = c.typed(t, "y\n", "endpoint", "create"); status != 1 || made() != 1 || !strings.Contains(said, "exists already") || !strings.Contains(said, "--another") {
		t.Errorf("a second one: status %d, %s", status, said)
	}
	file := filepath.Join(t.TempDir(), "secret")
	out, said, status = c.typed(t, "", "endpoint", "create", "--another", "--yes", "--secret-file", file, "--api-version", "2025-03-31.basil")
	kept, err := os.ReadFile(file)
	info, statErr := os.Stat(file)
	if err = errors.Join(err, statErr); err != nil || status != 0 || string(kept) != "whsec_theSecretOfMade2\n" || info.Mode().Perm() != 0o600 || strings.Contains(out+said, "whsec_") {
		t.Errorf("%v, status %d, %q, %s%s", err, status, kept, out, said)
	}
	if _, said, status = c.typed(t, "", "endpoint", "create", "--another", "--yes", "--secret-file", file); status != 1 || made() != 2 || !strings.Contains(said, "file exists") {
		t.Errorf("over a file: status %d, %s", status, said)
	}
	c.account.Fail(stripetest.Fault{Path: "/v1/webhook_endpoints", Status: 0}, stripetest.Fault{Path: "/v1/webhook_endpoints", Status: 402})
	fresh := filepath.Join(t.TempDir(), "secret")
	if _, _, status = c.typed(t, "", "endpoint", "create", "--another", "--yes", "--secret-file", fresh); status != 1 {
		t.Errorf("a refusal of Stripe's: status %d", status)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty file for a secret was left: %v", err)
	}

	c.account.Endpoint("we_1Made1")["enabled_events"] = []any{"customer.created", "charge.succeeded"}
	if out, said, status = c.typed(t, "y\n", "endpoint", "update", "we_1Made1"); status != 0 || !strings.Contains(said, "Add to the endpoint we_1Made1: payment_intent.created, ") || !strings.Contains(out, "29 event types") {
		t.Errorf("update: status %d, %s%s", status, out, said)
	}
	if types := c.account.Endpoint("we_1Made1")["enabled_events"].([]any); len(types) != 29 || !slices.Contains(types, "customer.created") {
		t.Errorf("it is sent %v", types)
	}
	if out, _, status = c.typed(t, "", "endpoint", "update", "we_1Made1"); status != 0 || !strings.Contains(out, "No event type is missing") {
		t.Errorf("update again: status %d, %s", status, out)
	}
	c.account.Endpoint("we_1Made1")["status"], c.account.Endpoint("we_1Made2")["status"] = "disabled", "disabled"
	if out, _, status = c.typed(t, "", "endpoint", "enable", "we_1Made1", "--yes", "--json"); status != 0 || !strings.Contains(out, `"status":"enabled"`) || c.account.Endpoint("we_1Made1")["status"] != "enabled" {
		t.Errorf("enable: status %d, %s", status, out)
	}
	if _, said, status = c.typed(t, "", "endpoint", "enable", "--yes"); status != 1 || !strings.Contains(said, "name one of them: we_1Made2 (disabled), we_1Made1 (enabled); for the first: tillhook endpoint enable we_1Made2\n") {
		t.Errorf("enable one of two: status %d, %s", status, said)
	}
	if _, said, status = c.typed(t, "", "endpoint", "enable", "--url", "https://unknown.example/"); status != 1 || !strings.Contains(said, "tillhook endpoint create") {
		t.Errorf("enable nothing: status %d, %s", status, said)
	}
	out, said, status = c.typed(t, "", "endpoint", "list")
	if want := regexp.MustCompile(`(?m)^we_1Made2 +yes +disabled +2025-03-31.basil +28 +` + regexp.QuoteMeta(c.env["TILLHOOK_PUBLIC_URL"]) + `$`); status != 0 || !want.MatchString(out) || said != "" {
		t.Errorf("list: status %d, %s%s", status, out, said)
	}
	out, _, status = c.typed(t, "", "endpoint", "list", "--json", "--url", "https://unknown.example/")
	if status != 0 || !strings.HasPrefix(out, `{"object":"list","data":[{"id":"we_`) || !strings.Contains(out, `"own":false`) || strings.Contains(out, `"own":true`) || strings.Contains(out, "whsec_") {
		t.Errorf("list of another receiver's: status %d, %s", status, out)
	}
	address := c.env["TILLHOOK_PUBLIC_URL"]
	delete(c.env, "TILLHOOK_PUBLIC_URL")
	if out, said, status = c.typed(t, "", "endpoint", "list"); status != 0 || !strings.Contains(out, "we_1Made1  unknown  enabled") || !strings.Contains(said, "TILLHOOK_PUBLIC_URL") {
		t.Errorf("list without a URL: status %d, %s%s", status, out, said)
	}
	c.env["TILLHOOK_PUBLIC_URL"] = address
	c.account.Deny("/v1/webhook_endpoints", "rak_webhook_write")
	if _, said, status = c.typed(t, "", "endpoint", "create", "--another", "--yes"); status != 1 || !strings.Contains(said, "Webhook Endpoints: Write") {
		t.Errorf("without the right: status %d, %s", status, said)
	}
	delete(c.env, "STRIPE_SECRET_KEY")
	if _, said, status = c.typed(t, "", "endpoint", "update"); status != 78 || !strings.Contains(said, "STRIPE_SECRET_KEY is not set") {
		t.Errorf("without a key: status %d, %s", status, said)
	}
	if _, said, status = c.typed(t, "", "endpoint"); status != 2 {
		t.Errorf("without a word: status %d, %s", status, said)
	}
}

// Killed for an hour of traffic, whose retries are withheld, then started: within a round
// everything is booked once, however late retries come in between.
func TestAnHourWithoutAReceiver(t *testing.T) {
	t.Parallel()
	p := build(t)
	c := newClinic(t, p)
	p.env = []string{"STRIPE_MODE=", "STRIPE_SECRET_KEY=" + c.account.Key, "STRIPE_API_BASE=" + c.account.URL, "TILLHOOK_PUBLIC_URL=" + c.env["TILLHOOK_PUBLIC_URL"], "TILLHOOK_RECONCILE_EVERY=1h"}
	p.start(t)
	client := operator.Dial(filepath.Join(p.dir, "operator.sock"))
	summary := func(words string) bool {
		answer, err := client.Get(t.Context(), "/api/summary", nil)
		return err == nil && strings.Contains(string(answer), words)
	}
	comesIn(t, time.Minute, "the first round ends", func() bool { return summary("was last compared with the ledger at") })
	p.kill(t)

	const missed = 1000
	now := time.Now().Unix()
	bodies := make([][]byte, missed)
	for i := range bodies {
		bodies[i] = missedEvent(i, now-3600+int64(i)*18/5)
		c.account.AddEvent(bodies[i], "")
	}
	p.start(t)
	rng := rand.New(rand.NewPCG(6, 27))
	late := rng.Perm(missed)[:300]
	var retries sync.WaitGroup
	for from := range 4 {
		retries.Go(func() {
			for i := from; i < len(late); i += 4 {
				if err := p.deliver(t.Context(), http.DefaultClient, bodies[late[i]]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	retries.Wait()
	// The last comparison before the kill is known already: what ends the round is what it has
	// fetched.
	comesIn(t, time.Minute, "the round ends", func() bool { return summary("had been missed and were fetched") })
	if !summary(`"endpoint","severity":"ok"`) {
		answer, _ := client.Get(t.Context(), "/api/summary", nil)
		t.Errorf("it is told as %s", answer)
	}
	out, said, status := c.typed(t, "", "reconcile", "--since", "2h", "--dry-run")
	if status != 0 || !strings.Contains(out, "Missed     0 events") || !strings.Contains(out, "Listed     1000 events") {
		t.Errorf("reconcile: status %d, %s%s", status, out, said)
	}
	c.account.Fail(stripetest.Fault{Path: "/v1/payment_intents", Status: 402}, stripetest.Fault{Path: "/v1/webhook_endpoints", Status: 402})
	c.account.AddEvent(missedEvent(missed, now-60), "")
	if out, said, status = c.typed(t, "", "reconcile"); status != 1 || !strings.Contains(said, "Stripe answered 402") || !strings.Contains(out, "Recovered  1 event\n") {
		t.Errorf("a round that fails: status %d, %s%s", status, out, said)
	}
	if _, said, status = c.typed(t, "", "reconcile", "--since", "31d"); status != 2 || !strings.Contains(said, "up to 30 days") {
		t.Errorf("too far back: status %d, %s", status, said)
	}
	p.kill(t)
	if _, said, status = c.typed(t, "", "reconcile"); status != 1 || !strings.Contains(said, "needs a running receiver") {
		t.Errorf("without a receiver: status %d, %s", status, said)
	}
	l, err := ledger.OpenReadOnly(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	stats, err := l.Stats()
	if err != nil || stats.Events != missed+1 {
		t.Errorf("%d events, %v", stats.Events, err)
	}
	for i := range bodies {
		payment, err := l.Payment(fmt.Sprintf("pi_3QbMissed%07d", i))
		if err != nil || payment.Events != 1 || *payment.AmountReceived != 4900 {
			t.Fatalf("payment %d: %+v, %v", i, payment, err)
		}
	}
}

// missedEvent is the i-th of many, about a payment of its own.
func missedEvent(i int, created int64) []byte {
	return fmt.Appendf(nil, `{"id":"evt_3QbMissed%07d","object":"event","api_version":"2023-10-16","created":%d,"type":"payment_intent.succeeded","livemode":false,
		"data":{"object":{"id":"pi_3QbMissed%07[1]d","object":"payment_intent","status":"succeeded","amount":4900,"amount_received":4900,"currency":"eur","created":%[2]d,"latest_charge":null}}}`,
		i, created)
}
