//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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
	"time"

	"github.com/velocimeter/velocimeter/bench/validator/ledger"
)

// maxLog bounds what is kept of the server's output, in bytes.
const maxLog = 1 << 20

// phases of a server.
const (
	down int32 = iota
	up
	ending // it was told to
)

// server is the binary under test, started again and again on one data folder.
type server struct {
	book     *ledger.Book
	binary   string
	data     string // folder of the store
	public   string // host:port
	admin    string
	env      []string
	args     []string
	hidden   string // a question with a secret in it
	canaries []ledger.Canary
	http     *http.Client

	phase atomic.Int32
	runs  atomic.Int64
	pid   atomic.Int64

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	log   bytes.Buffer
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot find a free port: %w", err)
	}
	defer l.Close() //nolint:errcheck // nothing was written
	return l.Addr().String(), nil
}

// Write takes the server's output: secrets are looked for in every line, and the
// newest lines are kept.
func (s *server) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.Write(p)
	if s.log.Len() > maxLog {
		s.searchLog()
		s.log.Next(s.log.Len() - 1024) // a secret may lie across the cut
	}
	return len(p), nil
}

func (s *server) searchLog() {
	s.book.Searched("the log", s.log.Bytes(), s.canaries)
}

// tail is the end of the output.
func (s *server) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.log.Bytes()
	return string(b[max(0, len(b)-2000):])
}

// command makes a process of the binary. It dies with the validator.
func (s *server) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start starts the process; it does not wait until it is ready.
func (s *server) start(ctx context.Context, syncWindow string) error {
	args := append([]string{"serve", "--listen", s.public, "--admin-listen", s.admin, "--data", s.data, "--sync-window", syncWindow}, s.args...)
	cmd := s.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = s, s
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %q: %w", s.binary, err)
	}
	ended := make(chan struct{})
	s.mu.Lock()
	s.cmd, s.ended = cmd, ended
	s.mu.Unlock()
	s.book.Started()
	s.runs.Add(1)
	s.pid.Store(int64(cmd.Process.Pid))
	s.phase.Store(up)
	go func() {
		err := cmd.Wait()
		if s.phase.Swap(down) == up && ctx.Err() == nil {
			s.book.Check(ledger.Alive, false, "the process ended by itself: %v; its log ends with\n%s", err, s.tail())
		}
		close(ended)
	}()
	return nil
}

// process returns what runs now.
func (s *server) process() (cmd *exec.Cmd, ended chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd, s.ended
}

// kill ends the process at once.
func (s *server) kill() {
	cmd, ended := s.process()
	s.phase.CompareAndSwap(up, ending)
	_ = cmd.Process.Signal(syscall.SIGKILL)
	<-ended
}

// terminate asks the process to stop and judges how it does.
func (s *server) terminate() {
	cmd, ended := s.process()
	s.phase.CompareAndSwap(up, ending)
	begun := time.Now()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(40 * time.Second):
		s.book.Check(ledger.Alive, false, "SIGTERM did not end the process within 40 s; its log ends with\n%s", s.tail())
		s.kill()
		return
	}
	took := time.Since(begun)
	code := cmd.ProcessState.ExitCode()
	s.book.Check(ledger.Alive, code == 0, "exit code %d after SIGTERM; the log ends with\n%s", code, s.tail())
	s.book.Check(ledger.Alive, took <= 15*time.Second, "SIGTERM took %s", took)
}

// get asks the server and looks for secrets in the answer.
func (s *server) get(ctx context.Context, host, path string) (status int, body []byte, err error) {
	return s.ask(ctx, host, path, nil)
}

// ask is get with a header.
func (s *server) ask(ctx context.Context, host, path string, header http.Header) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, http.NoBody)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot ask: %w", err)
	}
	maps.Copy(req.Header, header)
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot ask: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	if body, err = io.ReadAll(io.LimitReader(resp.Body, 256<<20)); err != nil {
		return 0, nil, fmt.Errorf("cannot read the answer: %w", err)
	}
	s.book.Searched("the answer to "+strings.TrimSuffix(path, after(path, "api_key=")), body, s.canaries)
	return resp.StatusCode, body, nil
}

// gauges reads the metrics.
func (s *server) gauges(ctx context.Context) (map[string]float64, error) {
	status, body, err := s.get(ctx, s.admin, "/metrics")
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("cannot read the metrics: status %d: %w", status, cmp.Or(err, errStatus))
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if f, err := strconv.ParseFloat(value, 64); ok && err == nil {
			out[name] = f
		}
	}
	return out, nil
}

var errStatus = errors.New("not what was asked for")

// ready waits until the server says that it is.
func (s *server) ready(ctx context.Context, limit time.Duration) error {
	end := time.Now().Add(limit)
	for {
		if status, _, err := s.get(ctx, s.public, "/readyz"); err == nil && status == http.StatusOK {
			return nil
		}
		if s.phase.Load() == down || time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("cannot reach a ready server within %s; its log ends with\n%s", limit, s.tail())
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// resources counts what a client could leak: goroutines, and descriptors but
// for the store's files, which come and go as it pleases.
func (s *server) resources(ctx context.Context) (goroutines, descriptors int, err error) {
	g, err := s.gauges(ctx)
	if err != nil {
		return 0, 0, err
	}
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.pid.Load()))
	if err != nil {
		return 0, 0, fmt.Errorf("cannot count descriptors: %w", err)
	}
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil && !strings.HasPrefix(to, s.data) {
			descriptors++
		}
	}
	return int(g["go_goroutines"]), descriptors, nil
}

// resident returns the resident bytes of the process, 0 where there is none.
func (s *server) resident() uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.pid.Load()))
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// after is what follows a mark; "" where it is not there.
func after(text, mark string) string {
	_, rest, _ := strings.Cut(text, mark)
	return rest
}
