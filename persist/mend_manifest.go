package persist

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// manifest is what a manifest says of the files that belong to a store.
type manifest struct {
	name   string
	whole  bool   // nothing in it is damaged
	log    uint64 // the oldest log that is needed
	tables map[uint64]*tableBounds
}

// tableBounds are the first and last key of a table; the file that holds it may
// hold more.
type tableBounds struct {
	file, size      uint64
	level, seq      uint64 // seq: the newest of pebble's in it
	part            bool   // the file is that of a table which was cut into several
	smallest, large []byte
}

const (
	manifestPrefix = "MANIFEST-"
	manifestMarker = markerPrefix + "manifest."
	formatMarker   = markerPrefix + "format-version."
)

// readEdits reads the manifest that the marker names, or the newest where none
// does. An error says that there is none that can be read.
func readEdits(fs vfs.FS, dir string) (m *manifest, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list %q: %w", dir, err)
	}
	name, marked := "", false
	for _, n := range names {
		if _, of, ok := strings.Cut(strings.TrimPrefix(n, manifestMarker), "."); ok && strings.HasPrefix(n, manifestMarker) {
			name, marked = of, true
		}
	}
	for _, n := range names {
		if !marked && strings.HasPrefix(n, manifestPrefix) && len(n) >= len(name) && n > name {
			name = n
		}
	}
	if name == "" {
		return nil, fmt.Errorf("%w: %q has no manifest", ErrCorrupt, dir)
	}
	f, err := openRaw(fs, fs.PathJoin(dir, name))
	if err != nil {
		return nil, fmt.Errorf("cannot read manifest %q: %w", name, err)
	}
	defer f.close()
	m = &manifest{name: name, tables: map[uint64]*tableBounds{}, whole: marked && f.size() > 0}
	rest, err := readRecords(f, func(record []byte, broken bool) error {
		m.whole = m.whole && !broken
		if err := m.edit(bufio.NewReader(bytes.NewReader(record))); err != nil {
			m.whole = false
		}
		return nil
	})
	m.whole = m.whole && !rest && !f.s.Torn()
	return m, err
}

// errEdit marks a version edit that this program does not understand.
var errEdit = errors.New("unknown version edit")

// editReader takes a version edit apart; the first error stays.
type editReader struct {
	r   *bufio.Reader
	err error
}

func (e *editReader) number() (n uint64) {
	if e.err == nil {
		n, e.err = binary.ReadUvarint(e.r)
	}
	return n
}

func (e *editReader) text() []byte {
	n := e.number()
	if e.err == nil && n > 1<<20 {
		e.err = errEdit
	}
	if e.err != nil {
		return nil
	}
	b := make([]byte, n)
	_, e.err = io.ReadFull(e.r, b)
	return b
}

// edit follows one edit, in pebble's encoding of it.
func (m *manifest) edit(r *bufio.Reader) error {
	e := editReader{r: r}
	for e.err == nil {
		tag, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		switch e.err = err; tag {
		case 1: // comparer
			e.text()
		case 2:
			m.log = max(m.log, e.number())
		case 3, 4, 9, 106: // next file, last seq, previous log, backing of nothing
			e.number()
		case 5: // compaction pointer
			e.number()
			e.text()
		case 6: // a table that is no more: level, number
			e.number()
			delete(m.tables, e.number())
		case 105: // backing of a virtual table
			e.number()
			e.number()
		case 7, 100, 102, 103:
			m.table(&e, tag)
		default:
			return fmt.Errorf("%w: %d", errEdit, tag)
		}
	}
	return e.err
}

func (m *manifest) table(e *editReader, tag uint64) {
	level, number := e.number(), e.number()
	if tag == 102 {
		e.number()
	}
	t := &tableBounds{file: number, level: level, size: e.number(), smallest: userKey(e.text()), large: userKey(e.text())}
	if tag != 7 {
		e.number()
		t.seq = e.number()
	}
	for tag == 103 && e.err == nil {
		custom := e.number()
		if custom == 1 {
			break
		}
		switch custom {
		case 66: // a part of another table's file
			t.file, t.part = e.number(), true
		case 69: // values elsewhere
			e.err = errEdit
		default:
			e.text()
		}
	}
	if e.err == nil {
		m.tables[number] = t
	}
}

// order sorts tables so that what is newer comes later: those that nothing needs any
// more, then from the lowest level up.
func (m *manifest) order(names []string) {
	if m == nil {
		return
	}
	used := make(map[uint64]*tableBounds, len(m.tables))
	for _, t := range m.tables {
		if o := used[t.file]; o == nil || t.level < o.level {
			used[t.file] = t
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		na, _ := fileNumber(a, ".sst")
		nb, _ := fileNumber(b, ".sst")
		ta, tb := used[na], used[nb]
		switch {
		case ta == nil && tb == nil:
			return cmp.Compare(na, nb)
		case ta == nil:
			return -1
		case tb == nil:
			return 1
		}
		return cmp.Or(cmp.Compare(tb.level, ta.level), cmp.Compare(ta.seq, tb.seq), cmp.Compare(na, nb))
	})
}

// userKey is an internal key without its trailer.
func userKey(b []byte) []byte { return b[:max(len(b)-8, 0)] }

// fileNumber returns the number in the name of a table or log.
func fileNumber(name, ext string) (uint64, bool) {
	base, ok := strings.CutSuffix(name, ext)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(base, 10, 64)
	return n, err == nil
}

// trouble says why a store must not be opened as it is although pebble would: a
// manifest that ends early passes for an older one, and what it does not name is
// deleted; a log that is missing passes for an empty one. nil: nothing of that.
func trouble(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && !begun(names) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", dir, err)
	}
	m, err := readEdits(fs, dir)
	if err != nil {
		return err
	}
	if !m.whole {
		return fmt.Errorf("%w: manifest %q is damaged", ErrCorrupt, m.name)
	}
	for _, name := range names {
		if n, ok := fileNumber(name, ".log"); ok && n >= m.log {
			return nil
		}
	}
	if m.halfOpened(names) {
		return nil
	}
	return fmt.Errorf("%w: the log %06d is missing", ErrCorrupt, m.log)
}

// halfOpened reports whether an opening was cut short after it had put all that
// logs held into tables, in a manifest of its own, and before it made a log. The
// options file comes behind the log, so there is none of that opening.
func (m *manifest) halfOpened(names []string) bool {
	number := func(name, prefix string) uint64 {
		digits, ok := strings.CutPrefix(name, prefix)
		n, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil {
			return 0
		}
		return n
	}
	opened := slices.ContainsFunc(names, func(name string) bool { return number(name, "OPTIONS-") > m.log })
	return number(m.name, manifestPrefix) > m.log && !opened
}

// begun reports whether a folder holds what only a store of pebble has.
func begun(names []string) bool {
	for _, n := range names {
		_, table := fileNumber(n, ".sst")
		_, log := fileNumber(n, ".log")
		if table || log || strings.HasPrefix(n, manifestMarker) {
			return true
		}
	}
	return false
}
