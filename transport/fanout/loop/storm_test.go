package loop

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// storm is a handler in the middle of everything: it knows its number, and wants
// to hear of no other.
type storm struct {
	Conn
	t       *testing.T
	no      uint32
	gone    atomic.Bool
	owed    atomic.Int32
	onGone  func()
	expires atomic.Int32
}

func (s *storm) Input(p []byte) {
	for ; len(p) >= 4; p = p[4:] {
		if no := binary.BigEndian.Uint32(p); no != s.no {
			s.t.Errorf("connection %d hears of %d", s.no, no)
		}
	}
	if s.gone.Load() {
		s.t.Error("input after the end")
	}
}

func (s *storm) Written() {
	if s.owed.Add(-1) < 0 || s.gone.Load() {
		s.t.Error("nothing was pending")
	}
}

func (s *storm) Expired() {
	s.expires.Add(1)
	s.SetTimer(rand.N(300 * time.Millisecond))
}

func (s *storm) Gone() {
	if s.gone.Swap(true) {
		s.t.Error("gone twice")
	}
	s.onGone()
}

func (s *storm) Panicked(reason any) { s.t.Error(reason) }

func (s *storm) Border(p []byte, n int) int { return new(probe).Border(p, n) }

// TestStorm opens and ends thousands of connections from both sides while others
// write to them. Descriptors are used again all the time.
func TestStorm(t *testing.T) {
	eachBackend(t, func(t *testing.T, cfg Config) { testStorm(t, cfg, 1500, nil) })
	t.Run("encrypted", func(t *testing.T) {
		testStorm(t, Config{}, 500, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	})
}

// begun accepts a connection, shakes hands where it is to be encrypted, and reads
// its number.
func begun(t *testing.T, ln net.Listener, secure *tls.Config) (nc net.Conn, no uint32) {
	t.Helper()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if secure != nil {
		nc = tls.Server(&under{nc}, secure)
	}
	var head [4]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		t.Fatal(err)
	}
	return nc, binary.BigEndian.Uint32(head[:])
}

func testStorm(t *testing.T, cfg Config, total int, secure *tls.Config) {
	t.Helper()
	if testing.Short() {
		total /= 5
	}
	cfg.CloseWait = 50 * time.Millisecond
	g := NewGroup(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var left, lanes sync.WaitGroup
	var mu sync.Mutex
	var live []*storm
	stop := make(chan struct{})
	for range 3 {
		var ring *Ring
		if staging.Load() != nil {
			ring = newRing(t)
		}
		lanes.Go(func() {
			shared := frame(1, 3000)
			if ring != nil {
				defer ring.Commit()
			}
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Microsecond):
				}
				mu.Lock()
				var s *storm
				if len(live) > 0 {
					s = live[rand.N(len(live))]
				}
				mu.Unlock()
				if s != nil {
					s.disturb(shared, ring)
				}
				if ring != nil && rand.N(5) == 0 {
					ring.Commit()
				}
			}
		})
	}
	clients := make(chan struct{}, 40)
	for i := range total {
		clients <- struct{}{}
		left.Add(2)
		go func() {
			defer left.Done()
			client(t, ln.Addr().String(), uint32(i), secure != nil)
			<-clients
		}()
		nc, no := begun(t, ln, secure)
		s := &storm{t: t, no: no}
		s.onGone = left.Done
		g.Open(&s.Conn, nc, s)
		mu.Lock()
		if live = append(live, s); len(live) > 100 {
			live = live[50:]
		}
		mu.Unlock()
		s.SetTimer(rand.N(300 * time.Millisecond))
		s.Start()
	}
	mu.Lock()
	rest := live
	mu.Unlock()
	for _, s := range rest {
		s.Finish(frame(2, 2), false)
	}
	left.Wait()
	close(stop)
	lanes.Wait()
}

// disturb does what a hub might.
func (s *storm) disturb(shared []byte, ring *Ring) {
	write := s.TryWrite
	if ring != nil {
		write = func(batch []fanout.Chunk) bool { return s.Stage(ring, batch) }
	}
	switch rand.N(12) {
	case 0:
		s.Abort()
	case 1:
		s.Finish(frame(3, 3), rand.N(2) == 0)
	case 2:
		s.Control(frame(4, 4))
	case 3:
		s.SetTimer(rand.N(300 * time.Millisecond))
	default:
		if s.owed.CompareAndSwap(0, 1) && !write([]fanout.Chunk{{Bytes: frame(5, 100)}, {Bytes: shared, Shared: true}}) {
			s.owed.Add(-1)
		}
	}
}

// client says its number and leaves at some moment, in some way.
func client(t *testing.T, addr string, no uint32, secure bool) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer nc.Close()
	if no%5 == 0 {
		_ = nc.(*net.TCPConn).SetLinger(0)
	}
	if secure {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	}
	if _, err := nc.Write(binary.BigEndian.AppendUint32(nil, no)); err != nil {
		t.Error(err)
		return
	}
	_ = nc.SetDeadline(time.Now().Add(rand.N(200*time.Millisecond) + time.Millisecond))
	buf := make([]byte, 4096)
	for {
		if _, err := nc.Write(binary.BigEndian.AppendUint32(nil, no)); err != nil {
			return
		}
		if no%3 != 0 { // the others never read
			if _, err := nc.Read(buf); err != nil {
				return
			}
		} else {
			_, _ = nc.Read(buf[:1])
		}
	}
}
