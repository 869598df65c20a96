package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("TEST_VELOCIMETER_MAIN") == "1" {
		main() // the test binary is the program: tests that kill it need a process
		return
	}
	// fasthttp's own: they end by themselves up to ten seconds after a server.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp/stackless.funcWorker"),
	)
}

// lockedBuffer takes what a running app prints.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// outcome is what a finished app left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

func runApp(ctx context.Context, env map[string]string, args ...string) outcome {
	var out, errs lockedBuffer
	a := &app{args: args, env: lookup(env), stdout: &out, stderr: &errs}
	return outcome{a.run(ctx), out.String(), errs.String()}
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

// freePort returns an address that nobody listens on. Port 0 is no setting: a
// server whose address is not known is of no use.
func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// server is an app serving in this process.
type server struct {
	t      *testing.T
	url    string
	admin  string
	cancel context.CancelFunc
	done   chan int
	out    lockedBuffer
	errs   lockedBuffer
	client *http.Client
}

func startServer(t *testing.T, data string, args ...string) *server {
	t.Helper()
	s := &server{t: t, done: make(chan int, 1), client: &http.Client{Transport: &http.Transport{}}}
	up := make(chan addresses, 1)
	args = append([]string{"serve", "--listen", freePort(t), "--admin-listen", freePort(t), "--data", data}, args...)
	a := &app{args: args, env: lookup(nil), stdout: &s.out, stderr: &s.errs, started: func(at addresses) { up <- at }}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	go func() { s.done <- a.run(ctx) }()
	select {
	case at := <-up:
		s.url, s.admin = "http://"+at.Public.String(), "http://"+at.Admin.String()
		if i := slices.Index(args, "--tls-cert"); i >= 0 {
			s.url = "https" + strings.TrimPrefix(s.url, "http")
			conf, err := trust(args[i+1])
			if err != nil {
				t.Fatal(err)
			}
			s.client.Transport = &http.Transport{TLSClientConfig: conf}
		}
	case code := <-s.done:
		t.Fatalf("serve ended with %d: %s", code, s.errs.String())
	}
	s.until("/readyz", func(code int, _ string) bool { return code == http.StatusOK })
	return s
}

func (s *server) get(path string) (code int, body string) {
	s.t.Helper()
	url := s.url + path
	if strings.HasPrefix(path, "/metrics") {
		url = s.admin + path
	}
	resp, err := s.client.Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// until asks again and again, at most for ten seconds.
func (s *server) until(path string, ok func(code int, body string) bool) string {
	s.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for range 2000 {
		if code, body := s.get(path); ok(code, body) {
			return body
		}
		<-ticker.C
	}
	s.t.Fatalf("%s never showed what was awaited; log:\n%s", path, s.errs.String())
	return ""
}

func (s *server) stop() outcome {
	s.t.Helper()
	s.cancel()
	code := <-s.done
	s.client.CloseIdleConnections()
	return outcome{code, s.out.String(), s.errs.String()}
}

// meta is the part of every envelope that the tests look at.
type meta struct {
	Meta struct {
		Epoch     string
		Seq       uint64
		Simulated bool
		Source    string
	}
	Data json.RawMessage
}

func decode(t *testing.T, body string) meta {
	t.Helper()
	var m meta
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return m
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("market:\n  tokens: 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	f := func(code int, want string, args ...string) {
		t.Helper()
		o := runApp(t.Context(), nil, args...)
		if o.code != code || !strings.Contains(o.stdout+o.stderr, want) {
			t.Errorf("%v: exit %d, %q; want %d, %q", args, o.code, o.stdout+o.stderr, code, want)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%v created the data folder", args)
		}
	}
	f(0, "velocimeter "+version, "version")
	f(0, "Usage:", "--help")
	f(0, "Usage:", "serve", "--help")
	f(0, "configuration is valid", "config", "check")
	f(0, "market.tokens:", "config", "print")
	f(0, "velocimeter version "+version, "--version")
	f(64, "unknown flag: --frobnicate", "serve", "--frobnicate")
	f(64, "unknown argument", "serve", "now")
	f(64, "frobnicate", "frobnicate")
	f(64, "needs one file", "replay")
	f(64, "needs one file", "replay", "a", "b")
	f(64, "flag needs an argument", "serve", "--data")
	f(64, "takes one folder", "verify", "a", "b")
	f(64, "needs one backup", "restore")
	f(65, "no-such-backup", "restore", filepath.Join(dir, "no-such-backup"), "--data", data)
	f(65, "no finished backup", "restore", dir, "--data", data)
	f(65, "no-such-folder", "verify", filepath.Join(dir, "no-such-folder"))
	f(65, "no store", "verify", dir)
	f(74, "--data names the folder", "verify", "--data", data)
	f(74, "--data names the folder", "backup", "--data", data)
	f(65, "no-such-file.jsonl", "serve", "--data", data, "--replay", filepath.Join(dir, "no-such-file.jsonl"))
	f(65, "bad.yaml", "replay", bad)
	f(78, bad+":2: market.tokens: 0 is not in 1…100000", "serve", "--data", data, "--config", bad)
	f(78, bad+":2: market.tokens", "config", "check", "--config", bad)
	f(78, "--speed: replay.speed", "serve", "--data", data, "--speed", "fast")
	f(78, "--listen: listen", "serve", "--data", data, "--listen", "nowhere")
	f(78, "no such file", "serve", "--config", filepath.Join(dir, "none.yaml"))
	f(78, "--dirt: market.dirt", "serve", "--data", data, "--dirt", "2")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	f(69, "address is in use", "serve", "--data", data, "--listen", busy.Addr().String())
	f(69, "address is in use", "serve", "--data", data, "--listen", freePort(t), "--admin-listen", busy.Addr().String())
	f(69, "address is in use", "market", "--listen", busy.Addr().String())
}

// A name that stands for something other than a file is written to, never replaced.
func TestReplayOutput(t *testing.T) {
	dir := t.TempDir()
	series := filepath.Join(dir, "series.jsonl")
	const poll = `{"last_updated":"2025-11-01T00:00:00Z","source":"coinlore","coins":[{"symbol":"BTC","name":"Bitcoin","price_usd":1,"market_cap_usd":10,"volume_24h":2,"rank":1}]}`
	if err := os.WriteFile(series, []byte(poll+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(out string, code int) {
		t.Helper()
		if o := runApp(t.Context(), nil, "replay", series, "--out", out); o.code != code {
			t.Errorf("%s: exit %d, want %d: %s", out, o.code, code, o.stderr)
		}
	}
	plain, target, link := filepath.Join(dir, "plain"), filepath.Join(dir, "target"), filepath.Join(dir, "link")
	f(plain, 0)
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Skip("no links here")
	}
	f(link, 0)
	want, _ := os.ReadFile(plain)
	got, _ := os.ReadFile(target)
	if info, err := os.Lstat(link); err != nil || info.Mode().IsRegular() || len(want) == 0 || !bytes.Equal(got, want) {
		t.Errorf("the link was replaced: %v, %q", info.Mode(), got)
	}
	f(series, exitUsage)
	f(os.DevNull, 0)
	if info, err := os.Lstat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Fatalf("%s is now %v", os.DevNull, info.Mode())
	}
	f(filepath.Join(dir, "no-such-folder", "x"), exitIO)
	if left, _ := filepath.Glob(filepath.Join(dir, "*.partial")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestServe(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := startServer(t, data, "--market-tokens", "50", "--market-tick", "50ms")
	first := s.until("/api/v1/tokens?limit=5", func(code int, _ string) bool { return code == http.StatusOK })
	if m := decode(t, first); !m.Meta.Simulated || m.Meta.Source != "market" || m.Meta.Seq == 0 {
		t.Errorf("meta %+v", m.Meta)
	}
	s.until("/api/v1/tokens?limit=5", func(_ int, body string) bool { return decode(t, body).Meta.Seq > decode(t, first).Meta.Seq+3 })
	for path, want := range map[string]string{
		"/api/v1/tokens/bitcoin": `"symbol":"BTC"`, "/api/v1/tokens/1/velocity": `"explain"`, "/api/v1/market": `"breadth"`,
		"/api/v1/movers": `"up"`, "/api/v1/schema": `"velocity_change_7d"`, "/healthz": `"ok"`, "/version": version,
		"/metrics": "velocimeter_market_ticks_total",
	} {
		if code, body := s.get(path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	s.until("/api/v1/tokens/1/history?range=1h&granularity=raw", func(_ int, body string) bool { return strings.Contains(body, `"seq"`) })
	second := runApp(t.Context(), nil, "serve", "--data", data, "--listen", freePort(t), "--admin-listen", freePort(t))
	if second.code != exitTemporary || !strings.Contains(second.stderr, "in use by another process") {
		t.Errorf("a second process on the same folder: %+v", second)
	}
	if code, _ := s.get("/readyz"); code != http.StatusOK {
		t.Error("the first process was disturbed")
	}
	o := s.stop()
	if o.code != 0 || !strings.Contains(o.stdout, "simulated, 50 tokens") || !strings.Contains(o.stdout, data) {
		t.Errorf("exit %d, banner:\n%s%s", o.code, o.stdout, o.stderr)
	}
}

// A stop in order loses nothing: the same lineage goes on where it was.
func TestRestartGoesOn(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	var epoch string
	var seq uint64
	for round := range 3 {
		s := startServer(t, data, "--market-tokens", "20", "--market-tick", "50ms")
		m := decode(t, s.until("/api/v1/tokens", func(code int, body string) bool {
			return code == http.StatusOK && decode(t, body).Meta.Seq > seq+5
		}))
		if round > 0 && m.Meta.Epoch != epoch {
			t.Errorf("epoch %s became %s", epoch, m.Meta.Epoch)
		}
		epoch, seq = m.Meta.Epoch, m.Meta.Seq
		if o := s.stop(); o.code != 0 {
			t.Fatalf("exit %d: %s", o.code, o.stderr)
		}
	}
	if seq > 4096 {
		t.Errorf("seq %d: stops in order must not skip reserved numbers", seq)
	}
}

// The key reaches nothing that anybody reads.
func TestKeyStaysSecret(t *testing.T) {
	const canary = "canary-key-0123456789-canary"
	env := map[string]string{"CMC_API_KEY": canary, "VELOCIMETER_COINMARKETCAP_BASE_URL": "http://127.0.0.1:1"}
	var out, errs lockedBuffer
	up := make(chan addresses, 1)
	ctx, cancel := context.WithCancel(t.Context())
	args := []string{"serve", "--listen", freePort(t), "--admin-listen", freePort(t), "--data", filepath.Join(t.TempDir(), "d"), "--log-level", "debug"}
	a := &app{args: args, env: lookup(env), stdout: &out, stderr: &errs, started: func(at addresses) { up <- at }}
	done := make(chan int, 1)
	go func() { done <- a.run(ctx) }()
	at := <-up
	client := &http.Client{Transport: &http.Transport{}}
	var seen strings.Builder
	for _, url := range []string{"http://" + at.Public.String() + "/readyz", "http://" + at.Admin.String() + "/metrics", "http://" + at.Public.String() + "/api/v1/tokens"} {
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Fprintln(&seen, resp.Header, string(text))
	}
	cancel()
	<-done
	client.CloseIdleConnections()
	all := out.String() + errs.String() + seen.String() + runApp(t.Context(), env, "config", "print").stdout
	if strings.Contains(all, canary) || strings.Contains(all, "0123456789") {
		t.Errorf("the key is in:\n%s", all)
	}
}
