package ws

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/fanout/loop"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

func TestHandshake(t *testing.T) { eachBackend(t, testHandshake) }

func testHandshake(t *testing.T, cfg Config) {
	t.Helper()
	cfg.Origins = []string{"https://dash.test"}
	r := newRig(t, cfg, fanout.Config{})
	f := func(status int, change ...string) http.Header {
		t.Helper()
		head := handshake
		if len(change) == 2 {
			if head = strings.Replace(handshake, change[0], change[1], 1); head == handshake {
				t.Fatalf("%q is not in the handshake", change[0])
			}
		} else if len(change) == 1 {
			head += change[0] + "\r\n"
		}
		p, got, header := r.dial(t, head)
		if got != status {
			t.Fatalf("%q: status %d, not %d", change, got, status)
		}
		if status == 101 {
			if header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
				t.Fatalf("got %v", header)
			}
			p.text()
		} else if ct := header.Get("Content-Type"); ct != "application/problem+json" {
			t.Fatalf("content type %q", ct)
		}
		if status == 426 && (header.Get("Upgrade") != "websocket" || header.Get("Connection") != "Upgrade" || header.Get("Sec-WebSocket-Version") != "13") {
			t.Fatalf("%q: got %v", change, header)
		}
		return header
	}
	key := func(raw string) string { return "Key: " + base64.StdEncoding.EncodeToString([]byte(raw)) + "\r\n" }
	const was = "Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	f(101)
	f(101, "Connection: Upgrade", "Connection: keep-alive, upgrade")
	f(101, "Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade")
	f(101, "Upgrade: websocket", "Upgrade: WebSocket")
	f(101, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
	if res := f(101, "Sec-WebSocket-Protocol: other, velocimeter.v1.json"); res.Get("Sec-WebSocket-Protocol") != "velocimeter.v1.json" {
		t.Fatalf("got %v", res)
	}
	f(101, "Sec-WebSocket-Protocol: other\r\nSec-WebSocket-Protocol: velocimeter.v1.json")
	const both = "Sec-WebSocket-Protocol: velocimeter.v1.bin, velocimeter.v1.json\r\nSec-WebSocket-Extensions: permessage-deflate"
	if res := f(101, both); res.Get("Sec-WebSocket-Protocol") != "velocimeter.v1.bin" || res.Get("Sec-WebSocket-Extensions") != "" {
		t.Fatalf("got %v", res)
	}
	f(400, "Sec-WebSocket-Protocol: velocimeter.v1.jso")
	f(400, "Sec-WebSocket-Protocol: ")
	f(426, "Upgrade: websocket\r\n", "")
	f(426, "Connection: Upgrade\r\n", "")
	f(426, "Upgrade: websocket", "Upgrade: h2c")
	f(426, "Version: 13", "Version: 8")
	f(426, "Version: 13", "Version: 13, 8")
	f(426, "Sec-WebSocket-Version: 13\r\n", "")
	f(426, "Sec-WebSocket-Version: 13")
	f(400, was, "Key: x\r\n")
	f(400, was, "Key: \r\n")
	f(400, was, key("fifteen bytes !"))
	f(400, was, key("seventeen bytes !"))
	f(400, "Sec-WebSocket-"+was, "")
	f(400, "Sec-WebSocket-"+strings.TrimSpace(was))
	for _, method := range []string{"HEAD", "POST"} {
		if res := f(405, "GET", method); res.Get("Allow") != "GET, OPTIONS" {
			t.Fatalf("%s: got %v", method, res)
		}
	}
	f(400, "HTTP/1.1", "HTTP/1.0")
	f(400, "stream HTTP", "stream?key=1 HTTP")
	f(101, "Origin: http://x.test")
	f(101, "Origin: http://x.test:80")
	f(101, "Origin: https://X.test")
	f(101, "Origin: https://dash.test")
	for _, origin := range []string{
		"null", "http://evil.test", "http://x.test.evil.test", "http://evilx.test", "http://x.test:81", "ftp://x.test", "http://x.test/a",
		"http://u@x.test", "https://dash.test:444", "x.test", "//x.test",
	} {
		f(403, "Origin: "+origin)
	}
	f(403, "Origin: http://x.test\r\nOrigin: http://x.test")
}

func TestAdmission(t *testing.T) {
	f := func(cfg fanout.Config, status int, prepare func(*rig)) {
		t.Helper()
		r := newRig(t, Config{}, cfg)
		prepare(r)
		p, got, header := r.dial(t, handshake)
		if got != status || header.Get("Retry-After") == "" {
			t.Fatalf("status %d %v", got, header)
		}
		_ = p.nc.Close()
	}
	f(fanout.Config{Connections: 1}, 503, func(r *rig) { r.open(t) })
	f(fanout.Config{}, 503, func(r *rig) { _ = r.hub.Shutdown(context.Background(), wire.CloseGoingAway) })
}

// TestAttacks sends the table over the network and wants the code in the close
// frame, and a server that goes on serving.
func TestAttacks(t *testing.T) { eachBackend(t, testAttacks) }

func testAttacks(t *testing.T, cfg Config) {
	t.Helper()
	r := newRig(t, cfg, fanout.Config{})
	for _, a := range attacks {
		p := r.open(t)
		p.send(a.bytes)
		want := a.code
		if want == 0 {
			p.send(closing(1000, ""))
			want = 1000
		}
		if code := p.closeCode(); code != want {
			t.Errorf("%s: closed %d, not %d", a.name, code, want)
		}
		_ = p.nc.Close()
	}
	r.open(t).say(ping)
	by := r.hub.Stats().ClosedBy
	for _, code := range []wire.CloseCode{1000, 1002, 1003, 1007, 1008, 1009} {
		n := uint64(0)
		for _, a := range attacks {
			if wire.CloseCode(max(a.code, 1000)) == code {
				n++
			} else if code == wire.CloseNormal && (a.code == 1001 || a.code >= 3000) {
				n++ // the client's own
			}
		}
		if by[code] != n {
			t.Errorf("counted %d closes of %d, not %d", by[code], code, n)
		}
	}
}

func TestPong(t *testing.T) { eachBackend(t, testPong) }

func testPong(t *testing.T, cfg Config) {
	t.Helper()
	p := newRig(t, cfg, fanout.Config{}).open(t)
	p.send(frame(0x89, "are you there"))
	if op, payload, err := p.next(); op != opPong || string(payload) != "are you there" || err != nil {
		t.Fatalf("got %x %s %v", op, payload, err)
	}
	p.send(join(frame(0x01, `{"op":"pi`), frame(0x89, ""), frame(0x80, `ng","id":"1"}`)))
	if op, payload, _ := p.next(); op != opPong || len(payload) != 0 {
		t.Fatalf("got %x %s", op, payload)
	}
	if m := p.text(); !strings.HasPrefix(m, `{"type":"pong","id":"1",`) {
		t.Fatalf("got %s", m)
	}
}

// TestEarlyBytes sends a message in the same packet as the handshake.
func TestEarlyBytes(t *testing.T) { eachBackend(t, testEarlyBytes) }

func testEarlyBytes(t *testing.T, cfg Config) {
	t.Helper()
	r := newRig(t, cfg, fanout.Config{})
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	rest := frame(0x81, `{"op":"ping","id":"second"}`)
	_, _ = nc.Write(join([]byte(handshake+"\r\n"), frame(0x81, `{"op":"ping","id":"early"}`), rest[:9]))
	_, _ = nc.Write(rest[9:])
	var got bytes.Buffer
	buf := make([]byte, 4096)
	for !bytes.Contains(got.Bytes(), []byte(`"second"`)) {
		n, err := nc.Read(buf)
		if err != nil {
			t.Fatalf("%v after %s", err, got.Bytes())
		}
		got.Write(buf[:n])
	}
	if !bytes.Contains(got.Bytes(), []byte(`"id":"early"`)) {
		t.Fatalf("got %s", got.Bytes())
	}
}

// TestReplicas runs real clients against a market in full swing and compares
// them with the board at the end.
func TestReplicas(t *testing.T) { eachBackend(t, testReplicas) }

func testReplicas(t *testing.T, cfg Config) {
	t.Helper()
	r := newRig(t, cfg, fanout.Config{Batch: 8 << 10})
	type job struct {
		message string
		has     func(market.ID) bool
		format  wire.Format
	}
	jobs := []job{
		{`{"op":"subscribe","all":true}`, nil, wire.ViewFormat(market.ViewQuote)},
		{`{"op":"subscribe","all":true,"view":"full"}`, nil, wire.ViewFormat(market.ViewFull)},
		{`{"op":"subscribe","tokens":[1,2,3,4,5],"view":"velocity"}`, func(id market.ID) bool { return id <= 5 }, wire.ViewFormat(market.ViewVelocity)},
	}
	const end = 200
	last := make(chan uint64)
	failed := make(chan error, len(jobs))
	for _, j := range jobs {
		c, res, err := (&websocket.Dialer{Subprotocols: []string{wire.SubprotocolJSON}}).Dial("ws://"+r.addr+Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		defer c.Close()
		if err := c.WriteMessage(websocket.TextMessage, []byte(j.message)); err != nil {
			t.Fatal(err)
		}
		ready := make(chan struct{})
		go func() {
			failed <- follow(c, ready, last, func(rep *wiretest.Replica) error {
				ch := rep.Channels[rep.Last.Ch]
				return wiretest.Diff(r.m.Boards[ch.Pos], j.has, &j.format, ch.Rows)
			})
		}()
		<-ready
	}
	r.m.Keep = true
	for range end {
		r.hub.Publish(r.m.Tick())
	}
	r.m.Moving = 1
	r.hub.Publish(r.m.Tick()) // everybody is due something at the last seq
	close(last)
	for range jobs {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

// follow applies messages until a channel stands at the market's last seq.
func follow(c *websocket.Conn, ready chan struct{}, last chan uint64, check func(*wiretest.Replica) error) error {
	rep := wiretest.NewReplica()
	for once := true; ; {
		_, text, err := c.ReadMessage()
		if err != nil {
			return err
		}
		m, err := rep.Apply(text)
		if err != nil {
			return err
		}
		if ch := rep.Channels[m.Ch]; ch != nil && ch.Whole && once {
			close(ready)
			once = false
		}
		if ch := rep.Channels[m.Ch]; ch != nil && ch.Exact && m.Seq == ch.Pos {
			select {
			case <-last:
				return check(rep)
			default:
			}
		}
	}
}

func quiet(t *testing.T, cfg fanout.Config) *Server {
	t.Helper()
	return New(Config{}, fanout.New(cfg, boards{wiretest.NewMarket(1, 5)}))
}

// TestPings lets a silent client be pinged and then missed.
func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quiet(t, fanout.Config{})
		p := pipe(t, s)
		p.text()
		begin := time.Now()
		for i := range 4 {
			op, _, err := p.next()
			if op != opPing || err != nil {
				t.Fatalf("got %x %v", op, err)
			}
			if d := time.Since(begin); d > time.Duration(i+1)*25*time.Second || i > 0 && d < time.Duration(i)*25*time.Second {
				t.Fatalf("ping %d after %s", i, d)
			}
			if i < 3 {
				p.send(frame(0x8a, ""))
			}
		}
		begin = time.Now()
		if code := p.closeCode(); code != 4002 {
			t.Fatalf("closed %d", code)
		}
		if d := time.Since(begin); d < 20*time.Second || d > 26*time.Second {
			t.Fatalf("gone after %s", d)
		}
		gone(t, s)
	})
}

// TestPeerIgnoresClose wants the end within the 5 s of the close handshake.
func TestPeerIgnoresClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quiet(t, fanout.Config{})
		p := pipe(t, s)
		p.text()
		p.send(frame(0x83, "x"))
		begin := time.Now()
		if code := p.closeCode(); code != 1002 || time.Since(begin) != 5*time.Second {
			t.Fatalf("closed %d after %s", code, time.Since(begin))
		}
		gone(t, s)
	})
}

// TestReaderStalls lets a client read nothing: the hub's close cannot be
// written, and the connection ends all the same.
func TestReaderStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quiet(t, fanout.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() { s.hub.Run(ctx); close(ran) }()
		begin := time.Now()
		p := pipe(t, s) // nobody reads: hello itself stalls
		gone(t, s)
		if d := time.Since(begin); d < 30*time.Second || d > 40*time.Second {
			t.Fatalf("gone after %s", d)
		}
		if s.hub.Stats().ClosedBy[wire.CloseSlow] != 1 || s.hub.Stats().Connections != 0 {
			t.Fatalf("got %+v", s.hub.Stats())
		}
		_ = p.nc.Close()
		cancel()
		<-ran
	})
}

// TestCloseAfterHalfAFrame lets a client stop in the middle of a frame until the
// hub gives it up, and then read on: the frame comes to its end, then 4000.
func TestCloseAfterHalfAFrame(t *testing.T) {
	f := func(wait time.Duration, code int, prepare func(*peer)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := quiet(t, fanout.Config{})
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan struct{})
			go func() { s.hub.Run(ctx); close(ran) }()
			p := pipe(t, s)
			prepare(p)
			<-time.After(wait)
			if got := p.closeCode(); got != code {
				t.Errorf("closed %d after %s, not %d", got, wait, code)
			}
			gone(t, s)
			if n := s.hub.Stats().ClosedBy[wire.CloseSlow]; n != 1 {
				t.Errorf("%d counted", n)
			}
			_ = p.nc.Close()
			cancel()
			<-ran
		})
	}
	f(33*time.Second, 4000, func(*peer) {})
	f(33*time.Second, 4000, readSome)
	f(40*time.Second, 0, readSome)
}

// TestCloseAtTheNextBorder reads 1 KiB a second of a snapshot: too slow for the
// batch, fast enough for what is left of a frame when the hub gives it up.
func TestCloseAtTheNextBorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{}, fanout.New(fanout.Config{Batch: 64 << 10}, boards{wiretest.NewMarket(1, 400)}))
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() { s.hub.Run(ctx); close(ran) }()
		p := pipe(t, s)
		p.text()
		p.say(`{"op":"subscribe","all":true,"view":"full"}`)
		<-time.After(time.Second / 2) // never read at the instant of a sweep
		p.br = bufio.NewReaderSize(&trickle{p.nc, 1 << 10}, 1<<10)
		begin := time.Now()
		if code := p.closeCode(); code != 4000 {
			t.Errorf("closed %d", code)
		}
		if d := time.Since(begin); d > 45*time.Second {
			t.Errorf("gone after %s", d)
		}
		gone(t, s)
		cancel()
		<-ran
	})
}

// trickle lets so many bytes through a second.
type trickle struct {
	from io.Reader
	rate int
}

func (r *trickle) Read(p []byte) (int, error) {
	n, err := io.ReadFull(r.from, p[:min(len(p), r.rate)])
	if err == io.ErrUnexpectedEOF {
		err = nil
	}
	<-time.After(time.Second)
	return n, err
}

// readSome reads a part of the first frame, as if into the kernel's buffer.
func readSome(p *peer) {
	some := make([]byte, 100)
	if _, err := io.ReadFull(p.nc, some); err != nil {
		p.t.Fatal(err)
	}
	p.br = bufio.NewReader(io.MultiReader(bytes.NewReader(some), p.nc))
}

// TestUnfinished cuts frames of every length form everywhere.
func TestUnfinished(t *testing.T) {
	var all []byte
	var borders []int
	for _, n := range []int{0, 1, 125, 126, 300, 65535, 65536, 70000} {
		all = Text{}.Append(all, &fanout.Message{Body: make([]byte, n)})
		borders = append(borders, len(all))
	}
	next := 0
	for n := range len(all) + 1 {
		if n > 0 && n > borders[next] {
			next++
		}
		want := borders[next] - n
		if n == 0 {
			want = 0
		}
		if got := len(unfinished(all, n)); got != want {
			t.Fatalf("%d bytes left after %d, not %d", got, n, want)
		}
	}
}

// TestShutdownCodes wants drain and 1012 at every client.
func TestShutdownCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quiet(t, fanout.Config{})
		p := pipe(t, s)
		p.text()
		err := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err <- s.hub.Shutdown(ctx, wire.CloseRestart)
		}()
		if m := p.text(); !strings.HasPrefix(m, `{"type":"drain","deadline_ms":10000,"retry_ms":`) {
			t.Fatalf("got %s", m)
		}
		op, payload, _ := p.next()
		if op != opClose || !bytes.HasPrefix(payload, []byte{0x03, 0xf4}) {
			t.Fatalf("got %x % x", op, payload)
		}
		p.send(closing(1012, ""))
		if e := <-err; e != nil {
			t.Fatal(e)
		}
		gone(t, s)
		_, _ = io.Copy(io.Discard, p.nc)
	})
}

// poisoned panics on every message.
type poisoned struct{ detached bool }

func (p *poisoned) Receive([]byte)         { panic("boom") }
func (p *poisoned) Written()               {}
func (p *poisoned) Closing(wire.CloseCode) {}
func (p *poisoned) Detach()                { p.detached = true }

func TestPanicIs1011(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine, theirs := net.Pipe()
		testPanic(t, mine, theirs)
	})
	mine, theirs := tcpPair(t)
	testPanic(t, mine, theirs)
}

func testPanic(t *testing.T, mine, theirs net.Conn) {
	t.Helper()
	var reason any
	gone := make(chan struct{})
	end := &endpoint{limits: clientLimits, loops: loop.NewGroup(loop.Config{}), onPanic: func(r any) { reason = r }, onGone: func() { close(gone) }}
	end.cfg.setDefaults()
	c := newConn(end, theirs)
	bad := new(poisoned)
	c.session = bad
	c.serve(nil)
	p := &peer{t: t, nc: mine, br: bufio.NewReader(mine)}
	p.say("boom")
	if op, payload, err := p.next(); op != opClose || err != nil || !bytes.HasPrefix(payload, []byte{0x03, 0xf3}) {
		t.Fatalf("got %x % x %v", op, payload, err)
	}
	_ = mine.Close()
	<-gone
	if !bad.detached || reason != "boom" {
		t.Fatalf("detached %v after %v", bad.detached, reason)
	}
}

func tcpPair(tb testing.TB) (dialed, served net.Conn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	if dialed, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	if served, err = ln.Accept(); err != nil {
		tb.Fatal(err)
	}
	return dialed, served
}
