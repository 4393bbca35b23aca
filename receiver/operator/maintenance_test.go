package operator_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"tillhook/receiver/operator"
)

// A backup directory that the service cannot write to has a next step of its own.
func TestAFailedBackup(t *testing.T) {
	for want, err := range map[string]error{
		"look at the folder": errors.New("no such folder"),
		"to a folder in it":  fmt.Errorf("save a copy: %w", syscall.EROFS),
	} {
		var u operator.Maintenance
		u.BackedUp(err)
		if s := u.Findings()[0]; s.Severity != "warn" || !strings.Contains(s.Next, want) || !strings.HasSuffix(s.Message, ".") {
			t.Errorf("%v: %+v", err, s)
		}
	}
}
