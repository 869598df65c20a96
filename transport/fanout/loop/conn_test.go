package loop

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

func TestEcho(t *testing.T) { eachBackend(t, testEcho) }

func testEcho(t *testing.T, cfg Config) {
	t.Helper()
	p, mine := serve(t, NewGroup(cfg), func(p *probe) {
		p.input = func(b []byte) { p.TryWrite(one(b)) }
		p.written = make(chan struct{}, 1000)
	})
	for i := range 100 {
		if _, err := mine.Write(frame(byte(i), i)); err != nil {
			t.Fatal(err)
		}
		if _, n, err := readFrame(mine); n != i || err != nil {
			t.Fatalf("frame %d came back with %d bytes: %v", i, n, err)
		}
	}
	_ = mine.Close()
	<-p.gone
}

// TestStalled fills a connection whose peer does not read, and then reads it all.
func TestStalled(t *testing.T) { eachBackend(t, testStalled) }

func testStalled(t *testing.T, cfg Config) {
	t.Helper()
	p, mine := serve(t, NewGroup(cfg), nil)
	shared, sent, no := frame(200, 30<<10), 0, byte(0)
	own := make([]byte, 0, 64<<10)
	for round := range 40 {
		var batch []fanout.Chunk
		for k := range 5 {
			from := len(own[:0])
			if k == 0 {
				own = own[:0]
			} else {
				from = len(own)
			}
			own = append(own, frame(no, 300*k+round)...)
			no = (no + 1) % 100
			batch = append(batch, fanout.Chunk{Bytes: own[from:len(own):len(own)]})
			if k == 2 {
				batch = append(batch, fanout.Chunk{Bytes: shared, Shared: true})
			}
		}
		for i := range batch { // one array for all, as it is for a session
			sent += len(batch[i].Bytes)
		}
		pending := p.TryWrite(batch)
		clear(own[:cap(own)]) // they are the hub's again
		if !pending {
			continue
		}
		for range 8 {
			expect(t, mine, &sent)
		}
		p.Control(frame(201, 3))
		sent += 7
		for {
			select {
			case <-p.written:
			default:
				if sent > 0 {
					expect(t, mine, &sent)
					continue
				}
				<-p.written
			}
			break
		}
	}
	for sent > 0 {
		expect(t, mine, &sent)
	}
}

// expect reads one frame; those with a number come in their order.
func expect(t *testing.T, r io.Reader, left *int) {
	t.Helper()
	if *left == 0 {
		return
	}
	_, n, err := readFrame(r)
	if err != nil {
		t.Fatal(err)
	}
	if *left -= 4 + n; *left < 0 {
		t.Fatal("more came than was sent")
	}
}

// TestOrder sends numbered frames in batches of every shape to a slow reader.
func TestOrder(t *testing.T) { eachBackend(t, testOrder) }

func testOrder(t *testing.T, cfg Config) {
	t.Helper()
	p, mine := serve(t, NewGroup(cfg), nil)
	_ = mine.SetReadBuffer(64 << 10)
	const rounds = 300
	go func() {
		own := make([]byte, 0, 256<<10)
		no := 0
		for range rounds {
			own = own[:0]
			var batch []fanout.Chunk
			for k := range 1 + no%7 {
				from := len(own)
				f := frame(byte(no%251), (no*no*37)%9000)
				no++
				if k%3 == 1 {
					batch = append(batch, fanout.Chunk{Bytes: f, Shared: true})
					continue
				}
				own = append(own, f...)
				batch = append(batch, fanout.Chunk{Bytes: own[from:len(own):len(own)]})
			}
			if p.TryWrite(batch) {
				clear(own)
				<-p.written
			}
		}
		p.Finish(frame(252, 10), false)
	}()
	no := 0
	for {
		fill, n, err := readFrame(mine)
		if err != nil {
			t.Fatalf("after frame %d: %v", no, err)
		}
		if fill == 252 {
			break
		}
		if want := (no * no * 37) % 9000; n != want || n > 0 && fill != byte(no%251) {
			t.Fatalf("frame %d has %d bytes of %d, not %d", no, n, fill, want)
		}
		no++
	}
	if no < rounds {
		t.Fatalf("%d frames", no)
	}
	if _, err := mine.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	_ = mine.Close()
	<-p.gone
}

// TestFinishInsideAFrame wants the begun frame whole, then the last one, and none
// of what was taken between.
func TestFinishInsideAFrame(t *testing.T) { eachBackend(t, testFinishInsideAFrame) }

func testFinishInsideAFrame(t *testing.T, cfg Config) {
	t.Helper()
	p, mine := serve(t, NewGroup(cfg), nil)
	for !p.TryWrite(one(bytes.Repeat(frame(1, 5000), 100))) {
	}
	p.Control(frame(2, 1))
	if !p.Finish(frame(3, 7), false) || p.Finish(frame(4, 7), false) {
		t.Fatal("the first call counts")
	}
	if !p.TryWrite(one(frame(5, 1))) {
		t.Fatal("taken after the end")
	}
	last := byte(0)
	for {
		fill, _, err := readFrame(mine)
		if err == io.EOF {
			break
		}
		if err != nil || fill > 3 || last == 3 {
			t.Fatalf("frame %d after %d: %v", fill, last, err)
		}
		last = fill
	}
	if last != 3 {
		t.Fatalf("ends with %d", last)
	}
	select {
	case <-p.gone:
		t.Fatal("gone before the peer's end")
	default:
	}
	p.Finish(nil, true)
	<-p.gone
}

// TestFinishTimesOut lets a peer read nothing, and then answer nothing.
func TestFinishTimesOut(t *testing.T) { eachBackend(t, testFinishTimesOut) }

func testFinishTimesOut(t *testing.T, cfg Config) {
	t.Helper()
	cfg.CloseWait = 300 * time.Millisecond
	f := func(least time.Duration, prepare func(*probe)) {
		t.Helper()
		p, _ := serve(t, NewGroup(cfg), nil)
		prepare(p)
		begin := time.Now()
		p.Finish(frame(3, 7), false)
		<-p.gone
		if d := time.Since(begin); d < least || d > least+2*time.Second {
			t.Errorf("gone after %s, not %s", d, least)
		}
	}
	f(cfg.CloseWait, func(*probe) {})
	f(cfg.CloseWait, func(p *probe) {
		for !p.TryWrite(one(bytes.Repeat(frame(1, 5000), 100))) {
		}
	})
}

func TestStalledWriteIsCut(t *testing.T) { eachBackend(t, testStalledWriteIsCut) }

func testStalledWriteIsCut(t *testing.T, cfg Config) {
	t.Helper()
	cfg.WriteTimeout = 300 * time.Millisecond
	p, _ := serve(t, NewGroup(cfg), nil)
	p.SetTimer(time.Hour)
	for !p.TryWrite(one(bytes.Repeat(frame(1, 5000), 100))) {
	}
	begin := time.Now()
	<-p.gone
	if d := time.Since(begin); d < 200*time.Millisecond || d > 2*time.Second {
		t.Fatalf("gone after %s", d)
	}
}

// TestPeerLeaves wants the end noticed at once, however the peer goes, while
// nothing is written, something is, or a last frame waits.
func TestPeerLeaves(t *testing.T) { eachBackend(t, testPeerLeaves) }

func testPeerLeaves(t *testing.T, cfg Config) {
	t.Helper()
	leave := []func(mine *net.TCPConn){
		func(mine *net.TCPConn) { _ = mine.Close() },
		func(mine *net.TCPConn) { _ = mine.CloseWrite() },
		func(mine *net.TCPConn) { _ = mine.SetLinger(0); _ = mine.Close() },
	}
	prepare := []func(*probe){
		func(*probe) {},
		func(p *probe) {
			for !p.TryWrite(one(bytes.Repeat(frame(1, 5000), 100))) {
			}
		},
		func(p *probe) { p.Finish(frame(1, 1), false) },
	}
	for _, way := range leave {
		for _, state := range prepare {
			p, mine := serve(t, NewGroup(cfg), nil)
			state(p)
			begin := time.Now()
			way(mine)
			<-p.gone
			if d := time.Since(begin); d > time.Second {
				t.Errorf("noticed after %s", d)
			}
		}
	}
}

// TestTimers sets many timers and wants each in time.
func TestTimers(t *testing.T) { eachBackend(t, testTimers) }

func testTimers(t *testing.T, cfg Config) {
	t.Helper()
	g := NewGroup(cfg)
	late := make(chan time.Duration, 100)
	for i := range 20 {
		d := time.Duration(i) * 37 * time.Millisecond
		begin := time.Now()
		p, _ := serve(t, g, func(p *probe) { p.expired = func() { late <- time.Since(begin) - d } })
		p.SetTimer(time.Hour)
		p.SetTimer(d)
	}
	for range 20 {
		if d := <-late; d < 0 || d > time.Second {
			t.Errorf("%s late", d)
		}
	}
}

func TestPanics(t *testing.T) { eachBackend(t, testPanics) }

func testPanics(t *testing.T, cfg Config) {
	t.Helper()
	g := NewGroup(cfg)
	well, other := serve(t, g, func(p *probe) { p.input = func(b []byte) { p.TryWrite(one(b)) } })
	p, mine := serve(t, g, func(p *probe) { p.input = func([]byte) { panic("input") } })
	_, _ = mine.Write([]byte("x"))
	<-p.gone
	q, _ := serve(t, g, func(p *probe) { p.expired = func() { panic("expired") } })
	q.SetTimer(0)
	<-q.gone
	for _, v := range []*probe{p, q} {
		if len(v.panics) != 1 {
			t.Errorf("got %v", v.panics)
		}
	}
	_, _ = other.Write(frame(1, 1))
	if _, n, err := readFrame(other); n != 1 || err != nil || well.Closing() {
		t.Fatal(n, err)
	}
}

// TestEndBeforeStart ends a connection before it is served.
func TestEndBeforeStart(t *testing.T) { eachBackend(t, testEndBeforeStart) }

func testEndBeforeStart(t *testing.T, cfg Config) {
	t.Helper()
	f := func(end func(*probe)) {
		t.Helper()
		_, theirs := pair(t)
		p := &probe{t: t, written: make(chan struct{}, 1), gone: make(chan struct{})}
		NewGroup(cfg).Open(&p.Conn, theirs, p)
		end(p)
		p.Start()
		<-p.gone
	}
	f(func(p *probe) { p.Abort() })
	f(func(p *probe) { p.Finish(frame(1, 1), true) })
	f(func(p *probe) {
		for !p.TryWrite(one(bytes.Repeat(frame(1, 5000), 100))) {
		}
		p.Abort()
	})
}
