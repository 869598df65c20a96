package ws

import (
	"net"
	"syscall"
	"testing"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// TestSocketOptions looks at the socket of a served connection: what is unsent is
// bounded, the send buffer is the kernel's own, and a peer that is gone is noticed.
func TestSocketOptions(t *testing.T) {
	s := quiet(t, fanout.Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	mine, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	before := options(t, theirs)
	lease, err := s.admit(addrOf(theirs.RemoteAddr()))
	if err != nil {
		t.Fatal(err)
	}
	s.start(theirs, lease)
	got := options(t, theirs)
	if got.unsent != s.cfg.Unsent || got.silence != s.cfg.Silence.Milliseconds() || got.buffer < before.buffer {
		t.Fatalf("got %+v after %+v", got, before)
	}
	_ = mine.Close()
	gone(t, s)
}

type socketOptions struct {
	unsent, buffer int
	silence        int64
}

func options(t *testing.T, nc net.Conn) (o socketOptions) {
	t.Helper()
	tcp, _ := tcpOf(nc)
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	get := func(fd uintptr, level, name int) int {
		v, e := syscall.GetsockoptInt(int(fd), level, name)
		if e != nil {
			err = e
		}
		return v
	}
	if e := raw.Control(func(fd uintptr) {
		o.unsent = get(fd, syscall.IPPROTO_TCP, tcpNotSentLowat)
		o.silence = int64(get(fd, syscall.IPPROTO_TCP, tcpUserTimeout))
		o.buffer = get(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return o
}
