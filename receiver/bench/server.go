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

// Server is a program that receives webhooks.
type Server struct {
	// Command returns the command for an address to listen on and an empty data directory.
	Command func(address, dir string) *exec.Cmd
}

// Bare serves the handler to compare with until ctx ends: net/http with its defaults, which reads
// the body and always answers with the same bytes.
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
		_, _ = w.Write(answer) // the client reports a missing answer
	})}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// process is a running server.
type process struct {
	cmd     *exec.Cmd
	address string
	errors  bytes.Buffer
	exited  chan error
}

// start runs the server in dir and waits until it accepts connections.
func (s *Server) start(ctx context.Context, dir string) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	p := &process{address: l.Addr().String(), exited: make(chan error, 1)}
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
	go func() { p.exited <- p.cmd.Wait() }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.address)
		if err == nil {
			return p, conn.Close()
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("the server does not listen: %w", err), ctx.Err(), p.stop())
		}
		select {
		case err := <-p.exited:
			return nil, errors.Join(fmt.Errorf("the server exited before it listened: %s", p.errors.Bytes()), err)
		default:
		}
	}
}

// stop sends SIGTERM and waits. It kills the server after 15 seconds.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	select {
	case err := <-p.exited:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("the server exited with %w: %s", err, p.errors.Bytes())
		}
		return err
	case <-time.After(15 * time.Second):
		return errors.Join(errors.New("the server did not stop within 15 s"), p.cmd.Process.Kill(), <-p.exited)
	}
}

// cpu returns the processor time that the process has used. proc_pid_stat(5)
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the server's CPU time: %w", err)
	}
	_, after, _ := strings.Cut(string(text), ") ") // skips the name, which may contain anything
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat has an unknown format: %q", text)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on all platforms of Go
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// rss returns the anonymous memory of the process. proc_pid_status(5)
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

// diskUse returns how many bytes the files in dir use on disk, without log files.
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

// syncTime returns the median time in seconds of a 4 KiB write and fdatasync in dir.
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
