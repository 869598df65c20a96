//go:build !race

package rest

import (
	"net"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
)

// TestCachedAnswerAllocatesNothing holds the hot path, from the handler's call
// to a response that is ready to be written, to zero allocations.
func TestCachedAnswerAllocatesNothing(t *testing.T) {
	w := serve(t, Config{}, big(100))
	handler := w.api.handler(w.api.parseTokens)
	f := func(name string, want float64, headers ...string) {
		t.Helper()
		var req fasthttp.Request
		req.SetRequestURI("/api/v1/tokens?limit=100")
		for i := 0; i+1 < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, &net.TCPAddr{}, nil)
		ctx.Request.Header.SetRequestURI("/api/v1/tokens?limit=100")
		handler(&ctx) // the first request encodes
		got := testing.AllocsPerRun(200, func() {
			ctx.Response.Reset()
			handler(&ctx)
		})
		if got != want {
			t.Errorf("%s: %v allocations, want %v", name, got, want)
		}
	}
	f("plain", 0)
	f("gzip", 0, "Accept-Encoding", "gzip")
	f("browser", 0, "Accept-Encoding", "gzip, deflate, br, zstd", "Accept", "*/*")
	f("not modified", 0, "If-None-Match", `W/"k3test-1-4"`)
}

func TestAppendTokenAllocatesNothing(t *testing.T) {
	s := snap(1, "BTC", "price=97123.45")
	dst := make([]byte, 0, 8<<10)
	if n := testing.AllocsPerRun(100, func() { dst = appendToken(dst[:0], s, selAll) }); n != 0 {
		t.Errorf("%v allocations a token", n)
	}
	if len(dst) == 0 || market.NumFields == 0 {
		t.Error("nothing was encoded")
	}
}
