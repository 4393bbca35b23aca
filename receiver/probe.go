package receiver

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	// probeTime is how long a nonce is valid, once.
	probeTime = 30 * time.Second
	// maxProbes bounds the nonces that are valid at the same time.
	maxProbes = 16
)

// Probed is the outcome of a request that tests the way to the webhook listener. It is not an
// event, and nothing is stored.
const Probed = "probe"

// probes are the nonces that are valid now.
type probes struct {
	mu     sync.Mutex // guards nonces
	nonces map[string]time.Time
}

// Probe returns a nonce, "" if too many are valid. A signed body of [stripe.ProbeBody] with this
// nonce is answered as a probe.
func (r *Receiver) Probe() (nonce string) {
	p, now := &r.probes, r.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for nonce, end := range p.nonces {
		if now.After(end) {
			delete(p.nonces, nonce)
		}
	}
	if len(p.nonces) >= maxProbes {
		return ""
	}
	if p.nonces == nil {
		p.nonces = map[string]time.Time{}
	}
	nonce = rand.Text()
	p.nonces[nonce] = now.Add(probeTime)
	return nonce
}

// use reports whether a nonce is valid, and makes it invalid.
func (p *probes) use(nonce string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	end, ok := p.nonces[nonce]
	delete(p.nonces, nonce)
	return ok && !now.After(end)
}
