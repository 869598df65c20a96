package sealed

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A stream's frames: where it lies in the stream, how much of the stream was synced
// when it was written, its length, then what is sealed. They lie one behind the
// other, each as long as its write. The nonce is where it lies: a stream only grows,
// so none comes twice.
const (
	streamHead  = 20
	maxFrame    = 32 << 10
	streamExtra = streamHead + tagBytes
)

type frameHead struct {
	at, synced uint64
	n          int
}

func parseFrameHead(b []byte) frameHead {
	le := binary.LittleEndian
	return frameHead{at: le.Uint64(b), synced: le.Uint64(b[8:]), n: int(le.Uint32(b[16:]))}
}

func (h *frameHead) valid() bool { return h.synced <= h.at && h.n > 0 && h.n <= maxFrame }

// errOver is what a file answers after a write that failed: what of it reached the
// disk is not known, and its nonce is used.
var errOver = errors.New("a write failed before")

// streamWriter writes a frame for every write, so that what was synced can be read.
type streamWriter struct {
	vfs.File
	aead    cipher.AEAD
	head    []byte // not written yet: it goes with the first frame
	buf     []byte
	notes   notes
	failed  bool
	written atomic.Uint64
	synced  atomic.Uint64
	closed  func(written uint64) // where all of it is durable
}

// Write implements vfs.File.
func (w *streamWriter) Write(p []byte) (n int, err error) {
	if w.failed {
		return 0, errOver
	}
	for len(p) > 0 {
		part := p[:min(len(p), maxFrame)]
		at := w.written.Load()
		le := binary.LittleEndian
		b := w.buf[:0]
		b = append(b, w.head...)
		from := len(b)
		b = le.AppendUint64(le.AppendUint64(b, at), w.synced.Load())
		b = le.AppendUint32(b, uint32(len(part)))
		b = w.aead.Seal(b, w.notes.nonce(at), part, b[from:])
		w.buf, w.head = b, nil
		if _, err := w.File.Write(b); err != nil {
			w.failed = true
			return n, err
		}
		w.written.Add(uint64(len(part)))
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

// Sync implements vfs.File.
func (w *streamWriter) Sync() error { return w.sync(w.File.Sync) }

// SyncData implements vfs.File.
func (w *streamWriter) SyncData() error { return w.sync(w.File.SyncData) }

func (w *streamWriter) sync(sync func() error) error {
	written := w.written.Load()
	if err := sync(); err != nil {
		return err
	}
	w.synced.Store(written)
	return nil
}

// Close implements vfs.File.
func (w *streamWriter) Close() error {
	err := w.File.Close()
	if n := w.written.Load(); err == nil && !w.failed && n == w.synced.Load() && w.closed != nil {
		w.closed(n)
	}
	return err
}

// Stat implements vfs.File.
func (w *streamWriter) Stat() (vfs.FileInfo, error) { return sized(w.File, int64(w.written.Load())) }

// Read implements vfs.File: what is being written is read through another handle.
func (w *streamWriter) Read([]byte) (int, error) { return 0, vfs.ErrUnsupported }

// ReadAt implements vfs.File, like Read.
func (w *streamWriter) ReadAt([]byte, int64) (int, error) { return 0, vfs.ErrUnsupported }

// WriteAt implements vfs.File: a stream only grows.
func (w *streamWriter) WriteAt([]byte, int64) (int, error) { return 0, vfs.ErrUnsupported }

// streamReader reads a stream from the front; going back begins anew.
type streamReader struct {
	vfs.File
	name  string
	aead  cipher.AEAD // nil: the header never reached the disk
	least uint64      // what it must hold at least

	mu     sync.Mutex
	pos    uint64 // of Read
	at     uint64 // where the next frame lies in the stream
	disk   int64  // and on disk
	plain  []byte // the frame before it
	broken error
	window window
	buf    []byte
	notes  notes
}

// Read implements vfs.File.
func (r *streamReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.some(p, r.pos)
	r.pos += uint64(n)
	return n, err
}

// ReadAt implements vfs.File.
func (r *streamReader) ReadAt(p []byte, off int64) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) && err == nil {
		var m int
		m, err = r.some(p[n:], uint64(off)+uint64(n))
		n += m
	}
	return n, err
}

// some reads from one frame.
func (r *streamReader) some(p []byte, off uint64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if off < r.at-uint64(len(r.plain)) {
		r.at, r.disk, r.plain = 0, headerBytes, r.plain[:0]
	}
	for off >= r.at {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	return copy(p, r.plain[uint64(len(r.plain))-(r.at-off):]), nil
}

// next opens the next frame. io.EOF is the end of the stream: what is behind it was
// never synced. Where it was, the error is an ErrDamaged.
func (r *streamReader) next() error {
	if r.broken != nil {
		return r.broken
	}
	ok, err := r.open()
	if err != nil {
		return err
	}
	if ok {
		return nil
	}
	if err := r.ended(); !errors.Is(err, io.EOF) {
		r.broken = err
		return err
	}
	return io.EOF
}

func (r *streamReader) open() (bool, error) {
	if r.aead == nil {
		return false, nil
	}
	b, err := r.window.read(r.File, r.disk, streamExtra+1)
	if err != nil || len(b) < streamHead {
		return false, err
	}
	h := parseFrameHead(b)
	if h.at != r.at || !h.valid() {
		return false, nil
	}
	size := streamExtra + h.n
	if b, err = r.window.read(r.File, r.disk, size); err != nil || len(b) < size {
		return false, err
	}
	plain, err := r.aead.Open(r.buf[:0], r.notes.nonce(h.at), b[streamHead:size], b[:streamHead])
	if err != nil {
		return false, nil //nolint:nilerr // what it means depends on what follows
	}
	r.buf, r.plain = r.plain, plain // a frame that fails wipes what it was to go into
	r.at += uint64(h.n)
	r.disk += int64(size)
	return true, nil
}

// ended tells a torn end from damage: a later frame that was written when more than
// what can be read had been synced is proof that something is missing.
func (r *streamReader) ended() error {
	for at := r.disk; ; {
		b, err := r.window.read(r.File, at, windowBytes)
		if err != nil {
			return err
		}
		if len(b) < streamHead {
			break
		}
		for i := range len(b) - streamHead + 1 {
			h := parseFrameHead(b[i:])
			// What was never written cannot lie further back than the file is long.
			if h.valid() && h.at > r.at && h.synced > r.at && h.at-r.at < uint64(at-r.disk)+uint64(i) {
				return damaged(r.name, "lacks what lies at %d", r.at)
			}
		}
		at += int64(len(b) - streamHead + 1)
	}
	if r.at < r.least {
		return damaged(r.name, "ends at %d, not %d", r.at, r.least)
	}
	return io.EOF
}

// Stat implements vfs.File; the size is that on disk, an upper bound.
func (r *streamReader) Stat() (vfs.FileInfo, error) { return r.File.Stat() }

const windowBytes = 64 << 10

// window is a part of a file in memory.
type window struct {
	b  []byte
	at int64
}

// read returns up to n bytes at an offset, fewer at the end of the file. They are
// valid until the next call.
func (w *window) read(f io.ReaderAt, at int64, n int) ([]byte, error) {
	if at >= w.at && at+int64(n) <= w.at+int64(len(w.b)) {
		return w.b[at-w.at:][:n], nil
	}
	if w.b == nil {
		w.b = make([]byte, 0, windowBytes)
	}
	b := w.b[:windowBytes]
	got, err := f.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		w.b = w.b[:0]
		return nil, err
	}
	w.b, w.at = b[:got], at
	return w.b[:min(n, got)], nil
}

// sized returns a file's info with another size.
func sized(f vfs.File, size int64) (vfs.FileInfo, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return resized{info, size}, nil
}

type resized struct {
	vfs.FileInfo
	size int64
}

// Size implements os.FileInfo.
func (i resized) Size() int64 { return i.size }
