package engineio

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/ws"
)

// room is an admission that counts.
type room struct{ taken atomic.Int64 }

func (r *room) Release() { r.taken.Add(-1) }

func chunk(shared bool, packets ...string) fanout.Chunk {
	var b []byte
	for _, p := range packets {
		b = append(AppendHead(b, len(p)), p...)
	}
	return fanout.Chunk{Bytes: b, Shared: shared}
}

func TestPollMessages(t *testing.T) {
	r := newRig(t, Config{})
	sid, rec := r.begin()
	r.post(sid, "4hello", 200, "ok")
	rec.expect(t, "text hello")
	r.post(sid, "4a\x1ebAQIDBA==\x1e4€\x1e4", 200, "ok")
	rec.expect(t, "text a")
	rec.expect(t, "binary \x01\x02\x03\x04")
	rec.expect(t, "text €")
	rec.expect(t, "text ")
	r.post(sid, "4echo1\x1e4echo2", 200, "ok")
	r.get(sid, 200, "4echo1\x1e4echo2")
	rec.session.SendBinary([]byte{1, 2, 3, 4})
	rec.session.Send([]byte(strings.Repeat("x", 70<<10)))
	r.get(sid, 200, "bAQIDBA==\x1e4"+strings.Repeat("x", 70<<10))
	_, _, h := r.do("POST", poll+"&sid="+sid, "4echo")
	if got := h.Get("Content-Type"); got != postType {
		t.Errorf("content type %s", got)
	}
	r.get(sid, 200, "4echo")
}

func TestPollWrites(t *testing.T) {
	r := newRig(t, Config{})
	sid, rec := r.begin()
	own := chunk(false, "a", "b")
	if !rec.session.TryWrite([]fanout.Chunk{own, chunk(true, "c"), chunk(false, "d")}) {
		t.Error("a poll that is not there took the batch")
	}
	clear(own.Bytes) // it was lent only
	r.get(sid, 200, "4a\x1e4b\x1e4c\x1e4d")
	rec.expect(t, "written")
	held := r.held(rec, sid)
	rec.session.Stage(nil, []fanout.Chunk{chunk(true, "e")})
	if got := <-held; got != "200 4e" {
		t.Errorf("got %s", got)
	}
	rec.expect(t, "written")
}

// What a client must not send ends its session.
func TestBadPosts(t *testing.T) {
	r := newRig(t, Config{MaxPayload: 16 << 10}) // the gate's own limit is 32 KiB
	f := func(body, gone string) {
		t.Helper()
		sid, rec := r.begin()
		held := r.held(rec, sid)
		r.post(sid, body, 400, isBad)
		rec.expect(t, gone)
		if got := <-held; got != "200 1" {
			t.Errorf("%.20q: the poll got %s", body, got)
		}
		r.dead(sid)
	}
	f("", "gone 1002")
	f("abc", "gone 1002")
	f("7", "gone 1002")
	f("0{}", "gone 1002")
	f("2", "gone 1002") // version 3's heartbeat
	f("2probe", "gone 1002")
	f("3", "gone 1002") // nobody asked
	f("5", "gone 1002")
	f("6", "gone 1002")
	f("4a\x1e", "gone 1002")
	f("4\xff", "gone 1002")
	f("bAQ=ID", "gone 1002")
	f("b\n", "gone 1002")
	f(strings.Repeat("\x1e", 10000), "gone 1002")
	f(strings.Repeat("4\x1e", 128)+"4", "gone 1002")

	tooLong := func(n int) {
		t.Helper()
		sid, rec := r.begin()
		status, _, h := r.do("POST", poll+"&sid="+sid, "4"+strings.Repeat("x", n), "Origin", "http://"+r.addr)
		if status != 413 || h.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("%d bytes: %d", n, status)
		}
		rec.expect(t, "gone 1009")
		r.dead(sid)
	}
	tooLong(16 << 10)
	tooLong(32 << 10)  // the gate reads no more
	tooLong(200 << 10) // of more the answer may be lost: the gate hangs up

	sid, rec := r.begin()
	if status, body, _ := r.do("POST", poll+"&sid="+sid, "4x", "Content-Type", "application/octet-stream"); status != 400 || body != isBad {
		t.Errorf("got %d %s", status, body)
	}
	rec.expect(t, "gone 1003")
	r.dead(sid)
}

func TestOverlap(t *testing.T) {
	r := newRig(t, Config{})
	sid, rec := r.begin()
	held := r.held(rec, sid)
	r.get(sid, 400, isBad)
	if got := <-held; got != "200 1" {
		t.Errorf("the first poll got %s", got)
	}
	rec.expect(t, "gone 1008")
	r.dead(sid)

	sid, rec = r.begin()
	rec.session.calls.Lock() // the handler is slow
	first := make(chan struct{})
	go func() {
		defer close(first)
		r.post(sid, "4x", 400, isBad)
	}()
	eventually(t, func() bool {
		rec.session.mu.Lock()
		defer rec.session.mu.Unlock()
		return rec.session.posting
	})
	r.post(sid, "4y", 400, isBad)
	rec.session.calls.Unlock()
	<-first
	rec.expect(t, "gone 1008")
	r.dead(sid)
}

func TestPollEnds(t *testing.T) {
	r := newRig(t, Config{})
	// The client closes: a poll that is held learns that it may stop, else the next one.
	sid, rec := r.begin()
	held := r.held(rec, sid)
	r.post(sid, "4a\x1e1\x1e4b", 200, "ok")
	rec.expect(t, "text a")
	rec.expect(t, "gone 1000")
	if got := <-held; got != "200 6" {
		t.Errorf("got %s", got)
	}
	r.dead(sid)
	sid, _ = r.begin()
	r.post(sid, "1", 200, "ok")
	r.get(sid, 200, "6")
	r.get(sid, 400, isUnknown)

	// The layer above closes.
	sid, rec = r.begin()
	held = r.held(rec, sid)
	rec.session.Close(wire.CloseSlow, "")
	if got := <-held; got != "200 1" {
		t.Errorf("got %s", got)
	}
	rec.expect(t, "gone 4000")
	r.dead(sid)
	sid, rec = r.begin()
	r.post(sid, "4close\x1e4after", 400, isBad)
	rec.expect(t, "gone 4505")
	r.post(sid, "4x", 400, isUnknown)
	r.get(sid, 200, "4bye\x1e1")
	r.dead(sid)
	sid, rec = r.begin()
	rec.session.Abort()
	rec.expect(t, "gone 1011")
	r.dead(sid)
	if rec.session.TryWrite([]fanout.Chunk{chunk(true, "x")}); len(rec.session.out) > 0 {
		t.Error("a session that is over keeps what is written")
	}
	rec.session.Send([]byte("x"))
	rec.session.Close(wire.CloseSlow, "")

	// A panic above ends one session.
	other, _ := r.begin()
	sid, rec = r.begin()
	r.post(sid, "4panic", 400, isBad)
	rec.expect(t, "gone 1011")
	r.dead(sid)
	r.post(other, "4x", 200, "ok")
}

func TestPollsAreBounded(t *testing.T) {
	r := newRig(t, Config{Polls: 1})
	one, rec := r.begin()
	other, _ := r.begin()
	held := r.held(rec, one)
	status, _, h := r.do("GET", poll+"&sid="+other, "")
	if status != 503 || h.Get("Retry-After") != "1" {
		t.Errorf("got %d", status)
	}
	r.post(other, "4echo", 200, "ok")
	r.get(other, 200, "4echo") // what need not wait needs no room
	rec.session.Send([]byte("x"))
	if got := <-held; got != "200 4x" {
		t.Errorf("got %s", got)
	}
	held = r.held(r.newest(), other)
	r.newest().session.Send([]byte("y"))
	if got := <-held; got != "200 4y" {
		t.Errorf("got %s", got)
	}
}

func TestSendIsBounded(t *testing.T) {
	r := newRig(t, Config{MaxPayload: 1000})
	sid, rec := r.begin()
	for range 30 {
		rec.session.Send(make([]byte, 100))
	}
	rec.expect(t, "gone 4000")
	r.dead(sid)
}

func TestLastWordsAreBounded(t *testing.T) {
	r := newRig(t, Config{Polls: 1})
	first, _ := r.begin()
	second, _ := r.begin()
	r.post(first, "1", 200, "ok")
	r.post(second, "1", 200, "ok")
	r.dead(second)
	r.get(first, 200, "6")
}

func TestOpenPanics(t *testing.T) {
	r := newRig(t, Config{})
	r.server.open = func(*Session, Opening) Handler { panic("as told") }
	if status, _, _ := r.do("GET", poll, ""); status != 500 {
		t.Errorf("got %d", status)
	}
	c, _ := r.dial(socketQuery, "")
	c.closed(int(wire.CloseInternal))
	eventually(t, func() bool { return r.server.Sessions() == 0 })
}

// FuzzPost gives a session any body: it is taken, or the session ends.
func FuzzPost(f *testing.F) {
	for _, seed := range []string{"4hello", "4a\x1ebAQIDBA==", "1", "3", "", "\x1e", "4close", "4echo\x1e1\x1e4panic", "5"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s := New(Config{}, ws.NewLoops(ws.Config{}), func(s *Session, o Opening) Handler { return newRecorder(s, o) })
		one := newSession(s, &Opening{Admission: freely{}}, nil)
		one.begin(Opening{})
		if refuse := one.beginPost(nil, len(body)); refuse != nil {
			t.Fatal("an idle session refused a POST")
		}
		if taken := one.digest(body); !taken && one.alive() || taken && !one.alive() && one.code != wire.CloseNormal {
			t.Errorf("%q: taken %v, session alive %v with code %d", body, taken, one.alive(), one.code)
		}
		s.Shutdown(wire.CloseGoingAway)
		short := time.AfterFunc(10*time.Second, func() { panic("a session does not end") })
		defer short.Stop()
		if err := s.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
