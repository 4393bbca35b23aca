package ledger

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"time"
	_ "time/tzdata" // used only on machines without /usr/share/zoneinfo
)

// ErrTimezone is returned if a name is not the name of a time zone.
var ErrTimezone = errors.New("not a time zone")

// Timezone returns the time zone with a name from the IANA database, or UTC for the empty name.
func Timezone(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	if name != "Local" { // its meaning depends on the machine
		if zone, err := time.LoadLocation(name); err == nil {
			return zone, nil
		}
	}
	return nil, fmt.Errorf("%q is %w: write a name of the IANA database, such as Europe/Berlin (timedatectl list-timezones lists them)", name, ErrTimezone)
}

// errYears is returned for a time that is too early or too late to be that of a payment.
var errYears = errors.New("not within the years 1 to 9999: write Unix seconds, not milliseconds, or 2026-04-01")

// The first seconds of the years 1 and 10000.
const firstSecond, lastSecond = -62135596800, 253402300800

// errTime is returned for a text in none of the forms that ParseTime accepts.
var errTime = errors.New("not a time: write 2026-04-01, 2026-04-01T08:00:00Z, or Unix seconds")

// ParseTime parses a time and returns it in Unix seconds. It accepts a day (2026-04-01), which
// stands for its first second in the zone, an RFC 3339 time, and Unix seconds within the years 1 to
// 9999.
func ParseTime(s string, zone *time.Location) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < firstSecond || n >= lastSecond {
			return 0, fmt.Errorf("%q is %w", s, errYears)
		}
		return n, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return dayBegins(t, zone), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.Unix(), nil
	}
	return 0, fmt.Errorf("%q is %w", s, errTime)
}

// dayBegins returns the first second of a calendar day in a zone. It uses only the year, the month
// and the day of day. time.Date cannot be used: in some zones the clocks change at midnight, and it
// may then return a time on the day before, or the second of two midnights.
func dayBegins(day time.Time, zone *time.Location) int64 {
	year, month, date := day.Date()
	wanted := time.Date(year, month, date, 0, 0, 0, 0, time.UTC)
	if zone == time.UTC {
		return wanted.Unix()
	}
	const around = 36 * 60 * 60 // seconds; no zone is that far from UTC
	earliest := wanted.Unix() - around
	return earliest + int64(sort.Search(2*around, func(i int) bool {
		year, month, date := time.Unix(earliest+int64(i), 0).In(zone).Date()
		return !time.Date(year, month, date, 0, 0, 0, 0, time.UTC).Before(wanted)
	}))
}

// DayOf returns the first second of the day in a zone that contains a time, and the first second of
// the next day.
func DayOf(at int64, zone *time.Location) (begin, next int64) {
	t := time.Unix(at, 0).In(zone)
	return dayBegins(t, zone), dayBegins(t.AddDate(0, 0, 1), zone)
}
