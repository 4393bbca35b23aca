package ledger_test

import (
	"errors"
	"testing"
	"time"

	"tillhook/ledger"
)

// A day begins at its first moment, at whatever time of the clock that is, and ends when the next
// day begins.
func TestDaysOfTimezones(t *testing.T) {
	for _, c := range []struct {
		zone, day, begins string
		hours             float64
	}{
		{"", "2026-03-29", "2026-03-29T00:00:00Z", 24},
		{"UTC", "2026-03-29", "2026-03-29T00:00:00Z", 24},
		{"Europe/Berlin", "2026-03-28", "2026-03-27T23:00:00Z", 24},
		{"Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z", 23},
		{"Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00Z", 25},
		{"America/New_York", "2026-03-08", "2026-03-08T05:00:00Z", 23},
		{"America/New_York", "2026-11-01", "2026-11-01T04:00:00Z", 25},
		{"Pacific/Auckland", "2026-04-05", "2026-04-04T11:00:00Z", 25},
		{"Pacific/Auckland", "2026-09-27", "2026-09-26T12:00:00Z", 23},
		{"Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00Z", 24.5},
		{"Asia/Kathmandu", "2026-01-01", "2025-12-31T18:15:00Z", 24},
		{"Pacific/Kiritimati", "2026-01-01", "2025-12-31T10:00:00Z", 24},
		// Clocks change at midnight: 00:00 does not exist, or exists twice.
		{"Africa/Cairo", "2024-04-25", "2024-04-24T22:00:00Z", 24},
		{"Africa/Cairo", "2024-04-26", "2024-04-25T22:00:00Z", 23},
		{"America/Havana", "2024-11-03", "2024-11-03T04:00:00Z", 25},
		{"America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", 23},
		// A day that was skipped begins and ends with the next day.
		{"Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z", 0},
	} {
		zone, err := ledger.Timezone(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := ledger.ParseTime(c.day, zone)
		if got := time.Unix(at, 0).UTC().Format(time.RFC3339); err != nil || got != c.begins {
			t.Errorf("%s begins in %s at %s, want %s, %v", c.day, c.zone, got, c.begins, err)
		}
		if c.hours == 0 {
			continue
		}
		for _, within := range []int64{at, at + 1, at + int64(c.hours*3600) - 1} {
			begin, next := ledger.DayOf(within, zone)
			if begin != at || next != at+int64(c.hours*3600) {
				t.Errorf("the day of %d in %s is from %d to %d, want %d and %v hours", within, c.zone, begin, next, at,
					c.hours)
			}
		}
	}
}

func TestParseTime(t *testing.T) {
	berlin, err := ledger.Timezone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int64{
		"0": 0, "-5": -5, "1775001600": 1775001600, "2026-04-01": 1774994400, "2026-04-01T00:00:00Z": 1775001600,
		"2026-04-01T02:00:00+02:00": 1775001600,
	} {
		if got, err := ledger.ParseTime(text, berlin); got != want || err != nil {
			t.Errorf("%s: got %d, want %d, %v", text, got, want, err)
		}
	}
	for _, text := range []string{"", "yesterday", "2026-02-30", "2026-04-01T00:00:00", "1.5", "99999999999999999999",
		"2026-4-1"} {
		if got, err := ledger.ParseTime(text, berlin); err == nil {
			t.Errorf("%q was parsed as %d", text, got)
		}
	}
	for _, name := range []string{"Berlin", "Local", "../../etc/passwd", "/etc/localtime", "Europe/", "europe berlin"} {
		if zone, err := ledger.Timezone(name); !errors.Is(err, ledger.ErrTimezone) {
			t.Errorf("the timezone %q is %v, %v", name, zone, err)
		}
	}
}
