package fanout

import (
	"math"

	"github.com/velocimeter/velocimeter/engine/market"
)

// show decides what a leaf with a deadband shows: of each token what the last
// leaf showed, until one of the page's values has moved by the deadband.
func (p *page) show(l, last *leaf) {
	l.shown = make([]shown, len(l.order.ids))
	for i := range l.order.ids {
		s := l.order.token(l.board, i)
		was := shown{}
		if last != nil {
			was = last.shownAt(l.order, i)
		}
		switch {
		case s == nil:
		case was.snap == nil || s.ID != was.snap.ID || was.snap != s && p.moved(was.snap, s):
			l.shown[i] = shown{s, l.seq()}
		default:
			l.shown[i] = was
		}
	}
}

// shownAt returns what the leaf showed of the i-th token of a later order.
func (l *leaf) shownAt(o *order, i int) shown {
	if l.order == o {
		return l.shown[i]
	}
	if at := l.order.find(o.ids[i]); at >= 0 {
		return l.shown[at]
	}
	return shown{}
}

// shownAlways adds what no deadband hides: the source, which a row may have to
// say, and freshness, of which stale events tell.
func shownAlways(fields market.Mask) market.Mask {
	return fields | market.FieldSource.Bit() | market.FieldFreshness.Bit()
}

// moved reports whether a value of the page is further from the shown one than
// the deadband. Values that are no decimals, and null, always count.
func (p *page) moved(old, s *market.Snapshot) bool {
	if s.VersionBase() >= old.Seq {
		return true // the token was gone and is back
	}
	for f := range (s.ChangedSince(old.Seq) & shownAlways(p.format.Fields)).Fields() {
		if f > market.NumNumeric || f.Spec().Kind != market.KindDecimal {
			return true
		}
		a, b := old.Value(f).Float(), s.Value(f).Float()
		if math.IsNaN(a) != math.IsNaN(b) || math.Abs(b-a) > float64(p.deadband)/1e4*math.Abs(a) {
			return true
		}
	}
	return false
}
