package fanout

import (
	"slices"
	"strconv"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// othersMost bounds the tokens that an ambiguous symbol lists beside the taken one.
const othersMost = 16

// resolved is a selection against the board, and what was left over.
type resolved struct {
	sel            *selection
	unknownIDs     []market.ID
	unknownSymbols []string
	ambiguous      []wire.Ambiguous
}

func (s *Session) subscribe(r *wire.Request, now time.Time) *wire.RequestError {
	cfg := &s.hub.cfg
	if len(s.subs) >= cfg.Subscriptions {
		return limitError("subscriptions", cfg.Subscriptions)
	}
	res := s.resolve(r)
	if !res.sel.all && len(res.sel.ids) == 0 {
		return &wire.RequestError{Code: wire.UnknownToken, Text: "none of the asked tokens exists"}
	}
	if s.tokens+len(res.sel.ids) > cfg.Tokens {
		return limitError("tokens", cfg.Tokens)
	}
	k := keyOf(r.Format, s.framing, res.sel)
	m := s.memberOf(k)
	if m == nil {
		seq := s.round.seq()
		m = &member{ch: s.hub.table.join(k, res.sel, seq, now)}
		s.members = append(s.members, m)
	}
	m.subs++
	m.restart(s.round)
	n := len(res.sel.ids)
	s.tokens += n
	if res.sel.all {
		n = s.round.board.Len()
	}
	s.nextSub++
	s.subs = append(s.subs, subscription{no: s.nextSub, member: m, tokens: len(res.sel.ids)})
	s.hub.stats.subscriptions.Add(1)
	s.answer(func(dst []byte) []byte {
		sub := wire.Subscription{Sub: s.nextSub, Channel: m.ch.no, Tokens: n, Format: r.Format}
		return wire.AppendSubscribed(dst, r, &sub, res.unknownIDs, res.unknownSymbols, res.ambiguous)
	})
	return nil
}

func limitError(what string, most int) *wire.RequestError {
	return &wire.RequestError{Code: wire.Limit, Text: "at most " + strconv.Itoa(most) + " " + what + " on a connection"}
}

func (s *Session) resolve(r *wire.Request) (res resolved) {
	res.sel = new(selection)
	switch {
	case r.All:
		res.sel.all = true
	case r.Tokens != nil:
		for _, id := range r.Tokens {
			if s.round.board.Token(id) != nil {
				res.sel.ids = append(res.sel.ids, id)
			} else {
				res.unknownIDs = append(res.unknownIDs, id)
			}
		}
	default:
		s.resolveSymbols(r.Symbols, &res)
	}
	return res
}

func (s *Session) resolveSymbols(symbols []string, res *resolved) {
	seen := make(map[string]bool, len(symbols))
	for _, sym := range symbols {
		if seen[sym] {
			continue
		}
		seen[sym] = true
		list := s.round.bySymbol(sym)
		if len(list) == 0 {
			res.unknownSymbols = append(res.unknownSymbols, sym)
			continue
		}
		res.sel.ids = append(res.sel.ids, list[0].ID)
		if len(list) > 1 {
			a := wire.Ambiguous{Symbol: sym, Taken: list[0].ID}
			for _, other := range list[1:min(len(list), othersMost+1)] {
				a.Others = append(a.Others, other.ID)
			}
			res.ambiguous = append(res.ambiguous, a)
		}
	}
	slices.Sort(res.sel.ids)
	res.sel.ids = slices.Compact(res.sel.ids)
}

func (s *Session) unsubscribe(r *wire.Request) *wire.RequestError {
	i := slices.IndexFunc(s.subs, func(sub subscription) bool { return sub.no == r.Sub })
	if i < 0 {
		return &wire.RequestError{Code: wire.UnknownSubscription, Text: "this connection has no such subscription"}
	}
	m := s.subs[i].member
	s.tokens -= s.subs[i].tokens
	s.subs = slices.Delete(s.subs, i, i+1)
	s.hub.stats.subscriptions.Add(-1)
	if m.subs--; m.subs == 0 {
		j := slices.Index(s.members, m)
		s.members = slices.Delete(s.members, j, j+1)
		s.turn = 0
		s.hub.table.leave(m.ch)
	}
	s.answer(func(dst []byte) []byte { return wire.AppendUnsubscribed(dst, r) })
	return nil
}

func (s *Session) list(r *wire.Request) {
	items := make([]wire.Subscription, 0, len(s.subs))
	for _, sub := range s.subs {
		n := sub.tokens
		if sub.member.ch.sel.all {
			n = s.round.board.Len()
		}
		items = append(items, wire.Subscription{Sub: sub.no, Channel: sub.member.ch.no, Tokens: n, Format: sub.member.ch.rows.format})
	}
	s.answer(func(dst []byte) []byte { return wire.AppendSubscriptions(dst, r, items) })
}
