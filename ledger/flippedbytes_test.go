package ledger_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/ledger/ledgertest"
)

// asVerifier in the environment makes the test binary verify files. It is a process of its own
// because damaged pages can end the process: bbolt follows references between pages without checks.
const asVerifier = "THIS_TEST_IS_A_VERIFIER"

// serveVerify reads names of files and answers each with one line: the quoted error of Verify, or,
// if the file is sound, a digest of what plain bbolt reads in it.
func serveVerify(in io.Reader, out io.Writer) {
	debug.SetMaxStack(64 << 20) // a cycle of pages overflows any stack; this one earlier than the default of 1 GB
	names := bufio.NewScanner(in)
	for names.Scan() {
		_, err := check.Verify(context.Background(), names.Text())
		if err != nil {
			fmt.Fprintf(out, "fault %.300q\n", err.Error())
			continue
		}
		sum, err := digest(names.Text())
		fmt.Fprintf(out, "sound %q\n", fmt.Sprint(sum, err))
	}
}

// digest returns a hash of every key and value that plain bbolt reads in a file.
func digest(path string) (sum uint64, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("bbolt panicked: %v", r)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, err
	}
	hash := fnv.New64a()
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				fmt.Fprintf(hash, "%q %q %q\n", name, k, v)
				return nil
			})
		})
	})
	return hash.Sum64(), errors.Join(err, db.Close())
}

// verifier is a process that runs serveVerify.
type verifier struct {
	child   *exec.Cmd
	names   io.WriteCloser
	answers chan string
	stderr  *bytes.Buffer
}

func startVerifier(t *testing.T) *verifier {
	t.Helper()
	p := &verifier{child: exec.Command(os.Args[0]), answers: make(chan string), stderr: &bytes.Buffer{}}
	p.child.Env = append(os.Environ(), asVerifier+"=1")
	p.child.Stderr = p.stderr
	names, err := p.child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.names = names
	out, err := p.child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.child.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.answers)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.answers <- lines.Text()
		}
	}()
	return p
}

func (p *verifier) stop() {
	_ = p.names.Close() // the process ends by itself, or has ended
	_ = p.child.Process.Kill()
	for range p.answers {
	}
	_ = p.child.Wait()
}

// verifyRun verifies files one after the other. It starts a new process when one has ended.
type verifyRun struct {
	t        *testing.T
	path     string
	verifier *verifier
	slow     time.Duration // the longest verification
}

func newVerifyRun(t *testing.T) *verifyRun {
	b := &verifyRun{t: t, path: filepath.Join(t.TempDir(), "ledger.db"), verifier: startVerifier(t)}
	t.Cleanup(func() { b.verifier.stop() })
	return b
}

// verdict is the result of verifying one file.
type verdict struct {
	fault string // empty if the file is sound
	died  bool   // the process ended; fault is the last line that it wrote
	hangs bool
	data  string // what plain bbolt reads of a sound file
}

// verify verifies a file with the given contents.
func (b *verifyRun) verify(file []byte) (v verdict) {
	b.t.Helper()
	if err := os.WriteFile(b.path, file, 0o600); err != nil {
		b.t.Fatal(err)
	}
	start := time.Now()
	defer func() { b.slow = max(b.slow, time.Since(start)) }()
	if _, err := fmt.Fprintln(b.verifier.names, b.path); err != nil {
		b.t.Fatal(err)
	}
	select {
	case answer, ok := <-b.verifier.answers:
		if !ok {
			b.verifier.stop()
			v.died, v.fault = true, strings.SplitN(b.verifier.stderr.String(), "\n", 2)[0]
			b.verifier = startVerifier(b.t)
			return v
		}
		kind, quoted, _ := strings.Cut(answer, " ")
		text, err := strconv.Unquote(quoted)
		if err != nil {
			b.t.Fatalf("the verifier answered %q", answer)
		}
		if kind == "sound" {
			v.data = text
		} else {
			v.fault = text
		}
	case <-time.After(10 * time.Second):
		v.hangs = true
		b.verifier.stop()
		b.verifier = startVerifier(b.t)
	}
	return v
}

// grownLedger creates a ledger of about 300 KB. It returns the file after Close, when the write
// buffer is empty, and a copy that was made before.
func grownLedger(t *testing.T) (rest, copied []byte) {
	t.Helper()
	dir := t.TempDir()
	l, err := ledger.Open(ledger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stop := ledgertest.Run(t, l)
	all := scenarios(t)
	for _, name := range slices.Sorted(maps.Keys(all))[:12] {
		for _, e := range all[name].events {
			mustAppend(t, l, e)
		}
	}
	mustAppend(t, l, quarantined("evt_held"))
	for i := range 5 {
		for j := range 20 { // sequentially, so that the file is the same each time
			mustAppend(t, l, succeeded(fmt.Sprintf("evt_%d_%d", i, j), fmt.Sprintf("pi_%d", j)))
		}
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := ledger.Save(path, l.CopyTo, nil); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	copied = mustRead(t, path)
	rest = mustRead(t, filepath.Join(dir, "ledger.db"))
	report, err := check.Verify(t.Context(), filepath.Join(dir, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	return rest[:report.Used], copied // bbolt extends its file in large steps; the rest was never written
}

// pageKinds returns the use of each page.
func pageKinds(t *testing.T, file []byte) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	kinds := make([]string, len(file)/4096)
	err = db.View(func(tx *bolt.Tx) error {
		for id := 0; id < len(kinds); {
			info, err := tx.Page(id)
			if err != nil || info == nil {
				return fmt.Errorf("page %d: %v", id, err)
			}
			more := info.OverflowCount
			if info.Type == "free" {
				more = 0 // the header of a free page describes its former use
			}
			for range more + 1 {
				kinds[id] = info.Type
				id++
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return kinds
}

// After any byte was changed, Verify finds the fault or the stored data is the same as before. It
// ends within seconds and does not end the process that requested it.
func TestVerifyFindsFlippedBytes(t *testing.T) {
	t.Parallel()
	flips := 150
	if *long {
		flips = 500
	}
	rest, copied := grownLedger(t)
	for name, file := range map[string][]byte{"closed": rest, "copy": copied} {
		t.Run(name, func(t *testing.T) {
			b, kinds := newVerifyRun(t), pageKinds(t, file)
			intact := b.verify(file)
			if intact.data == "" {
				t.Fatalf("the intact file: %+v", intact)
			}
			rng := rand.New(rand.NewPCG(7, uint64(len(name))))
			sums := map[string]int{}
			for range flips {
				at, by := rng.IntN(len(file)), byte(1+rng.IntN(255))
				if rng.IntN(3) == 0 { // in the page header and the first elements
					at = at/4096*4096 + rng.IntN(96)
				}
				damaged := bytes.Clone(file)
				damaged[at] ^= by
				kind := kinds[at/4096]
				switch v := b.verify(damaged); {
				case v.hangs:
					t.Errorf("byte %d (%s page) xor %#x: Verify hangs", at, kind, by)
				case v.died:
					sums["found, and the process ended"]++
					t.Logf("byte %d (%s page) xor %#x: %s", at, kind, by, v.fault)
				case v.fault != "":
					sums["found in a "+kind+" page"]++
				case v.data == intact.data:
					sums["unused byte in a "+kind+" page"]++
				default:
					t.Errorf("byte %d (%s page) xor %#x was not found, and the digest is %s, want %s", at, kind, by,
						v.data, intact.data)
				}
			}
			t.Logf("%d bytes, %d flips: %v; the longest took %s", len(file), flips, sums,
				b.slow.Round(time.Millisecond))
		})
	}
}

// newestMeta returns the number of the meta page of the last transaction.
func newestMeta(file []byte) int {
	tx := func(page int) uint64 { return binary.NativeEndian.Uint64(file[page*4096+16+48:]) }
	if tx(1) > tx(0) {
		return 1
	}
	return 0
}

// Verify finds a file that was truncated at any page, and a file that is not a complete ledger.
func TestVerifyFindsIncompleteFiles(t *testing.T) {
	_, copied := grownLedger(t)
	b := newVerifyRun(t)
	for size := 0; size < len(copied); size += 4096 {
		if v := b.verify(copied[:size]); v.fault == "" || v.died || v.hangs {
			t.Errorf("truncated to %d of %d bytes: %+v", size, len(copied), v)
		}
	}
	for name, file := range map[string][]byte{
		"another format":     []byte(strings.Repeat("SQLite format 3\x00", 10000)),
		"zeros":              make([]byte, len(copied)),
		"no meta pages":      append(make([]byte, 8192), copied[8192:]...),
		"a missing page":     append(bytes.Clone(copied[:40960]), copied[45056:]...),
		"an additional page": append(append(bytes.Clone(copied[:40960]), make([]byte, 4096)...), copied[40960:]...),
		"two swapped pages": append(append(append(bytes.Clone(copied[:40960]), copied[45056:49152]...),
			copied[40960:45056]...), copied[49152:]...),
		"a page cycle":    withPageCycle(t, copied),
		"an endless page": withEndlessPage(t, copied),
	} {
		if v := b.verify(file); v.fault == "" || v.hangs {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// withPageCycle makes the first branch page its own child.
func withPageCycle(t *testing.T, file []byte) []byte {
	t.Helper()
	page := slices.Index(pageKinds(t, file), "branch")
	if page < 0 {
		t.Fatal("the ledger has no branch page")
	}
	round := bytes.Clone(file)
	// after the page header: position of the key, its size, the child
	binary.NativeEndian.PutUint64(round[page*4096+16+8:], uint64(page))
	return round
}

// withEndlessPage gives the first leaf page two billion overflow pages.
func withEndlessPage(t *testing.T, file []byte) []byte {
	t.Helper()
	long := bytes.Clone(file)
	long[slices.Index(pageKinds(t, file), "leaf")*4096+15] = 0x7f // the highest byte of the number of overflow pages
	return long
}

// If the newest meta page is damaged, bbolt uses the other one, and the last transaction is lost.
// Verify must report this.
func TestVerifyFindsADamagedNewestMetaPage(t *testing.T) {
	l := ledgertest.Open(t, false)
	for i := range 20 {
		mustAppend(t, l, succeeded(fmt.Sprintf("evt_%d", i), fmt.Sprintf("pi_%d", i)))
	}
	killed := mustRead(t, l.Path()) // no commit is in progress, and the last transaction stored an event
	b := newVerifyRun(t)
	intact := b.verify(killed)
	if intact.data == "" {
		t.Fatalf("the intact file: %+v", intact)
	}
	damaged := bytes.Clone(killed)
	damaged[newestMeta(killed)*4096+16+40] ^= 1
	if v := b.verify(damaged); v.fault == "" && v.data != intact.data {
		t.Errorf("Verify found no fault, and the digest is %s, want %s", v.data, intact.data)
	}
}

// A key with a damaged length extends over everything that follows it in the file. A fault must not
// quote all of that.
func TestFaultsOfVerifyAreShort(t *testing.T) {
	_, copied := grownLedger(t)
	path := filepath.Join(t.TempDir(), "ledger.db")
	kinds := pageKinds(t, copied)
	longest := 0
	for page, kind := range kinds {
		if kind != "leaf" {
			continue
		}
		damaged := bytes.Clone(copied)
		damaged[page*4096+16+8+2] ^= 1 // makes the first key 65536 bytes longer
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := check.Verify(t.Context(), path); err != nil {
			longest = max(longest, len(err.Error()))
		}
	}
	if longest > 64<<10 {
		t.Errorf("the error of Verify has %d bytes", longest)
	}
}
