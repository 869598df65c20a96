package loop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// probe is a handler that notes what it is told. Its frames begin with their
// length in four bytes.
type probe struct {
	Conn
	t       testing.TB
	input   func(p []byte)
	expired func()
	written chan struct{}
	gone    chan struct{}
	ended   atomic.Bool
	mu      sync.Mutex
	panics  []any
}

// lane commits every write at once.
type lane struct {
	mu   sync.Mutex
	ring *Ring
}

// staging is the lane of all probes, while a test runs with io_uring.
var staging atomic.Pointer[lane]

func newRing(tb testing.TB) *Ring {
	tb.Helper()
	r, err := NewRing(func(err error) { tb.Log(err) })
	if err != nil {
		tb.Skip(err)
	}
	return r
}

// TryWrite shadows that of Conn.
func (p *probe) TryWrite(batch []fanout.Chunk) bool {
	l := staging.Load()
	if l == nil {
		return p.Conn.TryWrite(batch)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.ring.Commit()
	return p.Stage(l.ring, batch)
}

func (p *probe) Input(b []byte) {
	p.alive("Input")
	if p.input != nil {
		p.input(b)
	}
}

func (p *probe) Written() {
	p.alive("Written")
	p.written <- struct{}{}
}

func (p *probe) Expired() {
	p.alive("Expired")
	if p.expired != nil {
		p.expired()
	}
}

func (p *probe) Gone() {
	if p.ended.Swap(true) {
		p.t.Error("gone twice")
	}
	close(p.gone)
}

func (p *probe) Panicked(reason any) {
	p.mu.Lock()
	p.panics = append(p.panics, reason)
	p.mu.Unlock()
	p.Abort()
}

func (p *probe) Border(b []byte, n int) int {
	end := 0
	for end < n {
		end += 4 + int(binary.BigEndian.Uint32(b[end:]))
	}
	return end - n
}

func (p *probe) alive(what string) {
	if p.ended.Load() {
		p.t.Error(what, "after Gone")
	}
}

// frame returns a frame of n bytes of payload, all of them fill.
func frame(fill byte, n int) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(n))
	for range n {
		out = append(out, fill)
	}
	return out
}

// readFrame reads one frame and returns its fill and length.
func readFrame(r io.Reader) (fill byte, n int, err error) {
	var head [4]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err = io.ReadFull(r, body); err != nil {
		return 0, 0, err
	}
	for _, b := range body {
		if b != body[0] {
			return 0, 0, io.ErrNoProgress
		}
	}
	if len(body) > 0 {
		fill = body[0]
	}
	return fill, len(body), nil
}

func pair(tb testing.TB) (mine *net.TCPConn, theirs net.Conn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	mine, _ = nc.(*net.TCPConn)
	if theirs, err = ln.Accept(); err != nil {
		tb.Fatal(err)
	}
	_ = mine.SetDeadline(time.Now().Add(20 * time.Second))
	tb.Cleanup(func() { _ = mine.Close() })
	return mine, theirs
}

// serve opens a connection of the group; its end is waited for.
func serve(tb testing.TB, g *Group, prepare func(*probe)) (*probe, *net.TCPConn) {
	tb.Helper()
	mine, theirs := pair(tb)
	p := &probe{t: tb, written: make(chan struct{}, 1), gone: make(chan struct{})}
	if prepare != nil {
		prepare(p)
	}
	g.Open(&p.Conn, theirs, p)
	p.Start()
	tb.Cleanup(func() { p.Abort(); <-p.gone })
	return p, mine
}

// eachBackend runs a test with loops, where there are any, that write one by one or
// with io_uring, and with goroutines.
func eachBackend(t *testing.T, test func(*testing.T, Config)) {
	t.Helper()
	t.Run("loops", func(t *testing.T) { test(t, Config{}) })
	t.Run("io_uring", func(t *testing.T) {
		staging.Store(&lane{ring: newRing(t)})
		defer staging.Store(nil)
		test(t, Config{})
	})
	t.Run("goroutines", func(t *testing.T) { test(t, Config{Goroutines: true}) })
}

func one(p []byte) []fanout.Chunk { return []fanout.Chunk{{Bytes: p}} }

// under is a connection below TLS that the loop may replace.
type under struct{ net.Conn }

func (u *under) Swap(nc net.Conn) (old net.Conn) { old, u.Conn = u.Conn, nc; return old }
func (u *under) Unwrap() net.Conn                { return u.Conn }

func certificate(tb testing.TB) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"x.test"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
