package schema

import "tillhook/ledger/store"

// A checkpoint is a number that a source of events stores under a name, such as how far it has
// read. A rebuilt ledger has only the checkpoint of the retention time, so the work up to the other
// checkpoints is done again. Accounts are stored beside the checkpoints.
const (
	CheckpointPrefix = "checkpoint/"
	AccountPrefix    = "account/"
)

// ReadCheckpoint returns the checkpoint with a name, or 0 if it does not exist.
func ReadCheckpoint(tx *store.Tx, name string) (int64, error) {
	value, err := tx.Get(BucketMeta, []byte(CheckpointPrefix+name))
	if err != nil || value == nil {
		return 0, err
	}
	return DecodeCheckpoint(value)
}

// DecodeCheckpoint decodes the value of a checkpoint.
func DecodeCheckpoint(value []byte) (int64, error) {
	d := decoder{buf: value}
	n := d.int()
	return n, d.end()
}

// PutCheckpoint writes a checkpoint.
func PutCheckpoint(tx *store.Tx, name string, n int64) error {
	var e encoder
	e.int(n)
	return tx.Put(BucketMeta, []byte(CheckpointPrefix+name), e.buf)
}
