package export

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// sorter sorts records by their keys in bounded memory. It writes sorted runs to a temporary file
// and merges them. If all records fit into memory, it writes nothing. It is not safe for concurrent
// use.
type sorter struct {
	open  func() (*os.File, error)  // opens the file for the runs; the sorter closes it
	guard func(io.Writer) io.Writer // wraps the writer to the file; nil for no wrapper
	limit int                       // bytes of records in memory; 0 for runSize
	size  int
	recs  []record
	file  *os.File
	end   int64
	runs  []*io.SectionReader
}

// record is a line with its sort key.
type record struct{ key, line []byte }

// write writes the record to w, in the form that [cursor.next] reads.
func (r record) write(w *bufio.Writer) (size int, err error) {
	for _, part := range [][]byte{r.key, r.line} {
		n, err := w.Write(binary.AppendUvarint(w.AvailableBuffer(), uint64(len(part))))
		if err == nil {
			_, err = w.Write(part)
		}
		if err != nil {
			return 0, err
		}
		size += n + len(part)
	}
	return size, nil
}

// runSize is the default for sorter.limit.
const runSize = 8 << 20

func (s *sorter) add(key, line []byte) error {
	s.recs = append(s.recs, record{key, line})
	if s.size += len(key) + len(line) + 64; s.size < cmp.Or(s.limit, runSize) {
		return nil
	}
	return s.spill()
}

// spill writes the records in memory to the file as a run.
func (s *sorter) spill() (err error) {
	if s.file == nil {
		if s.file, err = s.open(); err != nil {
			return err
		}
	}
	s.sort()
	begin := s.end
	var out io.Writer = s.file
	if s.guard != nil {
		out = s.guard(out)
	}
	w := bufio.NewWriterSize(out, 256<<10)
	for _, r := range s.recs {
		n, err := r.write(w)
		if err != nil {
			return fmt.Errorf("sort the lines of an export: %w", err)
		}
		s.end += int64(n)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("sort the lines of an export: %w", err)
	}
	s.runs = append(s.runs, io.NewSectionReader(s.file, begin, s.end-begin))
	clear(s.recs)
	s.recs, s.size = s.recs[:0], 0
	return nil
}

func (s *sorter) sort() {
	slices.SortStableFunc(s.recs, func(a, b record) int { return bytes.Compare(a.key, b.key) })
}

// each visits all records in the order of their keys. It visits records with equal keys in the
// order in which they were added.
func (s *sorter) each(visit func(record) error) error {
	if len(s.runs) == 0 {
		s.sort()
		for _, r := range s.recs {
			if err := visit(r); err != nil {
				return err
			}
		}
		return nil
	}
	if len(s.recs) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	var m merging
	for i, run := range s.runs {
		c := &cursor{at: i, r: bufio.NewReaderSize(run, 32<<10)}
		if err := c.next(); err != nil {
			return err
		}
		m = append(m, c)
	}
	heap.Init(&m)
	for len(m) > 0 {
		if err := visit(m[0].record); err != nil {
			return err
		}
		switch err := m[0].next(); {
		case errors.Is(err, io.EOF):
			heap.Pop(&m)
		case err != nil:
			return err
		default:
			heap.Fix(&m, 0)
		}
	}
	return nil
}

// close closes the file, if there is one.
func (s *sorter) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// cursor reads the records of a run.
type cursor struct {
	record
	at int
	r  *bufio.Reader
}

// next reads the next record. It returns [io.EOF] after the last one.
func (c *cursor) next() error {
	part := func() ([]byte, error) {
		n, err := binary.ReadUvarint(c.r)
		if err != nil {
			return nil, err
		}
		b := make([]byte, n)
		_, err = io.ReadFull(c.r, b)
		return b, err
	}
	var err error
	if c.key, err = part(); err != nil {
		return err
	}
	if c.line, err = part(); errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// merging is a heap of runs, ordered by their next records.
type merging []*cursor

func (m merging) Len() int { return len(m) }
func (m merging) Less(i, j int) bool {
	return cmp.Or(bytes.Compare(m[i].key, m[j].key), cmp.Compare(m[i].at, m[j].at)) < 0
}
func (m merging) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *merging) Push(x any)   { *m = append(*m, x.(*cursor)) }
func (m *merging) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}
