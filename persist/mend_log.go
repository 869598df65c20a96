package persist

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"
)

// The frame of pebble's logs and manifests: blocks of 32 KiB that hold chunks, each
// with its checksum, length, type and, in logs, the log's number and more.
const (
	logBlock = 32 << 10
	// Chunk types 1…12: three formats, four positions each.
	chunkPositions = 4
	chunkFull      = 0
	chunkFirst     = 1
	chunkMiddle    = 2
	chunkLast      = 3
)

var chunkHeader = [3]int{7, 11, 19}

// chunk is one of a log.
type chunk struct {
	position int
	log      uint32
	payload  []byte
	size     int  // header included
	end      bool // of the log before: it has no checksum
}

// chunkAt takes the chunk at the beginning of the rest of a block apart; ok is
// false where none is intact.
func chunkAt(b []byte) (c chunk, ok bool) {
	if len(b) < chunkHeader[0] || b[6] == 0 || int(b[6]) > len(chunkHeader)*chunkPositions {
		return c, false
	}
	if len(b) >= chunkHeader[1] && b[6] == 1+chunkPositions && zero(b[:6]) {
		return chunk{log: binary.LittleEndian.Uint32(b[7:]), size: chunkHeader[1], end: true}, true
	}
	form := int(b[6]-1) / chunkPositions
	header, length := chunkHeader[form], int(binary.LittleEndian.Uint16(b[4:]))
	if header+length > len(b) || maskedSum(crc32.Checksum(b[6:header+length], castagnoli)) != binary.LittleEndian.Uint32(b) {
		return c, false
	}
	c = chunk{position: int(b[6]-1) % chunkPositions, payload: b[header : header+length], size: header + length}
	if form > 0 {
		c.log = binary.LittleEndian.Uint32(b[7:])
	}
	return c, true
}

// eachChunk yields the intact chunks of a log in order; skipped says that
// something between one and the one before is neither a chunk nor room. Error:
// errUnsteady, and what fn returns.
func eachChunk(f *rawFile, fn func(c *chunk, skipped bool) error) (rest bool, err error) {
	skipped := false
	for start := int64(0); start < f.size(); start += logBlock {
		for at := 0; ; {
			b, err := f.bytes(start+int64(at), logBlock-at) // anew: fn may have moved the window
			if err != nil {
				return false, err
			}
			if len(b) < chunkHeader[0] {
				break
			}
			c, ok := chunkAt(b)
			if !ok {
				// Less than a chunk's header at the end of a block is left empty.
				if len(b) >= chunkHeader[2] || !zero(b) {
					room, err := preallocated(f, b, start+int64(at))
					if err != nil {
						return false, err
					}
					skipped = skipped || !room
				}
				break
			}
			if err := fn(&c, skipped); err != nil {
				return false, err
			}
			at, skipped = at+c.size, false
		}
	}
	return skipped, nil
}

// maxRecord bounds a record of a log. The largest is the batch of a whole state.
const maxRecord = 256 << 20

// recordReader joins chunks to records.
type recordReader struct {
	own    uint32 // number of the log that the file is
	fn     func(record []byte, broken bool) error
	record []byte
	within bool
	broken bool
	ended  bool
}

// readRecords yields the intact records of a log in order. broken says that
// something between it and the one before cannot be read; rest that something
// behind the last cannot, which may be the torn end of an unclean stop. A file
// that was used before holds the rest of an older log behind the end of its own.
func readRecords(f *rawFile, fn func(record []byte, broken bool) error) (rest bool, err error) {
	r := recordReader{fn: fn}
	_, err = eachChunk(f, func(c *chunk, _ bool) error {
		if len(c.payload) > 0 {
			r.own = max(r.own, c.log)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	skipped, err := eachChunk(f, r.chunk)
	return !r.ended && (skipped || r.broken || r.within), err
}

func (r *recordReader) chunk(c *chunk, skipped bool) error {
	r.ended = r.ended || c.end && c.log == r.own+1 && !skipped && !r.within
	if r.ended || c.end || c.log != r.own {
		return nil
	}
	r.broken = r.broken || skipped
	if skipped {
		r.within = false
	}
	switch c.position {
	case chunkFull, chunkFirst:
		r.broken = r.broken || r.within
		r.record, r.within = append(r.record[:0], c.payload...), true
	default:
		if !r.within || len(r.record) > maxRecord {
			r.broken, r.within = true, false
			return nil
		}
		r.record = append(r.record, c.payload...)
	}
	if c.position != chunkFull && c.position != chunkLast {
		return nil
	}
	err := r.fn(r.record, r.broken)
	r.within, r.broken = false, false
	return err
}

// preallocated reports whether nothing but zeros follows from the rest of a block
// on: room for what was never written.
func preallocated(f *rawFile, b []byte, at int64) (bool, error) {
	if !zero(b) {
		return false, nil
	}
	end, err := f.end()
	return end <= at, err
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// batchHeader comes before the entries of a batch: its place in pebble's order and
// their number.
const batchHeader = 12

// batchReader takes a batch apart.
type batchReader struct {
	b   []byte
	bad bool // it does not follow the format
}

func (r *batchReader) text() (t []byte) {
	n, w := binary.Uvarint(r.b)
	if r.bad = r.bad || w <= 0 || n > uint64(len(r.b)-w); r.bad {
		return nil
	}
	t, r.b = r.b[w:w+int(n)], r.b[w+int(n):]
	return t
}

// next returns the next entry; false at the end, and where that is not to be told.
func (r *batchReader) next() (kind pebble.InternalKeyKind, key, value []byte, ok bool) {
	if len(r.b) == 0 {
		return 0, nil, nil, false
	}
	kind = pebble.InternalKeyKind(r.b[0])
	r.b = r.b[1:]
	key = r.text()
	switch kind {
	case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete, pebble.InternalKeyKindLogData:
	default:
		value = r.text()
	}
	return kind, key, value, !r.bad
}

// readBatch yields the values that a record of a log sets. A record that is no
// batch yields nothing that checks out.
func readBatch(repr []byte, fn func(key, value []byte) error) error {
	r := batchReader{b: repr[min(len(repr), batchHeader):]}
	for {
		kind, key, value, ok := r.next()
		if !ok {
			return nil
		}
		if kind != pebble.InternalKeyKindSet {
			continue
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
}

// isBatch reports whether a record is a batch: as many entries as it says, of kinds
// that there are.
func isBatch(repr []byte) bool {
	if len(repr) < batchHeader {
		return false
	}
	r, n := batchReader{b: repr[batchHeader:]}, uint32(0)
	for {
		kind, _, _, ok := r.next()
		if !ok {
			return !r.bad && n == binary.LittleEndian.Uint32(repr[8:])
		}
		if kind > pebble.InternalKeyKindMax {
			return false
		}
		if kind != pebble.InternalKeyKindLogData {
			n++
		}
	}
}
