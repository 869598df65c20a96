package sealed

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Layer encrypts the files of one store.
type Layer struct {
	keys  *Keys
	dir   string
	store storeID

	mu   sync.Mutex
	last closedLog // that was closed by this process
}

// Over returns a file system on which the store's files lie encrypted on another.
// A nil Layer returns the other.
func (l *Layer) Over(fs vfs.FS) vfs.FS {
	if l == nil {
		return fs
	}
	return &files{FS: fs, l: l}
}

type files struct {
	vfs.FS
	l *Layer
}

// Unwrap implements vfs.FS.
func (s *files) Unwrap() vfs.FS { return s.FS }

// Create implements vfs.FS.
func (s *files) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	base := s.PathBase(name)
	kind := kindOf(base)
	f, err := s.FS.Create(name, category)
	if err != nil || kind == kindPlain || s.l.keys.write == nil {
		return f, err
	}
	if kind == kindSlots {
		return &slotFile{File: f, l: s.l, name: base}, nil
	}
	sealed, err := s.begin(f, name, kind)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return sealed, nil
}

func (s *files) begin(f vfs.File, path string, kind kind) (vfs.File, error) {
	name := s.PathBase(path)
	var before closedLog
	number, log := logNumber(name)
	if log = log && s.PathDir(path) == s.l.dir; log { // those of a copy are not ours
		before = s.l.takeLog(number)
	}
	head, aead, err := s.l.newHeader(kind, name, before)
	if err != nil {
		return nil, err
	}
	if kind == kindTable {
		return newTableWriter(f, aead, head), nil
	}
	w := &streamWriter{File: f, aead: aead, head: head}
	if log {
		w.closed = func(written uint64) { s.l.putLog(closedLog{number, written}) }
	}
	return w, nil
}

// ReuseForWrite implements vfs.FS. A file with frames of another key in it would not
// show where a log ends: it goes, and a new one comes.
func (s *files) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := s.Remove(oldname); err != nil {
		return nil, err
	}
	return s.Create(newname, category)
}

// OpenReadWrite implements vfs.FS, for what is written in place.
func (s *files) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	base := s.PathBase(name)
	kind := kindOf(base)
	if kind != kindPlain && kind != kindSlots {
		return nil, vfs.ErrUnsupported
	}
	f, err := s.FS.OpenReadWrite(name, category, opts...)
	if err != nil || kind == kindPlain {
		return f, err
	}
	return &slotFile{File: f, l: s.l, name: base}, nil
}

// Open implements vfs.FS. Errors: ErrDamaged, ErrKey, and the file system's.
func (s *files) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.Open(name, opts...)
	base := s.PathBase(name)
	kind := kindOf(base)
	switch {
	case err != nil || kind == kindPlain:
		return f, err
	case kind == kindSlots:
		return &slotFile{File: f, l: s.l, name: base}, nil
	}
	sealed, err := s.open(f, name, base, kind)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return sealed, nil
}

func (s *files) open(f vfs.File, path, name string, kind kind) (vfs.File, error) {
	b, err := readHead(f)
	if err != nil {
		return nil, err
	}
	h, what := parseHeader(b)
	switch what {
	case looksPlain:
		if s.l.keys.plain {
			return f, nil
		}
		return nil, damaged(name, "is not encrypted, the store is")
	case looksNewer:
		return nil, damaged(name, "is of a newer version")
	case looksDamaged:
		return nil, damaged(name, "has another beginning")
	case looksSealed:
	case looksTorn:
		switch {
		case kind == kindTable:
			return nil, damaged(name, "has no beginning")
		case s.l.keys.plain:
			return s.torn(f, name)
		}
		return s.stream(path, &streamReader{File: f, name: name, disk: headerBytes})
	}
	aead, err := s.l.openHeader(b, &h, name)
	if err != nil {
		return nil, err
	}
	if kind == kindTable {
		return newTableReader(f, name, aead)
	}
	return s.stream(path, &streamReader{File: f, name: name, aead: aead, disk: headerBytes})
}

// torn is for a beginning that never reached the disk and may have been plain.
func (s *files) torn(f vfs.File, name string) (vfs.File, error) {
	r := &streamReader{File: f, name: name, disk: headerBytes}
	if err := r.ended(); !errors.Is(err, io.EOF) {
		return nil, err
	}
	return f, nil
}

// stream finds out how much a log must hold.
func (s *files) stream(path string, r *streamReader) (vfs.File, error) {
	number, log := logNumber(r.name)
	if !log {
		return r, nil
	}
	dir := s.PathDir(path)
	names, err := s.List(dir)
	if err != nil {
		return nil, err
	}
	next, nextName := uint64(0), ""
	for _, name := range names {
		if n, ok := logNumber(name); ok && n > number && (next == 0 || n < next) {
			next, nextName = n, name
		}
	}
	if next == 0 {
		return r, nil
	}
	b, err := s.headOf(s.PathJoin(dir, nextName))
	if err != nil {
		return nil, err
	}
	h, what := parseHeader(b)
	if what != looksSealed || h.log.number != number {
		return r, nil
	}
	if _, err := s.l.openHeader(b, &h, nextName); err == nil { // otherwise its own reader says so
		r.least = h.log.bytes
	}
	return r, nil
}

// Stat implements vfs.FS. A table's size is what it holds, as pebble has written it
// down; that of others is what they take.
func (s *files) Stat(name string) (vfs.FileInfo, error) {
	info, err := s.FS.Stat(name)
	if err != nil || info.IsDir() || kindOf(s.PathBase(name)) != kindTable {
		return info, err
	}
	if s.l.keys.plain {
		b, err := s.headOf(name)
		if err != nil {
			return nil, err
		}
		if _, what := parseHeader(b); what == looksPlain {
			return info, nil
		}
	}
	size, _, _ := tableSize(info.Size())
	return resized{info, size}, nil
}

func (s *files) headOf(name string) ([]byte, error) { return headOf(s.FS, name) }

// headOf reads the beginning of a file.
func headOf(fs vfs.FS, name string) (b []byte, err error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err = readHead(f)
	return b, errors.Join(err, f.Close())
}

func readHead(f vfs.File) ([]byte, error) {
	b := make([]byte, headerBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

func logNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil && n > 0
}

func (l *Layer) putLog(log closedLog) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = log
}

// takeLog returns the log that was closed before a new one.
func (l *Layer) takeLog(number uint64) (log closedLog) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.number < number {
		log = l.last
	}
	return log
}

// Encrypts reports whether new files are encrypted.
func (l *Layer) Encrypts() bool { return l != nil && l.keys.write != nil }
