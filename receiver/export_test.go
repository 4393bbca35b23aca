package receiver

import "time"

// Deadline is when a request that began at some time is answered at the latest.
func (r *Receiver) Deadline(start time.Time) time.Time {
	d, _ := r.wave(start).Deadline()
	return d
}
