package sealed

import (
	"bytes"
	"crypto/cipher"
	"errors"
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

// ReadAll returns what a file holds, zeros where that cannot be read; torn says
// that there is such a place. Errors: ErrDamaged, ErrKey where nothing can be read,
// and the file system's.
func (s *Loose) ReadAll(path string) (data []byte, torn bool, err error) {
	f, err := s.Open(path)
	if err != nil {
		return nil, true, err
	}
	defer func() { _ = f.Close() }() // it was only read
	disk, torn, err := readLoose(f)
	if err != nil {
		return nil, true, err
	}
	name := s.PathBase(path)
	h, what := parseHeader(disk[:min(len(disk), headerBytes)])
	switch {
	case kindOf(name) == kindPlain, what == looksPlain && s.l.keys.plain:
		return disk, torn, nil
	case name == markName && (what != looksSealed || h.kind == kindSlots):
		data = make([]byte, len(disk))
		_, err = (&slotFile{File: f, l: s.l, name: name}).ReadAt(data, 0)
		return data, torn || err != nil && !errors.Is(err, io.EOF), nil
	case what == looksTorn && kindOf(name) == kindStream:
		// A beginning that was wiped out is no log that was never written.
		return nil, torn || len(bytes.TrimRight(disk, "\x00")) > 0, nil
	case what != looksSealed:
		return nil, true, damaged(name, "has no beginning that can be read")
	}
	aead, err := s.cipher(disk[:headerBytes], &h, path)
	switch {
	case err != nil:
		return nil, true, err
	case h.kind == kindTable:
		data, torn = salvageTable(&tableReader{name: name, aead: aead}, disk[headerBytes:])
		return data, torn, nil
	case h.kind == kindStream:
		r := &streamReader{name: name, aead: aead}
		data, torn = r.salvage(disk[headerBytes:], torn)
		return data, torn, nil
	}
	return nil, true, damaged(name, "is what belongs into %s", markName)
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

// readLoose reads a file as far as the disk gives it.
func readLoose(f vfs.File) (data []byte, torn bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, true, err
	}
	data = make([]byte, info.Size())
	const piece = 4 << 10
	for at := 0; at < len(data); at += piece {
		p := data[at:min(at+piece, len(data))]
		if n, err := f.ReadAt(p, int64(at)); n < len(p) {
			clear(p[n:])
			torn = torn || err != nil
		}
	}
	return data, torn, nil
}

// salvageTable opens every frame by itself.
func salvageTable(r *tableReader, disk []byte) (data []byte, torn bool) {
	var notes notes
	ended := false
	for i := int64(0); len(disk) > 0; i++ {
		frame := disk[:min(len(disk), tableFrame)]
		disk = disk[len(frame):]
		n := len(frame) - countBytes - tagBytes
		if n < 0 {
			return data, true
		}
		var plain []byte
		err := errOver
		for _, last := range []bool{false, true} {
			if r.last = -1; last {
				r.last = i
			}
			if plain, err = r.open(append([]byte(nil), frame...), i, &notes); err == nil {
				ended = last
				break
			}
		}
		if err != nil {
			plain, torn = make([]byte, n), true
		}
		data = append(data, plain...)
	}
	return data, torn || !ended
}

// salvage opens the frames of a stream, also behind such that do not open. What is
// left at the end, and is not room set aside, reads as something that fits nothing.
func (r *streamReader) salvage(disk []byte, torn bool) (data []byte, bad bool) {
	bad = torn
	end := len(bytes.TrimRight(disk, "\x00"))
	at, done := 0, 0
	for at+streamHead <= len(disk) && at < end {
		plain, n := r.frame(disk[at:], uint64(len(data)), uint64(at))
		if n == 0 {
			at++
			continue
		}
		if h := parseFrameHead(disk[at:]); h.at > uint64(len(data)) {
			data, bad = append(data, make([]byte, h.at-uint64(len(data)))...), true
		}
		data = append(data, plain...)
		at += n
		done = at
	}
	if done < end {
		data, bad = append(data, bytes.Repeat([]byte{0xff}, 64)...), true
	}
	return data, bad
}

// frame opens the frame that begins here, if there is one that lies at or behind
// what was read before, and not further than the bytes between allow.
func (r *streamReader) frame(b []byte, read, before uint64) (plain []byte, size int) {
	h := parseFrameHead(b)
	size = streamExtra + h.n
	if !h.valid() || h.at < read || h.at > before || len(b) < size {
		return nil, 0
	}
	plain, err := r.aead.Open(nil, r.notes.nonce(h.at), b[streamHead:size], b[:streamHead])
	if err != nil {
		return nil, 0
	}
	return plain, size
}
