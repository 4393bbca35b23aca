package app

import (
	"fmt"
	"net"
	"time"

	"tillhook/receiver/cli"
	"tillhook/receiver/server"
)

const (
	// portRetry is the time between two attempts to open the operator's port while another program
	// uses it.
	portRetry = 30 * time.Second
	// portAdvice is the next step then.
	portAdvice = "set TILLHOOK_OPERATOR_LISTEN to another address, or to off, and restart"
)

// listeners are the open sockets of a receiver.
type listeners struct {
	public    []net.Listener
	operator  []net.Listener
	port      *server.Port // nil if it is off
	addresses cli.Addresses
}

// listen opens the sockets that the service manager has not passed.
func (a *App) listen() (err error) {
	c, ls := a.config, &a.listeners
	ls.operator, ls.addresses.Socket = a.sockets.Operator, c.OperatorSocket
	if len(ls.operator) > 0 {
		ls.addresses.Socket = ls.operator[0].Addr().String()
	} else {
		l, err := server.ListenUnix(c.OperatorSocket)
		if err != nil {
			return fmt.Errorf("open the operator's socket: %w", err)
		}
		ls.operator = []net.Listener{l}
	}
	if ls.public = a.sockets.Public; len(ls.public) == 0 {
		l, err := server.Listen(c.Listen)
		if err != nil {
			for _, l := range ls.operator {
				_ = l.Close() // the process ends with the error that follows
			}
			return fmt.Errorf("open the webhook listener (TILLHOOK_LISTEN): %w", err)
		}
		ls.public = []net.Listener{l}
	} else if at := ls.public[0].Addr().String(); at != c.Listen {
		a.log.Info("the service manager passed the webhook listener's socket; TILLHOOK_LISTEN is not used", "address",
			at)
	}
	ls.addresses.Public = webhookURL(ls.public[0].Addr(), c.TLS.On(), c.WebhookPath)
	if c.OperatorListen != "" {
		ls.port = &server.Port{Address: c.OperatorListen, Handler: server.Private(a.operator.TCP()), Every: portRetry,
			Advice: portAdvice, Log: a.log}
		ls.addresses.Operator = ls.port.Open()
	}
	return nil
}

// webhookURL returns the URL at which a listener takes webhooks, for a unix socket in the form of
// nginx's proxy_pass.
func webhookURL(listener net.Addr, secure bool, path string) string {
	scheme, at := "http://", listener.String()
	if secure {
		scheme = "https://"
	}
	if listener.Network() == "unix" {
		at = "unix:" + at + ":"
	}
	return scheme + at + path
}
