package record

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// StateSet names the values that make up one state, so that they are told from
// those of an earlier one: by the checksum in the envelope of each.
type StateSet struct {
	Seq    uint64
	Engine uint32
	Tokens map[market.ID]uint32
}

// Sum returns the checksum in a sealed value's envelope.
func Sum(value []byte) uint32 { return binary.LittleEndian.Uint32(value) }

// Append appends the set.
func (s *StateSet) Append(dst []byte) []byte {
	ids := make([]market.ID, 0, len(s.Tokens))
	for id := range s.Tokens {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	dst = binary.LittleEndian.AppendUint32(appendUvarint(dst, s.Seq), s.Engine)
	last := market.ID(0)
	for _, id := range ids {
		dst = binary.LittleEndian.AppendUint32(appendUvarint(dst, uint64(id-last)), s.Tokens[id])
		last = id
	}
	return dst
}

// ReadStateSet reads a payload made by Append. Error: ErrCorrupt.
func ReadStateSet(payload []byte) (s StateSet, err error) {
	bad := func() (StateSet, error) { return StateSet{}, fmt.Errorf("%w: set of states", ErrCorrupt) }
	seq, n := binary.Uvarint(payload)
	if n <= 0 || len(payload) < n+4 {
		return bad()
	}
	s = StateSet{Seq: seq, Engine: binary.LittleEndian.Uint32(payload[n:]), Tokens: map[market.ID]uint32{}}
	id := uint64(0)
	for payload = payload[n+4:]; len(payload) > 0; payload = payload[n+4:] {
		step, m := binary.Uvarint(payload)
		if n = m; n <= 0 || len(payload) < n+4 {
			return bad()
		}
		if id += step; id > 1<<32-1 {
			return bad()
		}
		s.Tokens[market.ID(id)] = binary.LittleEndian.Uint32(payload[n:])
	}
	return s, nil
}
