package ws

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

	"github.com/velocimeter/velocimeter/transport/fanout"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Deflate is Text with compression (RFC 7692, no context takeover): what goes to
// every member of a channel is compressed once for all of them, where that pays.
type Deflate struct{}

var _ fanout.Framing = Deflate{}

const (
	rsv1 = 0x40
	// deflateLeast is the length in bytes from which compression pays.
	deflateLeast = 256
	// deflateLevel was measured on deltas (BenchmarkDeflate): a tenth less than level
	// 1 for half as much time again, spent once for all; level 6 is hardly smaller.
	deflateLevel = 5
)

// syncMarker ends a flushed block; RFC 7692 leaves it away.
var syncMarker = []byte{0, 0, 0xff, 0xff}

// Compresses implements fanout.Framing.
func (Deflate) Compresses() bool { return true }

// Append implements fanout.Framing.
func (Deflate) Append(dst []byte, m *fanout.Message) []byte {
	if !m.Shared || m.Binary || len(m.Body) < deflateLeast {
		return appendMessage(dst, m)
	}
	d, _ := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	body := d.compress(m.Body)
	if len(body) >= len(m.Body) {
		return appendMessage(dst, m)
	}
	return append(appendHeader(dst, opText|rsv1, len(body)), body...)
}

type deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	d.w, _ = flate.NewWriter(&d.out, deflateLevel) // the level is valid
	return d
}}

// compress returns the compressed text, good until the next call.
func (d *deflater) compress(text []byte) []byte {
	d.out.Reset()
	d.w.Reset(&d.out)
	_, _ = d.w.Write(text) // into memory
	_ = d.w.Flush()
	return bytes.TrimSuffix(d.out.Bytes(), syncMarker)
}

// inflater undoes the compression of one client message.
type inflater struct {
	in  bytes.Reader
	r   io.ReadCloser
	out []byte
}

// deflateEnd is what RFC 7692 left away, and an empty last block, so that the
// reader stops.
var deflateEnd = []byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff}

var inflaters = sync.Pool{New: func() any {
	i := new(inflater)
	i.r = flate.NewReader(&i.in)
	return i
}}

// keepInflated bounds the buffers that go back to the pool.
const keepInflated = 128 << 10

func (i *inflater) release() {
	i.in.Reset(nil)
	if cap(i.out) <= keepInflated {
		inflaters.Put(i)
	}
}

// inflate returns the text of a compressed message, good until release. It may
// write behind the end of body.
func (i *inflater) inflate(body []byte, limit int) ([]byte, *violation) {
	i.in.Reset(append(body, deflateEnd...))
	reset, _ := i.r.(flate.Resetter)
	if reset.Reset(&i.in, nil) != nil {
		return nil, breach(wire.CloseInternal, "internal error")
	}
	i.out = i.out[:0]
	for {
		if len(i.out) == cap(i.out) {
			i.grow(limit)
		}
		n, err := i.r.Read(i.out[len(i.out):cap(i.out)])
		i.out = i.out[:len(i.out)+n]
		switch {
		case len(i.out) > limit:
			return nil, breach(wire.CloseTooBig, "message above the limit")
		case errors.Is(err, io.EOF) && i.over():
			return i.out, nil
		case err != nil:
			return nil, breach(wire.CloseInvalidData, "message is not deflated")
		}
	}
}

// over reports whether nothing stands behind the last block: a client that marks
// one of its own puts one zero byte there.
func (i *inflater) over() bool {
	rest := i.in.Len() - len(deflateEnd)
	if rest != 1 {
		return rest == 0 || rest == -len(deflateEnd)
	}
	b, err := i.in.ReadByte()
	return err == nil && b == 0
}

// grow makes room for more, up to one byte above the limit.
func (i *inflater) grow(limit int) {
	size := min(max(4<<10, 4*cap(i.out)), limit+1)
	if size <= cap(i.out) {
		size = 2 * cap(i.out)
	}
	i.out = append(make([]byte, 0, size), i.out...)
}
