package rest

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// queryTime bounds one history question.
const queryTime = 2 * time.Second

// ask puts a question to the history store: one of a bounded number, for a
// bounded time.
func (a *API) ask(q market.HistoryQuery) (*market.HistoryPage, *fault) {
	p := &market.HistoryPage{}
	f := a.askEach(q, p, func(point *market.Point) error {
		if p.Points == nil {
			p.Points = make([]market.Point, 0, min(q.Limit, fewPoints))
		}
		p.Points = append(p.Points, *point)
		return nil
	})
	if f != nil {
		return nil, f
	}
	return p, nil
}

// fewPoints are what pages that are asked for as a whole hold at most.
const fewPoints = 289

// askEach is ask point by point: what p holds of them stays as it is.
func (a *API) askEach(q market.HistoryQuery, p *market.HistoryPage, each func(*market.Point) error) *fault {
	if a.cfg.History == nil {
		return &faultHistory
	}
	return a.inTurn(a.queries, queryTime, func(ctx context.Context) error {
		return a.cfg.History.EachPoint(ctx, q, p, each)
	}, "token", uint32(q.ID), "granularity", q.Granularity.String())
}

// inTurn reads history as one of the questions that a channel bounds, for a
// bounded time. about says for the log what was asked.
func (a *API) inTurn(turns chan struct{}, within time.Duration, read func(context.Context) error, about ...any) *fault {
	select {
	case turns <- struct{}{}:
		defer func() { <-turns }()
	default:
		a.meters.pastBusy.Inc()
		return &faultBusy
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	err := read(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		a.meters.pastErrors.Inc()
		return &faultSlow
	}
	a.meters.pastErrors.Inc()
	a.cfg.Logger.Error("cannot read history", append(about, "error", err)...)
	return &faultHistory
}

// pastTag tells answers apart that the same tick gives as more becomes durable.
func pastTag(durable uint64, from market.Time) []byte {
	b := strconv.AppendUint(nil, durable, 36)
	return strconv.AppendInt(append(b, '-'), int64(from), 36)
}

// alignDown rounds an instant down to a multiple of a width.
func alignDown(t market.Time, width market.Millis) market.Time {
	if width <= 0 {
		return t
	}
	return t / market.Time(width) * market.Time(width)
}

// lately returns the stretch of the last span, in whole points but for the one
// that is under way, and how many points that is.
func lately(now market.Time, span market.Millis, g market.Granularity) (from, to market.Time, points int) {
	from, to = alignDown(now+1-market.Time(span), g.Width()), now+1
	return from, to, int(alignUp(to, g.Width()).Sub(from) / g.Width())
}

// alignUp rounds an instant up to a multiple of a width.
func alignUp(t market.Time, width market.Millis) market.Time {
	if width <= 0 {
		return t
	}
	w := market.Time(width)
	return (t + w - 1) / w * w
}

// seriesGranularity, seriesSpan: what /velocity shows of the past.
const (
	seriesGranularity = market.Granularity5m
	seriesSpan        = market.Day
)

// series returns the last day of a token at 5 minutes. Without a store, or when
// it fails, there is none: the live part of the answer must not depend on it.
func (a *API) series(id market.ID, now market.Time) *market.HistoryPage {
	from, to, points := lately(now, seriesSpan, seriesGranularity)
	q := market.HistoryQuery{ID: id, From: from, To: to, Granularity: seriesGranularity, Limit: points}
	if p, f := a.ask(q); f == nil && p != nil {
		return p
	}
	return &market.HistoryPage{}
}

// summary adds points up for ?detail=full. All five of its values are on one
// basis, so that min ≤ mean ≤ max: price and velocity are those of every sample,
// as the points hold their open, high, low, close and mean; of market_cap and
// volume_24h a point keeps no open, high or low, so theirs are those of the
// points' closing values, each of which counts once.
type summary struct {
	points           int
	low, high        market.Decimal
	first, last      market.Decimal
	weighted, weight float64
}

func newSummary() summary {
	return summary{low: market.Null, high: market.Null, first: market.Null, last: market.Null}
}

// add takes one bar in; a bar without a close holds nothing.
func (s *summary) add(b *market.Bar, weight float64) {
	last := or(b.Close, b.Mean)
	if last.IsNull() {
		return
	}
	s.points++
	low, high := or(b.Low, last), or(b.High, last)
	if s.low.IsNull() || low.Cmp(s.low) < 0 {
		s.low = low
	}
	if s.high.IsNull() || high.Cmp(s.high) > 0 {
		s.high = high
	}
	if s.first.IsNull() {
		s.first = or(b.Open, last)
	}
	s.last = last
	s.weighted += weight * or(b.Mean, last).Float()
	s.weight += weight
}

// closing is a bar of nothing but the closing value of another.
func closing(b *market.Bar) *market.Bar {
	return &market.Bar{Open: b.Close, High: b.Close, Low: b.Close, Close: b.Close, Mean: b.Close}
}

func or(d, fallback market.Decimal) market.Decimal {
	if d.IsNull() {
		return fallback
	}
	return d
}

// append prints the summary; expected is the number of points of the range.
func (s *summary) append(dst []byte, expected int) []byte {
	mean := market.Null
	if s.weight > 0 {
		mean = finite(s.weighted/s.weight, 12)
	}
	coverage := math.Min(float64(s.points)/math.Max(float64(expected), 1), 1)
	dst = s.low.AppendText(append(dst, `{"min":`...))
	dst = s.high.AppendText(append(dst, `,"max":`...))
	dst = mean.AppendText(append(dst, `,"mean":`...))
	dst = s.first.AppendText(append(dst, `,"open":`...))
	dst = s.last.AppendText(append(dst, `,"close":`...))
	dst = strconv.AppendInt(append(dst, `,"points":`...), int64(s.points), 10)
	dst = market.Fixed(coverage, -2).AppendText(append(dst, `,"coverage":`...))
	return append(dst, '}')
}

// summaryGranularities go with the ranges: 60 to 288 points each.
var summaryGranularities = []market.Granularity{
	market.Granularity1m, market.Granularity1m, market.Granularity5m, market.Granularity5m, market.Granularity1h, market.Granularity4h,
}

// appendFull is the token object with the history summary inside.
func (a *API) appendFull(m *moment, out *output, s *market.Snapshot, fields selection, span int) *fault {
	g := summaryGranularities[span]
	from, to, expected := lately(m.now, rangeSpans[span], g)
	p, f := a.ask(market.HistoryQuery{ID: s.ID, From: from, To: to, Granularity: g, Limit: expected})
	if f != nil {
		return f
	}
	dst := appendToken(m.appendHead(out.body), s, fields)
	dst = append(dst[:len(dst)-1], `,"history":{"range":"`...)
	dst = append(append(dst, rangeNames[span]...), `","granularity":"`...)
	dst = append(append(dst, g.String()...), `","from":`...)
	dst = appendInstant(dst, from)
	dst = appendInstant(append(dst, `,"to":`...), to)
	dst = strconv.AppendUint(append(dst, `,"durable_seq":`...), p.DurableSeq, 10)
	dst = appendSummaries(dst, p.Points, expected)
	dst = append(dst, `}}}`...)
	out.body = dst
	out.tag = pastTag(p.DurableSeq, from)
	return nil
}

func appendSummaries(dst []byte, points []market.Point, expected int) []byte {
	price, marketCap, volume, velocity := newSummary(), newSummary(), newSummary(), newSummary()
	for i := range points {
		p := &points[i]
		samples := math.Max(float64(p.Count), 1)
		price.add(&p.Price, samples)
		marketCap.add(closing(&p.Cap), 1)
		volume.add(closing(&p.Volume), 1)
		velocity.add(&p.Velocity, samples)
	}
	dst = price.append(append(dst, `,"price":`...), expected)
	dst = marketCap.append(append(dst, `,"market_cap":`...), expected)
	dst = volume.append(append(dst, `,"volume_24h":`...), expected)
	return velocity.append(append(dst, `,"velocity":`...), expected)
}
