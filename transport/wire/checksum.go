package wire

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const sumSize = 9 // bytes of a field

var sumRooms = sync.Pool{New: func() any { return new([market.NumNumeric * sumSize]byte) }}

// Checksum returns the CRC-32C over the numeric fields of the format as they
// are published with its digits, in ascending order of id: of each the exponent
// as int8 and the mantissa as int64, little-endian. Null is exponent 127 and
// mantissa 0; what is no decimal has exponent 0.
func Checksum(s *market.Snapshot, f *Format) uint32 {
	room, _ := sumRooms.Get().(*[market.NumNumeric * sumSize]byte)
	defer sumRooms.Put(room)
	n := 0
	for m := f.Fields & market.NumericFields; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(uint64(m))
		v := columns[i].published(market.Decimal{Mant: s.Mant[i], Exp: s.Exp[i]}, f.Digits)
		room[n] = byte(v.Exp)
		binary.LittleEndian.PutUint64(room[n+1:], uint64(v.Mant))
		n += sumSize
	}
	return crc32.Checksum(room[:n], castagnoli)
}
