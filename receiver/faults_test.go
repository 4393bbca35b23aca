package receiver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/receiver/stripe"

	"golang.org/x/sys/unix"
)

// Faults of a whole machine, on the real binary: a disk that loses power, is full or does not
// answer, and a process that gets no more files or memory. They need root, and say so where they
// are skipped.

// lacks skips a test that this machine cannot run. In CI, where every test must run, it fails.
func lacks(t *testing.T, why any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// needs skips a test if a tool is missing.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	for _, name := range tools {
		if _, err := exec.LookPath(name); err != nil {
			lacks(t, err)
		}
	}
}

// needsRoot skips a test that only root can make.
func needsRoot(t *testing.T, tools ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		lacks(t, "only root may do this")
	}
	needs(t, tools...)
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// disk is an ext4 file system of its own, in a file.
type disk struct{ image, dir string }

func newDisk(t *testing.T, megabytes int) *disk {
	t.Helper()
	needsRoot(t, "mkfs.ext4", "mount", "umount", "truncate")
	at := t.TempDir()
	d := &disk{image: filepath.Join(at, "image"), dir: filepath.Join(at, "disk")}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "truncate", "-s", strconv.Itoa(megabytes)+"M", d.image)
	command(t, "mkfs.ext4", "-q", "-F", d.image)
	d.mount(t)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", d.dir).Run() }) // a test that failed may have left it unmounted
	return d
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	command(t, "mount", "-o", "loop", d.image, d.dir)
}

// cutPower ends the file system without writing what it still has in memory, its journal included.
// What it had said to be synced is there when it is mounted again. EXT4_IOC_SHUTDOWN,
// https://docs.kernel.org/filesystems/ext4/
func (d *disk) cutPower(t *testing.T) {
	t.Helper()
	dir, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	const shutdown, noLogFlush = 0x8004587d, 2
	how := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		t.Fatal(errno)
	}
}

// crowd sends new events from many connections at once, and remembers which were acknowledged.
type crowd struct {
	p      *program
	sent   atomic.Int64
	mu     sync.Mutex // guards both
	acked  []string
	others map[string]int // other answers by their status and code
	stop   context.CancelFunc
	group  sync.WaitGroup
}

func (p *program) crowd(t *testing.T, senders int) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &crowd{p: p, others: map[string]int{}, stop: cancel}
	template := sample(t, "payment_intent.succeeded")
	for range senders {
		client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
		c.group.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				id, body := ownEvent(template, rand.Int64())
				c.sent.Add(1)
				c.note(id, p.once(ctx, client, body))
			}
		})
	}
	t.Cleanup(c.end)
	return c
}

// ownEvent makes an event, its payment and its charge, of a sample.
func ownEvent(template []byte, n int64) (id string, body []byte) {
	id = fmt.Sprintf("evt_%019d", n)
	body = bytes.Replace(template, []byte("evt_3wBTwEKvHadernBlBPBleRA0"), []byte(id), 1)
	body = bytes.ReplaceAll(body, []byte("py_3wBTwEKvHadernBlVhC6f5rz"), fmt.Appendf(nil, "py_%019d", n))
	return id, bytes.ReplaceAll(body, []byte("pi_3wBTwEKvHadernBl4gdrfNcd"), fmt.Appendf(nil, "pi_%019d", n))
}

// once posts a body once and returns the answer's status and code; "none" if no answer came.
func (p *program) once(ctx context.Context, client *http.Client, body []byte) string {
	return p.onceSigned(ctx, client, body, stripe.Sign(body, secret, time.Now()))
}

// onceSigned is once with a signature of the caller's.
func (p *program) onceSigned(ctx context.Context, client *http.Client, body []byte, signature string) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.public+hook, bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	r.Header.Set("Stripe-Signature", signature)
	resp, err := client.Do(r)
	if err != nil {
		return "none"
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return "none"
	}
	for _, code := range []string{"storage_unavailable", "overloaded", "not_configured"} {
		if bytes.Contains(answer, []byte(code)) && resp.Header.Get("Retry-After") == "5" {
			return fmt.Sprintf("%d %s", resp.StatusCode, code)
		}
	}
	return strconv.Itoa(resp.StatusCode)
}

func (c *crowd) note(id, answer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer == "200" {
		c.acked = append(c.acked, id)
	} else {
		c.others[answer]++
	}
}

func (c *crowd) acknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

func (c *crowd) end() { c.stop(); c.group.Wait() }

// comes waits until something is so, 15 s at most.
func comes(t *testing.T, what string, is func() bool) {
	t.Helper()
	comesIn(t, 15*time.Second, what, is)
}

func comesIn(t *testing.T, most time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in %s it did not come to this: %s", most, what)
		}
	}
}

// kept demands that a ledger without a receiver is sound and holds every acknowledged event,
// once.
func kept(t *testing.T, dir string, acked []string) {
	t.Helper()
	if proof, err := check.Verify(t.Context(), ledger.Path(dir)); err != nil {
		t.Fatalf("the ledger is not sound: %v\n%+v", err, proof)
	}
	l, err := ledger.OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lost := 0
	for _, id := range acked {
		if rec, err := l.Event(id); err != nil || rec.Outcome != ledger.Applied || rec.Repeats != 0 {
			lost++
			t.Logf("%s was acknowledged and is %+v, %v", id, rec, err)
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged events are lost, or booked twice", lost, len(acked))
	}
}

// The power goes while events come. What was acknowledged is there afterwards.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	cycles := 5
	if *long {
		cycles = 200
	}
	d := newDisk(t, 512)
	p := build(t)
	p.dir = filepath.Join(d.dir, "data")
	p.env = []string{"TILLHOOK_OPERATOR_SOCKET=" + filepath.Join(t.TempDir(), "operator.sock")}
	var acked []string
	for range cycles {
		p.start(t)
		c := p.crowd(t, 8)
		enough := 50 + rand.IntN(400)
		comes(t, "events are acknowledged", func() bool { return c.acknowledged() >= enough })
		d.cutPower(t)
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond) // the program notices, or it does not
		p.kill(t)
		c.end()
		acked = append(acked, c.acked...)
		command(t, "umount", d.dir)
		d.mount(t)
		kept(t, p.dir, acked)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d power cuts, %d acknowledged events, 0 lost", cycles, len(acked))
}

// A full disk: events are refused and nothing ends; as soon as there is space, they are
// taken.
func TestEventsOnAFullDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 64)
	p := build(t)
	p.dir = filepath.Join(d.dir, "data")
	p.env = []string{"TILLHOOK_OPERATOR_SOCKET=" + filepath.Join(t.TempDir(), "operator.sock")}
	p.start(t)
	c := p.crowd(t, 8)
	comes(t, "events are acknowledged", func() bool { return c.acknowledged() >= 100 })
	filler := filepath.Join(d.dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	refused := func() int { c.mu.Lock(); defer c.mu.Unlock(); return c.others["503 storage_unavailable"] }
	comes(t, "events are refused", func() bool { return refused() >= 20 })
	if err := errors.Join(f.Close(), os.Remove(filler)); err != nil {
		t.Fatal(err)
	}
	before := c.acknowledged()
	comes(t, "events are acknowledged again", func() bool { return c.acknowledged() >= before+100 })
	c.end()
	delete(c.others, "503 storage_unavailable")
	delete(c.others, "none") // broken off at the end
	if len(c.others) > 0 {
		t.Errorf("other answers: %v", c.others)
	}
	p.kill(t)
	kept(t, p.dir, c.acked)
}

// fastest repeats a request until one takes no longer than limit, at most five times, and returns
// how long the fastest one took. A busy machine delays the client, too, but not each time.
func fastest(limit time.Duration, request func()) time.Duration {
	least := time.Duration(math.MaxInt64)
	for range 5 {
		start := time.Now()
		request()
		if least = min(least, time.Since(start)); least <= limit {
			break
		}
	}
	return least
}

// A disk that does not answer any more: everybody is told within 5 s, nothing piles up, and it goes
// on when the disk does.
func TestAFrozenDisk(t *testing.T) {
	t.Parallel()
	needsRoot(t, "fsfreeze")
	d := newDisk(t, 256)
	p := build(t)
	p.dir = filepath.Join(d.dir, "data")
	p.env = []string{"TILLHOOK_OPERATOR_SOCKET=" + filepath.Join(t.TempDir(), "operator.sock")}
	p.start(t)
	c := p.crowd(t, 64)
	comes(t, "events are acknowledged", func() bool { return c.acknowledged() >= 500 })
	before := p.memory(t)
	command(t, "fsfreeze", "-f", d.dir)
	thawed := false
	t.Cleanup(func() {
		if !thawed {
			_ = exec.Command("fsfreeze", "-u", d.dir).Run()
		}
	})
	time.Sleep(100 * time.Millisecond) // what was under way is answered or stuck
	frozen := c.acknowledged()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	id, body := ownEvent(sample(t, "payment_intent.succeeded"), 1)
	took := fastest(6*time.Second, func() {
		if answer := p.once(t.Context(), client, body); answer != "503 storage_unavailable" {
			t.Errorf("an event was answered %s", answer)
		}
	})
	if took > 6*time.Second {
		t.Errorf("the fastest answer took %s", took)
	}
	took = fastest(time.Second, func() {
		if answer := p.onceSigned(t.Context(), client, body, stripe.Sign(body, "whsec_forged", time.Now())); answer != "400" {
			t.Errorf("a forged event was answered %s", answer)
		}
	})
	if took > time.Second {
		t.Errorf("the fastest answer to a forged event took %s", took)
	} else if took < 20*time.Millisecond {
		t.Errorf("a forged event was answered after %s: it did not stand back behind the commit", took)
	}
	if now := c.acknowledged(); now != frozen {
		t.Errorf("%d events were acknowledged while the disk was frozen", now-frozen)
	}
	if grown := p.memory(t) - before; grown > 64<<20 {
		t.Errorf("it took %d MB more memory meanwhile", grown>>20)
	}
	command(t, "fsfreeze", "-u", d.dir)
	thawed = true
	comes(t, "events are acknowledged again", func() bool { return c.acknowledged() >= frozen+200 })
	if answer := p.once(t.Context(), client, body); answer != "200" {
		t.Errorf("%s, tried again, was answered %s", id, answer)
	}
	c.end()
	p.kill(t)
	kept(t, p.dir, c.acked)
}

// memory is what the program has of its own. proc_pid_status(5)
func (p *program) memory(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	line, _, _ := strings.Cut(rest, " kB")
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// No file descriptors are left: connected clients are served, and the others when there are some
// again.
func TestNoFileDescriptors(t *testing.T) {
	p := build(t)
	p.start(t)
	client := &http.Client{Transport: &http.Transport{}}
	template := sample(t, "payment_intent.succeeded")
	var acked []string
	deliver := func(client *http.Client, n int64) {
		t.Helper()
		id, body := ownEvent(template, n)
		if answer := p.once(t.Context(), client, body); answer != "200" {
			t.Errorf("event %d was answered %s", n, answer)
		}
		acked = append(acked, id)
	}
	deliver(client, 1)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	limit := uint64(len(open) + 3)
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
		t.Fatal(err)
	}
	var idle []net.Conn
	for range 40 {
		conn, err := net.Dial("tcp", p.public)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	deliver(client, 2) // on the connection it has
	for _, conn := range idle {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	deliver(&http.Client{Transport: &http.Transport{}}, 3)
	p.kill(t)
	kept(t, p.dir, acked)
}

// Little memory: large bodies from many at once are taken or refused, and nothing ends.
func TestLittleMemory(t *testing.T) {
	needsRoot(t)
	group := filepath.Join("/sys/fs/cgroup/memory", "tillhook-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skip("no memory controller of version 1: ", err) // of version 2 the controllers are systemd's
	}
	p := build(t)
	t.Cleanup(func() {
		p.kill(t)
		comes(t, "the group is empty", func() bool { return os.Remove(group) == nil })
	})
	p.env = []string{"GOMEMLIMIT=96MiB"}
	if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte("192M"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(p.cmd.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	template := sample(t, "payment_intent.succeeded")
	padding := append(append([]byte(`{"padding":"`), bytes.Repeat([]byte("0123456789abcdef"), 60_000)...), `",`...)
	var senders sync.WaitGroup
	var mu sync.Mutex // guards both
	answers := map[string]int{}
	var acked []string
	for sender := range 64 {
		client := &http.Client{Transport: &http.Transport{}}
		senders.Go(func() {
			defer client.CloseIdleConnections()
			for n := range 6 {
				id, body := ownEvent(template, int64(1000*sender+n))
				answer := p.once(t.Context(), client, append(bytes.Clone(padding), body[1:]...))
				mu.Lock()
				if answers[answer]++; answer == "200" {
					acked = append(acked, id)
				}
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	if answers["200"] == 0 || answers["200"]+answers["503 overloaded"]+answers["503 storage_unavailable"] != 64*6 {
		t.Errorf("the answers are %v", answers)
	}
	_, body := ownEvent(template, 1e9)
	if answer := p.once(t.Context(), http.DefaultClient, body); answer != "200" {
		t.Errorf("an event afterwards was answered %s", answer)
	}
	p.kill(t)
	kept(t, p.dir, acked)
	t.Logf("the answers are %v", answers)
}
