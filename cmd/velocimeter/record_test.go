package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/upstream/recording"
)

// leapClock is a clock that moves only where somebody waits: straight to what
// was waited for.
type leapClock struct {
	mu  sync.Mutex
	now market.Time
}

func (c *leapClock) Now() market.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *leapClock) AfterFunc(at market.Time, f func()) func() {
	c.mu.Lock()
	c.now = max(c.now, at)
	c.mu.Unlock()
	f()
	return func() {}
}

func recordConfig(t *testing.T, flags map[string]string) *config.Loaded {
	t.Helper()
	c, err := config.Load(config.Sources{Flags: flags, Command: config.RecordFile, Env: lookup(nil)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fetched yields what a feed fetched, one batch after another.
type fetched struct{ batches []*market.Batch }

func (f *fetched) Next() (*market.Batch, error) {
	if len(f.batches) == 0 {
		return nil, io.EOF
	}
	b := f.batches[0]
	f.batches = f.batches[1:]
	return b, nil
}

// A recording of the embedded market gives the rows that the market itself
// gives, to the byte: dirt, unchanged polls and all.
func TestRecordedRowsAreTheMarketsOwn(t *testing.T) {
	polls := 300
	if raceDetector {
		polls = 60
	}
	c := recordConfig(t, map[string]string{"market-tokens": "60", "market-seed": "7", "market-tick": "20s", "dirt": "0.05"})
	log := slog.New(slog.DiscardHandler)
	const start = market.Time(1_790_000_000_000)
	open := func(listen tap) *feed {
		f, err := openMarket(c, log, &leapClock{now: start}, listen)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, name := range []string{"a.jsonl", "a.jsonl.gz"} {
		path := filepath.Join(t.TempDir(), name)
		r := &recorder{log: log, limits: recordLimits{polls: polls}}
		r.feed = open(r.take)
		var err error
		if r.file, err = recording.Create(path, 0); err != nil {
			t.Fatal(err)
		}
		var direct fetched
		other := open(nil)
		if why, err := r.run(t.Context()); err != nil || why != "--polls" || r.done != polls {
			t.Fatalf("%q, %v after %d polls", why, err, r.done)
		}
		_ = r.file.Close()
		schedule := other.schedule()
		for range polls {
			due, _ := schedule.Next(other.clock.Now())
			other.clock.AfterFunc(due, func() {})
			schedule.Started(due)
			b, err := other.fetcher.Fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			schedule.Succeeded(due)
			direct.batches = append(direct.batches, b)
		}
		r.feed.close()
		other.close()
		var want bytes.Buffer
		if _, err := writeRows(t.Context(), &direct, qualityOf(c), &want); err != nil {
			t.Fatal(err)
		}
		is := runApp(t.Context(), nil, "replay", path)
		if is.code != 0 || is.stdout != want.String() || want.Len() < polls*10_000 {
			t.Errorf("%s: exit %d, %d bytes of rows, the market itself gives %d: %s", name, is.code, len(is.stdout), want.Len(), is.stderr)
		}
	}
}

func TestRecordCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl.gz")
	f := func(code int, what string, args ...string) {
		t.Helper()
		args = append([]string{"record", "--market-tick", "20ms", "--market-tokens", "5"}, args...)
		if o := runApp(t.Context(), nil, args...); o.code != code || !strings.Contains(o.stderr, what) {
			t.Errorf("%q: exit %d, %s; want %d, %s", args, o.code, o.stderr, code, what)
		}
	}
	other := filepath.Join(t.TempDir(), "other.jsonl")
	if err := os.WriteFile(other, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f(exitOK, "3 polls recorded, 0 failed", "--polls", "3", path)
	f(exitUsage, "exists; --append goes on in it", "--polls", "3", path)
	f(exitOK, "has 5 polls", "--polls", "2", "--append", path)
	f(exitOK, "ended by --for", "--for", "100ms", path+"2.jsonl")
	f(exitOK, "ended by the size of the file", "--max-bytes", "20000", path+"3.jsonl")
	f(exitUsage, "no poll fits", "--max-bytes", "100", path+"4.jsonl")
	f(exitData, "unexpected", "--polls", "1", "--append", other)
	f(exitUsage, "needs one file")
	f(exitUsage, "needs one file", path, path)
	f(exitUsage, "not a regular file", t.TempDir())
	f(exitIO, "cannot create", filepath.Join(path, "below.jsonl"))
	f(exitUsage, "--for", "--for", "tomorrow", path)
	f(exitUsage, "--for", "--for", "-1s", path)
	f(exitUsage, "negative", "--polls", "-1", path)
	f(exitUsage, "invalid argument", "--max-bytes", "1GB", path)
	f(exitConfig, "coinmarketcap.interval", "--interval", "soon", path)
	if _, err := os.Stat(path + "4.jsonl"); !os.IsNotExist(err) {
		t.Errorf("an empty recording was left: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if o := runApp(ctx, nil, "record", path+"5.jsonl"); o.code != exitOK || !strings.Contains(o.stderr, "0 polls recorded") {
		t.Errorf("a stop: %+v", o)
	}
}

// The provider's answers are recorded as they are but for keys; a key that is
// refused ends the recording.
func TestRecordProvider(t *testing.T) {
	const key = "0123456789-secret-abcdef"
	answer := `{"status":{"timestamp":"2026-11-20T18:00:00Z","error_code":0,"notice":"hello ` + key + `"},"data":[` +
		`{"id":7,"symbol":"A","name":"A","slug":"a","last_updated":"2026-11-20T18:00:00Z","quote":{"USD":{"price":1.2345678901234567890123}}}]}`
	code := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-CMC_PRO_API_KEY") != key {
			t.Error("no key")
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	env := map[string]string{"CMC_API_KEY": key, "VELOCIMETER_COINMARKETCAP_BASE_URL": srv.URL}
	path := filepath.Join(t.TempDir(), "a.jsonl")
	o := runApp(t.Context(), env, "record", path, "--polls", "1")
	text, err := os.ReadFile(path)
	if err != nil || o.code != exitOK || strings.Contains(string(text)+o.stdout+o.stderr, key) || !strings.Contains(string(text), "1.2345678901234567890123") {
		t.Errorf("exit %d, %v: %s\n%s", o.code, err, o.stderr, text)
	}
	if slices.Contains(strings.Split(o.stderr, "\n"), "simulated") {
		t.Error(o.stderr)
	}
	code, answer = http.StatusUnauthorized, `{"status":{"error_code":1001,"error_message":"This API Key is invalid."}}`
	if o := runApp(t.Context(), env, "record", path+"2", "--polls", "1"); o.code != exitConfig || !strings.Contains(o.stderr, "invalid") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}
