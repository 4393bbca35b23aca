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

// Plainly returns the error of a network in words, without the address and the kind of request,
// which the sentence around it names. It wraps err.
func Plainly(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var lookup *net.DNSError
	var network *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return &inWords{"the name " + lookup.Name + " is not known", err}
	case errors.As(err, &lookup):
		return &inWords{"the name " + lookup.Name + " cannot be looked up: the name servers do not answer as they should", err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &inWords{"there was no answer in time", err}
	case errors.Is(err, context.Canceled):
		return &inWords{"it was stopped before there was an answer", err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &inWords{"the connection was ended before the answer", err}
	case errors.Is(err, http.ErrSchemeMismatch):
		return &inWords{"it speaks http there, and not https", err}
	case errors.As(err, &network) && network.Op == "remote error" && network.Err != nil: // crypto/tls: an alert
		return &inWords{"TLS was refused there (" + strings.TrimPrefix(network.Err.Error(), "tls: ") + "), as where there is no certificate for that name", err}
	case errors.As(err, &network) && network.Err != nil:
		return network.Err
	}
	return err
}

// inWords is an error with a text for people.
type inWords struct {
	text string
	err  error
}

func (e *inWords) Error() string { return e.text }
func (e *inWords) Unwrap() error { return e.err }
