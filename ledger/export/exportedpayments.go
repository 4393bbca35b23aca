package export

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"tillhook/ledger/schema"
	"tillhook/ledger/store"
)

// eachPayment visits the payments in the order of (created, id) as of one moment, and returns the
// last row of that moment. It decodes them without their lists. In the ledger of a receiver it
// first copies the payments to a temporary file, because formatting their lines takes longer than a
// transaction should stay open.
func (x *Export) eachPayment(ctx context.Context, from, to *int64, visit func(*schema.State) error) (last uint64, err error) {
	decode := func(id string, value []byte) error {
		f, _, err := schema.DecodeHead(id, value)
		if err != nil {
			return fmt.Errorf("payment %.80s: %w", id, err)
		}
		return visit(f)
	}
	if x.store.ReadOnly() {
		err = x.store.View(func(tx *store.Tx) error {
			last = schema.LastRow(tx)
			return walkPayments(tx, from, to, decode)
		})
		return last, err
	}
	f, err := x.store.Spool(func(w io.Writer) error {
		out := bufio.NewWriter(w)
		err := x.store.View(func(tx *store.Tx) error {
			last = schema.LastRow(tx)
			return walkPayments(tx, from, to, func(id string, value []byte) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				_, err := record{[]byte(id), value}.write(out)
				return err
			})
		})
		if err != nil {
			return err
		}
		return out.Flush()
	})
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return last, x.readPayments(f, decode)
}

// walkPayments verifies the checksums of payments and calls visit with each as it is stored.
func walkPayments(tx *store.Tx, from, to *int64, visit func(id string, value []byte) error) error {
	var first, end []byte
	if from != nil {
		first = schema.TimeKey(*from, "")
	}
	if to != nil {
		end = schema.TimeKey(*to, "")
	}
	for e := range tx.Ascend(schema.BucketPaymentsTime, first) {
		if end != nil && bytes.Compare(e.Key, end) >= 0 {
			return nil
		}
		id := string(e.Key[8:])
		value, err := tx.Get(schema.BucketPayments, []byte(id))
		if err != nil {
			return err
		}
		if value == nil {
			return fmt.Errorf("%w: payment %.80s is listed and missing", store.ErrCorrupt, id)
		}
		if err := visit(id, value); err != nil {
			return err
		}
	}
	return nil
}

// restEvery is the number of payments after which readPayments sleeps.
const restEvery = 2000

// readPayments reads the payments that eachPayment copied to a file. It sleeps for as long as it
// works, because the events of the receiver need the processor more.
func (x *Export) readPayments(f io.Reader, visit func(id string, value []byte) error) error {
	start := time.Now()
	c := cursor{r: bufio.NewReaderSize(f, 1<<20)}
	for n := 1; ; n++ {
		if err := c.next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := visit(string(c.key), c.line); err != nil {
			return err
		}
		if n%restEvery == 0 {
			x.reads.Rest(start)
			start = time.Now()
		}
	}
}
