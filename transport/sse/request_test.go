package sse

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// problem is what a refused client gets.
type problem struct {
	Code   string
	Status int
	Errors []struct{ Param, Reason string }
}

func problemOf(t *testing.T, res *http.Response) (p problem) {
	t.Helper()
	if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("content type %q of %d", ct, res.StatusCode)
	}
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil || p.Status != res.StatusCode {
		t.Fatalf("got %s: %v", text, err)
	}
	return p
}

func TestParameters(t *testing.T) {
	r := newRig(t, options{})
	good := func(path string) {
		t.Helper()
		s := r.open(t, path)
		if e := s.next(); e.name != "subscribed" || !strings.HasPrefix(e.data, `{"type":"subscribed",`) || e.hasID {
			t.Fatalf("%s: got %+v", path, e)
		}
		_ = s.nc.Close()
	}
	bad := func(path, param string) {
		t.Helper()
		s, res := r.dial(t, get(path))
		p := problemOf(t, res)
		if res.StatusCode != http.StatusBadRequest || p.Code != "invalid_parameter" || len(p.Errors) != 1 || p.Errors[0].Param != param || p.Errors[0].Reason == "" {
			t.Fatalf("%s: got %+v, not %q", path, p, param)
		}
		_ = s.nc.Close()
	}
	for _, q := range []string{
		"", "?", "?view=full", "?view=quote&digits=compact", "?fields=price", "?fields=price,velocity,price", "?rate=1", "?rate=0.1", "?rate=tick", "?rate=auto",
		"?rate=1e3", "?rate=999999999", "?since=k3test:1", "?since=other:9007199254740991", "?since=a:b:1", "?fields=price%2Cvelocity",
	} {
		good("live" + q)
		good("1/live" + q)
	}
	good("token-1/live")
	for _, q := range []string{"view=", "view", "view=fast", "view=Full", "view=full&view=full", "view=full&rate=0", "view=a&view=b"} {
		param := "view"
		if strings.Contains(q, "rate=") {
			param = "rate"
		}
		bad("live?"+q, param)
		bad("1/live?"+q, param)
	}
	for param, values := range map[string][]string{
		"fields": {"", "nope", "price,", ",price", "price,,velocity", "price%0d%0aid:1", "price&view=full", strings.Repeat("price,", 300), "%zz", "price%00"},
		"rate":   {"", "0", "0.09", "-1", "NaN", "Inf", "0x10", "+1", "01", ".5", "1e400", "1%20", "fast", "%22tick%22", "null", "%ff"},
		"digits": {"", "9", "Full", "full,compact"},
		"since":  {"", "1", ":1", "k3test", "k3test:", "k3test:-1", "k3test:+1", "k3test:1.0", "k3test:0x1", "k3test:9007199254740992", "k3test:1_0", "k3test:%201", strings.Repeat("e", 65) + ":1", "k3test:1%0a"},
	} {
		for _, v := range values {
			bad("live?"+param+"="+v, param)
		}
		bad("live?"+param+"="+map[string]string{"fields": "price", "rate": "1", "digits": "full", "since": "a:1"}[param]+"&"+param+"=x", param)
	}
	for _, name := range []string{"mode", "shape", "numbers", "deadband_bps", "symbols", "tokens", "limit", "View", "last_event_id"} {
		bad("live?view=full&"+name+"=1", name)
	}
	long := strings.Repeat("x", 1500)
	bad("live?"+long+"=1", long[:64]+"...")
}

func TestAnswers(t *testing.T) {
	r := newRig(t, options{})
	f := func(status int, raw, code string) http.Header {
		t.Helper()
		s, res := r.dial(t, raw)
		if res.StatusCode != status {
			t.Fatalf("%.80q: status %d, not %d", raw, res.StatusCode, status)
		}
		if code != "" {
			if p := problemOf(t, res); p.Code != code {
				t.Fatalf("%.80q: %+v", raw, p)
			}
		}
		_ = s.nc.Close()
		return res.Header
	}
	ok := func(headers ...string) http.Header { t.Helper(); return f(200, get("live", headers...), "") }
	h := ok()
	if h.Get("Cache-Control") != "no-store, no-transform" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Request-Id") == "" ||
		h.Get("Content-Length") != "" || h.Get("Transfer-Encoding") != "" || h.Get("Server") != "" {
		t.Fatalf("got %v", h)
	}
	if h := ok("Accept-Encoding: gzip, br"); h.Get("Content-Encoding") != "" {
		t.Fatalf("got %v", h)
	}
	if h := ok("X-Request-Id: mine"); h.Get("X-Request-Id") != "mine" {
		t.Fatalf("got %v", h)
	}
	for _, a := range []string{"text/event-stream", "*/*", "text/*", "Text/Event-Stream; charset=utf-8", "text/html, text/event-stream;q=0.1", "text/event-stream ; q=1", ""} {
		ok("Accept: " + a)
	}
	ok("Accept: text/html", "Accept: text/event-stream")
	for _, a := range []string{"text/html", "application/json, image/*", "text/event-stream;q=0", "text/event-stream; q=0.000", "event-stream", "text/event-stream-x", "text"} {
		f(406, get("live", "Accept: "+a), "not_acceptable")
	}
	for _, path := range []string{"live", "1/live"} {
		raw := func(method string) string { return strings.Replace(get(path), "GET", method, 1) }
		if h := f(405, raw("HEAD"), ""); h.Get("Allow") != "GET, OPTIONS" {
			t.Fatalf("got %v", h)
		}
		if h := f(204, raw("OPTIONS"), ""); h.Get("Allow") != "GET, OPTIONS" {
			t.Fatalf("got %v", h)
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			if h := f(405, raw(method), "method_not_allowed"); h.Get("Allow") != "GET, OPTIONS" {
				t.Fatalf("got %v", h)
			}
		}
	}
	for _, token := range []string{"999999", "0", "nope", "T1", "-1", "1.0", "BTC'--", "18446744073709551617", "%7b%7d"} {
		status, code := 404, "token_not_found"
		if strings.ContainsAny(token, "'") {
			status, code = 400, "bad_path"
		}
		f(status, get(token+"/live"), code)
		f(status, get(token+"/live?view=nope"), code)
	}
	f(400, get("live?key=1"), "key_in_url")
}

func TestAdmission(t *testing.T) {
	f := func(o options, status int, code string, prepare func(*rig)) {
		t.Helper()
		r := newRig(t, o)
		prepare(r)
		for _, headers := range [][]string{nil, {"Last-Event-ID: k3test:1"}} {
			s, res := r.dial(t, get("1/live", headers...))
			if headers != nil && status == 503 {
				e := s.next()
				if m, err := wiretest.Decode([]byte(e.data)); res.StatusCode != http.StatusOK || err != nil || e.name != "drain" || m.RetryMS != int64(e.retry) || e.retry < 3000 || e.retry > 4500 {
					t.Fatalf("%d %+v", res.StatusCode, e)
				}
				if _, err := s.read(); err != io.EOF {
					t.Fatal(err)
				}
				continue
			}
			if p := problemOf(t, res); res.StatusCode != status || p.Code != code || res.Header.Get("Retry-After") == "" {
				t.Fatalf("%d %+v", res.StatusCode, p)
			}
			_ = s.nc.Close()
		}
	}
	one := func(r *rig) { r.open(t, "live") }
	f(options{hub: fanout.Config{Connections: 1}}, 503, "overloaded", one)
	f(options{hub: fanout.Config{PerAddress: 1, CountLoopback: true}}, 429, "too_many_connections", one)
	f(options{empty: true}, 503, "not_ready", func(*rig) {})
	f(options{}, 503, "draining", func(r *rig) { _ = r.hub.Shutdown(t.Context(), wire.CloseGoingAway) })
}

// TestLastEventID resumes with what browsers may send.
func TestLastEventID(t *testing.T) {
	r := newRig(t, options{})
	r.m.Churn = 0
	all := r.open(t, "live?view=full")
	rep, end := wiretest.NewReplica(), uint64(0)
	read := func(s *stream, rep *wiretest.Replica) {
		t.Helper()
		check := func(*wiretest.Replica, uint64) error { return nil }
		if err := s.follow(rep, check, func(_ *wiretest.Message, pos uint64) bool { return pos >= end && pos > 0 }); err != nil {
			t.Fatal(err)
		}
	}
	read(all, rep)
	from := r.m.Board().Seq
	for range 5 {
		r.m.Moving = 0.1
		end = changed(r.tick(), end)
		read(all, rep)
	}
	f := func(recovered bool, path string, headers ...string) {
		t.Helper()
		s := r.open(t, path, headers...)
		first, second := s.next(), s.next()
		m, err := wiretest.Decode([]byte(first.data))
		if err != nil || m.Recovered == nil || *m.Recovered != recovered {
			t.Fatalf("%s %.80q: %s %v", path, headers, first.data, err)
		}
		if want := map[bool]string{true: "delta", false: "snapshot"}[recovered]; second.name != want {
			t.Fatalf("%s %.80q: %.200s", path, headers, second.data)
		}
		_ = s.nc.Close()
	}
	id := "k3test:" + strconv.FormatUint(from, 10)
	f(true, "live?view=full", "Last-Event-ID: "+id)
	f(true, "live?view=full&since="+id)
	f(true, "live?view=full&since=other:7", "Last-Event-ID: "+id)
	f(true, "live?view=full&rate=5&digits=compact", "Last-Event-ID: "+id)
	for _, last := range []string{
		"garbage", "k3test:", ":", "k3test:-1", "other:" + strconv.FormatUint(from, 10), "k3test:9007199254740991", "k3test:99999999999999999999", "\xff\xfe", "%00",
		strings.Repeat("x", 7000), "k3test:" + strings.Repeat("0", 7000), strings.Repeat("k3test:", 1000) + "1", `{"a":1}`,
	} {
		f(false, "live?view=full", "Last-Event-ID: "+last)
		f(false, "live?view=full&since="+id, "Last-Event-ID: "+last)
	}
	f(true, "live?view=full&since="+id, "Last-Event-ID: ")
	if _, res := r.dial(t, get("live", "Last-Event-ID: "+strings.Repeat("x", 10<<10))); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatalf("status %d", res.StatusCode) // the gate's limit of a head
	}
}

// changed returns the seq of a tick that changed something, else the one before.
func changed(t *market.Tick, before uint64) uint64 {
	for _, part := range t.Parts {
		if len(part) > 0 {
			return t.Env.Seq
		}
	}
	return before
}
