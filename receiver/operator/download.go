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
	"tillhook/ledger/check"
)

// maxSpools bounds the downloads at the same time, because each has its own copy on the disk.
const maxSpools = 2

// transferTime bounds a download, whose copy takes disk space meanwhile.
const transferTime = 12 * time.Hour

// stallTime is how long a client may take to read the next piece of a file.
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

// spoolExport calls spool for a file whose size is not known before.
func (op *Operator) spoolExport(w http.ResponseWriter, r *http.Request, kind string, begin func(),
	fill func(context.Context, io.Writer) error) error {
	return op.spool(w, r, kind, begin, fill, func(ctx context.Context) (*os.File, error) {
		f, err := op.Ledger.Spool(func(w io.Writer) error { return fill(ctx, w) })
		if errors.Is(err, ledger.ErrNoSpace) {
			err = fmt.Errorf("%w; an export of fewer days needs less", err)
		}
		return f, err
	})
}

// spool answers with what fill writes. In a receiver, spooled first writes it to a file, so that a
// client that is slow, or stops, holds up only its own connection. The context of fill ends when
// the client hangs up or the receiver stops. begin completes the answer's header, after fill and
// before the answer begins.
func (op *Operator) spool(w http.ResponseWriter, r *http.Request, kind string, begin func(),
	fill func(context.Context, io.Writer) error,
	spooled func(context.Context) (*os.File, error)) error {
	ctx, cancel := op.untilStopping(r.Context())
	defer cancel()
	unhurried(w)
	if op.Ledger.ReadOnly() { // no receiver can be held up
		out := &counted{w: w}
		w.Header().Set("Content-Type", kind)
		begin()
		err := fill(ctx, out)
		if err != nil && out.n > 0 {
			op.Log.Warn("a download was not written completely", "path", r.URL.Path, "error", err)
			panic(http.ErrAbortHandler)
		}
		return err
	}
	release, err := acquire(ctx, op.spools, fmt.Sprintf("%d exports or copies of the ledger are in progress; "+
		"try again when one is finished", maxSpools))
	if err != nil {
		return err
	}
	defer release()
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
		op.Log.Warn("a client did not read a download completely", "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler) // closing the connection is the only way left to report it
	}
	return nil
}

// counted counts the written bytes: an answer that has not begun can still be an error.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// unhurried removes the server's deadline for reading a request, which would end one whose answer
// takes long. The deadline for writing is set again when the answer is ready. Without a network it
// does nothing.
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
		// Checked after the deadline is set, because the end of stopping sets one, too.
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

// verify checks a copy of the ledger, so that the check, which takes long, does not hold up the
// ledger.
func (op *Operator) verify(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).end(); err != nil {
		return err
	}
	if op.Verify == nil {
		return &Error{http.StatusNotFound, "not_found",
			"no receiver is running; tillhook verify reads the ledger itself"}
	}
	unhurried(w)
	release, err := acquire(r.Context(), op.spools,
		fmt.Sprintf("%d exports or copies of the ledger are in progress; try again when one is finished",
			maxSpools))
	if err != nil {
		return err
	}
	defer release()
	var proof *check.Report
	var effort effort
	var checking atomic.Bool
	figure := func() string {
		if checking.Load() { // a check that makes no progress ends by itself
			return time.Now().String()
		}
		return effort.figure()
	}
	err = during(w, r, figure, func() error {
		defer effort.begin()()
		return op.Ledger.WithCopy(r.Context(), func(path string) (err error) {
			checking.Store(true)
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

// release decodes a quarantined event again and answers with its record.
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
