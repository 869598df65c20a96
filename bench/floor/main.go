//go:build linux

// Command floor writes the bytes of a stream and does nothing else: at every
// tick one frame of a given size to each connection, with one write(2) past the
// scheduler. What streamload measures on it is the least that the same bytes
// cost a Go program on this machine, and the least that they take to arrive.
//
//	floor -listen 127.0.0.1:9200 -every 1s -bytes 170 -rows 14
//	floor -uring 128 -files -every 1s -bytes 170 -rows 14       with io_uring
//	floor -uring 128 -compare -every 170ms -bytes 29 -rows 1    the ways in turns
//	streamload -addr 127.0.0.1:9200 -tokens 0 -n 5000 -pid PID
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	headBytes = 16 // fixed head of a binary message
	restBytes = 13 // distance, time, difference of times, source and room
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9200", "loopback address to listen on")
	every := flag.Duration("every", time.Second, "time between two ticks")
	size := flag.Int("bytes", 200, "bytes of a message without its frame, at least 29")
	rows := flag.Int("rows", 14, "rows that a message claims to have")
	batch := flag.Int("uring", 0, "sends of a batch by io_uring, a power of two; 0: write(2)")
	files := flag.Bool("files", false, "register the descriptors with io_uring")
	compare := flag.Bool("compare", false, "let write(2), send(2) and io_uring take turns and tell what each costs")
	beside := flag.Int("beside", 0, "compare: id of a thread of the kernel whose time counts too, such as ksoftirqd; 0: none")
	anywhere := flag.Bool("anywhere", false, "use io_uring from any thread: no single issuer, no deferred work")
	send := flag.Bool("send", false, "send(2) instead of write(2)")
	flag.Parse()
	if *compare && *batch == 0 {
		*batch = 128
	}
	f := &floor{every: *every, size: max(*size, headBytes+restBytes), rows: *rows, batch: *batch, files: *files, anywhere: *anywhere, compare: *compare, beside: *beside}
	switch {
	case *batch > 0:
		f.way = byRing
	case *send:
		f.way = bySend
	}
	if err := f.serve(*listen); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1) //nolint:forbidigo // main has no other way to fail
	}
}

// floor has the connections that asked for ticks.
type floor struct {
	every      time.Duration
	size, rows int
	batch      int  // of io_uring; 0 without
	files      bool // registered with it
	anywhere   bool // it belongs to no thread
	way        way
	compare    bool // take all ways in turns
	beside     int

	mu    sync.Mutex
	conns map[*client]bool
	gone  []*client // whose descriptor waits for tick to let it go
}

// client is a connection. Its slot is of tick alone.
type client struct {
	nc    net.Conn
	fd    int
	slot  int32 // in the table of files; -1 for none
	known bool  // to the table
}

func (f *floor) serve(addr string) error {
	if host, _, err := net.SplitHostPort(addr); err != nil || !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("cannot listen on %q: %w", addr, errors.New("not a loopback address"))
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("cannot listen on %q: %w", addr, err)
	}
	f.conns = make(map[*client]bool)
	failed := make(chan error, 1)
	go func() { failed <- f.tick() }()
	go f.accept(ln, failed)
	return <-failed
}

func (f *floor) accept(ln net.Listener, failed chan<- error) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			failed <- fmt.Errorf("cannot accept on %q: %w", ln.Addr(), err)
			return
		}
		go f.join(nc)
	}
}

// tick writes to everybody, for ever.
func (f *floor) tick() error {
	var r *ring
	if !f.anywhere && f.batch > 0 || f.compare {
		runtime.LockOSThread()
	}
	if f.batch > 0 {
		var err error
		if r, err = newRing(uint32(f.batch), f.files, f.anywhere); err != nil {
			return err
		}
	}
	c := comparison{beside: f.beside}
	seq := uint64(1)
	for now := range time.Tick(f.every) {
		seq++
		w := f.way
		if f.compare {
			w = way(seq % uint64(ways))
			c.begin()
		}
		frame := f.frame(2, seq, now, f.rows)
		begin := clock(clockThread)
		n, err := f.round(r, w, frame)
		if err != nil {
			return err
		}
		if f.compare {
			c.end(w, clock(clockThread)-begin, n)
		}
	}
	return nil
}

// round sends one frame to everybody and returns to how many.
func (f *floor) round(r *ring, w way, frame []byte) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w == byRing {
		return len(f.conns), f.submitAll(r, frame)
	}
	for c := range f.conns {
		write(c.fd, frame, w == bySend)
	}
	return len(f.conns), nil
}

// frame makes a whole message: kind 1 is a snapshot, 2 a delta.
func (f *floor) frame(kind byte, seq uint64, now time.Time, rows int) []byte {
	p := make([]byte, headBytes, f.size+4)
	p[0] = kind
	binary.LittleEndian.PutUint16(p[2:], uint16(rows))
	binary.LittleEndian.PutUint64(p[8:], seq)
	if kind == 2 {
		p = binary.AppendUvarint(p, 1)
	}
	p = binary.AppendUvarint(p, uint64(now.UnixMilli()))
	p = append(p, make([]byte, f.size-len(p))...)
	if len(p) < 126 {
		return append([]byte{0x82, byte(len(p))}, p...)
	}
	if len(p) < 1<<16 {
		return append(binary.BigEndian.AppendUint16([]byte{0x82, 126}, uint16(len(p))), p...)
	}
	return append(binary.BigEndian.AppendUint64([]byte{0x82, 127}, uint64(len(p))), p...)
}

// join answers one client and reads until it ends.
func (f *floor) join(nc net.Conn) {
	defer nc.Close() //nolint:errcheck // nothing is lost
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	fd := -1
	_ = raw.Control(func(n uintptr) { fd = int(n) })
	if upgrade(nc) != nil {
		return
	}
	var buf [1 << 10]byte
	if _, err := nc.Read(buf[:]); err != nil { // the subscription, whatever it says
		return
	}
	const answer = `{"type":"subscribed","sub":1,"ch":1,"recovered":false}`
	_, err = nc.Write(append(append([]byte{0x81, byte(len(answer))}, answer...), f.frame(1, 1, time.Now(), 0)...))
	if err != nil {
		return
	}
	c := &client{nc: nc, fd: fd, slot: -1}
	f.mu.Lock()
	f.conns[c] = true
	f.mu.Unlock()
	_, _ = io.Copy(io.Discard, nc)
	f.mu.Lock()
	delete(f.conns, c)
	if f.batch > 0 {
		f.gone = append(f.gone, c)
	}
	f.mu.Unlock()
}

func upgrade(nc net.Conn) error {
	var buf [4 << 10]byte
	for n := 0; ; {
		k, err := nc.Read(buf[n:])
		if err != nil {
			return fmt.Errorf("cannot read handshake: %w", err)
		}
		if n += k; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			break
		}
	}
	_, err := nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")) // of the key that streamload sends
	if err != nil {
		return fmt.Errorf("cannot answer handshake: %w", err)
	}
	return nil
}

// write blocks, on the thread, until p is with the kernel or the connection fails.
func write(fd int, p []byte, send bool) {
	for len(p) > 0 {
		var n uintptr
		var errno syscall.Errno
		if send {
			n, _, errno = syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		} else {
			n, _, errno = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		}
		switch {
		case errno == syscall.EAGAIN:
			<-time.After(time.Millisecond)
		case errno != 0 && errno != syscall.EINTR:
			return
		case errno == 0:
			p = p[n:]
		}
	}
}
