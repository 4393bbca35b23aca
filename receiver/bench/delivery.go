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

// Two events of one payment, with a word in capital letters for each value of its own. The shop in them is another
// one than that of the samples.
var (
	//go:embed created.json
	createdBody string
	//go:embed succeeded.json
	succeededBody string
)

// Request is a whole HTTP request as it goes over the wire, signed.
type Request struct {
	Bytes []byte
	Body  int // bytes of it that are the body
}

// lag is how many events come between the two of a payment.
const lag = 500

// paymentsASecond is how many payments share the second that is in their ids.
const paymentsASecond = 10_000

// Maker makes requests whose ids have Stripe's form and grow with time: a version, 5 characters of time, 10 that are the
// account's, 8 of chance. Payment, charge and event share the first 16.
type Maker struct {
	secret string
	from   time.Time
	rand   *rand.Rand
	made   int  // payments
	random bool // ids of chance alone
	late   []payment
}

// NewMaker makes one that signs with a secret, for payments from a time on.
func NewMaker(secret string, from time.Time) *Maker {
	return &Maker{secret: secret, from: from, rand: rand.New(rand.NewPCG(uint64(from.UnixNano()), 1))}
}

// payment is what its events have in common.
type payment struct {
	created                        int64
	id, charge, customer, method   string
	secret, order, request, amount string
}

// Fresh makes events that were not made before: each payment's creation, and its success some time later.
func (m *Maker) Fresh(n int) []Request {
	list := make([]Request, 0, n)
	for len(list) < n {
		if len(m.late) > lag/2 {
			list = append(list, m.sign(m.body(succeededBody, m.late[0])))
			m.late = m.late[1:]
		}
		if len(list) < n {
			p := m.payment()
			m.late = append(m.late, p)
			list = append(list, m.sign(m.body(createdBody, p)))
		}
	}
	return list
}

// Random is Fresh with ids that have no order.
func (m *Maker) Random(n int) []Request {
	m.random = true
	return m.Fresh(n)
}

// Forged is Fresh signed with another secret.
func (m *Maker) Forged(n int) []Request {
	other := *m
	other.secret = "whsec_" + m.chance(32)
	return other.Fresh(n)
}

func (m *Maker) payment() payment {
	at := m.from.Unix() + int64(m.made/paymentsASecond)
	m.made++
	shared := "3" + m.stamp(at)
	return payment{
		created: at, id: "pi_" + shared + m.chance(8), charge: "ch_" + shared + m.chance(8), customer: "cus_" + m.chance(14),
		method: "pm_1" + m.stamp(at) + m.chance(8), secret: m.chance(25), order: fmt.Sprintf("%06d", m.rand.IntN(1e6)),
		request: m.uuid(), amount: strconv.Itoa(1000 + m.rand.IntN(90_000)),
	}
}

// stamp is time and account of an id.
func (m *Maker) stamp(at int64) string {
	if m.random {
		return m.chance(15)
	}
	var text [5]byte
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = base62[at%62]
		at /= 62
	}
	return string(text[:]) + "LkdIwHu7ix"
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func (m *Maker) chance(n int) string {
	text := make([]byte, n)
	for i := range text {
		text[i] = base62[m.rand.IntN(len(base62))]
	}
	return string(text)
}

func (m *Maker) uuid() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(m.rand.Uint32())
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (m *Maker) body(template string, p payment) string {
	return strings.NewReplacer("EVENT", "evt_3"+m.stamp(p.created)+m.chance(8), "PAYMENT", p.id, "CHARGE", p.charge, "CUSTOMER", p.customer, "METHOD", p.method,
		"SECRET", p.secret, "ORDER", p.order, "REQUEST", "req_"+m.chance(14), "IDEMPOTENCY", p.request, "AMOUNT", p.amount,
		"CREATED", strconv.FormatInt(p.created, 10)).Replace(template)
}

// sign makes the request that Stripe would send.
func (m *Maker) sign(body string) Request {
	at := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(m.secret))
	mac.Write([]byte(at + "." + body))
	return Request{Body: len(body), Bytes: fmt.Appendf(nil, "POST /webhooks/stripe HTTP/1.1\r\nHost: shop.example\r\n"+
		"User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nContent-Length: %d\r\nAccept: */*; q=0.5, application/xml\r\n"+
		"Cache-Control: no-cache\r\nContent-Type: application/json; charset=utf-8\r\nStripe-Signature: t=%s,v1=%s,v0=%s\r\n\r\n%s",
		len(body), at, hex.EncodeToString(mac.Sum(nil)), m.v0(), body)}
}

// v0 is the signature that Stripe adds in test mode, and that signs nothing.
func (m *Maker) v0() string {
	var b [32]byte
	for i := range b {
		b[i] = byte(m.rand.Uint32())
	}
	return hex.EncodeToString(b[:])
}
