package operator_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/operator"
	"tillhook/receiver/server"
)

// journal is a log that can be read while it is written.
type journal struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// heavy is a ledger of more bytes than a connection takes while its client does not read: 6 MiB
// that do not compress.
func heavy(t *testing.T) *ledger.Ledger {
	t.Helper()
	l := ledgertest.Open(t, false)
	noise := rand.NewChaCha8([32]byte{7})
	for i := range 6 {
		raw := make([]byte, 1<<20)
		if _, err := noise.Read(raw); err != nil {
			t.Fatal(err)
		}
		appendEvent(t, l, &ledger.Event{ID: fmt.Sprintf("evt_heavy_%d", i), Type: "x", Source: ledger.Webhook, Received: time.Unix(5000, 0), Raw: raw})
	}
	return l
}

// serve serves a handler with the settings of the real server, until the test ends.
func serve(t *testing.T, l net.Listener, h http.Handler, log *slog.Logger) {
	t.Helper()
	s := server.New(l, h, log)
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
}

// begin sends a request on a connection of its own and returns the answer once its header is there.
// The rest is read when the test reads it.
func begin(t *testing.T, conn net.Conn, method, path string) *http.Response {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	r, err := http.NewRequest(method, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// eventually waits up to 10 s until is returns true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 10 s: %s", what)
		}
	}
}

// ask is get with a method.
func ask(h http.Handler, method, target string, change func(r *http.Request)) *httptest.ResponseRecorder {
	return get(h, target, func(r *http.Request) {
		r.Method = method
		if change != nil {
			change(r)
		}
	})
}

func TestABackupIsALedger(t *testing.T) {
	l := filled(t).Ledger
	for name, open := range map[string]func() (io.ReadCloser, error){
		"a receiver's": func() (io.ReadCloser, error) {
			w := get(operator.New(operator.Options{Ledger: l, Log: slog.New(slog.DiscardHandler)}).Socket(), "/api/backup", nil)
			if h := w.Header(); w.Code != 200 || h.Get("Content-Type") != "application/octet-stream" || h.Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
				return nil, fmt.Errorf("got %d, %d bytes, %v", w.Code, w.Body.Len(), h)
			}
			return io.NopCloser(w.Body), nil
		},
		"without a receiver": func() (io.ReadCloser, error) { return operator.Local(l).Open(t.Context(), "/api/backup", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := open()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "ledger.db")
			copied, err := io.ReadAll(answer)
			if err := errors.Join(err, answer.Close(), os.WriteFile(path, copied, 0o600)); err != nil {
				t.Fatal(err)
			}
			proof, err := check.Verify(t.Context(), path)
			if err != nil || !proof.Sound || proof.Events != 13 || proof.Payments != 12 || proof.Quarantined != 1 || proof.Bodies != 13 {
				t.Errorf("the copy is %+v, %v", proof, err)
			}
			again, err := ledger.OpenReadOnly(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			want, wantErr := l.Payment("pi_03")
			if got, err := again.Payment("pi_03"); errors.Join(err, wantErr) != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("the copy holds %+v, the ledger %+v, %v, %v", got, want, err, wantErr)
			}
		})
	}
}

// Two clients ask for a copy and do not read it. Events are written and questions answered all the
// same; a third copy is refused with the reason, and there is space again when the two are gone.
func TestStalledClientsHoldUpNothing(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			var log journal
			l := heavy(t)
			op := operator.New(operator.Options{Ledger: l, Log: log.logger(), Verify: func(context.Context, string) (*check.Report, error) {
				return &check.Report{Object: "proof", Sound: true}, nil
			}})
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(t.TempDir(), "s")
			}
			listener, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			serve(t, listener, op.Socket(), log.logger())
			var stalled []net.Conn
			for range 2 {
				conn := dial(t, listener)
				if c, ok := conn.(*net.TCPConn); ok {
					if err := c.SetReadBuffer(64 << 10); err != nil {
						t.Fatal(err)
					}
				}
				resp := begin(t, conn, "GET", "/api/backup")
				if resp.StatusCode != 200 || resp.ContentLength < 6<<20 {
					t.Fatalf("a copy was answered %d with %d bytes", resp.StatusCode, resp.ContentLength)
				}
				stalled = append(stalled, conn)
			}

			for i := range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if _, err := l.Append(ctx, &ledger.Event{ID: fmt.Sprintf("evt_meanwhile_%d", i), Type: "x", Source: ledger.Webhook, Received: time.Unix(1, 0), Raw: []byte("{}")}); err != nil {
					t.Errorf("an event meanwhile: %v", err)
				}
				cancel()
			}
			for _, c := range []struct {
				method, path string
				status       int
			}{{"GET", "/api/backup", 503}, {"GET", "/api/export", 503}, {"POST", "/api/verify", 503}, {"GET", "/api/summary", 200}, {"GET", "/api/events", 200}} {
				resp := begin(t, dial(t, listener), c.method, c.path)
				text, err := io.ReadAll(resp.Body)
				if resp.StatusCode != c.status || err != nil || c.status == 503 && !bytes.HasPrefix(text, []byte(`{"error":{"code":"overloaded","message":"2 exports or copies of the ledger are in progress`)) {
					t.Errorf("%s meanwhile: %d %s %v", c.path, resp.StatusCode, text, err)
				}
			}

			for _, conn := range stalled {
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "both slots are free again", func() bool { return strings.Count(log.String(), "a client did not read a download completely") == 2 })
			resp := begin(t, dial(t, listener), "GET", "/api/backup")
			if n, err := io.Copy(io.Discard, resp.Body); resp.StatusCode != 200 || n != resp.ContentLength || err != nil {
				t.Errorf("a copy afterwards: %d, %d bytes of %d, %v", resp.StatusCode, n, resp.ContentLength, err)
			}
			if text := log.String(); strings.Contains(text, "panic") || strings.Contains(text, "level=ERROR") || strings.Count(text, "level=WARN") != 2 {
				t.Errorf("the log is\n%s", text)
			}
		})
	}
}

// A copy that is under way to a client that does not read is aborted when the receiver stops.
func TestStoppingBreaksCopiesOff(t *testing.T) {
	var log journal
	stopping, stop := context.WithCancel(t.Context())
	op := operator.New(operator.Options{Ledger: heavy(t), Log: log.logger(), Stopping: stopping})
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, listener, op.Socket(), log.logger())
	conn := dial(t, listener)
	begin(t, conn, "GET", "/api/backup")
	stop()
	eventually(t, "the copy was broken off", func() bool { return strings.Contains(log.String(), "a client did not read a download completely") })
}

// full is a client that accepts no more than some bytes.
type full struct {
	*httptest.ResponseRecorder
	space int
}

func (f *full) Write(b []byte) (int, error) {
	n := min(len(b), f.space)
	f.space -= n
	_, _ = f.ResponseRecorder.Write(b[:n])
	if n < len(b) {
		return n, errors.New("the client is gone")
	}
	return n, nil
}

// A download that cannot be sent completely is aborted, so that no client takes a part for the
// whole. Each time its semaphore is released.
func TestIncompleteDownloadsAreAborted(t *testing.T) {
	var log journal
	handler := operator.New(operator.Options{Ledger: filled(t).Ledger, Log: log.logger()}).Socket()
	for i := range 5 {
		w := &full{httptest.NewRecorder(), 1000}
		func() {
			defer func() {
				if got := recover(); got != http.ErrAbortHandler {
					t.Errorf("the answer ended with %v", got)
				}
			}()
			handler.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+[]string{"/api/backup", "/api/export?kind=payments"}[i%2], nil))
		}()
		if w.Code != 200 || w.Body.Len() != 1000 {
			t.Errorf("it began with %d and %d bytes", w.Code, w.Body.Len())
		}
	}
	if text := log.String(); strings.Count(text, "level=WARN msg=\"a client did not read a download completely\"") != 5 || strings.Count(text, "level=") != 5 {
		t.Errorf("the log is\n%s", text)
	}
}

// pipes is a listener in memory, for tests with fake time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// A client may read a copy slowly, but may not stop for too long.
func TestAClientMayBeSlowButNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		l := newPipes()
		serve(t, l, operator.New(operator.Options{Ledger: heavy(t), Log: log.logger()}).Socket(), log.logger())

		slow := begin(t, l.dial(), "GET", "/api/backup")
		begun := time.Now()
		got := int64(0)
		for {
			n, err := io.CopyN(io.Discard, slow.Body, 256<<10)
			if got += n; err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("after %d bytes and %s: %v", got, time.Since(begun), err)
			}
			time.Sleep(100 * time.Second)
		}
		if took := time.Since(begun); got != slow.ContentLength || took < 30*time.Minute {
			t.Errorf("got %d bytes of %d in %s", got, slow.ContentLength, took)
		}
		if text := log.String(); strings.Contains(text, "level=WARN") {
			t.Errorf("the log is\n%s", text)
		}

		stopped := begin(t, l.dial(), "GET", "/api/backup")
		if _, err := io.CopyN(io.Discard, stopped.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		if n, err := io.Copy(io.Discard, stopped.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after 3 minutes without reading there were %d bytes more, %v", n, err)
		}
		if text := log.String(); strings.Count(text, "level=WARN") != 1 || strings.Contains(text, "panic") {
			t.Errorf("the log is\n%s", text)
		}
	})
}

func TestVerify(t *testing.T) {
	l := filled(t).Ledger
	for _, c := range []struct {
		what   string
		verify func(ctx context.Context, path string) (*check.Report, error)
		status int
		want   string
	}{
		{"a sound ledger", func(_ context.Context, path string) (*check.Report, error) { return check.Verify(t.Context(), path) }, 200, `{"object":"proof","sound":true,"path":"` + l.Path() + `","mode":"test",`},
		{"one that is not", func(_ context.Context, path string) (*check.Report, error) {
			return &check.Report{Object: "proof", Path: path, Faults: []string{"</b>"}}, errors.New("the ledger is not sound")
		}, 200, `{"object":"proof","sound":false,"path":"` + l.Path() + `","mode":"",`},
		{"a copy that does not open", func(context.Context, string) (*check.Report, error) { return nil, errors.New("it does not open") }, 500, `{"error":{"code":"storage_unavailable","message":"it does not open"}}`},
		{"no receiver", nil, 404, `{"error":{"code":"not_found","message":"no receiver is running; tillhook verify reads the ledger itself"}}`},
	} {
		var looked string
		verify := c.verify
		if verify != nil {
			verify = func(ctx context.Context, path string) (*check.Report, error) {
				looked = path
				return c.verify(ctx, path)
			}
		}
		handler := operator.New(operator.Options{Ledger: l, Log: slog.New(slog.DiscardHandler), Verify: verify}).Socket()
		for range 3 { // the place is given back
			w := ask(handler, "POST", "/api/verify", nil)
			if w.Code != c.status || !strings.HasPrefix(w.Body.String(), c.want) {
				t.Errorf("%s: got %d %s, want %d %s", c.what, w.Code, w.Body, c.status, c.want)
			}
		}
		if looked == l.Path() {
			t.Errorf("%s: the ledger itself was looked through while it is written", c.what)
		}
		if _, err := os.Stat(looked); looked != "" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: its copy is left behind: %v", c.what, err)
		}
	}
	handler := operator.New(operator.Options{Ledger: l, Verify: func(context.Context, string) (*check.Report, error) { panic("looked through") }}).Socket()
	if w := ask(handler, "POST", "/api/verify?path=/etc/passwd", nil); w.Code != 400 {
		t.Errorf("a path of the caller's choice gave %d %s", w.Code, w.Body)
	}
}

// A proof takes as long as it takes, and ends when no client waits for it any more.
func TestAProofTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log journal
		l := newPipes()
		var brokenOff atomic.Int64
		serve(t, l, operator.New(operator.Options{Ledger: ledgertest.Open(t, false), Log: log.logger(), Verify: func(ctx context.Context, path string) (*check.Report, error) {
			select {
			case <-ctx.Done():
				brokenOff.Add(1)
				return nil, ctx.Err()
			case <-time.After(time.Hour):
				return &check.Report{Object: "proof", Sound: true}, nil
			}
		}}).Socket(), log.logger())

		resp := begin(t, l.dial(), "POST", "/api/verify")
		if text, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || err != nil || !bytes.Contains(text, []byte(`"sound":true`)) || brokenOff.Load() != 0 {
			t.Errorf("after an hour: %d %s %v", resp.StatusCode, text, err)
		}

		for range 3 {
			conn := l.dial()
			if _, err := io.WriteString(conn, "POST /api/verify HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // it is under way
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := brokenOff.Load(); n != 3 {
			t.Errorf("%d of 3 proofs without a waiting client were canceled", n)
		}
	})
}
