package ledger

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"time"
	_ "time/tzdata" // for machines without /usr/share/zoneinfo; where there is one, it counts
)

// ErrTimezone: a name stands for no time zone.
var ErrTimezone = errors.New("not a time zone")

// Timezone returns the time zone of a name of the IANA database; UTC for the empty name.
func Timezone(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	if name != "Local" { // what it means depends on the machine
		if zone, err := time.LoadLocation(name); err == nil {
			return zone, nil
		}
	}
	return nil, fmt.Errorf("%q is %w: write a name of the IANA database, such as Europe/Berlin (timedatectl list-timezones lists them)", name, ErrTimezone)
}

// errYears: a time is too early or too late for a calendar, and so for any payment.
var errYears = errors.New("not within the years 1 to 9999: write Unix seconds, not milliseconds, or 2026-04-01")

// The first second of the year 1 and of the year 10000.
const firstSecond, lastSecond = -62135596800, 253402300800

// errTime is how a time can be written.
var errTime = errors.New("not a time: write 2026-04-01, 2026-04-01T08:00:00Z, or Unix seconds")

// ParseTime reads a time as people write it, and returns Unix seconds: a day (2026-04-01), which
// begins at its first moment in the zone, an RFC 3339 time, or Unix seconds. Each is of a year from
// 1 to 9999.
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

// dayBegins returns the first second of a calendar day in a zone; of day only year, month and day
// count. Days have 23 or 25 hours where clocks are changed, and there are zones where that happens
// at midnight: time.Date may then return a moment of the day before, or the second of two
// midnights.
func dayBegins(day time.Time, zone *time.Location) int64 {
	year, month, date := day.Date()
	wanted := time.Date(year, month, date, 0, 0, 0, 0, time.UTC)
	if zone == time.UTC {
		return wanted.Unix()
	}
	const around = 36 * 60 * 60 // seconds; no zone is so far from UTC
	earliest := wanted.Unix() - around
	return earliest + int64(sort.Search(2*around, func(i int) bool {
		year, month, date := time.Unix(earliest+int64(i), 0).In(zone).Date()
		return !time.Date(year, month, date, 0, 0, 0, 0, time.UTC).Before(wanted)
	}))
}

// DayOf returns the first second of the day that a time lies in, and that of the next day, in a
// zone.
func DayOf(at int64, zone *time.Location) (begin, next int64) {
	t := time.Unix(at, 0).In(zone)
	return dayBegins(t, zone), dayBegins(t.AddDate(0, 0, 1), zone)
}
