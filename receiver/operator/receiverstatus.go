package operator

import (
	"net/http"
	"path/filepath"

	"tillhook/ledger"
)

// Receiver is a running receiver.
type Receiver interface {
	Status() ReceiverStatus
	// Probe returns a nonce that is valid once, for a short time; "" if too many are.
	Probe() string
}

// ReceiverStatus describes a receiver and its deliveries since the start.
type ReceiverStatus struct {
	Object  string `json:"object"` // receiver
	Version string `json:"version"`
	Mode    string `json:"mode"`
	Started int64  `json:"started"`
	Ledger  string `json:"ledger"` // path of its file
	// Webhooks is the URL of the webhook, with the listener's address (unix:PATH: for a unix
	// socket).
	Webhooks  string            `json:"webhooks"`
	Endpoint  ledger.OrNull     `json:"endpoint"` // its URL at Stripe
	LastEvent ledger.OrNullTime `json:"last_event"`
	Verified  uint64            `json:"verified"` // deliveries since the start, including repeats
	Refused   []Refusals        `json:"refused"`
	Secrets   []SecretUse       `json:"secrets"`
}

// Refusals counts requests that were refused for one reason.
type Refusals struct {
	Code  string        `json:"code"`
	Count uint64        `json:"count"`
	Last  int64         `json:"last"`
	Cause ledger.OrNull `json:"cause"`
}

// SecretUse describes a signing secret by its position in the configuration.
type SecretUse struct {
	Position int               `json:"position"` // from 1
	Since    int64             `json:"since"`
	LastUsed ledger.OrNullTime `json:"last_used"`
}

// Nonce is the answer to a request for a probe of the webhook listener.
type Nonce struct {
	Object string `json:"object"` // probe
	Nonce  string `json:"nonce"`
}

var errNoReceiver = &Error{http.StatusConflict, "invalid_request", "no receiver is running: start it (tillhook serve)"}

func (op *Operator) receiver(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	if op.Receiver == nil {
		return errNoReceiver
	}
	s := op.Receiver.Status()
	s.Object = "receiver"
	path, err := filepath.Abs(op.Ledger.Path())
	if err != nil {
		return err
	}
	s.Ledger = path
	op.write(w, r, http.StatusOK, s)
	return nil
}

func (op *Operator) probe(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	if op.Receiver == nil {
		return errNoReceiver
	}
	nonce := op.Receiver.Probe()
	if nonce == "" {
		return &Error{http.StatusServiceUnavailable, "overloaded",
			"too many probes are under way; try again in half a minute"}
	}
	op.write(w, r, http.StatusOK, Nonce{"probe", nonce})
	return nil
}
