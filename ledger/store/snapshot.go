package store

import bolt "go.etcd.io/bbolt"

// snapshot is the write buffer as the readers of one transaction see it. It does not change.
type snapshot struct {
	tx         uint64
	generation uint64 // of the active one
	flushing   run    // the older generation; nil once all of it is in its buckets
	active     []run  // one a commit, the oldest first
}

// keptSnapshots are kept for readers that began before the newest commits.
const keptSnapshots = 8

// mergedRun is the active generation of a snapshot as one run. Readers merge it when they need it,
// because there are far fewer reads than commits; each merge extends the previous one.
type mergedRun struct {
	generation uint64
	commits    int // how many are in it
	run        run
}

// publishSnapshot makes the buffer of the transaction under way visible to readers. It is called
// before the commit: bbolt shows a transaction to readers before its last sync returns.
func (s *Store) publishSnapshot() {
	kept := append([]snapshot{s.buffer.snapshot()}, *s.snapshots.Load()...)
	kept = kept[:min(len(kept), keptSnapshots)]
	s.snapshots.Store(&kept)
}

// runsOf returns what is buffered as a reader's transaction sees it, the newest run first.
func (s *Store) runsOf(tx *bolt.Tx) ([]run, error) {
	if s.opts.Unbuffered {
		return nil, nil
	}
	for _, v := range *s.snapshots.Load() {
		if v.tx == uint64(tx.ID()) {
			return []run{s.mergeActive(&v), v.flushing}, nil
		}
	}
	// More commits came since the transaction began than snapshots are kept.
	all, _, _, err := readRecords(s, tx)
	return []run{all}, err
}

// mergeActive returns the active generation of a snapshot as one run.
func (s *Store) mergeActive(v *snapshot) run {
	var sum mergedRun
	if last := s.merged.Load(); last != nil && last.generation == v.generation && last.commits <= len(v.active) {
		sum = *last
	}
	if sum.commits == len(v.active) {
		return sum.run
	}
	sum = mergedRun{v.generation, len(v.active), merge(mergeAll(v.active[sum.commits:]), sum.run)}
	s.merged.Store(&sum)
	return sum.run
}
