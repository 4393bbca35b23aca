package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/stripe"
)

const (
	outsideTime = 20 * time.Second
	// renewTime before its end, a certificate should have been renewed.
	renewTime = 14 * 24 * time.Hour
	// largeProbe is the size of a body larger than nearly all events: proxies limit bodies.
	largeProbe = 300 << 10
)

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// publicClient returns a client that asks the public URL as Stripe does.
func publicClient() *http.Client {
	return &http.Client{Timeout: outsideTime, CheckRedirect: noRedirect,
		Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}}
}

// localListener returns what asks the webhook listener on this machine: a client, the URL, and the
// listener's place. The client does not verify the certificate, which is for the public name;
// checkTLS does.
func localListener(webhooks string) (client *http.Client, address, place string) {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	client = &http.Client{Timeout: outsideTime, CheckRedirect: noRedirect, Transport: transport}
	scheme, rest, _ := strings.Cut(webhooks, "://")
	if socket, ok := strings.CutPrefix(rest, "unix:"); ok {
		socket, path, _ := strings.Cut(socket, ":")
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
		return client, scheme + "://localhost" + path, socket
	}
	place, _, _ = strings.Cut(rest, "/")
	return client, webhooks, place
}

// checkInside sends a signed probe to the webhook listener on this machine.
func checkInside(ctx context.Context, x *examination) []health.Finding {
	if x.config == nil {
		return nil
	}
	client, webhooks, _ := localListener(x.status.Webhooks)
	a, err := x.probe(ctx, client, webhooks, 0)
	switch {
	case err != nil:
		return fail(health.Inside, "restart the receiver and look at its log",
			"The receiver's own listener does not answer: %v.", stripe.PlainError(err))
	case a.result == "probe":
		x.inside = true
		return ok(health.Inside, "A signed request is accepted at the receiver's own listener.")
	case a.code == "signature_mismatch":
		return fail(health.Inside, "restart the receiver (systemctl restart tillhook), so that it has this "+
			"environment's secrets", "The running receiver does not know the signing secret of this environment.")
	case a.code == "timestamp_too_old" || a.code == "timestamp_in_future":
		return fail(health.Inside, "compare both clocks",
			"The receiver refuses the time of a signature that was made just now.")
	case a.code == "address_not_allowed":
		return unknown(health.Inside, "",
			"The receiver accepts deliveries only from Stripe's addresses (TILLHOOK_ALLOW_STRIPE_IPS), so this way "+
				"cannot be tested from here.")
	}
	return fail(health.Inside, "look at the receiver's log",
		"A signed request at the receiver's own listener is answered %d %s.", a.status, a.code+a.result)
}

// checkPublicURL reports the URL that Stripe delivers to.
func checkPublicURL(_ context.Context, x *examination) []health.Finding {
	address := x.config.Endpoint()
	if address == "" {
		return unknown(health.PublicURL, "set TILLHOOK_PUBLIC_URL to the URL that the endpoint has at Stripe",
			"The URL at which Stripe reaches this receiver is not known.")
	}
	u, err := url.Parse(address)
	if err != nil {
		return fail(health.PublicURL, "write it as Stripe has it: https://host/path",
			"TILLHOOK_PUBLIC_URL is not a URL.")
	}
	x.publicURL = u
	if u.Scheme == "http" {
		return fail(health.PublicURL, "put TLS in front (TILLHOOK_TLS_DOMAIN, or a proxy), and write https in "+
			"TILLHOOK_PUBLIC_URL and in the endpoint's URL",
			"%s is http: payments are sent unencrypted, and in live mode Stripe delivers only to https.", address)
	}
	return ok(health.PublicURL, "Stripe is to reach this receiver at %s.", address)
}

// checkDNS looks up the host of the public URL.
func checkDNS(ctx context.Context, x *examination) []health.Finding {
	host := x.publicURL.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		x.reachable = true
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, outsideTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fail(health.DNS, "make an A or AAAA record for it that leads to this machine",
			"There is no address for %s.", host)
	case err != nil:
		return unknown(health.DNS, "look at this machine's resolver: resolvectl query "+host,
			"%s could not be looked up: %v.", host, stripe.PlainError(err))
	}
	x.reachable = true
	return ok(health.DNS, "%s is at %s.", host, strings.Join(addresses, ", "))
}

// checkTLS verifies the certificate as Stripe does.
// See https://docs.stripe.com/webhooks#verify-events-are-sent-from-stripe.
func checkTLS(ctx context.Context, x *examination) []health.Finding {
	u := x.publicURL
	if u.Scheme != "https" {
		return nil
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	address := net.JoinHostPort(u.Hostname(), port)
	ctx, cancel := context.WithTimeout(ctx, outsideTime)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	x.reachable = err == nil
	var network *net.OpError
	var invalid *tls.CertificateVerificationError
	switch {
	case err == nil:
	case errors.As(err, &invalid):
		return fail(health.TLS, "renew or correct the certificate; a proxy must send the whole chain",
			"The certificate of %s is not accepted: %s.", address, certificateFault(invalid))
	case errors.As(err, &network) && network.Op == "dial":
		return warn(health.TLS, "try from another machine: curl -v "+u.String(),
			"This machine cannot connect to %s (%v). Others may still reach it: many routers do not route such requests back to their own network.", address, stripe.PlainError(err))
	default:
		return fail(health.TLS, "make the program that answers at "+address+" speak TLS 1.2 or 1.3",
			"The program at %s does not speak TLS 1.2 or 1.3: %v.", address, stripe.PlainError(err))
	}
	defer conn.Close() // only the certificate was needed
	state := conn.(*tls.Conn).ConnectionState()
	end := state.PeerCertificates[0].NotAfter
	if time.Until(end) < renewTime {
		return warn(health.TLS, "renew it: Stripe delivers nothing to an endpoint with an expired one",
			"The certificate of %s ends on %s.", address, end.UTC().Format("2006-01-02 15:04 UTC"))
	}
	return ok(health.TLS, "The certificate of %s is valid until %s (%s).", address, end.UTC().Format("2006-01-02"),
		tls.VersionName(state.Version))
}

// certificateFault returns what is wrong with a certificate.
func certificateFault(err *tls.CertificateVerificationError) string {
	leaf := err.UnverifiedCertificates[0]
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().After(leaf.NotAfter):
		return "it expired on " + leaf.NotAfter.UTC().Format("2006-01-02 15:04 UTC")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it is valid from " + leaf.NotBefore.UTC().Format("2006-01-02 15:04 UTC") +
			", or this machine's clock is behind"
	case errors.As(err, &host):
		return "it is for " + strings.Join(leaf.DNSNames, ", ")
	case errors.As(err, &authority) && len(err.UnverifiedCertificates) == 1:
		return "this machine does not know who issued it (" + leaf.Issuer.CommonName +
			"): it is self-signed, or the intermediate certificates are not sent along"
	}
	return err.Err.Error()
}

// checkOutside sends signed probes to the public URL: a small body, then a large one.
func checkOutside(ctx context.Context, x *examination) []health.Finding {
	const code = health.OutsideIn
	if x.status == nil {
		next := "start the receiver"
		if x.waiting {
			next = "see the finding on the receiver"
		}
		return unknown(code, next, "Whether a signed request gets through from outside cannot be tried without a "+
			"running receiver.")
	}
	address := x.config.Endpoint()
	a, err := x.probe(ctx, publicClient(), address, 0)
	if err != nil {
		return warn(code, "try from another machine: curl -v "+address,
			"This machine got no answer from %s (%v). Others may still reach it: many routers do not route such requests back to their own network.", address, stripe.PlainError(err))
	}
	list := x.interpret(code, address, a)
	if a.result != "probe" {
		return list
	}
	size := int(min(largeProbe, x.config.MaxBody*9/10))
	if a, err = x.probe(ctx, publicClient(), address, size); err != nil {
		return append(list, fail(health.OutsideInLarge,
			"make the proxy in front accept bodies of 1 MB, and wait for them", "A body of %d kB does not get "+
				"through: %v.", size>>10, stripe.PlainError(err))...)
	}
	return append(list, x.interpret(health.OutsideInLarge, address, a)...)
}

// probeAnswer is the answer to a probe.
type probeAnswer struct {
	status   int
	location string
	server   string
	ours     bool // by a tillhook
	result   string
	code     string
}

// probe posts a signed body that is no event, with a nonce that the running receiver expects.
func (x *examination) probe(ctx context.Context, client *http.Client, address string, size int) (*probeAnswer, error) {
	var nonce operator.Nonce
	answer, err := x.client.Post(ctx, "/api/probe", nil)
	if err == nil {
		err = json.Unmarshal(answer, &nonce)
	}
	if err != nil {
		return nil, fmt.Errorf("the receiver returns no nonce: %w", err)
	}
	body := stripe.ProbeBody(nonce.Nonce, size)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("User-Agent", stripe.ProbeAgent)
	r.Header.Set("Accept", "*/*; q=0.5, application/xml")
	if size > 0 {
		r.Header.Set("Expect", "100-continue") // else an answer that comes before the body is read can be lost
	}
	r.Header.Set("Stripe-Signature", stripe.Sign(body, x.config.WebhookSecrets[0], time.Now()))
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // the needed part was read
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	a := &probeAnswer{status: resp.StatusCode, location: resp.Header.Get("Location"), server: resp.Header.Get("Server")}
	var said struct {
		Received *bool
		Result   struct{ Status, Reason string }
		Error    struct{ Code string }
	}
	if json.Unmarshal(text, &said) == nil && said.Received != nil {
		a.ours, a.result, a.code = true, said.Result.Status, said.Error.Code
	}
	return a, nil
}

// interpret returns what an answer from outside means.
func (x *examination) interpret(code health.Code, address string, a *probeAnswer) []health.Finding {
	if a.ours {
		return x.interpretOurs(code, address, a)
	}
	who := "something that is not tillhook"
	if a.server != "" {
		who += " (" + a.server + ")"
	}
	switch {
	case a.status == http.StatusRequestEntityTooLarge:
		return tooLarge(code)
	case a.status >= 300 && a.status < 400:
		return fail(code, "use the address that it leads to as the endpoint's URL, or make the proxy not redirect "+
			"this path", "%s redirects (%d) to %s: Stripe follows no redirect and counts it as a failure.", address, a.status, a.location)
	case a.status == http.StatusForbidden || a.status == http.StatusUnauthorized ||
		a.status == http.StatusNotAcceptable || a.status == http.StatusTooManyRequests:
		return fail(code, "let Stripe's requests to this path through: no login, no bot check; its addresses: "+
			"https://docs.stripe.com/ips", "A firewall, a proxy or a login refuses the request (%d, by %s).", a.status, who)
	case a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed:
		return fail(code, "make the proxy pass this path on to "+x.config.Listen+", or correct TILLHOOK_PUBLIC_URL",
			"There is nothing at this path (%d, by %s): the request does not reach the receiver.", a.status, who)
	case a.status >= 502 && a.status <= 504:
		return fail(code, "make it connect to the address where the receiver listens ("+x.status.Webhooks+")",
			"The proxy in front does not reach the receiver (%d, by %s).", a.status, who)
	}
	return fail(code, "make "+address+" lead to this receiver", "The wrong program answers: %d, by %s.", a.status, who)
}

func tooLarge(code health.Code) []health.Finding {
	return fail(code, "raise its limit to 1 MB or more: client_max_body_size 1m in nginx, TILLHOOK_MAX_BODY here",
		"A body of this size is refused on the way (413): Stripe's events can have 300 kB.")
}

// interpretOurs returns what the answer of a tillhook means.
func (x *examination) interpretOurs(code health.Code, address string, a *probeAnswer) []health.Finding {
	switch {
	case a.result == "probe":
		return ok(code, "A signed request to %s arrives whole.", address)
	case a.result == "quarantined":
		return fail(code, "make "+address+" lead to this receiver, or run doctor on that one",
			"Another tillhook answers at %s, with the same secret.", address)
	case a.code == "signature_mismatch" && x.inside:
		return fail(code, "make the proxy in front pass bodies on byte for byte (no rewriting, no compression, no "+
			"change of encoding)",
			"The body is rewritten on the way: a signature that is right at the receiver's own listener is wrong "+
				"when it comes by %s.", address)
	case a.code == "signature_mismatch":
		return fail(code, "see the finding on the receiver's own listener", "The signature is not accepted at %s.",
			address)
	case a.code == "missing_signature", a.code == "malformed_signature":
		return fail(code, "make the proxy in front pass the Stripe-Signature header on as it is",
			"The Stripe-Signature header is dropped or changed on the way.")
	case a.code == "address_not_allowed":
		return unknown(code, "see that TILLHOOK_TRUSTED_PROXIES names the proxy in front",
			"The receiver accepts deliveries only from Stripe's addresses (TILLHOOK_ALLOW_STRIPE_IPS), so this way "+
				"cannot be tested from here.")
	case a.code == "body_too_large", a.status == http.StatusRequestEntityTooLarge:
		return tooLarge(code)
	case a.code == "not_found":
		return fail(code, "make the paths of TILLHOOK_PUBLIC_URL, the proxy and TILLHOOK_WEBHOOK_PATH ("+x.config.WebhookPath+") agree", "The request reaches the receiver under another path (404).")
	}
	return fail(code, "look at the receiver's log", "The receiver answers %d %s.", a.status, a.code+a.result)
}
