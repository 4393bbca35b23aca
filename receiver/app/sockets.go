package app

import (
	"fmt"
	"net"
	"time"

	"tillhook/receiver/cli"
	"tillhook/receiver/health"
	"tillhook/receiver/server"
)

const (
	// portRetry is the time between two attempts to open the operator's port while another program
	// uses it.
	portRetry = 30 * time.Second
	// portAdvice is the next step then.
	portAdvice = "set TILLHOOK_OPERATOR_LISTEN to another address, or to off, and restart"
	// socketAdvice is the next step where the operator's socket cannot be opened.
	socketAdvice = "set TILLHOOK_OPERATOR_SOCKET to a path in a folder that exists and that the receiver may write to, and restart"
)

// listeners are the open sockets of a receiver.
type listeners struct {
	public    []net.Listener
	operator  []net.Listener // passed by the service manager
	ports     []operatorPort
	addresses cli.Addresses
}

// operatorPort is a way to the operator API that is opened again if it cannot be opened.
type operatorPort struct {
	*server.Port
	code health.Code
}

// listen opens the sockets that the service manager has not passed.
func (a *App) listen() (err error) {
	c, ls := a.config, &a.listeners
	if ls.operator = a.sockets.Operator; len(ls.operator) > 0 {
		ls.addresses.Socket = ls.operator[0].Addr().String()
	} else {
		socket := &server.Port{Name: "the operator's socket", Address: c.OperatorSocket, Listen: server.ListenUnix,
			Handler: server.Private(a.operator.Socket()), Every: portRetry, Advice: socketAdvice, Log: a.log}
		ls.ports = append(ls.ports, operatorPort{socket, health.OperatorSocket})
		ls.addresses.Socket = socket.Open()
	}
	if ls.public = a.sockets.Public; len(ls.public) == 0 {
		l, err := server.Listen(c.Listen)
		if err != nil {
			for _, l := range ls.operator {
				_ = l.Close() // the process ends with the error that follows
			}
			for _, p := range ls.ports {
				p.Close()
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
		port := &server.Port{Name: "the port for metrics and health", Address: c.OperatorListen, Listen: server.Listen,
			Handler: server.Private(a.operator.TCP()), Every: portRetry, Advice: portAdvice, Log: a.log}
		ls.ports = append(ls.ports, operatorPort{port, health.OperatorPort})
		ls.addresses.Operator = port.Open()
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
