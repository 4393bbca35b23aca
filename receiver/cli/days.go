package cli

import (
	"net/url"
	"strconv"
	"time"

	"tillhook/ledger"

	"github.com/spf13/cobra"
)

// period is a time range as the user wrote it.
type period struct{ from, to, timezone string }

// register adds the flags for a range of what, such as "payments created".
func (s *period) register(c *cobra.Command, what string) {
	c.Flags().StringVar(&s.from, "from", "", "only "+what+" at this `time` or later: 2026-04-01, RFC 3339, or Unix seconds")
	c.Flags().StringVar(&s.to, "to", "", "only "+what+" before this `time`")
	c.Flags().StringVar(&s.timezone, "timezone", "", "the time zone that days begin in and times are shown in, by its IANA `name` such as Europe/Berlin (default UTC)")
}

// set parses the bounds and sets them as two parameters of a request, in Unix seconds.
func (s *period) set(params url.Values, fromName, toName string) (zone *time.Location, err error) {
	if zone, err = ledger.Timezone(s.timezone); err != nil {
		return nil, usagef("--timezone %w", err)
	}
	var at [2]int64
	for i, bound := range []struct{ flag, name, text string }{{"from", fromName, s.from}, {"to", toName, s.to}} {
		if bound.text == "" {
			continue
		}
		if at[i], err = ledger.ParseTime(bound.text, zone); err != nil {
			return nil, usagef("--%s %w", bound.flag, err)
		}
		params.Set(bound.name, strconv.FormatInt(at[i], 10))
	}
	if s.from != "" && s.to != "" && at[0] > at[1] {
		return nil, usagef("--from %s is after --to %s", s.from, s.to)
	}
	return zone, nil
}
