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
// something between one and the one before is neither a chunk nor room.
func eachChunk(data []byte, fn func(c *chunk, skipped bool) error) (rest bool, err error) {
	skipped := false
	for start := 0; start < len(data); start += logBlock {
		b := data[start:min(start+logBlock, len(data))]
		for len(b) >= chunkHeader[0] {
			c, ok := chunkAt(b)
			if !ok {
				// Less than a chunk's header at the end of a block is left empty.
				if len(b) >= chunkHeader[2] || !zero(b) {
					skipped = skipped || !preallocated(data, b, start)
				}
				break
			}
			if err := fn(&c, skipped); err != nil {
				return false, err
			}
			b, skipped = b[c.size:], false
		}
	}
	return skipped, nil
}

// readRecords yields the intact records of a log in order. broken says that
// something between it and the one before cannot be read; rest that something
// behind the last cannot, which may be the torn end of an unclean stop. A file
// that was used before holds the rest of an older log behind the end of its own.
func readRecords(data []byte, fn func(record []byte, broken bool) error) (rest bool, err error) {
	own := uint32(0)
	_, _ = eachChunk(data, func(c *chunk, _ bool) error {
		if len(c.payload) > 0 {
			own = max(own, c.log)
		}
		return nil
	})
	var record []byte
	within, broken, ended := false, false, false
	skipped, err := eachChunk(data, func(c *chunk, skipped bool) error {
		ended = ended || c.end && c.log == own+1 && !skipped && !within
		if ended || c.end || c.log != own {
			return nil
		}
		broken = broken || skipped
		if skipped {
			within = false
		}
		switch c.position {
		case chunkFull, chunkFirst:
			broken = broken || within
			record, within = append(record[:0], c.payload...), true
		default:
			if !within {
				broken = true
				return nil
			}
			record = append(record, c.payload...)
		}
		if c.position != chunkFull && c.position != chunkLast {
			return nil
		}
		err := fn(record, broken)
		within, broken = false, false
		return err
	})
	return !ended && (skipped || broken || within), err
}

// preallocated reports whether nothing but zeros follows: room for what was never
// written.
func preallocated(data, b []byte, start int) bool {
	return zero(b) && zero(data[min(start+logBlock, len(data)):])
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

// readBatch yields the values that a record of a log sets. A record that is no
// batch yields nothing that checks out.
func readBatch(repr []byte, fn func(key, value []byte) error) error {
	b := repr[min(len(repr), batchHeader):]
	text := func() (t []byte, ok bool) {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, false
		}
		t, b = b[w:w+int(n)], b[w+int(n):]
		return t, true
	}
	for len(b) > 0 {
		kind := pebble.InternalKeyKind(b[0])
		b = b[1:]
		key, ok := text()
		if !ok {
			return nil
		}
		switch kind {
		case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete, pebble.InternalKeyKindLogData:
			continue
		default:
		}
		value, ok := text()
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
	return nil
}
