package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Version is the version of every encoding in this package.
const Version = 1

// ErrCorrupt marks a value that fails its checksum or does not follow its format.
var ErrCorrupt = errors.New("corrupt record")

// ErrVersion marks a value that a newer program wrote.
var ErrVersion = errors.New("unknown record version")

const envelope = 5 // CRC-32C and the version

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Begin appends room for an envelope; the payload follows it, Seal fills it in.
func Begin(dst []byte) []byte { return append(dst, 0, 0, 0, 0, Version) }

// Seal computes the checksum of a value begun with Begin. The key is part of
// it, so a value found under another key is corrupt.
func Seal(key, value []byte) {
	binary.LittleEndian.PutUint32(value, checksum(key, value))
}

// Open checks a sealed value and returns its payload, which aliases value.
// Errors: ErrCorrupt, ErrVersion.
func Open(key, value []byte) ([]byte, error) {
	if len(value) < envelope {
		return nil, fmt.Errorf("%w: key %x holds %d bytes", ErrCorrupt, key, len(value))
	}
	if binary.LittleEndian.Uint32(value) != checksum(key, value) {
		return nil, fmt.Errorf("%w: checksum of key %x", ErrCorrupt, key)
	}
	if value[4] != Version {
		return nil, fmt.Errorf("%w %d: key %x", ErrVersion, value[4], key)
	}
	return value[envelope:], nil
}

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value[4:])
}
