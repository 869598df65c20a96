package record

import (
	"fmt"

	"github.com/velocimeter/velocimeter/engine/market"
)

// BlockWriter builds a minute block: the rows of one group of tokens in one
// minute, by ascending id, each readable without the others.
type BlockWriter struct {
	n     int
	last  market.ID
	index []byte
	body  []byte
}

// Add appends a token's row.
func (w *BlockWriter) Add(id market.ID, row Row) {
	at := len(w.body)
	w.body = AppendRows(w.body, []Row{row})
	w.index = appendUvarint(w.index, uint64(id-w.last))
	w.index = appendUvarint(w.index, uint64(len(w.body)-at))
	w.last = id
	w.n++
}

// Append appends the block's payload and empties the writer.
func (w *BlockWriter) Append(dst []byte) []byte {
	dst = appendUvarint(dst, uint64(w.n))
	dst = appendUvarint(dst, uint64(len(w.index)))
	dst = append(append(dst, w.index...), w.body...)
	*w = BlockWriter{index: w.index[:0], body: w.body[:0]}
	return dst
}

// Len returns the number of rows added.
func (w *BlockWriter) Len() int { return w.n }

// ReadBlock yields the rows of a block; only picks those
// of one token unless it is 0. Error: ErrCorrupt.
func ReadBlock(payload []byte, only market.ID, yield func(market.ID, Row)) error {
	return PickBlock(payload, func(id market.ID) bool { return only == 0 || id == only }, yield)
}

// PickBlock yields the rows of the tokens that want is true of. Error: ErrCorrupt.
func PickBlock(payload []byte, want func(market.ID) bool, yield func(market.ID, Row)) error {
	r := reader{b: payload}
	n := r.count(2)
	index := reader{b: r.bytes(r.count(1))}
	id := market.ID(0)
	var rows [1]Row
	for range n {
		id += market.ID(index.uvarint())
		size := index.uvarint()
		if index.bad || size > uint64(len(r.b)) {
			return fmt.Errorf("%w: index of a block", ErrCorrupt)
		}
		b := r.bytes(int(size))
		if !want(id) {
			continue
		}
		out, err := ReadRows(rows[:0], b, 60)
		if err != nil || len(out) != 1 {
			return fmt.Errorf("%w: row %d of a block", ErrCorrupt, id)
		}
		yield(id, out[0])
	}
	if r.bad || len(r.b) != 0 || len(index.b) != 0 {
		return fmt.Errorf("%w: block", ErrCorrupt)
	}
	return nil
}
