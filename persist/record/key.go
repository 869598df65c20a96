package record

import (
	"encoding/binary"

	"github.com/velocimeter/velocimeter/engine/market"
)

// The kinds of keys: the first byte of every key.
const (
	KindMeta      byte = 'm'
	KindJournal   byte = 'j'
	KindMinute    byte = 'i' // what a closed minute holds: its first and last seq
	KindBlock     byte = 'b' // rows of a closed minute whose hour is still open
	KindHour      byte = 'h' // 1-minute rows of an hour
	KindFive      byte = 'q' // 5-minute rows of an hour
	KindDay       byte = 'o' // 1-hour rows of a day
	KindMonth     byte = 'd' // 1-day rows of 32 days
	KindState     byte = 's'
	KindEngine    byte = 'e'
	KindCells     byte = 'w' // window cells of an hour
	KindLast      byte = 'x' // the last window cell of every 5 minutes of an hour
	KindTombstone byte = 't'
	KindName      byte = 'n' // symbol of a token whose history was imported
)

// Groups is the number of groups that a minute block is cut into, by token id.
const Groups = 16

// Names of the meta keys.
const (
	MetaEpoch    = "epoch"
	MetaReserved = "reserved"
	MetaState    = "state"
	MetaLost     = "lost"
	MetaCut      = "cut"
	MetaClean    = "clean"
	MetaRoll     = "roll"
	MetaBorn     = "born"
	MetaCoarse   = "coarse"
	MetaAnew     = "anew"
	MetaSet      = "set"
)

// MetaKey returns the key of a meta record.
func MetaKey(name string) []byte { return append([]byte{KindMeta}, name...) }

// JournalKey returns the key of a tick.
func JournalKey(seq uint64) []byte { return binary.BigEndian.AppendUint64([]byte{KindJournal}, seq) }

// JournalSeq returns the seq of a journal key.
func JournalSeq(key []byte) (uint64, bool) {
	if len(key) != 9 || key[0] != KindJournal {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// TimeKey returns the key of kind for an instant: KindMinute, or the prefix of
// a block's key.
func TimeKey(kind byte, t market.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, uint64(t))
}

// KeyTime returns the instant in a key made by TimeKey, BlockKey or TombstoneKey.
func KeyTime(key []byte) (market.Time, bool) {
	if len(key) < 9 {
		return 0, false
	}
	return market.Time(binary.BigEndian.Uint64(key[1:])), true
}

// BlockKey returns the key of one group's rows of a minute.
func BlockKey(minute market.Time, group byte) []byte {
	return append(TimeKey(KindBlock, minute), group)
}

// Group returns the group of a token.
func Group(id market.ID) byte { return byte(id % Groups) }

// ChunkKey returns the key of a token's chunk: period counts the key's days (or
// 32 days for KindMonth) since 1970, part is the hour of the day or 0.
func ChunkKey(kind byte, period uint32, id market.ID, part byte) []byte {
	key := binary.BigEndian.AppendUint32([]byte{kind}, period)
	return append(binary.BigEndian.AppendUint32(key, uint32(id)), part)
}

// ParseChunkKey takes a key made by ChunkKey apart.
func ParseChunkKey(key []byte) (period uint32, id market.ID, part byte, ok bool) {
	if len(key) != 10 {
		return 0, 0, 0, false
	}
	return binary.BigEndian.Uint32(key[1:]), market.ID(binary.BigEndian.Uint32(key[5:])), key[9], true
}

// PeriodKey returns the prefix of all chunks of a period.
func PeriodKey(kind byte, period uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, period)
}

// StateKey returns the key of a token's state.
func StateKey(id market.ID) []byte {
	return binary.BigEndian.AppendUint32([]byte{KindState}, uint32(id))
}

// StateID returns the token of a state key.
func StateID(key []byte) (market.ID, bool) {
	if len(key) != 5 || key[0] != KindState {
		return 0, false
	}
	return market.ID(binary.BigEndian.Uint32(key[1:])), true
}

// NameKey returns the key of an imported token's symbol.
func NameKey(id market.ID) []byte {
	return binary.BigEndian.AppendUint32([]byte{KindName}, uint32(id))
}

// NameID returns the token of a key made by NameKey.
func NameID(key []byte) (market.ID, bool) {
	if len(key) != 5 || key[0] != KindName {
		return 0, false
	}
	return market.ID(binary.BigEndian.Uint32(key[1:])), true
}

// TombstoneKey returns the key of a retirement.
func TombstoneKey(t market.Time, seq uint64, id market.ID) []byte {
	key := binary.BigEndian.AppendUint64(TimeKey(KindTombstone, t), seq)
	return binary.BigEndian.AppendUint32(key, uint32(id))
}

// ParseTombstoneKey returns the retirement that a key stands for.
func ParseTombstoneKey(key []byte) (market.Tombstone, bool) {
	if len(key) != 21 {
		return market.Tombstone{}, false
	}
	return market.Tombstone{
		Time: market.Time(binary.BigEndian.Uint64(key[1:])),
		Seq:  binary.BigEndian.Uint64(key[9:]),
		ID:   market.ID(binary.BigEndian.Uint32(key[17:])),
	}, true
}

// Floor rounds t down to a multiple of width.
func Floor(t market.Time, width market.Millis) market.Time {
	w := market.Time(width)
	if t >= 0 {
		return t - t%w
	}
	return t - (t%w+w)%w
}
