package loop

import (
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// BenchmarkDelivery compares the processor time of a delivery with that of a loop
// of write(2) on the same connections, in turns. The median of the rounds counts.
func BenchmarkDelivery(b *testing.B) {
	b.Run("200", func(b *testing.B) { deliver(b, one(frame(1, 196))) })
	b.Run("2000", func(b *testing.B) { deliver(b, one(frame(1, 1996))) })
	many := make([]fanout.Chunk, 20)
	for i := range many {
		many[i] = fanout.Chunk{Bytes: frame(1, 96), Shared: true}
	}
	b.Run("20x100", func(b *testing.B) { deliver(b, many) })
}

func deliver(b *testing.B, batch []fanout.Chunk) {
	const conns = 200
	g := NewGroup(Config{})
	var probes []*probe
	var fds, theirs []int
	for range conns {
		p, mine := serve(b, g, nil)
		probes = append(probes, p)
		fds = append(fds, int(p.poll.fd))
		raw, _ := mine.SyscallConn()
		_ = raw.Control(func(fd uintptr) { theirs = append(theirs, int(fd)) })
	}
	var whole []byte
	for _, c := range batch {
		whole = append(whole, c.Bytes...)
	}
	buf := make([]byte, 64<<10)
	drain := func() {
		for _, fd := range theirs {
			for n := 0; n < len(whole); {
				if k, err := syscall.Read(fd, buf); err == nil {
					n += k
				}
			}
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var floor, ours []time.Duration
	for b.Loop() {
		begin := threadTime()
		for _, fd := range fds {
			_, _ = write(int32(fd), whole)
		}
		floor = append(floor, threadTime()-begin)
		drain()
		begin = threadTime()
		for _, p := range probes {
			p.TryWrite(batch)
		}
		ours = append(ours, threadTime()-begin)
		drain()
	}
	b.ReportMetric(float64(median(floor))/conns, "floor-ns")
	b.ReportMetric(float64(median(ours))/conns, "cpu-ns")
	b.ReportMetric(float64(median(ours))/float64(median(floor)), "xfloor")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// threadTime returns the processor time of this thread.
func threadTime() time.Duration {
	const rusageThread = 1
	var u syscall.Rusage
	_ = syscall.Getrusage(rusageThread, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPingPong is one message there and back, of 64 connections at once.
func BenchmarkPingPong(b *testing.B) {
	for _, mode := range []struct {
		name string
		cfg  Config
	}{{"loops", Config{}}, {"goroutines", Config{Goroutines: true}}} {
		b.Run(mode.name, func(b *testing.B) {
			g := NewGroup(mode.cfg)
			var ends []interface {
				Write([]byte) (int, error)
				Read([]byte) (int, error)
			}
			for range 64 {
				_, mine := serve(b, g, func(p *probe) {
					p.written = make(chan struct{}, 1<<20)
					p.input = func(in []byte) { p.TryWrite(one(in)) }
				})
				_ = mine.SetDeadline(time.Time{})
				ends = append(ends, mine)
			}
			msg, buf := frame(1, 100), make([]byte, 4096)
			begin := processTime()
			for b.Loop() {
				for _, e := range ends {
					_, _ = e.Write(msg)
				}
				for _, e := range ends {
					_, _ = e.Read(buf)
				}
			}
			b.ReportMetric(float64(processTime()-begin)/float64(b.N)/64, "cpu-ns/echo")
		})
	}
}

func processTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
