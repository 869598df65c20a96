package persist

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/persist/sealed"
)

// rawFile is a file of a damaged store, read in windows: whatever its size, little
// of it is in memory. What the disk does not give, or does not decrypt, is zero,
// which no checksum fits.
type rawFile struct {
	name  string
	s     *sealed.Salvage
	reads *pastReads // nil where it need not be the same each time
	b     []byte     // from at on
	at    int64
	used  int64 // nothing but zeros follows; −1 where it is not known
}

const (
	rawPiece  = 64 << 10
	rawWindow = 16 * rawPiece
)

// pastReads are the checksums of a file's pieces as they were first read: what is
// copied must be what was surveyed.
type pastReads struct {
	size   int64 // −1: it could not be opened
	pieces map[int64]uint32
}

// errUnsteady says that a file does not read as it did before.
var errUnsteady = errors.New("a file reads otherwise each time")

// openRaw opens a file of a store. The error is that of a file of which nothing can
// be read.
func openRaw(fs vfs.FS, path string) (f *rawFile, err error) {
	f = &rawFile{name: fs.PathBase(path), used: -1}
	if s, ok := fs.(*sealed.Loose); ok {
		f.s, err = s.Salvage(path)
	} else {
		f.s, err = sealed.OpenSalvage(fs, path)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *rawFile) size() int64 { return f.s.Size() }

// bytes returns n bytes from an offset on, fewer at the end of the file. They are
// valid until the next call. Error: errUnsteady.
func (f *rawFile) bytes(at int64, n int) ([]byte, error) {
	n = int(max(min(int64(n), f.size()-at), 0))
	if n == 0 {
		return nil, nil
	}
	if at < f.at || at+int64(n) > f.at+int64(len(f.b)) {
		if err := f.move(at, n); err != nil {
			return nil, err
		}
	}
	return f.b[at-f.at:][:n:n], nil
}

// move reads what lies around n bytes.
func (f *rawFile) move(at int64, n int) error {
	from := at / rawPiece * rawPiece
	want := int(min(max((at-from+int64(n)+rawPiece-1)/rawPiece*rawPiece, rawWindow), f.size()-from))
	if cap(f.b) < want || cap(f.b) > rawWindow && want <= rawWindow { // a large block is not kept
		f.b = make([]byte, max(want, int(min(rawWindow, f.size()))))
	}
	f.b, f.at = f.b[:want], from
	_, _ = f.s.ReadAt(f.b, from) // what it does not give is zero
	if f.reads == nil {
		return nil
	}
	for i := 0; i < want; i += rawPiece {
		sum, piece := crc32.Checksum(f.b[i:min(i+rawPiece, want)], castagnoli), from+int64(i)
		if was, ok := f.reads.pieces[piece]; ok && was != sum {
			f.b = f.b[:0]
			return fmt.Errorf("%w: %q", errUnsteady, f.name)
		}
		f.reads.pieces[piece] = sum
	}
	return nil
}

// end returns where nothing but zeros follows: room for what was never written.
func (f *rawFile) end() (int64, error) {
	for at := f.size(); f.used < 0; {
		from := max((at-1)/rawPiece*rawPiece, 0)
		b, err := f.bytes(from, int(at-from))
		if err != nil {
			return 0, err
		}
		for len(b) > 0 && b[len(b)-1] == 0 {
			b = b[:len(b)-1]
		}
		if at = from; len(b) > 0 || at == 0 {
			f.used = from + int64(len(b))
		}
	}
	return f.used, nil
}

// torn reports whether some of the file cannot be read, from an offset on and where
// it was read.
func (f *rawFile) torn(at int64) (bool, error) {
	for ; at < f.size(); at += rawWindow {
		if _, err := f.bytes(at, rawWindow); err != nil {
			return true, err
		}
	}
	return f.s.Torn(), nil
}

func (f *rawFile) close() { _ = f.s.Close() } // it was only read

// open opens a file, which must be the same whenever it is read.
func (m *mender) openFile(name string) (*rawFile, error) {
	f, err := openRaw(m.from, m.fs.PathJoin(m.dir, name))
	size := int64(-1)
	if err == nil {
		size = f.size()
	}
	reads, ok := m.reads[name]
	if !ok {
		reads = &pastReads{size: size, pieces: map[int64]uint32{}}
		m.reads[name] = reads
	}
	if reads.size != size {
		if f != nil {
			f.close()
		}
		return nil, fmt.Errorf("%w: %q", errUnsteady, name)
	}
	if err != nil {
		return nil, err
	}
	f.reads = reads
	return f, nil
}

// looseRead reads what a small file begins with, as far as the disk gives it. The
// error is that of a file that cannot be opened.
func looseRead(fs vfs.FS, path string, limit int) (data []byte, torn bool, err error) {
	f, err := openRaw(fs, path)
	if err != nil {
		return nil, true, err
	}
	defer f.close()
	data = make([]byte, min(int64(limit), f.size()))
	if _, err := f.s.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, true, err
	}
	return data, f.s.Torn(), nil
}

// loose is the file system that a store's files are read through as far as they
// can be, whatever is wrong with them.
func loose(o *Options, dir string) vfs.FS {
	s, err := sealed.OpenLoose(o.FS, dir, o.Keys)
	if err != nil || s == nil { // what is not decrypted fits no checksum
		return o.FS
	}
	return s
}
