package operator

import (
	"net/http"
	"path/filepath"

	"tillhook/ledger"
)

// PublicDoor is the receiver's other door.
type PublicDoor interface {
	Status() DoorStatus
	// Probe gives out a nonce that is good once, for a short time; empty if too many are out.
	Probe() string
}

// DoorStatus is how the public door has fared since the receiver started.
type DoorStatus struct {
	Object    string            `json:"object"` // receiver
	Version   string            `json:"version"`
	Mode      string            `json:"mode"`
	Started   int64             `json:"started"`
	Ledger    string            `json:"ledger"`   // path of its file
	Webhooks  string            `json:"webhooks"` // the URL of the webhook, with the address that the door listens on (unix:PATH: is a unix socket)
	Endpoint  ledger.OrNull     `json:"endpoint"` // the URL that it has at Stripe
	LastEvent ledger.OrNullTime `json:"last_event"`
	Verified  uint64            `json:"verified"` // deliveries since the start, repeats included
	Refused   []DoorRefusals    `json:"refused"`
	Secrets   []DoorSecret      `json:"secrets"`
}

// DoorRefusals are requests that were refused for one reason.
type DoorRefusals struct {
	Code  string        `json:"code"`
	Count uint64        `json:"count"`
	Last  int64         `json:"last"`
	Cause ledger.OrNull `json:"cause"`
}

// DoorSecret is a signing secret, by its position in the configuration.
type DoorSecret struct {
	Position int               `json:"position"` // from 1
	Since    int64             `json:"since"`
	LastUsed ledger.OrNullTime `json:"last_used"`
}

// Nonce is what a probe of the public door needs.
type Nonce struct {
	Object string `json:"object"` // probe
	Nonce  string `json:"nonce"`
}

var errNoDoor = &Error{http.StatusConflict, "invalid_request", "no receiver is running: start it (tillhook serve)"}

func (op *Operator) receiver(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	if op.Public == nil {
		return errNoDoor
	}
	s := op.Public.Status()
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
	if op.Public == nil {
		return errNoDoor
	}
	nonce := op.Public.Probe()
	if nonce == "" {
		return &Error{http.StatusServiceUnavailable, "overloaded", "too many probes are under way; try again in half a minute"}
	}
	op.write(w, r, http.StatusOK, Nonce{"probe", nonce})
	return nil
}
