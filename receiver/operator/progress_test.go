package operator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
	"tillhook/receiver/operator"
)

// slowReconciler takes an hour, and gets on for as long as that says.
type slowReconciler struct {
	begun atomic.Pointer[time.Time]
	goods time.Duration
}

func (c *slowReconciler) Reconcile(ctx context.Context, _ time.Duration, _ bool) (any, error) {
	now := time.Now()
	c.begun.Store(&now)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Hour):
		return map[string]string{"object": "report"}, nil
	}
}

func (c *slowReconciler) Progress() any {
	begun := c.begun.Load()
	if begun == nil {
		return 0
	}
	return min(time.Since(*begun), c.goods)
}

// clientOf returns a client of a receiver's API, in a bubble of fake time.
func clientOf(t *testing.T, o operator.Options) *operator.Client {
	t.Helper()
	l := newPipes()
	o.Log = slog.New(slog.DiscardHandler)
	serve(t, l, operator.New(o).Socket(), o.Log)
	return operator.DialBy(func() (net.Conn, error) { return l.dial(), nil })
}

// A client waits for long work while it makes progress, and no longer.
func TestProgressIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &slowReconciler{goods: 2 * time.Hour}
		client := clientOf(t, operator.Options{Ledger: ledgertest.Open(t, false), Reconciler: c})
		if answer, err := client.Post(t.Context(), "/api/reconcile", nil); err != nil || !strings.Contains(string(answer), "report") {
			t.Errorf("%s, %v", answer, err)
		}
		c.goods = 5 * time.Minute
		begun := time.Now()
		_, err := client.Post(t.Context(), "/api/reconcile", nil)
		var silent *operator.Silent
		if took := time.Since(begun); !errors.As(err, &silent) || !silent.Began || took < 5*time.Minute || took > 6*time.Minute {
			t.Errorf("after %s: %v", took, err)
		}
		synctest.Wait()
	})
}

func TestAProofIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := clientOf(t, operator.Options{Ledger: heavy(t), Verify: func(context.Context, string) (*check.Report, error) {
			time.Sleep(time.Hour)
			return &check.Report{Object: "proof", Sound: true}, nil
		}})
		if answer, err := client.Post(t.Context(), "/api/verify", nil); err != nil || !strings.Contains(string(answer), `"sound":true`) {
			t.Errorf("%s, %v", answer, err)
		}
		for _, path := range []string{"/api/backup", "/api/export"} {
			body, err := client.Open(t.Context(), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, body, 10); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute) // who reads slowly is not given up
			if _, err := io.Copy(io.Discard, body); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			if err := body.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A request without an answer, or with half of one, ends in an error in plain words.
func TestASilentReceiver(t *testing.T) {
	for name, c := range map[string]struct {
		said  string // by the receiver
		close bool
		want  string
	}{
		"nothing":               {"", false, "the receiver at a socket has not answered for 10s: it may be restarting, or fail to start; look at its log"},
		"a part of a header":    {"HTTP/1.1 200 OK\r\n", false, "has not answered for 10s"},
		"a part of a body":      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", false, "the receiver at a socket made no progress for 20s, and the request was canceled: look at its log"},
		"a sign of work":        {"HTTP/1.1 102 Processing\r\n\r\n", false, "made no progress for 20s"},
		"an end":                {"", true, "the receiver at a socket ended the connection before its answer was complete: it was stopped, or failed; look at its log"},
		"an end within":         {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", true, "ended the connection before its answer was complete"},
		"an end within a piece": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", true, "ended the connection before its answer was complete"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer theirs.Close()
				go func() {
					_, _ = theirs.Read(make([]byte, 4096)) // the request
					_, _ = io.WriteString(theirs, c.said)
					if c.close {
						_ = theirs.Close()
					}
				}()
				begun := time.Now()
				_, err := operator.DialBy(func() (net.Conn, error) { return ours, nil }).Get(t.Context(), "/api/payments", url.Values{"limit": {"20"}})
				if err == nil || !strings.Contains(err.Error(), c.want) || time.Since(begun) > time.Minute {
					t.Errorf("after %s: %v", time.Since(begun), err)
				}
				if text := fmt.Sprint(err); strings.Contains(text, "http://") || strings.Contains(text, "EOF") || strings.Contains(text, "context") {
					t.Errorf("it speaks of Go: %s", text)
				}
			})
		})
	}
}

// A request that its caller cancels returns the caller's cause.
func TestACallerEndsARequest(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		_, _ = theirs.Read(make([]byte, 4096))
		cancel(why)
	}()
	if _, err := operator.DialBy(func() (net.Conn, error) { return ours, nil }).Get(ctx, "/api/payments", nil); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestNoListener(t *testing.T) {
	_, err := operator.Dial(filepath.Join(t.TempDir(), "none.sock")).Get(t.Context(), "/api/payments", nil)
	if err == nil || !strings.HasPrefix(err.Error(), "no receiver answers at /") || strings.Contains(err.Error(), "dial") {
		t.Errorf("%v", err)
	}
}

// Progress is sent only to clients that ask for it, because not every client can read it.
func TestSignsOfProgressAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		log := slog.New(slog.DiscardHandler)
		serve(t, l, operator.New(operator.Options{Ledger: ledgertest.Open(t, false), Log: log, Reconciler: &slowReconciler{goods: time.Hour}}).Socket(), log)
		resp := begin(t, l.dial(), "POST", "/api/reconcile")
		if resp.StatusCode != http.StatusOK {
			t.Errorf("the first answer is %d", resp.StatusCode)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
	})
}
