package ws

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"x.test"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// swappable is a connection that the loops may replace below TLS.
type swappable struct{ net.Conn }

func (s *swappable) Swap(nc net.Conn) (old net.Conn) { old, s.Conn = s.Conn, nc; return old }
func (s *swappable) Unwrap() net.Conn                { return s.Conn }

// encrypted accepts connections that the loops may serve.
type encrypted struct {
	net.Listener
	cfg *tls.Config
}

func (l encrypted) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(&swappable{nc}, l.cfg), nil
}

// TestTLS serves connections that encrypt, by loops and by goroutines: every case
// again.
func TestTLS(t *testing.T) {
	t.Run("loops", func(t *testing.T) {
		testTLS(t, func(ln net.Listener, cfg *tls.Config) net.Listener { return encrypted{ln, cfg} })
	})
	t.Run("goroutines", func(t *testing.T) { testTLS(t, tls.NewListener) })
}

func testTLS(t *testing.T, over func(net.Listener, *tls.Config) net.Listener) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		serveEcho(ctx, t, over(ln, &tls.Config{Certificates: []tls.Certificate{certificate(t)}}), Config{}, echoLimits)
	}()
	defer func() { stop(); <-ended }()
	for _, c := range conformances() {
		if len(c.send) > 300<<10 || len(c.want) > 1 {
			continue
		}
		nc, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(nc, handshake+"\r\n")
		br := bufio.NewReader(nc)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		go func() { _, _ = nc.Write(c.send) }()
		p := &compressedPeer{peer{t: t, nc: nc, br: br}}
		for _, want := range c.want {
			if op, payload, err := p.message(); op != want.op || payload != want.text || err != nil {
				t.Errorf("%s: got %x of %d bytes: %v", c.name, op, len(payload), err)
			}
		}
		if c.close == 0 {
			p.send(closing(1000, ""))
		}
		if op, _, err := p.message(); op != opClose || err != nil {
			t.Errorf("%s: got %x: %v", c.name, op, err)
		}
		_ = nc.Close()
	}
}

// TestSlowReader subscribes and reads nothing until the hub gives up, then wants
// whole frames and 4000.
func TestSlowReader(t *testing.T) { eachBackend(t, testSlowReader) }

func testSlowReader(t *testing.T, cfg Config) {
	t.Helper()
	r := newRig(t, cfg, fanout.Config{Stall: 100 * time.Millisecond})
	p := r.open(t)
	_ = p.nc.(*net.TCPConn).SetReadBuffer(8 << 10)
	for i := range 40 {
		p.say(`{"op":"subscribe","all":true,"view":"full","id":"%d"}`, i)
	}
	stop := make(chan struct{})
	var ticks sync.WaitGroup
	ticks.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				r.hub.Publish(r.m.Tick())
			}
		}
	})
	for r.hub.Stats().ClosedBy[4000] == 0 {
		<-time.After(10 * time.Millisecond)
	}
	code := p.closeCode()
	close(stop)
	ticks.Wait()
	if code != 4000 {
		t.Fatalf("closed %d", code)
	}
}

// TestChurn lets clients come and go in every way while the market moves.
func TestChurn(t *testing.T) { eachBackend(t, testChurn) }

func testChurn(t *testing.T, cfg Config) {
	t.Helper()
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	cfg.CloseWait = 200 * time.Millisecond
	r := newRig(t, cfg, fanout.Config{})
	_ = r.open(t).nc.Close() // the hub has a board of its own from now on
	var clients sync.WaitGroup
	for k := range 8 {
		clients.Go(func() {
			for i := range rounds {
				churn(t, r.addr, k+i)
			}
		})
	}
	gone := make(chan struct{})
	go func() { clients.Wait(); close(gone) }()
	for {
		r.hub.Publish(r.m.Tick())
		select {
		case <-gone:
			for r.hub.Stats().Connections > 0 {
				<-time.After(time.Millisecond)
			}
			if n := r.hub.Stats().Panics; n > 0 {
				t.Fatalf("%d panics", n)
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// churn is one client that leaves in one of several ways.
func churn(t *testing.T, addr string, way int) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	message := frame(0x81, fmt.Sprintf(`{"op":"subscribe","all":true,"id":"%d"}`, way))
	_, _ = nc.Write(join([]byte(handshake+"\r\n"), message[:way%len(message)]))
	_, _ = nc.Write(message[way%len(message):])
	buf := make([]byte, 1+mrand.N(64<<10))
	for range 1 + mrand.N(4) {
		if _, err := nc.Read(buf); err != nil {
			return
		}
	}
	switch way % 5 {
	case 0:
		_ = nc.(*net.TCPConn).SetLinger(0)
	case 1:
		_, _ = nc.Write(closing(1000, ""))
		_, _ = io.Copy(io.Discard, nc)
	case 2:
		_ = nc.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, nc)
	case 3:
		_, _ = nc.Write(frame(0x83, strings.Repeat("x", 100)))
		_, _ = io.Copy(io.Discard, nc)
	}
}
