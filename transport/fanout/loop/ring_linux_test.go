package loop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// fake makes a ring's writes in the kernel's place: send returns the result, or
// lost for none at all. The error comes after the writes.
func fake(r *Ring, send func(fd int, p []byte) int32, after syscall.Errno) {
	u := r.uring
	u.enter = func(_ uintptr, submit, _ uint32) syscall.Errno {
		for range submit {
			head := atomic.AddUint32(u.sqHead, 1) - 1
			s := u.submissions[head&uint32(len(u.submissions)-1)]
			if n := send(int(s.fd), r.staged[s.tag].bytes); n != lost {
				tail := atomic.LoadUint32(u.cqTail)
				u.completions[tail&uint32(len(u.completions)-1)] = completion{tag: s.tag, result: n}
				atomic.StoreUint32(u.cqTail, tail+1)
			}
		}
		return after
	}
}

// taking returns a send that takes n bytes at most.
func taking(n int) func(int, []byte) int32 {
	return func(fd int, p []byte) int32 {
		if n == 0 {
			return -int32(syscall.EAGAIN)
		}
		k, err := syscall.Write(fd, p[:min(n, len(p))])
		if err != nil {
			return -int32(err.(syscall.Errno))
		}
		return int32(k)
	}
}

// want reads frames with the given fills and lengths 4 more.
func want(t *testing.T, r io.Reader, fills ...byte) {
	t.Helper()
	for _, w := range fills {
		if fill, _, err := readFrame(r); fill != w || err != nil {
			t.Fatalf("got frame %d, not %d: %v", fill, w, err)
		}
	}
}

// TestRing writes to more connections than a batch holds, again and again.
func TestRing(t *testing.T) {
	g, r := NewGroup(Config{}), newRing(t)
	var ends []*net.TCPConn
	var probes []*probe
	for range 2*ringBatch + 3 {
		p, mine := serve(t, g, nil)
		probes, ends = append(probes, p), append(ends, mine)
	}
	r.onFail = func(err error) { t.Error(err) }
	for round := range byte(5) {
		full := 0
		for i, p := range probes {
			own := frame(round, i)
			if p.Stage(r, []fanout.Chunk{{Bytes: own}, {Bytes: frame(round+100, 9), Shared: true}}) {
				t.Fatal("pending")
			}
			clear(own) // it is the hub's again
			if r.Full() {
				full++
				r.Commit()
			}
		}
		if full != 2 {
			t.Fatalf("full %d times", full)
		}
		r.Commit()
		for i, mine := range ends {
			if fill, n, err := readFrame(mine); i > 0 && fill != round || n != i || err != nil {
				t.Fatal(fill, n, err)
			}
			want(t, mine, round+100)
		}
	}
}

// TestRingPartial lets the kernel take any number of bytes of a staged write, with
// nothing or something behind it.
func TestRingPartial(t *testing.T) {
	g, r := NewGroup(Config{}), newRing(t)
	batch := []fanout.Chunk{{Bytes: frame(1, 20)}, {Bytes: frame(2, 7), Shared: true}, {Bytes: frame(3, 1)}}
	for n := range 41 {
		fake(r, taking(n), 0)
		p, mine := serve(t, g, nil)
		if p.Stage(r, batch) || !p.Pending() {
			t.Fatal("not staged")
		}
		more := n%2 == 0
		if more && !p.Stage(r, one(frame(4, 4))) {
			t.Fatal("overtook a staged write")
		}
		r.Commit()
		want(t, mine, 1, 2, 3)
		if more {
			<-p.written
			want(t, mine, 4)
		}
		if p.TryWrite(one(frame(5, 1))) {
			<-p.written
		}
		want(t, mine, 5)
		p.Abort()
		<-p.gone
	}
}

// TestRingControl wants a control frame at a border and behind what was staged.
func TestRingControl(t *testing.T) {
	g, r := NewGroup(Config{}), newRing(t)
	f := func(n int, fills ...byte) {
		t.Helper()
		fake(r, taking(n), 0)
		p, mine := serve(t, g, nil)
		p.Stage(r, []fanout.Chunk{{Bytes: frame(1, 20)}, {Bytes: frame(2, 7)}})
		p.Control(frame(9, 2))
		r.Commit()
		want(t, mine, fills...)
	}
	f(100, 1, 2, 9)
	f(30, 1, 2, 9)
	f(24, 1, 9, 2)
	f(10, 1, 9, 2)
	f(0, 9, 1, 2)
}

// TestRingFinish ends connections with something staged: the last frame comes after
// what the kernel took and the frame that it took a part of.
func TestRingFinish(t *testing.T) {
	g, r := NewGroup(Config{}), newRing(t)
	f := func(n int, fills ...byte) {
		t.Helper()
		for _, answered := range []bool{false, true} {
			fake(r, taking(n), 0)
			p, mine := serve(t, g, nil)
			p.Stage(r, []fanout.Chunk{{Bytes: frame(1, 20)}, {Bytes: frame(2, 7)}})
			p.Finish(frame(9, 2), answered)
			r.Commit()
			want(t, mine, fills...)
			if _, err := mine.Read(make([]byte, 1)); err != io.EOF {
				t.Fatal(err)
			}
			_ = mine.Close()
			<-p.gone
		}
	}
	f(100, 1, 2, 9)
	f(30, 1, 2, 9)
	f(24, 1, 9)
	f(10, 1, 9)
	f(0, 9)
}

// TestRingStalled stages for a peer that reads nothing until the kernel takes no
// more. The fan-out learns of it with the write after.
func TestRingStalled(t *testing.T) {
	r := newRing(t)
	p, mine := serve(t, NewGroup(Config{}), nil)
	_ = mine.SetReadBuffer(16 << 10)
	no := 0
	for ; ; no++ {
		before := clock()
		pending := p.Stage(r, one(frame(byte(no%251), 3000)))
		r.Commit()
		if pending {
			if p.Conn.mu.Lock(); p.out != nil && p.out.since < before {
				t.Error("the time to write began before the fan-out knew")
			}
			p.Conn.mu.Unlock()
			no++
			break
		}
		if no > 10_000 {
			t.Fatal("the kernel takes everything")
		}
	}
	if !p.Pending() {
		t.Fatal("nothing waits")
	}
	for i := range no {
		want(t, mine, byte(i%251))
	}
	<-p.written
	if p.Stage(r, one(frame(1, 1))) {
		t.Fatal("still pending")
	}
	r.Commit()
	want(t, mine, 1)
}

// TestRingKeepsDescriptor ends connections with something staged and opens others:
// none gets the number before the write is over, and none gets the bytes.
func TestRingKeepsDescriptor(t *testing.T) {
	ends := map[string]func(p *probe, mine *net.TCPConn){
		"abort":  func(p *probe, _ *net.TCPConn) { p.Abort() },
		"closed": func(_ *probe, mine *net.TCPConn) { _ = mine.Close() },
		"reset":  func(_ *probe, mine *net.TCPConn) { _ = mine.SetLinger(0); _ = mine.Close() },
		"half":   func(_ *probe, mine *net.TCPConn) { _ = mine.CloseWrite() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			g, r := NewGroup(Config{}), newRing(t)
			p, mine := serve(t, g, nil)
			fd := p.poll.fd
			p.Stage(r, one(frame(66, 66)))
			end(p, mine)
			<-p.gone // and yet the descriptor stays
			var others []*net.TCPConn
			for range 20 {
				q, other := serve(t, g, nil)
				if q.poll.fd == fd {
					t.Fatal("another connection got the descriptor")
				}
				if q.Stage(r, one(frame(1, 1))) {
					t.Fatal("pending")
				}
				others = append(others, other)
			}
			if _, err := descriptor(fd); err != nil {
				t.Fatal("the descriptor was closed:", err)
			}
			r.Commit()
			if _, err := descriptor(fd); err == nil {
				t.Fatal("the descriptor stays")
			}
			for _, other := range others {
				want(t, other, 1)
			}
			q, other := serve(t, g, nil)
			q.TryWrite(one(frame(2, 2)))
			want(t, other, 2)
			if p.Stage(r, one(frame(3, 3))); len(r.staged) > 0 {
				t.Fatal("staged for one that is gone")
			}
		})
	}
}

func descriptor(fd int32) (flags uintptr, err error) {
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	if errno != 0 {
		return 0, errno
	}
	return flags, nil
}

// TestRingRefused lets calls fail: the loops write what is staged, and the rest goes
// its old way.
func TestRingRefused(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EPERM, syscall.ENOSYS, syscall.EBUSY} {
		g, r := NewGroup(Config{}), newRing(t)
		r.uring.enter = func(uintptr, uint32, uint32) syscall.Errno { return errno }
		var failed []error
		r.onFail = func(err error) { failed = append(failed, err) }
		var ends []*net.TCPConn
		for i := range 5 {
			p, mine := serve(t, g, nil)
			p.Stage(r, one(frame(byte(i), 10)))
			ends = append(ends, mine)
		}
		r.Commit()
		for i, mine := range ends {
			want(t, mine, byte(i))
		}
		p, mine := serve(t, g, nil)
		if p.Stage(r, one(frame(7, 7))) || len(r.staged) != 0 {
			t.Fatal("staged for a ring that fails")
		}
		want(t, mine, 7)
		if len(failed) != 1 || !errors.Is(failed[0], errno) {
			t.Fatal(failed)
		}
	}
}

// TestRingFails in the middle: what the kernel took without a word ends its
// connection, for nobody knows what the peer got.
func TestRingFails(t *testing.T) {
	g, r := NewGroup(Config{}), newRing(t)
	sent := 0
	fake(r, func(fd int, p []byte) int32 {
		if sent++; sent == 2 {
			return lost
		}
		return taking(1000)(fd, p)
	}, syscall.ENOMEM)
	var ends []*net.TCPConn
	for range 3 {
		p, mine := serve(t, g, nil)
		p.Stage(r, one(frame(8, 10)))
		ends = append(ends, mine)
	}
	r.Commit()
	want(t, ends[0], 8)
	want(t, ends[2], 8)
	if _, _, err := readFrame(ends[1]); err == nil {
		t.Fatal("it goes on")
	}
}

// TestNoRing asks for a ring without a descriptor left.
func TestNoRing(t *testing.T) {
	newRing(t)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Skip(err)
	}
	now := was
	now.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Skip(err)
	}
	_, err := NewRing(nil)
	if e := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Fatal(err)
	}
}

// TestRingLarge leaves large writes to the connection, and small ones behind them.
func TestRingLarge(t *testing.T) {
	g, r := NewGroup(Config{}), newRing(t)
	p, mine := serve(t, g, nil)
	go func() {
		if p.Stage(r, one(bytes.Repeat(frame(1, 996), 20))) {
			<-p.written
		}
		if !r.Full() {
			t.Error("no commit after a long write")
		}
		p.Stage(r, one(frame(2, 1)))
		r.Commit()
	}()
	for range 20 {
		want(t, mine, 1)
	}
	want(t, mine, 2)
}

// TestRingBeforeStart stages for a connection that is not served yet.
func TestRingBeforeStart(t *testing.T) {
	for _, n := range []int{0, 9, 100} {
		r := newRing(t)
		fake(r, taking(n), 0)
		mine, theirs := pair(t)
		p := &probe{t: t, written: make(chan struct{}, 1), gone: make(chan struct{})}
		NewGroup(Config{}).Open(&p.Conn, theirs, p)
		p.Stage(r, one(frame(1, 20)))
		if n == 9 {
			p.Start()
			r.Commit()
		} else {
			r.Commit()
			p.Start()
		}
		want(t, mine, 1)
		p.Abort()
		<-p.gone
	}
}
