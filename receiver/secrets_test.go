package receiver_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

// Neither the signing secret, nor the API key, nor a payment's client_secret is anywhere but where
// it must be, whatever goes wrong; and nobody else may read the ledger.
func TestSecretsStaySecret(t *testing.T) {
	const apiKey = "rk_test_51SecretKeyOfThisTest"
	p := build(t)
	socket := filepath.Join(t.TempDir(), "operator.sock")
	p.env = []string{"STRIPE_SECRET_KEY=" + apiKey, "STRIPE_API_BASE=http://127.0.0.1:1", "TILLHOOK_OPERATOR_SOCKET=" + socket, "TILLHOOK_LOG_LEVEL=debug", "GOTRACEBACK=all"}
	p.start(t)
	client := &http.Client{Transport: &http.Transport{}}
	deliver := func(body []byte, signature string) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.public+hook, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Stripe-Signature", signature)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer bytes.Buffer
		if _, err := answer.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return answer.String()
	}
	var told strings.Builder // to anybody
	body := sample(t, "payment_intent.succeeded")
	if !bytes.Contains(body, []byte("_secret_")) {
		t.Fatal("the sample has no client_secret: it tells nothing")
	}
	broken := bytes.Replace(body, []byte(`"amount": 6480`), []byte(`"amount": "?"`), 1)
	for _, b := range [][]byte{body, body, broken, body[:len(body)/2], sample(t, "payment_intent.payment_failed"), sample(t, "v1.payment_intent.succeeded")} {
		told.WriteString(deliver(b, stripe.Sign(b, secret, time.Now())))
		told.WriteString(deliver(b, stripe.Sign(b, secret, time.Now().Add(-time.Hour))))
		told.WriteString(deliver(b, stripe.Sign(b, "whsec_another", time.Now())))
		told.WriteString(deliver(b, secret))
	}
	asks := operator.Dial(socket)
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/api/payments", "/api/events", "/api/summary", "/api/export",
		operator.PaymentPath("pi_3wBTwEKvHadernBl4gdrfNcd"), operator.PaymentPath("pi_3wBTwEKvHadernBl4gdrfNcd") + "/timeline",
		operator.PaymentPath("pi_3wBTwEKvHadernBl4gdrfNcd") + "/events", operator.EventPath("evt_3wBTwEKvHadernBlBPBleRA0")} {
		text, err := asks.Get(t.Context(), path, nil)
		if err != nil {
			t.Error(err)
		}
		told.Write(text)
	}
	// On the public door there is the webhook's path and a word for load balancers, and nothing
	// else.
	for _, path := range []string{"/", "/metrics", "/readyz", "/api/payments", "/api/events", "/api/backup", "/debug/pprof/", "/debug/vars"} {
		resp, err := client.Get("http://" + p.public + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the public door: %d, %v", path, resp.StatusCode, err)
		}
	}
	if resp, err := client.Get("http://" + p.public + "/healthz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz on the public door: %v", err)
	}
	ownersOnly(t, p.dir)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0 ") {
		t.Errorf("it may write a core:\n%s", limits)
	}
	// A crash prints every goroutine.
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // it crashed
	p.cmd = nil
	told.Write(p.log.Bytes())
	if !strings.Contains(told.String(), "goroutine 1 ") || !strings.Contains(told.String(), "signature rejected") {
		t.Error("there is no trace of the crash, or of a rejection: it tells nothing")
	}
	for what, text := range map[string]string{"signing secret": strings.TrimPrefix(secret, "whsec_"), "API key": strings.TrimPrefix(apiKey, "rk_test_"), "client_secret": "_secret_"} {
		if at := strings.Index(told.String(), text); at >= 0 {
			t.Errorf("the %s is told: …%s…", what, told.String()[max(0, at-200):min(told.Len(), at+50)])
		}
	}
}

// ownersOnly demands that a folder and all in it are its owner's alone, but for the socket, which
// is the group's too.
func ownersOnly(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if files++; entry.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want && info.Mode().Type() != fs.ModeSocket {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files < 2 {
		t.Errorf("%d files in %s, %v", files, dir, err)
	}
}
