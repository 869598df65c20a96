package record

import (
	"encoding/binary"
	"fmt"
	"math"
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
// tokens is tens of millions of them, so the loop reads its varints itself.
// Error: ErrCorrupt.
func ReadCells(dst []market.Cell, hour market.Time, payload []byte) ([]market.Cell, error) {
	r := reader{b: payload}
	n := r.count(4)
	b, pos, good := r.b, 0, !r.bad
	next := func() int64 {
		if pos < len(b) && b[pos] < 0x80 {
			u := uint64(b[pos])
			pos++
			return unzigzag(u)
		}
		u, size := binary.Uvarint(b[min(pos, len(b)):])
		good = good && size > 0
		pos += max(size, 1)
		return unzigzag(u)
	}
	at, step := hour, int64(0)
	var price, volume, velocity uint32
	dst = slices.Grow(dst, n)
	for range n {
		step += next()
		at += market.Time(step)
		price += uint32(next())
		volume += uint32(next())
		velocity += uint32(next())
		dst = append(dst, market.Cell{
			Time: at, Price: math.Float32frombits(price), Volume: math.Float32frombits(volume), Velocity: math.Float32frombits(velocity),
		})
	}
	if !good || pos != len(b) {
		return nil, fmt.Errorf("%w: cells", ErrCorrupt)
	}
	return dst, nil
}

// LastOfCells appends the last cell of every stretch of width.
func LastOfCells(dst, cells []market.Cell, width market.Millis) []market.Cell {
	for i := range cells {
		if i+1 == len(cells) || Floor(cells[i].Time, width) != Floor(cells[i+1].Time, width) {
			dst = append(dst, cells[i])
		}
	}
	return dst
}
