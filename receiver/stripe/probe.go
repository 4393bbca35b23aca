package stripe

import (
	"bytes"
	"encoding/json"
	"strings"
)

// ProbeAgent is the User-Agent of probes of the webhook listener.
const ProbeAgent = "tillhook doctor (not Stripe)"

// probeObject is the value of "object" in a probe.
const probeObject = "tillhook.probe"

// ProbeBody returns the body of a probe of the webhook listener, at least size bytes long. It is
// formatted like Stripe's bodies, so that a proxy that rewrites those rewrites this one too.
func ProbeBody(nonce string, size int) []byte {
	body, err := json.MarshalIndent(struct {
		Object  string `json:"object"`
		Nonce   string `json:"nonce"`
		Text    string `json:"text"`
		Padding string `json:"padding"`
	}{probeObject, nonce, "Grüße aus der Buchbinderei", strings.Repeat("till hook ", size/10)}, "", "  ")
	if err != nil {
		panic(err) // strings can always be marshaled
	}
	return body
}

// ProbeNonce returns the nonce of a probe, or "" for any other body.
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
