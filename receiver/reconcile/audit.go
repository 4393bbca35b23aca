package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"tillhook/ledger"
	"tillhook/ledger/wording"
	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// maxEndpoints is the maximum number of endpoints of an account. https://docs.stripe.com/webhooks
const maxEndpoints = 16

// Audit is the state of this receiver's endpoint in Stripe's list of endpoints.
type Audit struct {
	Endpoint *stripe.Endpoint  // this receiver's endpoint, or nil
	Missing  []string          // types about payments that no endpoint of its URL receives
	Disabled []stripe.Endpoint // disabled endpoints of its URL without an enabled replacement
	Findings []health.Finding
}

// Examine checks the endpoint with an address among all endpoints of an account. If the address is
// empty, the endpoint is unknown.
func Examine(all []stripe.Endpoint, address string, livemode bool) Audit {
	a := Audit{}
	add := func(code health.Code, severity health.Severity, next, format string, args ...any) {
		a.Findings = append(a.Findings, health.Finding{Code: code, Severity: severity, Message: fmt.Sprintf(format, args...), Next: next})
	}
	same, similar := matches(all, address)
	switch {
	case address == "":
		add(health.Endpoint, health.Unknown, "set TILLHOOK_PUBLIC_URL to the URL that the endpoint has at Stripe",
			"It is unknown which of the %s at Stripe is this receiver's: TILLHOOK_PUBLIC_URL is not set.", wording.Plural(len(all), "endpoint"))
		return a
	case len(same) == 0 && len(similar) > 0:
		e := similar[0]
		add(health.EndpointSimilar, health.Fail, "change the endpoint's URL in the Dashboard (Workbench, Webhooks) to exactly "+address+", or correct TILLHOOK_PUBLIC_URL",
			"Stripe has no endpoint for %s, but %s for %s, which differs only in %s.", address, e.ID, e.URL, difference(e.URL, address))
		same = similar[:1]
	case len(same) == 0:
		add(health.Endpoint, health.Fail, "create it with: tillhook endpoint create",
			"Stripe has no %s mode endpoint for %s (it has %s with other URLs), so it sends nothing here.", ledger.ModeName(livemode), address, wording.Plural(len(all), "endpoint"))
		checkCount(all, add)
		return a
	default:
		add(health.Endpoint, health.OK, "", "Stripe has the endpoint %s for %s%s.", same[0].ID, address, describeQueries(same, address))
	}
	e := same[0]
	a.Endpoint, a.Missing = &e, missingTypes(same)
	if a.Disabled = disabled(same); len(a.Disabled) == 0 {
		add(health.EndpointEnabled, health.OK, "", "The endpoint %s is enabled.", e.ID)
	} else {
		d := a.Disabled[0]
		add(health.EndpointEnabled, health.Fail, "find out why it failed, then: tillhook endpoint enable "+d.ID+"; events from meanwhile are fetched only by reconciliation",
			"The endpoint %s is %s at Stripe: it will never receive what happens now (%s).", d.ID, d.Status, eventScope(d))
	}
	if e.Livemode == livemode {
		add(health.EndpointMode, health.OK, "", "The endpoint is of %s mode, like this receiver.", ledger.ModeName(livemode))
	} else {
		add(health.EndpointMode, health.Fail, "use a key and a signing secret of "+ledger.ModeName(livemode)+" mode, or give this receiver another STRIPE_MODE and data directory",
			"The endpoint is of %s mode, this receiver of %s mode.", ledger.ModeName(e.Livemode), ledger.ModeName(livemode))
	}
	if len(a.Missing) == 0 {
		add(health.EndpointTypes, health.OK, "", "The endpoint receives every event type about payments.")
	} else {
		add(health.EndpointTypes, health.Fail, "add them with: tillhook endpoint update", "The endpoint does not receive %s about payments: %s", wording.Plural(len(a.Missing), "event type"), strings.Join(a.Missing, ","))
	}
	checkVersion(same, add)
	add(health.EndpointScope, health.OK, "", "%s", scope(same))
	switch twice := duplicates(same); {
	case len(twice) > 0:
		add(health.EndpointDuplicates, health.Warn, "delete all but one in the Dashboard, or put the secrets of all into STRIPE_WEBHOOK_SECRET",
			"%d endpoints have this URL (%s): each of them receives every event, signed with its own secret.", len(twice), ids(twice))
	case len(same) == 1:
		add(health.EndpointDuplicates, health.OK, "", "No other endpoint has this URL.")
	default:
		add(health.EndpointDuplicates, health.OK, "", "The endpoints %s have this URL, with different queries or for different accounts. Each has its own secret.", ids(same))
	}
	if len(similar) > 0 && a.Findings[0].Code != health.EndpointSimilar {
		add(health.EndpointSimilar, health.Warn, "delete the one that is not used", "The endpoint %s for %s differs from this receiver's only in %s.", similar[0].ID, similar[0].URL, difference(similar[0].URL, address))
	}
	if u, err := url.Parse(e.URL); err == nil && u.Scheme == "http" {
		add(health.EndpointScheme, health.Fail, "put TLS in front (TILLHOOK_TLS_DOMAIN, or a proxy) and change the endpoint's URL to https",
			"The endpoint's URL is http: payments are sent unencrypted, and Stripe accepts no such URL in live mode.")
	}
	checkCount(all, add)
	return a
}

type addFinding func(code health.Code, severity health.Severity, next, format string, args ...any)

func checkCount(all []stripe.Endpoint, add addFinding) {
	if len(all) >= maxEndpoints {
		add(health.EndpointCount, health.Warn, "delete unused endpoints", "The account has %d endpoints, and Stripe allows %d: no further one can be created.", len(all), maxEndpoints)
		return
	}
	add(health.EndpointCount, health.OK, "", "The account has %s of the %d that Stripe allows.", wording.Plural(len(all), "endpoint"), maxEndpoints)
}

// missingTypes returns the types that no endpoint of the URL receives. An endpoint for connected
// accounts does not replace one for the account's own events, nor the reverse.
func missingTypes(same []stripe.Endpoint) (missing []string) {
	for _, connect := range []bool{false, true} {
		var of, enabled []stripe.Endpoint
		for _, e := range same {
			if e.Connect() == connect {
				if of = append(of, e); e.Enabled() {
					enabled = append(enabled, e)
				}
			}
		}
		if len(enabled) > 0 {
			of = enabled
		}
		for i, e := range of {
			if i == 0 {
				missing = append(missing, e.MissingTypes()...)
				continue
			}
			lacks := e.MissingTypes()
			missing = slices.DeleteFunc(missing, func(t string) bool { return !slices.Contains(lacks, t) })
		}
	}
	return missing
}

// duplicates returns endpoints that receive the same events at the same URL, if there are two or
// more.
func duplicates(same []stripe.Endpoint) []stripe.Endpoint {
	for _, e := range same {
		twice := slices.DeleteFunc(slices.Clone(same), func(o stripe.Endpoint) bool {
			return !SameURL(o.URL, e.URL) || query(o.URL) != query(e.URL) || o.Connect() != e.Connect() || !o.Enabled()
		})
		if len(twice) > 1 {
			return twice
		}
	}
	return nil
}

// query returns the query of an address, or "".
func query(address string) string {
	_, query, _ := strings.Cut(address, "?")
	return query
}

// describeQueries describes the endpoints whose query differs from the address's, or returns "". It
// does not show values, which can be secret.
func describeQueries(same []stripe.Endpoint, address string) string {
	var list []string
	for _, e := range same {
		if e.URL == address {
			continue
		}
		u, err := url.Parse(e.URL)
		switch {
		case query(e.URL) == query(address): // differs only in spelling
		case err != nil || u.RawQuery == "":
			list = append(list, e.ID+" without one")
		default:
			list = append(list, e.ID+" with "+strings.Join(slices.Sorted(maps.Keys(u.Query())), ", "))
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ", with another query: " + strings.Join(list, "; ")
}

// disabled returns the endpoints of each kind (own events, connected accounts) that has no enabled
// endpoint.
func disabled(same []stripe.Endpoint) (list []stripe.Endpoint) {
	for _, e := range same {
		enabled := slices.ContainsFunc(same, func(o stripe.Endpoint) bool { return o.Connect() == e.Connect() && o.Enabled() })
		if !enabled {
			list = append(list, e)
		}
	}
	return list
}

// eventScope names the events that an endpoint is for.
func eventScope(e stripe.Endpoint) string {
	if e.Connect() {
		return "the events of connected accounts"
	}
	return "the account's own events"
}

// scope describes whose events the endpoints receive.
func scope(same []stripe.Endpoint) string {
	var list []string
	for _, e := range same {
		if e.Enabled() {
			list = append(list, "The endpoint "+e.ID+" receives "+eventScope(e)+".")
		} else {
			list = append(list, "The endpoint "+e.ID+", for "+eventScope(e)+", is "+e.Status+".")
		}
	}
	return strings.Join(list, " ")
}

// checkVersion checks the API versions of the endpoints and reports the first unexpected one.
func checkVersion(same []stripe.Endpoint, add addFinding) {
	e := &same[0]
	for i := range same {
		if same[i].Enabled() && !stripe.ExpectedVersion(same[i].APIVersion) {
			e = &same[i]
			break
		}
	}
	const next = "create another endpoint with a pinned version (tillhook endpoint create), put both secrets into STRIPE_WEBHOOK_SECRET, then delete the old endpoint"
	switch {
	case e.APIVersion == "":
		add(health.EndpointVersion, health.Warn, next, "The endpoint has no API version of its own: the format of its events changes with the account's default.")
	case !stripe.ExpectedVersion(e.APIVersion):
		add(health.EndpointVersion, health.Warn, next, "The endpoint receives events of API version %s, which this version of tillhook was not tested with.", e.APIVersion)
	default:
		add(health.EndpointVersion, health.OK, "", "The endpoint receives events of API version %s.", e.APIVersion)
	}
}

// SameURL reports whether an endpoint's URL leads to the address. It ignores the query, which may
// choose an API version or hold a key for a firewall, and differences that the receiver or HTTP
// ignores: repeated or trailing slashes, escapes, the case of the host, a dot after it, a default
// port. https://docs.stripe.com/webhooks/versioning
func SameURL(endpoint, address string) bool {
	if endpoint == address {
		return true
	}
	a, errA := url.Parse(endpoint)
	b, errB := url.Parse(address)
	if errA != nil || errB != nil {
		return false
	}
	port := func(u *url.URL) string {
		return cmp.Or(u.Port(), map[string]string{"https": "443", "http": "80"}[u.Scheme])
	}
	host := func(u *url.URL) string { return strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) }
	return a.Scheme == b.Scheme && host(a) == host(b) && port(a) == port(b) && path.Clean("/"+a.Path) == path.Clean("/"+b.Path)
}

// matches returns the endpoints with an address, whatever their query: enabled ones first, of those
// the ones with exactly the address. similar are endpoints whose URL is nearly the address.
func matches(all []stripe.Endpoint, address string) (same, similar []stripe.Endpoint) {
	for _, e := range all {
		switch {
		case address != "" && SameURL(e.URL, address):
			same = append(same, e)
		case address != "" && normalize(e.URL) == normalize(address):
			similar = append(similar, e)
		}
	}
	rank := func(e stripe.Endpoint) (n int) {
		if !e.Enabled() {
			n += 2
		}
		if e.URL != address {
			n++
		}
		return n
	}
	slices.SortStableFunc(same, func(a, b stripe.Endpoint) int { return rank(a) - rank(b) })
	return same, similar
}

// normalize returns an address without the parts that are easily mistaken: scheme, case of the
// host, www, default ports, a trailing slash.
func normalize(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	host := strings.TrimPrefix(strings.ToLower(u.Hostname()), "www.")
	if port := u.Port(); port != "" && port != "443" && port != "80" {
		host += ":" + port
	}
	return host + strings.TrimSuffix(u.EscapedPath(), "/")
}

// difference names what two similar addresses differ in.
func difference(one, other string) string {
	a, errA := url.Parse(one)
	b, errB := url.Parse(other)
	if errA != nil || errB != nil {
		return "its format"
	}
	var parts []string
	differs := func(what string, differ bool) {
		if differ {
			parts = append(parts, what)
		}
	}
	www := func(host string) bool { return strings.HasPrefix(strings.ToLower(host), "www.") }
	differs(a.Scheme+" instead of "+b.Scheme, a.Scheme != b.Scheme)
	differs("www", www(a.Host) != www(b.Host))
	differs("the case of the host", strings.TrimPrefix(a.Hostname(), "www.") != strings.TrimPrefix(b.Hostname(), "www.") && www(a.Host) == www(b.Host))
	differs("the port", a.Port() != b.Port())
	differs("the trailing slash", strings.HasSuffix(a.Path, "/") != strings.HasSuffix(b.Path, "/"))
	if len(parts) == 0 {
		return "its spelling"
	}
	return strings.Join(parts, " and ")
}

// Payload reports whether an endpoint receives thin events, from the list of destinations of API
// v2.
func Payload(all []stripe.Destination, address string) health.Finding {
	thin, snapshot := 0, 0
	var hear []string
	for _, d := range all {
		if !SameURL(d.URL(), address) || d.Status == "disabled" {
			continue
		}
		if d.Payload == "thin" {
			thin++
		} else {
			snapshot++
		}
		if len(d.EventsFrom) > 0 {
			hear = append(hear, "The destination "+d.ID+" receives events from "+strings.Join(d.EventsFrom, ", ")+".")
		}
	}
	f := health.Finding{Code: health.EndpointPayload, Severity: health.OK, Message: "The endpoint receives snapshot payloads."}
	switch {
	case thin > 0 && snapshot == 0:
		f.Severity, f.Message = health.Fail, "The endpoint receives only thin events, which name an object without its content: each object must be fetched with an API key."
		f.Next = "create an endpoint with snapshot payloads: tillhook endpoint create"
	case thin > 0:
		f.Severity, f.Message = health.Warn, "This URL receives thin events as well as snapshot payloads. Thin events are in quarantine until their objects are fetched."
		f.Next = "delete the endpoint with thin payloads, unless something else needs it"
	case snapshot == 0:
		f.Severity, f.Message = health.Unknown, "Stripe does not list this URL among its enabled event destinations."
		f.Next = "see the finding about the endpoint"
	}
	f.Message = strings.Join(append([]string{f.Message}, hear...), " ")
	return f
}

func ids(list []stripe.Endpoint) string {
	var names []string
	for _, e := range list {
		names = append(names, e.ID)
	}
	return strings.Join(names, ", ")
}
