package receiver

import (
	"errors"
	"log/slog"
	"slices"

	"tillhook/ledger"
	"tillhook/metrics"
	"tillhook/receiver/stripe"
)

// NewMetrics makes the instruments of a receiver of a version, with the words that it and the other rooms use.
func NewMetrics(version string) *metrics.Metrics {
	outcomes := texts(ledger.Outcomes[:])
	return metrics.New(metrics.Names{
		Types: stripe.Types[:], Outcomes: outcomes,
		Answers: append(slices.Clone(outcomes), string(ledger.AlreadyProcessed), Rejected, Failed, Probed),
		Reasons: texts(ledger.Reasons[:]), Failures: texts(stripe.Codes[:]), Version: version,
	})
}

// Quarantine are the events in quarantine by reason and state, as metrics name them.
func Quarantine(s ledger.Stats) map[string]map[string]uint64 {
	all := map[string]map[string]uint64{}
	for reason, states := range s.States {
		all[string(reason)] = map[string]uint64{}
		for state, n := range states {
			all[string(reason)][string(state)] = n
		}
	}
	return all
}

func texts[T ~string](words []T) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	return list
}

// Observer measures commits, and logs when they begin to fail and when they work again. What
// happened to the ledger's file is logged each time that there is more to say of it. The ledger's
// committer is its only caller.
func Observer(m *metrics.Metrics, log *slog.Logger) func(ledger.CommitStats) {
	failing, said := false, ""
	return func(c ledger.CommitStats) {
		m.Commit(c.Duration, c.Events)
		var fault *ledger.FileFault
		switch {
		case errors.As(c.Err, &fault):
			if said != fault.Error() {
				said = fault.Error()
				log.Error(fault.What+"; every event is answered 503", "next", fault.Next)
			}
		case c.Err != nil && !failing:
			log.Error("the ledger cannot be written: every event is answered 503 until it can; look at the disk (space, mount, dmesg)", "error", c.Err)
		case c.Err == nil && failing:
			said = ""
			log.Info("the ledger can be written again")
		}
		failing = c.Err != nil
	}
}
