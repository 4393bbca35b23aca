package receiver_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"tillhook/receiver/server"
	"tillhook/receiver/stripe"
)

// isOpen reports whether the other end of a connection is open.
func isOpen(c net.Conn) bool {
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return false // a pipe says so here
	}
	_, err := c.Read(make([]byte, 1))
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// A sender whose body comes slowly, and comes, is not closed for connections that came after it.
func TestASlowSenderIsKept(t *testing.T) {
	s := openShop(t, false)
	body := append([]byte(`{"padding":"`+strings.Repeat("0123456789abcdef", 20<<10)+`",`), sample(t, "payment_intent.succeeded")[1:]...)
	conn, err := net.Dial("tcp", s.server.Address().String())
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
	others := func(n int) {
		t.Helper()
		for range n {
			other, err := net.Dial("tcp", s.server.Address().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = other.Close() })
		}
		time.Sleep(200 * time.Millisecond)
	}
	send([]byte("POST " + hook + " HTTP/1.1\r\nHost: shop\r\n"))
	others(server.MaxUnverified / 2)
	send(fmt.Appendf(nil, "Content-Length: %d\r\nStripe-Signature: %s\r\n\r\n", len(body), stripe.Sign(body, secret, s.now)))
	others(server.MaxUnverified/2 + 100)
	send(body[:100<<10])
	others(server.MaxUnverified - 100)
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

// A body that ends early because its connection was closed for others is no sign of a proxy that
// cuts bodies.
func TestAClosedSenderIsNoFault(t *testing.T) {
	s := openShop(t, false)
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", s.server.Address().String())
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
	for range server.MaxUnverified + 10 {
		dial()
	}
	comes(t, "it is closed", func() bool { return !isOpen(first) })
	comes(t, "its request has ended", func() bool { used, _ := s.receiver.BodiesHold(); return used == 0 })
	if status := s.receiver.Status(); len(status.Refused) != 0 {
		t.Errorf("it counts as %+v", status.Refused)
	}
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

// Bodies that hold all the memory there is, and then stall, give way to one that arrives.
func TestStalledBodiesGiveWay(t *testing.T) {
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

// A connection on which a delivery was verified is kept however many others come, and one that
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
	for range server.MaxUnverified + 10 {
		c, err := net.Dial("tcp", s.server.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	comes(t, "the oldest unverified connection is closed", func() bool { return !isOpen(silent) })
	if status := asks(t, conn, r, request); status != 200 {
		t.Errorf("afterwards answered %d", status)
	}
}
