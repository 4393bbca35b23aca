package server

import (
	"net"
	"net/http"
	"time"

	"golang.org/x/crypto/acme/autocert"
)

// SetInterval sets the time between two looks at a certificate's files.
func (c *Certificates) SetInterval(interval time.Duration) { c.interval = interval }

// The constants of those names.
const (
	MaxClosing     = maxClosing
	MaxConnections = maxConnections
	TrackFrom      = trackFrom
)

// Limit returns the listener of a server.
func Limit(l net.Listener) net.Listener {
	return &limitedListener{Listener: l, conns: newConnections()}
}

// Verify calls verify of an accepted connection.
func Verify(c net.Conn) { c.(*connection).verify() }

// Progress calls progressed of an accepted connection.
func Progress(c net.Conn) { c.(*connection).progressed() }

// SetIdle makes an accepted connection idle.
func SetIdle(c net.Conn) { c.(*connection).setState(http.StateIdle) }

// NewStore returns the store of certificates in a directory.
func NewStore(dir string) autocert.Cache { return diskCache{autocert.DirCache(dir)} }
