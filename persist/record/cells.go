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
// once where they are short, as they mostly are, without a branch on their lengths.
// Error: ErrCorrupt.
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
	dst = slices.Grow(dst, n)
	for range n {
		if d, size := quick(b); size > 0 {
			step += int64(d.step)
			price, volume, velocity = price+d.price, volume+d.volume, velocity+d.velocity
			b = b[size:]
		} else {
			step += next()
			price += uint32(next())
			volume += uint32(next())
			velocity += uint32(next())
		}
		at += market.Time(step)
		dst = append(dst, market.Cell{
			Time: at, Price: math.Float32frombits(price), Volume: math.Float32frombits(volume), Velocity: math.Float32frombits(velocity),
		})
	}
	if !good || len(b) > 0 {
		return nil, fmt.Errorf("%w: cells", ErrCorrupt)
	}
	return dst, nil
}

// leap is the way from one cell to the next.
type leap struct {
	step                    int32
	price, volume, velocity uint32
}

// quick reads a leap whose step takes one byte and its other numbers up to four
// each; the size is 0 for any other, and near the end.
func quick(b []byte) (d leap, size int) {
	if len(b) < 16 || b[0] >= 0x80 {
		return d, 0
	}
	le := binary.LittleEndian
	price, n := short(le.Uint32(b[1:]))
	volume, m := short(le.Uint32(b[1+n:]))
	velocity, k := short(le.Uint32(b[1+n+m:]))
	if n > 4 || m > 4 || k > 4 {
		return d, 0
	}
	return leap{int32(unzigzag32(uint32(b[0]))), unzigzag32(price), unzigzag32(volume), unzigzag32(velocity)}, 1 + n + m + k
}

// shortMasks are the bits of varints of one to four bytes; further ones are for
// lengths that are none.
var shortMasks = [8]uint32{0x7f, 0x7f7f, 0x7f7f7f, 0x7f7f7f7f}

// short reads the varint that begins with the four bytes of u, little endian; its
// length is 5 where it is longer than those.
func short(u uint32) (v uint32, n int) {
	last := bits.TrailingZeros32(^u&0x80808080) / 8
	u &= shortMasks[last&7]
	return u&0x7f | u>>1&0x3f80 | u>>2&0x1fc000 | u>>3&0xfe00000, last + 1
}

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
