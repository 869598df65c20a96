package fanout

import "github.com/velocimeter/velocimeter/engine/market"

// Symbol returns the token with a symbol, of several the one that ranks first; 0
// where there is none.
func (h *Hub) Symbol(symbol string) market.ID {
	if list := h.newest().bySymbol(symbol); len(list) > 0 {
		return list[0].ID
	}
	return 0
}
