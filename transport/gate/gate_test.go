package gate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// start serves routes on loopback until the test ends.
func start(t *testing.T, cfg Config, routes ...Route) (*Server, string) {
	t.Helper()
	s, err := New(cfg, routes...)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-done); err != nil {
			t.Error(err)
		}
	})
	return s, ln.Addr().String()
}

func echoRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/a", Serve: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("a") }},
		{Method: "POST", Path: "/a", Serve: func(ctx *fasthttp.RequestCtx) { ctx.SetBody(ctx.PostBody()) }},
		{Method: "GET", Path: "/t/{id}", Serve: func(ctx *fasthttp.RequestCtx) { ctx.SetBody(Param(ctx, "id")) }},
		{Method: "GET", Path: "/t/{id}/x", Serve: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("x of " + string(Param(ctx, "id"))) }},
		{Method: "GET", Path: "/t/live", Serve: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("live") }},
		{Method: "GET", Path: "/panic", Serve: func(*fasthttp.RequestCtx) { panic("poisoned") }},
	}
}

// wire sends raw bytes and reads one answer; closed says that the server hung up after it.
func wire(t *testing.T, addr, raw string) (resp *http.Response, body string, closed bool) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = io.WriteString(c, raw) }()
	r := bufio.NewReader(c)
	resp, err = http.ReadResponse(r, &http.Request{Method: raw[:max(strings.IndexByte(raw, ' '), 0)]})
	if err != nil {
		t.Fatalf("%.80q: %v", raw, err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%.80q: %v", raw, err)
	}
	_ = resp.Body.Close()
	if !resp.Close {
		// Another request tells whether the connection is alive.
		_, _ = io.WriteString(c, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	_, err = r.ReadByte()
	return resp, string(b), err != nil
}

func TestRawRequests(t *testing.T) {
	_, addr := start(t, Config{}, echoRoutes()...)
	f := func(raw string, status int, code string, wantClosed bool) {
		t.Helper()
		resp, body, closed := wire(t, addr, raw)
		if resp.StatusCode != status || closed != wantClosed {
			t.Errorf("%.100q: got %d closed %v, want %d %v: %.200s", raw, resp.StatusCode, closed, status, wantClosed, body)
			return
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Server") != "" || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%.100q: headers %v", raw, resp.Header)
		}
		if code == "" {
			return
		}
		var p map[string]any
		if err := json.Unmarshal([]byte(body), &p); err != nil || resp.Header.Get("Content-Type") != ProblemType || p["code"] != code ||
			p["instance"] != resp.Header.Get("X-Request-Id") || p["status"] != float64(status) || p["remediation"] == "" {
			t.Errorf("%.100q: got %s (%v), want code %s", raw, body, err, code)
		}
	}
	const host = "Host: h\r\n"
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\n" + host + "\r\n" }
	with := func(header string) string { return "GET /a HTTP/1.1\r\n" + host + header + "\r\n\r\n" }
	hosted := func(h string) string { return "GET /a HTTP/1.1\r\nHost: " + h + "\r\n\r\n" }

	f(get("/a"), 200, "", false)
	f("GET /a HTTP/1.0\r\n\r\n", 200, "", true)
	f("POST /a HTTP/1.1\r\n"+host+"Content-Length: 2\r\n\r\nhi", 200, "", false)
	f(get("/t/5"), 200, "", false)
	f(get("/none"), 404, "not_found", false)
	f("POST /t/5 HTTP/1.1\r\n"+host+"Content-Length: 0\r\n\r\n", 405, "method_not_allowed", false)
	f("OPTIONS /a HTTP/1.1\r\n"+host+"\r\n", 204, "", false)
	f("OPTIONS * HTTP/1.1\r\n"+host+"\r\n", 204, "", false)
	// Methods and versions.
	f("TRACE /a HTTP/1.1\r\n"+host+"\r\n", 405, "method_not_allowed", true)
	f("CONNECT h:80 HTTP/1.1\r\n"+host+"\r\n", 405, "method_not_allowed", true)
	f("BREW /a HTTP/1.1\r\n"+host+"\r\n", 501, "method_unknown", true)
	f("get /a HTTP/1.1\r\n"+host+"\r\n", 501, "method_unknown", true)
	f("GET /a HTTP/2.0\r\n"+host+"\r\n", 505, "http_version", true)
	f("GET /a HTTP/1.2\r\n"+host+"\r\n", 505, "http_version", true)
	// Framing.
	f("POST /a HTTP/1.1\r\n"+host+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "ambiguous_framing", true)
	f("POST /a HTTP/1.1\r\n"+host+"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 400, "malformed_request", true)
	f("POST /a HTTP/1.1\r\n"+host+"Content-Length: +2\r\n\r\nhi", 400, "malformed_request", true)
	f("POST /a HTTP/1.1\r\n"+host+"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, "malformed_request", true)
	f("GET /a HTTP/1.1\r\n"+host+"Content-Length: 2\r\n\r\nhi", 400, "unexpected_body", true)
	f("HEAD /a HTTP/1.1\r\n"+host+"\r\n", 200, "", false)
	f("DELETE /a HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "unexpected_body", true)
	for value, code := range map[string]string{
		"gzip": "transfer_coding_unknown", "xchunked": "transfer_coding_unknown", "gzip, chunked": "transfer_coding_unknown", "x-gzip": "transfer_coding_unknown",
		"chunked, chunked": "ambiguous_framing", "chunked;a=b": "ambiguous_framing", "gzip;q=1": "ambiguous_framing", ",": "ambiguous_framing",
		"gzip\r\nTransfer-Encoding: chunked": "ambiguous_framing", "gzip\r\nContent-Length: 2": "ambiguous_framing", "\x0bchunked": "malformed_request",
	} {
		status := 400
		if code == "transfer_coding_unknown" {
			status = 501
		}
		f("POST /a HTTP/1.1\r\n"+host+"Transfer-Encoding: "+value+"\r\n\r\n0\r\n\r\n", status, code, true)
	}
	f("POST /a HTTP/1.1\r\nContent-Length: 2\r\n"+host+"Transfer-Encoding: gzip\r\n\r\nhi", 400, "ambiguous_framing", true)
	f("POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "ambiguous_framing", true)
	// Lines that end without a carriage return; a body may hold what it likes.
	f("GET /a HTTP/1.1\nHost: h\n\n", 400, "malformed_request", true)
	f("GET /a HTTP/1.1\r\nHost: h\n\n", 400, "malformed_request", true)
	f("GET /a HTTP/1.1\nHost: h\r\n\r\n", 400, "malformed_request", true)
	f("GET /a HTTP/1.1\r\nHost: h\r\n\n", 400, "malformed_request", true)
	f("\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", 400, "malformed_request", true)
	f("\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", 200, "", false)
	f("POST /a HTTP/1.1\r\n"+host+"Content-Length: 4\r\n\r\na\n\nb", 200, "", false)
	f("POST /a HTTP/1.1\r\n"+host+"Content-Length: 65530\r\n\r\n"+strings.Repeat("\n", 65530), 200, "", false)
	// Host.
	f("GET /a HTTP/1.1\r\n\r\n", 400, "malformed_request", true)
	f("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "malformed_request", true)
	f(hosted("a@b"), 400, "bad_host", true)
	f(hosted("h:99999999"), 400, "bad_host", true)
	f(hosted("h:0"), 400, "bad_host", true)
	f(hosted("h:65536"), 400, "bad_host", true)
	f(hosted("h/x"), 400, "malformed_request", true)
	f(hosted("[::1"), 400, "malformed_request", true)
	f(hosted(strings.Repeat("h", 300)), 400, "bad_host", true)
	f(hosted("[::1]:8080"), 200, "", false)
	f(hosted("example.org:65535"), 200, "", false)
	// Fields.
	f(with("X_Api_Key: 1"), 400, "bad_header", true)
	f(with("X-A: 1\r\n folded"), 400, "bad_header", true)
	f(with("X-API-Key: 1\r\nx-api-key: 2"), 400, "ambiguous_credentials", true)
	f(with("Authorization: a\r\nAuthorization: b"), 400, "ambiguous_credentials", true)
	f(with("Expect: junk"), 417, "expectation_failed", true)
	f(with(strings.TrimSuffix(strings.Repeat("X-A: 1\r\n", 70), "\r\n")), 431, "header_too_large", true)
	f(with("X-A: "+strings.Repeat("a", 8200)), 431, "header_too_large", true)
	f(with("X-A: "+strings.Repeat("a", 30_000)), 431, "header_too_large", true)
	// Targets.
	f(get("/"+strings.Repeat("a", 2048)), 414, "uri_too_long", true)
	f(get("/"+strings.Repeat("a", 30_000)), 414, "uri_too_long", true)
	for _, path := range []string{"/a/../b", "/a/..", "/./a", "//a", "/a//b", "/a%00", "/%2e%2e/a", "/a%2fb", "/a%5cb", "/%zz", "/a%", "/a;x", "/\xc3\xa9", "/%c3%a9", "/a%20b", "/a\\b", "/{id}"} {
		f(get(path), 400, "bad_path", true)
	}
	f(get("/a#frag"), 400, "bad_path", true)
	f(get("/a?b#frag"), 400, "bad_target", true)
	f(get("/a?\xc3\xa9"), 400, "bad_target", true)
	for _, target := range []string{"http://other/a", "http://h/a", "HTTPS://h", "*"} {
		f(get(target), 400, "bad_target", true)
	}
	for _, name := range []string{"api_key", "apikey", "API-KEY", "key", "x-api-key", "%61pi_key", "CMC_PRO_API_KEY"} {
		f(get("/a?x=1&"+name+"=sesame"), 400, "key_in_url", false)
	}
	f(get("/a?keys=1&monkey=2"), 200, "", false)
	// Bodies.
	f("POST /a HTTP/1.1\r\n"+host+"Content-Length: 65536\r\n\r\n"+strings.Repeat("x", 65536), 200, "", false)
	f("POST /a HTTP/1.1\r\n"+host+"Content-Length: 65537\r\n\r\n"+strings.Repeat("x", 65537), 413, "body_too_large", true)
	f("POST /a HTTP/1.1\r\n"+host+"Content-Length: 99999999999\r\n\r\nx", 413, "body_too_large", true)
	f("POST /a HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n11000\r\n"+strings.Repeat("x", 0x11000)+"\r\n0\r\n\r\n", 413, "body_too_large", true)
	f("POST /a HTTP/1.1\r\n"+host+"Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n", 413, "body_too_large", true)
	f(with("Expect: 100-continue"), 417, "expectation_failed", true)
	f("nonsense\r\n\r\n", 400, "malformed_request", true)
}

// A head that nobody could finish is refused before the time limit, which is
// too far away here to be it.
func TestHopelessHeadsAreNotWaitedFor(t *testing.T) {
	_, addr := start(t, Config{ReadTimeout: time.Hour}, echoRoutes()...)
	f := func(raw, code string) {
		t.Helper()
		if resp, body, closed := wire(t, addr, raw); resp.StatusCode != http.StatusBadRequest || !closed || !strings.Contains(body, `"code":"`+code+`"`) {
			t.Errorf("%q: got %d closed %v %s", raw, resp.StatusCode, closed, body)
		}
	}
	f("GET /a HTTP/1.1\nHost: h\n\n", "malformed_request")
	f("GET /a HTTP/1.1\n", "malformed_request")
	const twice = "/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
	f("POST "+twice, "ambiguous_framing")
	f("GET "+twice, "ambiguous_framing")
	f("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "ambiguous_framing")
	f("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n", "ambiguous_framing")
	f("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nHost: i\r\n\r\n", "malformed_request")
	f("POST /a HTTP/1.1\r\nHost: a@b\r\nContent-Length: 5\r\n\r\n", "bad_host")
	f("POST //a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "bad_path")
	f("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 010\r\n\r\n", "unexpected_body")
	f("GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "unexpected_body")
	f("POST "+twice+"5\r\nhello\r\n0\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", "ambiguous_framing")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "\x16\x03\x01"); err != nil {
		t.Fatal(err)
	}
	var netErr net.Error
	if b, err := io.ReadAll(c); len(b) != 0 || errors.As(err, &netErr) && netErr.Timeout() {
		t.Errorf("a TLS hello got %q, %v", b, err)
	}
}

// However a head is cut into reads, the scan finds the same in it.
func FuzzHeadScan(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\nbody\n", "a\n", "\r\n\r\na\r\n\r\n", "P / H\r\nTransfer-Encoding: gzip\r\n\r\n",
		"P / H\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\n",
	} {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, raw string, step uint8) {
		head, _, ended := strings.Cut(strings.TrimLeft(raw, "\r\n"), "\r\n\r\n")
		var whole, parts headScan
		done := whole.feed([]byte(raw))
		rest := []byte(raw)
		for len(rest) > 0 {
			n := min(int(step%16)+1, len(rest))
			if parts.feed(rest[:n]) {
				break
			}
			rest = rest[n:]
		}
		if whole.bareLF != parts.bareLF || whole.unsupported() != parts.unsupported() {
			t.Fatalf("%q in steps of %d: %+v, want %+v", raw, step%16+1, parts, whole)
		}
		crlf := strings.Count(head, "\n") == strings.Count(head, "\r\n") && strings.HasPrefix(raw, head)
		if ended && crlf && (whole.bareLF || !done) {
			t.Fatalf("%q: a sound head is refused or goes on: %+v", raw, whole)
		}
		if whole.unsupported() && !strings.Contains(strings.ToLower(raw), "transfer-encoding:") {
			t.Fatalf("%q: an unknown coding out of nothing", raw)
		}
	})
}

func TestUnknownPathNamesTheKnownOnes(t *testing.T) {
	routes := append(echoRoutes(), Route{Method: "GET", Path: "/hidden", Hidden: true, Serve: func(*fasthttp.RequestCtx) {}})
	_, addr := start(t, Config{}, routes...)
	_, body, _ := wire(t, addr, "GET /none HTTP/1.1\r\nHost: h\r\n\r\n")
	if !strings.Contains(body, `"remediation":"use one of: /a, /panic, /t/live, /t/{id}, /t/{id}/x"`) {
		t.Errorf("got %s", body)
	}
}

// A client that speaks as to a proxy is told what to send instead.
func TestBadTargetsAreToldWhatToSend(t *testing.T) {
	_, addr := start(t, Config{}, echoRoutes()...)
	f := func(target, want string) {
		t.Helper()
		if _, body, _ := wire(t, addr, "GET "+target+" HTTP/1.1\r\nHost: h\r\n\r\n"); !strings.Contains(body, want) {
			t.Errorf("%s: got %s", target, body)
		}
	}
	f("http://h/a", `"remediation":"send the origin form: a path such as /api/v1/tokens, without scheme and host"`)
	f("/a?b#frag", `"remediation":"escape what is not printable ASCII, and leave the fragment out"`)
}

func TestParams(t *testing.T) {
	_, addr := start(t, Config{}, echoRoutes()...)
	f := func(path, want string) {
		t.Helper()
		if _, body, _ := wire(t, addr, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n"); body != want {
			t.Errorf("%s: got %q, want %q", path, body, want)
		}
	}
	f("/t/5", "5")
	f("/t/live", "live")
	f("/t/live/x", "x of live")
	f("/t/5/x", "x of 5")
	f("/t/5?a=b", "5")
}

func TestAllow(t *testing.T) {
	h := func(*fasthttp.RequestCtx) {}
	_, addr := start(t, Config{}, Route{Method: "GET", Path: "/a", Serve: h}, Route{Method: "POST", Path: "/a", Serve: h},
		Route{Method: "GET", Path: "/s", Serve: h, Endless: true}, Route{Method: "DELETE", Path: "/s", Serve: h})
	f := func(method, path, allow string, status int) {
		t.Helper()
		if resp, body, _ := wire(t, addr, method+" "+path+" HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != status || resp.Header.Get("Allow") != allow {
			t.Errorf("%s %s: got %d %v %s", method, path, resp.StatusCode, resp.Header, body)
		}
	}
	f("OPTIONS", "/a", "GET, HEAD, POST, OPTIONS", 204)
	f("PUT", "/a", "GET, HEAD, POST, OPTIONS", 405)
	f("HEAD", "/a", "", 200)
	f("OPTIONS", "/s", "GET, DELETE, OPTIONS", 204)
	f("PUT", "/s", "GET, DELETE, OPTIONS", 405)
	f("HEAD", "/s", "GET, DELETE, OPTIONS", 405)
	f("GET", "/s", "", 200)
}

func TestRouteErrors(t *testing.T) {
	h := func(*fasthttp.RequestCtx) {}
	f := func(routes ...Route) {
		t.Helper()
		if _, err := New(Config{}, routes...); err == nil || !strings.HasPrefix(err.Error(), "cannot add route") {
			t.Errorf("%v: got %v", routes, err)
		}
	}
	f(Route{Method: "GET", Path: "a", Serve: h})
	f(Route{Method: "HEAD", Path: "/a", Serve: h})
	f(Route{Method: "BREW", Path: "/a", Serve: h})
	f(Route{Method: "GET", Path: "/a"})
	f(Route{Method: "GET", Path: "/a/{b}", Serve: h}, Route{Method: "GET", Path: "/a/{b}", Serve: h})
	f(Route{Method: "GET", Path: strings.Repeat("/a", 9), Serve: h})
}

func TestRequestIDs(t *testing.T) {
	_, addr := start(t, Config{}, echoRoutes()...)
	f := func(sent string, reflected bool) {
		t.Helper()
		resp, _, _ := wire(t, addr, "GET /a HTTP/1.1\r\nHost: h\r\nX-Request-Id: "+sent+"\r\n\r\n")
		got := resp.Header.Get("X-Request-Id")
		if (got == sent) != reflected || !validID([]byte(got)) {
			t.Errorf("%q: got %q", sent, got)
		}
	}
	f("abc-123", true)
	f(strings.Repeat("a", 64), true)
	f(strings.Repeat("a", 65), false)
	f("a b", false)
	f("a_b", false)
	f("<script>", false)
	f("", false)
}

func TestPanicIsContained(t *testing.T) {
	var log bytes.Buffer
	metrics := prometheus.NewRegistry()
	_, addr := start(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: metrics}, echoRoutes()...)
	for range 3 {
		resp, body, closed := wire(t, addr, "GET /panic HTTP/1.1\r\nHost: h\r\n\r\n")
		if resp.StatusCode != http.StatusInternalServerError || !strings.Contains(body, `"code":"internal"`) || strings.Contains(body, "poisoned") || !closed {
			t.Errorf("got %d %s", resp.StatusCode, body)
		}
	}
	if resp, _, _ := wire(t, addr, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
	if n := counted(t, metrics, "velocimeter_rest_panics_total"); n != 3 {
		t.Errorf("%v panics counted", n)
	}
	if n := strings.Count(log.String(), "a handler panicked"); n != 1 || !strings.Contains(log.String(), "goroutine") {
		t.Errorf("%d stacks in the log: %s", n, log.String())
	}
	if n := counted(t, metrics, "velocimeter_rest_requests_total", "public", "/panic", "500"); n != 3 {
		t.Errorf("%v requests counted", n)
	}
}

// counted sums the counters of a name whose labels hold all the given values.
func counted(t *testing.T, g prometheus.Gatherer, name string, values ...string) (sum float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			match := 0
			for _, l := range m.GetLabel() {
				if slices.Contains(values, l.GetValue()) {
					match++
				}
			}
			if f.GetName() == name && match == len(values) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestKeyInURLIsNeverLogged(t *testing.T) {
	var log bytes.Buffer
	_, addr := start(t, Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, echoRoutes()...)
	_, body, _ := wire(t, addr, "GET /a?api_key=sesame HTTP/1.1\r\nHost: h\r\n\r\n")
	_, _, _ = wire(t, addr, "GET /a?api_key=sesame%zz\xff HTTP/9.9\r\nHost: h\r\n\r\n")
	if strings.Contains(body+log.String(), "sesame") {
		t.Errorf("the key got out: %s %s", body, log.String())
	}
}

func TestSlowRequest(t *testing.T) {
	_, addr := start(t, Config{ReadTimeout: 50 * time.Millisecond}, echoRoutes()...)
	resp, body, closed := wire(t, addr, "GET /a HTTP/1.1\r\nHost:")
	if resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(body, `"code":"request_timeout"`) || !closed {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
}

func TestConnectionLimit(t *testing.T) {
	metrics := prometheus.NewRegistry()
	_, addr := start(t, Config{MaxConns: 1, Metrics: metrics}, echoRoutes()...)
	first, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(first, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := http.ReadResponse(bufio.NewReader(first), nil); err != nil {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(second), nil)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %v %v", resp, err)
	}
	_, _ = first.Close(), second.Close()
	if n := counted(t, metrics, "velocimeter_rest_connections_refused_total"); n != 1 {
		t.Errorf("%v refused", n)
	}
}

// scripted is a listener that fails as told.
type scripted struct {
	errs  []error
	calls int
}

func (s *scripted) Accept() (net.Conn, error) {
	s.calls++
	if len(s.errs) == 0 {
		return nil, net.ErrClosed
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return nil, err
}

func (s *scripted) Close() error { return nil }

func (s *scripted) Addr() net.Addr { return &net.TCPAddr{} }

func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{}
		cfg.setDefaults()
		inner := &scripted{}
		for range 12 {
			inner.errs = append(inner.errs, &net.OpError{Op: "accept", Err: syscall.EMFILE})
		}
		ln := newListener(inner, cfg, newMeters(prometheus.NewRegistry(), "public"))
		begin := time.Now()
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		// 5 ms doubling to the ceiling of 1 s: 5+10+…+640 = 1,275 ms, then 4 s.
		if took := time.Since(begin); took != 5275*time.Millisecond || inner.calls != 13 {
			t.Errorf("%d calls in %v", inner.calls, took)
		}
		inner.errs = []error{syscall.EMFILE}
		go func() {
			<-time.After(time.Millisecond)
			_ = ln.Close()
		}()
		begin = time.Now()
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) || time.Since(begin) != time.Millisecond {
			t.Errorf("closing did not end the wait: %v after %v", err, time.Since(begin))
		}
	})
}

func TestPortInUse(t *testing.T) {
	_, addr := start(t, Config{}, echoRoutes()...)
	if _, err := Listen(t.Context(), addr); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v", err)
	}
	if _, err := Listen(t.Context(), "127.0.0.1:99999"); err == nil || errors.Is(err, ErrInUse) {
		t.Errorf("got %v", err)
	}
}

func TestShutdownBeforeServe(t *testing.T) {
	s, err := New(Config{}, echoRoutes()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); err != nil {
		t.Errorf("got %v", err)
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("the listener is still open")
	}
}

func TestShutdownFinishesRequests(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s, err := New(Config{}, Route{Method: "GET", Path: "/slow", Serve: func(ctx *fasthttp.RequestCtx) {
		close(entered)
		<-release
		ctx.SetBodyString("done")
	}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	answer := make(chan string, 1)
	go func() {
		_, body, closed := wire(t, ln.Addr().String(), "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
		answer <- body + strconv.FormatBool(closed)
	}()
	<-entered
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a running request did not hold the shutdown up: %v", err)
	}
	close(release)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if got := <-answer; got != "donetrue" {
		t.Errorf("the running request got %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestHijack(t *testing.T) {
	_, addr := start(t, Config{}, Route{Method: "GET", Path: "/up", Serve: func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(fasthttp.StatusSwitchingProtocols)
		ctx.Hijack(func(c net.Conn) {
			defer c.Close()
			_, _ = io.Copy(c, c)
		})
	}})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /up HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v %v", resp, err)
	}
	if _, err := io.WriteString(c, "ping\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); line != "ping\n" {
		t.Errorf("got %q %v", line, err)
	}
	_ = c.Close()
}

func FuzzStrict(f *testing.F) {
	f.Add([]byte("Host: h\r\n\r\n"), []byte("/a?b=c"), []byte("h:80"))
	f.Add([]byte("A: b\r\n c\r\n\r\n"), []byte("/%2e%2e"), []byte("[::1"))
	f.Add([]byte("\n"), []byte("/"), []byte(":"))
	f.Fuzz(func(t *testing.T, raw, target, host []byte) {
		_, _ = scanFields(raw, 64)
		if len(host) > 0 {
			name, port := splitHost(host)
			if validPort(port) && validHostName(name) && bytes.ContainsAny(host, "@/?# \r\n") {
				t.Fatalf("host %q passed", host)
			}
		}
		if checkTarget(target, []byte("GET")) == nil {
			path := rawPath(target)
			if bytes.Contains(path, []byte("//")) || bytes.Contains(path, []byte("/../")) || bytes.ContainsAny(path, ";\\#\x00 ") {
				t.Fatalf("target %q passed", target)
			}
		}
		var back string
		if err := json.Unmarshal(appendString(nil, target), &back); err != nil {
			t.Fatalf("%q: %v", target, err)
		}
		if e := Echo(target); len(e) > MaxEcho+3 {
			t.Fatalf("echo of %d bytes", len(e))
		}
	})
}
