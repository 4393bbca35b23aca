package stripe

import (
	"bytes"
	"encoding/json"
	"strings"
)

// ProbeAgent is the User-Agent of requests that only try the way to the public door.
const ProbeAgent = "tillhook doctor (not Stripe)"

// probeObject is what a probe says it is.
const probeObject = "tillhook.probe"

// ProbeBody is a body that only asks whether the public door is reached, at least size bytes long. It is written as Stripe writes, so that
// whatever rewrites Stripe's bodies on the way rewrites this one.
func ProbeBody(nonce string, size int) []byte {
	body, err := json.MarshalIndent(struct {
		Object  string `json:"object"`
		Nonce   string `json:"nonce"`
		Text    string `json:"text"`
		Padding string `json:"padding"`
	}{probeObject, nonce, "Grüße aus der Buchbinderei", strings.Repeat("till hook ", size/10)}, "", "  ")
	if err != nil {
		panic(err) // of texts there is nothing that cannot be written
	}
	return body
}

// ProbeNonce reads the nonce of a probe; empty for any other body.
func ProbeNonce(body []byte) string {
	if !bytes.Contains(body[:min(len(body), 64)], []byte(probeObject)) {
		return ""
	}
	var p struct{ Object, Nonce string }
	if json.Unmarshal(body, &p) != nil || p.Object != probeObject {
		return ""
	}
	return p.Nonce
}
