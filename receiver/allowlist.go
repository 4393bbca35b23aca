package receiver

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"tillhook/receiver/stripe"
)

// maxHops bounds the entries of X-Forwarded-For that are read.
const maxHops = 32

// clientAddr returns the address that a request came from: the other end of the connection or, if
// that is a trusted proxy, the address that the proxy names in X-Forwarded-For. Proxies append the
// address of their client, so the list is read from its end; entries before the first address that
// is not trusted could be invented. The other end of a unix socket is a trusted proxy without an
// address, because only a process that the socket's permissions admit can connect. The result is
// the zero Addr if such a proxy named none.
func clientAddr(req *http.Request, trusted []netip.Prefix) netip.Addr {
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
		at = next.Unmap().WithZone("")
		proxy = isIn(at, trusted)
	}
	return at
}

// remote returns the sender of a request for the log, with its port if no proxy can be between.
func (r *Receiver) remote(req *http.Request) string {
	if _, err := netip.ParseAddrPort(req.RemoteAddr); err == nil && len(r.Proxies) == 0 {
		return req.RemoteAddr
	}
	return addressText(clientAddr(req, r.Proxies))
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

// Allow sets the addresses that may deliver, from the next request on. An empty list allows all.
func (r *Receiver) Allow(list []netip.Prefix) { r.allowed.Store(&list) }

// refuseAddress returns the answer for a request from an address that may not deliver, or nil.
func (r *Receiver) refuseAddress(w http.ResponseWriter, req *http.Request) *answer {
	list := r.allowed.Load()
	if list == nil || len(*list) == 0 {
		return nil
	}
	from := clientAddr(req, r.Proxies)
	if isIn(from, *list) {
		return nil
	}
	cause, next := r.whyRefused(from)
	if looksLikeDelivery(req) {
		c := r.diagnosis.refused[addressNotAllowed]
		if isStripes(req) || c.stripe.Load() == nil { // others do not replace the cause of Stripe's requests
			said := cause + " (" + addressText(from) + ")"
			c.cause.Store(&said)
			c.next.Store(&next)
		}
		r.diagnosis.note(addressNotAllowed, req, r.Now())
	}
	if ok, more := r.rejects.allow(addressNotAllowed, r.Now()); ok {
		r.Log.Warn("address refused", "address", addressText(from), "cause", cause, "next", next, "not_logged", more)
	}
	a := r.refuseUnread(w, http.StatusForbidden, addressNotAllowed, "This address may not deliver webhooks.")
	return &a
}

// addressNotAllowed is the code of a request from an address that may not deliver.
const addressNotAllowed = "address_not_allowed"

// whyRefused returns why an address is probably not one of Stripe's, and the next step.
func (r *Receiver) whyRefused(from netip.Addr) (cause, next string) {
	switch {
	case !from.IsValid():
		return "the proxy at the unix socket does not name its client's address", "make it send X-Forwarded-For"
	case isIn(from, r.Proxies):
		return "the trusted proxy does not name its client's address, or that is a trusted proxy, too",
			"make it send X-Forwarded-For, and name only your own proxies in TILLHOOK_TRUSTED_PROXIES"
	case from.IsLoopback() || from.IsPrivate():
		return "there is a proxy in front of this receiver that is not trusted",
			"name its address in TILLHOOK_TRUSTED_PROXIES, and make it send X-Forwarded-For"
	}
	return "the sender is not Stripe, or Stripe has new addresses, or there is a proxy in front that is not trusted",
		"compare https://docs.stripe.com/ips and name a newer list in TILLHOOK_ALLOW_STRIPE_IPS; if it is a proxy of " +
			"yours, name it in TILLHOOK_TRUSTED_PROXIES"
}

// looksLikeDelivery reports whether a request has Stripe's User-Agent or a signature in Stripe's
// form. Anyone can send such a request.
func looksLikeDelivery(req *http.Request) bool {
	if isStripes(req) {
		return true
	}
	if req.UserAgent() == stripe.ProbeAgent {
		return false // the doctor reports the answer itself
	}
	_, err := stripe.ParseSignature(req.Header["Stripe-Signature"])
	return err == nil
}
