package loop

import (
	"bytes"
	"io"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// TestStaleEvent hands a loop an event of a connection whose place another got.
func TestStaleEvent(t *testing.T) {
	g := NewGroup(Config{})
	g.loops.once.Do(func() { g.loops.all = []*epoll{newEpoll()} })
	e := g.loops.all[0]
	first, mine := serve(t, g, nil)
	keeper, _ := serve(t, g, nil)
	place, generation := first.poll.place, first.poll.generation
	_ = mine.Close()
	<-first.gone
	heard := make(chan struct{}, 1)
	second, _ := serve(t, g, func(p *probe) { p.input = func([]byte) { heard <- struct{}{} } })
	if second.poll.place != place || second.poll.generation == generation {
		t.Fatal("the place was not used again")
	}
	e.mu.Lock()
	p := e.places[place]
	e.mu.Unlock()
	if p.generation == generation || p.conn != &second.Conn || keeper.Closing() {
		t.Fatal("an old event would reach a new connection")
	}
}

// TestNoDescriptors takes a connection while the process has none left.
func TestNoDescriptors(t *testing.T) {
	g := NewGroup(Config{})
	echo := func(p *probe) { p.input = func(b []byte) { p.TryWrite(one(b)) } }
	_, _ = serve(t, g, echo) // the loops have theirs
	mine, theirs := pair(t)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Skip(err)
	}
	now := was
	now.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Skip(err)
	}
	p := &probe{t: t, written: make(chan struct{}, 1), gone: make(chan struct{})}
	echo(p)
	g.Open(&p.Conn, theirs, p)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if p.stream == nil {
		t.Fatal("a descriptor came from nowhere")
	}
	p.Start()
	_, _ = mine.Write(frame(7, 7))
	if fill, n, err := readFrame(mine); fill != 7 || n != 7 || err != nil {
		t.Fatal(fill, n, err)
	}
	_ = mine.Close()
	<-p.gone
}

func TestSocketOptions(t *testing.T) {
	p, _ := serve(t, NewGroup(Config{}), nil)
	f := func(name, want int) {
		t.Helper()
		if got, err := syscall.GetsockoptInt(int(p.poll.fd), syscall.IPPROTO_TCP, name); got != want || err != nil {
			t.Errorf("option %d is %d, not %d: %v", name, got, want, err)
		}
	}
	f(tcpNotSentLowat, 16<<10)
	f(tcpUserTimeout, 40_000)
}

// TestStalledMemory bounds what the kernel holds for a peer that does not read.
func TestStalledMemory(t *testing.T) {
	for _, size := range []int{200, 1000, 4000, 16 << 10, 64 << 10} {
		p, _ := serve(t, NewGroup(Config{}), func(p *probe) { p.written = make(chan struct{}, 1<<10) })
		total := 0
		for idle := time.Now(); time.Since(idle) < 300*time.Millisecond; {
			if p.Pending() {
				<-time.After(time.Millisecond)
				continue
			}
			for !p.TryWrite(one(frame(1, size-4))) {
				total += size
			}
			idle = time.Now()
		}
		kept := 0
		p.mu.Lock()
		for _, part := range p.out.parts {
			kept += len(part)
		}
		p.mu.Unlock()
		queued := sendQueue(t, p)
		t.Logf("writes of %5d: %6d bytes taken, %5d in the kernel, %5d kept", size, total, queued, kept)
		if queued > 48<<10 || kept > size {
			t.Errorf("writes of %d: the kernel holds %d bytes, we %d", size, queued, kept)
		}
	}
}

// sendQueue returns the memory of the send queue, headers included.
func sendQueue(t *testing.T, p *probe) int {
	t.Helper()
	const soMeminfo, wmemQueued = 55, 5
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(p.poll.fd), syscall.SOL_SOCKET, soMeminfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		t.Skip(errno)
	}
	return int(info[wmemQueued])
}

// TestSnapshotIsQuick sends 1 MiB in batches to a peer that reads.
func TestSnapshotIsQuick(t *testing.T) {
	p, mine := serve(t, NewGroup(Config{}), nil)
	done := make(chan error, 1)
	const size = 1 << 20
	begin := time.Now()
	go func() {
		_, err := io.CopyN(io.Discard, struct{ io.Reader }{mine}, size)
		done <- err
	}()
	part := bytes.Repeat(frame(1, 1020), 64)
	for range size / len(part) {
		if p.TryWrite(one(part)) {
			<-p.written
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 500*time.Millisecond {
		t.Errorf("took %s", d)
	} else {
		t.Log(d)
	}
}

// TestWheel plans looks at random times and wants them in order.
func TestWheel(t *testing.T) {
	e := newEpoll()
	defer e.file.Close()
	now := clock()
	due := make(map[*Conn]int64)
	for i := range 2000 {
		c := &Conn{poll: polled{slot: unplan}}
		due[c] = now + int64(i)*int64(100*time.Millisecond)
		e.wheel.set(c, now+int64(time.Hour))
		e.wheel.set(c, due[c])
		if i%3 == 0 {
			e.wheel.remove(c)
			delete(due, c)
		}
	}
	for at := now; len(due) > 0; at += tick / 2 {
		for _, c := range e.wheel.due(at, nil) {
			if when, ok := due[c]; !ok {
				t.Fatal("a look that was not planned")
			} else if when > at {
				e.wheel.set(c, when)
			} else if delete(due, c); at-when > 2*tick {
				t.Fatalf("%s late", time.Duration(at-when))
			}
		}
		if at > now+int64(time.Hour) {
			t.Fatalf("%d left", len(due))
		}
	}
	if got := e.wheel.due(now+int64(2*time.Hour), nil); len(got) > 0 || e.wheel.next != never {
		t.Fatal("something is left")
	}
}
