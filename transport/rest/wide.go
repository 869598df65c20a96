package rest

import (
	"slices"
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

func (a *API) parseMarket(r *request) (*plan, *fault) {
	args := parseArgs(r.query, nil)
	if f := finishArgs(args); f != nil {
		return nil, f
	}
	return &plan{key: "/market", media: r.media(1), build: func(m *moment, out *output) *fault {
		out.body = append(a.appendMarket(m.appendHead(out.body), m.board), '}')
		return nil
	}}, nil
}

// dominant is how many tokens /market lists by their share.
const dominant = 10

func (a *API) appendMarket(dst []byte, b *market.Board) []byte {
	var c census
	for s := range b.All {
		c.add(s)
	}
	t := b.Totals
	velocity := market.Null
	if t.MarketCap > 0 {
		velocity = market.Fixed(float64(t.Volume24h)/float64(t.MarketCap), -9)
	}
	dst = strconv.AppendInt(append(dst, `{"tokens":`...), int64(b.Len()), 10)
	dst = strconv.AppendInt(append(dst, `,"market_cap":`...), t.MarketCap, 10)
	dst = strconv.AppendInt(append(dst, `,"volume_24h":`...), t.Volume24h, 10)
	dst = velocity.AppendText(append(dst, `,"velocity":`...))
	dst = append(dst, `,"dominance":[`...)
	for i, s := range c.top {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(append(dst, `{"id":`...), uint64(s.snap.ID), 10)
		dst = appendString(append(dst, `,"symbol":`...), infoOf(s.snap).Symbol)
		dst = share(s.cap, t.MarketCap).AppendText(append(dst, `,"pct":`...))
		dst = append(dst, '}')
	}
	return append(c.append(append(dst, ']')), '}')
}

// share returns 100 · part / whole in percent, Null for an empty whole.
func share(part market.Decimal, whole int64) market.Decimal {
	if whole <= 0 {
		return market.Null
	}
	return market.Fixed(100*part.Float()/float64(whole), -4)
}

// weighty is a token with the capitalisation it counts with.
type weighty struct {
	snap *market.Snapshot
	cap  market.Decimal
}

// census counts a board in one walk. Every token counts in breadth, flags and
// freshness, so each of these adds up to the whole; an excluded token has its
// last accepted capitalisation.
type census struct {
	breadth   [market.NumPeriods][market.NumDirections]int
	flags     [market.NumFlags]int
	freshness [market.NumFreshness]int
	top       []weighty // biggest first
}

func (c *census) add(s *market.Snapshot) {
	for p := range market.NumPeriods {
		if d := s.Int(p.Direction()); d >= 0 && d < int64(market.NumDirections) {
			c.breadth[p][d]++
		}
	}
	flags := s.Flags()
	for bit := range market.NumFlags {
		c.flags[bit] += int(flags >> bit & 1)
	}
	if f := s.Freshness(); f < market.NumFreshness {
		c.freshness[f]++
	}
	w := weighty{s, s.Value(market.FieldMarketCap)}
	if flags.Excluded() {
		w.cap = s.AcceptedCap
	}
	c.rank(w)
}

// rank keeps the list of the biggest; ties go to the lower id.
func (c *census) rank(w weighty) {
	if !w.cap.Positive() {
		return
	}
	at := len(c.top)
	for at > 0 && bigger(w, c.top[at-1]) {
		at--
	}
	if at == dominant {
		return
	}
	c.top = slices.Insert(c.top, at, w)
	c.top = c.top[:min(len(c.top), dominant)]
}

func bigger(a, b weighty) bool {
	if c := a.cap.Cmp(b.cap); c != 0 {
		return c > 0
	}
	return a.snap.ID < b.snap.ID
}

func (c *census) append(dst []byte) []byte {
	dst = append(dst, `,"breadth":{`...)
	for p := range market.NumPeriods {
		if p > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendName(dst, p.String()), ':')
		n := &c.breadth[p]
		dst = appendCounts(dst, []string{"increasing", "decreasing", "stable", "insufficient"},
			[]int{n[market.Increasing], n[market.Decreasing], n[market.Stable], n[market.Insufficient]})
	}
	dst = appendCounts(append(dst, `},"flags":`...), market.FlagNames(), c.flags[:])
	names := []string{market.Fresh.String(), market.Aging.String(), market.Stale.String()}
	return appendCounts(append(dst, `,"freshness":`...), names, c.freshness[:])
}

func appendCounts(dst []byte, names []string, counts []int) []byte {
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(appendName(dst, name), ':'), int64(counts[i]), 10)
	}
	return append(dst, '}')
}

var (
	moverParams    = []string{"period", "limit", "direction"}
	directionNames = []string{"up", "down", "both"}
	periodNames    = func() (names []string) {
		for p := range market.NumPeriods {
			names = append(names, p.String())
		}
		return names
	}()
)

// Limits of /movers.
const (
	maxMovers     = 100
	defaultMovers = 20
)

const (
	moversUp = iota
	moversDown
	moversBoth
)

func (a *API) parseMovers(r *request) (*plan, *fault) {
	args := parseArgs(r.query, moverParams)
	period := market.Period(args.choice("period", periodNames, int(market.Period1h)))
	limit := args.count("limit", maxMovers, defaultMovers)
	direction := args.choice("direction", directionNames, moversBoth)
	if f := finishArgs(args); f != nil {
		return nil, f
	}
	key := "/movers " + period.String() + " " + strconv.Itoa(limit) + " " + directionNames[direction]
	return &plan{key: key, media: r.media(1), build: func(m *moment, out *output) *fault {
		o := a.ordersOf(m.board)
		var up, down []*market.Snapshot
		if direction != moversDown {
			up = movers(o, period, descending, limit)
		}
		if direction != moversUp {
			down = movers(o, period, ascending, limit)
		}
		dst := appendName(append(m.appendHead(out.body), `{"period":`...), period.String())
		dst = appendTokens(append(dst, `,"up":`...), up)
		dst = appendTokens(append(dst, `,"down":`...), down)
		dst = append(dst, `}}`...)
		out.body = dst
		return nil
	}}, nil
}

// movers returns the largest changes in one direction: excluded tokens and
// those without a change are left out, and so is what did not move.
func movers(o *orders, p market.Period, order, limit int) []*market.Snapshot {
	sorted := o.sorted(sortChange1h+sortKey(p), order)
	for i, s := range sorted {
		change := s.Value(p.Change())
		moved := change.Mant > 0
		if order == ascending {
			moved = change.Mant < 0
		}
		if i == limit || s.Flags().Excluded() || !moved {
			return sorted[:i]
		}
	}
	return sorted
}
