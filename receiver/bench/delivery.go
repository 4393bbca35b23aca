package bench

import (
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Templates of the two events of a payment. Words in capital letters stand for values. The shop in
// them differs from the one in the samples, which the compression dictionary was made from.
var (
	//go:embed created.json
	createdBody string
	//go:embed succeeded.json
	succeededBody string
)

// Request is a signed HTTP request as it is written to the connection.
type Request struct {
	Bytes []byte
	Body  int // length of the body in bytes
}

// eventsBetween is the number of events between the two events of a payment.
const eventsBetween = 500

// paymentsPerSecond is the number of payments with the same second in their ids.
const paymentsPerSecond = 10_000

// Generator makes requests whose ids have Stripe's form and grow with time: a version, 5 characters
// of time, 10 of the account, 8 random ones. A payment, its charge and its events share the first
// 16.
type Generator struct {
	secret     string
	from       time.Time
	rand       *rand.Rand
	made       int  // number of payments so far
	random     bool // ids have no order
	unfinished []payment
}

// NewGenerator returns a generator of payments that begin at from, signed with secret.
func NewGenerator(secret string, from time.Time) *Generator {
	return &Generator{secret: secret, from: from, rand: rand.New(rand.NewPCG(uint64(from.UnixNano()), 1))}
}

// payment holds the values that the events of one payment share.
type payment struct {
	created                        int64
	id, charge, customer, method   string
	secret, order, request, amount string
}

// NewEvents returns n requests with events that were not made before: the creation of each payment
// and, some events later, its success.
func (g *Generator) NewEvents(n int) []Request {
	list := make([]Request, 0, n)
	for len(list) < n {
		if len(g.unfinished) > eventsBetween/2 {
			list = append(list, g.sign(g.body(succeededBody, g.unfinished[0])))
			g.unfinished = g.unfinished[1:]
		}
		if len(list) < n {
			p := g.payment()
			g.unfinished = append(g.unfinished, p)
			list = append(list, g.sign(g.body(createdBody, p)))
		}
	}
	return list
}

// RandomIDs is NewEvents with ids that have no order.
func (g *Generator) RandomIDs(n int) []Request {
	g.random = true
	return g.NewEvents(n)
}

// Forged is NewEvents signed with another secret.
func (g *Generator) Forged(n int) []Request {
	other := *g
	other.secret = "whsec_" + g.randomText(32)
	return other.NewEvents(n)
}

func (g *Generator) payment() payment {
	at := g.from.Unix() + int64(g.made/paymentsPerSecond)
	g.made++
	shared := "3" + g.stamp(at)
	return payment{
		created: at, id: "pi_" + shared + g.randomText(8), charge: "ch_" + shared + g.randomText(8), customer: "cus_" + g.randomText(14),
		method: "pm_1" + g.stamp(at) + g.randomText(8), secret: g.randomText(25), order: fmt.Sprintf("%06d", g.rand.IntN(1e6)),
		request: g.uuid(), amount: strconv.Itoa(1000 + g.rand.IntN(90_000)),
	}
}

// stamp returns the time and the account of an id.
func (g *Generator) stamp(at int64) string {
	if g.random {
		return g.randomText(15)
	}
	var text [5]byte
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = base62[at%62]
		at /= 62
	}
	return string(text[:]) + "LkdIwHu7ix"
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func (g *Generator) randomText(n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = base62[g.rand.IntN(len(base62))]
	}
	return string(text)
}

func (g *Generator) uuid() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(g.rand.Uint32())
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (g *Generator) body(template string, p payment) string {
	return strings.NewReplacer("EVENT", "evt_3"+g.stamp(p.created)+g.randomText(8), "PAYMENT", p.id, "CHARGE", p.charge, "CUSTOMER", p.customer, "METHOD", p.method,
		"SECRET", p.secret, "ORDER", p.order, "REQUEST", "req_"+g.randomText(14), "IDEMPOTENCY", p.request, "AMOUNT", p.amount,
		"CREATED", strconv.FormatInt(p.created, 10)).Replace(template)
}

// sign returns the request that Stripe would send.
func (g *Generator) sign(body string) Request {
	at := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(g.secret))
	mac.Write([]byte(at + "." + body))
	return Request{Body: len(body), Bytes: fmt.Appendf(nil, "POST /webhooks/stripe HTTP/1.1\r\nHost: shop.example\r\n"+
		"User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nContent-Length: %d\r\nAccept: */*; q=0.5, application/xml\r\n"+
		"Cache-Control: no-cache\r\nContent-Type: application/json; charset=utf-8\r\nStripe-Signature: t=%s,v1=%s,v0=%s\r\n\r\n%s",
		len(body), at, hex.EncodeToString(mac.Sum(nil)), g.v0(), body)}
}

// v0 returns a signature of the scheme that Stripe adds in test mode. Receivers ignore it.
func (g *Generator) v0() string {
	var b [32]byte
	for i := range b {
		b[i] = byte(g.rand.Uint32())
	}
	return hex.EncodeToString(b[:])
}
