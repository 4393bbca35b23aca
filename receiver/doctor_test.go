package receiver_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/server/servertest"
	"tillhook/receiver/stripe"
	"tillhook/receiver/stripe/stripetest"
)

// clinic is a receiver with all that is around it: a proxy that speaks TLS in front, and the shop's
// account at Stripe.
type clinic struct {
	*program
	account *stripetest.Account
	proxy   *httptest.Server
	env     map[string]string // of the doctor
	roots   string            // what it trusts
	as      *syscall.Credential
}

// newClinic has everything in order. The receiver is not started.
func newClinic(t *testing.T, p *program) *clinic {
	t.Helper()
	c := &clinic{program: p, account: stripetest.New(t)}
	c.env = map[string]string{"STRIPE_WEBHOOK_SECRET": secret, "STRIPE_SECRET_KEY": c.account.Key, "STRIPE_API_BASE": c.account.URL, "TILLHOOK_DATA_DIR": p.dir, "TILLHOOK_LISTEN": p.public,
		"TILLHOOK_OPERATOR_LISTEN": "off"}
	c.behind(t, passOn(p), nil)
	c.account.AddEndpoint(c.endpoint(nil))
	return c
}

// endpoint is the one that is right, bent.
func (c *clinic) endpoint(change map[string]any) map[string]any {
	types := []any{}
	for _, typ := range stripe.Types {
		types = append(types, typ)
	}
	fields := map[string]any{"id": "we_1Ours", "url": c.env["TILLHOOK_PUBLIC_URL"], "api_version": stripe.PinnedVersion, "enabled_events": types}
	for name, value := range change {
		fields[name] = value
	}
	return fields
}

func passOn(p *program) http.Handler {
	return httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p.public})
}

// behind puts another proxy in front. certificate bends its certificate's time; nil for a good one.
func (c *clinic) behind(t *testing.T, handler http.Handler, certificate func(now time.Time) (from, to time.Time)) {
	t.Helper()
	from, to := time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	if certificate != nil {
		from, to = certificate(time.Now())
	}
	certFile, keyFile, _ := servertest.SelfSigned(t, t.TempDir(), "localhost", from, to)
	pair, err := tlsPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	c.proxy = httptest.NewUnstartedServer(handler)
	c.proxy.TLS = pair
	c.proxy.Config.ErrorLog = quiet
	c.proxy.StartTLS()
	t.Cleanup(c.proxy.Close)
	c.roots = certFile
	c.env["TILLHOOK_PUBLIC_URL"] = "https://localhost:" + strings.TrimPrefix(c.proxy.URL, "https://127.0.0.1:") + hook
}

// examination is what a doctor says.
type examination struct {
	t *testing.T
	health.Report
	status int
	text   string
}

func (c *clinic) examine(t *testing.T, args ...string) *examination {
	t.Helper()
	cmd := exec.Command(c.binary, append([]string{"doctor", "--json"}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"SSL_CERT_FILE=" + c.roots, "SSL_CERT_DIR=/nonexistent"}
	for name, value := range c.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if c.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as}
		cmd.Dir = "/"
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	e := &examination{t: t, status: cmd.ProcessState.ExitCode(), text: string(out)}
	if err := json.Unmarshal(out, e); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %s%s", err, out, stderr.Bytes())
	}
	for _, hidden := range []string{secret, c.account.Key} {
		if strings.Contains(e.text, hidden) {
			t.Errorf("it prints a secret: %s", e.text)
		}
	}
	return e
}

// says demands a finding of that code and severity whose message contains words and, unless all is
// well, what to do next.
func (e *examination) says(code health.Code, severity health.Severity, words string) {
	e.t.Helper()
	for _, c := range e.Findings {
		if c.Code == code && c.Severity == severity && strings.Contains(c.Message, words) {
			if c.Severity == health.Fail && c.Next == "" {
				e.t.Errorf("%s has no next step: %s", code, c.Message)
			}
			return
		}
	}
	e.t.Errorf("no finding %s is %s and says %q in\n%s", code, severity, words, e.text)
}

// only demands that nothing is wrong but the named findings.
func (e *examination) only(codes ...health.Code) {
	e.t.Helper()
	for _, c := range e.Findings {
		known := false
		for _, code := range codes {
			known = known || c.Code == code
		}
		if !known && (c.Severity == health.Fail || c.Severity == health.Warn) {
			e.t.Errorf("besides, %s is %s: %s", c.Code, c.Severity, c.Message)
		}
	}
}

func TestADoctorOnAGoodDay(t *testing.T) {
	t.Parallel()
	p := build(t)
	c := newClinic(t, p)
	p.start(t)
	_, body := ownEvent(sample(t, "payment_intent.succeeded"), 1)
	if err := p.deliver(t.Context(), http.DefaultClient, body); err != nil {
		t.Fatal(err)
	}
	e := c.examine(t)
	for code, words := range map[health.Code]string{"environment": "complete, for test mode", "signing_secret": "1 signing secret", "api_key": "a restricted key of test mode", "receiver": "has been up since",
		"data_dir": "belongs to", "disk": "are free", "public_port": "answers at", "storage": "can be written", "signatures": "1 delivery verified", "deliveries": "The last event arrived",
		"inside": "accepted at the receiver's own listener", "public_url": "https://localhost:", "dns": "127.0.0.1", "tls": "TLS 1.3", "outside_in": "arrives whole", "outside_in_large": "arrives whole",
		"api": "accepts the key", "clock": "agrees with Stripe's", "api_permissions": "may read", "endpoint": "has the endpoint we_1Ours", "endpoint_enabled": "is enabled", "endpoint_mode": "of test mode",
		"endpoint_types": "every event type", "endpoint_api_version": stripe.PinnedVersion, "endpoint_duplicates": "No other", "endpoint_count": "1 endpoint of the 16", "endpoint_payload": "snapshot payloads"} {
		e.says(code, health.OK, words)
	}
	e.only()
	if e.Status != health.OK || e.status != 0 {
		t.Errorf("it is %s, exit status %d", e.Status, e.status)
	}
	connectWithoutPermission(t, c)
	if answer, err := operator.Dial(filepath.Join(p.dir, "operator.sock")).Get(t.Context(), "/api/events", nil); err != nil || strings.Count(string(answer), `"event_record"`) != 2 {
		t.Errorf("the examination left events: %s, %v", answer, err)
	}
	offline := c.examine(t, "--offline")
	offline.says("api", health.Unknown, "--offline was given")
	offline.says("outside_in", health.Unknown, "not tried")
	offline.only()
	delete(c.env, "STRIPE_SECRET_KEY")
	c.env["STRIPE_MODE"] = "test"
	keyless := c.examine(t)
	keyless.says("api_key", health.Unknown, "There is no API key")
	keyless.says("endpoint", health.Unknown, "there is no API key")
	keyless.says("outside_in", health.OK, "arrives whole")
	keyless.only()
	out, err := exec.Command(c.binary, "doctor", "--help").CombinedOutput()
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(out)), " "), "it only reads") {
		t.Errorf("%v: %s", err, out)
	}
}

// An event of API v2 names the key's own account in its context, which is no connected account.
func TestADoctorKnowsTheOwnAccount(t *testing.T) {
	t.Parallel()
	p := build(t)
	c := newClinic(t, p)
	p.start(t)
	if err := p.deliver(t.Context(), http.DefaultClient, sample(t, "v1.payment_intent.succeeded")); err != nil {
		t.Fatal(err)
	}
	e := c.examine(t)
	e.only("quarantine")
	if strings.Contains(e.text, string(health.APIConnect)) {
		t.Errorf("it tried to read the own account as a connected one: %s", e.text)
	}
}

// connectWithoutPermission has a platform's key read its own account and no connected one.
func connectWithoutPermission(t *testing.T, c *clinic) {
	t.Helper()
	body := missedEvent(1, time.Now().Unix()-60)
	body = bytes.Replace(body, []byte(`"livemode"`), []byte(`"account":"acct_1Papier","livemode"`), 1)
	if err := c.deliver(t.Context(), http.DefaultClient, body); err != nil {
		t.Fatal(err)
	}
	c.account.AddEvent(body, "acct_1Papier")
	c.examine(t).says("api_connect", health.OK, "may read connected accounts")
	c.account.Refuse()
	refused := c.examine(t)
	refused.says("api_connect", health.Fail, "may not read connected accounts (acct_1Papier)")
	refused.says("api_permissions", health.OK, "may read")
	refused.only("api_connect")
	c.account.Accept()
}

// What can be wrong between Stripe and a receiver that runs, each named in its own words.
func TestWhatADoctorFinds(t *testing.T) {
	t.Parallel()
	p := build(t)
	p.start(t)
	answer := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", "wall/1.0")
			w.Header().Set("Location", "https://www.haderer.example/")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	bent := func(bend func(r *http.Request, body []byte) []byte) http.Handler {
		next := passOn(p)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			body = bend(r, body)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			next.ServeHTTP(w, r)
		})
	}
	for _, c := range []struct {
		name     string
		bend     func(t *testing.T, c *clinic)
		code     health.Code
		severity health.Severity
		says     string
		also     []health.Code // what follows from it
		status   int
	}{
		{"no secret", func(_ *testing.T, c *clinic) { delete(c.env, "STRIPE_WEBHOOK_SECRET") }, "environment", health.Fail, "STRIPE_WEBHOOK_SECRET is not set", nil, 78},
		{"an endpoint's id for a secret", func(_ *testing.T, c *clinic) { c.env["STRIPE_WEBHOOK_SECRET"] = "we_1QbD7s" }, "environment", health.Fail, `starts with "we_"`, nil, 78},
		{"a key of the other mode", func(_ *testing.T, c *clinic) { c.env["STRIPE_MODE"] = "live" }, "environment", health.Fail, "STRIPE_MODE says live and STRIPE_SECRET_KEY is a test mode key", nil, 78},
		{"another secret than the receiver's", func(_ *testing.T, c *clinic) { c.env["STRIPE_WEBHOOK_SECRET"] = "whsec_other" }, "inside", health.Fail, "does not know the signing secret", []health.Code{"outside_in", "signatures"}, 1},
		{"stripe listen's secret", func(_ *testing.T, c *clinic) {
			c.env["STRIPE_WEBHOOK_SECRET"] = secret + ",whsec_" + strings.Repeat("a0", 32)
			c.env["STRIPE_SECRET_KEY"] = "rk_live_51QbD7sKvHadernBlStripetest"
			c.account.Key = c.env["STRIPE_SECRET_KEY"]
		}, "signing_secret", health.Fail, "signs nothing in live mode", []health.Code{"receiver_mode", "endpoint_mode", "signatures"}, 1},
		{"a whole key of live mode", func(_ *testing.T, c *clinic) {
			c.env["STRIPE_SECRET_KEY"] = "sk_live_51QbD7sKvHadernBlStripetest"
			c.account.Key = c.env["STRIPE_SECRET_KEY"]
		}, "api_key", health.Warn, "can move money", []health.Code{"receiver_mode", "endpoint_mode", "signatures"}, 1},
		{"a key that was rolled", func(_ *testing.T, c *clinic) { c.account.Key = "rk_test_another" }, "api", health.Fail, "does not accept the API key", nil, 1},
		{"a key without the right to events", func(_ *testing.T, c *clinic) { c.account.Deny("/v1/events", "rak_event_read") }, "api_permissions", health.Fail, "lacks the permissions Events: Read", nil, 1},
		{"a key without most rights", func(_ *testing.T, c *clinic) {
			c.account.Deny("/v1/charges", "rak_charge_read")
			c.account.Deny("/v1/refunds", "rak_charge_read")
			c.account.Deny("/v1/disputes", "rak_dispute_read")
		}, "api_permissions", health.Fail, "Charges and Refunds: Read, Disputes: Read", nil, 1},
		{"a key without the right to endpoints", func(_ *testing.T, c *clinic) { c.account.Deny("/v1/webhook_endpoints", "rak_webhook_read") }, "endpoint", health.Unknown, "Webhook Endpoints: Read", nil, 0},
		{"no way out", func(_ *testing.T, c *clinic) { c.env["STRIPE_API_BASE"] = "http://127.0.0.1:1" }, "api", health.Unknown, "no answer from Stripe's API", nil, 0},
		{"a clock that is ten minutes off", func(_ *testing.T, c *clinic) {
			c.account.SetNow(func() time.Time { return time.Now().Add(-10 * time.Minute) })
		}, "clock", health.Fail, "600 s ahead of Stripe's", nil, 1},
		{"a disabled endpoint", func(_ *testing.T, c *clinic) { c.account.Endpoint("we_1Ours")["status"] = "disabled" }, "endpoint_enabled", health.Fail, "is disabled at Stripe", nil, 1},
		{"no endpoint", func(_ *testing.T, c *clinic) { c.account.Endpoint("we_1Ours")["url"] = "https://stats.example/" }, "endpoint", health.Fail, "it sends nothing here", []health.Code{"endpoint_payload"}, 1},
		{"two endpoints", func(_ *testing.T, c *clinic) {
			c.account.AddEndpoint(c.endpoint(map[string]any{"id": "we_2Ours"}))
		}, "endpoint_duplicates", health.Warn, "each of them receives every event, signed with its own secret", nil, 0},
		{"types missing", func(_ *testing.T, c *clinic) {
			c.account.Endpoint("we_1Ours")["enabled_events"] = []any{"charge.succeeded"}
		}, "endpoint_types", health.Fail, "does not receive 27 event types about payments: payment_intent.created,", nil, 1},
		{"a www too many", func(_ *testing.T, c *clinic) {
			c.account.Endpoint("we_1Ours")["url"] = strings.Replace(c.env["TILLHOOK_PUBLIC_URL"], "//", "//www.", 1)
		}, "endpoint_similar", health.Fail, "differs only in www", []health.Code{"endpoint_payload"}, 1},
		{"a thin endpoint", func(_ *testing.T, c *clinic) { c.account.Endpoint("we_1Ours")["event_payload"] = "thin" }, "endpoint_payload", health.Fail, "only thin events", nil, 1},
		{"an http URL", func(_ *testing.T, c *clinic) {
			c.env["TILLHOOK_PUBLIC_URL"] = "http://" + p.public + hook
			c.account.Endpoint("we_1Ours")["url"] = c.env["TILLHOOK_PUBLIC_URL"]
		}, "public_url", health.Fail, "payments are sent unencrypted", []health.Code{"endpoint_scheme"}, 1},
		{"a name without an address", func(_ *testing.T, c *clinic) {
			c.env["TILLHOOK_PUBLIC_URL"] = "https://nowhere.invalid" + hook
			c.account.Endpoint("we_1Ours")["url"] = c.env["TILLHOOK_PUBLIC_URL"]
		}, "dns", "", "nowhere.invalid", nil, -1},
		{"no server at the address", func(_ *testing.T, c *clinic) { c.proxy.Close() }, "tls", health.Warn, "cannot connect", nil, 0},
		{"an expired certificate", func(t *testing.T, c *clinic) {
			c.behindAnew(t, passOn(p), func(now time.Time) (time.Time, time.Time) { return now.Add(-48 * time.Hour), now.Add(-24 * time.Hour) })
		}, "tls", health.Fail, "it expired on", nil, 1},
		{"a certificate that ends", func(t *testing.T, c *clinic) {
			c.behindAnew(t, passOn(p), func(now time.Time) (time.Time, time.Time) { return now.Add(-48 * time.Hour), now.Add(24 * time.Hour) })
		}, "tls", health.Warn, "ends on", nil, 0},
		{"a certificate of an unknown authority", func(_ *testing.T, c *clinic) { c.roots = "/dev/null" }, "tls", health.Fail, "does not know who issued it", nil, 1},
		{"a proxy that redirects", func(t *testing.T, c *clinic) { c.behindAnew(t, answer(301, ""), nil) }, "outside_in", health.Fail, "redirects (301) to https://www.haderer.example/", nil, 1},
		{"a proxy that forbids", func(t *testing.T, c *clinic) { c.behindAnew(t, answer(403, "<html>"), nil) }, "outside_in", health.Fail, "refuses the request (403, by something that is not tillhook (wall/1.0))", nil, 1},
		{"another path", func(t *testing.T, c *clinic) { c.behindAnew(t, answer(404, "<html>"), nil) }, "outside_in", health.Fail, "There is nothing at this path (404", nil, 1},
		{"another path of ours", func(t *testing.T, c *clinic) {
			c.behindAnew(t, bent(func(r *http.Request, body []byte) []byte { r.URL.Path = "/hooks"; return body }), nil)
		}, "outside_in", health.Fail, "under another path (404)", nil, 1},
		{"a proxy without its target", func(t *testing.T, c *clinic) { c.behindAnew(t, answer(502, "<html>"), nil) }, "outside_in", health.Fail, "does not reach the receiver (502", nil, 1},
		{"the wrong program", func(t *testing.T, c *clinic) { c.behindAnew(t, answer(200, "<html>"), nil) }, "outside_in", health.Fail, "The wrong program answers: 200", nil, 1},
		{"a proxy that rewrites bodies", func(t *testing.T, c *clinic) {
			c.behindAnew(t, bent(func(_ *http.Request, body []byte) []byte {
				var compact bytes.Buffer
				if json.Compact(&compact, body) != nil {
					return body
				}
				return compact.Bytes()
			}), nil)
		}, "outside_in", health.Fail, "The body is rewritten on the way", []health.Code{"signatures"}, 1},
		{"a proxy that drops the signature", func(t *testing.T, c *clinic) {
			c.behindAnew(t, bent(func(r *http.Request, body []byte) []byte { r.Header.Del("Stripe-Signature"); return body }), nil)
		}, "outside_in", health.Fail, "The Stripe-Signature header is dropped", []health.Code{"signatures"}, 1},
		{"a proxy with a limit of 1 kB", func(t *testing.T, c *clinic) {
			next := passOn(p)
			c.behindAnew(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ContentLength > 1024 {
					answer(413, "<html>").ServeHTTP(w, r)
					return
				}
				next.ServeHTTP(w, r)
			}), nil)
		}, "outside_in_large", health.Fail, "refused on the way (413)", nil, 1},
		{"a limit of the receiver's", func(_ *testing.T, c *clinic) { c.env["TILLHOOK_MAX_BODY"] = "2000000" }, "outside_in_large", health.OK, "arrives whole", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newClinic(t, p)
			c.bend(t, k)
			e := k.examine(t)
			if c.severity == "" { // as this machine's resolver has it
				for _, severity := range []health.Severity{health.Fail, health.Unknown} {
					if strings.Contains(e.text, `"`+string(c.code)+`","severity":"`+string(severity)+`"`) {
						return
					}
				}
				t.Errorf("no %s in %s", c.code, e.text)
				return
			}
			e.says(c.code, c.severity, c.says)
			e.only(append(c.also, c.code, "signatures")...)
			if e.status != c.status {
				t.Errorf("exit status %d, want %d", e.status, c.status)
			}
		})
	}
}

// behindAnew puts another proxy in front and gives Stripe its address.
func (c *clinic) behindAnew(t *testing.T, handler http.Handler, certificate func(now time.Time) (from, to time.Time)) {
	t.Helper()
	c.behind(t, handler, certificate)
	c.account.Endpoint("we_1Ours")["url"] = c.env["TILLHOOK_PUBLIC_URL"]
}

// What the receiver sees by itself is in the doctor's report, too, and in the log.
func TestWhatAReceiverSawItself(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		send func(t *testing.T, p *program)
		says string
		fail health.Severity
	}{
		{"a secret of the other mode", func(t *testing.T, p *program) {
			body := bytes.ReplaceAll(sample(t, "payment_intent.succeeded"), []byte(`"livemode": false`), []byte(`"livemode": true`))
			p.posted(t, body, "whsec_ofTheOtherMode", time.Now())
		}, "the body is of live mode and this receiver of test mode", health.Fail},
		{"a wrong secret", func(t *testing.T, p *program) {
			p.posted(t, sample(t, "payment_intent.succeeded"), "whsec_another", time.Now())
		}, "no event has verified since the start", health.Fail},
		{"a second endpoint", func(t *testing.T, p *program) {
			p.posted(t, sample(t, "payment_intent.succeeded"), secret, time.Now())
			p.posted(t, sample(t, "charge.succeeded"), "whsec_ofTheSecond", time.Now())
		}, "a second endpoint sends here", health.Warn},
		{"a clock that is off", func(t *testing.T, p *program) {
			p.posted(t, sample(t, "payment_intent.succeeded"), secret, time.Now().Add(-10*time.Minute))
		}, "this machine's clock is ahead by that much", health.Fail},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := build(t)
			k := newClinic(t, p)
			p.start(t)
			c.send(t, p)
			e := k.examine(t)
			e.says("signatures", c.fail, c.says)
			e.says("refusals", health.OK, "Refused since the start: 1 ")
			e.only("signatures")
			p.kill(t)
			if !strings.Contains(p.log.String(), c.says) {
				t.Errorf("it is not in the log: %s", &p.log)
			}
		})
	}
}

// posted posts once, whatever the answer is.
func (p *program) posted(t *testing.T, body []byte, secret string, at time.Time) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.public+hook, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Stripe-Signature", stripe.Sign(body, secret, at))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// What keeps a receiver from running at all.
func TestADoctorWithoutAReceiver(t *testing.T) {
	t.Parallel()
	p := build(t)
	c := newClinic(t, p)
	e := c.examine(t)
	e.says("receiver", health.Fail, "No receiver answers at")
	e.says("data_dir", health.OK, "does not exist yet, and can be created")
	e.says("public_port", health.OK, "is free")
	e.says("outside_in", health.Unknown, "without a running receiver")
	e.only("receiver")
	if _, err := os.Stat(p.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the examination made %s: %v", p.dir, err)
	}

	// A ledger in which nothing has come for days, of the other mode than the configuration says,
	// held by another process.
	l := ledgertest.Start(t, ledger.Options{Dir: p.dir})
	old := stripe.Decode(sample(t, "payment_intent.succeeded"), false)
	old.Source, old.Received = ledger.Webhook, time.Now().Add(-5*24*time.Hour)
	if _, err := l.Append(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	e = c.examine(t)
	e.says("ledger", health.Fail, fmt.Sprintf("process %d holds the ledger and answers at none of the known sockets", os.Getpid()))
	other := t.TempDir()
	if err := l.CopyTo(newFile(t, filepath.Join(other, "ledger.db"))); err != nil {
		t.Fatal(err)
	}
	c.env["TILLHOOK_DATA_DIR"] = other
	e = c.examine(t)
	e.says("ledger", health.OK, "1 event ")
	e.says("deliveries", health.Warn, "No event has come since")
	c.env["STRIPE_SECRET_KEY"] = strings.Replace(c.account.Key, "_test_", "_live_", 1)
	e = c.examine(t, "--offline")
	e.says("ledger", health.Fail, "holds test mode payments, the configuration says live")
	if e.status != 78 {
		t.Errorf("exit status %d, want 78", e.status)
	}
	if err := os.WriteFile(filepath.Join(other, "ledger.db"), []byte("no ledger"), 0o644); err != nil {
		t.Fatal(err)
	}
	e = c.examine(t, "--offline")
	e.says("ledger", health.Fail, "cannot be opened")

	taken := httptest.NewServer(nil)
	defer taken.Close()
	c.env["TILLHOOK_LISTEN"] = strings.TrimPrefix(taken.URL, "http://")
	e = c.examine(t, "--offline")
	e.says("public_port", health.Fail, "Another program listens on")
}

// A full disk, and a folder of another user's: both need root to be made.
func TestADoctorAndTheDisk(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	p := build(t)
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		lacks(t, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(small, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p.dir = small
	c := newClinic(t, p)
	p.start(t)
	filler := make([]byte, 4<<20)
	_ = os.WriteFile(filepath.Join(small, "filler"), filler, 0o600) // as much as fits
	n := int64(0)
	comes(t, "the ledger cannot be written", func() bool {
		n++
		_, body := ownEvent(sample(t, "payment_intent.succeeded"), n)
		p.posted(t, body, secret, time.Now())
		answer, err := operator.Dial(filepath.Join(small, "operator.sock")).Get(t.Context(), "/api/summary", nil)
		return err == nil && strings.Contains(string(answer), `"storage","severity":"fail"`)
	})
	e := c.examine(t)
	e.says("disk", health.Fail, "The disk is full")
	e.says("storage", health.Fail, "The ledger cannot be written, and every event is answered 503")
	p.kill(t)

	theirs := filepath.Join(small, "theirs")
	if err := errors.Join(os.Remove(filepath.Join(small, "filler")), os.Chmod(small, 0o755), os.Mkdir(theirs, 0o700)); err != nil {
		t.Fatal(err)
	}
	c.env["TILLHOOK_DATA_DIR"] = theirs
	c.env["TILLHOOK_OPERATOR_SOCKET"] = filepath.Join(small, "none.sock")
	open := t.TempDir()
	for dir := open; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile(p.binary)
	if err != nil {
		t.Fatal(err)
	}
	c.program = &program{binary: filepath.Join(open, "tillhook"), dir: theirs, public: p.public}
	if err := os.WriteFile(c.binary, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	c.as = &syscall.Credential{Uid: 65534, Gid: 65534}
	e = c.examine(t, "--offline")
	e.says("data_dir", health.Fail, "belongs to root, and this user (65534) cannot write to it")

	// a folder that this user may not even look at says nothing against it
	closed := filepath.Join(open, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	c.env["TILLHOOK_DATA_DIR"] = filepath.Join(closed, "data")
	e = c.examine(t, "--offline")
	e.says("data_dir", health.Unknown, "This user may not examine the data folder")
}

func newFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // it was not synced, and is not needed for long
	return f
}

func tlsPair(certFile, keyFile string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	return &tls.Config{Certificates: []tls.Certificate{pair}}, err
}

var quiet = log.New(io.Discard, "", 0)
