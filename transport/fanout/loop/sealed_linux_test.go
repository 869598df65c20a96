package loop

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// serveSealed opens an encrypted connection of a loop. The peer's TLS is mine.
func serveSealed(t *testing.T, cfg Config, version uint16, prepare func(*probe)) (p *probe, mine *tls.Conn, tcp *net.TCPConn) {
	t.Helper()
	tcp, theirs := pair(t)
	server := tls.Server(&under{theirs}, &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MaxVersion: version})
	shaken := make(chan error, 1)
	go func() { shaken <- server.HandshakeContext(t.Context()) }()
	mine = tls.Client(tcp, &tls.Config{InsecureSkipVerify: true})
	if err := errors.Join(mine.HandshakeContext(t.Context()), <-shaken); err != nil {
		t.Fatal(err)
	}
	p = &probe{t: t, written: make(chan struct{}, 1000), gone: make(chan struct{})}
	if prepare != nil {
		prepare(p)
	}
	NewGroup(cfg).Open(&p.Conn, server, p)
	if p.stream != nil {
		t.Fatal("goroutines serve it")
	}
	p.Start()
	t.Cleanup(func() { p.Abort(); <-p.gone })
	return p, mine, tcp
}

// eachVersion runs a test with the versions that are spoken.
func eachVersion(t *testing.T, test func(t *testing.T, version uint16)) {
	t.Helper()
	t.Run("1.3", func(t *testing.T) { test(t, tls.VersionTLS13) })
	t.Run("1.2", func(t *testing.T) { test(t, tls.VersionTLS12) })
}

func TestSealedEcho(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		p, mine, _ := serveSealed(t, Config{}, version, func(p *probe) {
			p.input = func(b []byte) { p.TryWrite(one(b)) }
		})
		for i := range 200 {
			if _, err := mine.Write(frame(byte(i), i*i)); err != nil {
				t.Fatal(err)
			}
			if fill, n, err := readFrame(mine); n != i*i || i > 0 && fill != byte(i) || err != nil {
				t.Fatalf("frame %d came back with %d bytes of %d: %v", i, n, fill, err)
			}
		}
		p.Conn.mu.Lock()
		defer p.Conn.mu.Unlock()
		if p.poll.sealed.rest != nil || p.poll.sealed.lent != nil {
			t.Error("an idle connection keeps a buffer")
		}
	})
}

// TestSealedInputInOneGo sends more than the loop takes at once, so that crypto/tls
// has records that epoll does not tell of.
func TestSealedInputInOneGo(t *testing.T) {
	const size = 1 << 20
	got := make(chan int, size)
	_, mine, _ := serveSealed(t, Config{}, 0, func(p *probe) {
		p.input = func(b []byte) { got <- len(b) }
	})
	go func() { _, _ = mine.Write(make([]byte, size)) }()
	for n := 0; n < size; {
		n += <-got
	}
}

// TestSealedStalled fills a connection whose peer does not read, and then reads.
func TestSealedStalled(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		p, mine, tcp := serveSealed(t, Config{}, version, nil)
		_ = tcp.SetReadBuffer(16 << 10)
		shared, sent := frame(200, 30<<10), 0
		for no := 0; ; no++ {
			batch := []fanout.Chunk{{Bytes: frame(byte(no%100), 300+no)}, {Bytes: shared, Shared: true}, {Bytes: frame(byte(no%100), 5)}}
			for _, c := range batch {
				sent += len(c.Bytes)
			}
			if p.TryWrite(batch) {
				break
			}
		}
		p.Conn.mu.Lock()
		if n := len(p.poll.sealed.rest); n > restMost || p.out == nil {
			t.Errorf("%d bytes are encrypted and unwritten, pending %t", n, p.out != nil)
		}
		p.Conn.mu.Unlock()
		p.Control(frame(201, 3))
		for sent += 7; sent > 0; {
			expect(t, mine, &sent)
		}
		<-p.written
		if p.Pending() {
			t.Error("something waits when all is written")
		}
	})
}

// TestSealedFinish ends a connection inside a frame: the frame and the last one
// come, and then an end that is no attack.
func TestSealedFinish(t *testing.T) {
	for _, answered := range []bool{false, true} {
		p, mine, tcp := serveSealed(t, Config{}, 0, nil)
		_ = tcp.SetReadBuffer(16 << 10)
		for !p.TryWrite([]fanout.Chunk{{Bytes: frame(1, 100<<10), Shared: true}, {Bytes: frame(2, 100<<10), Shared: true}}) {
		}
		p.Finish(frame(9, 5), answered)
		fill, err := byte(0), error(nil)
		for fill != 9 && err == nil {
			fill, _, err = readFrame(mine)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !answered {
			_ = mine.CloseWrite()
		}
		if n, err := mine.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("after the last frame: %d bytes, %v", n, err)
		}
		<-p.gone
	}
}

// TestSealedGarbage sends what is no record.
func TestSealedGarbage(t *testing.T) {
	p, _, tcp := serveSealed(t, Config{}, 0, func(p *probe) {
		p.input = func([]byte) { t.Error("garbage was taken for input") }
	})
	if _, err := tcp.Write([]byte("\x17\x03\x03\x00\x20no record of ours, 32 bytes long.")); err != nil {
		t.Fatal(err)
	}
	<-p.gone
}

// TestSealedRest bounds the answers that a peer makes crypto/tls give.
func TestSealedRest(t *testing.T) {
	p, _, _ := serveSealed(t, Config{}, 0, nil)
	p.Conn.mu.Lock()
	defer p.Conn.mu.Unlock()
	s := p.poll.sealed
	for n := 0; ; n += 1 << 10 {
		_, err := s.Write(make([]byte, 1<<10))
		if err != nil && n == restMost {
			break
		}
		if err != nil || n > restMost {
			t.Fatalf("%d bytes were taken: %v", n, err)
		}
	}
	s.rest = nil
}

// TestUnsealed leaves a connection to goroutines whose handshake is to come.
func TestUnsealed(t *testing.T) {
	tcp, theirs := pair(t)
	p := &probe{t: t, gone: make(chan struct{})}
	NewGroup(Config{}).Open(&p.Conn, tls.Server(&under{theirs}, &tls.Config{Certificates: []tls.Certificate{certificate(t)}}), p)
	if p.stream == nil {
		t.Error("a loop serves a connection whose handshake is not over")
	}
	p.Start()
	_ = tcp.Close()
	<-p.gone
}
