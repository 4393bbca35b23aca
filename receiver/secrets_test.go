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
// it must be, whatever goes wrong; and no other user may read the ledger.
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
	var output strings.Builder // of any kind
	body := sample(t, "payment_intent.succeeded")
	if !bytes.Contains(body, []byte("_secret_")) {
		t.Fatal("the sample has no client_secret: it proves nothing")
	}
	broken := bytes.Replace(body, []byte(`"amount": 6480`), []byte(`"amount": "?"`), 1)
	for _, b := range [][]byte{body, body, broken, body[:len(body)/2], sample(t, "payment_intent.payment_failed"), sample(t, "v1.payment_intent.succeeded")} {
		output.WriteString(deliver(b, stripe.Sign(b, secret, time.Now())))
		output.WriteString(deliver(b, stripe.Sign(b, secret, time.Now().Add(-time.Hour))))
		output.WriteString(deliver(b, stripe.Sign(b, "whsec_another", time.Now())))
		output.WriteString(deliver(b, secret))
	}
	asks := operator.Dial(socket)
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/api/payments", "/api/events", "/api/summary", "/api/export",
		operator.PaymentPath("pi_3wBTwEKvHadernBl4gdrfNcd"), operator.PaymentPath("pi_3wBTwEKvHadernBl4gdrfNcd") + "/timeline",
		operator.PaymentPath("pi_3wBTwEKvHadernBl4gdrfNcd") + "/events", operator.EventPath("evt_3wBTwEKvHadernBlBPBleRA0")} {
		text, err := asks.Get(t.Context(), path, nil)
		if err != nil {
			t.Error(err)
		}
		output.Write(text)
	}
	// The webhook listener has the webhook's path and one for load balancers, and nothing
	// else.
	for _, path := range []string{"/", "/metrics", "/readyz", "/api/payments", "/api/events", "/api/backup", "/debug/pprof/", "/debug/vars"} {
		resp, err := client.Get("http://" + p.public + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s on the webhook listener: %d, %v", path, resp.StatusCode, err)
		}
	}
	if resp, err := client.Get("http://" + p.public + "/healthz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz on the webhook listener: %v", err)
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
	output.Write(p.log.Bytes())
	if !strings.Contains(output.String(), "goroutine 1 ") || !strings.Contains(output.String(), "signature rejected") {
		t.Error("there is no trace of the crash, or of a rejection: it proves nothing")
	}
	for what, text := range map[string]string{"signing secret": strings.TrimPrefix(secret, "whsec_"), "API key": strings.TrimPrefix(apiKey, "rk_test_"), "client_secret": "_secret_"} {
		if at := strings.Index(output.String(), text); at >= 0 {
			t.Errorf("the %s is shown: …%s…", what, output.String()[max(0, at-200):min(output.Len(), at+50)])
		}
	}
}

// ownersOnly demands that a folder and all in it are only its owner's, but for the socket, which
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
