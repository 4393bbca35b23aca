package stripe

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"tillhook/ledger"
)

// envelope holds the fields around an event's object.
type envelope struct {
	id, object, typ, account, context, apiVersion, created, livemode, data value
}

func (e *envelope) read(v value) {
	v.fields(func(name []byte, field value) {
		switch string(name) {
		case "id":
			e.id = field
		case "object":
			e.object = field
		case "type":
			e.typ = field
		case "account":
			e.account = field
		case "context":
			e.context = field
		case "api_version":
			e.apiVersion = field
		case "created":
			e.created = field
		case "livemode":
			e.livemode = field
		case "data":
			e.data = field
		}
	})
}

// Decode decodes a verified body of any API version for a receiver of the given mode. It always
// returns an event: one that cannot be used has Quarantine set and the fields that could be read.
// The event refers to body, which must not be modified afterwards. The caller sets Source and
// Received.
func Decode(body []byte, livemode bool) *ledger.Event {
	e := &ledger.Event{Livemode: livemode, Raw: body}
	d, ok := parse(body)
	if ok {
		defer d.release()
	}
	if !ok || !d.root().isObject() {
		e.ID, e.Quarantine = bodyID(body), ledger.Undecodable
		return e
	}
	var env envelope
	env.read(d.root())
	named := readEnvelope(e, &env)
	switch {
	case env.object.equals("v2.core.event"):
		e.Quarantine = ledger.ThinEvent
	case !env.object.equals("event") || !named:
		e.Quarantine = ledger.Undecodable
	case e.Livemode != livemode:
		e.Quarantine = ledger.WrongMode
	default:
		if e.Facts, ok = readFacts(e.Type, env.data); !ok {
			e.Quarantine = ledger.Undecodable
		}
	}
	if e.Quarantine != "" {
		markExpected(e, livemode)
	}
	return e
}

// readEnvelope copies the envelope to the event, each field on its own. It reports whether the
// fields that every event needs are valid: id, type, livemode.
func readEnvelope(e *ledger.Event, env *envelope) (complete bool) {
	id, _ := env.id.text()
	idOK := usableID(id)
	if !idOK {
		id = bodyID(e.Raw)
	}
	e.ID = id
	var typeOK, modeOK bool
	e.Type, typeOK = env.typ.text()
	if mode, ok := env.livemode.boolean(); ok {
		e.Livemode, modeOK = mode, true
	}
	e.Context = readContext(env.context)
	if e.Account, _ = env.account.text(); !usableID(e.Account) {
		e.Account = accountOf(e.Context)
	}
	e.APIVersion, _ = env.apiVersion.text()
	e.Created = readTime(env.created)
	return idOK && typeOK && modeOK
}

// readContext reads the path that names the account of an event, for example "org_…/acct_…". It
// returns "" if the path is invalid. https://docs.stripe.com/api/events/object#event_object-context
func readContext(v value) string {
	context, _ := v.text()
	for element := range strings.SplitSeq(context, "/") {
		if !usableID(element) || len(context) > 255 {
			return ""
		}
	}
	return context
}

// accountOf returns the last account in a context, or "".
func accountOf(context string) (account string) {
	for element := range strings.SplitSeq(context, "/") {
		if strings.HasPrefix(element, "acct_") {
			account = element
		}
	}
	return account
}

// usableID reports whether a string can be an id of Stripe's. It bounds the keys on disk.
func usableID(id string) bool {
	if len(id) == 0 || len(id) > 255 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// bodyID returns the id of a body without a usable one, so that its repeats are recognized.
func bodyID(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256_" + hex.EncodeToString(sum[:])
}

// readTime reads Unix seconds as a number or as digits, or an RFC 3339 time (thin events). It
// returns 0 for anything else.
func readTime(v value) int64 {
	if n, ok := v.integer(); ok {
		return n
	}
	s, ok := v.text()
	if !ok {
		return 0
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.Unix()
	}
	return 0
}
