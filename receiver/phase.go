package receiver

import "sync/atomic"

// Phase is how far a process is with its public door: starting at first, then serving, then
// stopping.
type Phase struct{ at atomic.Int32 }

const (
	phaseServing = iota + 1
	phaseStopping
)

// Serve is called once the public door is open.
func (p *Phase) Serve() { p.at.CompareAndSwap(0, phaseServing) }

// Stop is called when the public door is about to close.
func (p *Phase) Stop() { p.at.Store(phaseStopping) }

// NotServing returns why the public door takes no events, "" while it does.
func (p *Phase) NotServing() string {
	switch p.at.Load() {
	case phaseServing:
		return ""
	case phaseStopping:
		return "the receiver is stopping"
	}
	return "the receiver is starting: its public door is not open yet"
}
