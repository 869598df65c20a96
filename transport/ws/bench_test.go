package ws

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// BenchmarkSnapshot sends the snapshot of 20,000 tokens over loopback; the floor
// writes as many bytes at once.
func BenchmarkSnapshot(b *testing.B) {
	hub := fanout.New(fanout.Config{}, boards{wiretest.NewMarket(1, 20_000)})
	s := New(Config{}, hub)
	ctx, cancel := context.WithCancel(b.Context())
	ran := make(chan struct{})
	go func() { hub.Run(ctx); close(ran) }()
	defer func() { gone(b, s); cancel(); <-ran }()
	b.ReportAllocs()
	size, spent, floor := 0, time.Duration(0), time.Duration(0)
	for b.Loop() {
		theirs, mine := loopbackPair(b)
		lease, err := s.admit(addrOf(theirs.RemoteAddr()))
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		s.start(theirs, lease, terms{})
		n := readSnapshot(b, mine)
		spent += time.Since(begin)
		_ = mine.Close()
		size += n
		floor += copyBytes(b, n)
	}
	b.SetBytes(int64(size / b.N))
	b.ReportMetric(float64(spent)/float64(floor), "xfloor")
}

func loopbackPair(b *testing.B) (served, dialed net.Conn) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	if dialed, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		b.Fatal(err)
	}
	if served, err = ln.Accept(); err != nil {
		b.Fatal(err)
	}
	return served, dialed
}

// readSnapshot subscribes to everything and reads to the end of the snapshot, the
// only message of that length that is not followed by another part.
func readSnapshot(b *testing.B, nc net.Conn) (size int) {
	b.Helper()
	if _, err := nc.Write(frame(0x81, `{"op":"subscribe","all":true}`)); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 256<<10)
	const end = `]}`
	for {
		n, err := nc.Read(buf)
		if err != nil {
			b.Fatal(err)
		}
		size += n
		if size > 1<<20 && string(buf[max(0, n-len(end)):n]) == end {
			return size
		}
	}
}

// copyBytes says how long n bytes take from one socket to another.
func copyBytes(b *testing.B, n int) time.Duration {
	b.Helper()
	from, to := loopbackPair(b)
	defer to.Close()
	bytes := make([]byte, n)
	begin := time.Now()
	go func() {
		_, _ = from.Write(bytes)
		_ = from.Close()
	}()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{to}, make([]byte, 256<<10)); err != nil {
		b.Fatal(err)
	}
	return time.Since(begin)
}
