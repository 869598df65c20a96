package engineio

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

func TestSocketMessages(t *testing.T) {
	r := newRig(t, Config{})
	c, rec := r.connect()
	if got := rec.session.Transport(); got != "websocket" || rec.opening.Transport != got {
		t.Errorf("transport %s", got)
	}
	c.say("4hello")
	rec.expect(t, "text hello")
	if err := c.ws.WriteMessage(websocket.BinaryMessage, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	rec.expect(t, "binary \x01\x02")
	c.say("bAQI=")
	rec.expect(t, "binary \x01\x02")
	c.say("4echo")
	c.hear("4echo")
	rec.session.SendBinary([]byte{3})
	c.hear("\x03")
	if rec.session.TryWrite([]fanout.Chunk{chunk(false, "a"), chunk(true, "b")}) {
		rec.expect(t, "written")
	}
	c.hear("4a")
	c.hear("4b")
	sid := rec.session.SID()
	r.get(sid, 400, isBad)
	r.post(sid, "4x", 400, isBad)
	second, _ := r.dial(socketQuery+"&sid="+sid, "")
	second.closed(int(wire.ClosePolicy))
	c.say("4echo again")
	c.hear("4echo again")
}

func TestSocketEnds(t *testing.T) {
	r := newRig(t, Config{MaxPayload: 1000})
	f := func(code int, gone string, do func(c *socketClient, rec *recorder)) {
		t.Helper()
		c, rec := r.connect()
		do(c, rec)
		c.closed(code)
		rec.expect(t, gone)
		eventually(t, func() bool { return r.server.find(rec.session.sid) == nil })
	}
	say := func(text string) func(*socketClient, *recorder) {
		return func(c *socketClient, _ *recorder) { c.say(text) }
	}
	f(1000, "gone 1000", say("1"))
	f(1002, "gone 1002", say("abc"))
	f(1002, "gone 1002", say(""))
	f(1002, "gone 1002", say("2"))
	f(1002, "gone 1002", say("2probe"))
	f(1002, "gone 1002", say("3"))
	f(1002, "gone 1002", say("5"))
	f(1002, "gone 1002", say("b!"))
	f(1007, "gone 1007", say("4\xff"))
	f(1009, "gone 1009", say("4"+strings.Repeat("x", 1000)))
	f(1011, "gone 1011", say("4panic"))
	f(4505, "gone 4505", say("4close"))
	f(4000, "gone 4000", func(_ *socketClient, rec *recorder) { rec.session.Close(wire.CloseSlow, "") })
	f(1008, "gone 1008", func(c *socketClient, _ *recorder) {
		for range 20 {
			_ = c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
		}
	})
	f(1001, "gone 1000", func(c *socketClient, _ *recorder) {
		_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1001, ""), time.Now().Add(time.Second))
	})
	c, rec := r.connect()
	_ = c.ws.NetConn().Close()
	rec.expect(t, "gone 0")
	c, rec = r.connect()
	rec.session.Abort()
	if _, _, err := c.ws.ReadMessage(); err == nil {
		t.Error("nothing was aborted")
	}
	rec.expect(t, "gone 1011")
}

func TestUpgrade(t *testing.T) {
	r := newRig(t, Config{})
	sid, rec := r.begin()
	rec.session.TryWrite([]fanout.Chunk{chunk(true, "a")})
	r.get(sid, 200, "4a")
	rec.expect(t, "written")
	held := r.held(rec, sid)
	c, _ := r.dial(socketQuery+"&sid="+sid, "")
	c.say("2probe")
	c.hear("3probe")
	if got := <-held; got != "200 6" {
		t.Errorf("the poll got %s", got)
	}
	r.get(sid, 200, "6") // one that comes late
	rec.session.TryWrite([]fanout.Chunk{chunk(true, "b")})
	r.get(sid, 200, "4b") // it polls still
	rec.expect(t, "written")
	r.post(sid, "4x", 200, "ok")
	rec.expect(t, "text x")
	rec.session.Send([]byte("c"))
	rec.session.TryWrite([]fanout.Chunk{chunk(true, "d")})
	c.say("5")
	c.say("4y")
	c.hear("4c")
	c.hear("4d")
	if got := <-rec.notes + ", " + <-rec.notes; got != "written, text y" && got != "text y, written" {
		t.Errorf("told %s", got)
	}
	r.get(sid, 400, isBad)
	r.post(sid, "4x", 400, isBad)
	c.say("4echo")
	c.hear("4echo")
	again, _ := r.dial(socketQuery+"&sid="+sid, "")
	again.closed(int(wire.ClosePolicy))
	c.say("1")
	c.closed(1000)
	rec.expect(t, "gone 1000")
	r.dead(sid)
}

// A poll that is not over when the upgrade is complete is one too many.
func TestPollDuringUpgrade(t *testing.T) {
	r := newRig(t, Config{})
	sid, rec := r.begin()
	c, _ := r.dial(socketQuery+"&sid="+sid, "")
	c.say("2probe")
	c.hear("3probe")
	held := r.held(rec, sid)
	c.say("5")
	if got := <-held; got != "400 "+isBad {
		t.Errorf("got %s", got)
	}
	c.say("4echo")
	c.hear("4echo")
}

// An upgrade that goes wrong ends the websocket alone.
func TestBadUpgrades(t *testing.T) {
	r := newRig(t, Config{})
	sid, rec := r.begin()
	f := func(code int, messages ...string) {
		t.Helper()
		c, _ := r.dial(socketQuery+"&sid="+sid, "")
		for _, m := range messages {
			if m == "binary" {
				_ = c.ws.WriteMessage(websocket.BinaryMessage, []byte("2probe"))
				continue
			}
			_ = c.ws.WriteMessage(websocket.TextMessage, []byte(m))
		}
		c.closed(code)
		r.post(sid, "4echo", 200, "ok")
		r.get(sid, 200, "4echo")
	}
	f(1002, "5")
	f(1002, "2probe", "2probe")
	f(1002, "2")
	f(1002, "2prob")
	f(1002, "3probe")
	f(1002, "4x")
	f(1002, "2probe", "4x")
	f(1002, "2probe", "5x")
	f(1002, "abc")
	f(1002, "")
	f(1002, "binary")
	f(1007, "2\xff")
	f(1002, "1")
	first, _ := r.dial(socketQuery+"&sid="+sid, "")
	eventually(t, func() bool {
		rec.session.mu.Lock()
		defer rec.session.mu.Unlock()
		return rec.session.probe != nil
	})
	f(int(wire.ClosePolicy)) // beside another
	if c, res := r.dial(socketQuery+"&sid="+sid, "127.0.0.2"); c != nil || res.StatusCode != http.StatusBadRequest {
		t.Errorf("another address: %d", res.StatusCode)
	}
	_ = first.ws.NetConn().Close()
	eventually(t, func() bool {
		rec.session.mu.Lock()
		defer rec.session.mu.Unlock()
		return rec.session.probe == nil
	})
	c, _ := r.dial(socketQuery+"&sid="+sid, "")
	c.say("2probe")
	c.hear("3probe")
	r.post(sid, "1", 200, "ok") // the session ends, and the probe with it
	c.closed(1000)
	rec.expect(t, "gone 1000")
	r.get(sid, 200, "6")
	r.dead(sid)
	c, res := r.dial(socketQuery+"&sid="+sid, "")
	if c != nil || res.StatusCode != http.StatusBadRequest {
		t.Errorf("upgrade of nothing: %d", res.StatusCode)
	}
}

// fakeLink notes what is written to it.
type fakeLink struct {
	mu      sync.Mutex
	pending bool
	notes   []string
}

func (l *fakeLink) take(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(b) > 0 {
		var p []byte
		p, _, b = ws.CutFrame(b)
		l.notes = append(l.notes, string(p))
	}
}

func (l *fakeLink) TryWrite(batch []fanout.Chunk) bool {
	for _, c := range batch {
		l.take(c.Bytes)
	}
	return l.pending
}
func (l *fakeLink) Stage(_ fanout.Outbox, batch []fanout.Chunk) bool { return l.TryWrite(batch) }
func (l *fakeLink) Control(frame []byte)                             { l.take(frame) }
func (l *fakeLink) Abort()                                           {}
func (l *fakeLink) Close(code wire.CloseCode, _ string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, fmt.Sprint("close ", code))
}

func (l *fakeLink) heard(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := strings.Join(l.notes, ","); got != strings.Join(want, ",") {
		t.Errorf("the websocket got %q, want %q", got, want)
	}
	l.notes = nil
}

// inTime runs a test of one polling session in virtual time.
func inTime(t *testing.T, test func(t *testing.T, s *Session, rec *recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var rec *recorder
		server := New(Config{}, ws.NewLoops(ws.Config{}), func(s *Session, o Opening) Handler {
			rec = newRecorder(s, o)
			return rec
		})
		s := newSession(server, &Opening{Admission: freely{}}, nil)
		s.begin(Opening{})
		test(t, s, rec)
		server.Shutdown(wire.CloseGoingAway)
		synctest.Wait()
		pass(server.cfg.LastWords)
		if n := server.Sessions(); n != 0 && s.conn == nil {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// ask polls and returns the answer, and after how long it came.
func ask(s *Session) (status int, body string, took time.Duration) {
	var ctx fasthttp.RequestCtx
	ctx.Init(new(fasthttp.Request), &net.TCPAddr{}, nil)
	began := time.Now()
	s.servePoll(&ctx)
	return ctx.Response.StatusCode(), string(ctx.Response.Body()), time.Since(began)
}

func TestHeartbeatByPolling(t *testing.T) {
	inTime(t, func(t *testing.T, s *Session, rec *recorder) {
		for range 3 {
			status, body, took := ask(s)
			if status != 200 || body != "2" || took != 25*time.Second {
				t.Errorf("got %d %s after %s", status, body, took)
			}
			pass(19 * time.Second)
			if !s.digest([]byte("3")) {
				t.Error("the pong was not taken")
			}
		}
		// A pong that comes before its ping was sent is none.
		pass(26 * time.Second)
		if s.digest([]byte("3")) {
			t.Error("a pong was taken for a ping that was not sent")
		}
		rec.expect(t, "gone 1002")
	})
}

func TestNoPongByPolling(t *testing.T) {
	inTime(t, func(t *testing.T, s *Session, rec *recorder) {
		if _, body, _ := ask(s); body != "2" {
			t.Errorf("got %s", body)
		}
		status, body, took := ask(s)
		if status != 200 || body != "1" || took != 20*time.Second {
			t.Errorf("got %d %s after %s", status, body, took)
		}
		rec.expect(t, "gone 4002")
		if status, _, _ := ask(s); status != 400 {
			t.Errorf("got %d", status)
		}
	})
}

func TestHeartbeatByWebSocket(t *testing.T) {
	inTime(t, func(t *testing.T, s *Session, rec *recorder) {
		link := &fakeLink{}
		k := s.offer(link)
		k.Message(false, []byte("2probe"))
		pass(9 * time.Second)
		s.TryWrite([]fanout.Chunk{chunk(true, "a")})
		k.Message(false, []byte("5"))
		rec.expect(t, "written")
		link.heard(t, "3probe", "4a")
		pass(17 * time.Second)
		link.heard(t, "2")
		k.Message(false, []byte("3"))
		pass(46 * time.Second)
		link.heard(t, "2", "close 4002")
		k.Gone()
		rec.expect(t, "gone 4002")
	})
}

// A ping that no poll has taken goes with the upgrade; so does a batch, and what the
// websocket does not take at once is written later.
func TestUpgradeTakesAllAlong(t *testing.T) {
	inTime(t, func(t *testing.T, s *Session, rec *recorder) {
		link := &fakeLink{pending: true}
		pass(26 * time.Second)
		s.TryWrite([]fanout.Chunk{chunk(true, "a")})
		k := s.offer(link)
		k.Message(false, []byte("2probe"))
		k.Message(false, []byte("5"))
		link.heard(t, "3probe", "2", "4a")
		k.Message(false, []byte("3"))
		s.Send([]byte("b"))
		link.heard(t)
		k.Written()
		link.heard(t, "4b")
		if len(rec.notes) > 0 {
			t.Errorf("told %s while the websocket writes", <-rec.notes)
		}
		k.Written()
		rec.expect(t, "written")
		if !s.TryWrite([]fanout.Chunk{chunk(true, "c")}) {
			t.Error("not pending")
		}
		link.pending = false
		s.Send([]byte("d"))
		k.Written()
		rec.expect(t, "written")
		link.heard(t, "4c", "4d")
		if s.Stage(nil, []fanout.Chunk{chunk(true, "e")}) {
			t.Error("pending")
		}
		link.heard(t, "4e")
		k.Closing(1000)
		k.Gone()
		rec.expect(t, "gone 1000")
	})
}

func TestUpgradeTimeout(t *testing.T) {
	inTime(t, func(t *testing.T, s *Session, _ *recorder) {
		link := &fakeLink{}
		k := s.offer(link)
		k.Message(false, []byte("2probe"))
		status, body, took := ask(s)
		if status != 200 || body != "6" || took != brief {
			t.Errorf("got %d %s after %s", status, body, took)
		}
		pass(9 * time.Second)
		link.heard(t, "3probe")
		pass(time.Second)
		link.heard(t, "close 1008")
		k.Message(false, []byte("5"))
		k.Gone()
		if !s.alive() || s.Transport() != "polling" {
			t.Error("the session did not outlive the upgrade")
		}
	})
}

func TestSetTimer(t *testing.T) {
	inTime(t, func(t *testing.T, s *Session, rec *recorder) {
		note := func(text string) func() { return func() { rec.notes <- text } }
		s.SetTimer(time.Second, note("first"))
		s.SetTimer(2*time.Second, note("second"))
		pass(3 * time.Second)
		rec.expect(t, "second")
		s.SetTimer(time.Second, note("third"))
		s.SetTimer(0, nil)
		s.SetTimer(time.Second, func() { s.Close(wire.ClosePolicy, "no connect") })
		pass(2 * time.Second)
		rec.expect(t, "gone 1008")
		s.SetTimer(time.Second, note("fourth"))
		pass(2 * time.Second)
		if len(rec.notes) > 0 {
			t.Errorf("told %s", <-rec.notes)
		}
	})
}

// Attacks leave nothing behind.
func TestNothingIsLeft(t *testing.T) {
	r := newRig(t, Config{LastWords: time.Millisecond})
	round := func() {
		for _, body := range []string{"abc", "3", "2", strings.Repeat("\x1e", 60000), "b!", "1", "4panic", "4close", "4" + strings.Repeat("x", 31<<10)} {
			sid, _ := r.begin()
			r.do("POST", poll+"&sid="+sid, body)
			r.newest().session.Close(wire.CloseSlow, "")
		}
		for _, text := range []string{"abc", "3", "1", "4panic", "\xff", "4close"} {
			c, rec := r.connect()
			c.say(text)
			for _, _, err := c.ws.ReadMessage(); err == nil; {
				_, _, err = c.ws.ReadMessage()
			}
			_ = c.ws.Close()
			sid, _ := r.begin()
			if c, _ := r.dial(socketQuery+"&sid="+sid, ""); c != nil {
				_ = c.ws.WriteMessage(websocket.TextMessage, []byte(text))
				_ = c.ws.Close()
			}
			r.newest().session.Close(wire.CloseSlow, "")
			_ = rec
		}
		eventually(t, func() bool { return r.server.Sessions() == 0 })
	}
	round()
	heap := func() int64 {
		var m runtime.MemStats
		r.client.CloseIdleConnections()
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	for range 5 {
		round()
	}
	if more := heap() - before; more > 1<<20 {
		t.Errorf("the heap grew by %d KiB", more>>10)
	}
	eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+5 })
}
