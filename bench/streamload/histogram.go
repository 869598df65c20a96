//go:build linux

package main

import "math/bits"

// histogram counts microseconds in steps of about 3 %, up to an hour.
type histogram struct {
	counts [1024]int64
	total  int64
	most   int64
}

const steps = 32 // of each power of two

func (h *histogram) add(us int64) {
	us = min(max(us, 0), 3600e6)
	h.counts[slot(us)]++
	h.total++
	h.most = max(h.most, us)
}

func slot(us int64) int {
	if us < steps {
		return int(us)
	}
	shift := bits.Len64(uint64(us)) - 6
	return (shift+1)*steps + int(us>>shift) - steps
}

// quantile returns the value below which a share of what was counted lies, in ms.
func (h *histogram) quantile(q float64) float64 {
	left := int64(q*float64(h.total) + 0.5)
	for i, n := range h.counts {
		if left -= n; left <= 0 && n > 0 {
			return float64(value(i)) / 1000
		}
	}
	return float64(h.most) / 1000
}

// value is the middle of a slot.
func value(i int) int64 {
	if i < steps {
		return int64(i)
	}
	shift := i/steps - 1
	return int64(steps+i%steps)<<shift + 1<<shift/2
}
