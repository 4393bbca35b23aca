package operator

import (
	"context"
	"net"
	"net/http"
)

// DialBy is [Dial] over connections that dial makes.
func DialBy(dial func() (net.Conn, error)) *Client {
	c := Dial("a socket")
	c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return dial() }
	return c
}
