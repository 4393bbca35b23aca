package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"tillhook/ledger"
	"tillhook/receiver/stripe"
)

// asProgram in the environment makes the test binary be tillhook.
const asProgram = "THIS_TEST_IS_TILLHOOK"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run("/"))
	}
	testscript.Main(m, map[string]func(){"tillhook": func() { os.Exit(run(os.Getenv("ROOT"))) }})
}

// long runs the full form of what repeats: go test -args -long.
var long = flag.Bool("long", false, "repeat stops and kills hundreds of times")

const testSecret = "whsec_testsSignWithThis"

// freeAddress is a loopback address that was free a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// The commands as they are typed. Each script has a receiver's environment of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Geteuid() == 0, nil
		},
		Setup: func(e *testscript.Env) error {
			public, err := freeAddress()
			if err != nil {
				return err
			}
			private, err := freeAddress()
			if err != nil {
				return err
			}
			events, err := filepath.Abs("testdata/events")
			if err != nil {
				return err
			}
			for name, value := range map[string]string{
				"STRIPE_WEBHOOK_SECRET": testSecret, "STRIPE_MODE": "test", "TILLHOOK_LISTEN": public, "TILLHOOK_OPERATOR_LISTEN": private,
				"TILLHOOK_DATA_DIR": filepath.Join(e.WorkDir, "data"), "EVENTS": events, "HOME": e.WorkDir,
				"ROOT":   filepath.Join(e.WorkDir, "root"), // where the units of an installed service would lie
				"GORACE": "atexit_sleep_ms=0",              // the race detector lets each process sleep for a second at its end
			} {
				e.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"ready": waitReady, "get": getURL},
	})
}

// waitReady waits for the receiver of the script's environment to answer.
func waitReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: ready")
	}
	ts.Check(answers("http://" + ts.Getenv("TILLHOOK_LISTEN") + "/healthz"))
}

// getURL prints what a URL answers: its status and its body.
func getURL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: get URL")
	}
	resp, err := http.Get(args[0])
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(errors.Join(err, resp.Body.Close()))
	_, err = fmt.Fprintf(ts.Stdout(), "%d\n%s", resp.StatusCode, body)
	ts.Check(err)
}

// answers waits until a URL answers 200, 10 s at most.
func answers(url string) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			if err = resp.Body.Close(); err == nil && resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("no 200 from %s in 10 s: %v", url, err)
		}
	}
}

// program is a running tillhook of its own process.
type program struct {
	cmd      *exec.Cmd
	dir      string
	public   string
	operator string
	log      bytes.Buffer // read only once it has ended
	ended    chan error
}

// start runs serve on a data folder and waits until it is ready.
func start(t *testing.T, dir string, more ...string) *program {
	t.Helper()
	public, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	private, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{cmd: exec.Command(self), dir: dir, public: public, operator: private, ended: make(chan error, 1)}
	p.cmd.Env = append([]string{asProgram + "=1", "STRIPE_WEBHOOK_SECRET=" + testSecret, "STRIPE_MODE=test", "TILLHOOK_DATA_DIR=" + dir,
		"TILLHOOK_LISTEN=" + public, "TILLHOOK_OPERATOR_LISTEN=" + private, "TILLHOOK_LOG_LEVEL=warn"}, more...)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { p.cmd.Process.Kill() })
	if err := answers("http://" + public + "/healthz"); err != nil {
		t.Fatal(err)
	}
	return p
}

// signal sends one and waits for the end, 10 s at most.
func (p *program) signal(t *testing.T, sig os.Signal) error {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		return err
	case <-time.After(10 * time.Second):
		t.Fatalf("%v did not end it in 10 s", sig)
		return nil
	}
}

var template = func() []byte {
	body, err := samples.ReadFile("testdata/events/payment_intent.succeeded.json")
	if err != nil {
		panic(err)
	}
	return body
}()

// numbered is the sample event with an id, a payment and a charge of its own: one charge of all
// payments would be a list that each event makes longer.
func numbered(n int64) (id string, body []byte) {
	id = fmt.Sprintf("evt_load_%06d", n)
	body = bytes.Replace(template, []byte("evt_3wBTwEKvHadernBlBPBleRA0"), []byte(id), 1)
	body = bytes.ReplaceAll(body, []byte("py_3wBTwEKvHadernBlVhC6f5rz"), fmt.Appendf(nil, "py_load_%06d", n))
	return id, bytes.ReplaceAll(body, []byte("pi_3wBTwEKvHadernBl4gdrfNcd"), fmt.Appendf(nil, "pi_load_%06d", n))
}

// outcome reads an answer: its status and the word in it.
func outcome(resp *http.Response) (status int, word string, err error) {
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, "", err
	}
	var answer struct {
		Result struct{ Status string }
		Error  struct{ Code string }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, "", err
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "5" {
		return 0, "", errors.New("a 503 without Retry-After")
	}
	return resp.StatusCode, answer.Result.Status + answer.Error.Code, nil
}

func (p *program) delivery(body []byte) *http.Request {
	r, err := http.NewRequest("POST", "http://"+p.public+"/webhooks/stripe", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Stripe-Signature", stripe.Sign(body, testSecret, time.Now()))
	return r
}

func (p *program) post(client *http.Client, body []byte) (status int, word string, err error) {
	resp, err := client.Do(p.delivery(body))
	if err != nil {
		return 0, "", err
	}
	return outcome(resp)
}

// load is what many senders at once experienced.
type load struct {
	mu         sync.Mutex // guards acked
	acked      []string   // ids answered 200
	unanswered atomic.Int64
	sent       atomic.Int64
	wait       func()
}

// load sends new events on 16 connections that are kept alive, until the receiver says that one
// closes or closes it. Nothing is sent twice: each connection is ours, and no client tries again
// behind our back.
func (p *program) load(t *testing.T, from int64) *load {
	t.Helper()
	l := &load{}
	l.sent.Store(from)
	end := time.Now().Add(30 * time.Second)
	var group sync.WaitGroup
	for range 16 {
		conn, err := net.Dial("tcp", p.public)
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			defer conn.Close()
			r := bufio.NewReader(conn)
			for time.Now().Before(end) {
				id, body := numbered(l.sent.Add(1))
				request := p.delivery(body)
				var resp *http.Response
				err := request.Write(conn)
				if err == nil {
					resp, err = http.ReadResponse(r, request)
				}
				if err != nil {
					l.unanswered.Add(1)
					return
				}
				status, word, err := outcome(resp)
				if status != http.StatusOK || word != "applied" || err != nil {
					t.Errorf("%s was answered %d %s, %v", id, status, word, err)
					return
				}
				l.mu.Lock()
				l.acked = append(l.acked, id)
				l.mu.Unlock()
				if resp.Close {
					return
				}
			}
		})
	}
	l.wait = group.Wait
	return l
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// until waits for so many acknowledged events, 20 s at most.
func (l *load) until(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); l.count() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d events acknowledged in 20 s, want %d", l.count(), n)
		}
	}
}

// holds demands that a ledger without a receiver is sound and has every acknowledged event, once.
func holds(t *testing.T, dir string, acked []string) {
	t.Helper()
	l, err := ledger.OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Check(); err != nil {
		t.Errorf("the ledger is not sound: %v", err)
	}
	for _, id := range acked {
		rec, err := l.Event(id)
		if err != nil {
			t.Errorf("%s was acknowledged and is lost: %v", id, err)
			continue
		}
		if p, err := l.Payment(string(rec.PaymentID)); err != nil || p.Events != 1 || *p.AmountReceived != 6480 {
			t.Errorf("%s is booked as %+v, %v", id, p, err)
		}
	}
}

func TestStopUnderLoad(t *testing.T) {
	dir := t.TempDir()
	var acked []string
	cycles := int64(8) // what is cut off is cut off in the blink between two requests: one stop may miss it
	if *long {
		cycles = 300
	}
	for cycle := range cycles {
		p := start(t, dir)
		l := p.load(t, cycle*100000)
		l.until(t, 200)
		if err := p.signal(t, syscall.SIGTERM); err != nil {
			t.Errorf("it ended with %v\n%s", err, &p.log)
		}
		l.wait()
		if n := l.unanswered.Load(); n != 0 {
			t.Errorf("%d requests were sent and not answered", n)
		}
		acked = append(acked, l.acked...)
	}
	holds(t, dir, acked)
	t.Logf("%d stops, %d acknowledged events", cycles, len(acked))
}

func TestKillUnderLoad(t *testing.T) {
	dir := t.TempDir()
	var acked []string
	cycles := int64(3)
	if *long {
		cycles = 300
	}
	for cycle := range cycles {
		p := start(t, dir)
		l := p.load(t, cycle*100000)
		l.until(t, 200)
		if err := p.signal(t, syscall.SIGKILL); err == nil {
			t.Error("a killed process ended well")
		}
		l.wait()
		acked = append(acked, l.acked...)
		holds(t, dir, l.acked)
	}
	holds(t, dir, acked)
	t.Logf("%d kills, %d acknowledged events", cycles, len(acked))
}

// What a full disk does: every write past the limit fails with EFBIG, and later it does not.
func TestFullDisk(t *testing.T) {
	p := start(t, t.TempDir())
	limit := func(size uint64) {
		t.Helper()
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}, nil); err != nil {
			t.Fatal(err)
		}
	}
	p.fault(t, func() { limit(4096) }, func() { limit(unix.RLIM_INFINITY) })
}

// fault breaks the disk for a while: new events are 503 during, and none is lost or booked twice
// after.
func (p *program) fault(t *testing.T, breakIt, repair func()) {
	t.Helper()
	client := &http.Client{}
	var acked []string
	for n := range int64(20) {
		id, body := numbered(n)
		if status, outcome, err := p.post(client, body); status != 200 || err != nil {
			t.Fatalf("before: %d %s %v", status, outcome, err)
		}
		acked = append(acked, id)
	}
	breakIt()
	for n := range int64(20) {
		_, body := numbered(100 + n)
		if status, outcome, err := p.post(client, body); status != 503 || outcome != "storage_unavailable" || err != nil {
			t.Errorf("during: %d %s %v", status, outcome, err)
		}
	}
	if status := p.ready(t); status != 503 {
		t.Errorf("during: /readyz says %d", status)
	}
	repair()
	if err := answers("http://" + p.operator + "/readyz"); err != nil {
		t.Error(err)
	}
	for n := range int64(20) {
		id, body := numbered(100 + n)
		status, outcome, err := p.post(client, body)
		if status != 200 || err != nil || outcome != "applied" && outcome != "already_processed" {
			t.Errorf("after: %d %s %v", status, outcome, err)
		}
		acked = append(acked, id)
	}
	if err := p.signal(t, syscall.SIGTERM); err != nil {
		t.Errorf("it ended with %v\n%s", err, &p.log)
	}
	holds(t, p.dir, acked)
}

func (p *program) ready(t *testing.T) int {
	t.Helper()
	resp, err := http.Get("http://" + p.operator + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// inject has strace tamper with a system call of the running program until the returned function is
// called.
func (p *program) inject(t *testing.T, calls, fault string) (stop func()) {
	t.Helper()
	tracer := exec.Command(tool(t, "strace"), "-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(p.cmd.Process.Pid),
		"-e", "trace="+calls, "--inject="+calls+":"+fault)
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	// It attaches to one thread after the other.
	attached := func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("the program has no threads: %v", err)
		}
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			if err == nil && regexp.MustCompile(`TracerPid:\s+0\n`).Match(text) {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(10 * time.Second); !attached(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("strace did not attach")
		}
	}
	return func() {
		if err := tracer.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = tracer.Wait() // it ends by the signal
	}
}

// A disk whose syncs fail.
func TestFailingSync(t *testing.T) {
	tool(t, "strace")
	p := start(t, t.TempDir())
	stop := func() {}
	p.fault(t, func() { stop = p.inject(t, "fdatasync,fsync", "error=EIO") }, func() { stop() })
}

// A disk that takes 7 s for a write: no answer waits that long, not even for a known event, and
// /readyz reports it.
func TestHangingDisk(t *testing.T) {
	tool(t, "strace")
	p := start(t, t.TempDir())
	_, known := numbered(1)
	if status, _, err := p.post(&http.Client{}, known); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	defer p.inject(t, "pwrite64", "delay_enter=7000000")()
	var group sync.WaitGroup
	begun := time.Now()
	for n := range int64(8) {
		_, body := numbered(1 + n) // the first is known, the others are new
		group.Go(func() {
			status, word, err := p.post(&http.Client{}, body)
			if took := time.Since(begun); err != nil || took > 5500*time.Millisecond || status != 503 && word != "already_processed" {
				t.Errorf("%d %s after %s, %v", status, word, took, err)
			}
		})
	}
	group.Wait()
	for p.ready(t) != 503 {
		if time.Since(begun) > 6500*time.Millisecond {
			t.Fatal("/readyz does not tell of a commit that hangs")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Senders that stop in the middle do not keep it from stopping well.
func TestStopWithSlowSenders(t *testing.T) {
	p := start(t, t.TempDir())
	for _, head := range []string{
		"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"POST /webhooks/str",
		"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nStripe-Signature: t=1,v1=00\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", p.public)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(head, "100-continue") { // the answer shows that the handler reads the body
			if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
				t.Fatal(line, err)
			}
		}
	}
	begun := time.Now()
	unready := make(chan bool, 1)
	go func() { // while the last sender is waited for
		for time.Since(begun) < 3*time.Second {
			resp, err := http.Get("http://" + p.operator + "/readyz")
			if err != nil {
				break
			}
			if resp.Body.Close() == nil && resp.StatusCode == http.StatusServiceUnavailable {
				unready <- true
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		unready <- false
	}()
	if err := p.signal(t, syscall.SIGTERM); err != nil {
		t.Errorf("it ended with %v\n%s", err, &p.log)
	}
	if !<-unready {
		t.Error("/readyz was not 503 while it stopped")
	}
	// The longest it may wait for is the body of a delivery, 4 s; what is answered already is not
	// waited for.
	if took := time.Since(begun); took > 6*time.Second {
		t.Errorf("it took %s to stop", took)
	}
}

// tool finds a program that not every machine has; where everything is installed, lacking it is a
// failure.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}
