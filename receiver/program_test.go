package receiver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tillhook/ledger/check"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

var long = flag.Bool("long", false, "send every scenario in hundreds of orders")

// program is the real binary, which can be killed and started again on the same ledger.
type program struct {
	binary, dir, public string
	env                 []string // beside what every one needs
	secure              bool     // its webhook listener speaks TLS
	cmd                 *exec.Cmd
	log                 bytes.Buffer // read only while it does not run
	logTo               *os.File     // where it logs instead, if not nil
}

// built builds the binary once for all tests.
var built = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(builds, "tillhook")
	if out, err := exec.Command("go", "build", "-o", path, "tillhook").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// builds is a folder for what is built, while the tests run.
var builds string

func TestMain(m *testing.M) {
	var err error
	if builds, err = os.MkdirTemp("", "tillhook-tests-*"); err != nil {
		log.Fatal(err)
	}
	status := m.Run()
	if err := os.RemoveAll(builds); err != nil {
		log.Print(err)
	}
	os.Exit(status)
}

func build(t *testing.T) *program {
	t.Helper()
	p := &program{dir: filepath.Join(t.TempDir(), "data"), public: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	var err error
	if p.binary, err = built(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.kill(t); t.Failed() {
			t.Logf("it logged\n%s", &p.log)
		}
	})
	return p
}

// start runs it until it is killed, and waits until it answers.
func (p *program) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.binary, "serve")
	p.cmd.Env = append([]string{"STRIPE_WEBHOOK_SECRET=" + secret, "STRIPE_MODE=test", "TILLHOOK_DATA_DIR=" + p.dir, "TILLHOOK_LISTEN=" + p.public,
		"TILLHOOK_OPERATOR_LISTEN=off", "TILLHOOK_LOG_LEVEL=warn"}, p.env...)
	p.cmd.Stderr = &p.log
	if p.logTo != nil {
		p.cmd.Stderr = p.logTo
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if p.secure { // there may be no certificate yet
		comes(t, "it listens", func() bool {
			conn, err := net.Dial("tcp", p.public)
			return err == nil && conn.Close() == nil
		})
		return
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get("http://" + p.public + "/healthz")
		if err == nil {
			if err := resp.Body.Close(); err == nil && resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("it does not answer: %v", err)
		}
	}
}

// kill ends it as a power cut would end the process: without a word.
func (p *program) kill(t *testing.T) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = p.cmd.Wait() // it was killed
	p.cmd = nil
}

// life is a scenario whose ids are made its own, and what it must end in.
type life struct {
	bodies [][]byte
	want   struct {
		Payment, Status, Currency, Account *string
		Amount                             *int64
		Capturable, Received, Refunded     int64
		Withdrawn                          int64 `json:"dispute_withdrawn"`
		Reinstated                         int64 `json:"dispute_reinstated"`
		Net                                int64
		Flags                              []string
	}
}

// lives reads every scenario n times. What is constant in the shop's ids, and in its connected
// account's, becomes another word each time.
func lives(t *testing.T, n int) (all []*life) {
	t.Helper()
	dirs, err := filepath.Glob("../testdata/scenarios/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no scenarios: ", err)
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "[0-9]*.json"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for i := range n {
			own := func(file string) []byte {
				body, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				body = bytes.ReplaceAll(body, []byte("KvHadernBl"), fmt.Appendf(nil, "KvHad%05d", i))
				return bytes.ReplaceAll(body, []byte("HvBinderMu"), fmt.Appendf(nil, "HvBin%05d", i))
			}
			var l life
			if err := json.Unmarshal(own(filepath.Join(dir, "expected.json")), &l.want); err != nil {
				t.Fatal(dir, err)
			}
			for _, file := range files {
				l.bodies = append(l.bodies, own(file))
			}
			all = append(all, &l)
		}
	}
	return all
}

// deliveries are all bodies of all lives, each life in an order of its own with repeats, and the
// lives among each other.
func deliveries(rng *rand.Rand, all []*life) (queue [][]byte) {
	for at := range all {
		other := at + rng.IntN(len(all)-at)
		all[at], all[other] = all[other], all[at]
	}
	const together = 16 // lives are under way at once
	for begin := 0; begin < len(all); begin += together {
		var some [][]byte
		for _, l := range all[begin:min(begin+together, len(all))] {
			some = append(some, l.bodies...)
			for range 1 + len(l.bodies)/3 {
				some = append(some, l.bodies[rng.IntN(len(l.bodies))])
			}
		}
		rng.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		queue = append(queue, some...)
	}
	return queue
}

// deliver posts a body as Stripe does: again and again, until it is acknowledged.
func (p *program) deliver(ctx context.Context, client *http.Client, body []byte) error {
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.public+hook, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Stripe-Signature", stripe.Sign(body, secret, time.Now()))
		resp, err := client.Do(r)
		if err == nil {
			answer, readErr := io.ReadAll(resp.Body)
			if err := resp.Body.Close(); err != nil {
				return err
			}
			if resp.StatusCode == http.StatusOK && readErr == nil {
				return nil
			}
			if readErr == nil && resp.StatusCode != http.StatusServiceUnavailable {
				return fmt.Errorf("answered %d %s", resp.StatusCode, answer)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Every scenario in many orders with repeats, from eight senders at once, with a kill -9 in the
// middle, ends in its expected.json.
func TestScenariosOverHTTPWithAKill(t *testing.T) {
	n := 8
	if *long {
		n = 250
	}
	rng := rand.New(rand.NewPCG(2, 9))
	all := lives(t, n)
	queue := deliveries(rng, all)
	p := build(t)
	p.start(t)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var next atomic.Int64
	var senders sync.WaitGroup
	for range 8 {
		client := &http.Client{Transport: &http.Transport{}}
		senders.Go(func() {
			defer client.CloseIdleConnections()
			for i := next.Add(1) - 1; i < int64(len(queue)); i = next.Add(1) - 1 {
				if err := p.deliver(ctx, client, queue[i]); err != nil {
					t.Errorf("delivery %d: %v", i, err)
					return
				}
			}
		})
	}
	for next.Load() < int64(len(queue)/2) && ctx.Err() == nil {
		time.Sleep(time.Millisecond) // it is a moment that is waited for, and any near it will do
	}
	p.kill(t)
	p.start(t)
	senders.Wait()
	if t.Failed() {
		return
	}

	client := operator.Dial(filepath.Join(p.dir, "operator.sock"))
	net := int64(0)
	for _, l := range all {
		net += l.want.Net
		if err := l.ended(ctx, client); err != nil {
			t.Error(err)
		}
	}
	var summary operator.Summary
	answer, err := client.Get(ctx, "/api/summary", nil)
	if err != nil || json.Unmarshal(answer, &summary) != nil {
		t.Fatalf("%v %s", err, answer)
	}
	for _, total := range summary.Totals {
		n, _ := total.Net.Int64()
		net -= n
	}
	if net != 0 {
		t.Errorf("the totals of all days differ from the sum of all payments by %d", net)
	}
	p.kill(t)
	if proof, err := check.Verify(t.Context(), filepath.Join(p.dir, "ledger.db")); err != nil {
		t.Errorf("%v\n%+v", err, proof)
	}
	t.Logf("%d payments of %d deliveries", len(all), len(queue))
}

// ended compares a payment, as the receiver shows it, with what its life must end in.
func (l *life) ended(ctx context.Context, client *operator.Client) error {
	answer, err := client.Get(ctx, operator.PaymentPath(*l.want.Payment), nil)
	if err != nil {
		return fmt.Errorf("%s: %w", *l.want.Payment, err)
	}
	var shown struct {
		ID, Status, Currency, Account *string
		Amount                        *int64
		Capturable                    int64 `json:"amount_capturable"`
		Received                      int64 `json:"amount_received"`
		Refunded                      int64 `json:"amount_refunded"`
		Withdrawn                     int64 `json:"dispute_withdrawn"`
		Reinstated                    int64 `json:"dispute_reinstated"`
		Net                           int64 `json:"amount_net"`
		Flags                         []string
	}
	if err := json.Unmarshal(answer, &shown); err != nil {
		return err
	}
	w := &l.want
	got, err := json.Marshal([]any{shown.ID, shown.Status, shown.Currency, shown.Account, shown.Amount, shown.Capturable, shown.Received, shown.Refunded,
		shown.Withdrawn, shown.Reinstated, shown.Net, shown.Flags})
	if err != nil {
		return err
	}
	want, err := json.Marshal([]any{w.Payment, w.Status, w.Currency, w.Account, w.Amount, w.Capturable, w.Received, w.Refunded, w.Withdrawn, w.Reinstated,
		w.Net, w.Flags})
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s ends in\n%s, not in\n%s", *w.Payment, got, want)
	}
	return err
}
