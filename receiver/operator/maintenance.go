package operator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"tillhook/ledger/check"
	"tillhook/receiver/health"
)

// Maintenance remembers the last failures of backups and verifications, for the health.
type Maintenance struct {
	// VerifyFile checks a ledger's file. It may return a report and an error.
	VerifyFile func(ctx context.Context, path string) (*check.Report, error)

	mu      sync.Mutex // guards both
	backup  error      // of the last attempt; nil if it succeeded or there was none
	unsound error      // what the last verification found
}

// Verify checks a copy of the ledger.
func (m *Maintenance) Verify(ctx context.Context, path string) (*check.Report, error) {
	report, err := m.VerifyFile(ctx, path)
	if report != nil {
		m.mu.Lock()
		m.unsound = err
		m.mu.Unlock()
	}
	return report, err
}

// BackedUp records the outcome of a scheduled backup.
func (m *Maintenance) BackedUp(err error) {
	m.mu.Lock()
	m.backup = err
	m.mu.Unlock()
}

// Findings returns the state of backups and of verified copies.
func (m *Maintenance) Findings() []health.Finding {
	m.mu.Lock()
	defer m.mu.Unlock()
	backups := health.Finding{Code: health.Backups, Severity: health.OK, Message: "No scheduled backup has failed."}
	if m.backup != nil {
		backups = health.Finding{Code: health.Backups, Severity: health.Warn,
			Message: fmt.Sprintf("The last scheduled backup failed: %v.", m.backup),
			Next:    "look at the folder TILLHOOK_BACKUP_DIR"}
		if errors.Is(m.backup, syscall.EROFS) { // as all is for the packaged service, but for its folder
			backups.Next = "a service may write only below its data folder: set TILLHOOK_BACKUP_DIR to a folder in it"
		}
	}
	proof := health.Finding{Code: health.Proof, Severity: health.OK,
		Message: "No copy of the ledger was found to be damaged."}
	if m.unsound != nil {
		proof = health.Finding{Code: health.Proof, Severity: health.Fail,
			Message: fmt.Sprintf("The last copy of the ledger that was verified had faults, so the ledger probably "+
				"has them, too: %v", m.unsound),
			Next: "stop the receiver, keep the file, and run tillhook rebuild or restore a copy that verifies"}
	}
	return []health.Finding{backups, proof}
}
