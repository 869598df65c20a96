package persist

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/persist/sealed"
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
}

// looseRead reads a file as far as the disk gives it: what it does not is zero,
// which no checksum fits. The error is that of a file that cannot be opened.
func looseRead(fs vfs.FS, path string) (data []byte, torn bool, err error) {
	if s, ok := fs.(*sealed.Loose); ok {
		return s.ReadAll(path)
	}
	f, err := fs.Open(path)
	if err != nil {
		return nil, true, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, true, err
	}
	data = make([]byte, info.Size())
	const large, small = 1 << 20, 4 << 10
	for at := 0; at < len(data); at += large {
		part := data[at:min(at+large, len(data))]
		if readPart(f, part, at) == nil {
			continue
		}
		for i := 0; i < len(part); i += small {
			piece := part[i:min(i+small, len(part))]
			if readPart(f, piece, at+i) != nil {
				clear(piece)
				torn = true
			}
		}
	}
	return data, torn, nil
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

func readPart(f vfs.File, part []byte, at int) error {
	n, err := f.ReadAt(part, int64(at))
	if n == len(part) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// tableReader walks the data blocks of a table.
type tableReader struct {
	schema colblk.KeySchema
	iter   colblk.DataBlockIter
	buf    []byte
}

func newTableReader() *tableReader {
	t := &tableReader{schema: colblk.DefaultKeySchema(pebble.DefaultComparer, 16)}
	t.iter.InitOnce(&t.schema, pebble.DefaultComparer, nil)
	return t
}

// read yields the keys of every block that can be read, in order, with a nil value
// where they are deleted. hits are what lies between the blocks.
func (t *tableReader) read(data []byte, fn func(key, value []byte) error) (hits []hit, err error) {
	var last []byte
	lost := false
	for at := 0; ; {
		n := t.block(data[at:])
		if n == 0 {
			if !lost && closed(data[at:]) {
				return hits, nil // behind the data comes what describes it
			}
			if !lost {
				hits = append(hits, hit{after: last})
				lost = true
			}
			next := nextBlock(data, at+1)
			if next < 0 {
				return hits, nil
			}
			at = next
			continue
		}
		first := true
		err := t.rows(data[at:at+n], func(key, value []byte) error {
			if first && lost {
				hits[len(hits)-1].before = bytes.Clone(key)
				lost = false
			}
			first = false
			last = append(last[:0:0], key...)
			return fn(key, value)
		})
		if err != nil {
			return hits, err
		}
		at += n + blockTrailer
	}
}

// looksLikeData reports whether a data block may begin here.
func looksLikeData(b []byte) bool {
	const columns = 7
	if len(b) < 11+5*columns || b[4] != 1 || binary.LittleEndian.Uint16(b[5:]) != columns {
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

// nextBlock returns where a data block may begin from an offset on, −1 for nowhere.
func nextBlock(data []byte, from int) int {
	for at := from; at+11 < len(data); at++ {
		if data[at+4] == 1 && looksLikeData(data[at:]) {
			return at
		}
	}
	return -1
}

// block returns the length of the intact data block that begins here, 0 for none.
func (t *tableReader) block(b []byte) int {
	if !looksLikeData(b) {
		return 0
	}
	return sealedLength(b)
}

// sealedLength finds the length at which the checksum fits.
func sealedLength(b []byte) int {
	end := min(len(b)-blockTrailer, maxBlock)
	sum := ^uint32(0)
	for n := range max(end+1, 0) {
		// No compression, and the padding byte of a block's end.
		if n > 0 && b[n] == 0 && b[n-1] == 0 {
			typed := castagnoli[byte(sum)] ^ sum>>8
			if maskedSum(^typed) == binary.LittleEndian.Uint32(b[n+1:]) {
				return n
			}
		}
		sum = castagnoli[byte(sum)^b[n]] ^ sum>>8
	}
	return 0
}

// closed reports whether what follows the data blocks begins with an intact block.
func closed(b []byte) bool { return sealedLength(b) > 0 }

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
