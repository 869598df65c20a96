package window

import (
	"encoding/binary"
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

var le = binary.LittleEndian

const (
	minute      = int64(market.Minute)
	hour        = int64(market.Hour)
	fineWidth   = minute     // width of a fine bucket, ms
	coarseWidth = 5 * minute // width of a coarse bucket, ms

	entrySize = 14
	signBit   = 1 << 31
	// gapCode is the first offset that is not a millisecond of a minute: an
	// entry with offset gapCode+k stands for k empty buckets.
	gapCode = uint16(market.Minute)
	maxGap  = math.MaxUint16 - int64(gapCode)
)

// cell is one retained sample; NaN where it had no such value.
type cell struct {
	t                    int64 // ms since 1970
	price, volume, veloc float32
}

// roundCell brings a sample to the precision that a window retains.
func roundCell(s Sample) cell {
	return cell{t: int64(s.Time), price: retain(s.Price), volume: retain(s.Volume), veloc: retain(s.Velocity)}
}

// retain rounds to float32; what is no value, or does not fit, becomes NaN.
func retain(f float64) float32 { return retained(float32(f)) }

// retained is retain for what is rounded already.
func retained(v float32) float32 {
	switch {
	case v > 0 && v <= math.MaxFloat32:
		return v
	case v == 0:
		return 0 // not −0: the sign bits of entries are not the values'
	}
	return float32(math.NaN())
}

// moves reports that the cell counts for trends.
func (c *cell) moves() bool { return c.veloc == c.veloc }

// trades reports that the cell counts for VWAPs.
func (c *cell) trades() bool { return c.price == c.price && c.volume == c.volume }

func (c *cell) export() market.Cell {
	return market.Cell{Time: market.Time(c.t), Price: c.price, Volume: c.volume, Velocity: c.veloc}
}

// entry is a stored cell: price, volume and velocity as float32 and the
// millisecond inside its minute as uint16, little-endian. No value is negative,
// so the three sign bits are free: they hold which of the five minutes of a
// coarse bucket the cell is in (0 in the fine tier). Entries with an offset of
// gapCode and above hold no cell but a run of empty buckets.
type entry [entrySize]byte

func (e *entry) set(c *cell, bucketStart int64) {
	off := c.t - bucketStart
	in := uint32(off / minute)
	le.PutUint32(e[0:], math.Float32bits(c.price)&^signBit|in<<31)
	le.PutUint32(e[4:], math.Float32bits(c.volume)&^signBit|in>>1<<31)
	le.PutUint32(e[8:], math.Float32bits(c.veloc)&^signBit|in>>2<<31)
	le.PutUint16(e[12:], uint16(off%minute))
}

func (e *entry) get(bucketStart int64) cell {
	p, v, r := le.Uint32(e[0:]), le.Uint32(e[4:]), le.Uint32(e[8:])
	in := p>>31 | v>>31<<1 | r>>31<<2
	return cell{
		t:      bucketStart + int64(in)*minute + int64(le.Uint16(e[12:])),
		price:  math.Float32frombits(p &^ signBit),
		volume: math.Float32frombits(v &^ signBit),
		veloc:  math.Float32frombits(r &^ signBit),
	}
}

func (e *entry) setGap(buckets int64) {
	*e = entry{}
	le.PutUint16(e[12:], gapCode+uint16(buckets))
}

// gap returns the number of empty buckets that e stands for, 0 for a cell.
func (e *entry) gap() int64 {
	off := le.Uint16(e[12:])
	if off < gapCode {
		return 0
	}
	return int64(off - gapCode)
}
