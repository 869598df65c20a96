package ws

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// within waits for the last connection in virtual time and tells how it ended.
func within(t *testing.T, s *Server, limit time.Duration) (took time.Duration, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	begin := time.Now()
	err = s.Wait(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return time.Since(begin), err
}

func TestWaitHonoursItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quiet(t, fanout.Config{})
		f := func(left string, took time.Duration) {
			t.Helper()
			d, err := within(t, s, 3*time.Second)
			if d != took || left == "" && err != nil || left != "" && (err == nil || !strings.Contains(err.Error(), "last "+left+" stream")) {
				t.Fatalf("after %s: %v", d, err)
			}
		}
		f("", 0)
		a, b := pipe(t, s), pipe(t, s)
		f("2", 3*time.Second)
		_ = a.nc.Close()
		synctest.Wait()
		f("1", 3*time.Second)
		go func() { <-time.After(time.Second); _ = b.nc.Close() }()
		f("", time.Second)
		f("", 0)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Wait(over); err != nil {
			t.Fatalf("nobody is there: %v", err)
		}
	})
}

// TestLateHandshake hands a connection over after Shutdown gave up on it, while
// somebody waits.
func TestLateHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quiet(t, fanout.Config{})
		lease, err := s.admit(netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_ = s.hub.Shutdown(ctx, wire.CloseRestart)
		if _, err := s.admit(netip.Addr{}); err != fanout.ErrDraining {
			t.Fatal(err)
		}
		if err := s.Wait(ctx); err == nil {
			t.Fatal("an admitted handshake was forgotten")
		}
		waited := make(chan error, 1)
		go func() { waited <- s.Wait(context.Background()) }()
		mine, theirs := net.Pipe()
		s.start(theirs, lease, terms{})
		p := &peer{t: t, nc: mine, br: bufio.NewReader(mine)}
		p.text()
		if m := p.text(); !strings.HasPrefix(m, `{"type":"drain"`) {
			t.Fatalf("got %s", m)
		}
		if op, payload, _ := p.next(); op != opClose || !bytes.HasPrefix(payload, []byte{0x03, 0xf4}) {
			t.Fatalf("got %x % x", op, payload)
		}
		synctest.Wait()
		select {
		case <-waited:
			t.Fatal("did not wait for the connection")
		default:
		}
		p.send(closing(1012, ""))
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, mine)
	})
}

// TestForgottenHandshake never hands an upgraded request over: its answer could
// not be written.
func TestForgottenHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quiet(t, fanout.Config{})
		var req fasthttp.Request
		if err := req.Read(bufio.NewReader(strings.NewReader(handshake + "\r\n"))); err != nil {
			t.Fatal(err)
		}
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, nil, nil)
		s.Serve(&ctx)
		if status := ctx.Response.StatusCode(); status != fasthttp.StatusSwitchingProtocols || s.hub.Stats().Connections != 1 {
			t.Fatalf("status %d", status)
		}
		if d, err := within(t, s, time.Minute); d != leaseWait || err != nil || s.hub.Stats().Connections != 0 {
			t.Fatalf("after %s: %v", d, err)
		}
	})
}

// TestHandoverPanics wants the count and the lease back.
func TestHandoverPanics(t *testing.T) {
	s := quiet(t, fanout.Config{})
	lease, err := s.admit(netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	_, theirs := net.Pipe()
	func() {
		defer s.rescue(theirs, lease)
		panic("boom")
	}()
	gone(t, s)
	if n := s.hub.Stats().Connections; n != 0 {
		t.Fatalf("%d connections", n)
	}
}

type nobody struct{}

func (nobody) Board() *market.Board { return nil }

// TestAttachPanics lets Attach panic after the loop took the connection: a hub
// without a market has nothing to attach to.
func TestAttachPanics(t *testing.T) { eachBackend(t, testAttachPanics) }

func testAttachPanics(t *testing.T, cfg Config) {
	t.Helper()
	ready := quiet(t, fanout.Config{}).hub
	s := New(cfg, fanout.New(fanout.Config{}, nobody{}))
	lease, err := ready.Admit(fanout.Visitor{})
	if err != nil {
		t.Fatal(err)
	}
	s.conns.enter()
	mine, theirs := tcpPair(t)
	func() {
		defer s.rescue(theirs, lease)
		s.start(theirs, lease, terms{})
	}()
	_ = mine.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(mine); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v", b, err)
	}
	gone(t, s)
	if err := ready.Shutdown(t.Context(), wire.CloseGoingAway); err != nil {
		t.Error(err)
	}
}
