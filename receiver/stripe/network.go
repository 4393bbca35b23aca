package stripe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// PlainError returns a network error as a readable message without the address and the method,
// which the message around it names. The result wraps err.
func PlainError(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var lookup *net.DNSError
	var network *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return &plainError{"the name " + lookup.Name + " is unknown", err}
	case errors.As(err, &lookup):
		return &plainError{"the name " + lookup.Name + " cannot be looked up: the name servers do not answer correctly", err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &plainError{"there was no answer in time", err}
	case errors.Is(err, context.Canceled):
		return &plainError{"canceled before an answer", err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &plainError{"the connection was closed before the answer", err}
	case errors.Is(err, http.ErrSchemeMismatch):
		return &plainError{"the server speaks http, not https", err}
	case errors.As(err, &network) && network.Op == "remote error" && network.Err != nil: // a TLS alert
		return &plainError{"the server refused TLS (" + strings.TrimPrefix(network.Err.Error(), "tls: ") + "): it may have no certificate for that name", err}
	case errors.As(err, &network) && network.Err != nil:
		return network.Err
	}
	return err
}

// plainError is an error with a readable message.
type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }
