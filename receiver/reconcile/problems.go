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
	// repeatAfter is how long a logged problem is not logged again.
	repeatAfter = 12 * time.Hour
	// maxProblems is the maximum number of problems in a report.
	maxProblems = 100
)

// reportProblem adds a problem to the report and logs it, unless a problem with the same key was
// logged recently. The key identifies the problem; the text can contain request ids and times.
func (w *round) reportProblem(key, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(w.report.Problems) < maxProblems {
		w.report.Problems = append(w.report.Problems, text)
	}
	if w.shouldLog(key) {
		w.Log.Warn("reconcile: " + text)
	}
}

// shouldLog reports whether a key was not logged recently, and records that it is logged now.
func (r *Reconciler) shouldLog(key string) bool {
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

// volatile matches what differs each time the same error happens: request ids, and numbers such as
// times and ports.
var volatile = regexp.MustCompile(`req_[0-9A-Za-z]+|[0-9]+`)

// problemKey returns a key that is the same each time an error happens.
func problemKey(err error) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		key := ""
		for _, e := range joined.Unwrap() {
			key += problemKey(e) + "\n"
		}
		return key
	}
	var of *accountError
	if errors.As(err, &of) {
		return "account " + of.account + " " + problemKey(of.err)
	}
	var refused *stripe.APIError
	if errors.As(err, &refused) {
		return fmt.Sprintf("%d %s %s", refused.Status, refused.Path, refused.Code)
	}
	return volatile.ReplaceAllString(err.Error(), "#")
}
