package doctor

import (
	"slices"
	"testing"

	"tillhook/receiver/health"
)

// A finding of the receiver that a check makes again is reported once, and another severity of the
// same code stays.
func TestFindingsAreReportedOnce(t *testing.T) {
	receivers := []health.Finding{{Code: health.APIAccount, Severity: health.Warn, Message: "of the receiver", Since: 5},
		{Code: health.OperatorPort, Severity: health.Warn}, {Code: health.Log, Severity: health.OK}}
	checks := []health.Finding{{Code: health.APIAccount, Severity: health.Warn, Message: "of a check"},
		{Code: health.OperatorPort, Severity: health.OK}}
	got := withoutRepeats(slices.Concat(receivers, checks), receivers)
	if want := slices.Concat(receivers[1:], checks); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
