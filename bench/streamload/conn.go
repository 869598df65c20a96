//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"syscall"
	"time"
)

// phase is how far a connection is.
type phase uint8

const (
	down phase = iota
	connecting
	upgrading
	subscribing // until the answer
	catching    // until the first data message is complete
	live
)

// conn is one client.
type conn struct {
	load      *load
	fd        int32
	tls       *tls.Conn // nil where nothing is encrypted
	phase     phase
	small     bool // has a small receive buffer
	selection string
	rest      []byte // an incomplete frame
	notBefore time.Time

	epoch     string // of the last connection with a position
	position  uint64
	recovered bool
	back      time.Time // when the newest catch-up was complete
}

// handshake is the upgrade request; the key is the one of RFC 6455.
func (l *load) handshake() []byte {
	first, proto := "GET /api/v1/stream HTTP/1.1\r\n", "Sec-WebSocket-Protocol: velocimeter.v1.json\r\n"
	switch l.cfg.proto {
	case "bin":
		proto = "Sec-WebSocket-Protocol: velocimeter.v1.bin\r\n"
	case socketIO:
		first, proto = socketIORequest, ""
	}
	return []byte(first + "Host: " + l.host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + proto + "\r\n")
}

// subscribe is the client's message, with its position where it has one.
func (c *conn) subscribe() []byte {
	text := `{"op":"subscribe",` + c.selection
	if o := c.load.cfg.options; o != "" {
		text += "," + o
	}
	if c.position > 0 {
		text += fmt.Sprintf(`,"since":{"epoch":%q,"seq":%d}`, c.epoch, c.position)
	}
	return maskedFrame(1, []byte(text+"}"))
}

func (c *conn) connect() {
	l := c.load
	if l.cfg.tls {
		c.phase, c.rest, c.tls = connecting, nil, nil
		l.dialing++
		go l.secure(c)
		return
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		c.retry(time.Second)
		return
	}
	if c.small {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	c.fd, c.phase, c.rest = int32(fd), connecting, nil
	l.dialing++
	l.byFD[c.fd] = c
	err = syscall.Connect(fd, &l.to)
	if err != nil && err != syscall.EINPROGRESS {
		c.end()
		return
	}
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT, Fd: c.fd}
	_ = syscall.EpollCtl(l.ep, syscall.EPOLL_CTL_ADD, fd, &ev)
}

// ready acts on an event.
func (c *conn) ready(events uint32) {
	if c.phase == connecting && events&syscall.EPOLLOUT != 0 {
		if code, _ := syscall.GetsockoptInt(int(c.fd), syscall.SOL_SOCKET, syscall.SO_ERROR); code != 0 {
			c.end()
			return
		}
		ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: c.fd}
		_ = syscall.EpollCtl(c.load.ep, syscall.EPOLL_CTL_MOD, int(c.fd), &ev)
		c.phase = upgrading
		c.write(c.load.handshake())
		return
	}
	c.read()
}

func (c *conn) write(p []byte) {
	var n int
	var err error
	if c.tls != nil {
		n, err = c.tls.Write(p)
	} else {
		n, err = syscall.Write(int(c.fd), p)
	}
	if err != nil || n < len(p) {
		c.end() // what a client sends is far smaller than the kernel's buffer
	}
}

// read takes what came; of TLS all of it, for the kernel has nothing more to tell
// of what crypto/tls keeps.
func (c *conn) read() {
	buf := c.load.buf
	off := copy(buf, c.rest)
	var n int
	var err error
	if c.tls != nil {
		n, err = c.tls.Read(buf[off:])
	} else {
		n, err = syscall.Read(int(c.fd), buf[off:])
	}
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		return
	}
	if err != nil || n <= 0 {
		c.end()
		return
	}
	c.take(buf[:off+n], n)
	if c.tls != nil && c.fd >= 0 {
		c.read()
	}
}

// take acts on what came, of which the last n bytes are new.
func (c *conn) take(p []byte, n int) {
	c.load.received.bytes += int64(n)
	if c.phase == upgrading {
		i := bytes.Index(p, []byte("\r\n\r\n"))
		if i < 0 {
			c.keep(p)
			return
		}
		if !bytes.HasPrefix(p, []byte("HTTP/1.1 101 ")) {
			c.end()
			return
		}
		p = p[i+4:]
		c.phase = subscribing
		if c.selection != "" && c.load.cfg.proto != socketIO {
			c.write(c.subscribe())
		}
	}
	now := time.Now()
	for c.fd >= 0 {
		op, body, size := serverFrame(p)
		if size == 0 {
			c.keep(p)
			return
		}
		p = p[size:]
		c.frame(op, body, now)
	}
}

func (c *conn) keep(p []byte) {
	if c.rest = append(c.rest[:0], p...); len(c.rest) == 0 {
		c.rest = nil
	}
}

func (c *conn) frame(op byte, body []byte, now time.Time) {
	switch op {
	case 1, 2:
		c.message(op, body, now)
	case 8:
		c.write(maskedFrame(8, body))
		if c.fd >= 0 {
			c.end()
		}
	case 9:
		c.write(maskedFrame(10, body))
	}
}

// end closes the connection and lets it come back where it should.
func (c *conn) end() {
	l := c.load
	switch c.phase {
	case live:
		l.live--
		l.dropped++
	case connecting, upgrading, subscribing, catching:
		l.dialing--
		l.refused++
	case down:
	}
	was := c.phase
	_ = syscall.Close(int(c.fd))
	delete(l.byFD, c.fd)
	c.fd, c.phase, c.rest, c.tls = -1, down, nil, nil
	if was != live || l.redial {
		c.retry(100*time.Millisecond + rand.N(400*time.Millisecond))
	}
}

func (c *conn) retry(after time.Duration) {
	c.notBefore = time.Now().Add(after)
	c.load.waiting = append(c.load.waiting, c)
}

// arrive notes that the first data of a subscription is complete.
func (c *conn) arrive(now time.Time) {
	if c.phase == catching {
		c.phase, c.back = live, now
		c.load.dialing--
		c.load.live++
	}
}

// stopReading makes the connection a stalled one and returns its port.
func (c *conn) stopReading() string {
	_ = syscall.EpollCtl(c.load.ep, syscall.EPOLL_CTL_DEL, int(c.fd), nil)
	name, _ := syscall.Getsockname(int(c.fd))
	if at, ok := name.(*syscall.SockaddrInet4); ok {
		return strconv.Itoa(at.Port)
	}
	return ""
}
