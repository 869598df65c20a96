package persist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/persist/record"
)

// markFile says beside the store what the store has promised. The write-ahead log
// alone does not tell damage in its last 32 KiB from a torn tail: what was durable
// there would be gone in silence, reserved seqs too.
const markFile = "MARK"

// newMarkFile is the mark before it has its name, which comes when it is whole and
// synced: an empty one beside reserved seqs is damage.
const newMarkFile = markFile + ".new"

const (
	markSlots  = 2 // written in turns, so that a torn write leaves the other
	markStride = 512
	markBytes  = 5 + 3*8 + 1 // envelope, three numbers, a bit
)

// promise is what must be found at the next start.
type promise struct {
	generation uint64
	durable    uint64 // newest seq of which Commit has returned
	reserved   uint64 // highest seq that may have been used
	clean      bool   // the process stopped in order
}

// marker writes promises. It belongs to the writer.
type marker struct {
	fs    vfs.FS
	path  string
	file  vfs.File // nil until the first promise where there was none
	last  promise
	empty bool // the file was there, without anything in it
}

// openMarker opens the mark in a store's folder and returns what it says; known is
// false where there was none. An unreadable one is an ErrCorrupt, and the marker
// works all the same. The first promise makes the file; a reader makes none: m is
// nil then.
func openMarker(fs vfs.FS, dir string, readOnly bool) (m *marker, known bool, err error) {
	path := fs.PathJoin(dir, markFile)
	f, err := openMarkFile(fs, path, readOnly)
	switch {
	case readOnly && errors.Is(err, os.ErrNotExist):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("cannot open %q: %w", path, err)
	}
	m = &marker{fs: fs, path: path, file: f}
	if f == nil {
		return m, false, nil
	}
	b := make([]byte, (markSlots-1)*markStride+markBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, errors.Join(fmt.Errorf("cannot read %q: %w", path, err), m.close())
	}
	for i := range markSlots {
		if end := i*markStride + markBytes; n >= end {
			if p, ok := parsePromise(b[i*markStride : end]); ok && (!known || p.generation > m.last.generation) {
				m.last, known = p, true
			}
		}
	}
	if !known && n > 0 {
		return m, false, fmt.Errorf("%w: %q says nothing that can be read", ErrCorrupt, path)
	}
	m.empty = n == 0
	return m, known, nil
}

// openMarkFile returns no file where a writer finds none.
func openMarkFile(fs vfs.FS, path string, readOnly bool) (vfs.File, error) {
	if readOnly {
		return fs.Open(path)
	}
	if _, err := fs.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
}

func parsePromise(b []byte) (p promise, ok bool) {
	payload, err := record.Open([]byte(markFile), b)
	if err != nil || payload[24] > 1 {
		return promise{}, false
	}
	le := binary.LittleEndian
	return promise{generation: le.Uint64(payload), durable: le.Uint64(payload[8:]), reserved: le.Uint64(payload[16:]), clean: payload[24] == 1}, true
}

// write makes a promise durable. A promise in a file that has no name any more
// is worth nothing: someone removed the folder, or moved it.
func (m *marker) write(durable, reserved uint64, clean bool) error {
	p := promise{generation: m.last.generation + 1, durable: durable, reserved: reserved, clean: clean}
	at := int64(p.generation%markSlots) * markStride
	if m.file == nil {
		if err := m.create(p.seal(), at); err != nil {
			return fmt.Errorf("cannot make %q: %w", m.path, err)
		}
		m.last = p
		return nil
	}
	if _, err := m.fs.Stat(m.path); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %q was removed or moved", ErrGone, m.fs.PathDir(m.path))
	}
	_, err := m.file.WriteAt(p.seal(), at)
	if err = errors.Join(err, m.file.SyncData()); err != nil {
		return fmt.Errorf("cannot write %s: %w", markFile, err)
	}
	m.last = p
	return nil
}

// create makes the file with its first promise. It has its name when it is whole
// and synced, so that no power cut leaves one that says nothing.
func (m *marker) create(text []byte, at int64) error {
	dir := m.fs.PathDir(m.path)
	path := m.fs.PathJoin(dir, newMarkFile)
	f, err := m.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(text, at); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = m.fs.Rename(path, m.path)
	}
	if err == nil {
		err = syncDir(m.fs, dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	m.file = f
	return nil
}

func (m *marker) close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// seal returns a promise as it is written.
func (p promise) seal() []byte {
	le := binary.LittleEndian
	b := le.AppendUint64(record.Begin(make([]byte, 0, markBytes)), p.generation)
	b = append(le.AppendUint64(le.AppendUint64(b, p.durable), p.reserved), 0)
	if p.clean {
		b[len(b)-1] = 1
	}
	record.Seal([]byte(markFile), b)
	return b
}

// promised writes down what the store promises from now on, ticks up to durable
// among it.
func (s *Store) promised(durable uint64, clean bool) error {
	if s.readOnly {
		return nil
	}
	if err := s.mark.write(durable, s.reserved, clean); err != nil {
		s.h.fail(err)
	}
	return s.h.err()
}

// openMark reads the promises of the process before.
func (s *Store) openMark(dir string) error {
	m, known, err := openMarker(s.layer.Over(s.opts.FS), dir, s.readOnly)
	if m == nil {
		return err
	}
	s.mark = m
	if err != nil {
		s.broken = err
		s.damaged([]byte(markFile), err)
	}
	if known {
		p := m.last
		s.before = &p
	}
	if s.readOnly {
		return nil
	}
	return syncDir(s.opts.FS, dir)
}

// checkPromise reports durable ticks that are gone without a trace, and takes over
// the highest seq that may have been used. It says whether the process before can
// have stopped in order.
func (s *Store) checkPromise() (clean bool) {
	p := s.before
	if p == nil && s.mark != nil && s.mark.empty && s.reserved > 0 { // the mark is written before a seq is reserved
		s.broken = fmt.Errorf("%w: %q is empty", ErrCorrupt, s.mark.path)
		s.damaged([]byte(markFile), s.broken)
		return false
	}
	if p == nil {
		return true // an older program made the store, or it is a copy
	}
	s.reserved = max(s.reserved, p.reserved)
	if p.durable > s.appended {
		s.broken = fmt.Errorf("%w: ticks %d…%d were durable and are missing", ErrCorrupt, s.appended+1, p.durable)
		s.damaged([]byte(markFile), fmt.Errorf("%w: ticks %d…%d were durable and are missing", ErrCorrupt, s.appended+1, p.durable))
	}
	return p.clean
}
