package coinmarketcap

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// Errors of body.read besides those of the connection.
var (
	errTooLarge = errors.New("the answer is too large")
	errEncoding = errors.New("the answer's encoding is not what it says")
)

const (
	// A compressed answer may grow to ratioCap times its size once it is above
	// ratioFree: listings grow tenfold, a bomb a thousandfold.
	ratioCap  = 100
	ratioFree = 1 << 20
	// keepBody is the largest buffer that is kept although it was mostly empty.
	keepBody = 1 << 20
)

// body reads answers into a buffer that it uses again: at most one is read at
// a time, and what it returned is overwritten by the next.
type body struct {
	buf []byte
	zip *gzip.Reader
}

// counted counts what is read of the network and stops at a limit.
type counted struct {
	r     io.Reader
	n     int64
	limit int64
}

// Read reads up to the limit and fails beyond it.
func (c *counted) Read(p []byte) (int, error) {
	if c.n >= c.limit {
		// One byte more tells an answer of exactly the limit from a longer one.
		var one [1]byte
		n, err := c.r.Read(one[:])
		if n > 0 {
			return 0, fmt.Errorf("%w: above %d bytes on the wire", errTooLarge, c.limit)
		}
		return 0, err
	}
	if int64(len(p)) > c.limit-c.n {
		p = p[:c.limit-c.n]
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// read returns the whole body, decoded. It stops at the limits: memory is
// bounded by the decoded limit whatever comes.
func (b *body) read(r io.Reader, encoding string, limits Limits) ([]byte, error) {
	wire := &counted{r: r, limit: limits.Wire}
	switch encoding {
	case "", "identity":
		wire.limit = limits.Body
		return b.fill(wire, wire, limits.Body, false)
	case "gzip", "x-gzip":
	default:
		return nil, fmt.Errorf("%w: not one that was asked for", errEncoding)
	}
	var err error
	if b.zip == nil {
		b.zip, err = gzip.NewReader(wire)
	} else {
		err = b.zip.Reset(wire)
	}
	if err != nil {
		return nil, decodeError(err)
	}
	data, err := b.fill(b.zip, wire, limits.Body, true)
	if err != nil {
		return nil, decodeError(err)
	}
	return data, nil
}

// decodeError tells a broken encoding from a broken connection.
func decodeError(err error) error {
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) {
		return fmt.Errorf("%w: bad gzip", errEncoding)
	}
	if _, corrupt := errors.AsType[flate.CorruptInputError](err); corrupt {
		return fmt.Errorf("%w: bad gzip", errEncoding)
	}
	return err
}

// fill reads r to its end into the kept buffer.
func (b *body) fill(r io.Reader, wire *counted, limit int64, packed bool) ([]byte, error) {
	buf := b.buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		room := buf[len(buf):cap(buf)]
		if over := int64(len(buf)+len(room)) - limit - 1; over > 0 {
			room = room[:int64(len(room))-over]
		}
		n, err := r.Read(room)
		buf = buf[:len(buf)+n]
		size := int64(len(buf))
		switch {
		case size > limit:
			b.buf = nil
			return nil, fmt.Errorf("%w: above %d bytes", errTooLarge, limit)
		case packed && size > ratioFree && size > ratioCap*wire.n:
			b.buf = nil
			return nil, fmt.Errorf("%w: it grows more than %d times by decompression", errTooLarge, ratioCap)
		case err == io.EOF:
			b.keep(buf)
			return buf, nil
		case err != nil:
			b.keep(buf)
			return nil, err
		}
	}
}

// keep holds on to a buffer that was put to use, not to one that was once large.
func (b *body) keep(buf []byte) {
	b.buf = buf
	if cap(buf) > keepBody && len(buf) < cap(buf)/4 {
		b.buf = nil
	}
}
