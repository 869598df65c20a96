package quality

import (
	"encoding/binary"
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// maxSupplyCells bounds the history: one cell an hour, 24 whole hours and the
// current one.
const maxSupplyCells = 25

// Supply remembers how a token's circulating supply moved in the last 24 h. A
// supply that stands still takes no memory: only hours with a change have a
// cell, holding the least and the greatest value from before the change on. Its
// resolution is the hour, so a move counts for 24 to 25 h.
type Supply struct {
	cells []supplyCell
	last  float64 // NaN or 0: unknown
}

type supplyCell struct {
	hour   int32 // hours since 1970
	lo, hi float32
}

// Add takes the supply that a quote carried, NaN where it had none, and reports
// whether any supply of the last 24 h differs from it by more than share.
func (s *Supply) Add(now market.Time, supply, share float64) bool {
	hour := int32(now / market.Time(market.Hour))
	for len(s.cells) > 0 && s.cells[0].hour < hour-24 {
		s.cells = s.cells[1:]
	}
	if !(supply > 0) {
		return false
	}
	if supply != s.last {
		if s.last > 0 {
			s.note(hour, s.last, supply)
		}
		s.last = supply
	}
	moved := false
	for _, c := range s.cells {
		moved = moved || far(float64(c.lo), supply, share) || far(float64(c.hi), supply, share)
	}
	return moved
}

func far(was, is, share float64) bool { return math.Abs(is-was) > share*was }

func (s *Supply) note(hour int32, from, to float64) {
	lo, hi := float32(min(from, to)), float32(max(from, to))
	if n := len(s.cells); n > 0 && s.cells[n-1].hour >= hour {
		c := &s.cells[n-1]
		c.lo, c.hi = min(c.lo, lo), max(c.hi, hi)
		return
	}
	s.cells = append(s.cells, supplyCell{hour: hour, lo: lo, hi: hi})
}

// SupplyMark holds what one Add may overwrite.
type SupplyMark struct {
	was  Supply
	cell supplyCell
}

// Save notes the state before an Add.
func (s *Supply) Save(m *SupplyMark) {
	m.was = *s
	if n := len(s.cells); n > 0 {
		m.cell = s.cells[n-1]
	}
}

// Restore undoes an Add.
func (s *Supply) Restore(m *SupplyMark) {
	*s = m.was
	if n := len(s.cells); n > 0 {
		s.cells[n-1] = m.cell
	}
}

// AppendState appends the state.
func (s *Supply) AppendState(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.last))
	dst = append(dst, uint8(len(s.cells)))
	for _, c := range s.cells {
		dst = binary.AppendVarint(dst, int64(c.hour))
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(c.lo))
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(c.hi))
	}
	return dst
}

// DecodeState reads what AppendState wrote.
func (s *Supply) DecodeState(c *Cursor) {
	s.last = c.Float()
	n := int(c.Byte())
	if n > maxSupplyCells {
		c.Fail("supply history")
		return
	}
	for i := 0; i < n && c.Err() == nil; i++ {
		hour := c.Int()
		cell := supplyCell{hour: int32(hour), lo: c.Float32(), hi: c.Float32()}
		if int64(cell.hour) != hour || i > 0 && cell.hour <= s.cells[i-1].hour {
			c.Fail("supply history")
			return
		}
		s.cells = append(s.cells, cell)
	}
}
