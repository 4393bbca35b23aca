package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/cli"
	"tillhook/receiver/config"

	"golang.org/x/sys/unix"
)

// screen is a terminal with the text that was written to it.
type screen struct {
	*os.File
	mu   sync.Mutex
	text []byte
	grew chan struct{}
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals here: ", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{File: slave, grew: make(chan struct{}, 1)}
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.text = append(s.text, buf[:n]...)
			s.mu.Unlock()
			select {
			case s.grew <- struct{}{}:
			default:
			}
			if err != nil { // EIO: no process has it open any more
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = slave.Close()
		reading.Wait()
		_ = master.Close()
	})
	return s
}

func (s *screen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

// waitFor returns once the text matches a pattern.
func (s *screen) waitFor(t *testing.T, pattern string) {
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for !regexp.MustCompile(pattern).MatchString(s.shown()) {
		select {
		case <-s.grew:
		case <-late.C:
			t.Errorf("%q was not shown, but %q", pattern, s.shown())
			return
		}
	}
}

// Long work shows its duration and progress on a terminal, and erases that at the end.
func TestProgressOnATerminal(t *testing.T) {
	var show func()
	environ := answering(t, func(r *http.Request) (int, string) {
		if r.Method == http.MethodGet && r.URL.Path == "/api/reconcile" {
			return 200, `{"running":true,"recovered":7}`
		}
		show()
		return 200, map[string]string{"/api/verify": `{"object":"proof","sound":true}`, "/api/reconcile": `{}`}[r.URL.Path]
	})
	for _, c := range []struct {
		args   []string
		status int
		shows  string
	}{
		{[]string{"verify"}, 0, `\r\x1b\[KVerifying the ledger: 0 s`},
		{[]string{"export"}, 0, `\r\x1b\[KExporting: \d+ s`},
		{[]string{"backup", filepath.Join(t.TempDir(), "copy.db")}, 78, `\r\x1b\[KCopying the ledger: \d+ s`},
		{[]string{"reconcile"}, 0, `\r\x1b\[KComparing with Stripe: \d+ s, \[ *\] up to 1970-01-01 00:00 UTC, 7 rec`},
	} {
		terminal := newScreen(t)
		show = func() { terminal.waitFor(t, c.shows) }
		var out bytes.Buffer
		status := (&cli.Program{Environ: environ, Stdout: &out, Stderr: terminal.File}).Run(t.Context(), c.args)
		terminal.waitFor(t, `\r\x1b\[K([^\x1b]*\r\n)?$`) // wiped
		if status != c.status {
			t.Errorf("%v: status %d %s", c.args, status, terminal.shown())
		}
	}
	show = func() { time.Sleep(time.Second) } // for which a terminal would be shown something
	var errs bytes.Buffer
	if (&cli.Program{Environ: environ, Stdout: io.Discard, Stderr: &errs}).Run(t.Context(), []string{"verify"}); errs.Len() > 0 {
		t.Errorf("where there is no terminal it shows %q", errs.String())
	}
}

// Transferred bytes and the rows of a rebuild are counted.
func TestProgressSaysHowFar(t *testing.T) {
	terminal := newScreen(t)
	environ := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2000000")
		_, _ = w.Write(make([]byte, 500_000))
		_ = http.NewResponseController(w).Flush()
		terminal.waitFor(t, `Exporting: \d+ s, 0.5 of 2.0 MB`)
		_, _ = w.Write(make([]byte, 1_500_000))
	})
	status := (&cli.Program{Environ: environ, Stdout: io.Discard, Stderr: terminal.File}).Run(t.Context(), []string{"export"})
	if terminal.waitFor(t, `\r\x1b\[Kas of`); status != 0 {
		t.Errorf("export: status %d %s", status, terminal.shown())
	}

	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	var sellers sync.WaitGroup
	for i := range 2001 { // more than a rebuild writes at once
		sellers.Go(func() {
			e := &ledger.Event{ID: fmt.Sprintf("evt_%d", i), Type: "customer.created", Source: ledger.Webhook, Received: time.Unix(5000, 0), Raw: []byte("{}")}
			if _, err := l.Append(context.Background(), e); err != nil {
				t.Error(err)
			}
		})
	}
	sellers.Wait()
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	terminal = newScreen(t)
	decoded := 0
	p := &cli.Program{Environ: []string{"TILLHOOK_DATA_DIR=" + dir, "STRIPE_MODE=test"}, Stdout: io.Discard, Stderr: terminal.File, Ledger: func(c *config.Config) ledger.Options {
		return ledger.Options{Dir: c.DataDir, Livemode: c.Livemode, Decode: func([]byte) *ledger.Event {
			if decoded++; decoded == 2001 {
				terminal.waitFor(t, `Rebuilding \S+: \d+ s, 2000 of 2001 events`)
			}
			return &ledger.Event{Quarantine: ledger.Undecodable}
		}}
	}}
	status = p.Run(t.Context(), []string{"rebuild", "--decode"})
	if _ = terminal.Sync(); status != 0 {
		terminal.waitFor(t, "tillhook: .*\n")
		t.Errorf("rebuild: status %d %s", status, terminal.shown())
	}
}
