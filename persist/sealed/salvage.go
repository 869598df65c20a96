package sealed

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Loose is a file system for reading what is left of a damaged store.
type Loose struct {
	vfs.FS
	l *Layer
}

// OpenLoose returns one for a store's folder, of which Open may have said that its
// files do not belong together: files of the store that most of them are of are
// read. It is nil without keys. Error: the file system's.
func OpenLoose(fs vfs.FS, dir string, keys *Keys) (*Loose, error) {
	if keys == nil {
		return nil, nil
	}
	all, err := surveyed(fs, dir, func(string, error) error { return nil }) // one that cannot be read costs itself
	if err != nil {
		return nil, err
	}
	l, count := &Layer{keys: keys, dir: dir}, map[storeID]int{}
	for _, f := range all { // of equals the one whose manifest is the newest
		if f.what != looksSealed || keys.read[f.key] == nil {
			continue
		}
		if count[f.store]++; count[f.store] >= count[l.store] {
			l.store = f.store
		}
	}
	return &Loose{FS: fs, l: l}, nil
}

// Salvage is a file of which every place can be read, whatever is wrong with it:
// what is lost reads as zeros. A few hundred KiB of it are in memory, whatever its
// size. It belongs to one goroutine.
type Salvage struct {
	disk *disk
	size int64
	torn bool
	read func(p []byte, off int64)
}

// OpenSalvage opens a file that is not encrypted. Errors: that it is no regular
// file, and the file system's.
func OpenSalvage(fs vfs.FS, path string) (*Salvage, error) {
	d, err := openDisk(fs, path)
	if err != nil {
		return nil, err
	}
	return d.plain(), nil
}

// Size is the number of bytes that the file holds.
func (f *Salvage) Size() int64 { return f.size }

// Torn reports whether some of what was read is lost, or the file's end is.
func (f *Salvage) Torn() bool { return f.torn || f.disk.torn }

// ReadAt implements io.ReaderAt. The only error is io.EOF.
func (f *Salvage) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	if n = int(min(int64(len(p)), f.size-off)); n < len(p) {
		err = io.EOF
	}
	f.read(p[:n], off)
	return n, err
}

// Close implements io.Closer.
func (f *Salvage) Close() error { return f.disk.f.Close() }

// disk reads a file as far as the disk gives it.
type disk struct {
	f    vfs.File
	size int64
	torn bool
}

var errIrregular = errors.New("is no regular file")

// openDisk opens what has an end, and does not wait for anybody to write into it.
func openDisk(fs vfs.FS, path string) (*disk, error) {
	info, err := fs.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q %w", path, errIrregular)
	}
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &disk{f: f, size: info.Size()}, nil
}

func (d *disk) plain() *Salvage {
	return &Salvage{disk: d, size: d.size, read: func(p []byte, off int64) { _, _ = d.ReadAt(p, off) }}
}

// sector is what a disk that cannot read a place is asked for, one by one.
const sector = 4 << 10

// ReadAt implements io.ReaderAt. What cannot be read is zero.
func (d *disk) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= d.size {
		return 0, io.EOF
	}
	if n = int(min(int64(len(p)), d.size-off)); n < len(p) {
		err = io.EOF
	}
	if d.all(p[:n], off) {
		return n, err
	}
	for at := 0; at < n; {
		end := min(at+sector-int((off+int64(at))%sector), n)
		if piece := p[at:end]; !d.all(piece, off+int64(at)) {
			clear(piece)
			d.torn = true
		}
		at = end
	}
	return n, err
}

func (d *disk) all(p []byte, off int64) bool {
	n, _ := d.f.ReadAt(p, off)
	return n == len(p)
}

// head reads the file's beginning.
func (d *disk) head() []byte {
	b := make([]byte, headerBytes)
	n, _ := d.ReadAt(b, 0)
	return b[:n]
}

// Salvage opens a file of the store. Errors: ErrDamaged, ErrKey where nothing can be
// read, that it is no regular file, and the file system's.
func (s *Loose) Salvage(path string) (*Salvage, error) {
	d, err := openDisk(s.FS, path)
	if err != nil {
		return nil, err
	}
	f, err := s.salvage(d, path)
	if err != nil {
		return nil, errors.Join(err, d.f.Close())
	}
	return f, nil
}

func (s *Loose) salvage(d *disk, path string) (*Salvage, error) {
	name, head := s.PathBase(path), d.head()
	h, what := parseHeader(head)
	switch {
	case kindOf(name) == kindPlain, what == looksPlain && s.l.keys.plain:
		return d.plain(), nil
	case name == markName && (what != looksSealed || h.kind == kindSlots):
		return s.slots(d, name), nil
	case what == looksTorn && kindOf(name) == kindStream:
		// A beginning that was wiped out is no log that was never written.
		return &Salvage{disk: d, torn: d.end() > 0}, nil
	case what != looksSealed:
		return nil, damaged(name, "has no beginning that can be read")
	}
	aead, err := s.cipher(head, &h, path)
	switch {
	case err != nil:
		return nil, err
	case h.kind == kindTable:
		return salvageTable(d, name, aead), nil
	case h.kind == kindStream:
		return salvageStream(d, aead), nil
	}
	return nil, damaged(name, "is what belongs into %s", markName)
}

// slots are the mark's.
func (s *Loose) slots(d *disk, name string) *Salvage {
	data := make([]byte, min(d.size, maxSlots*slotBytes))
	_, err := (&slotFile{File: d.f, l: s.l, name: name}).ReadAt(data, 0)
	return &Salvage{
		disk: d, size: int64(len(data)), torn: err != nil && !errors.Is(err, io.EOF),
		read: func(p []byte, off int64) { copy(p, data[off:]) },
	}
}

// cipher finds out under which name of the folder a file was written: somebody may
// have mixed them up.
func (s *Loose) cipher(head []byte, h *header, path string) (cipher.AEAD, error) {
	aead, err := s.l.openHeader(head, h, s.PathBase(path))
	if err == nil || !errors.Is(err, ErrDamaged) {
		return aead, err
	}
	names, listErr := s.List(s.PathDir(path))
	for _, name := range names {
		if kindOf(name) != h.kind {
			continue
		}
		if aead, err := s.l.openHeader(head, h, name); err == nil {
			return aead, nil
		}
	}
	return nil, errors.Join(err, listErr)
}

// end is where nothing but zeros follows.
func (d *disk) end() int64 {
	b := make([]byte, windowBytes)
	for end := d.size; end > 0; {
		from := max(end-windowBytes, 0)
		n, _ := d.ReadAt(b[:end-from], from)
		if rest := bytes.TrimRight(b[:n], "\x00"); len(rest) > 0 {
			return from + int64(len(rest))
		}
		end = from
	}
	return 0
}

// salvagedFrames are read at once.
const salvagedFrames = 16

// tableSalvage opens every frame of a table by itself.
type tableSalvage struct {
	*Salvage
	r     tableReader
	end   int64 // number of frames
	notes notes
	buf   []byte
	open  []byte // a frame
	ended bool   // the last frame says that it is
}

func salvageTable(d *disk, name string, aead cipher.AEAD) *Salvage {
	t := &tableSalvage{r: tableReader{name: name, aead: aead}, buf: make([]byte, salvagedFrames*tableFrame)}
	t.Salvage = &Salvage{disk: d, read: t.read}
	full, rest := (d.size-headerBytes)/tableFrame, (d.size-headerBytes)%tableFrame
	t.size, t.end = full*tablePlain, full
	if rest >= countBytes+tagBytes {
		t.size, t.end = t.size+rest-countBytes-tagBytes, full+1
	}
	if t.end > 0 {
		t.read(make([]byte, 1), (t.end-1)*tablePlain)
	}
	t.torn = t.torn || !t.ended || rest > 0 && rest < countBytes+tagBytes
	return t.Salvage
}

func (t *tableSalvage) read(p []byte, off int64) {
	for len(p) > 0 {
		first := off / tablePlain
		n := min((off+int64(len(p))-1)/tablePlain+1-first, t.end-first, salvagedFrames)
		if n <= 0 {
			clear(p) // of an empty frame
			return
		}
		m, _ := t.disk.ReadAt(t.buf[:n*tableFrame], headerBytes+first*tableFrame)
		for b := t.buf[:m]; len(b) > 0; first++ {
			plain := t.frame(b[:min(len(b), tableFrame)], first)
			skip := min(off-first*tablePlain, int64(len(plain)))
			k := copy(p, plain[skip:])
			p, off = p[k:], off+int64(k)
			b = b[min(len(b), tableFrame):]
		}
	}
}

// frame opens a frame: zeros where it does not open. They are valid until the next
// call.
func (t *tableSalvage) frame(b []byte, i int64) (plain []byte) {
	n := len(b) - countBytes - tagBytes
	if n < 0 {
		return nil
	}
	for _, last := range []bool{i == t.end-1, i != t.end-1} {
		if t.r.last = -1; last {
			t.r.last = i
		}
		t.open = append(t.open[:0], b...)
		if plain, err := t.r.open(t.open, i, &t.notes); err == nil {
			t.ended = last
			return plain
		}
	}
	t.torn = true
	clear(t.open)
	return t.open[countBytes:][:n]
}

// stride is how much of a stream lies between two places that are known on disk.
const stride = 1 << 20

// place is where something of a stream begins, in it and on disk.
type place struct {
	at, disk int64
}

// streamSalvage opens the frames of a stream, also behind such that do not open.
// What is left at the end, and is not room set aside, reads as something that fits
// nothing.
type streamSalvage struct {
	*Salvage
	aead   cipher.AEAD
	end    int64   // of what is on disk
	last   int64   // of what the frames hold
	places []place // every stride, ascending
	next   place   // of the frame behind the open one
	from   int64   // of the open frame
	plain  []byte
	buf    []byte
	window window
	notes  notes
}

// unfit is how many bytes tell that the end of a stream is lost.
const unfit = 64

func salvageStream(d *disk, aead cipher.AEAD) *Salvage {
	s := &streamSalvage{aead: aead, end: d.end(), places: []place{{0, headerBytes}}, next: place{0, headerBytes}}
	s.Salvage = &Salvage{disk: d, read: s.read}
	done := s.next
	for {
		before := s.next.at
		if !s.step() {
			break
		}
		if s.torn = s.torn || s.from > before; s.next.at-s.places[len(s.places)-1].at >= stride {
			s.places = append(s.places, s.next)
		}
		done = s.next
	}
	s.size, s.last = done.at, done.at
	s.next, s.from, s.plain = s.places[0], 0, s.plain[:0]
	if done.disk < s.end {
		s.size, s.torn = s.size+unfit, true
	}
	return s.Salvage
}

// step opens the next frame that can be, false where there is none.
func (s *streamSalvage) step() bool {
	for at := s.next.disk; at < s.end; at++ {
		b, _ := s.window.read(s.disk, at, streamHead)
		if len(b) < streamHead {
			return false
		}
		h := parseFrameHead(b)
		// Not further than the bytes between allow.
		if !h.valid() || int64(h.at) < s.next.at || int64(h.at) > at-headerBytes {
			continue
		}
		size := streamExtra + h.n
		if b, _ = s.window.read(s.disk, at, size); len(b) < size {
			continue
		}
		plain, err := s.aead.Open(s.buf[:0], s.notes.nonce(h.at), b[streamHead:size], b[:streamHead])
		if err != nil {
			continue
		}
		s.buf, s.plain, s.from = s.plain, plain, int64(h.at) // one that fails wipes what it was to go into
		s.next = place{s.from + int64(h.n), at + int64(size)}
		return true
	}
	return false
}

func (s *streamSalvage) read(p []byte, off int64) {
	if off < s.from || off-s.next.at > stride {
		i := len(s.places) - 1
		for s.places[i].at > off {
			i--
		}
		s.next, s.from, s.plain = s.places[i], s.places[i].at, s.plain[:0]
	}
	for len(p) > 0 {
		n := 0
		switch {
		case off >= s.last:
			for i := range p {
				p[i] = 0xff
			}
			return
		case off < s.from: // between two frames
			n = int(min(int64(len(p)), s.from-off))
			clear(p[:n])
		case off < s.from+int64(len(s.plain)):
			n = copy(p, s.plain[off-s.from:])
		case !s.step(): // it did before
			clear(p)
			return
		}
		p, off = p[n:], off+int64(n)
	}
}
