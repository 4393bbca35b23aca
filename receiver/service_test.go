package receiver_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
	"tillhook/receiver/stripe/stripetest"
)

// manager is a service manager as a program sees it: sockets it was passed, and a reader
// of its messages.
type manager struct {
	sockets []*os.File
	names   []string
	notify  string

	mu       sync.Mutex // guards told
	messages []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{notify: filepath.Join(t.TempDir(), "notify")}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		for buf := make([]byte, 4096); ; {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.messages = append(m.messages, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-listening
	})
	return m
}

// pass opens a socket for the program, which stays open whatever becomes of that.
func (m *manager) pass(t *testing.T, name string, l interface {
	net.Listener
	File() (*os.File, error)
}) {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = f.Close(), l.Close() })
	m.sockets, m.names = append(m.sockets, f), append(m.names, name)
}

func (m *manager) passTCP(t *testing.T, name string) (address string) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	m.pass(t, name, l)
	return l.Addr().String()
}

// run starts serve as the service manager does, without waiting for it.
func (m *manager) run(t *testing.T, p *program, env ...string) {
	t.Helper()
	p.cmd = exec.Command("sh", "-c", "LISTEN_PID=$$ exec "+p.binary+" serve") // sd_listen_fds(3): the process that is meant
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + m.notify, "LISTEN_FDS=" + string(rune('0'+len(m.sockets))),
		"LISTEN_FDNAMES=" + strings.Join(m.names, ":"), "STRIPE_MODE=test", "TILLHOOK_DATA_DIR=" + p.dir, "TILLHOOK_OPERATOR_LISTEN=off", "TILLHOOK_LISTEN=" + p.public}, env...)
	p.cmd.ExtraFiles, p.cmd.Stderr = m.sockets, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// has counts the messages with a text in them.
func (m *manager) has(text string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, message := range m.messages {
		if strings.Contains(message, text) {
			n++
		}
	}
	return n
}

// ends asks the program to stop, if asked to, and returns its exit status.
func (p *program) ends(t *testing.T, sig os.Signal) int {
	t.Helper()
	if sig != nil {
		if err := p.cmd.Process.Signal(sig); err != nil {
			t.Error(err)
		}
	}
	late := time.AfterFunc(15*time.Second, func() {
		t.Error("it does not end")
		_ = p.cmd.Process.Kill() // it may have ended meanwhile
	})
	_ = p.cmd.Wait() // its status matters
	late.Stop()
	status := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return status
}

// Sockets that were passed are served in place of the configured ones, and a caller that comes
// while no receiver runs is answered by the next.
func TestPassedSockets(t *testing.T) {
	t.Parallel()
	m, p := newManager(t), build(t)
	public := m.passTCP(t, "public")
	m.passTCP(t, "http") // for challenges that no server asks for: the webhook listener speaks no TLS for that
	path := filepath.Join(t.TempDir(), "operator.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	m.pass(t, "operator", l)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	target := *p
	target.public = public
	template := sample(t, "payment_intent.succeeded")
	for round := range int64(3) {
		answered := make(chan string, 1)
		_, body := ownEvent(template, round)
		go func() { answered <- target.once(context.Background(), client, body) }()
		time.Sleep(50 * time.Millisecond) // it waits in the socket now
		m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret)
		if answer := <-answered; answer != "200" {
			t.Fatalf("who called before the start was answered %s", answer)
		}
		if answer, err := operator.Dial(path).Get(t.Context(), "/api/events", nil); err != nil || !bytes.Contains(answer, []byte("evt_")) {
			t.Errorf("the operator's socket answered %.80q, %v", answer, err)
		}
		if conn, err := net.Dial("tcp", p.public); err == nil {
			t.Fatal("it listens on TILLHOOK_LISTEN, too", conn.Close())
		}
		if status := p.ends(t, syscall.SIGTERM); status != 0 {
			t.Errorf("it ended with %d", status)
		}
	}
	comes(t, "the service manager is told of three starts and stops", func() bool { return m.has("READY=1\nSTATUS=test mode") == 3 && m.has("STOPPING=1") == 3 })
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the operator's socket is gone: %v", err)
	}
	if !strings.Contains(p.log.String(), "TILLHOOK_LISTEN is not used") {
		t.Error("the log does not tell that the passed socket counts")
	}
}

// What cannot start turns away who waits, says why, and is not to be started again. To the service
// manager the start is over before anybody is answered: a start that is asked for after the answer
// must read the settings anew.
func TestAPassedSocketAndNoConfiguration(t *testing.T) {
	t.Parallel()
	m, p := newManager(t), build(t)
	target := *p
	target.public = m.passTCP(t, "public")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	_, body := ownEvent(sample(t, "payment_intent.succeeded"), 1)
	for range 2 {
		answered := make(chan string, 1)
		go func() { answered <- target.once(context.Background(), client, body) }()
		time.Sleep(50 * time.Millisecond)
		m.run(t, p, "STRIPE_WEBHOOK_SECRET=we_1QbD7sKvHadernBl")
		if answer := <-answered; answer != "503 not_configured" {
			t.Errorf("who called was answered %s", answer)
		}
		comes(t, "the start is over", func() bool { return m.has("STOPPING=1") > 0 })
		if status := p.ends(t, nil); status != 78 {
			t.Errorf("it ended with %d", status)
		}
	}
	want := []string{"READY=1", `STOPPING=1|STATUS=Not configured: the configuration has an error: STRIPE_WEBHOOK_SECRET starts with "we_"`}
	comes(t, "the service manager is told", func() bool {
		return m.has(`STATUS=Not configured: the configuration has an error: STRIPE_WEBHOOK_SECRET starts with "we_"`) == 2
	})
	if m.messages[0] != want[0] || !strings.HasPrefix(strings.ReplaceAll(m.messages[1], "\n", "|"), want[1]) {
		t.Errorf("the service manager was told %q", m.messages)
	}
}

// Without a waiting caller, a start that fails is told as one.
func TestNoConfigurationAndNoCaller(t *testing.T) {
	t.Parallel()
	m, p := newManager(t), build(t)
	m.passTCP(t, "public")
	m.run(t, p, "STRIPE_WEBHOOK_SECRET=we_1QbD7sKvHadernBl", "STRIPE_MODE=both")
	if status := p.ends(t, nil); status != 78 {
		t.Errorf("it ended with %d", status)
	}
	comes(t, "the faults are told, apart", func() bool {
		return m.has("STATUS=Not configured: the configuration has 2 errors: ") == 1 && m.has("Reveal); STRIPE_MODE ") == 1
	})
	if m.has("READY=1") != 0 {
		t.Errorf("the service manager was told %q", m.messages)
	}
}

// A socket under a name that means nothing is not served, and reported.
func TestAPassedSocketOfAnotherName(t *testing.T) {
	t.Parallel()
	m, p := newManager(t), build(t)
	m.passTCP(t, "tillhook.socket")
	m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret)
	if status := p.ends(t, nil); status != 78 || !strings.Contains(p.log.String(), "FileDescriptorName=public") {
		t.Errorf("it ended with %d and said %s", status, &p.log)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // else under nohup the receiver would inherit that it is ignored
	m, p := newManager(t), build(t)
	target := *p
	target.public = m.passTCP(t, "public")
	file := filepath.Join(t.TempDir(), "secret")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("whsec_theOldOne")
	m.run(t, p, "STRIPE_WEBHOOK_SECRET_FILE="+file)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	n := int64(0)
	answer := func(secret string) string {
		n++
		_, body := ownEvent(sample(t, "payment_intent.succeeded"), n)
		return target.onceSigned(t.Context(), client, body, stripe.Sign(body, secret, time.Now()))
	}
	reloads := 0
	reload := func() {
		t.Helper()
		reloads++
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		comes(t, "the reload ends", func() bool {
			return m.has("RELOADING=1\nMONOTONIC_USEC=") == reloads && m.has("READY=1") == reloads+1
		})
	}
	for i, step := range []struct{ file, oldAnswer, newAnswer string }{
		{"whsec_theOldOne,whsec_theNewOne\n", "200", "200"},
		{"whsec_theNewOne\n", "400", "200"},
		{"we_wrong", "400", "200"}, // refused: what was stays
		{"", "400", "200"},
		{"whsec_te", "400", "200"}, // half written
		{"whsec_theOldOne", "200", "400"},
	} {
		if i == 0 {
			if got := answer("whsec_theOldOne"); got != "200" {
				t.Errorf("at first the old secret was answered %s", got)
			}
		}
		put(step.file)
		reload()
		if got := answer("whsec_theOldOne"); got != step.oldAnswer {
			t.Errorf("step %d: the old secret was answered %s, want %s", i+1, got, step.oldAnswer)
		}
		if got := answer("whsec_theNewOne"); got != step.newAnswer {
			t.Errorf("step %d: the new secret was answered %s, want %s", i+1, got, step.newAnswer)
		}
	}
	if status := p.ends(t, syscall.SIGTERM); status != 0 {
		t.Errorf("it ended with %d", status)
	}
	log := p.log.String()
	if strings.Count(log, "not reloaded: the configuration stays as it is") != 3 || !strings.Contains(log, `starts with \"we_\"`) || !strings.Contains(log, "holds a part of a secret") {
		t.Errorf("the log does not tell what was refused:\n%s", log)
	}
	if strings.Contains(log, "whsec_the") {
		t.Errorf("a secret is in the log:\n%s", log)
	}
	if m.has("READY=1") != reloads+1 {
		t.Errorf("READY was told %d times", m.has("READY=1"))
	}
	m.run(t, p, "STRIPE_WEBHOOK_SECRET=whsec_theOldOne")
	comes(t, "it is ready", func() bool { return m.has("READY=1") == reloads+2 })
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	comes(t, "the reload ends", func() bool { return m.has("READY=1") == reloads+3 })
	p.ends(t, syscall.SIGTERM)
	if !strings.Contains(p.log.String(), "from the environment: a change needs a restart") {
		t.Errorf("the log does not tell that a restart is needed:\n%s", &p.log)
	}
}

// A reload reads the API key's file, too. One that is refused is a finding until the next one.
func TestReloadOfTheAPIKey(t *testing.T) {
	t.Parallel()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // else under nohup the receiver would inherit that it is ignored
	account := stripetest.New(t)
	m, p := newManager(t), build(t)
	m.passTCP(t, "public")
	file, socket := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "o.sock")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("rk_test_51RolledMeanwhileByStripe")
	m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret, "STRIPE_SECRET_KEY_FILE="+file, "STRIPE_API_BASE="+account.URL,
		"TILLHOOK_RECONCILE_EVERY=0", "TILLHOOK_OPERATOR_SOCKET="+socket)
	comes(t, "it is ready", func() bool { return m.has("READY=1") == 1 })
	client := operator.Dial(socket)
	compare := func() error {
		_, err := client.Post(t.Context(), "/api/reconcile", nil)
		return err
	}
	if err := compare(); err == nil {
		t.Error("Stripe took a key that is not the account's")
	}
	for reloads, step := range []struct {
		file    string
		refused bool
	}{{account.Key, false}, {account.Key[:10], true}, {account.Key, false}} {
		put(step.file)
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		comes(t, "the reload ends", func() bool { return m.has("READY=1") == reloads+2 })
		if err := compare(); err != nil {
			t.Errorf("with %d characters in the file: %v", len(step.file), err)
		}
		summary, err := client.Get(t.Context(), "/api/summary", nil)
		if err != nil || bytes.Contains(summary, []byte(`"code":"reload"`)) != step.refused {
			t.Errorf("with %d characters in the file the health is %s, %v", len(step.file), summary, err)
		}
	}
	if status := p.ends(t, syscall.SIGTERM); status != 0 || strings.Count(p.log.String(), "api_key=\"read again\"") != 2 {
		t.Errorf("it ended with %d and said %s", status, &p.log)
	}
}

// The watchdog is fed while the disk is full, and not while it hangs.
func TestTheWatchdog(t *testing.T) {
	t.Parallel()
	needsRoot(t, "fsfreeze")
	d := newDisk(t, 32)
	m, p := newManager(t), build(t)
	target := *p
	target.public = m.passTCP(t, "public")
	p.dir = filepath.Join(d.dir, "data")
	m.run(t, p, "STRIPE_WEBHOOK_SECRET="+secret, "WATCHDOG_USEC=400000", "TILLHOOK_OPERATOR_SOCKET="+filepath.Join(t.TempDir(), "o.sock"))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	n := int64(0)
	post := func() string {
		n++
		_, body := ownEvent(sample(t, "payment_intent.succeeded"), n)
		return target.once(context.Background(), client, body)
	}
	fed := func(what string) {
		t.Helper()
		before := m.has("WATCHDOG=1")
		comes(t, "the watchdog is fed "+what, func() bool { return m.has("WATCHDOG=1") >= before+3 })
	}
	fed("when all is well")

	filler := filepath.Join(d.dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	_, full := io.Copy(f, zeros{})
	if err := f.Close(); err != nil || full == nil {
		t.Fatal("the disk is not full: ", err)
	}
	comes(t, "an event is refused", func() bool { return strings.HasPrefix(post(), "503") })
	comes(t, "the fault is told", func() bool {
		post()
		return m.has("STATUS=FAULT: every event is answered 503") > 0
	})
	fed("while the disk is full")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	comes(t, "events are taken again", func() bool { return post() == "200" })

	command(t, "fsfreeze", "-f", d.dir)
	frozen := true
	t.Cleanup(func() { // before the receiver is killed, which ends only when its sync does
		if frozen {
			_ = exec.Command("fsfreeze", "-u", d.dir).Run()
		}
	})
	thawed := make(chan struct{})
	go func() {
		post() // which hangs in its sync
		close(thawed)
	}()
	comes(t, "the hang is told", func() bool {
		return m.has("STATUS=FAULT: every event is answered 503: the ledger is not available: a disk operation has not returned") > 0
	})
	before := m.has("WATCHDOG=1")
	time.Sleep(time.Second)
	if now := m.has("WATCHDOG=1"); now != before {
		t.Errorf("the watchdog was fed %d times while a sync hung", now-before)
	}
	command(t, "fsfreeze", "-u", d.dir)
	frozen = false
	<-thawed
	fed("when the disk answers again")
	if status := p.ends(t, syscall.SIGTERM); status != 0 {
		t.Errorf("it ended with %d", status)
	}
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
