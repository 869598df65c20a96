package ws

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/flate"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// catcher is a link that keeps the bodies of shared frames of one form.
type catcher struct {
	mu     sync.Mutex
	bodies [][]byte
	enough chan struct{}
	want   int
}

func (c *catcher) Append(dst []byte, m *fanout.Message) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Shared || m.Kind == wire.KindDelta {
		if c.bodies = append(c.bodies, bytes.Clone(m.Body)); len(c.bodies) == c.want {
			close(c.enough)
		}
	}
	return append(dst, m.Body...)
}
func (*catcher) Compresses() bool             { return true }
func (*catcher) TryWrite([]fanout.Chunk) bool { return false }
func (*catcher) Close(wire.CloseCode, string) {}
func (*catcher) Abort()                       {}

// deltas returns messages of a market of so many tokens.
func deltas(tb testing.TB, tokens, n int) [][]byte {
	tb.Helper()
	m := wiretest.NewMarket(1, tokens)
	hub := fanout.New(fanout.Config{}, boards{m})
	ctx, stop := context.WithCancel(tb.Context())
	ran := make(chan struct{})
	go func() { hub.Run(ctx); close(ran) }()
	c := &catcher{enough: make(chan struct{}), want: n}
	lease, err := hub.Admit(fanout.Visitor{})
	if err != nil {
		tb.Fatal(err)
	}
	s := hub.Attach(c, fanout.Peer{Framing: c, Lease: lease})
	s.Receive([]byte(`{"op":"subscribe","all":true}`))
	for {
		hub.Publish(m.Tick())
		runtime.Gosched()
		select {
		case <-c.enough:
		default:
			continue
		}
		break
	}
	s.Detach()
	stop()
	<-ran
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bodies[:n]
}

// BenchmarkDeflate compares levels on messages of a market, whole and cut to some
// lengths. B/B is compressed to plain.
func BenchmarkDeflate(b *testing.B) {
	bodies := deltas(b, 5000, 20)
	f := func(name string, size int, compress func(dst *bytes.Buffer, p []byte)) {
		b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
			var dst bytes.Buffer
			in, out, i := 0, 0, 0
			for b.Loop() {
				p := bodies[i%len(bodies)]
				p = p[:min(size, len(p))]
				dst.Reset()
				compress(&dst, p)
				in, out, i = in+len(p), out+dst.Len()-4, i+1
			}
			b.SetBytes(int64(in / b.N))
			b.ReportMetric(float64(out)/float64(in), "B/B")
		})
	}
	for _, size := range []int{128, 256, 512, 2048, 16384} {
		for _, level := range []int{1, 2, 3, 5, 6, 9} {
			w, _ := flate.NewWriter(io.Discard, level)
			f(fmt.Sprint("level", level), size, func(dst *bytes.Buffer, p []byte) {
				w.Reset(dst)
				_, _ = w.Write(p)
				_ = w.Flush()
			})
		}
		f("stateless", size, func(dst *bytes.Buffer, p []byte) {
			_ = flate.StatelessDeflate(dst, p, false, nil)
		})
	}
}

// TestDeflateFraming compresses what is shared and long, and nothing else, and
// says the same every time.
func TestDeflateFraming(t *testing.T) {
	text := []byte(strings.Repeat(`{"id":1,"price":64010.2}`, 40))
	f := func(compressed bool, m fanout.Message) {
		t.Helper()
		got := Deflate{}.Append([]byte("x"), &m)
		if got[0] != 'x' || got[1]&rsv1 != 0 != compressed {
			t.Fatalf("got % x", got[:4])
		}
		if !bytes.Equal(got, Deflate{}.Append([]byte("x"), &m)) {
			t.Fatal("not the same again")
		}
		if compressed && len(got) > len(m.Body)/2 || !compressed && !bytes.HasSuffix(got, m.Body) {
			t.Fatalf("%d bytes of %d", len(got), len(m.Body))
		}
	}
	f(true, fanout.Message{Shared: true, Body: text})
	f(false, fanout.Message{Body: text})
	f(false, fanout.Message{Shared: true, Binary: true, Body: text})
	f(false, fanout.Message{Shared: true, Body: text[:deflateLeast-1]})
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(i*i*7919>>3) ^ byte(i*31)
	}
	var d inflater
	d.r = flate.NewReader(&d.in)
	for _, body := range [][]byte{text, noise} {
		got := Deflate{}.Append(nil, &fanout.Message{Shared: true, Body: body})
		if got[0]&rsv1 == 0 {
			continue
		}
		head := 2
		if got[1] == 126 {
			head = 4
		}
		if out, v := d.inflate(got[head:], 1<<20); v != nil || !bytes.Equal(out, body) {
			t.Fatal("does not come back")
		}
	}
}

// TestBomb sends messages that grow a thousandfold.
func TestBomb(t *testing.T) { eachBackend(t, testBomb) }

func testBomb(t *testing.T, cfg Config) {
	t.Helper()
	r := newRig(t, cfg, fanout.Config{})
	f := func(code int, text string) {
		t.Helper()
		p, status, header := r.dial(t, handshake+"Sec-WebSocket-Extensions: permessage-deflate\r\n")
		if status != http.StatusSwitchingProtocols || header.Get("Sec-WebSocket-Extensions") == "" {
			t.Fatal(status, header)
		}
		p.text()
		p.send(frame(0xc1, squeezed(text, 9)))
		if code == 0 {
			if got := p.text(); !strings.HasPrefix(got, `{"type":"pong"`) {
				t.Fatalf("got %s", got)
			}
			return
		}
		if got := p.closeCode(); got != code {
			t.Fatalf("closed %d, not %d", got, code)
		}
	}
	spaces := func(n int) string { return strings.Repeat(" ", n-len(ping)) + ping }
	f(0, ping)
	f(0, spaces(wire.MaxMessage))
	f(1009, spaces(wire.MaxMessage+1))
	block := squeezed(spaces(1<<20), 9) + string(syncMarker)
	grows := wire.MaxMessage / len(block)
	var before, after runtime.MemStats
	squeezedBomb := frame(0xc1, strings.TrimSuffix(strings.Repeat(block, grows), string(syncMarker)))
	p, _, _ := r.dial(t, handshake+"Sec-WebSocket-Extensions: permessage-deflate\r\n")
	p.text()
	runtime.GC()
	runtime.ReadMemStats(&before)
	p.send(squeezedBomb)
	if op, payload, _ := p.next(); op != opClose || payload[1] != 0xf1 { // 1009
		t.Fatalf("got %x % x", op, payload)
	}
	runtime.ReadMemStats(&after)
	grown := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d bytes of heap for a bomb of %d MiB", grown, grows)
	if grown > 512<<10 {
		t.Errorf("allocated %d bytes", grown)
	}
}

// FuzzCompressed does what FuzzGate does where compression was agreed on.
func FuzzCompressed(f *testing.F) {
	for _, c := range deflated() {
		if len(c.send) < 4<<10 {
			f.Add(c.send, 3)
		}
	}
	l := clientLimits
	l.binary = true
	f.Fuzz(func(t *testing.T, stream []byte, n int) {
		n = 1 + n&1023
		var whole, cut recorder
		a := whole.feed(&frameGate{limits: &l, deflate: true}, stream, len(stream)+1)
		b := cut.feed(&frameGate{limits: &l, deflate: true}, stream, n)
		if a != b || len(whole.texts) != len(cut.texts) || whole.pings != cut.pings {
			t.Fatalf("whole %d, in pieces of %d %d", a, n, b)
		}
		for _, text := range whole.texts {
			if len(text) > wire.MaxMessage {
				t.Fatalf("a message of %d bytes", len(text))
			}
		}
	})
}

// FuzzOffer wants an answer that keeps to the offer.
func FuzzOffer(f *testing.F) {
	f.Add("permessage-deflate; server_max_window_bits=15, x")
	f.Fuzz(func(t *testing.T, line string) {
		got := negotiate([][]byte{[]byte(line)})
		if got.window && !strings.Contains(line, "server_max_window_bits") || got.deflate && !strings.Contains(line, "permessage-deflate") {
			t.Fatalf("%q got %q", line, got.extension())
		}
	})
}
