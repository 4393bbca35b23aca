package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	day = 24 * time.Hour
	// maxDays is far below an overflow of a duration.
	maxDays = 1<<16 - 1
)

// duration reads a Go duration ("90s", "1h30m") or a number of days or weeks ("90d", "90 days",
// "2w"). A negative duration is an error, and so are months and years, which have no fixed length.
func (r *reader) duration(name, value string) (time.Duration, bool) {
	d, err := ParseDuration(value)
	switch {
	case err != nil:
		r.fault(name, "is not a duration", "write a number and its unit: 90s, 15m, 24h, 90d, or 0"+suggestDays(value))
		return 0, false
	case d < 0:
		r.fault(name, "is negative", "write a number and its unit: 90s, 15m, 24h, 90d, or 0")
		return 0, false
	}
	return d, true
}

var (
	wholeDays = regexp.MustCompile(`^([0-9]+) *(d|days?|w|weeks?)$`)
	calendar  = regexp.MustCompile(`^([0-9]+) *(mo|mon|mons|mth|mths|months?|y|yr|yrs|years?)$`)
)

// ParseDuration parses a Go duration, or a number of days or weeks.
func ParseDuration(value string) (time.Duration, error) {
	match := wholeDays.FindStringSubmatch(strings.ToLower(value))
	if match == nil {
		return time.ParseDuration(value)
	}
	n, err := strconv.ParseUint(match[1], 10, 16)
	if match[2][0] == 'w' {
		n *= 7
	}
	if err == nil && n > maxDays {
		err = strconv.ErrRange
	}
	return time.Duration(n) * day, err
}

// suggestDays returns what to write instead of a number of months or years, or "" for any other
// value. It repeats no part of a value that could be a secret.
func suggestDays(value string) string {
	match := calendar.FindStringSubmatch(strings.ToLower(value))
	if match == nil {
		return ""
	}
	n, err := strconv.ParseUint(match[1], 10, 8)
	if err != nil {
		return "; months and years are written in days"
	}
	length := uint64(30)
	if match[2][0] == 'y' {
		length = 365
	}
	return fmt.Sprintf("; months and years are written in days: %dd", n*length)
}

// confirmed ends a retention below a day that is intended.
const confirmed = "!"

// retention reads how long bodies are kept. Less than a day must be confirmed, because 3m looks
// like three months, and bodies that were deleted too early cannot be restored.
func (r *reader) retention(name, value string) {
	length, sure := strings.CutSuffix(value, confirmed)
	d, ok := r.duration(name, length)
	if ok && d != 0 && d < day && !sure {
		meant := "write days, such as 90d"
		if minutes := d / time.Minute; minutes*time.Minute == d && minutes <= 60 { // the usual mistake
			meant = fmt.Sprintf("%dm is minutes; for months write days: %dd", minutes, 30*minutes)
		}
		r.fault(name, "is "+length+": the body of every event would be deleted that soon after it arrived",
			meant+"; if so short a time is intended, write "+length+confirmed)
	}
	r.config.Retention = d
}
