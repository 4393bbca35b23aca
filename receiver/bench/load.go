package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Load is the result of sending requests.
type Load struct {
	Took      time.Duration // from the first byte to the last answer
	latencies []time.Duration
}

// Quantile returns the time in seconds within which the fraction q of the requests was answered.
func (l *Load) Quantile(q float64) float64 {
	if len(l.latencies) == 0 {
		return 0
	}
	return l.latencies[min(len(l.latencies)-1, int(q*float64(len(l.latencies))))].Seconds()
}

// figures returns throughput and latencies of a load of that many events.
func (l *Load) figures(events int) Figures {
	return Figures{EventsPerSecond: float64(events) / l.Took.Seconds(), P50: l.Quantile(0.5), P99: l.Quantile(0.99), P999: l.Quantile(0.999)}
}

// Send posts every request once over the given number of keep-alive connections. Each connection
// sends its next request when the last one is answered. An answer with another status than want
// ends Send with an error.
func Send(ctx context.Context, address string, requests []Request, connections, want int) (*Load, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conns := make([]net.Conn, connections)
	for i := range conns {
		c, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		defer c.Close()
		conns[i] = c
	}
	// Requests in progress are aborted when ctx ends.
	defer context.AfterFunc(ctx, func() {
		for _, c := range conns {
			_ = c.SetDeadline(time.Now())
		}
	})()
	latencies := make([]time.Duration, len(requests))
	var next atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for _, c := range conns {
		group.Go(func() {
			s := sender{conn: c, buf: make([]byte, 4096)}
			for {
				i := int(next.Add(1)) - 1
				if i >= len(requests) {
					return
				}
				began := time.Now()
				status, err := s.post(requests[i].Bytes)
				if err == nil && status != want {
					err = fmt.Errorf("answered with status %d, not %d", status, want)
				}
				if err != nil {
					cancel(err)
					return
				}
				latencies[i] = time.Since(began)
			}
		})
	}
	group.Wait()
	took := time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	slices.Sort(latencies)
	return &Load{Took: took, latencies: latencies}, nil
}

// sender is one connection.
type sender struct {
	conn net.Conn
	buf  []byte
}

var errAnswer = errors.New("the answer is not an HTTP/1.1 response with a Content-Length")

// post sends a request and reads the whole answer. It understands only the part of HTTP that both
// servers use.
func (s *sender) post(request []byte) (status int, err error) {
	if _, err := s.conn.Write(request); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	for have := 0; ; {
		n, err := s.conn.Read(s.buf[have:])
		if err != nil {
			return 0, fmt.Errorf("read the answer: %w", err)
		}
		have += n
		status, size, err := answerSize(s.buf[:have])
		if err != nil || size > len(s.buf) {
			return 0, errors.Join(errAnswer, err)
		}
		if size > 0 && have >= size {
			return status, nil
		}
	}
}

var (
	headEnd    = []byte("\r\n\r\n")
	lengthName = []byte("\r\nContent-Length: ")
)

// answerSize returns the status and the length of the answer with its header, or 0 while the header
// is incomplete.
func answerSize(answer []byte) (status, size int, err error) {
	head := bytes.Index(answer, headEnd)
	if head < 0 {
		return 0, 0, nil
	}
	at := bytes.Index(answer[:head], lengthName)
	if at < 0 || len(answer) < 12 {
		return 0, 0, errAnswer
	}
	number := answer[at+len(lengthName):]
	body, err := strconv.Atoi(string(number[:bytes.IndexByte(number, '\r')]))
	if err != nil {
		return 0, 0, err
	}
	status, err = strconv.Atoi(string(answer[9:12]))
	return status, head + len(headEnd) + body, err
}
