package receiver

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops is how many entries of X-Forwarded-For are looked at.
const maxHops = 32

// caller is who sent a request: the other end of the connection, or, where that is a proxy that is trusted, whom it
// names. Proxies append whom they were called by, so the list is read from its end; what stands before the first
// address that is not trusted could be anybody's invention.
func caller(req *http.Request, trusted []netip.Prefix) netip.Addr {
	end, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{} // no network
	}
	at := end.Addr().Unmap()
	lines := req.Header["X-Forwarded-For"]
	if len(trusted) == 0 || len(lines) == 0 {
		return at
	}
	hops := strings.Split(strings.Join(lines, ","), ",")
	for range maxHops {
		if len(hops) == 0 || !isIn(at, trusted) {
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
	}
	return at
}

// remote is who sent a request, for the log.
func (r *Receiver) remote(req *http.Request) string {
	if len(r.Proxies) > 0 {
		return caller(req, r.Proxies).String()
	}
	return req.RemoteAddr
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
		if from.IsLoopback() || from.IsPrivate() {
			cause = "a proxy stands before this receiver: name its address in TILLHOOK_TRUSTED_PROXIES, and have it send X-Forwarded-For"
		}
		r.Log.Warn("address refused", "address", from.String(), "cause", cause, "not_logged", more)
	}
	a := r.refuseUnread(w, http.StatusForbidden, "address_not_allowed", "Not from here.")
	return &a
}
