package receiver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tillhook/receiver/stripe/stripetest"
)

// wait waits for a random time up to twice the mean, and reports whether ctx goes on.
func wait(ctx context.Context, mean time.Duration) bool {
	if !*long {
		mean /= 6
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(rand.Int64N(int64(2 * mean)))):
		return true
	}
}

// newSmallDisk mounts a file system in memory: 128 MiB beyond what is reserved for events.
func newSmallDisk(t *testing.T) string {
	t.Helper()
	needsRoot(t, "mount", "umount")
	dir := t.TempDir()
	command(t, "mount", "-t", "tmpfs", "-o", "size=192M", "tmpfs", dir)
	t.Cleanup(func() {
		if err := exec.Command("umount", "-l", dir).Run(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillsDisk fills the disk, in windows.
func (s *storm) fillsDisk(ctx context.Context, t *testing.T) {
	filler := filepath.Join(s.disk, "filler")
	for wait(ctx, 12*time.Second) {
		s.steady.Lock()
		s.while(diskFull, func() {
			f, err := os.Create(filler)
			if err != nil {
				t.Error(err)
				return
			}
			for open := true; open; open = wait(ctx, 5*time.Second) && rand.IntN(3) > 0 {
				// Again and again: others delete files meanwhile.
				for block := make([]byte, 64<<10); err == nil; {
					_, err = f.Write(block)
				}
				err = nil
			}
			_, _ = f.Close(), os.Remove(filler) // a later window fails if it is still there
		})
		s.steady.Unlock()
	}
}

// stuckLog is a pipe that a log is written to.
type stuckLog struct {
	w    *os.File
	stop sync.Mutex // held while it is not read

	mu   sync.Mutex // guards last
	last []byte
}

func newStuckLog(t *testing.T) *stuckLog {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := &stuckLog{w: w}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buf := make([]byte, 64<<10); ; {
			l.stop.Lock()
			_ = r.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			n, err := r.Read(buf)
			l.stop.Unlock()
			l.mu.Lock()
			if l.last = append(l.last, buf[:n]...); !bytes.Contains(l.last, []byte("\ngoroutine ")) { // a crash is kept
				l.last = l.last[max(0, len(l.last)-8<<10):]
			}
			l.mu.Unlock()
			if err != nil && !os.IsTimeout(err) {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_, _ = w.Close(), r.Close() // the receiver may still have it, of a test that failed
		<-ended
		if t.Failed() {
			t.Logf("the last that it logged\n%s", l.last)
		}
	})
	return l
}

// stopsReading leaves the log unread in windows, in which so much is logged that lines are dropped.
func (s *storm) stopsReading(ctx context.Context, t *testing.T) {
	id := "evt_" + strings.Repeat("x", 250) // it makes long lines
	body := bytes.Replace(sample(t, "payment_intent.succeeded"), []byte("evt_3wBTwEKvHadernBlBPBleRA0"), []byte(id), 1)
	dropped, windows := 0, 0
	for wait(ctx, 12*time.Second) {
		s.while(logStuck, func() {
			s.log.stop.Lock()
			defer s.log.stop.Unlock()
			windows++
			for begun := time.Now(); time.Since(begun) < 10*time.Second && ctx.Err() == nil; {
				client := s.client()
				for range 200 { // repeats cost no commit
					s.repeated(client, delivery{id: id, body: body})
				}
				if s.drops(ctx) {
					dropped++
					break
				}
			}
			wait(ctx, 3*time.Second)
		})
	}
	t.Logf("of %d windows in which the log was not read, lines were dropped in %d", windows, dropped)
	if *long && dropped == 0 {
		t.Error("no line was dropped")
	}
}

// repeated delivers an event that is not delivered again if it is refused.
func (s *storm) repeated(client *http.Client, d delivery) {
	from := time.Now()
	answer, text := s.deliver(client, d.body, from)
	s.note(d, "", answer, text, from, time.Now())
	s.forget(d.id)
}

// drops reports whether lines have just been dropped.
func (s *storm) drops(ctx context.Context) bool {
	text, err := s.asks.Get(ctx, "/api/summary", nil)
	return err == nil && bytes.Contains(text, []byte("The log is not read"))
}

// wrongStripe is a Stripe whose answers carry a Date that something on the way has changed.
type wrongStripe struct {
	*stripetest.Account
	date atomic.Pointer[[]string] // nil for the right one
}

func newWrongStripe(t *testing.T) *wrongStripe {
	t.Helper()
	w := &wrongStripe{Account: stripetest.Offline()}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.URL = server.URL
	return w
}

func (w *wrongStripe) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if date := w.date.Load(); date != nil {
		rw = &dated{rw, *date}
	}
	if id, ok := strings.CutPrefix(r.URL.Path, "/v1/events/"); ok { // it knows all, and lists some
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusOK)
		_ = json.NewEncoder(rw).Encode(map[string]any{"id": id, "object": "event"})
		return
	}
	w.Account.ServeHTTP(rw, r)
}

// dated changes the Date of an answer.
type dated struct {
	http.ResponseWriter
	date []string
}

func (d *dated) WriteHeader(status int) {
	d.Header()["Date"] = d.date
	d.ResponseWriter.WriteHeader(status)
}

func (d *dated) Write(b []byte) (int, error) {
	d.Header()["Date"] = d.date
	return d.ResponseWriter.Write(b)
}

// changesDate has Stripe's answers carry a wrong Date, or none, in windows.
func (s *storm) changesDate(ctx context.Context, t *testing.T) {
	for wait(ctx, 12*time.Second) {
		s.while(dateWrong, func() {
			var date []string
			switch by := []time.Duration{-30 * year, -year, -time.Hour, time.Hour, year, 30 * year}[rand.IntN(6)]; rand.IntN(8) {
			case 0:
			case 1:
				date = []string{"Morgen, 31. Nov 9999 99:99:99"}
			default:
				date = []string{time.Now().Add(by).UTC().Format(http.TimeFormat)}
			}
			s.api.date.Store(&date)
			defer s.api.date.Store(nil)
			wait(ctx, 8*time.Second)
		})
	}
}

const year = 365 * 24 * time.Hour

// changesClock makes the receiver's own clock wrong, in windows.
func (s *storm) changesClock(ctx context.Context, t *testing.T) {
	for s.clock != "" && wait(ctx, 40*time.Second) {
		all := []time.Duration{-30 * year, -year, -time.Hour, -2 * time.Minute, 2 * time.Minute, time.Hour, year, 30 * year}
		by := all[rand.IntN(len(all))]
		set := func(by time.Duration) {
			if err := os.WriteFile(s.clock, fmt.Appendf(nil, "%12d", int64(by/time.Second)), 0o600); err != nil {
				t.Error(err)
			}
			time.Sleep(clockRead)
		}
		if by.Abs() < 5*time.Minute { // nothing may be refused
			set(by)
			wait(ctx, 6*time.Second)
			set(0)
			continue
		}
		s.while(clockWrong, func() {
			set(by)
			wait(ctx, 6*time.Second)
			set(0)
		})
	}
}

// floods has hostile connections come and go.
func (s *storm) floods(ctx context.Context, t *testing.T) {
	for wait(ctx, 6*time.Second) {
		s.while(flood, func() {
			s.steady.Lock() // not while it restarts: who connects then has other troubles
			crowd := *s.program
			s.steady.Unlock()
			wave, end := context.WithCancel(ctx)
			_, gone := crowd.flood(wave, 1500, 3*time.Millisecond)
			wait(ctx, 8*time.Second)
			end()
			gone()
		})
	}
}

// reloads has the configuration read again, now and then.
func (s *storm) reloads(ctx context.Context, t *testing.T) {
	for wait(ctx, 10*time.Second) {
		s.steady.Lock()
		if s.cmd == nil { // the test has failed
			s.steady.Unlock()
			return
		}
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Error(err)
		}
		s.steady.Unlock()
	}
}

// reconciles compares with Stripe again and again.
func (s *storm) reconciles(ctx context.Context, _ *testing.T) {
	for wait(ctx, 3*time.Second) {
		asking, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, _ = s.asks.Post(asking, "/api/reconcile", nil) // it may fail while the disk is full
		cancel()
	}
}

const (
	clockVariable = "WRONG_CLOCK" // names a file with the seconds by which the clock is wrong
	clockRead     = 100 * time.Millisecond
)

// wrongClockBinary builds the program with a package time whose clock can be made wrong while it
// runs; what elapses is not. (Nothing outside of a program can change what the kernel's vDSO
// returns it.)
func wrongClockBinary(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const reading = "\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), reading) != 1 {
		lacks(t, "this Go reads the clock in another way")
	}
	changed := strings.Replace(string(source), reading, reading+"\tsec += wrongSeconds.Load()\n", 1)
	changed = strings.Replace(changed, "import (\n", "import (\n\t\"sync/atomic\"\n\t\"syscall\"\n", 1) + `
var wrongSeconds atomic.Int64

func init() {
	if name, ok := syscall.Getenv("` + clockVariable + `"); ok {
		readWrong(name)
		go func() { // Now can run where no system call may
			for {
				Sleep(20 * Millisecond)
				readWrong(name)
			}
		}()
	}
}

func readWrong(name string) {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	var text [32]byte
	n, _ := syscall.Read(fd, text[:])
	syscall.Close(fd)
	sum, sign := int64(0), int64(1)
	for _, c := range text[:max(n, 0)] {
		if c == '-' {
			sign = -1
		} else if c >= '0' && c <= '9' {
			sum = 10*sum + int64(c-'0')
		}
	}
	if n == 12 { // else it is being written
		wrongSeconds.Store(sign * sum)
	}
}
`
	dir := t.TempDir()
	ours, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	binary := filepath.Join(dir, "tillhook")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: ours}})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{ours: []byte(changed), overlay: replace} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "go", "build", "-overlay", overlay, "-o", binary, "tillhook")
	return binary
}
