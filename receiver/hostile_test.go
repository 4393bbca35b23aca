package receiver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tillhook/receiver/server/servertest"
	"tillhook/receiver/stripe"
)

// hostile are what attackers send on a connection, and then nothing more.
var hostile = []struct {
	name string
	send func(w io.Writer) error
}{
	{"nothing", func(io.Writer) error { return nil }},
	{"half a header of many lines", func(w io.Writer) error {
		lines := strings.Builder{}
		for i := range 120 {
			fmt.Fprintf(&lines, "%x:\r\n", i)
		}
		_, err := io.WriteString(w, "POST "+hook+" HTTP/1.1\r\nHost: shop\r\n"+lines.String())
		return err
	}},
	{"half a header of one line", func(w io.Writer) error {
		_, err := io.WriteString(w, "POST "+hook+" HTTP/1.1\r\nX: "+strings.Repeat("x", 15<<10))
		return err
	}},
	{"a large header and a little of a body", func(w io.Writer) error {
		_, err := io.WriteString(w, hostileHead(1<<20, strings.Repeat("x", 14<<10))+strings.Repeat(" ", 60<<10))
		return err
	}},
	{"most of a large body", func(w io.Writer) error {
		if _, err := io.WriteString(w, hostileHead(1<<20, "")); err != nil {
			return err
		}
		_, err := w.Write(bytes.Repeat([]byte(" "), 1<<20-100))
		return err
	}},
	{"a body in chunks without an end", func(w io.Writer) error {
		_, err := io.WriteString(w, "POST "+hook+" HTTP/1.1\r\nHost: shop\r\nStripe-Signature: t=1,v1=00\r\nTransfer-Encoding: chunked\r\n\r\n40000\r\n"+strings.Repeat(" ", 1<<18))
		return err
	}},
}

func hostileHead(length int, more string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: shop\r\nX: %s\r\nStripe-Signature: t=1,v1=00\r\nContent-Length: %d\r\n\r\n", hook, more, length)
}

// flood makes that many attempts to connect, with a pause between two, and holds each
// connection until the server closes it or ctx ends.
func (p *program) flood(ctx context.Context, attempts int, pause time.Duration) (connected *atomic.Int64, wait func()) {
	var group sync.WaitGroup
	connected = new(atomic.Int64)
	dialing := make(chan struct{}, 200)
	group.Go(func() {
		for i := range attempts {
			time.Sleep(pause)
			select {
			case <-ctx.Done():
				return
			case dialing <- struct{}{}:
			}
			group.Go(func() {
				conn, err := net.DialTimeout("tcp", p.public, 10*time.Second)
				if err != nil {
					<-dialing
					return
				}
				defer conn.Close()
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				defer stop()
				connected.Add(1)
				_ = p.offend(ctx, conn, i) // what becomes of it is up to the server
				<-dialing
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	return connected, group.Wait
}

// offend sends what the i-th attacker sends. In the short form most of it is cheap for the
// attackers, too.
func (p *program) offend(ctx context.Context, conn net.Conn, i int) error {
	bad := hostile[i%3]
	if i%8 == 7 || *long {
		bad = hostile[(i+i/8)%len(hostile)]
	}
	if !p.secure {
		return bad.send(conn)
	}
	if i%4 < 2 && !*long { // half a handshake
		_, err := io.WriteString(conn, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("x", 300*(i%2)))
		return err
	}
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := secured.HandshakeContext(ctx); err != nil {
		return err
	}
	return bad.send(secured)
}

// honest delivers an event of a size on a connection of its own.
func (p *program) honest(ctx context.Context, roots *x509.CertPool, n int64, size int) error {
	_, body := ownEvent([]byte(`{"id":"evt_large","object":"event","type":"invoice.paid","livemode":false,"created":1793534000,"data":{"object":{"object":"invoice","id":"in_1"}}}`), n)
	if pad := size - len(body) - 12; pad > 0 {
		body = append([]byte(`{"padding":"`+strings.Repeat("0123456789abcdef", pad/16)+`",`), body[1:]...)
	}
	scheme := "http://"
	if p.secure {
		scheme = "https://"
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "hooks.example.com"}}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+p.public+hook, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Stripe-Signature", stripe.Sign(body, secret, time.Now()))
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %d %s", resp.StatusCode, answer)
	}
	return nil
}

// peak is the most memory that the program ever had. proc_pid_status(5)
func (p *program) peak(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	line, _, _ := strings.Cut(rest, " kB")
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// Thousands of attackers with everything that is slow and large take little memory, and keep out no
// honest event, whatever its size.
func TestHostileConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes 8,000 connections twice")
	}
	const attempts, most = 8000, 250 << 20
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if files.Cur < attempts+1000 {
		lacks(t, fmt.Sprintf("only %d files may be open", files.Cur))
	}
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) {
			dir := t.TempDir()
			certFile, keyFile, cert := servertest.SelfSigned(t, dir, "hooks.example.com", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			roots := x509.NewCertPool()
			roots.AddCert(cert)
			p := build(t)
			if p.secure = secure; secure {
				p.env = []string{"TILLHOOK_TLS_CERT=" + certFile, "TILLHOOK_TLS_KEY=" + keyFile}
			}
			p.env = append(p.env, "TILLHOOK_OPERATOR_SOCKET="+filepath.Join(dir, "o.sock"))
			p.start(t)
			ctx, end := context.WithTimeout(t.Context(), 5*time.Minute)
			connected, wait := p.flood(ctx, attempts, 0)
			var n, failed, during, failedDuring atomic.Int64
			var senders sync.WaitGroup
			crowdEnd := make(chan struct{})
			defer senders.Wait()
			sizes := []int{2 << 10, 64 << 10, 300 << 10, 1 << 20}
			for range 4 {
				senders.Go(func() {
					for {
						i := n.Add(1)
						err := p.honest(ctx, roots, i, sizes[i%4])
						select {
						case <-crowdEnd:
							return
						default:
						}
						growing := connected.Load() < attempts
						if growing {
							during.Add(1)
						}
						if err != nil {
							failed.Add(1)
							if growing {
								failedDuring.Add(1)
							}
							t.Logf("event %d of %d bytes, after %d attackers: %v", i, sizes[i%4], connected.Load(), err)
						}
					}
				})
			}
			begun := time.Now()
			comesIn(t, 4*time.Minute, "all attackers have tried", func() bool { return connected.Load() == attempts })
			t.Logf("all tried after %s", time.Since(begun))
			time.Sleep(2 * time.Second)
			close(crowdEnd)
			senders.Wait()
			t.Logf("%d honest events, %d failed; while they came %d and %d; peak %d MiB", n.Load(), failed.Load(), during.Load(), failedDuring.Load(), p.peak(t)>>20)
			if peak := p.peak(t); peak > most {
				t.Errorf("it took %d MiB", peak>>20)
			}
			// While they come, this machine's processors are as busy with them as the program's.
			if late, early := failed.Load()-failedDuring.Load(), failedDuring.Load(); late > 0 || early > during.Load()/4 {
				t.Errorf("%d honest events failed while the attackers came, and %d afterwards", early, late)
			}
			end()
			wait()
		})
	}
}
