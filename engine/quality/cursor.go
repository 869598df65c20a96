package quality

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrTruncated says that a state blob ended too early.
var ErrTruncated = errors.New("state is cut short")

// Cursor reads the primitives of a state blob. After the first error every
// read gives zero, so that a decoder checks Err once at the end.
type Cursor struct {
	rest []byte
	err  error
}

// NewCursor returns a cursor at the start of blob, which it does not copy.
func NewCursor(blob []byte) *Cursor { return &Cursor{rest: blob} }

// Err returns the first error.
func (c *Cursor) Err() error { return c.err }

// Fail records that what was just read makes no sense.
func (c *Cursor) Fail(what string) {
	if c.err == nil {
		c.err = fmt.Errorf("impossible %s in state", what)
	}
	c.rest = nil
}

// Len returns the number of bytes left.
func (c *Cursor) Len() int { return len(c.rest) }

// Bytes reads n bytes, which share the blob's memory.
func (c *Cursor) Bytes(n uint64) []byte {
	if n > uint64(len(c.rest)) {
		if c.err == nil {
			c.err = ErrTruncated
		}
		c.rest = nil
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

// Byte reads one byte.
func (c *Cursor) Byte() byte {
	if b := c.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint reads an unsigned varint.
func (c *Cursor) Uint() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		c.Bytes(math.MaxUint64)
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// Int reads a signed varint.
func (c *Cursor) Int() int64 {
	v, n := binary.Varint(c.rest)
	if n <= 0 {
		c.Bytes(math.MaxUint64)
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// Float reads a float64 by its bits.
func (c *Cursor) Float() float64 {
	if b := c.Bytes(8); b != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// Float32 reads a float32 by its bits.
func (c *Cursor) Float32() float32 {
	if b := c.Bytes(4); b != nil {
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	}
	return 0
}
