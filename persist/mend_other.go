package persist

import (
	"errors"
	"slices"
)

// misplaced yields what lies under a name that promises something else.
func (m *mender) misplaced(fn func(key, value []byte) error) error {
	for _, name := range slices.Concat(m.others, m.logs, m.tables) {
		f, err := m.openFile(name)
		if errors.Is(err, errUnsteady) {
			return err
		}
		if err != nil {
			continue
		}
		err = m.misnamed(f, fn)
		if f.close(); err != nil {
			return err
		}
	}
	return nil
}

// edge is how far a file is looked into, from both ends, to find out whether there
// is anything of a store in it.
const edge = 8 * logBlock

func (m *mender) misnamed(f *rawFile, fn func(key, value []byte) error) error {
	if !slices.Contains(m.tables, f.name) {
		if table, err := likeTable(f); err != nil {
			return err
		} else if table {
			_, _, err := m.table.read(f, func(key, value []byte) error {
				if value == nil {
					return nil
				}
				return fn(key, value)
			})
			if err != nil {
				return err
			}
		}
	}
	if slices.Contains(m.logs, f.name) {
		return nil
	}
	if log, err := likeLog(f); err != nil || !log {
		return err
	}
	_, err := readRecords(f, func(rec []byte, _ bool) error {
		if !isBatch(rec) {
			return nil
		}
		return readBatch(rec, fn)
	})
	return err
}

// tableEnd is what every table ends with.
const tableEnd = "\xf0\x9f\xaa\xb3\xf0\x9f\xaa\xb3"

// likeTable reports whether a file may be a table: it has a data block near its
// beginning, or a table's end.
func likeTable(f *rawFile) (bool, error) {
	if at, err := nextBlock(f, 0, edge); err != nil || at >= 0 {
		return at >= 0, err
	}
	b, err := f.bytes(max(f.size()-int64(len(tableEnd)), 0), len(tableEnd))
	return string(b) == tableEnd, err
}

// likeLog reports whether a file may be a log: near its beginning or its end a block
// of it begins with an intact chunk.
func likeLog(f *rawFile) (bool, error) {
	tail := max(f.size()/logBlock*logBlock-edge, edge)
	for at := int64(0); at < f.size(); at += logBlock {
		if at == edge {
			at = tail
		}
		b, err := f.bytes(at, logBlock)
		if err != nil {
			return false, err
		}
		if _, ok := chunkAt(b); ok {
			return true, nil
		}
	}
	return false, nil
}
