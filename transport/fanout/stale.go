package fanout

import (
	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// staleList gathers tokens that have become stale for one event.
type staleList struct {
	ids []market.ID
	age market.Millis // of the oldest's values
}

func (e *staleList) add(l *leaf, i int) {
	if len(e.ids) == wire.MaxRemoved {
		return
	}
	e.ids = append(e.ids, l.order.ids[i])
	if s := l.token(i); s != nil && s.SourceTime() > 0 {
		e.age = max(e.age, l.board.Time.Sub(s.SourceTime()))
	}
}

// event returns the message, nil where there is nothing to tell.
func (e *staleList) event(ch uint64) []byte {
	if len(e.ids) == 0 {
		return nil
	}
	return wire.AppendStale(nil, ch, e.ids, int64(e.age))
}

// staleEvent tells of the selected tokens that became stale in the leaf.
func staleEvent(ch uint64, sel *selection, l *leaf) []byte {
	var e staleList
	for _, i := range l.stale {
		if sel == nil || sel.has(l.order.ids[i]) {
			e.add(l, int(i))
		}
	}
	return e.event(ch)
}

// staleAfter tells of the selected tokens that became stale after a tick and
// are so still.
func staleAfter(ch uint64, sel *selection, l *leaf, since uint64) []byte {
	var e staleList
	sel.each(l.order, 0, func(i int) bool {
		s := l.token(i)
		if s != nil && s.Seq > since && s.Freshness() == market.Stale && s.Version(market.FieldFreshness) > since {
			e.add(l, i)
		}
		return true
	})
	return e.event(ch)
}
