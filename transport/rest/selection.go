package rest

import (
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// selection is a set of members of the token object: the fields at their bits,
// and what REST adds above them. The id is always there.
type selection uint64

const (
	selCapClass selection = 1 << (market.NumFields + iota)
	selUpdatedAt
	selLinks
	selReceivedAt
	selEnd

	selAll = selEnd - 1
)

func (s selection) has(f market.Field) bool { return s>>(f-1)&1 != 0 }

func (s selection) any(m market.Mask) bool { return s&selection(m) != 0 }

// selectors maps every name that ?fields= takes: flat stream names, dotted REST
// paths, and the groups that the dots make.
var selectors = buildSelectors()

func buildSelectors() map[string]selection {
	m := map[string]selection{
		"id": 0, "cap_class": selCapClass, "updated_at": selUpdatedAt, "links": selLinks, "links.history": selLinks,
		"provenance.received_at": selReceivedAt, "received_at": selReceivedAt,
	}
	for _, s := range market.Specs() {
		bit := selection(s.Field.Bit())
		m[s.Name] |= bit
		for path := s.REST; path != "" && path != s.Name; {
			m[path] |= bit
			dot := strings.LastIndexByte(path, '.')
			if dot < 0 {
				break
			}
			path = path[:dot]
		}
	}
	m["provenance"] |= selReceivedAt
	return m
}

// parseSelection reads the items of ?fields=; ok is false where one is unknown.
func parseSelection(items []string) (sel selection, ok bool) {
	for _, item := range items {
		s, known := selectors[item]
		if !known {
			return 0, false
		}
		sel |= s
	}
	return sel, true
}
