//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/velocimeter/velocimeter/bench/validator/ledger"
	"github.com/velocimeter/velocimeter/engine/market"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The whole thing, for some seconds: a sound server is found sound.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the program again and again")
	}
	binary := filepath.Join(t.TempDir(), "velocimeter")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/velocimeter")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the server: %v\n%s", err, out)
	}
	c := &settings{binary: binary, seed: rand.Uint64N(1 << 32), tokens: 20, rss: 512, length: 6 * time.Second, faults: "kill,boot,term,second"}
	var out bytes.Buffer
	if code := validate(t.Context(), c, &out); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Log(out.String())
	for _, v := range []string{"I1", "I2", "I3", "I4", "I6", "I7", "I8", "I9", "I10"} {
		if !strings.Contains(out.String(), "  "+v+" ") || strings.Contains(out.String(), "not seen") {
			t.Errorf("%s was not checked", v)
		}
	}
	if want := fmt.Sprintf("-seed %d", c.seed); !strings.Contains(out.String(), want) {
		t.Errorf("the report does not say %q", want)
	}
}

func TestExitCodes(t *testing.T) {
	f := func(want int, say string, c settings) {
		t.Helper()
		var out bytes.Buffer
		if code := validate(t.Context(), &c, &out); code != want || !strings.Contains(out.String(), say) {
			t.Errorf("exit code %d, want %d with %q:\n%s", code, want, say, out.String())
		}
	}
	dies := filepath.Join(t.TempDir(), "none")
	f(2, "cannot start", settings{binary: dies, seed: 1, tokens: 5, rss: 100, length: time.Second, faults: "kill"})
	// A program that ends at once is no server: it exits and is never ready.
	f(1, "the process ended by itself", settings{binary: "/bin/false", seed: 1, tokens: 5, rss: 100, length: time.Second, faults: "kill"})
}

func TestProviderKnowsItsValues(t *testing.T) {
	p, err := startProvider(t.Context(), 50, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer p.server.Close()
	p.next(misdeed{}, misdeed{name: "zeros", rows: some(0.5, "price", "0")})
	for range 3 {
		resp, err := http.Get(p.url)
		if err != nil {
			t.Fatal(err)
		}
		var a struct {
			Data []struct {
				Quote map[string]map[string]any
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || len(a.Data) != 50 {
			t.Fatalf("%d rows, %v", len(a.Data), err)
		}
		_ = resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	for _, f := range []market.Field{market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h} {
		for id := market.ID(1); id <= 50; id++ {
			for poll := 1; poll <= 4; poll++ {
				got, ok := p.Poll(id, f, p.value(id, f, poll))
				if want := poll == 1 || poll == 3; ok != want || want && got != poll {
					t.Fatalf("token %d, %v of answer %d: %d, %v", id, f, poll, got, ok)
				}
				d := p.value(id, f, poll)
				d.Mant++
				if _, ok := p.Poll(id, f, market.NewDecimal(d.Mant, d.Exp)); ok {
					t.Fatalf("a value beside that of token %d is known", id)
				}
			}
			a, b := p.value(id, f, 1).Float(), p.value(id, f, 2).Float()
			if a <= 0 || a == b || a/b > 1.05 || b/a > 1.05 {
				t.Errorf("token %d: %v goes from %g to %g", id, f, a, b)
			}
		}
	}
}

// A server that shows in REST what the stream did not is caught.
func TestReaderSeesDifferences(t *testing.T) {
	const body = `{"meta":{"epoch":"e","seq":5},"data":[{"id":3,"price":%s,"market_cap":10,"volume_24h":5,"velocity":0.5,"velocity_reason":null,"velocity_method":"reported_cap",` +
		`"flags":["low_liquidity"],"freshness":"fresh","provenance":{"source_time":"2026-01-02T03:04:05.006Z"},"vwap":{"1h":null}}]}`
	f := func(price string, sound bool) {
		t.Helper()
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintf(w, body, price) }))
		defer h.Close()
		book := ledger.New(nil)
		s := &server{book: book, public: strings.TrimPrefix(h.URL, "http://"), http: h.Client()}
		var row ledger.Row
		for f, d := range map[market.Field]market.Decimal{
			market.FieldPrice: market.NewDecimal(20, -1), market.FieldVelocityMethod: market.FromInt(1), market.FieldVelocityReason: market.FromInt(0), market.FieldVWAP1h: market.Null,
			market.FieldFlags: market.FromInt(16), market.FieldFreshness: market.FromInt(0), market.FieldSourceTime: market.FromInt(1767323045006),
		} {
			row.Set(f, d)
		}
		book.Shown("the stream", 5, 3, &row)
		r := &reader{book: book, server: s}
		if ids, err := r.tokensNow(t.Context()); err != nil || !slices.Equal(ids, []market.ID{3}) {
			t.Fatal(ids, err)
		}
		if book.Sound() != sound {
			t.Errorf("price %s: %+v", price, book.Verdicts())
		}
	}
	f("2.0", true)
	f("2.1", false)
	f("null", false)
}

// What an instant was once is held against what it is later.
func TestInstantsStay(t *testing.T) {
	answers := []string{`{"data":[1]}`, `{"data":[1]}`, `{"data":[2]}`}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(answers[0]))
		answers = answers[1:]
	}))
	defer h.Close()
	book := ledger.New(nil)
	r := &reader{book: book, past: map[string][]byte{}, server: &server{book: book, public: strings.TrimPrefix(h.URL, "http://"), http: h.Client()}}
	for i, sound := range []bool{true, true, false} {
		r.instant(t.Context(), "/then")
		if book.Sound() != sound {
			t.Errorf("answer %d: sound %v", i+1, book.Sound())
		}
	}
}

func TestReadiness(t *testing.T) {
	f := func(ready, tokens int, body string, sound bool) {
		t.Helper()
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" {
				w.WriteHeader(ready)
				_, _ = fmt.Fprintf(w, `{"status":%q}`, map[int]string{200: "ready", 503: "not_ready"}[ready])
				return
			}
			w.WriteHeader(tokens)
			_, _ = w.Write([]byte(body))
		}))
		defer h.Close()
		book := ledger.New(nil)
		r := &run{book: book, server: &server{book: book, public: strings.TrimPrefix(h.URL, "http://"), http: h.Client()}}
		r.server.phase.Store(up)
		r.readiness(t.Context())
		if book.Sound() != sound {
			t.Errorf("%d, %d %s: %+v", ready, tokens, body, book.Verdicts()[ledger.Ready-1])
		}
	}
	f(200, 200, `{"data":[{}]}`, true)
	f(200, 503, `{}`, false)
	f(200, 200, `{"data":[]}`, false)
	f(503, 503, `{}`, true)
	f(503, 200, `{"data":[{}]}`, false)
}

// A cached answer may know less than what was told a moment ago, not less than
// what was told long ago.
func TestPromisesSettle(t *testing.T) {
	p := &promises{list: []promise{{time.Now().Add(-time.Minute), 5}, {time.Now().Add(-cached - time.Second), 7}, {time.Now(), 9}}}
	if got := p.told(10); got != 7 {
		t.Errorf("settled %d, want 7", got)
	}
	if got := new(promises).told(3); got != 0 {
		t.Errorf("settled %d at once", got)
	}
}

func TestPauseEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pause(ctx, time.Hour)
}
