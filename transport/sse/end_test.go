package sse

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// virtually runs a test with a server of five tokens and its hub in virtual time.
func virtually(t *testing.T, cfg Config, hub fanout.Config, test func(*testing.T, *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, fanout.New(hub, boards{wiretest.NewMarket(1, 5)}), loop.NewGroup(loop.Config{}))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() { s.hub.Run(ctx); close(ran) }()
		test(t, s)
		if err := s.hub.Shutdown(ctx, wire.CloseGoingAway); err != nil { // of nobody
			t.Error(err)
		}
		cancel()
		<-ran
	})
}

// rest reads the stream to its end and returns its last comment.
func (s *stream) rest() string {
	text, _ := io.ReadAll(s.br)
	_, last, _ := strings.Cut(string(text[max(0, len(text)-100):]), ": closed, ")
	return strings.TrimSuffix(last, "\n\n")
}

func TestHeartbeats(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(t *testing.T, s *Server) {
		p, _ := pipe(t, s, "quote")
		p.skipHead()
		for e := p.next(); !e.hasID; e = p.next() {
		}
		for range 4 {
			begin := time.Now()
			e := p.next()
			if d := time.Since(begin); e.name != "heartbeat" || e.comments != 1 || e.hasID || d < 14*time.Second || d > 16*time.Second {
				t.Fatalf("%+v after %s", e, d)
			}
		}
		_ = p.nc.Close()
	})
}

// TestLifetime sends the client away and lets it come back.
func TestLifetime(t *testing.T) {
	virtually(t, Config{Lifetime: time.Minute, Retry: time.Second}, fanout.Config{}, func(t *testing.T, s *Server) {
		begin := time.Now()
		p, _ := pipe(t, s, "quote")
		p.skipHead()
		e := p.next()
		for ; e.name != "drain"; e = p.next() {
		}
		if d := time.Since(begin); d < time.Minute || d > 66*time.Second || e.retry < 500 || e.comments != 0 {
			t.Fatalf("%+v after %s", e, d)
		}
		if end := p.rest(); end != "1012 server restarts" {
			t.Fatalf("got %q", end)
		}
		_ = p.nc.Close()
	})
}

// TestNobodyReads meets the deadlines of a peer that takes nothing: of the head,
// and of what comes after it.
func TestNobodyReads(t *testing.T) {
	f := func(from, to time.Duration, closed int, prepare func(*stream)) {
		t.Helper()
		virtually(t, Config{}, fanout.Config{}, func(t *testing.T, s *Server) {
			begin := time.Now()
			p, started := pipe(t, s, "full")
			prepare(p)
			<-started
			for s.hub.Stats().Connections > 0 {
				<-time.After(time.Second / 10)
			}
			if d := time.Since(begin); d < from || d > to {
				t.Errorf("gone after %s", d)
			}
			if n := s.hub.Stats().ClosedBy[wire.CloseSlow]; n != uint64(closed) {
				t.Errorf("%d closed as slow", n)
			}
			_ = p.nc.Close()
		})
	}
	f(headWait, headWait+time.Second, 0, func(*stream) {})
	f(30*time.Second, 37*time.Second, 1, (*stream).skipHead)
	f(30*time.Second, 37*time.Second, 1, func(p *stream) {
		p.skipHead()
		p.next()
		_, _ = io.ReadFull(p.br, make([]byte, 100))
	})
}

// TestReadsOn stops until the hub gives it up and then reads on: the event that
// is begun comes to its end, then the last comment.
func TestReadsOn(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(t *testing.T, s *Server) {
		p, _ := pipe(t, s, "full")
		p.skipHead()
		p.br = nil
		some := make([]byte, 100)
		if _, err := io.ReadFull(p.nc, some); err != nil {
			t.Fatal(err)
		}
		<-time.After(33 * time.Second)
		text, _ := io.ReadAll(p.nc)
		all := string(some) + string(text)
		if strings.Count(all, "\n\n") != 2 || !strings.Contains(all, "\n\n: closed, 4000 reading too slowly; resume since ") {
			t.Fatalf("got %q", all)
		}
		_ = p.nc.Close()
	})
}

// TestForgotten never hands an admitted request over.
func TestForgotten(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(t *testing.T, s *Server) {
		var req fasthttp.Request
		if err := req.Read(bufio.NewReader(strings.NewReader(get("live")))); err != nil {
			t.Fatal(err)
		}
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, nil, nil)
		begin := time.Now()
		s.serve(&ctx, "")
		if !ctx.Hijacked() || s.hub.Stats().Connections != 1 {
			t.Fatalf("status %d", ctx.Response.StatusCode())
		}
		if err := s.hub.Shutdown(t.Context(), wire.CloseGoingAway); err != nil || time.Since(begin) != leaseWait {
			t.Fatalf("%v after %s", err, time.Since(begin))
		}
	})
}

// TestLateHandover begins a stream after Shutdown gave it up.
func TestLateHandover(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(t *testing.T, s *Server) {
		lease, err := s.hub.Admit(fanout.Visitor{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_ = s.hub.Shutdown(ctx, wire.CloseRestart)
		r, _ := decode(nil, 1)
		mine, theirs := net.Pipe()
		go s.start(theirs, lease, r, s.head("test"))
		p := &stream{t: t, nc: mine, br: bufio.NewReader(mine)}
		p.skipHead()
		if first, second := p.next(), p.next(); first.name != "subscribed" || second.name != "drain" {
			t.Fatalf("got %+v %+v", first, second)
		}
		if end := p.rest(); end != "1012 server restarts" {
			t.Fatalf("got %q", end)
		}
	})
}

// TestTokenGoesAway begins a stream of a token that the hub knows no more.
func TestTokenGoesAway(t *testing.T) {
	r := newRig(t, options{sse: Config{Find: func(string) *market.Snapshot { return &market.Snapshot{ID: 9999} }}})
	s := r.open(t, "9999/live")
	if e := s.next(); e.name != "error" || !strings.Contains(e.data, `"code":"unknown_token"`) {
		t.Fatalf("got %+v", e)
	}
	if e := s.next(); e.name != "drain" {
		t.Fatalf("got %+v", e)
	}
	if end := s.rest(); end != "1012 server restarts" {
		t.Fatalf("got %q", end)
	}
}

// poisoned panics when the lifetime is over.
type poisoned struct{ detached chan struct{} }

func (p *poisoned) Written()               {}
func (p *poisoned) Leave(wire.CloseCode)   { panic("boom") }
func (p *poisoned) Closing(wire.CloseCode) {}
func (p *poisoned) Detach()                { close(p.detached) }

// TestPanics wants them to end one stream and nothing else.
func TestPanics(t *testing.T) {
	r := newRig(t, options{sse: Config{Find: func(text string) *market.Snapshot {
		if text == "bad" {
			panic("boom")
		}
		return &market.Snapshot{ID: 1}
	}}})
	good := r.open(t, "1/live")
	if s, res := r.dial(t, get("bad/live")); res.StatusCode != http.StatusInternalServerError {
		t.Fatalf("status %d", res.StatusCode)
	} else if _, err := s.read(); err == nil {
		t.Fatal("goes on")
	}
	for _, cfg := range []loop.Config{{}, {Goroutines: true}} {
		s := New(Config{}, r.hub, loop.NewGroup(cfg))
		mine, theirs := tcpPair(t)
		c := &conn{server: s, session: &poisoned{make(chan struct{})}}
		s.loops.Open(&c.Conn, theirs, c)
		c.SetTimer(time.Millisecond)
		c.Start()
		if text, err := io.ReadAll(mine); string(text) != ": closed, 1011 internal error\n\n" || err != nil {
			t.Fatalf("got %q %v", text, err)
		}
		if bad, ok := c.session.(*poisoned); ok {
			<-bad.detached
		}
	}
	if e := good.next(); e.name != "subscribed" {
		t.Fatalf("got %+v", e)
	}
	if n := r.hub.Stats().Connections; n != 1 {
		t.Fatalf("%d connections", n)
	}
}

// TestHandoverPanics lets Attach panic after the loop took the connection: a hub
// without a market has nothing to attach to.
func TestHandoverPanics(t *testing.T) {
	ready := fanout.New(fanout.Config{}, boards{wiretest.NewMarket(1, 5)})
	s := New(Config{}, fanout.New(fanout.Config{}, nobody{}), loop.NewGroup(loop.Config{}))
	lease, err := ready.Admit(fanout.Visitor{})
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := tcpPair(t)
	s.start(theirs, lease, new(wire.Request), s.head("test"))
	_, _ = io.ReadAll(mine)
	if err := ready.Shutdown(t.Context(), wire.CloseGoingAway); err != nil {
		t.Fatal(err)
	}
}

func tcpPair(t *testing.T) (dialed, served net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if dialed, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialed.Close() })
	_ = dialed.SetDeadline(time.Now().Add(20 * time.Second))
	if served, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return dialed, served
}
