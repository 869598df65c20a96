package simulator

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
)

// serveMemory runs a market behind a listener in memory and a standard client.
func serveMemory(t *testing.T, m *Market) *http.Client {
	t.Helper()
	ln := NewMemory()
	done := make(chan error, 1)
	go func() { done <- m.Serve(ln) }()
	transport := &http.Transport{DialContext: ln.DialContext, DisableCompression: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := m.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport}
}

func fetch(t *testing.T, c *http.Client, method, uri string, header ...string) (code int, got http.Header, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://market"+uri, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Cmc_pro_api_key", "KEY")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, body
}

func TestServeInMemory(t *testing.T) {
	c := serveMemory(t, newTestMarket(t, Config{Seed: 1}))
	code, header, plain := fetch(t, c, "GET", listingsURI)
	if code != http.StatusOK || header.Get("Content-Type") != "application/json; charset=utf-8" || header.Get("Content-Encoding") != "" {
		t.Fatalf("got %d %v", code, header)
	}
	_, header, packed := fetch(t, c, "GET", listingsURI, "Accept-Encoding", "deflate, gzip")
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(zr)
	if err != nil || !bytes.Equal(unpacked, plain) || header.Get("Content-Encoding") != "gzip" || len(packed)*2 > len(plain) {
		t.Fatalf("%v: %d bytes packed into %d, header %v", err, len(plain), len(packed), header)
	}
	const missing = `{"statusCode":404,"error":"Not Found","message":"Not Found"}`
	if code, _, body := fetch(t, c, "GET", "/v9/nothing"); code != http.StatusNotFound || string(body) != missing {
		t.Fatalf("got %d %s", code, body)
	}
	if code, _, body := fetch(t, c, "DELETE", listingsURI); code != http.StatusNotFound || string(body) != missing {
		t.Fatalf("got %d %s", code, body)
	}
}

func TestConcurrentClients(t *testing.T) {
	var mu sync.Mutex
	now := noon
	m := newTestMarket(t, Config{Seed: 1, Dirt: 0.3, Now: func() market.Time {
		mu.Lock()
		defer mu.Unlock()
		now += 90
		return now
	}})
	c := serveMemory(t, m)
	var wg sync.WaitGroup
	for _, uri := range []string{
		listingsURI, "/v1/global-metrics/quotes/latest", "/v1/cryptocurrency/map?listing_status=inactive,active",
		"/v2/cryptocurrency/quotes/latest?symbol=ETH&skip_invalid=true", "/v1/key/info",
	} {
		wg.Go(func() {
			for range 10 {
				if code, _, body := fetch(t, c, "GET", uri); code != http.StatusOK {
					t.Errorf("%s: %d %.200s", uri, code, body)
				}
			}
		})
	}
	wg.Wait()
}

func TestPanicIsAnInternalError(t *testing.T) {
	m := newTestMarket(t, Config{Feed: &feed{polls: [2]*market.Batch{{Quotes: []market.Quote{{ID: 1}}}}}})
	m.cfg.Feed = nil // a fault of ours: the next look at the market panics
	refused(t, get(t, m, "KEY", listingsURI), 500, "500", faultInternal.message, "")
}

func TestMemoryListener(t *testing.T) {
	ln := NewMemory()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ln.DialContext(ctx, "tcp", "x:1"); !errors.Is(err, context.Canceled) {
		t.Fatalf("nobody accepts: %v", err)
	}
	if err := errors.Join(ln.Close(), ln.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := ln.DialContext(t.Context(), "tcp", "x:1"); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("closed: %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("closed: %v", err)
	}
	var _ fasthttp.RequestHandler = newTestMarket(t, Config{}).Handler()
}
