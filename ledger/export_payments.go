package ledger

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"tillhook/ledger/store"
	"time"
)

// eachPayment visits the payments in the order of (created, id) as of one moment, and returns the
// last row of that moment. It decodes them without their lists. In the ledger of a receiver it
// first copies the payments to a temporary file, because formatting their lines takes longer than a
// transaction should stay open.
func (l *Ledger) eachPayment(ctx context.Context, from, to *int64, visit func(*state) error) (last uint64, err error) {
	decode := func(id string, value []byte) error {
		f, _, err := decodeHead(id, value)
		if err != nil {
			return fmt.Errorf("payment %.80s: %w", id, err)
		}
		return visit(f)
	}
	if l.readOnly {
		err = l.store.View(func(tx *store.Tx) error {
			last = lastRow(tx)
			return walkPayments(tx, from, to, decode)
		})
		return last, err
	}
	f, err := l.Spool(func(w io.Writer) error {
		w = ContextWriter(ctx, w)
		return l.store.View(func(tx *store.Tx) error {
			last = lastRow(tx)
			return walkPayments(tx, from, to, func(id string, value []byte) error {
				var e encoder
				e.string(id)
				e.string(string(value))
				_, err := w.Write(binary.AppendUvarint(nil, uint64(len(e.buf))))
				if err == nil {
					_, err = w.Write(e.buf)
				}
				return err
			})
		})
	})
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return last, l.readPayments(bufio.NewReaderSize(f, 1<<20), decode)
}

// walkPayments verifies the checksums of payments and calls visit with each as it is stored.
func walkPayments(tx *store.Tx, from, to *int64, visit func(id string, value []byte) error) error {
	var first, end []byte
	if from != nil {
		first = timeKey(*from, "")
	}
	if to != nil {
		end = timeKey(*to, "")
	}
	for e := range tx.Ascend(bucketPaymentsTime, first) {
		if end != nil && bytes.Compare(e.Key, end) >= 0 {
			return nil
		}
		id := string(e.Key[8:])
		value, err := tx.Get(bucketPayments, []byte(id))
		if err != nil {
			return err
		}
		if value == nil {
			return fmt.Errorf("%w: payment %.80s is listed and missing", ErrCorrupt, id)
		}
		if err := visit(id, value); err != nil {
			return err
		}
	}
	return nil
}

// readPayments reads the payments that eachPayment copied to a file. It sleeps for as long as it
// works, because the events of the receiver need the processor more.
func (l *Ledger) readPayments(r *bufio.Reader, visit func(id string, value []byte) error) error {
	start := time.Now()
	for n := 1; ; n++ {
		size, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		stored := make([]byte, size)
		if _, err := io.ReadFull(r, stored); err != nil {
			return err
		}
		d := decoder{buf: stored}
		id, value := d.string(), d.string()
		if err := d.end(); err != nil {
			return err
		}
		if err := visit(id, []byte(value)); err != nil {
			return err
		}
		if n%scanSlice == 0 {
			l.rest(start)
			start = time.Now()
		}
	}
}
