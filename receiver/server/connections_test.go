package server_test

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/receiver/server"
)

// pipes is a listener whose connections are called up by call.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }
func (p pipes) Close() error   { close(p); return nil }

func (p pipes) call() net.Conn {
	here, there := net.Pipe()
	p <- there
	return here
}

// isOpen reports whether the other end of a connection is open.
func isOpen(c net.Conn) bool {
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return false // a pipe says so here
	}
	_, err := c.Read(make([]byte, 1))
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// For each connection too many the oldest unverified connection is closed. Accepting waits where
// all are young, and where those that were closed are not let go.
func TestUnverifiedConnectionsAreEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(pipes, 1)
		listener := server.Limit(calls)
		admitted := make(chan net.Conn, 2000)
		go func() {
			defer close(admitted)
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				admitted <- c
			}
		}()
		var all []net.Conn
		for range server.MaxUnverified {
			all = append(all, calls.call())
		}
		synctest.Wait()
		first := <-admitted
		server.Verify(first)
		all = append(all, calls.call()) // in the place of the one that is verified
		synctest.Wait()
		full := len(admitted)
		all = append(all, calls.call())
		synctest.Wait()
		if len(admitted) != full {
			t.Error("one too many was admitted while all are young")
		}
		time.Sleep(time.Second)
		if len(admitted) != full+1 {
			t.Error("one too many still waits when all are old")
		}
		for range server.MaxClosing - 1 {
			all = append(all, calls.call())
		}
		synctest.Wait()
		for i, c := range all {
			if want := i == 0 || i > server.MaxClosing; isOpen(c) != want {
				t.Errorf("connection %d is open: %t", i, !want)
			}
		}
		before := len(admitted)
		all = append(all, calls.call())
		synctest.Wait()
		if len(admitted) != before {
			t.Error("one was admitted before any that was closed was let go")
		}
		if err := (<-admitted).Close(); err != nil { // the oldest unverified connection's
			t.Error(err)
		}
		synctest.Wait()
		if len(admitted) != before {
			t.Errorf("%d wait, want %d", len(admitted), before)
		}
		all = append(all, calls.call())
		synctest.Wait()
		if err := listener.Close(); err != nil { // while it waits
			t.Error(err)
		}
		synctest.Wait()
		for c := range admitted {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		for _, c := range all {
			_ = c.Close()
		}
	})
}

// closesFirst is a listener that returns one more connection after it was closed, as one does whose
// Accept and Close meet.
type closesFirst struct {
	pipes
	closed chan struct{}
}

func (l closesFirst) Accept() (net.Conn, error) {
	<-l.closed
	select {
	case c := <-l.pipes:
		return c, nil
	default:
		return nil, net.ErrClosed
	}
}

func (l closesFirst) Close() error {
	close(l.closed)
	return nil
}

// A connection that was accepted as the listener closed is served.
func TestTheLastConnectionIsAdmitted(t *testing.T) {
	l := closesFirst{make(pipes, 1), make(chan struct{})}
	listener := server.Limit(l)
	client := l.call()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !isOpen(client) {
		t.Error("it was closed")
	}
}

// An unverified connection with progress is not closed before others without.
func TestProgressKeepsAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(pipes, 1)
		listener := server.Limit(calls)
		var all, admitted []net.Conn
		connect := func() {
			all = append(all, calls.call())
			c, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			admitted = append(admitted, c)
		}
		for range server.MaxUnverified {
			connect()
		}
		time.Sleep(time.Second)
		server.Progress(admitted[0])
		for range 3 {
			connect()
		}
		for i := range 5 {
			if want := i == 0 || i == 4; isOpen(all[i]) != want {
				t.Errorf("connection %d is open: %t", i, !want)
			}
		}
		for i := range admitted {
			_, _ = admitted[i].Close(), all[i].Close()
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
}

// When there are as many connections as may be, the one that has been idle for longest is closed
// for the next; where none is idle, the next is closed.
func TestLongestIdleIsEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(pipes, 1)
		listener := server.Limit(calls)
		var all []net.Conn
		var admitted []net.Conn
		connect := func() {
			all = append(all, calls.call())
			c, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			server.Verify(c)
			admitted = append(admitted, c)
		}
		for range server.MaxConnections {
			connect()
			server.SetIdle(admitted[len(admitted)-1])
		}
		for range server.MaxConnections - server.TrackFrom + 1 {
			connect() // and is busy
		}
		for i, c := range all {
			longest := i >= server.TrackFrom-1 && i < server.MaxConnections
			if isOpen(c) == longest {
				t.Fatalf("connection %d is open: %t", i, !longest)
			}
		}
		for i := server.TrackFrom - 1; i < server.MaxConnections; i++ {
			if err := admitted[i].Close(); err != nil { // as the server does
				t.Fatal(err)
			}
		}
		late := calls.call()
		go listener.Accept()
		synctest.Wait()
		if isOpen(late) {
			t.Error("one too many was admitted while none is idle")
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		for _, c := range append(all, admitted...) {
			_ = c.Close()
		}
	})
}

// asks sends a request on a connection and reads the answer.
func asks(t *testing.T, conn net.Conn, r *bufio.Reader, request string) int {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(9 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return 0
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

// A connection of the operator's is kept however many others come.
func TestPrivateConnectionsAreKept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	s := server.New(l, server.Private(handler), slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	const request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	if status := asks(t, conn, r, request); status != 200 {
		t.Fatalf("answered %d", status)
	}
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	time.Sleep(150 * time.Millisecond) // nothing younger is closed for others
	for range server.MaxUnverified + 10 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "the oldest unverified connection is closed", func() bool { return !isOpen(silent) })
	if status := asks(t, conn, r, request); status != 200 {
		t.Errorf("afterwards answered %d", status)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
