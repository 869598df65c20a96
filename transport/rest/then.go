package rest

import (
	"context"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/gate"
)

// Limits of ?at= on a list of tokens: reading a whole market takes longer than
// one token's history, and memory.
const (
	thenTime  = 10 * time.Second
	thenReads = 2 // at a time
	thenWaits = 6 // more
)

// marketThen returns the whole market of an instant, from memory if it was read
// lately. Few are read at a time; who has to wait does so within the limit.
func (a *API) marketThen(b *market.Board, at market.Time) (*pastBoard, *fault) {
	if p := a.thens.find(b.Epoch, at); p != nil {
		return p, nil
	}
	if a.cfg.Past == nil {
		return nil, &faultHistory
	}
	var p *pastBoard
	f := a.inTurn(a.lists, thenTime, func(ctx context.Context) error {
		select {
		case a.reads <- struct{}{}:
			defer func() { <-a.reads }()
		case <-ctx.Done():
			return ctx.Err()
		}
		if p = a.thens.find(b.Epoch, at); p != nil { // read while this one waited
			return nil
		}
		page, err := a.cfg.Past.Past(ctx, market.PastQuery{At: at, Alive: aliveSince(b, at)})
		if err != nil {
			return err
		}
		p = newPastBoard(b, at, page)
		return nil
	}, "at", int64(at))
	if f == nil {
		f = outside(at, p.page)
	}
	if f != nil {
		return nil, f
	}
	a.thens.keep(p)
	return p, nil
}

// tokenThen returns one token of an instant.
func (a *API) tokenThen(b *market.Board, id market.ID, at market.Time) (p *pastBoard, f *fault) {
	if a.cfg.Past == nil {
		return nil, &faultHistory
	}
	f = a.inTurn(a.queries, queryTime, func(ctx context.Context) error {
		page, err := a.cfg.Past.Past(ctx, market.PastQuery{At: at, ID: id})
		if err == nil {
			p = newPastBoard(b, at, page)
		}
		return err
	}, "at", int64(at), "token", uint32(id))
	if f == nil {
		f = outside(at, p.page)
	}
	return p, f
}

// retiredMargin is by how much the instants of ticks may differ from the times
// of the retirements in them.
const retiredMargin = market.Second

// aliveSince lists what is likely to be found: the tokens of the present market,
// and those that retired since then.
func aliveSince(b *market.Board, at market.Time) []market.Alive {
	alive := make([]market.Alive, 0, b.Len()+len(b.Tombstones))
	for s := range b.All {
		alive = append(alive, market.Alive{ID: s.ID, First: s.VersionBase()})
	}
	for i := range b.Tombstones {
		if t := &b.Tombstones[i]; t.Time > at.Add(-retiredMargin) {
			alive = append(alive, market.Alive{ID: t.ID})
		}
	}
	return alive
}

// outside refuses an instant of which history cannot speak.
func outside(at market.Time, p *market.PastMarket) *fault {
	text := func(t market.Time) string { return string(t.AppendRFC3339(nil)) }
	switch {
	case p.Durable == 0:
		return &faultHistory
	case at > p.Durable:
		return faultParam("at", "must not be after the newest durable tick, "+text(p.Durable))
	case at < p.Oldest:
		return &fault{
			status: fasthttp.StatusNotFound, code: "not_kept",
			detail:      "nothing is kept of " + text(at),
			remediation: "the oldest time to ask for is " + text(p.Oldest),
		}
	}
	return nil
}

// faultParam complains about one parameter.
func faultParam(name, reason string) *fault {
	return faultArgs(&args{faults: []gate.ParamError{{Param: name, Reason: reason}}})
}

// keptSelection returns the members of a token that exist at a granularity.
func keptSelection(g market.Granularity) selection {
	sel := selection(market.KeptFields(g)|market.TextFields) | selCapClass | selUpdatedAt | selLinks
	if g == market.GranularityRaw {
		sel |= selReceivedAt
	}
	return sel
}

// sortsAt names the sorts that are possible at a granularity.
func sortsAt(g market.Granularity) (names []string) {
	for k := range numSorts {
		if keptSelection(g).has(sortFields[k]) {
			names = append(names, sortNames[k])
		}
	}
	return names
}

// unkept complains about what was asked for and is not kept.
func unkept(g market.Granularity, sort sortKey, fields []string) *fault {
	kept := keptSelection(g)
	if !kept.has(sortFields[sort]) {
		return faultParam("sort", "is not kept of that time (granularity "+g.String()+"), where these are: "+strings.Join(sortsAt(g), ", "))
	}
	for _, name := range fields {
		if sel := selectors[name]; sel != 0 && sel&kept == 0 {
			return faultParam("fields", "holds "+name+", which is not kept of that time (granularity "+g.String()+")")
		}
	}
	return nil
}

// thenQuery is what ?at= adds to a question.
type thenQuery struct {
	at     market.Time
	fields []string // as given; nil for all
}

// then reads ?at=; ok is false where it is not given or bad.
func (a *args) then() (q thenQuery, ok bool) {
	q.at = a.instant("at", 0)
	if text, given := a.get("fields"); given {
		q.fields = strings.Split(text, ",")
	}
	return q, a.has("at")
}

func (q *thenQuery) key(of string) string { return of + " at " + strconv.FormatInt(int64(q.at), 10) }

func (a *API) planListThen(q *listQuery, then *thenQuery, m media) *plan {
	return &plan{key: then.key(q.key()), media: m, past: true, build: func(m *moment, out *output) *fault {
		p, f := a.marketThen(m.board, then.at)
		if f == nil {
			f = unkept(p.page.Granularity, q.sort, then.fields)
		}
		if f != nil {
			return f
		}
		tokens, total := q.selectFrom(p.orders.sorted(q.sort, q.order))
		dst, start := p.appendHead(out.body, m)
		dst = append(dst, '[')
		for i, s := range tokens {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = p.appendToken(dst, s, q.fields)
		}
		out.body = q.appendTail(append(dst, ']'), len(tokens), total, p.orders.board)
		out.fix(then.at, start)
		return nil
	}}
}

// lookupThen finds the token of a path: as lookup does, but an id need not be
// of the present market.
func (a *API) lookupThen(b *market.Board, text string) (market.ID, *fault) {
	s, f := a.lookup(b, text)
	if f == nil {
		return s.ID, nil
	}
	if f == &faultToken && allDigits(text) {
		n, err := strconv.ParseUint(text, 10, 32)
		if err == nil && n > 0 {
			return market.ID(n), nil
		}
	}
	return 0, f
}

func (a *API) planTokenThen(id market.ID, fields selection, then *thenQuery, m media) *plan {
	key := then.key("/token " + idText(id) + " " + strconv.FormatUint(uint64(fields), 10))
	return &plan{key: key, media: m, past: true, build: func(m *moment, out *output) *fault {
		p, f := a.tokenThen(m.board, id, then.at)
		if f != nil {
			return f
		}
		s := p.orders.board.Token(id)
		if s == nil {
			return faultThen(then.at)
		}
		if f := unkept(p.grain(id), sortSymbol, then.fields); f != nil {
			return f
		}
		dst, start := p.appendHead(out.body, m)
		out.body = append(p.appendToken(dst, s, fields), '}')
		out.fix(then.at, start)
		return nil
	}}
}

func faultThen(at market.Time) *fault {
	return &fault{
		status: fasthttp.StatusNotFound, code: "token_not_found",
		detail: "the token has no value of " + string(at.AppendRFC3339(nil)) + " or the " + strconv.Itoa(int(market.PastLookBack/market.Hour)) +
			" h before: it was not tracked, had been retired, or nothing was heard of it",
		remediation: "see when it has values in its /history, or ask for another time",
	}
}

// fix makes the ETag depend on the instant and on what is said of it, which later
// ticks do not change. start is where the body ceases to be about now.
func (o *output) fix(at market.Time, start int) {
	h := fnv.New64a()
	_, _ = h.Write(o.body[start:]) // never fails
	o.fixed = true
	o.tag = append(strconv.AppendInt(nil, int64(at), 36), '-')
	o.tag = strconv.AppendUint(o.tag, h.Sum64(), 36)
}
