package socketio

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// kind is how tokens were asked for, which decides the event that they come in.
type kind uint8

const (
	one   kind = iota // by itself: token_update
	many              // in a list: bulk_update
	whole             // "*": bulk_update of the market
)

// selection is what the first argument of an event names.
type selection struct {
	kind    kind
	ids     []market.ID // ascending, each once; nil for whole
	unknown []string    // JSON of the names that no token has
}

// maxArgs bounds the arguments of our events: tokens, and options.
const maxArgs = 2

// arguments reads the arguments of an event of ours.
func arguments(args []json.RawMessage) (tokens, options json.RawMessage, err *wire.RequestError) {
	switch len(args) {
	case 0:
		return nil, nil, fault(wire.BadValue, `say which tokens: an id, a symbol, a list of them, or "*"`)
	case 1:
		return args[0], nil, nil
	case maxArgs:
		return args[0], args[1], nil
	}
	return nil, nil, fault(wire.BadValue, "at most two arguments: tokens and options")
}

// finder returns the token that a text names; 0 for none.
type finder func(text string) market.ID

// parseSelection reads which tokens are meant.
func parseSelection(raw json.RawMessage, find finder) (selection, *wire.RequestError) {
	if string(raw) == `"*"` {
		return selection{kind: whole}, nil
	}
	if raw[0] != '[' {
		s := selection{kind: one}
		return s, s.add(raw, find)
	}
	s := selection{kind: many}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return s, fault(wire.BadMessage, err.Error())
	}
	switch {
	case len(items) == 0:
		return s, fault(wire.BadValue, "the list of tokens is empty")
	case len(items) > wire.MaxTokens:
		return s, fault(wire.TooMany, "at most "+strconv.Itoa(wire.MaxTokens)+" tokens in one event")
	}
	for _, item := range items {
		if err := s.add(item, find); err != nil {
			return s, err
		}
	}
	slices.Sort(s.ids)
	s.ids = slices.Compact(s.ids)
	return s, nil
}

// maxName bounds the symbols and slugs that are looked up, in bytes.
const maxName = 128

// add takes one token: a number is an id, a text a symbol, a slug or an id.
func (s *selection) add(raw json.RawMessage, find finder) *wire.RequestError {
	if raw[0] != '"' {
		n, err := strconv.ParseUint(string(raw), 10, 32)
		if err != nil || n == 0 {
			return fault(wire.BadValue, "a token is an id (a whole number above 0) or a symbol, not "+clip(string(raw)))
		}
		s.ids = append(s.ids, market.ID(n))
		return nil
	}
	var name string
	if err := json.Unmarshal(raw, &name); err != nil {
		return fault(wire.BadMessage, err.Error())
	}
	switch {
	case name == "" || len(name) > maxName:
		return fault(wire.BadValue, "a symbol has 1 to "+strconv.Itoa(maxName)+" bytes")
	case name == "*":
		return fault(wire.BadValue, `"*" stands alone, not in a list`)
	}
	if id := find(name); id != 0 {
		s.ids = append(s.ids, id)
	} else {
		s.unknown = append(s.unknown, string(raw))
	}
	return nil
}

// clip shortens what is echoed to a client.
func clip(text string) string {
	const most = 40
	if len(text) > most {
		return strconv.Quote(text[:most]) + "…"
	}
	return strconv.Quote(text)
}

func fault(code wire.ErrorCode, text string) *wire.RequestError {
	return &wire.RequestError{Code: code, Text: text}
}
