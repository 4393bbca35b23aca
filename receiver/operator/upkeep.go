package operator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"tillhook/ledger"
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

// Sentences tell how things stand.
func (u *Upkeep) Sentences() []Sentence {
	u.mu.Lock()
	defer u.mu.Unlock()
	backups := Sentence{Name: "backups", Verdict: "ok", Sentence: "No scheduled backup has failed."}
	if u.backup != nil {
		backups = Sentence{Name: "backups", Verdict: "warn", Sentence: fmt.Sprintf("The last scheduled backup failed: %v.", u.backup),
			Next: "look at the folder TILLHOOK_BACKUP_DIR"}
		if errors.Is(u.backup, syscall.EROFS) { // as all is for the packaged service, but for its folder
			backups.Next = "a service may write below its data folder alone: set TILLHOOK_BACKUP_DIR to a folder in that"
		}
	}
	proof := Sentence{Name: "proof", Verdict: "ok", Sentence: "No copy of the ledger was found unsound."}
	if u.unsound != nil {
		proof = Sentence{Name: "proof", Verdict: "fail", Sentence: fmt.Sprintf("The last copy of the ledger that was looked through had faults, so the ledger probably has them: %v", u.unsound),
			Next: "stop the receiver, keep the file, and run tillhook rebuild or restore a copy that verifies"}
	}
	return []Sentence{backups, proof}
}
