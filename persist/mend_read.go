package persist

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/velocimeter/velocimeter/persist/record"
)

// tableFile is a table's file as it was found.
type tableFile struct {
	name        string
	size        uint64
	first, last []byte // nil: it has no keys
	open        bool   // its end is missing
}

func (m *mender) readTable(name string, fn func(key, value []byte) error, note bool) error {
	file, err := m.openFile(name)
	if errors.Is(err, errUnsteady) {
		return err
	}
	if err != nil {
		if note {
			m.damaged(name, err.Error())
		}
		return nil // it counts as missing
	}
	defer file.close()
	f := tableFile{name: name, size: uint64(file.size())}
	hits, end, err := m.table.read(file, func(key, value []byte) error {
		if f.first == nil {
			f.first = bytes.Clone(key)
		}
		f.last = append(f.last[:0], key...)
		if value == nil {
			return nil
		}
		return fn(key, value)
	})
	if err != nil || !note {
		return err
	}
	torn, err := file.torn(end)
	if err != nil {
		return err
	}
	if n := len(hits); n > 0 && hits[n-1].before == nil {
		f.open = true
		if large := m.largest(name); large != nil && bytes.Compare(f.last, large) >= 0 && f.last != nil {
			hits, f.open = hits[:n-1], false // all of its data was read
		} else if large != nil && bytes.Compare(hits[n-1].after, large) <= 0 {
			hits[n-1].before = after(large)
		}
	}
	if len(hits) > 0 || torn {
		m.damaged(name, fmt.Sprintf("%d parts of it are damaged", max(parts(hits), 1)))
	}
	if f.first == nil && len(hits) > 0 && m.largest(name) != nil {
		return nil // it counts as missing
	}
	if len(hits) > 0 && hits[0].after == nil {
		hits[0].after = m.smallest(name)
	}
	m.hits, m.found = addHit(m.hits, hits...), append(m.found, f)
	return nil
}

// smallest returns a key before those that the manifest gives a file, nil if it
// does not know it.
func (m *mender) smallest(name string) (small []byte) {
	if m.manifest == nil {
		return nil
	}
	number, _ := fileNumber(name, ".sst")
	for _, t := range m.manifest.tables {
		if t.file == number && (small == nil || bytes.Compare(before(t.smallest), small) < 0) {
			small = before(t.smallest)
		}
	}
	return small
}

// after returns the key behind a key.
func after(key []byte) []byte { return append(bytes.Clone(key), 0) }

// largest returns the last key that the manifest gives a file, nil if it does not
// know it.
func (m *mender) largest(name string) (large []byte) {
	if m.manifest == nil {
		return nil
	}
	number, _ := fileNumber(name, ".sst")
	for _, t := range m.manifest.tables {
		if t.file == number && bytes.Compare(t.large, large) > 0 {
			large = t.large
		}
	}
	return large
}

// missingTables notes the tables that are in no file, by the manifest: what lies
// under a name may belong under another.
func (m *mender) missingTables() {
	if m.manifest == nil {
		return
	}
	for _, t := range m.manifest.tables {
		name := fmt.Sprintf("%06d.sst", t.file)
		if !slices.ContainsFunc(m.found, func(f tableFile) bool { return f.holds(t, name) }) {
			m.damaged(name, "the table is missing")
			m.hits = addHit(m.hits, hit{after: before(t.smallest), before: after(t.large)})
		}
	}
}

// before returns a key before a key, and behind any that is not a part of it.
func before(key []byte) []byte { return bytes.Clone(key[:max(len(key)-1, 0)]) }

// holds reports whether a file is that of a table, or what is left of it.
func (f *tableFile) holds(t *tableBounds, name string) bool {
	inside := f.first == nil || bytes.Compare(f.first, t.smallest) >= 0 && bytes.Compare(f.last, t.large) <= 0
	if t.part || f.name == name && f.open && f.first != nil {
		return f.name == name && (t.part || inside)
	}
	return f.size == t.size && inside
}

// hitLog notes a damaged part of a log behind a tick and returns its place in
// logHits; 0 for the tick after it stands for none. Beyond maxHits a part joins the
// one before it.
func (m *mender) hitLog(last uint64) int {
	if n := len(m.logHits); n >= maxHits {
		m.logHits[n-1] = [2]uint64{min(m.logHits[n-1][0], last), 0}
		m.report.Joined++
		return n - 1
	}
	m.logHits = append(m.logHits, [2]uint64{last, 0})
	return len(m.logHits) - 1
}

// readLog reads a log; last is the newest tick of the logs before.
func (m *mender) readLog(name string, last *uint64, fn func(key, value []byte) error, note bool) error {
	f, err := m.openFile(name)
	if errors.Is(err, errUnsteady) {
		return err
	}
	if err != nil {
		if note {
			m.damaged(name, err.Error())
			m.hitLog(*last)
		}
		return nil
	}
	defer f.close()
	open, parts, first := -1, 0, uint64(0)
	_, err = readRecords(f, func(rec []byte, broken bool) error {
		if broken && note {
			parts++
			open = m.hitLog(*last)
		}
		return readBatch(rec, func(key, value []byte) error {
			if seq, ok := record.JournalSeq(key); ok {
				if open >= 0 {
					m.logHits[open][1], open = seq, -1
				}
				*last = max(*last, seq)
				if first == 0 {
					first = seq
				}
			}
			return fn(key, value)
		})
	})
	if first > 0 {
		m.newestLog = m.ticks[first]
	}
	torn := f.s.Torn()
	if note && (parts > 0 || torn) {
		m.damaged(name, fmt.Sprintf("%d parts of it are damaged", max(parts, 1)))
	}
	if note && torn && parts == 0 { // behind all that can be read
		m.hitLog(*last)
	}
	return err
}
