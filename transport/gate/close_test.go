package gate

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// RFC 9112, section 9.6: close is one of a list of tokens, in any case, and the
// list may be in several fields.
func TestConnectionClose(t *testing.T) {
	_, addr := start(t, Config{}, echoRoutes()...)
	ask := func(line, fields string, status int, want bool) {
		t.Helper()
		resp, body, closed := wire(t, addr, line+"\r\nHost: h\r\n"+strings.ReplaceAll(fields, "|", "\r\n")+"\r\n\r\n")
		if resp.StatusCode != status || closed != want || resp.Close != want {
			t.Errorf("%s, %s: got %d, closed %v, said so %v; want %d, %v: %s", line, fields, resp.StatusCode, closed, resp.Close, status, want, body)
		}
	}
	f := func(fields string, want bool) {
		t.Helper()
		ask("GET /a HTTP/1.1", fields, 200, want)
		ask("HEAD /a HTTP/1.1", fields, 200, want)
		ask("OPTIONS /a HTTP/1.1", fields, 204, want)
		ask("GET /none HTTP/1.1", fields, 404, want)
		ask("GET /a?key=1 HTTP/1.1", fields, 400, want)
	}
	f("Connection: close", true)
	f("Connection: Close", true)
	f("CONNECTION:CLOSE", true)
	f("Connection: close, foo", true)
	f("Connection: TE,close|TE: trailers", true)
	f("Connection: foo ,\tclose\t, bar", true)
	f("Connection: ,,close,", true)
	f("Connection: close|Connection: foo", true)
	f("Connection: foo|Connection: close", true)
	f("Connection: keep-alive, close", true)
	f("Connection: close|Connection: keep-alive", true)
	f("Connection: keep-alive", false)
	f("Connection: closed", false)
	f("Connection: clos, e", false)
	f("Connection: \"close\"", false)
	f("Connection: ", false)
	f("X-Connection: close", false)
	f("Proxy-Connection: close", false)
	ask("POST /a HTTP/1.1", "Connection: TE, close|Content-Length: 0", 200, true)
	ask("GET /a HTTP/1.0", "Connection: keep-alive", 200, false)
	ask("GET /a HTTP/1.0", "Connection: keep-alive, Close", 200, true)
	ask("GET /a HTTP/1.0", "Connection: foo", 200, true)
}

// What one request asks for is forgotten with it, and the answers to those before
// it on the connection come all the same.
func TestConnectionCloseIsOfOneRequest(t *testing.T) {
	_, addr := start(t, Config{}, echoRoutes()...)
	const plain, last = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1\r\nHost: h\r\nConnection: TE, Close\r\n\r\n"
	for range 2 { // the second time with states that were used
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, plain+plain+last); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		for i, want := range []bool{false, false, true} {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); resp.Close != want || string(body) != "a" || err != nil {
				t.Errorf("answer %d: close %v, %q, %v", i, resp.Close, body, err)
			}
			_ = resp.Body.Close()
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("the connection ends with %v", err)
		}
		_ = c.Close()
	}
}

// A connection that is taken over is no longer the gate's to close.
func TestConnectionCloseOfUpgrades(t *testing.T) {
	_, addr := start(t, Config{}, Route{Method: "GET", Path: "/up", Serve: func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(fasthttp.StatusSwitchingProtocols)
		ctx.Hijack(func(c net.Conn) {
			_, _ = io.WriteString(c, "mine")
			_ = c.Close()
		})
	}})
	for _, fields := range []string{"Upgrade, close", "close, Upgrade", "close\r\nConnection: Upgrade"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, "GET /up HTTP/1.1\r\nHost: h\r\nConnection: "+fields+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(c)
		if text := string(all); err != nil || !strings.HasPrefix(text, "HTTP/1.1 101 ") || strings.Contains(text, "close") || !strings.HasSuffix(text, "\r\n\r\nmine") {
			t.Errorf("%q: got %q, %v", fields, text, err)
		}
		_ = c.Close()
	}
}

func TestClosesAllocateNothing(t *testing.T) {
	raw := []byte("Host: h\r\nConnection: keep-alive, TE, Close\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() {
		if seen, v := scanFields(raw, 64); v != nil || !seen.close {
			t.Error("close was not seen")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
