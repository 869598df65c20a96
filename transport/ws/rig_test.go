package ws

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/gate"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

type boards struct{ m *wiretest.Market }

func (b boards) Board() *market.Board { return b.m.Board() }

// rig is a whole server on loopback.
type rig struct {
	m    *wiretest.Market
	hub  *fanout.Hub
	ws   *Server
	addr string
}

// gathering gives the rigs rings of io_uring: those of a backend, or all of them
// where VELOCIMETER_TEST_IO_URING is set.
var gathering bool

func outbox() fanout.Outbox {
	if !gathering && os.Getenv("VELOCIMETER_TEST_IO_URING") == "" {
		return nil
	}
	r, err := loop.NewRing(func(error) {})
	if err != nil {
		return nil
	}
	return r
}

func newRig(t *testing.T, cfg Config, hubCfg fanout.Config) *rig {
	t.Helper()
	r := &rig{m: wiretest.NewMarket(1, 50)}
	hubCfg.Outbox = outbox
	r.hub = fanout.New(hubCfg, boards{r.m})
	r.ws = New(cfg, r.hub)
	g, err := gate.New(gate.Config{}, r.ws.Route())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := gate.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln) }()
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { r.hub.Run(ctx); close(ran) }()
	t.Cleanup(func() {
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.hub.Shutdown(short, wire.CloseGoingAway)
		gone(t, r.ws)
		stop()
		<-ran
		_ = g.Shutdown(context.Background())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

// eachBackend runs a test with event loops, where there are any, and with goroutines.
func eachBackend(t *testing.T, test func(*testing.T, Config)) {
	t.Helper()
	t.Run("loops", func(t *testing.T) { test(t, Config{}) })
	t.Run("io_uring", func(t *testing.T) {
		defer func(was bool) { gathering = was }(gathering)
		gathering = true
		test(t, Config{})
	})
	t.Run("goroutines", func(t *testing.T) { test(t, Config{Goroutines: true}) })
}

const handshake = "GET /api/v1/stream HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// peer is a client that speaks raw bytes.
type peer struct {
	t  *testing.T
	nc net.Conn
	br *bufio.Reader
}

// dial sends a handshake with extra header lines and returns the answer.
func (r *rig) dial(t *testing.T, head string) (*peer, int, http.Header) {
	t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(nc, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, nc: nc, br: bufio.NewReader(nc)}
	method, _, _ := strings.Cut(head, " ")
	res, err := http.ReadResponse(p.br, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return p, res.StatusCode, res.Header
}

// open dials and takes hello.
func (r *rig) open(t *testing.T) *peer {
	t.Helper()
	p, status, _ := r.dial(t, handshake)
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", status)
	}
	if hello := p.text(); !strings.HasPrefix(hello, `{"type":"hello"`) {
		t.Fatalf("got %s", hello)
	}
	return p
}

// pipe starts a connection on one end of a pipe, for tests in virtual time.
func pipe(t *testing.T, s *Server) *peer {
	t.Helper()
	lease, err := s.admit(netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := net.Pipe()
	s.start(theirs, lease, terms{})
	return &peer{t: t, nc: mine, br: bufio.NewReader(mine)}
}

// frame returns one masked frame with first as its first byte.
func frame(first byte, payload string) []byte {
	out := []byte{first}
	switch n := len(payload); {
	case n <= maxControl:
		out = append(out, 0x80|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0x9a, 0, 0xff}
	out = append(out, mask[:]...)
	for i := range len(payload) {
		out = append(out, payload[i]^mask[i&3])
	}
	return out
}

func (p *peer) send(b []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) say(format string, args ...any) {
	p.t.Helper()
	p.send(frame(0x81, fmt.Sprintf(format, args...)))
}

// next reads one server frame.
func (p *peer) next() (op byte, payload []byte, err error) {
	var head [10]byte
	if _, err = io.ReadFull(p.br, head[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch {
	case head[0]&0x70 != 0 || head[1]&0x80 != 0 || head[0]&0x80 == 0:
		return 0, nil, fmt.Errorf("frame begins % x", head[:2])
	case n == 126:
		_, err = io.ReadFull(p.br, head[2:4])
		n = uint64(binary.BigEndian.Uint16(head[2:]))
	case n == 127:
		_, err = io.ReadFull(p.br, head[2:10])
		n = binary.BigEndian.Uint64(head[2:])
	}
	if err == nil {
		payload = make([]byte, n)
		_, err = io.ReadFull(p.br, payload)
	}
	return head[0] & 0x0f, payload, err
}

// text reads the next text message, skipping pings and pongs.
func (p *peer) text() string {
	p.t.Helper()
	for {
		op, payload, err := p.next()
		if err != nil {
			p.t.Fatal(err)
		}
		switch op {
		case opText:
			return string(payload)
		case opClose:
			p.t.Fatalf("closed % x %s", payload[:2], payload[2:])
		}
	}
}

// closeCode reads until the close frame, and then until the connection ends.
func (p *peer) closeCode() int {
	code := 0
	for {
		op, payload, err := p.next()
		if err != nil {
			return code
		}
		if op == opClose && len(payload) >= 2 {
			code = int(binary.BigEndian.Uint16(payload))
		}
	}
}

// gone waits for the last connection; every test's connections end by themselves.
func gone(tb testing.TB, s *Server) {
	tb.Helper()
	if err := s.Wait(context.Background()); err != nil {
		tb.Error(err)
	}
}
