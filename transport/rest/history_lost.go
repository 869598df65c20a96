package rest

import "github.com/velocimeter/velocimeter/engine/market"

// appendLost prints what a page lacks since it was damaged on disk, if anything: a
// member that undamaged history does not have.
func appendLost(dst []byte, lost []market.Gap) []byte {
	if len(lost) == 0 {
		return dst
	}
	dst = append(dst, `,"lost":[`...)
	for i, g := range lost {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendInstant(append(dst, `{"from":`...), g.From)
		dst = append(appendInstant(append(dst, `,"to":`...), g.To), '}')
	}
	return append(dst, ']')
}
