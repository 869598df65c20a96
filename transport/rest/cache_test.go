package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestConditional(t *testing.T) {
	w := serve(t, Config{}, sample())
	tag := w.get("/api/v1/tokens").header.Get("ETag")
	f := func(path, match string, status int) {
		t.Helper()
		r := w.get(path, "If-None-Match", match)
		if r.status != status {
			t.Errorf("%s with %q: got %d, want %d", path, match, r.status, status)
		}
		if status == 304 && (r.body != "" || r.header.Get("ETag") == "" || r.header.Get("Age") == "" || r.header.Get("Vary") == "") {
			t.Errorf("%s with %q: got %v %q", path, match, r.header, r.body)
		}
	}
	for _, path := range []string{"/api/v1/tokens", "/api/v1/market", "/api/v1/tokens?limit=3", "/api/v1/tokens/1", "/api/v1/movers", "/api/v1/schema"} {
		f(path, tag, 304) // before the body was ever encoded
		f(path, "*", 304)
		f(path, strings.TrimPrefix(tag, "W/"), 304)
		f(path, `"x", `+tag+` ,"y"`, 304)
		f(path, `W/"k3test-812-4"`, 200)
		f(path, `W/"k3test-813-5"`, 200)
		f(path, `W/"other-813-4"`, 200)
		f(path, tag[:len(tag)-1], 200)
		f(path, `""`, 200)
		f(path, tag, 304) // and after
	}
	f("/api/v1/tokens/99", tag, 404)
	f("/api/v1/tokens?limit=0", tag, 400)
	w.board.Store(boardOf(814, snap(1, "BTC")))
	f("/api/v1/tokens", tag, 200)
	f("/api/v1/tokens", `W/"k3test-814-4"`, 304)
	w.board.Store(nil)
	f("/api/v1/tokens", "*", 503)
}

func TestPastTags(t *testing.T) {
	w := serve(t, Config{}, sample())
	var durable atomic.Uint64
	past := pastFunc(func(_ context.Context, q market.HistoryQuery) (*market.HistoryPage, error) {
		return &market.HistoryPage{DurableSeq: durable.Load()}, nil
	})
	w.past.Store(&past)
	for i, path := range []string{"/api/v1/tokens/1/history", "/api/v1/tokens/1/velocity", "/api/v1/tokens/1?detail=full"} {
		tag := w.get(path).header.Get("ETag")
		if r := w.get(path, "If-None-Match", tag); r.status != 304 {
			t.Errorf("%s: got %d for its own tag %s", path, r.status, tag)
		}
		// More of the past became durable: the next encoding differs.
		durable.Add(uint64(i) + 1)
		w.board.Store(boardOf(814+uint64(i), snap(1, "BTC")))
		if r := w.get(path, "If-None-Match", tag); r.status != 200 || r.header.Get("ETag") == tag {
			t.Errorf("%s: got %d %s after %s", path, r.status, r.header.Get("ETag"), tag)
		}
	}
}

func TestAgeIsLive(t *testing.T) {
	w := serve(t, Config{}, sample())
	f := func(later market.Millis, age string) {
		t.Helper()
		w.now.Store(int64(noon.Add(later)))
		r := w.get("/api/v1/tokens?fields=id")
		if r.header.Get("Age") != age || !strings.Contains(r.body, `"age_ms":840`) {
			t.Errorf("after %d ms: got %s %s", later, r.header.Get("Age"), r.body)
		}
	}
	f(0, "0")
	f(159, "0")
	f(160, "1")
	f(59_160, "60")
	f(-5000, "0") // a clock that goes back
}

func TestCompression(t *testing.T) {
	w := serve(t, Config{}, big(100))
	plain := w.get("/api/v1/tokens")
	decoders := map[string]func(io.Reader) ([]byte, error){
		"gzip": func(r io.Reader) ([]byte, error) {
			g, err := gzip.NewReader(r)
			if err != nil {
				return nil, err
			}
			return io.ReadAll(g)
		},
		"br": func(r io.Reader) ([]byte, error) { return io.ReadAll(brotli.NewReader(r)) },
		"zstd": func(r io.Reader) ([]byte, error) {
			d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
			if err != nil {
				return nil, err
			}
			defer d.Close()
			return io.ReadAll(d)
		},
	}
	for name, decode := range decoders {
		r := w.get("/api/v1/tokens", "Accept-Encoding", name)
		if r.header.Get("Content-Encoding") != name || r.header.Get("ETag") != plain.header.Get("ETag") || len(r.body)*3 > len(plain.body) {
			t.Errorf("%s: got %d bytes of %d, %v", name, len(r.body), len(plain.body), r.header)
		}
		if body, err := decode(strings.NewReader(r.body)); err != nil || string(body) != plain.body {
			t.Errorf("%s: %v, %d bytes", name, err, len(body))
		}
		if r := w.get("/api/v1/market?", "Accept-Encoding", name); r.header.Get("Content-Encoding") != "" && len(r.body) < 300 {
			t.Errorf("%s: a small body was packed", name)
		}
	}
	if r := w.get("/api/v1/tokens?limit=1&fields=id", "Accept-Encoding", "gzip"); r.header.Get("Content-Encoding") != "" {
		t.Errorf("a body of %d bytes was packed", len(r.body))
	}
	if r := w.get("/api/v1/tokens", "Accept-Encoding", "identity;q=0"); r.status != 406 {
		t.Errorf("no coding left: got %d", r.status)
	}
	if r := w.get("/api/v1/tokens", "Accept", "image/png"); r.status != 406 || !strings.Contains(r.body, `"code":"not_acceptable"`) {
		t.Errorf("image: got %d %s", r.status, r.body)
	}
}

func TestPickCoding(t *testing.T) {
	f := func(header, want string) {
		t.Helper()
		got := "none"
		if c := codingOf([]byte(header)); c != noCoding {
			got = codingNames[c]
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", header, got, want)
		}
		if c := pickCoding(header); c != noCoding && codingNames[c] != got {
			t.Errorf("%q: the short cut differs", header)
		}
	}
	f("", "identity")
	f("gzip", "gzip")
	f("gzip, deflate, br, zstd", "br")
	f("gzip, deflate, br", "br")
	f("gzip, deflate", "gzip")
	f("zstd", "zstd")
	f("br;q=0.5, gzip;q=0.8", "gzip")
	f("br;q=0, gzip;q=0, *", "zstd")
	f("*", "br")
	f("*;q=0", "none")
	f("*;q=0, identity", "identity")
	f("identity;q=0", "none")
	f("identity;q=0, gzip", "gzip")
	f("identity;q=1, gzip;q=0.1", "identity")
	f("deflate", "identity")
	f("GZIP", "gzip")
	f("x-gzip", "gzip")
	f("gzip;q=2", "identity")
	f("gzip;q=0.0001", "identity")
	f("gzip;q=abc", "identity")
	f("gzip;q=0.001", "gzip")
	f(" gzip ; q=1.000 ", "gzip")
	f(",,;;q=1,", "identity")
	f(strings.Repeat("x,", 600)+"gzip", "identity") // beyond what is read
}

func TestPickMedia(t *testing.T) {
	f := func(header string, offered, want media) {
		t.Helper()
		if got := pickMedia(header, offered); got != want {
			t.Errorf("%q: got %d, want %d", header, got, want)
		}
	}
	f("", noMedia, mediaJSON)
	f("*/*", noMedia, mediaJSON)
	f("text/csv", noMedia, mediaCSV)
	f("text/csv", 1, noMedia)
	f("text/*", noMedia, mediaCSV)
	f("application/x-ndjson", noMedia, mediaNDJSON)
	f("application/ndjson", noMedia, mediaNDJSON)
	f("application/*", noMedia, mediaJSON)
	f("text/csv, application/json", noMedia, mediaJSON)
	f("text/csv, application/json;q=0.9", noMedia, mediaCSV)
	f("text/html, */*;q=0.1", noMedia, mediaJSON)
	f("application/json;q=0, */*", noMedia, mediaCSV)
	f("text/html,application/xhtml+xml", noMedia, noMedia)
	f("application/json; charset=utf-8", 1, mediaJSON)
	f("garbage", noMedia, noMedia)
}

func fill(size int) []byte { return bytes.Repeat([]byte{'x'}, size) }

func TestCacheBounds(t *testing.T) {
	const limit = 100_000
	c := newCache(limit)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		switch random.IntN(4) {
		case 0, 1:
			e := &entry{key: strconv.Itoa(random.IntN(300)), seq: uint64(i), raw: fill(random.IntN(5000))}
			c.put(e)
			c.alias([]byte("/t?"+e.key+strings.Repeat("y", random.IntN(700))), e)
		case 2:
			if e := c.byKey(strconv.Itoa(random.IntN(300))); e != nil {
				if _, _, n := e.body(gzipCoding); n > 0 {
					c.grew(e, n)
				}
			}
		case 3:
			c.byTarget([]byte("/t?" + strconv.Itoa(random.IntN(300))))
		}
		c.verify(t, limit)
	}
	if _, n := c.usage(); n < 10 {
		t.Errorf("only %d entries left", n)
	}
	c.put(&entry{key: "huge", raw: fill(limit/4 + 1)})
	if c.byKey("huge") != nil {
		t.Error("an entry above a quarter of the cache was kept")
	}
}

// verify recounts everything that the cache holds.
func (c *cache) verify(t *testing.T, limit int) {
	t.Helper()
	size, n, aliases := 0, 0, 0
	for e := c.root.next; e != &c.root; e = e.next {
		want := e.cost()
		for _, a := range e.aliases {
			want += len(a) + aliasOverhead
			if c.aliases[a] != e {
				t.Fatalf("alias %q is astray", a)
			}
		}
		if e.size != want || c.entries[e.key] != e || len(e.aliases) > maxAliases {
			t.Fatalf("entry %q: size %d, want %d, %d aliases", e.key, e.size, want, len(e.aliases))
		}
		size, n, aliases = size+e.size, n+1, aliases+len(e.aliases)
	}
	if size != c.size || size > limit || n != len(c.entries) || aliases != len(c.aliases) {
		t.Fatalf("size %d of %d counted as %d, %d entries of %d, %d aliases of %d", size, limit, c.size, n, len(c.entries), aliases, len(c.aliases))
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newCache(50_000)
	c.put(&entry{key: "hot", raw: fill(1000)})
	for i := range 1000 {
		c.put(&entry{key: fmt.Sprint("cold", i), raw: fill(1000)})
		if i%10 == 0 && c.byKey("hot") == nil {
			t.Fatalf("the used entry was dropped after %d others", i)
		}
	}
	if c.byKey("cold0") != nil {
		t.Error("an unused entry outlived a thousand newer ones")
	}
}

func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(1 << 20)
		var builds atomic.Int32
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				e, f := c.once(flightKey{"k", 1}, func() (*entry, *fault) {
					builds.Add(1)
					<-time.After(time.Second)
					return &entry{key: "k"}, nil
				})
				if e == nil || f != nil {
					t.Errorf("got %v %v", e, f)
				}
			})
		}
		wg.Wait()
		if n := builds.Load(); n != 1 {
			t.Errorf("%d builds", n)
		}
	})
}

func TestFlightSurvivesPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(1 << 20)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_, _ = c.once(flightKey{"k", 1}, func() (*entry, *fault) {
				<-time.After(time.Second)
				panic("poisoned")
			})
		})
		synctest.Wait()
		if _, f := c.once(flightKey{"k", 1}, nil); f != &faultInternal {
			t.Errorf("a waiting request got %v", f)
		}
		wg.Wait()
		if e, f := c.once(flightKey{"k", 1}, func() (*entry, *fault) { return &entry{}, nil }); e == nil || f != nil {
			t.Errorf("afterwards: %v %v", e, f)
		}
	})
}

func TestEncodedOncePerTickAndSecond(t *testing.T) {
	w := serve(t, Config{}, sample())
	a, b := w.api, w.board.Load()
	builds := 0
	p := &plan{key: "k", build: func(*moment, *output) *fault { builds++; return nil }}
	f := func(b *market.Board, wall time.Time, want int) {
		t.Helper()
		if _, fault := a.entry(p, b, noon, wall); fault != nil {
			t.Fatal(fault)
		}
		if builds != want {
			t.Errorf("%d builds, want %d", builds, want)
		}
	}
	start := time.Unix(1000, 0)
	f(b, start, 1)
	f(b, start.Add(999*time.Millisecond), 1)
	f(b, start.Add(time.Second), 2)
	f(b, start.Add(1999*time.Millisecond), 2)
	next := *b
	next.Seq++
	f(&next, start.Add(1999*time.Millisecond), 3)
	f(&next, start.Add(2*time.Second), 3)
	next.Epoch = "other"
	f(&next, start.Add(2*time.Second), 4)
}
