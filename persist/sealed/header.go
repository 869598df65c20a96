package sealed

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// The header of a file, of the mark's slots too.
const (
	magic       = "\x8avmseal\n"
	version     = 1
	atKind      = 9
	atKey       = 12
	atSalt      = atKey + idBytes
	atStore     = atSalt + saltBytes
	atBefore    = atStore + storeBytes
	atCheck     = atBefore + 16
	atTag       = atCheck + 4
	headerBytes = atTag + tagBytes

	storeBytes = 16
	tagBytes   = 16
)

// kind is how a file's frames lie.
type kind byte

const (
	kindPlain  kind = iota // holds nothing: a lock, room set aside, a name
	kindTable              // frames of one size, to be read anywhere
	kindStream             // a frame a write, read from the front
	kindSlots              // small records, written in place
)

// markName is the store's mark, which is written in place.
const markName = "MARK"

// newMarkName is what it is called until it is whole.
const newMarkName = markName + ".new"

// kindOf says how a file of that name lies.
func kindOf(name string) kind {
	switch {
	case name == "LOCK", name == "BALLAST", strings.HasPrefix(name, "marker."):
		return kindPlain
	case name == markName, name == newMarkName:
		return kindSlots
	case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".blob"):
		return kindTable
	}
	return kindStream
}

// known reports whether the store reads files of that name: others, such as what
// is left of an interrupted start, are nobody's.
func known(name string) bool {
	return kindOf(name) == kindTable || name == markName || bound(name) != "" || strings.HasPrefix(name, "OPTIONS-")
}

// bound returns what of a name a file belongs to: all of it, but nothing where
// pebble renames.
func bound(name string) string {
	if kindOf(name) == kindTable || isLog(name) || strings.HasPrefix(name, "MANIFEST-") {
		return name
	}
	return ""
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// storeID tells stores that use one key apart.
type storeID [storeBytes]byte

// header begins a file.
type header struct {
	kind  kind
	key   keyID
	salt  [saltBytes]byte
	store storeID
	log   closedLog // the one before, of a log
}

// closedLog is a log that was closed in order, with the bytes that it holds: the
// next one knows it, so that the end of the former cannot be cut off unseen.
type closedLog struct {
	number, bytes uint64
}

var checksum = crc32.MakeTable(crc32.Castagnoli)

// noNonce seals headers; frames count upwards from zero.
var noNonce = bytes.Repeat([]byte{0xff}, 12)

// newHeader makes the header of a new file of that name and its cipher.
func (l *Layer) newHeader(k kind, name string, log closedLog) (b []byte, aead cipher.AEAD, err error) {
	b = make([]byte, headerBytes)
	copy(b, magic)
	b[len(magic)], b[atKind] = version, byte(k)
	copy(b[atKey:], l.keys.write.id[:])
	_, _ = rand.Read(b[atSalt:atStore]) // never fails, see crypto/rand
	copy(b[atStore:], l.store[:])
	le := binary.LittleEndian
	le.PutUint64(b[atBefore:], log.number)
	le.PutUint64(b[atBefore+8:], log.bytes)
	le.PutUint32(b[atCheck:], crc32.Checksum(b[:atCheck], checksum))
	if aead, err = l.keys.write.cipher(b[atSalt:atStore]); err != nil {
		return nil, nil, err
	}
	return aead.Seal(b[:atTag], noNonce, nil, append(b[:atTag:atTag], bound(name)...)), aead, nil
}

// look is what the first bytes of a file are.
type look byte

const (
	looksTorn    look = iota // nothing is there, or it never reached the disk
	looksPlain               // something that is no header
	looksDamaged             // a header whose checksum does not fit
	looksNewer               // of a later version
	looksSealed
)

// parseHeader reads a header without authenticating it.
func parseHeader(b []byte) (h header, what look) {
	blank := len(bytes.TrimRight(b, "\x00")) == 0
	switch {
	case blank, len(b) < headerBytes && strings.HasPrefix(magic, string(b[:min(len(b), len(magic))])):
		return h, looksTorn
	case len(b) < headerBytes || alike(b) < len(magic)-2:
		return h, looksPlain
	}
	le := binary.LittleEndian
	switch {
	case le.Uint32(b[atCheck:]) != crc32.Checksum(b[:atCheck], checksum), alike(b) < len(magic):
		return h, looksDamaged
	case b[len(magic)] != version:
		return h, looksNewer
	}
	h = header{
		kind: kind(b[atKind]), key: keyID(b[atKey:atSalt]), salt: [saltBytes]byte(b[atSalt:atStore]), store: storeID(b[atStore:atBefore]),
		log: closedLog{le.Uint64(b[atBefore:]), le.Uint64(b[atBefore+8:])},
	}
	return h, looksSealed
}

// alike counts the bytes that are the magic's: one that was hit is no plain file.
func alike(b []byte) (n int) {
	for i := range magic {
		if b[i] == magic[i] {
			n++
		}
	}
	return n
}

// openHeader authenticates a header that parseHeader has read, for a file of that
// name, and returns the file's cipher.
func (l *Layer) openHeader(b []byte, h *header, name string) (cipher.AEAD, error) {
	k := l.keys.read[h.key]
	if k == nil {
		return nil, l.keys.lacks(name, h.key)
	}
	aead, err := k.cipher(h.salt[:])
	if err != nil {
		return nil, err
	}
	if _, err := aead.Open(nil, noNonce, b[atTag:headerBytes], append(b[:atTag:atTag], bound(name)...)); err != nil {
		return nil, damaged(name, "is not what was written under this name")
	}
	switch {
	case h.store != l.store:
		return nil, damaged(name, "is of another store")
	case h.kind != kindOf(name):
		return nil, damaged(name, "is of another kind")
	}
	return aead, nil
}
