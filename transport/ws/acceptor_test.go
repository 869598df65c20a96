package ws

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
)

func TestCutFrame(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 65535, 65536, 70000}
	var frames []byte
	for i, n := range sizes {
		frames = AppendFrame(frames, i%2 == 1, bytes.Repeat([]byte{byte(i)}, n))
	}
	for i, n := range sizes {
		payload, binary, rest := CutFrame(frames)
		if len(payload) != n || binary != (i%2 == 1) || n > 0 && (payload[0] != byte(i) || payload[n-1] != byte(i)) {
			t.Fatalf("frame %d: %d bytes, binary %v", i, len(payload), binary)
		}
		frames = rest
	}
	if len(frames) != 0 {
		t.Errorf("%d bytes are left", len(frames))
	}
}

// parrot is a user that says what it hears.
type parrot struct {
	Link
	notes chan string
}

func (p *parrot) Message(binary bool, m []byte) {
	if string(m) == "panic" {
		panic("as told")
	}
	p.TryWrite([]fanout.Chunk{{Bytes: AppendFrame(nil, binary, m)}})
}
func (*parrot) Written()                   {}
func (p *parrot) Closing(c wire.CloseCode) { p.notes <- strconv.Itoa(int(c)) }
func (p *parrot) Gone()                    { p.notes <- "gone" }

func TestAcceptor(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg Config) {
		loops := NewLoops(cfg)
		a := NewAcceptor(cfg, 100, loops)
		notes := make(chan string, 16)
		open := func(l Link) User { return &parrot{l, notes} }
		g, err := gate.New(gate.Config{}, gate.Route{Method: "GET", Path: "/x", Endless: true, Serve: func(ctx *fasthttp.RequestCtx) {
			if string(ctx.QueryArgs().Peek("open")) == "panic" {
				a.Accept(ctx, func(Link) User { panic("as told") }, func() { notes <- "dropped" })
				return
			}
			a.Accept(ctx, open, func() { notes <- "dropped" })
		}})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := gate.Listen(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- g.Serve(ln) }()
		r := &rig{addr: ln.Addr().String()}
		head := strings.Replace(handshake, Path, "/x?a=b", 1)
		expect := func(want ...string) {
			t.Helper()
			for _, w := range want {
				if got := <-notes; got != w {
					t.Errorf("told %s, want %s", got, w)
				}
			}
		}

		p, status, h := r.dial(t, head+"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n")
		if status != 101 || h.Get("Sec-WebSocket-Extensions") != "" || h.Get("Sec-WebSocket-Protocol") != "" {
			t.Fatalf("status %d, %v", status, h)
		}
		p.send(append(frame(0x81, "text"), frame(0x82, "\xff\x00")...))
		if op, m, err := p.next(); op != opText || string(m) != "text" || err != nil {
			t.Errorf("got %d %q, %v", op, m, err)
		}
		if op, m, err := p.next(); op != opBinary || string(m) != "\xff\x00" || err != nil {
			t.Errorf("got %d %q, %v", op, m, err)
		}
		p.send(frame(0x88, "\x03\xe8"))
		expect("1000", "gone")

		p, _, _ = r.dial(t, head)
		p.send(frame(0x81, strings.Repeat("x", 101)))
		if code := p.closeCode(); code != int(wire.CloseTooBig) {
			t.Errorf("closed with %d", code)
		}
		expect("1009", "gone")
		p, _, _ = r.dial(t, head)
		p.send(frame(0x81, "panic"))
		if code := p.closeCode(); code != int(wire.CloseInternal) {
			t.Errorf("closed with %d", code)
		}
		expect("1011", "gone")
		if _, status, _ := r.dial(t, strings.Replace(head, "13\r\n", "12\r\n", 1)); status != 426 {
			t.Errorf("status %d", status)
		}
		expect("dropped")
		p, _, _ = r.dial(t, strings.Replace(head, "a=b", "open=panic", 1))
		if _, _, err := p.next(); err == nil {
			t.Error("a connection without user is open")
		}
		expect("dropped")

		short, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		a.Enter()
		a.Leave()
		if err := a.Wait(short); err != nil {
			t.Error(err)
		}
		_ = g.Shutdown(short)
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
