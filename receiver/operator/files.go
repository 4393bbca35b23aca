package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"tillhook/ledger"
)

// maxSpools answers that are files may be on their way at once: each has a copy of its own on the disk.
const maxSpools = 2

// transferTime is how long a file may take in all: as long it has room on the disk.
const transferTime = 12 * time.Hour

// stallTime is how long a client may take for the next piece of a file.
const stallTime = 2 * time.Minute

func (op *Operator) backup(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	copyTo := func(ctx context.Context, w io.Writer) error {
		err := op.Ledger.CopyTo(ledger.ContextWriter(ctx, w))
		if err != nil {
			err = errors.Join(err, ctx.Err()) // the database does not wrap what the writer returned
		}
		return err
	}
	return op.spool(w, r, "application/octet-stream", func() {}, copyTo, op.Ledger.SpoolCopy)
}

// spoolExport is spool of what fill writes, of a size that is not known before.
func (op *Operator) spoolExport(w http.ResponseWriter, r *http.Request, kind string, begin func(), fill func(context.Context, io.Writer) error) error {
	return op.spool(w, r, kind, begin, fill, func(ctx context.Context) (*os.File, error) {
		return op.Ledger.Spool(func(w io.Writer) error { return fill(ctx, w) })
	})
}

// spool answers with what fill writes: to the file of spooled first, so that a client that is slow,
// or stops, holds up nothing but its own connection. The context that fill gets ends when the
// client hangs up or the receiver stops. The answer's header is completed by begin, between the
// last of fill and the first piece of the answer.
func (op *Operator) spool(w http.ResponseWriter, r *http.Request, kind string, begin func(), fill func(context.Context, io.Writer) error,
	spooled func(context.Context) (*os.File, error)) error {
	ctx, cancel := op.untilStopping(r.Context())
	defer cancel()
	unhurried(w)
	if op.Ledger.ReadOnly() { // there is nobody to hold up
		out := &counted{w: w}
		w.Header().Set("Content-Type", kind)
		begin()
		err := fill(ctx, out)
		if err != nil && out.n > 0 {
			op.Log.Warn("a file was not written to its end", "path", r.URL.Path, "error", err)
			panic(http.ErrAbortHandler)
		}
		return err
	}
	leave, err := enter(ctx, op.spools, fmt.Sprintf("%d exports or copies of the ledger are being made or sent already; try again when one is done", maxSpools))
	if err != nil {
		return err
	}
	defer leave()
	var f *os.File
	var effort effort
	err = during(w, r, effort.figure, func() (err error) {
		defer effort.begin()()
		f, err = spooled(ctx)
		return err
	})
	if err != nil {
		return err
	}
	defer f.Close()
	begin()
	if err := sendFile(op.Stopping, w, f, kind); err != nil {
		op.Log.Warn("a file was not taken to its end", "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler) // closing the connection is the only way left to say so
	}
	return nil
}

// counted counts what is written: an answer that has not begun can still be an error.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// unhurried lifts the bound in time that the server sets for reading a request, which would end one
// that takes long to answer. That of writing begins anew when the answer is ready. In one process
// there are none.
func unhurried(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})
}

func sendFile(stopping context.Context, w http.ResponseWriter, f *os.File, kind string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	c := http.NewResponseController(w)
	end := time.Now().Add(transferTime)
	cut := context.AfterFunc(stopping, func() { _ = c.SetWriteDeadline(time.Now()) })
	defer cut()
	for sent := int64(0); ; {
		next := time.Now().Add(stallTime)
		if next.After(end) {
			next = end
		}
		if err := c.SetWriteDeadline(next); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		// After the deadline is set: the end of stopping sets one, too.
		if err := context.Cause(stopping); err != nil {
			return fmt.Errorf("the receiver is stopping: after about %d bytes: %w", sent, err)
		}
		n, err := io.CopyN(w, f, 256<<10)
		sent += n
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after about %d bytes: %w", sent, err)
		}
	}
}

// verify proves a copy of the ledger, so that proving it, which takes long, keeps nothing.
func (op *Operator) verify(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	if op.Verify == nil {
		return &Error{http.StatusNotFound, "not_found", "no receiver is running; tillhook verify reads the ledger itself"}
	}
	unhurried(w)
	leave, err := enter(r.Context(), op.spools, fmt.Sprintf("%d exports or copies of the ledger are being made or sent already; try again when one is done", maxSpools))
	if err != nil {
		return err
	}
	defer leave()
	var proof *ledger.Report
	var effort effort
	var proving atomic.Bool
	figure := func() string {
		if proving.Load() { // a proof that does not get on ends by itself
			return time.Now().String()
		}
		return effort.figure()
	}
	err = during(w, r, figure, func() error {
		defer effort.begin()()
		return op.Ledger.WithCopy(r.Context(), func(path string) (err error) {
			proving.Store(true)
			proof, err = op.Verify(r.Context(), path)
			return err
		})
	})
	if proof == nil {
		return err
	}
	proof.Path = op.Ledger.Path()
	op.write(w, r, http.StatusOK, proof)
	return nil
}

// release tries an event in quarantine again and answers with its record.
func (op *Operator) release(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	id := r.PathValue("id")
	if _, err := op.Ledger.Release(ctx, id); err != nil {
		return err
	}
	e, err := op.Ledger.Event(id)
	if err != nil {
		return err
	}
	op.write(w, r, http.StatusOK, e)
	return nil
}
