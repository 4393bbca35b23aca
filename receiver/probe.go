package receiver

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	// probeTime is how long a nonce is good, once.
	probeTime = 30 * time.Second
	// maxProbes can be under way at once.
	maxProbes = 16
)

// Probed is the outcome of a request that only asks whether the door is reached. It is no event, and nothing is written.
const Probed = "probe"

// probes are the nonces that were given out and have not come back.
type probes struct {
	mu  sync.Mutex // guards out
	out map[string]time.Time
}

// Probe gives out a nonce; empty if too many are under way. A signed body of [stripe.ProbeBody] with it that comes to the public door is answered as
// a probe.
func (r *Receiver) Probe() (nonce string) {
	p, now := &r.probes, r.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for nonce, end := range p.out {
		if now.After(end) {
			delete(p.out, nonce)
		}
	}
	if len(p.out) >= maxProbes {
		return ""
	}
	if p.out == nil {
		p.out = map[string]time.Time{}
	}
	nonce = rand.Text()
	p.out[nonce] = now.Add(probeTime)
	return nonce
}

// take accepts a nonce once, in its time.
func (p *probes) take(nonce string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	end, ok := p.out[nonce]
	delete(p.out, nonce)
	return ok && !now.After(end)
}
