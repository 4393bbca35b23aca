package receiver

import (
	"errors"
	"log/slog"
	"slices"

	"tillhook/ledger"
	"tillhook/metrics"
	"tillhook/receiver/stripe"
)

// NewMetrics returns the metrics of a receiver of a version, with the label values that it and the
// other packages use.
func NewMetrics(version string) *metrics.Metrics {
	outcomes := texts(ledger.Outcomes[:])
	return metrics.New(metrics.Names{
		Types: stripe.Types[:], Outcomes: outcomes,
		Answers: append(slices.Clone(outcomes), string(ledger.AlreadyProcessed), Rejected, Failed, Probed),
		Reasons: texts(ledger.Reasons[:]), Failures: texts(stripe.Codes[:]), Version: version,
	})
}

// Quarantine returns the number of events in quarantine by reason and state, in the form of
// metrics.
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

// Observer returns a function that measures commits and logs when they begin to fail and when they
// work again. It logs a fault of the ledger's file again when there is more to say about it. Only
// the ledger's committer may call it.
func Observer(m *metrics.Metrics, log *slog.Logger) func(ledger.CommitStats) {
	failing, logged := false, ""
	return func(c ledger.CommitStats) {
		m.Commit(c.Duration, c.Events)
		var fault *ledger.FileFault
		switch {
		case errors.As(c.Err, &fault):
			if logged != fault.Error() {
				logged = fault.Error()
				log.Error(fault.What+"; every event is answered 503", "next", fault.Next)
			}
		case c.Err != nil && !failing:
			log.Error("the ledger cannot be written: every event is answered 503 until it can; look at the disk "+
				"(space, mount, dmesg)", "error", c.Err)
		case c.Err == nil && failing:
			logged = ""
			log.Info("the ledger can be written again")
		}
		failing = c.Err != nil
	}
}
