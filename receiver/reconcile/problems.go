package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"time"

	"tillhook/receiver/stripe"
)

const (
	// repeatAfter is how long a problem that was logged is not logged again.
	repeatAfter = 12 * time.Hour
	// maxProblems a report names.
	maxProblems = 100
)

// problem adds to the report what was left out, and logs it unless the problem of that key was
// logged recently. The key names the problem whatever words describe it: the words hold request ids
// and times.
func (w *round) problem(key, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(w.report.Problems) < maxProblems {
		w.report.Problems = append(w.report.Problems, text)
	}
	if w.news(key) {
		w.Log.Warn("reconcile: " + text)
	}
}

// news reports whether a key was not logged recently, and remembers that it is now.
func (r *Reconciler) news(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(r.logged, func(_ string, at time.Time) bool { return now.Sub(at) > repeatAfter })
	_, known := r.logged[key]
	if !known {
		r.logged[key] = now
	}
	return !known
}

// changing is what differs each time the same error is described: numbers, as in times, ports and
// request ids, and those ids.
var changing = regexp.MustCompile(`req_[0-9A-Za-z]+|[0-9]+`)

// keyOf returns a key that is the same for an error each time it happens.
func keyOf(err error) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		key := ""
		for _, e := range joined.Unwrap() {
			key += keyOf(e) + "\n"
		}
		return key
	}
	var of *accountError
	if errors.As(err, &of) {
		return "account " + of.account + " " + keyOf(of.err)
	}
	var refused *stripe.APIError
	if errors.As(err, &refused) {
		return fmt.Sprintf("%d %s %s", refused.Status, refused.Path, refused.Code)
	}
	return changing.ReplaceAllString(err.Error(), "#")
}
