package stripe

import (
	"net/http"
	"time"
)

const (
	// MaxDisagreement is how far this machine's clock and Stripe's may differ before one of the two
	// is not believed.
	MaxDisagreement = 24 * time.Hour
	// seenSlack bounds by how much Stripe's clock may read less than the date of an event that it
	// has already listed.
	seenSlack = 10 * time.Minute
)

// Clocks are the readings of this machine's clock and of Stripe's at the same moment. Either can be
// wrong by years: this machine's after a boot without a battery, Stripe's where something on the
// way changes the Date header.
type Clocks struct {
	Ours   time.Time
	Stripe time.Time // as Ours where it is not known
	Known  bool      // Stripe has answered with a Date
	seen   time.Time // Stripe has listed an event of that time; zero where none is known
}

// Earlier returns the lesser reading.
func (c Clocks) Earlier() time.Time {
	if c.Stripe.Before(c.Ours) {
		return c.Stripe
	}
	return c.Ours
}

// Later returns the greater reading.
func (c Clocks) Later() time.Time {
	if c.Stripe.After(c.Ours) {
		return c.Stripe
	}
	return c.Ours
}

// Contradict reports whether the clocks differ by so much that one of them is not believed.
func (c Clocks) Contradict() bool { return c.Later().Sub(c.Earlier()) > MaxDisagreement }

// Agree reports whether both clocks are known and do not contradict each other.
func (c Clocks) Agree() bool { return c.Known && !c.Contradict() }

// Believed returns the time up to which something can have happened at Stripe: the lesser reading.
// Where the clocks contradict each other and the lesser is before an event that Stripe has listed
// already, it is the greater. ok is false where they contradict each other and no event is known:
// then nothing may be concluded from the time.
func (c Clocks) Believed() (now time.Time, ok bool) {
	if !c.Contradict() {
		return c.Earlier(), true
	}
	if c.seen.IsZero() || !c.Earlier().Before(c.seen.Add(-seenSlack)) {
		return c.Earlier(), !c.seen.IsZero()
	}
	return c.Later(), true
}

// Corrected returns this machine's time, or the one to believe where Stripe's clock contradicts it.
func (c Clocks) Corrected() time.Time {
	if !c.Contradict() {
		return c.Ours
	}
	now, _ := c.Believed()
	return now
}

// answered is Stripe's clock as it was read.
type answered struct {
	date time.Time // by Stripe's clock
	read time.Time // when that was; its monotonic reading outlives changes of this machine's clock
}

// dateOf reads a Date header. It is cut to its second: in the middle it is half a second later.
func dateOf(resp *http.Response) (time.Time, bool) {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	return date.Add(500 * time.Millisecond), err == nil
}

// ours returns this machine's time.
func (a *API) ours() time.Time {
	if a.Wall != nil {
		return a.Wall()
	}
	return time.Now().Round(0)
}

// Clocks returns the readings of both clocks.
func (a *API) Clocks() Clocks {
	c := Clocks{Ours: a.ours()}
	c.Stripe = c.Ours
	if p := a.clock.Load(); p != nil {
		c.Stripe, c.Known = p.date.Add(time.Since(p.read)), true
	}
	// An event of the future of both clocks proves nothing.
	if seen := time.Unix(a.seen.Load(), 0); seen.Unix() > 0 && !seen.After(c.Later().Add(seenSlack)) {
		c.seen = seen
	}
	return c
}

// Saw says that Stripe has listed an event that was created at a time, Unix seconds.
func (a *API) Saw(created int64) {
	for {
		old := a.seen.Load()
		known := old <= a.Clocks().Later().Add(seenSlack).Unix() // one from the future is forgotten
		if known && created <= old || a.seen.CompareAndSwap(old, created) {
			return
		}
	}
}

// Skew returns how far this machine's clock is ahead of Stripe's; ok is false while Stripe has not
// answered.
func (a *API) Skew() (skew time.Duration, ok bool) {
	c := a.Clocks()
	return c.Ours.Sub(c.Stripe), c.Known
}

// Answered returns when Stripe last answered with a Date, by this machine's clock of then; ok is
// false while it has not.
func (a *API) Answered() (at time.Time, ok bool) {
	p := a.clock.Load()
	if p == nil {
		return time.Time{}, false
	}
	return p.read, true
}
