package ledger

// Seal makes a stored value for tests that write one behind the ledger's back.
func Seal(bucket, key, value string) []byte {
	return seal([]byte(bucket), []byte(key), []byte(value))
}

// Queued is how many events wait for the committer.
func (l *Ledger) Queued() int { return len(l.queue) }

// WaitingRepeats is how many rows have counts that are not written yet.
func (l *Ledger) WaitingRepeats() int { return l.waitingRepeats() }
