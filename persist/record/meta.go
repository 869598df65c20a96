package record

import (
	"fmt"

	"github.com/velocimeter/velocimeter/engine/market"
)

// LostRange are seqs after From up to and including To that may have been
// published and are not in the store.
type LostRange struct{ From, To uint64 }

// MaxLost bounds the list of lost ranges; beyond it neighbours are joined.
const MaxLost = 64

// AddLost joins a range to a list that is ordered and free of overlaps. A list
// that grows too long gives up the smallest hole between two ranges, which
// makes more seqs count as lost, never fewer.
func AddLost(list []LostRange, add LostRange) []LostRange {
	if add.To <= add.From {
		return list
	}
	out := make([]LostRange, 0, len(list)+1)
	placed := false
	for _, r := range list {
		switch {
		case r.To < add.From:
			out = append(out, r)
		case r.From > add.To:
			if !placed {
				out, placed = append(out, add), true
			}
			out = append(out, r)
		default:
			add = LostRange{From: min(add.From, r.From), To: max(add.To, r.To)}
		}
	}
	if !placed {
		out = append(out, add)
	}
	if len(out) > MaxLost {
		at := 1
		for i := 2; i < len(out); i++ {
			if out[i].From-out[i-1].To < out[at].From-out[at-1].To {
				at = i
			}
		}
		out[at-1].To = out[at].To
		out = append(out[:at], out[at+1:]...)
	}
	return out
}

// AppendLost appends a list of lost ranges.
func AppendLost(dst []byte, list []LostRange) []byte {
	dst = appendUvarint(dst, uint64(len(list)))
	for _, r := range list {
		dst = appendUvarint(appendUvarint(dst, r.From), r.To-r.From)
	}
	return dst
}

// ReadLost reads a payload made by AppendLost. Error: ErrCorrupt.
func ReadLost(payload []byte) ([]LostRange, error) {
	r := reader{b: payload}
	n := r.count(2)
	list := make([]LostRange, n)
	for i := range list {
		list[i].From = r.uvarint()
		list[i].To = list[i].From + r.uvarint()
	}
	return list, r.end("lost ranges")
}

// Numbers are the values of a small meta record.
type Numbers []uint64

// AppendNumbers appends a meta record of plain numbers.
func AppendNumbers(dst []byte, values ...uint64) []byte {
	for _, v := range values {
		dst = appendUvarint(dst, v)
	}
	return dst
}

// ReadNumbers reads exactly n numbers. Error: ErrCorrupt.
func ReadNumbers(payload []byte, n int) (Numbers, error) {
	r := reader{b: payload}
	values := make(Numbers, n)
	for i := range values {
		values[i] = r.uvarint()
	}
	return values, r.end("numbers")
}

// Time returns the i-th number as an instant.
func (n Numbers) Time(i int) market.Time { return market.Time(n[i]) }

func (r *reader) end(what string) error {
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	return nil
}
