package engineio

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

func TestHandshake(t *testing.T) {
	r := newRig(t, Config{})
	status, body, h := r.do("GET", poll+"&t=abc&b64=1&x=", "", "Origin", "http://"+r.addr, "X-API-Key", "k")
	var open map[string]any
	if err := json.Unmarshal([]byte(strings.TrimPrefix(body, "0")), &open); err != nil || status != 200 {
		t.Fatalf("got %d %s", status, body)
	}
	sid, _ := open["sid"].(string)
	want := `0{"sid":"` + sid + `","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}`
	if raw, err := base64.RawURLEncoding.DecodeString(sid); body != want || err != nil || len(raw) != 16 {
		t.Errorf("got %s, want %s", body, want)
	}
	if got := h.Get("Content-Type"); got != pollType {
		t.Errorf("content type %s", got)
	}
	if got := h.Get("Cache-Control"); got != "no-store" {
		t.Errorf("cache control %s", got)
	}
	o := r.newest().opening
	if o.Transport != byPolling || o.Addr != netip.MustParseAddr("127.0.0.1") || o.APIKey != "k" || o.Origin != "http://"+r.addr {
		t.Errorf("opening %+v", o)
	}
	other, _ := r.begin()
	if other == sid {
		t.Error("two sessions have one sid")
	}
	if got := r.newest().session.RemoteAddr(); got != o.Addr {
		t.Errorf("remote address %s", got)
	}
}

func TestFaults(t *testing.T) {
	r := newRig(t, Config{})
	sid, _ := r.begin()
	f := func(code int, method, query, body string) {
		t.Helper()
		want := fmt.Sprintf(`{"code":%d,"message":"%s"}`, code, faults[code])
		status, got, h := r.do(method, query, body)
		if status != 400 || got != want || h.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: got %d %s %s, want %s", method, query, status, got, h.Get("Content-Type"), want)
		}
	}
	f(0, "GET", "", "")
	f(0, "GET", "EIO=4", "")
	f(0, "GET", "EIO=4&transport=", "")
	f(0, "GET", "EIO=4&transport=abc", "")
	f(0, "GET", "EIO=4&transport=Polling", "")
	f(0, "GET", "EIO=4&transport=webtransport", "")
	f(0, "GET", "EIO=4&transport=__proto__", "")
	f(1, "GET", poll+"&sid=abc", "")
	f(1, "GET", poll+"&sid="+sid[:21], "")
	f(1, "GET", poll+"&sid="+sid+"A", "")
	f(1, "GET", poll+"&sid=__proto__", "")
	f(1, "POST", poll+"&sid="+strings.Repeat("x", 1000), "4x")
	f(1, "GET", socketQuery+"&sid=abc", "")
	f(2, "POST", poll, "4x")
	f(2, "PUT", poll, "4x")
	f(2, "DELETE", poll, "")
	f(2, "PATCH", poll, "4x")
	f(2, "POST", "transport=polling", "4x")
	f(3, "PUT", poll+"&sid="+sid, "4x")
	f(3, "GET", socketQuery, "")
	f(3, "GET", socketQuery+"&sid="+sid, "")
	f(3, "GET", poll+"&j=0", "")
	f(3, "GET", poll+"&transport=websocket", "")
	f(3, "GET", poll+"&transport=polling", "")
	f(3, "GET", poll+"&sid="+sid+"&sid="+sid, "")
	f(5, "GET", "transport=polling", "")
	f(5, "GET", "EIO=3&transport=polling", "")
	f(5, "GET", "EIO=5&transport=polling", "")
	f(5, "GET", "EIO=abc&transport=polling", "")
	f(5, "GET", "EIO=4&EIO=3&transport=polling", "")
	f(5, "GET", "EIO=4&EIO=4&transport=polling", "")
	f(5, "GET", "EIO=04&transport=polling", "")
	f(5, "GET", "%45IO=3&transport=polling", "")
	f(5, "GET", "EIO=3&transport=polling&sid="+sid, "")
	f(5, "GET", "EIO=3&transport=websocket", "")

	if status, _, _ := r.do("HEAD", poll, ""); status != 405 {
		t.Errorf("HEAD: %d", status)
	}
	r.post(sid, "4x", 200, "ok") // nothing of this was its end
}

func TestOrigins(t *testing.T) {
	r := newRig(t, Config{Origins: []string{"https://good.example"}})
	f := func(method, origin string, status int, allowed bool) {
		t.Helper()
		gotStatus, body, h := r.do(method, poll, "", "Origin", origin)
		if gotStatus != status {
			t.Errorf("%s %s: got %d %s, want %d", method, origin, gotStatus, body, status)
		}
		if status == 403 && method != "HEAD" && body != `{"code":4,"message":"Forbidden"}` {
			t.Errorf("%s: got %s", origin, body)
		}
		want, credentials := "", ""
		if allowed {
			want, credentials = origin, "true"
		}
		if got := h.Get("Access-Control-Allow-Origin"); got != want || h.Get("Access-Control-Allow-Credentials") != credentials {
			t.Errorf("%s: allowed %q", origin, got)
		}
		if !slices.Contains(h.Values("Vary"), "Origin") {
			t.Errorf("%s: vary %s", origin, h.Values("Vary"))
		}
	}
	f("GET", "https://good.example", 200, true)
	f("GET", "http://"+r.addr, 200, true)
	f("POST", "https://good.example", 400, true)
	f("GET", "https://good.example.evil", 403, false)
	f("GET", "https://good.example:8443", 403, false)
	f("GET", "http://good.example", 403, false)
	f("GET", "null", 403, false)
	f("GET", "*", 403, false)
	f("OPTIONS", "https://good.example", 204, true)
	f("OPTIONS", "https://evil.example", 403, false)
	_, _, h := r.do("OPTIONS", poll, "", "Origin", "https://good.example")
	if got := h.Get("Access-Control-Allow-Methods"); got != "GET, POST" {
		t.Errorf("allowed methods %q", got)
	}
	if status, _, h := r.do("OPTIONS", poll, ""); status != 204 || h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without origin: %d", status)
	}
	if c, res := r.dial(socketQuery, "", "Origin", "https://evil.example"); c != nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("websocket of another origin: %d", res.StatusCode)
	}
	if c, _ := r.dial(socketQuery, "", "Origin", "https://good.example"); c == nil {
		t.Error("websocket of a good origin was refused")
	}
}

func TestWebSocketHandshake(t *testing.T) {
	r := newRig(t, Config{})
	f := func(want int, lines string) {
		t.Helper()
		if got := r.raw("GET /socket.io/?" + socketQuery + " HTTP/1.1\r\nHost: x.test\r\n" + lines + "\r\n"); got != want {
			t.Errorf("%q: got %d, want %d", lines, got, want)
		}
	}
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	f(101, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+key)
	f(101, "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: x\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"+key)
	f(400, "")
	f(426, "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+key)
	f(426, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\n"+key)
	f(400, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
	f(400, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc\r\n")
}

func TestAdmission(t *testing.T) {
	verdict := error(nil)
	room := &room{}
	r := newRig(t, Config{Admit: func(addr netip.Addr) (Admission, error) {
		if addr != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("address %s", addr)
		}
		if verdict != nil {
			return nil, verdict
		}
		room.taken.Add(1)
		return room, nil
	}})
	f := func(err error, status int) {
		t.Helper()
		verdict = err
		if got, body, h := r.do("GET", poll, ""); got != status || h.Get("Retry-After") == "" {
			t.Errorf("%v: got %d %s", err, got, body)
		}
		if c, res := r.dial(socketQuery, ""); c != nil || res.StatusCode != status {
			t.Errorf("%v: got %d", err, res.StatusCode)
		}
	}
	f(fanout.ErrAddress, 429)
	f(fanout.ErrNotReady, 503)
	f(fanout.ErrDraining, 503)
	verdict = nil
	sid, rec := r.begin()
	if rec.opening.Admission != Admission(room) {
		t.Error("the handler did not get the admission")
	}
	if c, res := r.dial("EIO=4&transport=websocket", "", "Origin", "null"); c != nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("got %d", res.StatusCode)
	}
	c, rec2 := r.connect()
	if got := room.taken.Load(); got != 2 {
		t.Errorf("%d places are taken, want 2", got)
	}
	r.post(sid, "1", 200, "ok")
	c.say("1")
	rec.expect(t, "gone 1000")
	rec2.expect(t, "gone 1000")
	eventually(t, func() bool { return room.taken.Load() == 0 })
	r.server.Shutdown(wire.CloseGoingAway)
	f(nil, 503)
}

// FuzzQuery asks a server with one session for anything.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{poll, "EIO=4&transport=polling&sid=x", "EIO=3", "EIO=4&EIO=4", "%45IO=4&j", "&&==&;", socketQuery, "sid=&sid="} {
		f.Add(seed, "GET")
		f.Add(seed, "POST")
	}
	f.Fuzz(func(t *testing.T, query, method string) {
		s := New(Config{}, ws.NewLoops(ws.Config{}), func(s *Session, o Opening) Handler { return newRecorder(s, o) })
		defer func() {
			s.Shutdown(wire.CloseGoingAway)
			if err := s.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		var ctx fasthttp.RequestCtx
		ctx.Init(new(fasthttp.Request), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
		ctx.Request.Header.SetMethod(method)
		ctx.Request.SetRequestURI("/socket.io/?" + query)
		s.serve(&ctx)
		if status := ctx.Response.StatusCode(); status != 400 && (status != 200 || s.Sessions() != 1) {
			t.Fatalf("%s %s: %d", method, query, status)
		}
	})
}
