package receiver_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tillhook/receiver"
	"tillhook/receiver/stripe"
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

// For each connection too many the oldest stranger is closed. Accepting waits where all are young,
// and where those that were closed are not let go.
func TestStrangersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(pipes, 1)
		gate := receiver.Gate(calls)
		admitted := make(chan net.Conn, 2000)
		go func() {
			defer close(admitted)
			for {
				c, err := gate.Accept()
				if err != nil {
					return
				}
				admitted <- c
			}
		}()
		var all []net.Conn
		for range receiver.MaxUnverified {
			all = append(all, calls.call())
		}
		synctest.Wait()
		first := <-admitted
		receiver.Verify(first)
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
		for range receiver.MaxClosing - 1 {
			all = append(all, calls.call())
		}
		synctest.Wait()
		for i, c := range all {
			if want := i == 0 || i > receiver.MaxClosing; isOpen(c) != want {
				t.Errorf("connection %d is open: %t", i, !want)
			}
		}
		before := len(admitted)
		all = append(all, calls.call())
		synctest.Wait()
		if len(admitted) != before {
			t.Error("one was admitted before any that was closed was let go")
		}
		if err := (<-admitted).Close(); err != nil { // the oldest stranger's
			t.Error(err)
		}
		synctest.Wait()
		if len(admitted) != before {
			t.Errorf("%d wait, want %d", len(admitted), before)
		}
		all = append(all, calls.call())
		synctest.Wait()
		if err := gate.Close(); err != nil { // while it waits
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

// A connection that was accepted as the gate closed is served.
func TestTheLastConnectionIsAdmitted(t *testing.T) {
	l := closesFirst{make(pipes, 1), make(chan struct{})}
	gate := receiver.Gate(l)
	client := l.call()
	if err := gate.Close(); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := gate.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if !isOpen(client) {
		t.Error("it was closed")
	}
}

// A stranger that makes progress makes no room before others that do not.
func TestProgressKeepsAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(pipes, 1)
		gate := receiver.Gate(calls)
		var all, admitted []net.Conn
		connect := func() {
			all = append(all, calls.call())
			c, err := gate.Accept()
			if err != nil {
				t.Fatal(err)
			}
			admitted = append(admitted, c)
		}
		for range receiver.MaxUnverified {
			connect()
		}
		time.Sleep(time.Second)
		receiver.Progressed(admitted[0])
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
		if err := gate.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A sender whose body comes slowly, and comes, is not closed for strangers that came after it.
func TestASlowSenderIsKept(t *testing.T) {
	s := openShop(t, false)
	body := append([]byte(`{"padding":"`+strings.Repeat("0123456789abcdef", 20<<10)+`",`), sample(t, "payment_intent.succeeded")[1:]...)
	conn, err := net.Dial("tcp", s.door.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(text []byte) {
		t.Helper()
		if _, err := conn.Write(text); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // what was sent is read, and others are old enough to be closed
	}
	strangers := func(n int) {
		t.Helper()
		for range n {
			stranger, err := net.Dial("tcp", s.door.Address().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = stranger.Close() })
		}
		time.Sleep(200 * time.Millisecond)
	}
	send([]byte("POST " + hook + " HTTP/1.1\r\nHost: shop\r\n"))
	strangers(receiver.MaxUnverified / 2)
	send(fmt.Appendf(nil, "Content-Length: %d\r\nStripe-Signature: %s\r\n\r\n", len(body), stripe.Sign(body, secret, s.now)))
	strangers(receiver.MaxUnverified/2 + 100)
	send(body[:100<<10])
	strangers(receiver.MaxUnverified - 100)
	send(body[100<<10:])
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("it was not answered: %v", err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("it was answered %d, %v", resp.StatusCode, err)
	}
}

// A body that ends early because its connection was closed for others is no sign of a proxy that cuts
// bodies.
func TestAClosedSenderIsNoFault(t *testing.T) {
	s := openShop(t, false)
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", s.door.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	first := dial()
	if _, err := fmt.Fprintf(first, "POST %s HTTP/1.1\r\nHost: shop\r\nStripe-Signature: t=1,v1=00\r\nContent-Length: 100\r\n\r\n{", hook); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // its header is read
	for range receiver.MaxUnverified + 10 {
		dial()
	}
	comes(t, "it is closed", func() bool { return !isOpen(first) })
	comes(t, "its request has ended", func() bool { used, _ := s.receiver.BodiesHold(); return used == 0 })
	if status := s.receiver.Status(); len(status.Refused) != 0 {
		t.Errorf("it counts as %+v", status.Refused)
	}
}

// When there are as many connections as may be, the one that has been idle for longest is closed for
// the next; where none is idle, the next is closed.
func TestTheLongestIdleMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(pipes, 1)
		gate := receiver.Gate(calls)
		var all []net.Conn
		var admitted []net.Conn
		connect := func() {
			all = append(all, calls.call())
			c, err := gate.Accept()
			if err != nil {
				t.Fatal(err)
			}
			receiver.Verify(c)
			admitted = append(admitted, c)
		}
		for range receiver.MaxConnections {
			connect()
			receiver.Idle(admitted[len(admitted)-1])
		}
		for range receiver.MaxConnections - receiver.Followed + 1 {
			connect() // and is busy
		}
		for i, c := range all {
			longest := i >= receiver.Followed-1 && i < receiver.MaxConnections
			if isOpen(c) == longest {
				t.Fatalf("connection %d is open: %t", i, !longest)
			}
		}
		for i := receiver.Followed - 1; i < receiver.MaxConnections; i++ {
			if err := admitted[i].Close(); err != nil { // as the server does
				t.Fatal(err)
			}
		}
		late := calls.call()
		go gate.Accept()
		synctest.Wait()
		if isOpen(late) {
			t.Error("one too many was admitted while none is idle")
		}
		if err := gate.Close(); err != nil {
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

// A connection of the operator's is kept however many strangers come.
func TestThePrivateDoorKeepsItsConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	door := receiver.NewDoor(l, receiver.Private(handler), slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- door.Serve() }()
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
	for range receiver.MaxUnverified + 10 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	comes(t, "the oldest stranger is closed", func() bool { return !isOpen(silent) })
	if status := asks(t, conn, r, request); status != 200 {
		t.Errorf("afterwards answered %d", status)
	}
	if err := door.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Bodies that hold all the memory there is, and then stop, make room for one that comes.
func TestBodiesThatStopMakeRoom(t *testing.T) {
	t.Parallel()
	s := openShop(t, false)
	head := "POST " + hook + " HTTP/1.1\r\nHost: shop\r\nStripe-Signature: t=1,v1=00\r\nContent-Length: 1048576\r\n\r\n"
	comes(t, "they hold nearly all", func() bool {
		used, limit := s.receiver.BodiesHold()
		if used > limit-1<<20 {
			return true
		}
		s.raw(t, head+strings.Repeat(" ", 1<<20-1))
		return false
	})
	body := []byte(`{"id":"evt_large","object":"event","type":"invoice.paid","livemode":false,"created":1793534000,"data":{"object":{"object":"invoice","lines":"` +
		strings.Repeat("line ", 200_000) + `"}}}`)
	if a := s.post(t, body); a.status != 200 {
		t.Errorf("a large event was answered %d %s", a.status, a.text)
	}
	if used, limit := s.receiver.BodiesHold(); used > limit {
		t.Errorf("%d bytes are held, %d may be", used, limit)
	}
	comes(t, "all is given back", func() bool {
		used, _ := s.receiver.BodiesHold()
		return used == 0
	})
}

// Small bodies count, too: of many that hold less than 64 KiB each, the memory they hold is known.
func TestBodiesCountFromTheFirstByte(t *testing.T) {
	t.Parallel()
	s := openShop(t, false)
	head := "POST " + hook + " HTTP/1.1\r\nHost: shop\r\nStripe-Signature: t=1,v1=00\r\nContent-Length: 60000\r\n\r\n"
	for range 20 {
		s.raw(t, head+strings.Repeat(" ", 50_000))
	}
	comes(t, "their bytes are counted", func() bool {
		used, _ := s.receiver.BodiesHold()
		return used >= 20*50_000
	})
}

// A connection on which a delivery was verified is kept however many strangers come, and one that
// never had one is not.
func TestAnHonestConnectionIsKept(t *testing.T) {
	s := openShop(t, false)
	body := sample(t, "payment_intent.succeeded")
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: shop\r\nStripe-Signature: %s\r\nContent-Length: %d\r\n\r\n%s", hook, stripe.Sign(body, secret, s.now), len(body), body)
	conn, _ := s.raw(t, "")
	r := bufio.NewReader(conn)
	if status := asks(t, conn, r, request); status != 200 {
		t.Fatalf("answered %d", status)
	}
	time.Sleep(150 * time.Millisecond) // nothing younger is closed for others
	silent, _ := s.raw(t, "POST ")
	time.Sleep(150 * time.Millisecond)
	for range receiver.MaxUnverified + 10 {
		c, err := net.Dial("tcp", s.door.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	comes(t, "the oldest stranger is closed", func() bool { return !isOpen(silent) })
	if status := asks(t, conn, r, request); status != 200 {
		t.Errorf("afterwards answered %d", status)
	}
}
