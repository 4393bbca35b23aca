package stripe

import (
	"net/http"
	"time"
)

const (
	// MaxDisagreement is the difference between this machine's clock and Stripe's above which one
	// of them is considered wrong.
	MaxDisagreement = 24 * time.Hour
	// listedSlack is how far Stripe's clock may be behind the time of an event that Stripe has
	// already listed.
	listedSlack = 10 * time.Minute
)

// Clocks are the readings of this machine's clock and of Stripe's at the same moment. Either can be
// wrong by years: this machine's after a boot without a battery, Stripe's if a proxy changes the
// Date header.
type Clocks struct {
	Ours   time.Time
	Stripe time.Time // equal to Ours if unknown
	Known  bool      // Stripe has answered with a Date header
	seen   time.Time // time of an event that Stripe has listed; zero if none
}

// Earlier returns the earlier reading.
func (c Clocks) Earlier() time.Time {
	if c.Stripe.Before(c.Ours) {
		return c.Stripe
	}
	return c.Ours
}

// Later returns the later reading.
func (c Clocks) Later() time.Time {
	if c.Stripe.After(c.Ours) {
		return c.Stripe
	}
	return c.Ours
}

// Contradict reports whether the clocks differ by so much that one of them must be wrong.
func (c Clocks) Contradict() bool { return c.Later().Sub(c.Earlier()) > MaxDisagreement }

// Agree reports whether both clocks are known and do not contradict each other.
func (c Clocks) Agree() bool { return c.Known && !c.Contradict() }

// Believed returns the time up to which events can have happened at Stripe: the earlier reading. If
// the clocks contradict each other and the earlier one is before an event that Stripe has already
// listed, it is the later reading. ok is false if they contradict each other and no event is known:
// then the time is unknown.
func (c Clocks) Believed() (now time.Time, ok bool) {
	if !c.Contradict() {
		return c.Earlier(), true
	}
	if c.seen.IsZero() || !c.Earlier().Before(c.seen.Add(-listedSlack)) {
		return c.Earlier(), !c.seen.IsZero()
	}
	return c.Later(), true
}

// Corrected returns this machine's time, or the believed time if Stripe's clock contradicts it.
func (c Clocks) Corrected() time.Time {
	if !c.Contradict() {
		return c.Ours
	}
	now, _ := c.Believed()
	return now
}

// clockReading is a reading of Stripe's clock.
type clockReading struct {
	date time.Time // Stripe's time
	read time.Time // when it was read; its monotonic reading survives changes of this machine's clock
}

// readDate reads a Date header, which is truncated to seconds. On average the true time is half a
// second later.
func readDate(resp *http.Response) (time.Time, bool) {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	return date.Add(500 * time.Millisecond), err == nil
}

// localTime returns this machine's time.
func (a *API) localTime() time.Time {
	if a.Wall != nil {
		return a.Wall()
	}
	return time.Now().Round(0)
}

// Clocks returns the readings of both clocks.
func (a *API) Clocks() Clocks {
	c := Clocks{Ours: a.localTime()}
	c.Stripe = c.Ours
	if p := a.clock.Load(); p != nil {
		c.Stripe, c.Known = p.date.Add(time.Since(p.read)), true
	}
	// An event in the future of both clocks proves nothing.
	if seen := time.Unix(a.seen.Load(), 0); seen.Unix() > 0 && !seen.After(c.Later().Add(listedSlack)) {
		c.seen = seen
	}
	return c
}

// SawEvent records that Stripe has listed an event with a creation time in Unix seconds.
func (a *API) SawEvent(created int64) {
	for {
		old := a.seen.Load()
		known := old <= a.Clocks().Later().Add(listedSlack).Unix() // false if it is from the future
		if known && created <= old || a.seen.CompareAndSwap(old, created) {
			return
		}
	}
}

// Skew returns how far this machine's clock is ahead of Stripe's. ok is false before Stripe's first
// answer.
func (a *API) Skew() (skew time.Duration, ok bool) {
	c := a.Clocks()
	return c.Ours.Sub(c.Stripe), c.Known
}

// Answered returns when Stripe last answered with a Date header, by this machine's clock at that
// time. ok is false before the first such answer.
func (a *API) Answered() (at time.Time, ok bool) {
	p := a.clock.Load()
	if p == nil {
		return time.Time{}, false
	}
	return p.read, true
}
