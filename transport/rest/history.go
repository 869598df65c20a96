package rest

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Limits of /history.
const (
	maxPoints     = 10_000
	defaultPoints = 1000
	maxTime       = market.Time(253402300799999) // the last millisecond of 9999
)

var historyParams = []string{"range", "from", "to", "granularity", "fields", "limit", "cursor"}

// historyFields are what ?fields= selects, as bits.
var historyFields = []string{"price", "market_cap", "volume_24h", "velocity", "flags"}

const (
	pastPrice = 1 << iota
	pastCap
	pastVolume
	pastVelocity
	pastFlags
	pastAll = 1<<iota - 1
)

var granularityNames = func() (names []string) {
	for g := range market.NumGranularities {
		names = append(names, g.String())
	}
	return names
}()

// historyQuery is a normalised GET /tokens/{id}/history.
type historyQuery struct {
	id          market.ID
	untracked   bool          // the token is not of the present market
	span        market.Millis // of a relative range; 0 where from and to are given
	from, to    market.Time
	open        bool // "to" was not given: it is now
	granularity market.Granularity
	fields      int
	limit       int
	after       market.Time
	media       media
	question    string // what a cursor is bound to: token, range and fields
}

func (a *API) parseHistory(r *request) (*plan, *fault) {
	args := parseArgs(r.query, historyParams)
	q := historyQuery{
		limit: args.count("limit", maxPoints, defaultPoints), fields: args.historyFields(), media: r.media(noMedia),
	}
	args.window(&q, r.now)
	args.granularity(&q, r.now)
	if f := finishArgs(args); f != nil {
		return nil, f
	}
	id, f := a.lookupThen(r.board, r.token)
	if f != nil {
		return nil, f
	}
	q.id, q.untracked = id, r.board.Token(id) == nil
	q.question = idText(q.id) + "?" + q.rangeAndFields()
	if f := a.resume(args, &q); f != nil {
		return nil, f
	}
	return &plan{key: q.key(), media: q.media, past: true, build: func(m *moment, out *output) *fault {
		return a.appendHistory(m, out, &q)
	}}, nil
}

// resume takes the cursor in, where there is one.
func (a *API) resume(args *args, q *historyQuery) *fault {
	text, ok := args.get("cursor")
	if !ok {
		return nil
	}
	c, ok := a.cursors.decode(text, q.question)
	if !ok || args.has("granularity") && c.granularity != q.granularity {
		args.fail("cursor", "is not one that this question gave out; begin again without it")
		return faultArgs(args)
	}
	q.from, q.to, q.after, q.granularity = c.from, c.to, c.after, c.granularity
	q.span, q.open = 0, false
	return nil
}

// window reads range, or from and to.
func (a *args) window(q *historyQuery, now market.Time) {
	if a.has("from") || a.has("to") {
		if a.has("range") {
			a.fail("range", "must not be given together with from and to")
		}
		if !a.has("from") {
			a.fail("from", "is required where to is given")
			return
		}
		q.from = a.instant("from", 0)
		q.open = !a.has("to")
		q.to = a.instant("to", now+1)
		switch {
		case a.failed("from") || a.failed("to"):
		case q.from >= q.to:
			a.fail("from", "must be before to, or before now where to is left out")
		}
		return
	}
	q.span = rangeSpans[a.choice("range", rangeNames, range24h)]
}

// instant reads RFC 3339 or whole milliseconds since 1970.
func (a *args) instant(name string, fallback market.Time) market.Time {
	text, ok := a.get(name)
	if !ok {
		return fallback
	}
	if t, ok := ParseInstant(text); ok {
		return t
	}
	a.fail(name, "must be RFC 3339 such as 2026-11-20T18:00:00Z (a plus sign percent-encoded), or milliseconds since 1970, from 1970 to 9999")
	return fallback
}

// ParseInstant reads an instant as /history takes it: RFC 3339 or whole
// milliseconds since 1970, up to the year 9999.
func ParseInstant(text string) (market.Time, bool) {
	if n, ok := parseInt(text); ok && n <= int64(maxTime) {
		return market.Time(n), true
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil && len(text) <= 40 {
		if m := market.TimeOf(t); m >= 0 && m <= maxTime {
			return m, true
		}
	}
	return 0, false
}

// granularity reads its parameter; without it the finest that shows the span in
// about 300 points is taken.
func (a *args) granularity(q *historyQuery, now market.Time) {
	if !a.has("granularity") {
		q.granularity = fitting(q, now)
		return
	}
	q.granularity = market.Granularity(a.choice("granularity", granularityNames, int(market.Granularity5m)))
}

const niceWidth = 300

func fitting(q *historyQuery, now market.Time) market.Granularity {
	span := q.span
	if span == 0 {
		span = min(q.to, now).Sub(q.from)
	}
	for g := market.Granularity1m; g < market.Granularity1d; g++ {
		if span/g.Width() <= niceWidth {
			return g
		}
	}
	return market.Granularity1d
}

func (a *args) historyFields() int {
	items := a.list("fields", len(historyFields), maxFieldName)
	if items == nil {
		return pastAll
	}
	set := 0
	for _, item := range items {
		i := slices.Index(historyFields, item)
		if i < 0 || set>>i&1 != 0 {
			a.fail("fields", "must be distinct names of: "+strings.Join(historyFields, ", "))
			return pastAll
		}
		set |= 1 << i
	}
	return set
}

// rangeAndFields prints what names the question, as a link repeats it.
func (q *historyQuery) rangeAndFields() string {
	var b []byte
	if q.span != 0 {
		b = append(b, "range="+rangeNames[slices.Index(rangeSpans, q.span)]...)
	} else {
		b = strconv.AppendInt(append(b, "from="...), int64(q.from), 10)
		if !q.open {
			b = strconv.AppendInt(append(b, "&to="...), int64(q.to), 10)
		}
	}
	if q.fields != pastAll {
		b = append(b, "&fields="...)
		for i, name := range historyFields {
			if q.fields>>i&1 != 0 {
				b = append(append(b, name...), ',')
			}
		}
		b = b[:len(b)-1]
	}
	return string(b)
}

// link returns the target of the page at a cursor.
func (q *historyQuery) link(next string) string {
	path, query, _ := strings.Cut(q.question, "?")
	return "/api/v1/tokens/" + path + "/history?" + query + "&granularity=" + q.granularity.String() +
		"&limit=" + strconv.Itoa(q.limit) + "&cursor=" + next
}

// stretch returns what the answer speaks of: from is rounded down and to up to
// the points of the granularity, but never past now (to is exclusive, so the
// millisecond of now is in). Later pages keep the stretch of the first.
func (q *historyQuery) stretch(now market.Time) (from, to market.Time) {
	if q.after != 0 {
		return q.from, q.to
	}
	from, to = q.from, q.to
	if q.open || q.span != 0 {
		to = now + 1
	}
	if q.span != 0 {
		from = to.Add(-q.span)
	}
	width := q.granularity.Width()
	from = alignDown(from, width)
	return from, max(from, min(alignUp(to, width), now+1))
}

// key leaves a "to" out that means now: it is a question about the moment of encoding.
func (q *historyQuery) key() string {
	b := []byte("/history " + q.question + " " + q.granularity.String() + " " + strconv.Itoa(q.limit))
	to := q.to
	if q.open {
		to = -1
	}
	for _, t := range [...]market.Time{q.from, to, q.after} {
		b = strconv.AppendInt(append(b, ' '), int64(t), 10)
	}
	return string(append(b, ' ', 'a'+byte(q.media)))
}

// appendHistory asks the store and prints its page in the wanted media type.
func (a *API) appendHistory(m *moment, out *output, q *historyQuery) *fault {
	b := historyBody{m: m, q: q, dst: out.body, ask: market.HistoryQuery{ID: q.id, Granularity: q.granularity, Limit: q.limit, After: q.after}}
	b.ask.From, b.ask.To = q.stretch(m.now)
	if f := a.askEach(b.ask, &b.page, b.add); f != nil {
		return f
	}
	if q.untracked && b.count == 0 && q.after == 0 {
		return &faultPastToken
	}
	next := ""
	if b.page.Next != 0 {
		next = a.cursors.encode(cursor{b.ask.From, b.ask.To, b.page.Next, q.granularity}, q.question)
		out.link = "<" + q.link(next) + `>; rel="next"`
	}
	// A gap may begin without anything being recorded.
	out.tag = strconv.AppendInt(append(pastTag(b.page.DurableSeq, b.ask.From), '-'), int64(len(b.page.Gaps)), 36)
	for _, g := range b.page.Lost {
		out.tag = strconv.AppendInt(append(out.tag, '-'), int64(g.From^g.To), 36)
	}
	out.tag = append(out.tag, 'a'+byte(q.media))
	out.body = b.end(next)
	return nil
}
