package rest

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// minCompress is the body size in bytes up to which compressing is not worth it.
const minCompress = 1 << 10

// Levels: a body is compressed at most once a second and read many times.
const (
	brotliLevel = 4
	gzipLevel   = 5
)

var (
	gzipWriters   = sync.Pool{New: func() any { return newGzip() }}
	brotliWriters = sync.Pool{New: func() any { return brotli.NewWriterLevel(nil, brotliLevel) }}
	zstdEncoder   = sync.OnceValue(newZstd)
)

func newGzip() *gzip.Writer {
	w, err := gzip.NewWriterLevel(nil, gzipLevel)
	if err != nil {
		panic(fmt.Sprintf("BUG: gzip level %d: %v", gzipLevel, err))
	}
	return w
}

func newZstd() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(2),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(fmt.Sprintf("BUG: zstd options: %v", err))
	}
	return e
}

// compress returns body in the coding, in a slice of its own.
func compress(body []byte, c coding) []byte {
	switch c {
	case gzipCoding:
		w, _ := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(w)
		return stream(w, body)
	case brotliCoding:
		w, _ := brotliWriters.Get().(*brotli.Writer)
		defer brotliWriters.Put(w)
		return stream(w, body)
	case zstdCoding:
		return bytes.Clone(zstdEncoder().EncodeAll(body, make([]byte, 0, len(body)/4)))
	default:
		return body
	}
}

// compressor is what the two streaming codecs have in common.
type compressor interface {
	io.WriteCloser
	Reset(dst io.Writer)
}

// stream runs a codec over body. Writing to memory cannot fail.
func stream(w compressor, body []byte) []byte {
	var out bytes.Buffer
	out.Grow(len(body) / 4)
	w.Reset(&out)
	_, _ = w.Write(body)
	_ = w.Close()
	return bytes.Clone(out.Bytes())
}
