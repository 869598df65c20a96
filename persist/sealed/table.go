package sealed

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A table's frames are all of one size but for the last, so that any is found by
// arithmetic. Each begins with its nonce, which counts the frames sealed: the last
// one is sealed anew where a table grows after a sync.
const (
	tablePlain = 8 << 10
	countBytes = 8
	tableFrame = countBytes + tablePlain + tagBytes
	// gatherBytes are written at once.
	gatherBytes = 64 << 10
)

// notes are what a frame is sealed with beside the key; kept, so that a frame costs
// no memory.
type notes struct {
	nonceBytes [12]byte
	dataBytes  [9]byte
}

// nonce returns the nonce of a number that its file has never had.
func (n *notes) nonce(count uint64) []byte {
	binary.BigEndian.PutUint64(n.nonceBytes[4:], count)
	return n.nonceBytes[:]
}

// data is what a table's frame belongs to: its place, and whether it is the last.
func (n *notes) data(index int64, last bool) []byte {
	binary.LittleEndian.PutUint64(n.dataBytes[:], uint64(index))
	n.dataBytes[8] = 0
	if last {
		n.dataBytes[8] = 1
	}
	return n.dataBytes[:]
}

// tableSize returns the bytes that a table of disk bytes holds and the place of its
// last frame; ok is false for a length that none has.
func tableSize(disk int64) (size, last int64, ok bool) {
	disk -= headerBytes
	full, rest := disk/tableFrame, disk%tableFrame
	switch {
	case disk <= 0:
		return 0, 0, false
	case rest == 0:
		return full * tablePlain, full - 1, true
	case rest < countBytes+tagBytes || rest == countBytes+tagBytes && full > 0:
		return 0, 0, false
	}
	return full*tablePlain + rest - countBytes - tagBytes, full, true
}

// tableWriter gathers frames. A sync closes the table: what is written after it
// replaces the last frame.
type tableWriter struct {
	vfs.File
	aead   cipher.AEAD
	plain  []byte // of the frame that is open
	out    []byte // sealed and not written
	at     int64  // where out goes
	index  int64  // of the frame that is open
	count  uint64 // frames sealed
	ended  bool   // the last frame is on disk, at at
	behind bool   // at is not where File writes next
	failed bool
	notes  notes
}

func newTableWriter(f vfs.File, aead cipher.AEAD, head []byte) *tableWriter {
	return &tableWriter{File: f, aead: aead, out: append(make([]byte, 0, gatherBytes+tableFrame+headerBytes), head...), plain: make([]byte, 0, tablePlain)}
}

// Write implements vfs.File.
func (w *tableWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if w.failed {
			return n, errOver
		}
		if w.ended {
			w.ended, w.behind = false, true
		}
		if len(w.plain) == tablePlain {
			w.seal(false)
			w.index++
			w.plain = w.plain[:0]
			if len(w.out) >= gatherBytes {
				if err := w.flush(); err != nil {
					return n, err
				}
			}
		}
		m := min(len(p), tablePlain-len(w.plain))
		w.plain = append(w.plain, p[:m]...)
		n += m
		p = p[m:]
	}
	return n, nil
}

func (w *tableWriter) seal(last bool) {
	w.out = binary.BigEndian.AppendUint64(w.out, w.count)
	w.out = w.aead.Seal(w.out, w.notes.nonce(w.count), w.plain, w.notes.data(w.index, last))
	w.count++
}

func (w *tableWriter) flush() (err error) {
	if w.behind {
		_, err = w.File.WriteAt(w.out, w.at)
	} else {
		_, err = w.File.Write(w.out)
	}
	if err != nil {
		w.failed = true
		return err
	}
	w.at += int64(len(w.out))
	w.out = w.out[:0]
	return nil
}

// end writes the last frame, where that has not been done.
func (w *tableWriter) end() error {
	switch {
	case w.failed:
		return errOver
	case w.ended:
		return nil
	}
	w.seal(true)
	if err := w.flush(); err != nil {
		return err
	}
	w.at -= int64(countBytes + len(w.plain) + tagBytes)
	w.ended = true
	return nil
}

// Sync implements vfs.File.
func (w *tableWriter) Sync() error {
	if err := w.end(); err != nil {
		return err
	}
	return w.File.Sync()
}

// SyncData implements vfs.File.
func (w *tableWriter) SyncData() error {
	if err := w.end(); err != nil {
		return err
	}
	return w.File.SyncData()
}

// SyncTo implements vfs.File. What is open is not on disk: that is never all.
func (w *tableWriter) SyncTo(length int64) (bool, error) {
	_, err := w.File.SyncTo(length)
	return false, err
}

// Close implements vfs.File.
func (w *tableWriter) Close() error {
	var err error
	if !w.failed {
		err = w.end()
	}
	if closed := w.File.Close(); err == nil {
		err = closed
	}
	return err
}

// Stat implements vfs.File.
func (w *tableWriter) Stat() (vfs.FileInfo, error) {
	return sized(w.File, w.index*tablePlain+int64(len(w.plain)))
}

// Read implements vfs.File: what is being written is read through another handle.
func (w *tableWriter) Read([]byte) (int, error) { return 0, vfs.ErrUnsupported }

// ReadAt implements vfs.File, like Read.
func (w *tableWriter) ReadAt([]byte, int64) (int, error) { return 0, vfs.ErrUnsupported }

// WriteAt implements vfs.File: a table only grows.
func (w *tableWriter) WriteAt([]byte, int64) (int, error) { return 0, vfs.ErrUnsupported }

// tableReader reads a table anywhere.
type tableReader struct {
	vfs.File
	name string
	aead cipher.AEAD
	size int64
	last int64
	tail []byte // of the last frame: pebble begins there
	pos  int64  // of Read
}

// newTableReader checks that the last frame is there: a table that was cut off, at
// the end of a frame or not, cannot be opened.
func newTableReader(f vfs.File, name string, aead cipher.AEAD) (*tableReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r := &tableReader{File: f, name: name, aead: aead}
	var ok bool
	if r.size, r.last, ok = tableSize(info.Size()); !ok {
		return nil, damaged(name, "has a length of %d bytes, which no table has", info.Size())
	}
	b := make([]byte, countBytes+tagBytes+r.size-r.last*tablePlain)
	if err := r.frames(b, r.last); err != nil {
		return nil, err
	}
	if r.tail, err = r.open(b, r.last, &notes{}); err != nil {
		return nil, fmt.Errorf("%w; or it is cut off", err)
	}
	return r, nil
}

// frames reads sealed frames from the index-th on.
func (r *tableReader) frames(b []byte, index int64) error {
	n, err := r.File.ReadAt(b, headerBytes+index*tableFrame)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return damaged(r.name, "ends at %d", headerBytes+index*tableFrame+int64(n))
	}
	return err
}

// open opens a frame in place.
func (r *tableReader) open(b []byte, index int64, notes *notes) ([]byte, error) {
	count := binary.BigEndian.Uint64(b)
	plain, err := r.aead.Open(b[countBytes:countBytes], notes.nonce(count), b[countBytes:], notes.data(index, index == r.last))
	if err != nil {
		return nil, damaged(r.name, "is another at frame %d", index)
	}
	return plain, nil
}

// scratch is what frames are read into, a block of pebble's and its edges.
type scratch struct {
	notes  notes
	frames [6 * tableFrame]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// ReadAt implements vfs.File.
func (r *tableReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= r.size {
		if len(p) == 0 && off >= 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	want := min(int64(len(p)), r.size-off)
	if from := off - r.last*tablePlain; from >= 0 {
		n = copy(p, r.tail[from:])
	} else {
		buf := scratches.Get().(*scratch)
		defer scratches.Put(buf)
		for int64(n) < want {
			m, err := r.some(p[n:want], off+int64(n), buf)
			if n += m; err != nil {
				return n, err
			}
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// some reads as many frames as buf holds.
func (r *tableReader) some(p []byte, off int64, buf *scratch) (n int, err error) {
	first, end := off/tablePlain, (off+int64(len(p))-1)/tablePlain
	end = min(end, r.last-1, first+int64(len(buf.frames)/tableFrame)-1)
	if first == r.last {
		return copy(p, r.tail[off-first*tablePlain:]), nil
	}
	b := buf.frames[:(end-first+1)*tableFrame]
	if err := r.frames(b, first); err != nil {
		return 0, err
	}
	for i := first; i <= end; i++ {
		plain, err := r.open(b[:tableFrame], i, &buf.notes)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], plain[off+int64(n)-i*tablePlain:])
		b = b[tableFrame:]
	}
	return n, nil
}

// Read implements vfs.File.
func (r *tableReader) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p[:min(int64(len(p)), max(r.size-r.pos, 1))], r.pos)
	r.pos += int64(n)
	return n, err
}

// Prefetch implements vfs.File.
func (r *tableReader) Prefetch(off, length int64) error {
	first := off / tablePlain
	end := (off + length + tablePlain - 1) / tablePlain
	return r.File.Prefetch(headerBytes+first*tableFrame, (end-first)*tableFrame)
}

// Stat implements vfs.File.
func (r *tableReader) Stat() (vfs.FileInfo, error) { return sized(r.File, r.size) }
