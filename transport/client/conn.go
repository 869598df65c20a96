package client

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/transport/wire"
)

const (
	readBuffer   = 4 << 10
	writeTimeout = 10 * time.Second
	silence      = 30 * time.Second // before hello tells better
	closeTimeout = 500 * time.Millisecond
	noStatus     = wire.CloseCode(1005)

	opContinue = 0
	opText     = 1
	opBinary   = 2
	opClose    = 8
	opPing     = 9
	opPong     = 10
)

// conn is the client's end of a WebSocket. One goroutine reads; any may write.
type conn struct {
	nc      net.Conn
	br      *bufio.Reader
	max     int // bytes of a message, inflated
	deflate bool
	silence time.Duration
	armed   time.Time // when the read deadline was set last

	packed   []byte
	inflater io.ReadCloser

	pace    pace
	largest int // bytes of a message that the server takes; 0 is unknown

	wmu  sync.Mutex
	out  []byte
	said bool // goodbye; nothing may follow it

	once  sync.Once
	cause atomic.Pointer[error] // why this side gave up; set before nc is closed
}

func newConn(nc net.Conn, br *bufio.Reader, limit int, deflate bool) *conn {
	return &conn{nc: nc, br: br, max: limit, deflate: deflate, silence: silence}
}

// frame is the head of a frame of the server.
type frame struct {
	fin, packed bool
	op          byte
	size        uint64
}

// read returns the next message in buf, or in a larger slice. It answers pings
// and the server's close. An error ends the connection.
func (c *conn) read(buf []byte) (msg []byte, binary bool, err error) {
	buf = buf[:0]
	op, packed := byte(opContinue), false
	for {
		f, err := c.head()
		if err != nil {
			return buf, false, c.ended(err)
		}
		if f.op >= opClose {
			if err := c.answer(&f); err != nil {
				return buf, false, c.ended(err)
			}
			continue
		}
		if (f.op == opContinue) != (op != opContinue) {
			return buf, false, c.fail(wire.CloseProtocol, "frames of messages are mixed up")
		}
		if f.op != opContinue {
			op, packed = f.op, f.packed
		} else if f.packed {
			return buf, false, c.fail(wire.CloseProtocol, "a bit of the first frame in another")
		}
		into := &buf
		if packed {
			if f.op != opContinue {
				c.packed = c.packed[:0]
			}
			into = &c.packed
		}
		if f.size > uint64(c.max-len(*into)) {
			return buf, false, c.fail(wire.CloseTooBig, fmt.Sprintf("a message above %d bytes", c.max))
		}
		if *into, err = c.payload(*into, int(f.size)); err != nil {
			return buf, false, c.ended(err)
		}
		if f.fin {
			if packed {
				if buf, err = c.inflate(buf); err != nil {
					return buf, false, c.fail(wire.CloseInvalidData, err.Error())
				}
			}
			return buf, op == opBinary, nil
		}
	}
}

// head reads the head of a frame and refuses what a server must not send.
func (c *conn) head() (f frame, err error) {
	if now := time.Now(); now.Sub(c.armed) > c.silence/16 {
		c.armed = now
		if err := c.nc.SetReadDeadline(now.Add(c.silence + c.silence/16)); err != nil {
			return f, err
		}
	}
	b, err := c.br.Peek(2)
	if err != nil {
		return f, err
	}
	f.fin, f.packed, f.op = b[0]&0x80 != 0, b[0]&0x40 != 0, b[0]&15
	n := b[1]
	known := f.op <= opBinary || f.op >= opClose && f.op <= opPong
	if b[0]&0x30 != 0 || n&0x80 != 0 || !known || f.packed && (!c.deflate || f.op >= opClose) || f.op >= opClose && (!f.fin || n > 125) {
		return f, c.fail(wire.CloseProtocol, "a frame that a server must not send")
	}
	_, _ = c.br.Discard(2) // they were peeked
	extra := map[byte]int{126: 2, 127: 8}[n]
	if f.size = uint64(n); extra == 0 {
		return f, nil
	}
	if b, err = c.br.Peek(extra); err != nil {
		return f, err
	}
	if extra == 2 {
		f.size = uint64(binary.BigEndian.Uint16(b))
	} else {
		f.size = binary.BigEndian.Uint64(b)
	}
	_, err = c.br.Discard(extra)
	return f, err
}

// payload appends n bytes. Memory grows with what comes, not with what is announced.
func (c *conn) payload(dst []byte, n int) ([]byte, error) {
	for n > 0 {
		step := min(n, 64<<10)
		at := len(dst)
		dst = append(dst, make([]byte, step)...)
		if _, err := io.ReadFull(c.br, dst[at:]); err != nil {
			return dst, err
		}
		n -= step
	}
	return dst, nil
}

// inflate unpacks a message that has no context of earlier ones.
func (c *conn) inflate(dst []byte) ([]byte, error) {
	src := io.MultiReader(bytes.NewReader(c.packed), bytes.NewReader([]byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff}))
	if c.inflater == nil {
		c.inflater = flate.NewReader(src)
	} else if err := c.inflater.(flate.Resetter).Reset(src, nil); err != nil {
		return dst, err
	}
	w := bytes.NewBuffer(dst)
	n, err := io.Copy(w, io.LimitReader(c.inflater, int64(c.max)+1))
	if err == nil && n > int64(c.max) {
		err = fmt.Errorf("a message above %d bytes", c.max)
	}
	return w.Bytes(), err
}

// answer reads a control frame and does what it asks for.
func (c *conn) answer(f *frame) error {
	var room [125]byte
	data := room[:f.size]
	if _, err := io.ReadFull(c.br, data); err != nil {
		return err
	}
	switch f.op {
	case opPing:
		return c.write(opPong, data)
	case opClose:
		e := &CloseError{Code: noStatus}
		if len(data) >= 2 {
			e.Code = wire.CloseCode(binary.BigEndian.Uint16(data))
			e.Reason = string(data[2:])
		}
		if len(data) == 1 || !utf8.ValidString(e.Reason) || e.Code < 1000 || e.Code > 4999 {
			return c.fail(wire.CloseProtocol, "a broken close frame")
		}
		_ = c.write(opClose, data[:min(2, len(data))]) // the end comes either way
		return e
	}
	return nil
}

// ended turns the error of a read into why the connection ended.
func (c *conn) ended(err error) error {
	switch {
	case c.cause.Load() != nil:
		return *c.cause.Load()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("nothing came for %s: %w", c.silence, ErrSilent)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the connection was cut: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// fail tells the server what it did wrong and returns it.
func (c *conn) fail(code wire.CloseCode, what string) error {
	c.close(code, nil)
	return &ProtocolError{What: what}
}

// write sends one frame.
func (c *conn) write(op byte, data []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.send(op, data, writeTimeout)
}

// send writes a frame; the caller holds wmu.
func (c *conn) send(op byte, data []byte, timeout time.Duration) error {
	if c.said {
		return net.ErrClosed
	}
	c.said = op == opClose
	b := c.out[:0]
	b = append(b, 0x80|op)
	switch n := len(data); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	var mask [4]byte
	_, _ = rand.Read(mask[:])
	b = append(b, mask[:]...)
	for i, x := range data {
		b = append(b, x^mask[i&3])
	}
	c.out = b
	if err := c.nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(b)
	return err
}

// close says goodbye, where nobody is writing, and cuts the connection. The
// reader ends with cause, if there is one.
func (c *conn) close(code wire.CloseCode, cause error) {
	c.once.Do(func() {
		if cause != nil {
			c.cause.Store(&cause)
		}
		if c.wmu.TryLock() {
			_ = c.send(opClose, binary.BigEndian.AppendUint16(nil, uint16(code)), closeTimeout)
			c.wmu.Unlock()
		}
		_ = c.nc.Close()
	})
}
