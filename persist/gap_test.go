package persist

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/velocimeter/velocimeter/engine/market"
)

// walked asks a question page by page. Every page must speak only of the
// stretch from the end of the page before up to its own last point.
func (w *walk) walked(q market.HistoryQuery) (points []market.Point, gaps []market.Gap, truncated bool) {
	w.t.Helper()
	covered := q.From
	for {
		page, err := w.s.History(w.t.Context(), q)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, g := range page.Gaps {
			if g.From < covered || g.From >= g.To || page.Next != 0 && g.To > page.Next {
				w.t.Fatalf("%s after %d: gap %+v is outside of the page, from %d to %d", q.Granularity, q.After, g, covered, page.Next)
			}
		}
		points, gaps, truncated = append(points, page.Points...), append(gaps, page.Gaps...), page.Truncated
		if page.Next == 0 {
			return points, gaps, truncated
		}
		q.After = page.Next
		covered = page.Next + max(market.Time(q.Granularity.Width()), 1)
	}
}

// holes is what the points leave uncovered of from … end: all of it for
// granularities, what is longer than least for raw.
func holes(points []market.Point, width, least market.Millis, from, end market.Time) (gaps []market.Gap) {
	add := func(to market.Time) {
		if to.Sub(from) > least {
			gaps = append(gaps, market.Gap{From: from, To: to})
		}
	}
	for i := range points {
		add(points[i].Time)
		from = points[i].Time + max(market.Time(width), 1)
	}
	add(end)
	return gaps
}

func TestGapsAreWhereNoPointsAre(t *testing.T) {
	o := testOptions(vfs.NewMem())
	w := newWalk(t, 11, o, 2)
	w.mk.share, w.mk.dirty = 1, false
	begin := w.mk.now
	step := func(n int, by market.Millis) {
		for range n {
			w.append(by)
		}
	}
	step(100, market.Minute)
	w.mk.now += market.Time(9 * market.Hour)
	step(30, market.Minute)
	w.mk.now += market.Time(3 * market.Day)
	step(400, market.Minute) // over the tick retention
	w.commit()
	last := w.mk.now
	f := func(g market.Granularity, from, to market.Time, limit int, truncated bool) {
		t.Helper()
		width := max(g.Width(), 1)
		from = from / market.Time(width) * market.Time(width)
		q := market.HistoryQuery{ID: w.mk.ids[0], From: from, To: to, Granularity: g, Limit: 1 << 30}
		all, _, _ := w.walked(q)
		q.Limit = limit
		points, gaps, cut := w.walked(q)
		if len(points) != len(all) || cut != truncated {
			t.Fatalf("%s limit %d: %d points, want %d; truncated %v, want %v", g, limit, len(points), len(all), cut, truncated)
		}
		end, least := to, market.Millis(0)
		if to > last+1 && to <= last.Add(3*market.Minute)+1 {
			end = last + 1
		}
		if g == market.GranularityRaw {
			least = 3 * market.Minute
		}
		if want := holes(all, g.Width(), least, from, end); !slices.Equal(gaps, want) {
			t.Fatalf("%s limit %d: gaps\n%v, want\n%v", g, limit, gaps, want)
		}
	}
	limits := []int{1, 1000, 2, 7}
	if testing.Short() {
		limits = limits[:2]
	}
	for g := range market.NumGranularities {
		raw := g == market.GranularityRaw
		for _, limit := range limits {
			f(g, 0, last+1, limit, raw)                                          // before the first record
			f(g, begin-market.Time(market.Hour), last+1, limit, raw)             //
			f(g, begin+1, begin.Add(20*market.Hour), limit, raw)                 // over the first silence
			f(g, begin.Add(3*market.Hour), begin.Add(4*market.Hour), limit, raw) // inside it
			f(g, last.Add(-market.Hour), last.Add(2*market.Minute), limit, false)
			f(g, last.Add(-market.Hour), last.Add(5*market.Day), limit, false) // nothing came after
			f(g, last.Add(market.Day), last.Add(2*market.Day), limit, false)
			f(g, 0, begin-market.Time(market.Day), limit, false) // nothing was ever there
		}
	}
	// What is appended but not durable is neither: it may come.
	step(1, market.Minute)
	page, err := w.s.History(t.Context(), market.HistoryQuery{ID: w.mk.ids[0], From: last, To: last.Add(market.Day), Limit: 9})
	if err != nil || len(page.Points) != 1 || len(page.Gaps) != 0 || !page.Truncated {
		t.Fatalf("with a tick under way: %+v, %v", page, err)
	}
	// A token that nobody knows has no points, so all is a gap.
	w.commit()
	if points, gaps, _ := w.walked(market.HistoryQuery{ID: 999, From: begin, To: last, Limit: 9}); len(points) != 0 || !slices.Equal(gaps, []market.Gap{{From: begin, To: last}}) {
		t.Fatalf("an unknown token: %v %v", points, gaps)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkGaps wants points and gaps to fill the asked stretch. Raw gaps depend on
// the cadence, which changes all the time here.
func (w *walk) checkGaps(q market.HistoryQuery, points []market.Point, gaps []market.Gap) {
	w.t.Helper()
	width := q.Granularity.Width()
	durable := w.s.durable.Load()
	if width == 0 || durable.seq == 0 || q.From >= q.To {
		return
	}
	end := q.To
	for _, t := range w.model.ticks {
		if t.Env.Seq == durable.seq && end > durable.at && (w.model.last() > durable.seq || end.Sub(durable.at+1) <= 3*t.Env.Cadence) {
			end = min(end, durable.at+1)
		}
	}
	from := (q.From + market.Time(width) - 1) / market.Time(width) * market.Time(width)
	if want := holes(points, width, 0, from, end); !slices.Equal(gaps, want) {
		w.t.Fatalf("%s from %d to %d: gaps\n%v, want\n%v", q.Granularity, q.From, q.To, gaps, want)
	}
}
