package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a program that takes webhooks.
type Server struct {
	// Command makes the program for an address to listen on and an empty folder to keep its things in.
	Command func(address, dir string) *exec.Cmd
}

// Bare is the server to compare with: net/http as it comes, which reads a body and answers with the same bytes
// each time. It serves until ctx ends.
func Bare(ctx context.Context, address string) error {
	answer := []byte(`{"received":true}`)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen for the bare handler: %w", err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, "the body ended early", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // the client notices
	})}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// process is a server that runs.
type process struct {
	cmd     *exec.Cmd
	address string
	errors  bytes.Buffer
	ended   chan error
}

// start runs the server in its folder and waits until it accepts connections.
func (s *Server) start(ctx context.Context, dir string) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	p := &process{address: l.Addr().String(), ended: make(chan error, 1)}
	if err := l.Close(); err != nil {
		return nil, err
	}
	p.cmd = s.Command(p.address, dir)
	p.cmd.WaitDelay = time.Second
	if p.cmd.Stderr == nil {
		p.cmd.Stderr = &p.errors
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.address)
		if err == nil {
			return p, conn.Close()
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("the server does not listen: %w", err), ctx.Err(), p.stop())
		}
		select {
		case err := <-p.ended:
			return nil, errors.Join(fmt.Errorf("the server ended before it listened: %s", p.errors.Bytes()), err)
		default:
		}
	}
}

// stop asks the server to end, and ends it when that takes too long.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	select {
	case err := <-p.ended:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("the server ended with %w: %s", err, p.errors.Bytes())
		}
		return err
	case <-time.After(15 * time.Second):
		return errors.Join(errors.New("the server did not end in 15 s"), p.cmd.Process.Kill(), <-p.ended)
	}
}

// cpu is the time the process has had of all processors. proc_pid_stat(5)
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the server's CPU time: %w", err)
	}
	_, after, _ := strings.Cut(string(text), ") ") // behind the name, which may hold anything
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat has another form: %q", text)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 everywhere Go runs
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// rss is the memory the process has of its own, what is mapped from files left out. proc_pid_status(5)
func (p *process) rss() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the server's memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("/proc/PID/status has no RssAnon")
}

// diskUse is what the files of a folder take up on their disk.
func diskUse(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || filepath.Ext(path) == ".log" {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += stat.Blocks * 512
		}
		return nil
	})
	return bytes, err
}

// syncTime is how long a page takes to the disk: the median of many writes of 4 KiB with an fdatasync each, in seconds.
func syncTime(dir string) (_ float64, err error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, fmt.Errorf("measure the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page := make([]byte, 4096)
	const times = 300
	took := make([]time.Duration, 0, times)
	for i := range times {
		page[0] = byte(i)
		start := time.Now()
		if _, err := f.WriteAt(page, 0); err != nil {
			return 0, fmt.Errorf("measure the disk: %w", err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, fmt.Errorf("measure the disk: %w", err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[times/2].Seconds(), nil
}
