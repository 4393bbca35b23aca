package receiver_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// typed is a command as it is typed, whose end is waited for.
type typed struct {
	cmd            *exec.Cmd
	stdout, stderr strings.Builder
}

func (p *program) typed(t *testing.T, env []string, args ...string) *typed {
	t.Helper()
	c := &typed{cmd: exec.Command(p.binary, args...)}
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = t.TempDir(), &c.stdout, &c.stderr
	c.cmd.Env = append([]string{"STRIPE_WEBHOOK_SECRET=" + secret, "STRIPE_MODE=test", "TILLHOOK_DATA_DIR=" + p.dir, "TILLHOOK_LISTEN=" + p.public,
		"TILLHOOK_OPERATOR_LISTEN=off"}, env...)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() }) // it has ended, as a rule
	return c
}

// ends waits for the end, a minute at most, and returns the exit status and what was said.
func (c *typed) ends(t *testing.T) (status int, said string) {
	t.Helper()
	late := time.AfterFunc(time.Minute, func() {
		t.Errorf("%v does not end", c.cmd.Args)
		_ = c.cmd.Process.Kill() // it may have ended meanwhile
	})
	defer late.Stop()
	_ = c.cmd.Wait() // its status says more
	return c.cmd.ProcessState.ExitCode(), c.stdout.String() + c.stderr.String()
}

// silentSocket is what the service manager's socket is while no receiver answers: connections are
// accepted and wait.
func silentSocket(t *testing.T) (path string, asked <-chan struct{}) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "operator.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	requests := make(chan struct{}, 10)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if n, _ := conn.Read(make([]byte, 4096)); n > 0 {
					requests <- struct{}{}
				}
				_, _ = io.Copy(io.Discard, conn) // until the command hangs up
			}()
		}
	}()
	return path, requests
}

// No command waits for ever for a receiver that does not answer, and Ctrl-C ends it with words.
func TestNoCommandHangs(t *testing.T) {
	t.Parallel()
	p := build(t)
	for _, args := range [][]string{{"payments"}, {"events", "release"}, {"export"}, {"verify"}, {"backup", "x.db"}, {"reconcile"}, {"doctor", "--offline"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			path, _ := silentSocket(t)
			status, said := p.typed(t, []string{"TILLHOOK_DATA_DIR=", "TILLHOOK_OPERATOR_SOCKET=" + path}, args...).ends(t)
			if status != 1 || !strings.Contains(said, "the receiver at "+path+" has not answered for 10s: it may be restarting, or fail to start") {
				t.Errorf("%d %s", status, said)
			}
		})
	}
}

func TestAnInterruptedCommandSaysSo(t *testing.T) {
	t.Parallel()
	p := build(t)
	for _, c := range []struct {
		signal syscall.Signal
		args   []string
		status int
		want   string
	}{
		{syscall.SIGINT, []string{"payments"}, 130, "tillhook: interrupted\n"},
		{syscall.SIGINT, []string{"verify"}, 130, "tillhook: interrupted\n"},
		{syscall.SIGINT, []string{"doctor"}, 130, "tillhook: interrupted\n"},
		{syscall.SIGTERM, []string{"export"}, 143, "tillhook: stopped by a signal (SIGTERM)\n"},
		{syscall.SIGINT, []string{"reconcile"}, 130, "tillhook: interrupted\n"},
	} {
		path, asked := silentSocket(t)
		command := p.typed(t, []string{"TILLHOOK_DATA_DIR=", "TILLHOOK_OPERATOR_SOCKET=" + path}, c.args...)
		<-asked
		if err := command.cmd.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
		if status, said := command.ends(t); status != c.status || said != c.want {
			t.Errorf("%v: %d %q", c.args, status, said)
		}
	}
}

// A prompt and a standard input that never end are left, too.
func TestAnInterruptedPrompt(t *testing.T) {
	t.Parallel()
	p := build(t)
	in, keep, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	defer in.Close()
	cmd := exec.Command(p.binary, "send", "-")
	var stderr strings.Builder
	cmd.Stdin, cmd.Stderr = in, &stderr
	cmd.Env = []string{"STRIPE_WEBHOOK_SECRET=" + secret, "TILLHOOK_DATA_DIR=" + p.dir}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := keep.Write(make([]byte, 100_000)); err != nil { // more than a pipe holds: it is being read then
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	_ = cmd.Wait() // its status says more
	if status := cmd.ProcessState.ExitCode(); status != 130 || stderr.String() != "tillhook: interrupted\n" {
		t.Errorf("%d %s", status, &stderr)
	}
}

// An answer of another program is not a success, even with status 200.
func TestSendRefusesAnswersOfOtherPrograms(t *testing.T) {
	t.Parallel()
	p := build(t)
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"a handler like Stripe's examples": {200, `{"received":true}`},
		"a page":                           {200, "<html>It works</html>"},
		"nothing":                          {200, ""},
		"an API":                           {400, `{"error":{"code":"invalid","message":"no"}}`},
		"a list":                           {200, `[1]`},
		"not found":                        {404, "404 page not found"},
	} {
		t.Run(name, func(t *testing.T) {
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Server", "shop/1.0")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer other.Close()
			address := strings.TrimPrefix(other.URL, "http://")
			status, said := p.typed(t, []string{"TILLHOOK_LISTEN=" + address}, "send", "--type", "payment_intent.succeeded").ends(t)
			if status != 1 || !strings.Contains(said, "is not Tillhook (shop/1.0): nothing was delivered; TILLHOOK_LISTEN is where the receiver listens, and --to sends elsewhere") {
				t.Errorf("%d %s", status, said)
			}
		})
	}
	p.start(t)
	for _, typ := range []string{"payment_intent.succeeded", "v1.payment_intent.succeeded", "customer.created"} {
		if status, said := p.typed(t, nil, "send", "--type", typ).ends(t); status != 0 {
			t.Errorf("%s: %d %s", typ, status, said)
		}
	}
	if status, said := p.typed(t, nil, "send", "--type", "customer.created", "--age", "1h").ends(t); status != 1 || strings.Contains(said, "is not Tillhook") {
		t.Errorf("an old one: %d %s", status, said)
	}
}

// Where Stripe takes requests and never answers, commands say so in seconds.
func TestASilentStripe(t *testing.T) {
	t.Parallel()
	p := build(t)
	stripe := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(stripe.Close)
	env := []string{"STRIPE_SECRET_KEY=rk_test_aKeyOfNoAccount", "STRIPE_API_BASE=" + stripe.URL, "TILLHOOK_RECONCILE_EVERY=0"}
	p.env = env
	p.start(t)
	if status, said := p.typed(t, env, "payments").ends(t); status != 0 {
		t.Errorf("payments: %d %s", status, said)
	}
	const silence = "no answer from Stripe's API to /v1/webhook_endpoints: it accepted the request and sent nothing for 5s; " +
		"check this machine's network"
	for _, c := range []struct {
		want string
		most time.Duration // 0 for any
		args []string
	}{
		{"made no progress for 20s", 0, []string{"reconcile"}},
		{"tillhook: " + silence, 12 * time.Second, []string{"endpoint", "list"}},
		{"tillhook: " + silence, 12 * time.Second, []string{"endpoint", "create", "--url", "https://pay.haderer.example/x", "--yes"}},
		{"Stripe's API could not be asked: " + silence, 0, []string{"doctor"}},
	} {
		t.Run(strings.Join(c.args[:min(2, len(c.args))], " "), func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			status, said := p.typed(t, env, c.args...).ends(t)
			if !strings.Contains(said, c.want) || strings.Contains(said, "context") || status != 1 && c.args[0] != "doctor" {
				t.Errorf("%d %s", status, said)
			}
			if took := time.Since(begun); c.most != 0 && took > c.most {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A ledger that no receiver holds is read, whatever another receiver does.
func TestAFolderWithoutAReceiver(t *testing.T) {
	t.Parallel()
	p := build(t)
	p.start(t)
	if status, said := p.typed(t, nil, "send", "--type", "payment_intent.succeeded").ends(t); status != 0 {
		t.Fatal(said)
	}
	p.kill(t)
	path, asked := silentSocket(t)
	status, said := p.typed(t, []string{"TILLHOOK_OPERATOR_SOCKET=" + path}, "payments").ends(t)
	if status != 0 || !strings.Contains(said, "pi_") || len(asked) > 0 {
		t.Errorf("%d %s", status, said)
	}
}

// What a user may not read is not told as damaged.
func TestFilesOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file that it then may not read as another user")
	}
	p := build(t)
	content, err := os.ReadFile(p.binary)
	if err != nil {
		t.Fatal(err)
	}
	open, err := os.MkdirTemp("", "tillhook") // a test's own folder is in one that only root may enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(open)
	binary, dir := filepath.Join(open, "tillhook"), filepath.Join(open, "data")
	file := filepath.Join(dir, "ledger.db")
	if err := errors.Join(os.Chmod(open, 0o755), os.WriteFile(binary, content, 0o755), os.Mkdir(dir, 0o700), os.WriteFile(file, []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"cannot be read by this user: run this as root": {"verify", file},
		"(permission denied); run this as root":         {"rebuild"},
	} {
		cmd := exec.Command(binary, args...)
		cmd.Dir = "/"
		cmd.Env = []string{"TILLHOOK_DATA_DIR=" + dir, "STRIPE_MODE=test"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "sound") {
			t.Errorf("%v: %v, %s", args, err, out)
		}
	}
}
