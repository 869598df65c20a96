package sealed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The mark is written in place: each of its slots is a small file of its own, with
// a header, so with a salt that no write had before.
const (
	slotBytes = 512
	maxSlots  = 8
	// SlotPlain is what a slot holds at most.
	SlotPlain = slotBytes - headerBytes - 2 - tagBytes
)

var errSlot = errors.New("no such slot")

// slotFile is the mark.
type slotFile struct {
	vfs.File
	l    *Layer
	name string
}

// slotData is what a slot's bytes belong to: its place and their number.
func slotData(off int64, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(off))
	return binary.LittleEndian.AppendUint16(b, uint16(n))
}

// WriteAt implements vfs.File for whole slots.
func (f *slotFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off%slotBytes != 0 || off >= maxSlots*slotBytes || len(p) > SlotPlain {
		return 0, fmt.Errorf("%w: %d bytes at %d", errSlot, len(p), off)
	}
	if f.l.keys.write == nil {
		return f.File.WriteAt(p, off)
	}
	b, aead, err := f.l.newHeader(kindSlots, f.name, closedLog{})
	if err != nil {
		return 0, err
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(p)))
	b = aead.Seal(b, make([]byte, 12), p, slotData(off, len(p)))
	if _, err := f.File.WriteAt(b, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ReadAt implements vfs.File. A slot that cannot be opened reads as zeros.
func (f *slotFile) ReadAt(p []byte, off int64) (int, error) {
	disk := make([]byte, maxSlots*slotBytes)
	n, err := f.File.ReadAt(disk, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	plain := make([]byte, 0, n)
	for at := 0; at < n; at += slotBytes {
		slot := disk[at:min(at+slotBytes, n)]
		plain = append(plain, make([]byte, at-len(plain))...)
		plain = append(plain, f.open(slot, int64(at))...)
	}
	if off >= int64(len(plain)) {
		return 0, io.EOF
	}
	if n = copy(p, plain[off:]); n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *slotFile) open(slot []byte, off int64) []byte {
	nothing := make([]byte, len(slot))
	h, what := parseHeader(slot)
	if what == looksPlain && f.l.keys.plain {
		return slot
	}
	if what != looksSealed || len(slot) < headerBytes+2+tagBytes {
		return nothing
	}
	aead, err := f.l.openHeader(slot, &h, f.name)
	if err != nil {
		return nothing
	}
	n := int(binary.LittleEndian.Uint16(slot[headerBytes:]))
	body := slot[headerBytes+2:]
	if n+tagBytes > len(body) {
		return nothing
	}
	plain, err := aead.Open(nil, make([]byte, 12), body[:n+tagBytes], slotData(off, n))
	if err != nil {
		return nothing
	}
	return plain
}

// Write implements vfs.File: slots have places.
func (f *slotFile) Write([]byte) (int, error) { return 0, vfs.ErrUnsupported }

// Read implements vfs.File.
func (f *slotFile) Read([]byte) (int, error) { return 0, vfs.ErrUnsupported }
