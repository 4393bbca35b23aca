package operator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"tillhook/ledger"
	"tillhook/receiver/health"
)

// Upkeep remembers what went wrong with a ledger's upkeep, for the summary.
type Upkeep struct {
	// Prove looks through a file. It may tell a proof and an error.
	Prove func(ctx context.Context, path string) (*ledger.Report, error)

	mu      sync.Mutex // guards both
	backup  error      // of the last try; nil if it was made, or none was
	unsound error      // what the last proof found
}

// Verify proves a copy of the ledger.
func (u *Upkeep) Verify(ctx context.Context, path string) (*ledger.Report, error) {
	proof, err := u.Prove(ctx, path)
	if proof != nil {
		u.mu.Lock()
		u.unsound = err
		u.mu.Unlock()
	}
	return proof, err
}

// BackedUp tells what came of a scheduled backup.
func (u *Upkeep) BackedUp(err error) {
	u.mu.Lock()
	u.backup = err
	u.mu.Unlock()
}

// Findings returns the state of backups and of verified copies.
func (u *Upkeep) Findings() []health.Finding {
	u.mu.Lock()
	defer u.mu.Unlock()
	backups := health.Finding{Code: health.Backups, Severity: health.OK, Message: "No scheduled backup has failed."}
	if u.backup != nil {
		backups = health.Finding{Code: health.Backups, Severity: health.Warn, Message: fmt.Sprintf("The last scheduled backup failed: %v.", u.backup),
			Next: "look at the folder TILLHOOK_BACKUP_DIR"}
		if errors.Is(u.backup, syscall.EROFS) { // as all is for the packaged service, but for its folder
			backups.Next = "a service may write below its data folder alone: set TILLHOOK_BACKUP_DIR to a folder in that"
		}
	}
	proof := health.Finding{Code: health.Proof, Severity: health.OK, Message: "No copy of the ledger was found unsound."}
	if u.unsound != nil {
		proof = health.Finding{Code: health.Proof, Severity: health.Fail, Message: fmt.Sprintf("The last copy of the ledger that was looked through had faults, so the ledger probably has them: %v", u.unsound),
			Next: "stop the receiver, keep the file, and run tillhook rebuild or restore a copy that verifies"}
	}
	return []health.Finding{backups, proof}
}
