package persist

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
)

// A table is read block by block without its index: every block ends with its
// type and a checksum, so that each can be found and believed by itself, and a
// damaged one, or a damaged index, costs nothing but itself.

// blockTrailer follows a block: its compression and its checksum.
const blockTrailer = 5

// maxBlock bounds a block: one holds a single value at least.
const maxBlock = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedSum is what pebble writes of a CRC-32C.
func maskedSum(c uint32) uint32 { return (c>>15 | c<<17) + 0xa282ead8 }

// hit is a part of a file that cannot be read: it may have held any key between
// the two, nil for no bound.
type hit struct {
	after, before []byte
	more          int  // parts that were joined with it
	value         bool // it is only the value of the first key between
}

// maxHits bounds the parts that are told apart, of a file and of all: beyond it
// neighbours are joined, and what was read between them counts as missing.
const maxHits = 1024

func addHit(hits []hit, add ...hit) []hit {
	for _, h := range add {
		if len(hits) >= maxHits {
			slices.SortStableFunc(hits, func(a, b hit) int { return bytes.Compare(a.after, b.after) })
			for i := range len(hits) / 2 {
				hits[i] = hits[2*i].join(&hits[2*i+1])
			}
			hits = hits[:len(hits)/2]
		}
		hits = append(hits, h)
	}
	return hits
}

func (h hit) join(o *hit) hit {
	if bytes.Compare(o.after, h.after) < 0 {
		h.after = o.after
	}
	if o.before == nil || h.before != nil && bytes.Compare(o.before, h.before) > 0 {
		h.before = o.before
	}
	h.more, h.value = h.more+1+o.more, false
	return h
}

// parts counts what was hit.
func parts(hits []hit) (n int) {
	for _, h := range hits {
		n += 1 + h.more
	}
	return n
}

// tableReader walks the data blocks of a table.
type tableReader struct {
	schema colblk.KeySchema
	iter   colblk.DataBlockIter
	buf    []byte
	dead   map[int64]int // where no block begins that ends within so many bytes
}

func newTableReader() *tableReader {
	t := &tableReader{schema: colblk.DefaultKeySchema(pebble.DefaultComparer, 16), dead: map[int64]int{}}
	t.iter.InitOnce(&t.schema, pebble.DefaultComparer, nil)
	return t
}

// read yields the keys of every block that can be read, in order, with a nil value
// where they are deleted. hits are what lies between the blocks; end is where what
// describes them begins. Error: errUnsteady, and what fn returns.
func (t *tableReader) read(f *rawFile, fn func(key, value []byte) error) (hits []hit, end int64, err error) {
	var last []byte
	lost := false
	t.dead = map[int64]int{}
	for at := int64(0); ; {
		n, err := t.block(f, at)
		if err != nil {
			return hits, at, err
		}
		if n == 0 {
			if !lost {
				closed, err := sealedLength(f, at, maxBlock)
				if err != nil || closed > 0 {
					return hits, at, err // behind the data comes what describes it
				}
				hits, lost = addHit(hits, hit{after: last}), true
			}
			next, err := nextBlock(f, at+1, f.size())
			if err != nil || next < 0 {
				return hits, at, err
			}
			at = next
			continue
		}
		b, err := f.bytes(at, n)
		if err != nil {
			return hits, at, err
		}
		first := true
		err = t.rows(b, func(key, value []byte) error {
			if first && lost {
				hits[len(hits)-1].before = bytes.Clone(key)
				lost = false
			}
			first = false
			last = append(last[:0:0], key...)
			return fn(key, value)
		})
		if err != nil {
			return hits, at, err
		}
		at += int64(n) + blockTrailer
	}
}

// looksLikeData reports whether a data block may begin here.
func looksLikeData(b []byte) bool {
	const columns = 7
	if len(b) < dataHead || b[4] != 1 || binary.LittleEndian.Uint16(b[5:]) != columns {
		return false
	}
	for i, kind := range [columns]colblk.DataType{
		colblk.DataTypePrefixBytes, colblk.DataTypeBytes, colblk.DataTypeUint, colblk.DataTypeBool,
		colblk.DataTypeBytes, colblk.DataTypeBool, colblk.DataTypeBool,
	} {
		if b[11+5*i] != byte(kind) {
			return false
		}
	}
	return true
}

// dataHead is what looksLikeData looks at.
const dataHead = 11 + 5*7

// nextBlock returns where a data block may begin from an offset on and before
// another, −1 for nowhere.
func nextBlock(f *rawFile, from, to int64) (int64, error) {
	for at := from; at < to; {
		b, err := f.bytes(at, rawPiece)
		if err != nil {
			return -1, err
		}
		n := len(b) - dataHead + 1
		for i := range max(n, 0) {
			if b[i+4] == 1 && looksLikeData(b[i:]) {
				return at + int64(i), nil
			}
		}
		if n <= 0 {
			break
		}
		at += int64(n)
	}
	return -1, nil
}

// block returns the length of the intact data block that begins here, 0 for none.
// Most are small, so it is looked for an end near by first: where another block
// begins before one is found, and is sound, this one is damaged, and need not be
// followed for as far as a block may reach.
func (t *tableReader) block(f *rawFile, at int64) (n int, err error) {
	b, err := f.bytes(at, dataHead)
	if err != nil || !looksLikeData(b) {
		return 0, err
	}
	defer delete(t.dead, at)
	for limit := nearBlock; ; limit *= 4 {
		limit = min(limit, maxBlock)
		if n, err = t.within(f, at, limit); err != nil || n > 0 {
			return n, err
		}
		if limit == maxBlock || at+int64(limit) >= f.size() {
			return 0, nil
		}
		next := at
		for range nearBlocks {
			if next, err = nextBlock(f, next+1, at+int64(limit)); err != nil || next < 0 {
				break
			}
			if other, err := t.within(f, next, limit); err != nil || other > 0 {
				return 0, err
			}
		}
		if err != nil {
			return 0, err
		}
	}
}

const (
	nearBlock  = 256 << 10
	nearBlocks = 8
)

// within is sealedLength, which is not asked again what it has denied.
func (t *tableReader) within(f *rawFile, at int64, limit int) (int, error) {
	if t.dead[at] >= limit {
		return 0, nil
	}
	n, err := sealedLength(f, at, limit)
	if err == nil && n == 0 {
		t.dead[at] = limit
	}
	return n, err
}

// sealedLength finds the length at which the checksum of a block fits that begins
// here, 0 for none up to a limit.
func sealedLength(f *rawFile, at int64, limit int) (int, error) {
	end := int(min(f.size()-at-blockTrailer, int64(limit)))
	sum, before := ^uint32(0), byte(1)
	for n := 0; n <= end; {
		b, err := f.bytes(at+int64(n), min(rawPiece, end+1-n)+blockTrailer-1)
		if err != nil {
			return 0, err
		}
		for i, c := range b[:len(b)-blockTrailer+1] {
			// No compression, and the padding byte of a block's end.
			if c == 0 && before == 0 {
				typed := castagnoli[byte(sum)] ^ sum>>8
				if maskedSum(^typed) == binary.LittleEndian.Uint32(b[i+1:]) {
					return n + i, nil
				}
			}
			sum, before = castagnoli[byte(sum)^c]^sum>>8, c
		}
		n += len(b) - blockTrailer + 1
	}
	return 0, nil
}

// rows yields the values of a block. What its checksum says is sound is believed,
// and yet nothing in it may end the process.
func (t *tableReader) rows(b []byte, fn func(key, value []byte) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: a block of a table: %v", ErrCorrupt, r)
		}
	}()
	if cap(t.buf) < len(b) {
		t.buf = make([]byte, len(b)+len(b)/4+64)
	}
	t.buf = append(t.buf[:0], b...)
	var d colblk.DataBlockDecoder
	d.Init(&t.schema, t.buf)
	if err := t.iter.Init(&d, block.NoTransforms); err != nil {
		return err
	}
	for kv := t.iter.First(); kv != nil; kv = t.iter.Next() {
		var value []byte
		if kind := kv.Kind(); kind == pebble.InternalKeyKindSet || kind == pebble.InternalKeyKindSetWithDelete {
			value = kv.InPlaceValue()
		}
		if err := fn(kv.K.UserKey, value); err != nil {
			return err
		}
	}
	return t.iter.Error()
}
