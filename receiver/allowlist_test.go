package receiver_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tillhook/receiver"
	"tillhook/receiver/health"
	"tillhook/receiver/server"
	"tillhook/receiver/stripe"
)

func TestWhoCalled(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, c := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"192.0.2.1:4711", nil, "192.0.2.1"},
		{"192.0.2.1:4711", []string{"3.18.12.63"}, "192.0.2.1"},                                // anybody can write that
		{"127.0.0.1:4711", nil, "127.0.0.1"},                                                   // a proxy that adds nothing
		{"127.0.0.1:4711", []string{"3.18.12.63"}, "3.18.12.63"},                               // a proxy's word
		{"127.0.0.1:4711", []string{"3.18.12.63, 198.51.100.9"}, "198.51.100.9"},               // the proxy appended its caller to an invention
		{"127.0.0.1:4711", []string{"3.18.12.63", "198.51.100.9"}, "198.51.100.9"},             // in a line of its own
		{"127.0.0.1:4711", []string{"198.51.100.9, 10.1.2.3 ,10.9.9.9"}, "198.51.100.9"},       // two proxies of ours
		{"127.0.0.1:4711", []string{"10.1.2.3"}, "10.1.2.3"},                                   // all of them are ours
		{"127.0.0.1:4711", []string{"3.18.12.63, unknown"}, "127.0.0.1"},                       // what follows is no address
		{"127.0.0.1:4711", []string{"198.51.100.9:5000"}, "198.51.100.9"},                      // with a port, as some write it
		{"127.0.0.1:4711", []string{"::ffff:198.51.100.9"}, "198.51.100.9"},                    // one address in two forms
		{"[::1]:4711", []string{"2001:db8::7"}, "2001:db8::7"},                                 //
		{"[::ffff:127.0.0.1]:4711", []string{"198.51.100.9"}, "198.51.100.9"},                  // a socket of both kinds
		{"@", []string{"3.18.12.63"}, "3.18.12.63"},                                            // a unix socket
		{"", []string{"198.51.100.9, 3.18.12.63"}, "3.18.12.63"},                               // its proxy appended its caller to an invention
		{"@", []string{"198.51.100.9, 10.1.2.3"}, "198.51.100.9"},                              // two proxies, the second at a unix socket
		{"@", nil, "invalid IP"},                                                               // a proxy at a unix socket that names none
		{"@", []string{"unix:"}, "invalid IP"},                                                 // one that was called at a unix socket itself
		{"127.0.0.1:4711", []string{strings.Repeat("10.0.0.1,", 40) + "10.0.0.1"}, "10.0.0.1"}, // without end
	} {
		s := receiver.ClientAddr(c.remote, c.forwarded, trusted)
		if s != c.want {
			t.Errorf("%s with %q: %s, want %s", c.remote, c.forwarded, s, c.want)
		}
	}
}

func TestOnlyStripesAddressesDeliver(t *testing.T) {
	s := openShop(t, false)
	s.receiver.Allow([]netip.Prefix{netip.MustParsePrefix("3.18.12.63/32")})
	body := sample(t, "payment_intent.succeeded")
	if a := s.post(t, body); a.status != 403 || a.word() != "address_not_allowed" {
		t.Errorf("another address was answered %d %s", a.status, a.word())
	}
	if !strings.Contains(s.log.String(), "TILLHOOK_TRUSTED_PROXIES") {
		t.Errorf("the log does not name the likely cause:\n%s", s.log)
	}
	if stats, err := s.books.Stats(); err != nil || stats.Events != 0 {
		t.Errorf("%d events, %v", stats.Events, err)
	}
	if n := s.counted(t)[`tillhook_webhook_requests_total{code="403"}`]; n != "1" {
		t.Errorf("%s were counted", n)
	}
	s.receiver.Allow([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if a := s.post(t, body); a.status != 200 {
		t.Errorf("an address of the list was answered %d %s", a.status, a.text)
	}
}

// A request in the form of a delivery that is refused by its address is a finding with the next
// step, which ends as that of refused signatures does.
func TestDeliveriesRefusedByAddress(t *testing.T) {
	const public, private, stripes = "198.51.100.9", "10.1.2.3", "3.18.12.63"
	body := sample(t, "payment_intent.succeeded")
	agent := func(r *http.Request) {
		r.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	}
	for _, c := range []struct {
		name    string
		proxies string // trusted
		headers map[string]string
		signed  bool
		agent   bool
		says    string // empty if it is no delivery
		next    string
	}{
		{"a proxy that is not trusted", "", nil, true, false, "a proxy in front of this receiver that is not trusted (127.0.0.1)", "name its address in TILLHOOK_TRUSTED_PROXIES"},
		{"only the user agent is Stripe's", "", nil, false, true, "a proxy in front of this receiver that is not trusted", "TILLHOOK_TRUSTED_PROXIES"},
		{"a proxy without X-Forwarded-For", "127.0.0.0/8", nil, true, false, "does not name its client's address", "make it send X-Forwarded-For"},
		{"new addresses of Stripe", "127.0.0.0/8", map[string]string{"X-Forwarded-For": public}, true, true, "Stripe has new addresses, or there is a proxy in front that is not trusted (" + public + ")", "https://docs.stripe.com/ips"},
		{"a second proxy", "127.0.0.0/8", map[string]string{"X-Forwarded-For": private}, true, true, "not trusted (" + private + ")", "TILLHOOK_TRUSTED_PROXIES"},
		{"no delivery", "", nil, false, false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openShop(t, false)
			if c.proxies != "" {
				s.receiver.Proxies = []netip.Prefix{netip.MustParsePrefix(c.proxies)}
			}
			s.receiver.Allow([]netip.Prefix{netip.MustParsePrefix(stripes + "/32")})
			post := func(forwarded string) int {
				var signature []string
				if c.signed || forwarded != "" {
					signature = []string{stripe.Sign(body, secret, s.now)}
				}
				r := s.request(t, "POST", hook, bytes.NewReader(body), signature...)
				for name, value := range c.headers {
					r.Header.Set(name, value)
				}
				if c.agent {
					agent(r)
				}
				if forwarded != "" {
					r.Header.Set("X-Forwarded-For", forwarded)
				}
				return s.do(t, r).status
			}
			for range 2 {
				if got := post(""); got != 403 {
					t.Fatalf("answered %d", got)
				}
			}
			f := s.finding(t, health.Addresses)
			if c.says == "" {
				if f.Severity != health.OK || len(s.receiver.Status().Refused) != 0 {
					t.Errorf("the finding is %+v", f)
				}
				return
			}
			severity := map[bool]health.Severity{false: health.Warn, true: health.Fail}[c.agent]
			if f.Severity != severity || !strings.Contains(f.Message, "2 requests in the form of a delivery were refused") ||
				!strings.Contains(f.Message, c.says) || !strings.Contains(f.Next, c.next) {
				t.Errorf("the finding is %+v", f)
			}
			if g := s.finding(t, health.Signatures); g.Severity != health.OK {
				t.Errorf("signatures: %+v", g)
			}
			if refused := s.receiver.Status().Refused; len(refused) != 1 || refused[0].Code != "address_not_allowed" || refused[0].Count != 2 {
				t.Errorf("counted %+v", refused)
			}
			s.receiver.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			if got := post(stripes); got != 200 {
				t.Fatalf("a delivery was answered %d", got)
			}
			if f := s.finding(t, health.Addresses); f.Severity != health.Warn {
				t.Errorf("after a delivery: %+v", f)
			}
			s.now = s.now.Add(time.Minute)
			if f, want := s.finding(t, health.Addresses), map[bool]health.Severity{false: health.OK, true: health.Warn}[c.agent]; f.Severity != want {
				t.Errorf("a minute later: %+v", f)
			}
			s.now = s.now.Add(time.Hour)
			if f := s.finding(t, health.Addresses); f.Severity != health.OK {
				t.Errorf("an hour later: %+v", f)
			}
		})
	}
}

// Requests of others do not replace the cause that Stripe's requests have.
func TestTheCauseOfRefusedAddressesIsStripes(t *testing.T) {
	s := openShop(t, false)
	s.receiver.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s.receiver.Allow([]netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")})
	body := sample(t, "payment_intent.succeeded")
	for _, c := range []struct{ agent, forwarded string }{
		{"Stripe/1.0 (+https://stripe.com/docs/webhooks)", "10.1.2.3"},
		{stripe.ProbeAgent, "203.0.113.77"},
		{"curl/8", "203.0.113.78"},
	} {
		r := s.request(t, "POST", hook, bytes.NewReader(body), stripe.Sign(body, secret, s.now))
		r.Header.Set("User-Agent", c.agent)
		r.Header.Set("X-Forwarded-For", c.forwarded)
		if got := s.do(t, r).status; got != 403 {
			t.Fatalf("%s was answered %d", c.agent, got)
		}
		if f := s.finding(t, health.Addresses); !strings.Contains(f.Message, "10.1.2.3") {
			t.Errorf("after %s: %+v", c.agent, f)
		}
	}
	if got := receiver.ClientAddr("127.0.0.1:1", []string{"fe80::1%curl evil"}, s.receiver.Proxies); got != "fe80::1" {
		t.Errorf("the client is %q", got)
	}
}

// Behind a unix socket the address is the one that the proxy names.
func TestStripesAddressesBehindAUnixSocket(t *testing.T) {
	s := openShop(t, false)
	s.receiver.Allow([]netip.Prefix{netip.MustParsePrefix("3.18.12.63/32")})
	path := filepath.Join(t.TempDir(), "public.sock")
	l, err := server.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	srv := server.New(l, s.receiver, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve() }()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	body := sample(t, "payment_intent.succeeded")
	for _, c := range []struct {
		forwarded string
		want      int
	}{{"3.18.12.63", 200}, {"3.18.12.63, 198.51.100.9", 403}, {"", 403}} {
		r := s.request(t, "POST", hook, bytes.NewReader(body), stripe.Sign(body, secret, s.now))
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != c.want {
			t.Errorf("a caller named %q was answered %d, want %d, %v", c.forwarded, resp.StatusCode, c.want, err)
		}
		s.now = s.now.Add(time.Minute) // so that each refusal is logged
	}
	for _, want := range []string{"address=198.51.100.9 cause=\"the sender is not Stripe", "address=\"none (a unix socket)\" cause=\"the proxy at the unix socket does not name"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, s.log)
		}
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
