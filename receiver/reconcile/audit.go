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
	"tillhook/receiver/health"
	"tillhook/receiver/stripe"
)

// maxEndpoints an account can have. https://docs.stripe.com/webhooks
const maxEndpoints = 16

// Audit is what Stripe's list of endpoints says of ours.
type Audit struct {
	Endpoint *stripe.Endpoint  // ours; nil where there is none
	Missing  []string          // types that move money and that neither it nor another endpoint of its URL is sent
	Disabled []stripe.Endpoint // those of ours whose events no enabled one is sent
	Findings []health.Finding
}

// Examine looks for the endpoint of an address among all endpoints of an account, and says how it stands. An empty address
// is not known: then the only enabled endpoint is taken for ours, where there is one.
func Examine(all []stripe.Endpoint, address string, livemode bool) Audit {
	a := Audit{}
	say := func(code health.Code, severity health.Severity, next, format string, args ...any) {
		a.Findings = append(a.Findings, health.Finding{Code: code, Severity: severity, Message: fmt.Sprintf(format, args...), Next: next})
	}
	same, similar := matches(all, address)
	switch {
	case address == "":
		say(health.Endpoint, health.Unknown, "set TILLHOOK_PUBLIC_URL to the URL that the endpoint has at Stripe",
			"Which of the %s at Stripe is this receiver's cannot be reported: TILLHOOK_PUBLIC_URL is not set.", ledger.Plural(len(all), "endpoint"))
		return a
	case len(same) == 0 && len(similar) > 0:
		e := similar[0]
		say(health.EndpointSimilar, health.Fail, "change the endpoint's URL in the Dashboard (Workbench, Webhooks) to exactly "+address+", or set TILLHOOK_PUBLIC_URL to what is right",
			"Stripe has no endpoint for %s, but %s for %s, which differs by %s alone.", address, e.ID, e.URL, difference(e.URL, address))
		same = similar[:1]
	case len(same) == 0:
		say(health.Endpoint, health.Fail, "make it with: tillhook endpoint create",
			"Stripe has no %s mode endpoint for %s (it has %s of other URLs): it sends nothing here.", ledger.ModeName(livemode), address, ledger.Plural(len(all), "endpoint"))
		count(all, say)
		return a
	default:
		say(health.Endpoint, health.OK, "", "Stripe has the endpoint %s for %s%s.", same[0].ID, address, queries(same, address))
	}
	e := same[0]
	a.Endpoint, a.Missing = &e, lacking(same)
	if a.Disabled = disabled(same); len(a.Disabled) == 0 {
		say(health.EndpointEnabled, health.OK, "", "The endpoint %s is enabled.", e.ID)
	} else {
		d := a.Disabled[0]
		say(health.EndpointEnabled, health.Fail, "find out why it failed, then: tillhook endpoint enable "+d.ID+"; what was made meanwhile comes by reconciling only",
			"The endpoint %s is %s at Stripe: nothing that happens now is ever sent here, of %s.", d.ID, d.Status, whose(d))
	}
	if e.Livemode == livemode {
		say(health.EndpointMode, health.OK, "", "The endpoint is of %s mode, as this receiver is.", ledger.ModeName(livemode))
	} else {
		say(health.EndpointMode, health.Fail, "use a key and a signing secret of "+ledger.ModeName(livemode)+" mode, or give this receiver another STRIPE_MODE and data folder",
			"The endpoint is of %s mode, this receiver of %s mode.", ledger.ModeName(e.Livemode), ledger.ModeName(livemode))
	}
	if len(a.Missing) == 0 {
		say(health.EndpointTypes, health.OK, "", "The endpoint is sent every event type that moves money.")
	} else {
		say(health.EndpointTypes, health.Fail, "add them with: tillhook endpoint update", "The endpoint is not sent %s that move money: %s", ledger.Plural(len(a.Missing), "event type"), strings.Join(a.Missing, ","))
	}
	version(same, say)
	say(health.EndpointScope, health.OK, "", "%s", scope(same))
	switch twice := duplicates(same); {
	case len(twice) > 0:
		say(health.EndpointDuplicates, health.Warn, "delete all but one in the Dashboard, or have every one's secret in STRIPE_WEBHOOK_SECRET",
			"%d endpoints have this URL (%s): each event comes once for each, under different secrets.", len(twice), ids(twice))
	case len(same) == 1:
		say(health.EndpointDuplicates, health.OK, "", "No other endpoint has this URL.")
	default:
		say(health.EndpointDuplicates, health.OK, "", "The endpoints %s have this URL, with different queries or for different accounts: each has a secret of its own.", ids(same))
	}
	if len(similar) > 0 && a.Findings[0].Code != health.EndpointSimilar {
		say(health.EndpointSimilar, health.Warn, "delete the one that is not used", "The endpoint %s for %s differs from ours by %s alone.", similar[0].ID, similar[0].URL, difference(similar[0].URL, address))
	}
	if u, err := url.Parse(e.URL); err == nil && u.Scheme == "http" {
		say(health.EndpointScheme, health.Fail, "put TLS in front (TILLHOOK_TLS_DOMAIN, or a proxy) and change the endpoint's URL to https",
			"The endpoint's URL is http: payments travel in the open, and Stripe takes no such URL in live mode.")
	}
	count(all, say)
	return a
}

type sayer func(code health.Code, severity health.Severity, next, format string, args ...any)

func count(all []stripe.Endpoint, say sayer) {
	if len(all) >= maxEndpoints {
		say(health.EndpointCount, health.Warn, "delete those that nobody uses", "The account has %d endpoints, and Stripe allows %d: no further one can be made.", len(all), maxEndpoints)
		return
	}
	say(health.EndpointCount, health.OK, "", "The account has %s of the %d that Stripe allows.", ledger.Plural(len(all), "endpoint"), maxEndpoints)
}

// lacking are the types that no endpoint of ours is sent. An endpoint for connected accounts makes
// up for none of the account's own, and the reverse.
func lacking(same []stripe.Endpoint) (missing []string) {
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

// duplicates are endpoints that are sent the same events at the same URL; none if there are not two
// such.
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

// query returns the query of an address, "" if it has none.
func query(address string) string {
	_, query, _ := strings.Cut(address, "?")
	return query
}

// queries says which endpoints have another query than the address; empty if none has. Values of a
// query can be secret.
func queries(same []stripe.Endpoint, address string) string {
	var list []string
	for _, e := range same {
		if e.URL == address {
			continue
		}
		u, err := url.Parse(e.URL)
		switch {
		case query(e.URL) == query(address): // only written in another way
		case err != nil || u.RawQuery == "":
			list = append(list, e.ID+" without one")
		default:
			list = append(list, e.ID+" with "+strings.Join(slices.Sorted(maps.Keys(u.Query())), ", "))
		}
	}
	if len(list) == 0 {
		return ""
	}
	return ", of another query: " + strings.Join(list, "; ")
}

// disabled are the endpoints of a kind, of the account itself or of connected accounts, of which
// none is enabled.
func disabled(same []stripe.Endpoint) (list []stripe.Endpoint) {
	for _, e := range same {
		enabled := slices.ContainsFunc(same, func(o stripe.Endpoint) bool { return o.Connect() == e.Connect() && o.Enabled() })
		if !enabled {
			list = append(list, e)
		}
	}
	return list
}

// whose says whose events an endpoint is for.
func whose(e stripe.Endpoint) string {
	if e.Connect() {
		return "the events of connected accounts"
	}
	return "the account's own events"
}

// scope says whose events the endpoints hear.
func scope(same []stripe.Endpoint) string {
	var list []string
	for _, e := range same {
		if e.Enabled() {
			list = append(list, "The endpoint "+e.ID+" hears "+whose(e)+".")
		} else {
			list = append(list, "The endpoint "+e.ID+", for "+whose(e)+", is "+e.Status+".")
		}
	}
	return strings.Join(list, " ")
}

// version judges the API versions of our endpoints, and speaks of the first that is not right.
func version(same []stripe.Endpoint, say sayer) {
	e := &same[0]
	for i := range same {
		if same[i].Enabled() && !stripe.ExpectedVersion(same[i].APIVersion) {
			e = &same[i]
			break
		}
	}
	const next = "make another endpoint with a pinned version (tillhook endpoint create), have both secrets in STRIPE_WEBHOOK_SECRET meanwhile, then delete the old one"
	switch {
	case e.APIVersion == "":
		say(health.EndpointVersion, health.Warn, next, "The endpoint has no API version of its own: its events change form whenever the account's default does.")
	case !stripe.ExpectedVersion(e.APIVersion):
		say(health.EndpointVersion, health.Warn, next, "The endpoint is sent events of API version %s, which this version of tillhook was not tested with; it reads what it can.", e.APIVersion)
	default:
		say(health.EndpointVersion, health.OK, "", "The endpoint is sent events of API version %s.", e.APIVersion)
	}
}

// SameURL reports whether an endpoint is of an address. The query leads to no other place: it can
// choose an API version, as Stripe's guide to upgrades has it, or hold a key for a firewall. Nor do
// a slash at the end or one too many, which the receiver accepts, escapes, the case of the host, a
// dot behind it, or a default port that is written.
// https://docs.stripe.com/webhooks/versioning
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

// matches are the endpoints of an address, whatever their query: those that are enabled first, and
// of those the ones of exactly the address; and the endpoints that are nearly of it.
func matches(all []stripe.Endpoint, address string) (same, similar []stripe.Endpoint) {
	for _, e := range all {
		switch {
		case address != "" && SameURL(e.URL, address):
			same = append(same, e)
		case address != "" && normal(e.URL) == normal(address):
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

// normal is an address without what people get wrong: scheme, case of the host, www, a port that goes without saying, a slash at
// the end.
func normal(address string) string {
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

// difference names what two addresses that are nearly the same differ by.
func difference(one, other string) string {
	a, errA := url.Parse(one)
	b, errB := url.Parse(other)
	if errA != nil || errB != nil {
		return "its form"
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
	differs("the slash at the end", strings.HasSuffix(a.Path, "/") != strings.HasSuffix(b.Path, "/"))
	if len(parts) == 0 {
		return "the way it is written"
	}
	return strings.Join(parts, " and ")
}

// Payload says whether an endpoint is sent thin events, as the API v2 lists destinations.
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
			hear = append(hear, "The destination "+d.ID+" hears "+strings.Join(d.EventsFrom, ", ")+".")
		}
	}
	f := health.Finding{Code: health.EndpointPayload, Severity: health.OK, Message: "The endpoint is sent whole events (snapshot payloads)."}
	switch {
	case thin > 0 && snapshot == 0:
		f.Severity, f.Message = health.Fail, "The endpoint is sent thin events alone, which name an object and do not hold it: each must be fetched, with a key."
		f.Next = "make an endpoint with snapshot payloads: tillhook endpoint create"
	case thin > 0:
		f.Severity, f.Message = health.Warn, "Beside whole events this URL is sent thin ones, which lie in quarantine until what they name is fetched."
		f.Next = "delete the endpoint of thin payloads, unless something else needs it"
	case snapshot == 0:
		f.Severity, f.Message = health.Unknown, "Stripe does not list this URL among its enabled event destinations."
		f.Next = "see the finding on the endpoint"
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
