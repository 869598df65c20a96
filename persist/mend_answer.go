package persist

import (
	"cmp"
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// lostKinds are the losses that the points of a granularity may suffer from: those
// of what they are stored as, and read from until that is stored.
var lostKinds = [market.NumGranularities][]string{
	market.GranularityRaw: {"tick"},
	market.Granularity1m:  {"1m"},
	market.Granularity5m:  {"5m"},
	market.Granularity15m: {"5m"},
	market.Granularity1h:  {"1h"},
	market.Granularity4h:  {"1h"},
	market.Granularity1d:  {"1d", "1h"},
}

// concerns reports whether points of a granularity may suffer from a loss.
func (l *Loss) concerns(g market.Granularity) bool {
	return l.Kind == "all" || l.Kind == "unknown" || slices.Contains(lostKinds[g], l.Kind)
}

// lostIn returns the parts of a page's stretch in which points may be missing, or
// lack something, since a mending could not read it: in order, none touching the
// next. There are no more than a report lists.
func (r *Mended) lostIn(q *market.HistoryQuery, page *market.HistoryPage) (lost []market.Gap) {
	if r == nil {
		return nil
	}
	width := max(q.Granularity.Width(), 1)
	from, to := q.From, q.To
	if q.After != 0 {
		from = max(from, q.After.Add(width))
	}
	if page.Next != 0 {
		to = min(to, page.Next.Add(width))
	}
	mended := market.TimeOf(r.At)
	for i := range r.Lost {
		l := r.Lost[i]
		if l.To == maxTime && !r.At.IsZero() {
			l.To = max(mended, l.From+1) // what came later is not lost
		}
		if l.From < to && from < l.To && l.FirstToken <= q.ID && q.ID <= l.LastToken && l.concerns(q.Granularity) {
			lost = append(lost, market.Gap{From: max(l.From, from), To: min(l.To, to)})
		}
	}
	slices.SortFunc(lost, func(a, b market.Gap) int { return cmp.Compare(a.From, b.From) })
	joined := lost[:0]
	for _, g := range lost {
		if n := len(joined); n > 0 && g.From <= joined[n-1].To {
			joined[n-1].To = max(joined[n-1].To, g.To)
			continue
		}
		joined = append(joined, g)
	}
	return joined
}
