package cli

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
	// renewTime before its end a certificate should have been renewed.
	renewTime = 14 * 24 * time.Hour
	// largeProbe is longer than nearly all events: proxies limit bodies.
	largeProbe = 300 << 10
)

// far asks the public address as Stripe does; near asks the door itself, whose certificate is for another name.
var (
	far  = &http.Client{Timeout: outsideTime, CheckRedirect: stay, Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}}
	near = &http.Client{Timeout: outsideTime, CheckRedirect: stay, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the way to it does not leave this machine, and its certificate is looked at by far
)

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// lookFromOutside goes the way that Stripe goes.
func (d *doctor) lookFromOutside(ctx context.Context) {
	if d.config == nil {
		return
	}
	inside := d.probeNear(ctx)
	address := d.config.Endpoint()
	if address == "" {
		d.unknown(health.PublicURL, "set TILLHOOK_PUBLIC_URL to the URL that the endpoint has at Stripe", "How Stripe reaches this receiver is not known.")
		return
	}
	u, err := url.Parse(address)
	if err != nil {
		d.fail(health.PublicURL, "write it as Stripe has it: https://host/path", "TILLHOOK_PUBLIC_URL cannot be read.")
		return
	}
	if u.Scheme == "http" {
		d.fail(health.PublicURL, "put TLS in front (TILLHOOK_TLS_DOMAIN, or a proxy), and write https in TILLHOOK_PUBLIC_URL and in the endpoint's URL",
			"%s is http: payments travel in the open, and Stripe delivers to https alone in live mode.", address)
	} else {
		d.ok(health.PublicURL, "Stripe is to reach this receiver at %s.", address)
	}
	if d.offline {
		d.unknown(health.OutsideIn, "run it without --offline", "Whether that way is open was not tried.")
		return
	}
	if !d.resolve(ctx, u.Hostname()) {
		return
	}
	if u.Scheme == "https" && !d.handshake(ctx, u) {
		return
	}
	d.probeFar(ctx, address, inside)
}

func (d *doctor) resolve(ctx context.Context, host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, outsideTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		d.fail(health.DNS, "make an A or AAAA record for it that leads to this machine", "There is no address for %s.", host)
		return false
	case err != nil:
		d.unknown(health.DNS, "look at this machine's resolver: resolvectl query "+host, "%s could not be looked up: %v.", host, stripe.Plainly(err))
		return false
	}
	d.ok(health.DNS, "%s is at %s.", host, strings.Join(addresses, ", "))
	return true
}

// handshake looks at the certificate as Stripe would. https://docs.stripe.com/webhooks#verify-events-are-sent-from-stripe
func (d *doctor) handshake(ctx context.Context, u *url.URL) bool {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	address := net.JoinHostPort(u.Hostname(), port)
	conn, err := d.dialTLS(ctx, address, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
	var network *net.OpError
	var invalid *tls.CertificateVerificationError
	switch {
	case err == nil:
	case errors.As(err, &invalid):
		d.fail(health.TLS, "renew or mend the certificate; a proxy must send the whole chain", "The certificate of %s is not accepted: %s.", address, certificateFault(invalid))
		return false
	case errors.As(err, &network) && network.Op == "dial":
		d.warn(health.TLS, "try from another machine: curl -v "+u.String(), "This machine cannot connect to %s (%v). It may still be open to others: many routers do not lead back in.", address, stripe.Plainly(err))
		return false
	default:
		d.fail(health.TLS, "have whatever answers at "+address+" speak TLS 1.2 or 1.3", "No TLS 1.2 or 1.3 is spoken at %s: %v.", address, stripe.Plainly(err))
		return false
	}
	defer conn.Close() // it was only looked at
	state := conn.ConnectionState()
	end := state.PeerCertificates[0].NotAfter
	if left := time.Until(end); left < renewTime {
		d.warn(health.TLS, "renew it: Stripe delivers nothing to an endpoint with an expired one", "The certificate of %s ends on %s.", address, end.UTC().Format("2006-01-02 15:04 UTC"))
		return true
	}
	d.ok(health.TLS, "The certificate of %s is good until %s (%s).", address, end.UTC().Format("2006-01-02"), tls.VersionName(state.Version))
	return true
}

func (d *doctor) dialTLS(ctx context.Context, address string, c *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, outsideTime)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

// certificateFault says what is wrong with a certificate.
func certificateFault(err *tls.CertificateVerificationError) string {
	leaf := err.UnverifiedCertificates[0]
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && time.Now().After(leaf.NotAfter):
		return "it expired on " + leaf.NotAfter.UTC().Format("2006-01-02 15:04 UTC")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its time begins on " + leaf.NotBefore.UTC().Format("2006-01-02 15:04 UTC") + ", or this machine's clock is behind"
	case errors.As(err, &host):
		return "it is for " + strings.Join(leaf.DNSNames, ", ")
	case errors.As(err, &unknown) && len(err.UnverifiedCertificates) == 1:
		return "it was made by nobody this machine knows (" + leaf.Issuer.CommonName + "): it is self-signed, or the intermediate certificates are not sent along"
	}
	return err.Err.Error()
}

// asked is how a probe was answered.
type asked struct {
	status   int
	location string
	server   string
	ours     bool // by a tillhook
	result   string
	code     string
}

// probe posts a signed body that is no event, and has the running receiver know of it.
func (d *doctor) probe(ctx context.Context, client *http.Client, address string, size int) (*asked, error) {
	var nonce operator.Nonce
	answer, err := d.client.Post(ctx, "/api/probe", nil)
	if err == nil {
		err = json.Unmarshal(answer, &nonce)
	}
	if err != nil {
		return nil, fmt.Errorf("the receiver gives no nonce: %w", err)
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
	r.Header.Set("Stripe-Signature", stripe.Sign(body, d.config.WebhookSecrets[0], time.Now()))
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // what was wanted of it was read
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return nil, err
	}
	a := &asked{status: resp.StatusCode, location: resp.Header.Get("Location"), server: resp.Header.Get("Server")}
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

// probeNear asks the door itself. It tells whether a signed body gets through there.
func (d *doctor) probeNear(ctx context.Context) bool {
	if d.status == nil {
		return false
	}
	client, webhooks, _ := nearDoor(d.status.Webhooks)
	a, err := d.probe(ctx, client, webhooks, 0)
	switch {
	case err != nil:
		d.fail(health.Inside, "restart the receiver and look at its log", "The receiver's own door does not answer: %v.", stripe.Plainly(err))
	case a.result == "probe":
		d.ok(health.Inside, "A signed request is accepted at the receiver's own door.")
		return true
	case a.code == "signature_mismatch":
		d.fail(health.Inside, "restart the receiver (systemctl restart tillhook), so that it has this environment's secrets", "The running receiver does not know the signing secret of this environment.")
	case a.code == "timestamp_too_old" || a.code == "timestamp_in_future":
		d.fail(health.Inside, "look at both clocks", "The receiver takes a signature of now for one of another time.")
	case a.code == "address_not_allowed":
		d.unknown(health.Inside, "", "The receiver takes deliveries from Stripe's addresses alone (TILLHOOK_ALLOW_STRIPE_IPS), so this way cannot be tried from here.")
	default:
		d.fail(health.Inside, "look at the receiver's log", "A signed request at the receiver's own door is answered %d %s.", a.status, a.code+a.result)
	}
	return false
}

// probeFar goes the whole way: a small body, then a large one.
func (d *doctor) probeFar(ctx context.Context, address string, inside bool) {
	const code = health.OutsideIn
	if d.status == nil {
		next := "start the receiver"
		if d.waiting {
			next = "see the finding on the receiver"
		}
		d.unknown(code, next, "Whether a signed request gets through from outside cannot be tried without a running receiver.")
		return
	}
	a, err := d.probe(ctx, far, address, 0)
	if err != nil {
		d.warn(code, "try from another machine: curl -v "+address, "This machine got no answer from %s (%v). It may still be open to others: many routers do not lead back in.", address, stripe.Plainly(err))
		return
	}
	if !d.judge(code, address, a, inside) {
		return
	}
	size := int(min(largeProbe, d.config.MaxBody*9/10))
	if a, err = d.probe(ctx, far, address, size); err != nil {
		d.fail(health.OutsideInLarge, "have the proxy in front take bodies of 1 MB, and not hurry", "A body of %d kB does not get through: %v.", size>>10, stripe.Plainly(err))
		return
	}
	d.judge(health.OutsideInLarge, address, a, inside)
}

// judge says what an answer from outside means, and tells whether it was a good one.
func (d *doctor) judge(code health.Code, address string, a *asked, inside bool) bool {
	who := "something that is not tillhook"
	if a.server != "" {
		who += " (" + a.server + ")"
	}
	switch {
	case a.result == "probe":
		d.ok(code, "A signed request to %s arrives whole.", address)
		return true
	case a.ours && a.result == "quarantined":
		d.fail(code, "have "+address+" lead to this receiver, or run doctor on that one", "Another tillhook answers at %s, with the same secret.", address)
	case a.ours && a.code == "signature_mismatch" && inside:
		d.fail(code, "have the proxy in front pass bodies on byte for byte (no rewriting, no compression, no change of encoding)", "The body is rewritten on the way: a signature that is right at the receiver's own door is wrong when it comes by %s.", address)
	case a.ours && a.code == "signature_mismatch":
		d.fail(code, "see the finding on the receiver's own door", "The signature is not accepted at %s.", address)
	case a.ours && a.code == "missing_signature", a.ours && a.code == "malformed_signature":
		d.fail(code, "have the proxy in front pass the Stripe-Signature header on as it is", "The Stripe-Signature header is dropped or changed on the way.")
	case a.ours && a.code == "address_not_allowed":
		d.unknown(code, "see that TILLHOOK_TRUSTED_PROXIES names the proxy in front", "The receiver takes deliveries from Stripe's addresses alone (TILLHOOK_ALLOW_STRIPE_IPS), so this way cannot be tried from here.")
	case a.ours && a.code == "body_too_large", a.status == http.StatusRequestEntityTooLarge:
		d.fail(code, "raise its limit to 1 MB or more: client_max_body_size 1m in nginx, TILLHOOK_MAX_BODY here", "A body of this size is refused on the way (413): Stripe's events can have 300 kB.")
	case a.ours && a.code == "not_found":
		d.fail(code, "make the paths of TILLHOOK_PUBLIC_URL, the proxy and TILLHOOK_WEBHOOK_PATH ("+d.config.WebhookPath+") agree", "The request reaches the receiver under another path (404).")
	case a.ours:
		d.fail(code, "look at the receiver's log", "The receiver answers %d %s.", a.status, a.code+a.result)
	case a.status >= 300 && a.status < 400:
		d.fail(code, "use the address that it leads to as the endpoint's URL, or have the proxy not redirect this path", "%s redirects (%d) to %s: Stripe follows no redirect and counts it as a failure.", address, a.status, a.location)
	case a.status == http.StatusForbidden || a.status == http.StatusUnauthorized || a.status == http.StatusNotAcceptable || a.status == http.StatusTooManyRequests:
		d.fail(code, "let Stripe's requests to this path through: no login, no bot check; its addresses: https://docs.stripe.com/ips", "A firewall, a proxy or a login refuses the request (%d, by %s).", a.status, who)
	case a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed:
		d.fail(code, "have the proxy pass this path on to "+d.config.Listen+", or correct TILLHOOK_PUBLIC_URL", "There is nothing at this path (%d, by %s): the request does not reach the receiver.", a.status, who)
	case a.status >= 502 && a.status <= 504:
		d.fail(code, "have it connect to where the receiver listens ("+d.status.Webhooks+")", "The proxy in front does not reach the receiver (%d, by %s).", a.status, who)
	default:
		d.fail(code, "have "+address+" lead to this receiver", "The wrong program answers: %d, by %s.", a.status, who)
	}
	return false
}
