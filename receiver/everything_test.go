package receiver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tillhook/ledger"
	"tillhook/ledger/check"
	"tillhook/receiver/health"
	"tillhook/receiver/operator"
	"tillhook/receiver/server/servertest"
	"tillhook/receiver/stripe"
)

// Everything at once: the real binary on a disk that is full now and then, with a log that is not
// read now and then, clocks that are wrong now and then, hostile connections and abandoned
// searches. The faults come and go in windows of their own, and overlap.

// The kinds of windows.
const (
	diskFull   = "disk full"
	logStuck   = "log stuck"
	dateWrong  = "Stripe's Date wrong"
	clockWrong = "own clock wrong"
	flood      = "flood"
	restart    = "restart"
)

// grace is how long after a window of its kind an answer may still be that of the fault: the ledger
// tries to write again every second.
const grace = 3 * time.Second

// storm is a receiver and everything that is against it.
type storm struct {
	*program
	asks   *operator.Client
	api    *wrongStripe
	log    *stuckLog
	disk   string // the mounted file system
	clock  string // the file that says by how much the receiver's clock is wrong; "" where it cannot be
	roots  *x509.CertPool
	scheme atomic.Pointer[string]
	over   atomic.Bool // there are no more faults
	steady sync.Mutex  // held while the disk is full, and by a restart
	notes
}

// notes are what the storm's senders and windows write down.
type notes struct {
	mu       sync.Mutex // guards what follows
	windows  map[string][]span
	acked    map[string]bool
	refused  map[string]bool // ids whose signature was of another time
	retries  []delivery
	answers  map[string]map[string]int // by the windows that are open, then by answer
	slowest  time.Duration
	wrong    []string // answers that no fault justifies
	searches map[string]int
}

// span is a window; to is zero while it is open.
type span struct{ from, to time.Time }

type delivery struct {
	id   string
	body []byte
	due  time.Time
}

// while has a window of a kind be open while something is done.
func (n *notes) while(kind string, do func()) {
	n.mu.Lock()
	n.windows[kind] = append(n.windows[kind], span{from: time.Now()})
	i := len(n.windows[kind]) - 1
	n.mu.Unlock()
	do()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.windows[kind][i].to = time.Now()
}

// overlaps reports whether a window of a kind was open at a time, or ended so shortly before. The
// caller holds the lock.
func (n *notes) overlaps(kind string, from, to time.Time, grace time.Duration) bool {
	return slices.ContainsFunc(n.windows[kind], func(s span) bool {
		return to.After(s.from) && (s.to.IsZero() || from.Before(s.to.Add(grace)))
	})
}

// justifies reports whether a fault explains an answer. The caller holds the lock.
func (n *notes) justifies(answer string, from, to time.Time) bool {
	switch answer {
	case "200":
		return true
	case "503 storage_unavailable":
		return n.overlaps(diskFull, from, to, grace) || n.overlaps(restart, from, to, 0)
	case "503 overloaded":
		return n.overlaps(flood, from, to, grace)
	case "400": // the signature is of another time
		return n.overlaps(clockWrong, from, to, 0)
	case "none":
		return n.overlaps(restart, from, to, 0)
	}
	return false
}

// note records an answer. want is empty for an event that must be accepted.
func (n *notes) note(d delivery, want, answer, text string, from, to time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var open []string
	for _, kind := range []string{restart, diskFull, clockWrong, flood, logStuck, dateWrong} {
		if n.overlaps(kind, from, to, 0) {
			open = append(open, kind)
		}
	}
	key := "no fault"
	if len(open) > 0 {
		key = strings.Join(open, ", ")
	}
	if want != "" {
		key += " (signed at another time)"
	}
	if n.answers[key] == nil {
		n.answers[key] = map[string]int{}
	}
	n.answers[key][answer]++
	n.slowest = max(n.slowest, to.Sub(from))
	if !n.justifies(answer, from, to) && answer != want || want != "" && answer == "200" {
		n.wrong = append(n.wrong, fmt.Sprintf("%s of %d bytes was answered %s after %s in: %s: %s",
			d.id, len(d.body), answer, to.Sub(from), key, text))
	}
	switch {
	case want != "":
		n.refused[d.id] = true
	case answer == "200":
		n.acked[d.id] = true
	default:
		d.due = to.Add(time.Second + time.Duration(rand.Int64N(int64(4*time.Second))))
		n.retries = append(n.retries, d)
	}
}

// due returns a delivery that is to be tried again.
func (n *notes) due() (d delivery, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	i := slices.IndexFunc(n.retries, func(d delivery) bool { return now.After(d.due) })
	if i < 0 {
		return d, false
	}
	d = n.retries[i]
	n.retries = slices.Delete(n.retries, i, i+1)
	return d, true
}

// forget removes an event from those that are sent again.
func (n *notes) forget(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.retries = slices.DeleteFunc(n.retries, func(d delivery) bool { return d.id == id })
}

func (s *storm) client() *http.Client {
	secured := &tls.Config{RootCAs: s.roots, ServerName: "hooks.example.com"}
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: secured}}
}

// sender delivers events as Stripe does, one at a time, until ctx ends.
func (s *storm) sender(ctx context.Context, next *atomic.Int64, template []byte) {
	client := s.client()
	defer client.CloseIdleConnections()
	var last delivery
	for ctx.Err() == nil {
		d, again := s.due()
		choice := rand.IntN(100)
		want, signed := "", time.Now()
		switch {
		case again:
		case choice < 8 && last.id != "":
			d = last // Stripe repeats now and then what was acknowledged
		default:
			n := next.Add(1)
			d.id, d.body = ownEvent(template, n)
			d.body = bytes.Replace(d.body, []byte("1776163468"), fmt.Appendf(nil, "%d", signed.Unix()), 1)
			switch {
			case choice < 14:
				pad := strings.Repeat("0123456789abcdef", (100<<10+rand.IntN(200<<10))/16)
				d.body = append([]byte(`{"padding":"`+pad+`",`), d.body[1:]...)
			case choice < 17 && !s.over.Load(): // a replay, or one of a clock that is wrong
				want, signed = "400", signed.Add([]time.Duration{-3 * time.Hour, 3 * time.Hour}[n%2])
			case choice < 22:
				s.api.AddEvent(d.body, "")
			}
		}
		from := time.Now()
		answer, text := s.deliver(client, d.body, signed)
		s.note(d, want, answer, text, from, time.Now())
		if answer == "200" {
			last = d
		}
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond)
	}
}

// deliver posts a body once, to the end, and returns the answer's status and, of a 503, its code;
// "none" if there was no answer. text is the whole answer, or why there was none.
func (s *storm) deliver(client *http.Client, body []byte, signed time.Time) (answer, text string) {
	r, err := http.NewRequest(http.MethodPost, *s.scheme.Load()+s.public+hook, bytes.NewReader(body))
	if err != nil {
		return "none", err.Error()
	}
	r.Header.Set("Stripe-Signature", stripe.Sign(body, secret, signed))
	r.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	resp, err := client.Do(r)
	if err != nil {
		return "none", err.Error()
	}
	whole, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return "none", err.Error()
	}
	if resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Sprint(resp.StatusCode), string(whole)
	}
	var refusal struct{ Error struct{ Code string } }
	if err := json.Unmarshal(whole, &refusal); err != nil || resp.Header.Get("Retry-After") != "5" {
		return "503 of another kind", string(whole)
	}
	return "503 " + refusal.Error.Code, string(whole)
}

// searcher asks the operator's API for much and hangs up before it is answered, most of the time.
func (s *storm) searcher(ctx context.Context) {
	asked := []struct{ method, path string }{
		{"GET", "/api/export"}, {"GET", "/api/export?kind=payments&format=jsonl"},
		{"GET", "/api/backup"}, {"POST", "/api/verify"},
		{"GET", "/api/summary?from=2026-01-01&to=2026-12-31&timezone=Europe/Berlin"}, {"GET", "/api/summary"},
		{"GET", "/api/payments?status=canceled&limit=100"}, {"GET", "/api/payments?customer=cus_none&metadata[a]=b"},
		{"GET", "/api/events?outcome=quarantined&limit=100"}, {"GET", "/api/events?limit=100"},
		{"GET", operator.PaymentPath("pi_0000000000000000001")}, {"GET", "/metrics"},
	}
	for ctx.Err() == nil {
		ask := asked[rand.IntN(len(asked))]
		patience := 20 * time.Second
		if rand.IntN(3) > 0 {
			patience = time.Duration(1+rand.IntN(300)) * time.Millisecond
		}
		s.searched(ask.method+" "+ask.path, s.search(ctx, patience, ask.method, ask.path))
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
	}
}

func (s *storm) search(ctx context.Context, patience time.Duration, method, path string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	path, query, _ := strings.Cut(path, "?")
	params, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	if method == http.MethodPost {
		_, err = s.asks.Post(ctx, path, params)
		return err
	}
	body, err := s.asks.Open(ctx, path, params)
	if err == nil {
		_, err = io.Copy(io.Discard, body)
		err = errors.Join(err, body.Close())
	}
	return err
}

// searched counts how a search ended.
func (s *storm) searched(what string, err error) {
	end := "answered"
	var refused *operator.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		end = "abandoned"
	case errors.As(err, &refused):
		end = fmt.Sprintf("%d %s", refused.Status, refused.Code)
	case err != nil:
		end = "failed"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.searches[end]++
	now := time.Now()
	broken := s.overlaps(diskFull, now.Add(-5*time.Second), now, grace) ||
		s.overlaps(restart, now.Add(-20*time.Second), now, grace)
	if (end == "failed" || strings.HasPrefix(end, "500")) && !broken {
		s.wrong = append(s.wrong, fmt.Sprintf("%s: %v", what, err))
	}
}

const endpointURL = "https://hooks.example.com" + hook

// newStorm starts a receiver, and nothing against it yet.
func newStorm(t *testing.T) *storm {
	t.Helper()
	// Else under nohup the receiver would inherit that it is ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	s := &storm{program: build(t), disk: newSmallDisk(t), roots: x509.NewCertPool()}
	s.notes = notes{windows: map[string][]span{}, acked: map[string]bool{}, refused: map[string]bool{},
		answers: map[string]map[string]int{}, searches: map[string]int{}}
	s.api, s.log = newWrongStripe(t), newStuckLog(t)
	s.api.AddEndpoint(map[string]any{"id": "we_1Storm", "url": endpointURL, "api_version": "2023-10-16"})
	s.dir, s.logTo = filepath.Join(s.disk, "data"), s.log.w
	socket := filepath.Join(t.TempDir(), "operator.sock")
	s.asks = operator.Dial(socket)
	s.env = []string{"TILLHOOK_OPERATOR_SOCKET=" + socket, "TILLHOOK_LOG_LEVEL=info",
		"STRIPE_SECRET_KEY=" + s.api.Key, "STRIPE_API_BASE=" + s.api.URL,
		"TILLHOOK_RECONCILE_EVERY=1m", "TILLHOOK_PUBLIC_URL=" + endpointURL}
	if *long {
		s.binary, s.clock = wrongClockBinary(t), filepath.Join(t.TempDir(), "clock")
		s.env = append(s.env, clockVariable+"="+s.clock,
			"TILLHOOK_BACKUP_DIR="+filepath.Join(s.disk, "backups"), "TILLHOOK_BACKUP_EVERY=1m", "TILLHOOK_BACKUP_KEEP=1")
	}
	scheme := "http://"
	s.scheme.Store(&scheme)
	s.start(t)
	return s
}

// secured makes the receiver use TLS from its next start.
func (s *storm) secured(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	from := time.Now().Add(-time.Hour)
	certFile, keyFile, cert := servertest.SelfSigned(t, dir, "hooks.example.com", from, from.Add(24*time.Hour))
	s.roots.AddCert(cert)
	scheme := "https://"
	s.secure, s.env = true, append(s.env, "TILLHOOK_TLS_CERT="+certFile, "TILLHOOK_TLS_KEY="+keyFile)
	s.scheme.Store(&scheme)
}

// killed kills the receiver and starts it again, while the disk has space.
func (s *storm) killed(t *testing.T, tls bool) {
	t.Helper()
	s.steady.Lock()
	defer s.steady.Unlock()
	s.while(restart, func() {
		s.kill(t)
		if tls {
			s.secured(t)
		}
		s.start(t)
		comes(t, "it is ready after a restart", func() bool {
			_, err := s.asks.Get(t.Context(), "/readyz", nil)
			return err == nil
		})
	})
}

// maxPeak is what the receiver may take in all, the pages of its ledger's file included.
const maxPeak = 250 << 20

// Nothing that was acknowledged is lost, honest deliveries are answered in 5 s and correctly for
// the fault, memory stays bounded, and after the last fault the health is ok again by itself. The
// long form takes ten minutes, kills the receiver twice, and makes its own clock wrong, too. The
// short one waits for no finding that stands for 30 s by design: dropped lines, refused signatures,
// and a Date that was wrong.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	length, heals := 9*time.Second, 30*time.Second
	slow := []health.Code{health.Log, health.Signatures, health.Clock}
	if *long {
		length, heals, slow = 10*time.Minute, time.Minute, nil
	}
	s := newStorm(t)
	faults, end := context.WithTimeout(t.Context(), length)
	defer end()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var senders, enemies sync.WaitGroup
	defer func() { // also when it fails early
		end()
		stop()
		enemies.Wait()
		senders.Wait()
	}()
	var next atomic.Int64
	template := sample(t, "payment_intent.succeeded")
	for range 6 {
		senders.Go(func() { s.sender(ctx, &next, template) })
	}
	for _, fault := range []func(context.Context, *testing.T){
		s.fillsDisk, s.stopsReading, s.changesDate, s.changesClock, s.floods, s.reloads, s.reconciles,
	} {
		enemies.Go(func() { fault(faults, t) })
	}
	for range 4 {
		enemies.Go(func() { s.searcher(faults) })
	}
	peak := int64(0)
	restarts := 0
	for begun := time.Now(); faults.Err() == nil; time.Sleep(200 * time.Millisecond) {
		peak = max(peak, s.peak(t)) // it fails if the receiver has ended
		if n := int(3 * time.Since(begun) / length); *long && n > restarts && n < 3 {
			restarts = n
			s.killed(t, n == 2)
		}
	}
	enemies.Wait()
	s.over.Store(true)
	s.heals(t, heals, slow)
	comesIn(t, 30*time.Second, "all that was refused is acknowledged", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.retries) == 0
	})
	stop()
	senders.Wait()
	if peak = max(peak, s.peak(t)); peak > maxPeak {
		t.Errorf("it took %d MiB", peak>>20)
	}
	if status := s.ends(t, syscall.SIGTERM); status != 0 {
		t.Errorf("it ended with %d", status)
	}
	s.report(t, peak)
	s.whole(t)
}

// heals waits until the receiver is well again, and says how long that took.
func (s *storm) heals(t *testing.T, most time.Duration, slow []health.Code) {
	t.Helper()
	over := time.Now()
	ready, bad := time.Duration(0), []health.Finding(nil)
	defer func() { // also when it does not heal
		for _, b := range bad {
			t.Logf("not well: %s %s: %s", b.Code, b.Severity, b.Message)
		}
	}()
	well := func() bool {
		if _, err := s.asks.Get(t.Context(), "/readyz", nil); err != nil {
			return false
		}
		if ready == 0 {
			ready = time.Since(over)
		}
		var summary operator.Summary
		text, err := s.asks.Get(t.Context(), "/api/summary", nil)
		if err != nil || json.Unmarshal(text, &summary) != nil {
			return false
		}
		bad = slices.DeleteFunc(summary.Health.Findings, func(b health.Finding) bool {
			return b.Severity == health.OK || slices.Contains(slow, b.Code)
		})
		return len(bad) == 0
	}
	for !well() {
		if time.Since(over) > most {
			t.Errorf("%s after the last fault it is not well", most) // the figures are worth a look all the same
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("after the last fault it was ready in %s and well in %s", ready, time.Since(over))
}

// report logs the figures, and fails for each answer that no fault explains.
func (s *storm) report(t *testing.T, peak int64) {
	t.Helper()
	requests := 0
	for _, key := range slices.Sorted(maps.Keys(s.answers)) {
		t.Logf("answers in: %s: %v", key, s.answers[key])
		for _, n := range s.answers[key] {
			requests += n
		}
	}
	for kind, spans := range s.windows {
		sum := time.Duration(0)
		for _, w := range spans {
			sum += w.to.Sub(w.from)
		}
		t.Logf("%d windows of %s, %s in all", len(spans), kind, sum.Round(time.Second))
	}
	t.Logf("%d deliveries, %d events acknowledged, the slowest answer %s, peak %d MiB, searches %v",
		requests, len(s.acked), s.slowest, peak>>20, s.searches)
	for _, w := range s.wrong[:min(len(s.wrong), 20)] {
		t.Error(w)
	}
	if len(s.wrong) > 20 {
		t.Errorf("and %d more", len(s.wrong)-20)
	}
}

// whole requires that the ledger is sound, that it contains each acknowledged event once, and no
// event that was signed at another time.
func (s *storm) whole(t *testing.T) {
	t.Helper()
	if proof, err := check.Verify(t.Context(), ledger.Path(s.dir)); err != nil {
		t.Fatalf("the ledger is not sound: %v\n%+v", err, proof)
	}
	l, err := ledger.OpenReadOnly(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for id := range s.acked {
		rec, err := l.Event(id)
		if err != nil || rec.Outcome != ledger.Applied {
			t.Errorf("%s was acknowledged and is %+v, %v", id, rec, err)
			continue
		}
		if p, err := l.Payment(string(rec.PaymentID)); err != nil || p.Events != 1 || *p.AmountReceived != 6480 {
			t.Errorf("%s is booked as %+v, %v", id, p, err)
		}
	}
	for id := range s.refused {
		if _, err := l.Event(id); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s was signed at another time, and is in the ledger: %v", id, err)
		}
	}
	if stats, err := l.Stats(); err != nil || stats.Events != uint64(len(s.acked)) {
		t.Errorf("%d events are in the ledger, and %d were acknowledged, %v", stats.Events, len(s.acked), err)
	}
}
