package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// AppendCells appends window cells of an hour, oldest first. Values are
// differences of their float32 bits, so they come back bit for bit.
func AppendCells(dst []byte, hour market.Time, cells []market.Cell) []byte {
	dst = appendUvarint(dst, uint64(len(cells)))
	at, step := hour, int64(0)
	var price, volume, velocity uint32
	for i := range cells {
		c := &cells[i]
		d := int64(c.Time - at)
		dst = appendVarint(dst, d-step)
		at, step = c.Time, d
		dst = appendBits(dst, c.Price, &price)
		dst = appendBits(dst, c.Volume, &volume)
		dst = appendBits(dst, c.Velocity, &velocity)
	}
	return dst
}

func appendBits(dst []byte, f float32, prev *uint32) []byte {
	b := math.Float32bits(f)
	dst = appendVarint(dst, int64(int32(b-*prev)))
	*prev = b
	return dst
}

// ReadCells appends the cells of a payload made by AppendCells. A week of 5,000
// tokens is tens of millions of them, so the loop reads its varints itself: four at
// once where they are short, as they mostly are, without a branch on their lengths,
// which it sees in the bytes that are the last of theirs. Error: ErrCorrupt.
func ReadCells(dst []market.Cell, hour market.Time, payload []byte) ([]market.Cell, error) {
	r := reader{b: payload}
	n := r.count(4)
	b, good := r.b, !r.bad
	next := func() int64 {
		u, size := binary.Uvarint(b)
		good = good && size > 0
		b = b[max(size, 0):]
		return unzigzag(u)
	}
	at, step := hour, int64(0)
	var price, volume, velocity uint32
	begin := len(dst)
	dst = slices.Grow(dst, n)[:begin+n]
	for i := range dst[begin:] {
		quick := false // a step of one byte and numbers of up to four, not near the end
		if len(b) >= 17 && b[0] < 0x80 {
			le := binary.LittleEndian
			w := le.Uint64(b[1:])
			ends := topBits(^w) | topBits(^le.Uint64(b[9:]))<<8
			n := bits.TrailingZeros64(ends) + 1
			ends &= ends - 1
			m := bits.TrailingZeros64(ends) + 1
			ends &= ends - 1
			k := bits.TrailingZeros64(ends) + 1
			if quick = n <= 4 && m-n <= 4 && k-m <= 4; quick {
				step += int64(int32(unzigzag32(uint32(b[0]))))
				price += short(uint32(w), n)
				volume += short(le.Uint32(b[1+n:]), m-n)
				velocity += short(le.Uint32(b[1+m:]), k-m)
				b = b[1+k:]
			}
		}
		if !quick {
			step += next()
			price += uint32(next())
			volume += uint32(next())
			velocity += uint32(next())
		}
		at += market.Time(step)
		dst[begin+i] = market.Cell{
			Time: at, Price: math.Float32frombits(price), Volume: math.Float32frombits(volume), Velocity: math.Float32frombits(velocity),
		}
	}
	if !good || len(b) > 0 {
		return nil, fmt.Errorf("%w: cells", ErrCorrupt)
	}
	return dst, nil
}

// shortMasks are the bits of varints of one to four bytes; further ones are for
// lengths that are none.
var shortMasks = [8]uint32{0x7f, 0x7f7f, 0x7f7f7f, 0x7f7f7f7f}

// short reads the varint of n ≤ 4 bytes that u begins with, little endian.
func short(u uint32, n int) uint32 {
	u &= shortMasks[(n-1)&7]
	return unzigzag32(u&0x7f | u>>1&0x3f80 | u>>2&0x1fc000 | u>>3&0xfe00000)
}

// topBits returns the highest bits of the eight bytes of u, side by side.
func topBits(u uint64) uint64 { return u & 0x8080_8080_8080_8080 * 0x0002_0408_1020_4081 >> 56 }

func unzigzag32(u uint32) uint32 { return u>>1 ^ -(u & 1) }

// LastOfCells appends the last cell of every stretch of width.
func LastOfCells(dst, cells []market.Cell, width market.Millis) []market.Cell {
	for i := range cells {
		if i+1 == len(cells) || Floor(cells[i].Time, width) != Floor(cells[i+1].Time, width) {
			dst = append(dst, cells[i])
		}
	}
	return dst
}
