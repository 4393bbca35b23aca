package receiver

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops is how many entries of X-Forwarded-For are looked at.
const maxHops = 32

// caller returns the address that a request came from: the other end of the connection or, where
// that is a trusted proxy, the address that the proxy names in X-Forwarded-For. Proxies append the
// address that called them, so the list is read from its end; entries before the first address that
// is not trusted could be invented. The other end of a unix socket is a trusted proxy without an
// address: only a process that the socket's permissions admit can connect. The zero address means
// that such a proxy named none.
func caller(req *http.Request, trusted []netip.Prefix) netip.Addr {
	var at netip.Addr
	end, err := netip.ParseAddrPort(req.RemoteAddr)
	proxy := err != nil // a unix socket
	if !proxy {
		at = end.Addr().Unmap()
		proxy = isIn(at, trusted)
	}
	lines := req.Header["X-Forwarded-For"]
	if !proxy || len(lines) == 0 {
		return at
	}
	hops := strings.Split(strings.Join(lines, ","), ",")
	for range maxHops {
		if len(hops) == 0 || !proxy {
			return at
		}
		last := strings.TrimSpace(hops[len(hops)-1])
		hops = hops[:len(hops)-1]
		next, err := netip.ParseAddr(last)
		if err != nil {
			withPort, err := netip.ParseAddrPort(last)
			if err != nil {
				return at
			}
			next = withPort.Addr()
		}
		at = next.Unmap()
		proxy = isIn(at, trusted)
	}
	return at
}

// remote returns the sender of a request for the log, with its port where no proxy can have named
// it.
func (r *Receiver) remote(req *http.Request) string {
	if _, err := netip.ParseAddrPort(req.RemoteAddr); err == nil && len(r.Proxies) == 0 {
		return req.RemoteAddr
	}
	return addressText(caller(req, r.Proxies))
}

func addressText(addr netip.Addr) string {
	if !addr.IsValid() {
		return "none (a unix socket)"
	}
	return addr.String()
}

func isIn(addr netip.Addr, list []netip.Prefix) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Allow sets the addresses that may deliver, from the next request on; none lets everybody.
func (r *Receiver) Allow(list []netip.Prefix) { r.allowed.Store(&list) }

// refuseAddress answers who does not call from an address that may deliver; nil lets the request go on.
func (r *Receiver) refuseAddress(w http.ResponseWriter, req *http.Request) *answer {
	list := r.allowed.Load()
	if list == nil || len(*list) == 0 {
		return nil
	}
	from := caller(req, r.Proxies)
	if isIn(from, *list) {
		return nil
	}
	if ok, more := r.rejects.allow("address_not_allowed", r.Now()); ok {
		cause := "somebody else called; or Stripe has new addresses: compare https://docs.stripe.com/ips, and name a newer list in TILLHOOK_ALLOW_STRIPE_IPS"
		switch {
		case !from.IsValid():
			cause = "the proxy at the unix socket does not name the address that called it: have it send X-Forwarded-For"
		case from.IsLoopback() || from.IsPrivate():
			cause = "a proxy stands before this receiver: name its address in TILLHOOK_TRUSTED_PROXIES, and have it send X-Forwarded-For"
		}
		r.Log.Warn("address refused", "address", addressText(from), "cause", cause, "not_logged", more)
	}
	a := r.refuseUnread(w, http.StatusForbidden, "address_not_allowed", "Not from here.")
	return &a
}
