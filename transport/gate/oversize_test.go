package gate

import (
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// The route is told of a body that the gate does not read, where its length is told.
func TestOversizeIsTold(t *testing.T) {
	told := make(chan string, 8)
	_, addr := start(t, Config{MaxBody: 1000}, Route{
		Method: "POST", Path: "/t/{id}",
		Serve: func(ctx *fasthttp.RequestCtx) { TooLarge(ctx) },
		Oversize: func(ctx *fasthttp.RequestCtx) {
			told <- string(Param(ctx, "id")) + " " + string(ctx.QueryArgs().Peek("sid"))
			ctx.Response.Header.Set("X-Told", "yes")
			if string(ctx.QueryArgs().Peek("sid")) == "panic" {
				panic("as told")
			}
		},
	}, Route{Method: "POST", Path: "/plain", Serve: func(*fasthttp.RequestCtx) {}})
	const host = "Host: x.test\r\n"
	f := func(raw string, status int, want string) {
		t.Helper()
		resp, body, closed := wire(t, addr, raw)
		if resp.StatusCode != status || !closed {
			t.Errorf("%.60q: %d %s, closed %v", raw, resp.StatusCode, body, closed)
		}
		got := ""
		select {
		case got = <-told:
		default:
		}
		if got != want || (resp.Header.Get("X-Told") != "") != (want != "") {
			t.Errorf("%.60q: told %q, want %q", raw, got, want)
		}
	}
	big := strings.Repeat("x", 1001)
	f("POST /t/1?sid=a HTTP/1.1\r\n"+host+"Content-Length: 1001\r\n\r\n"+big, 413, "1 a")
	f("POST /t/2?sid=b HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n3e9\r\n"+big+"\r\n0\r\n\r\n", 413, "") // the head is gone by then
	f("POST /t/3?sid=c HTTP/1.1\r\n"+host+"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n", 413, "3 c")
	f("POST /t/4?sid=panic HTTP/1.1\r\n"+host+"Content-Length: 1001\r\n\r\n"+big, 500, "4 panic")
	f("POST /plain HTTP/1.1\r\n"+host+"Content-Length: 1001\r\n\r\n"+big, 413, "")
	f("POST /nothing HTTP/1.1\r\n"+host+"Content-Length: 1001\r\n\r\n"+big, 413, "")
	f("POST /t/5?sid=e HTTP/1.1\r\n"+host+"Content-Length: 1\r\n\r\nx", 413, "") // the route's own limit
}

func TestOptionsRoute(t *testing.T) {
	_, addr := start(t, Config{},
		Route{Method: "GET", Path: "/a", Serve: func(*fasthttp.RequestCtx) {}},
		Route{Method: "OPTIONS", Path: "/a", Serve: func(ctx *fasthttp.RequestCtx) { ctx.SetStatusCode(fasthttp.StatusTeapot) }},
		Route{Method: "GET", Path: "/b", Serve: func(*fasthttp.RequestCtx) {}})
	f := func(path string, want int) {
		t.Helper()
		if resp, _, _ := wire(t, addr, "OPTIONS "+path+" HTTP/1.1\r\nHost: x.test\r\n\r\n"); resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	f("/a", 418)
	f("/b", 204)
}
