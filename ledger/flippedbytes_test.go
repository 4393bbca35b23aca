package ledger_test

import (
	"bufio"
	"bytes"
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
	"tillhook/ledger/ledgertest"
)

// asProver in the environment makes the test binary prove files: bbolt follows pages blindly, and damage may end the process.
const asVerifier = "THIS_TEST_IS_A_PROVER"

// prove reads names of files and answers each with a line: the proof's error, quoted, and what plain bbolt reads there,
// if the proof has none.
func serveVerify(in io.Reader, out io.Writer) {
	debug.SetMaxStack(64 << 20) // pages that lead in a circle end it soon, as they would at the default of 1 GB
	names := bufio.NewScanner(in)
	for names.Scan() {
		_, err := ledger.Verify(names.Text())
		if err != nil {
			fmt.Fprintf(out, "fault %.300q\n", err.Error())
			continue
		}
		sum, err := digest(names.Text())
		fmt.Fprintf(out, "sound %q\n", fmt.Sprint(sum, err))
	}
}

// digest sums up every key and value of a file by plain bbolt.
func digest(path string) (sum uint64, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it panics: %v", r)
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

// prover is such a process.
type verifier struct {
	child   *exec.Cmd
	names   io.WriteCloser
	answers chan string
	words   *bytes.Buffer
}

func startVerifier(t *testing.T) *verifier {
	t.Helper()
	p := &verifier{child: exec.Command(os.Args[0]), answers: make(chan string), words: &bytes.Buffer{}}
	p.child.Env = append(os.Environ(), asVerifier+"=1")
	p.child.Stderr = p.words
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
	_ = p.names.Close() // it ends by itself, or has ended
	_ = p.child.Process.Kill()
	for range p.answers {
	}
	_ = p.child.Wait()
}

// bench proves files one after the other and starts another prover when one has ended.
type verifyRun struct {
	t        *testing.T
	path     string
	verifier *verifier
	slow     time.Duration
}

func newVerifyRun(t *testing.T) *verifyRun {
	b := &verifyRun{t: t, path: filepath.Join(t.TempDir(), "ledger.db"), verifier: startVerifier(t)}
	t.Cleanup(func() { b.verifier.stop() })
	return b
}

// verdict is what the proof says of a file.
type verdict struct {
	fault string // empty if it calls the file sound
	died  bool   // the process ended; fault has its last words
	hangs bool
	data  string // what plain bbolt reads of a sound file
}

// try has the proof of a file with such contents.
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
			v.died, v.fault = true, strings.SplitN(b.verifier.words.String(), "\n", 2)[0]
			b.verifier = startVerifier(b.t)
			return v
		}
		kind, quoted, _ := strings.Cut(answer, " ")
		text, err := strconv.Unquote(quoted)
		if err != nil {
			b.t.Fatalf("the prover says %q", answer)
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

// worked makes a ledger with some history of some 300 KB, and returns it as its file is at rest, where everything lies in
// its place, and as a copy made before.
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
		for j := range 20 { // one after the other, so that the file is the same each time
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
	report, err := ledger.Verify(filepath.Join(dir, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	return rest[:report.Used], copied // bbolt grows its file in large steps; what follows was never written
}

// places tells what each page is used for.
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
				more = 0 // its header is of what it was used for before
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

// Whatever byte is changed: the proof finds it, or what is stored is the same all the same. It ends in seconds, and
// whoever had it made lives.
func TestVerifyFindsFlippedBytes(t *testing.T) {
	t.Parallel()
	flips := 150
	if *long {
		flips = 500
	}
	rest, copied := grownLedger(t)
	for name, file := range map[string][]byte{"at rest": rest, "copy": copied} {
		t.Run(name, func(t *testing.T) {
			b, kinds := newVerifyRun(t), pageKinds(t, file)
			whole := b.verify(file)
			if whole.data == "" {
				t.Fatalf("the whole file: %+v", whole)
			}
			rng := rand.New(rand.NewPCG(7, uint64(len(name))))
			sums := map[string]int{}
			for range flips {
				at, by := rng.IntN(len(file)), byte(1+rng.IntN(255))
				if rng.IntN(3) == 0 { // where bbolt's own structure is
					at = at/4096*4096 + rng.IntN(96)
				}
				damaged := bytes.Clone(file)
				damaged[at] ^= by
				kind := kinds[at/4096]
				switch v := b.verify(damaged); {
				case v.hangs:
					t.Errorf("byte %d (%s page) by %#x: the proof hangs", at, kind, by)
				case v.died:
					sums["found, the prover died of it"]++
					t.Logf("byte %d (%s page) by %#x: %s", at, kind, by, v.fault)
				case v.fault != "":
					sums["found in a "+kind+" page"]++
				case v.data == whole.data:
					sums["nothing is stored there, "+kind+" page"]++
				default:
					t.Errorf("byte %d (%s page) by %#x was not found, and the data read as %s, not %s", at, kind, by, v.data, whole.data)
				}
			}
			t.Logf("%d bytes, %d flips: %v; the slowest took %s", len(file), flips, sums, b.slow.Round(time.Millisecond))
		})
	}
}

// newestMeta is the meta page of the last transaction.
func newestMeta(file []byte) int {
	tx := func(page int) uint64 { return binary.NativeEndian.Uint64(file[page*4096+16+48:]) }
	if tx(1) > tx(0) {
		return 1
	}
	return 0
}

// Wherever a file ends too soon, and whatever it is instead, is told.
func TestVerifyFindsIncompleteFiles(t *testing.T) {
	_, copied := grownLedger(t)
	b := newVerifyRun(t)
	for size := 0; size < len(copied); size += 4096 {
		if v := b.verify(copied[:size]); v.fault == "" || v.died || v.hangs {
			t.Errorf("cut at %d of %d bytes: %+v", size, len(copied), v)
		}
	}
	for name, file := range map[string][]byte{
		"another program's":   []byte(strings.Repeat("SQLite format 3\x00", 10000)),
		"zeros":               make([]byte, len(copied)),
		"without its metas":   append(make([]byte, 8192), copied[8192:]...),
		"a page too few":      append(bytes.Clone(copied[:40960]), copied[45056:]...),
		"a page too many":     append(append(bytes.Clone(copied[:40960]), make([]byte, 4096)...), copied[40960:]...),
		"two pages exchanged": append(append(append(bytes.Clone(copied[:40960]), copied[45056:49152]...), copied[40960:45056]...), copied[49152:]...),
		"in a circle":         withPageCycle(t, copied),
		"a page of terabytes": withEndlessPage(t, copied),
	} {
		if v := b.verify(file); v.fault == "" || v.hangs {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// circle makes the first branch page its own child.
func withPageCycle(t *testing.T, file []byte) []byte {
	t.Helper()
	page := slices.Index(pageKinds(t, file), "branch")
	if page < 0 {
		t.Fatal("the ledger has no branch page")
	}
	round := bytes.Clone(file)
	binary.NativeEndian.PutUint64(round[page*4096+16+8:], uint64(page)) // behind the page's header: where the key is, its size, the child
	return round
}

// endless makes the first leaf page 2 billion pages long.
func withEndlessPage(t *testing.T, file []byte) []byte {
	t.Helper()
	long := bytes.Clone(file)
	long[slices.Index(pageKinds(t, file), "leaf")*4096+15] = 0x7f // the greatest byte of how many pages follow it
	return long
}

// bbolt falls back to the meta page before when the newest one is damaged. The last transaction is gone then, and the
// proof of a file that lies still must tell.
func TestVerifyFindsADamagedNewestMetaPage(t *testing.T) {
	l := ledgertest.Open(t, false)
	for i := range 20 {
		mustAppend(t, l, succeeded(fmt.Sprintf("evt_%d", i), fmt.Sprintf("pi_%d", i)))
	}
	killed := mustRead(t, l.Path()) // nothing is under way, and the last transaction held an event
	b := newVerifyRun(t)
	whole := b.verify(killed)
	if whole.data == "" {
		t.Fatalf("the whole file: %+v", whole)
	}
	damaged := bytes.Clone(killed)
	damaged[newestMeta(killed)*4096+16+40] ^= 1
	if v := b.verify(damaged); v.fault == "" && v.data != whole.data {
		t.Errorf("the proof calls it sound, and it holds %s, not %s", v.data, whole.data)
	}
}

// A key whose length is damaged reads as whatever follows it in the file: a fault must not quote all of that.
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
		damaged[page*4096+16+8+2] ^= 1 // the first key is 65536 bytes longer
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.Verify(path); err != nil {
			longest = max(longest, len(err.Error()))
		}
	}
	if longest > 64<<10 {
		t.Errorf("the error of a proof has %d bytes", longest)
	}
}
