package rest

import (
	"slices"
	"strconv"
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
)

// finishArgs refuses a request whose parameters have faults.
func finishArgs(a *args) *fault {
	if len(a.faults) > 0 {
		return faultArgs(a)
	}
	return nil
}

func (a *API) parseTokens(r *request) (*plan, *fault) {
	args := parseArgs(r.query, listParams)
	q := parseList(args)
	then, past := args.then()
	if f := finishArgs(args); f != nil {
		return nil, f
	}
	if past {
		return a.planListThen(&q, &then, r.media(1)), nil
	}
	return &plan{key: q.key(), media: r.media(1), build: func(m *moment, out *output) *fault {
		a.appendList(m, out, &q)
		return nil
	}}, nil
}

func (a *API) appendList(m *moment, out *output, q *listQuery) {
	tokens, total := q.selectFrom(a.ordersOf(m.board).sorted(q.sort, q.order))
	dst := append(m.appendHead(out.body), '[')
	for i, s := range tokens {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendToken(dst, s, q.fields)
	}
	out.body = q.appendTail(append(dst, ']'), len(tokens), total, m.board)
}

// appendTail ends the answer to a list of which shown tokens were printed.
func (q *listQuery) appendTail(dst []byte, shown, total int, b *market.Board) []byte {
	p := page{total: total, start: q.start, limit: q.limit}
	if end := q.start + shown; shown > 0 && end <= total {
		p.next = end
	}
	dst = p.append(dst)
	if absent := q.absent(b); len(absent) > 0 {
		dst = append(dst, `,"missing":[`...)
		for i, text := range absent {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, text...)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// Find returns the token that a path names, an id or a slug, as of now; nil where
// there is none.
func (a *API) Find(text string) *market.Snapshot {
	b := a.cfg.Boards.Board()
	if b == nil {
		return nil
	}
	s, _ := a.lookup(b, text)
	return s
}

// lookup finds the token of a path: an id, or else a slug.
func (a *API) lookup(b *market.Board, text string) (*market.Snapshot, *fault) {
	if !validSlug(text) {
		return nil, &faultTokenForm
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && text[0] != '0' && n <= 1<<32-1 {
		if s := b.Token(market.ID(n)); s != nil {
			return s, nil
		}
	} else if allDigits(text) {
		return nil, &faultTokenForm
	}
	if s := a.slugs.find(b, text); s != nil {
		return s, nil
	}
	return nil, &faultToken
}

const maxSlug = 100

func validSlug(s string) bool {
	if s == "" || len(s) > maxSlug {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c-'0' > 9 && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '_' && c != '.' && c != '~' {
			return false
		}
	}
	return true
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i]-'0' > 9 {
			return false
		}
	}
	return true
}

// slugIndex finds tokens by slug. Slugs hardly ever change, so an index is kept
// across boards, each hit is checked against the board at hand, and only a miss
// on a newer board rebuilds it. Bounded by the number of tokens.
type slugIndex struct {
	mu    sync.RWMutex
	board *market.Board
	ids   map[string]market.ID
}

func (x *slugIndex) find(b *market.Board, slug string) *market.Snapshot {
	x.mu.RLock()
	id, known := x.ids[slug]
	current := x.board == b
	x.mu.RUnlock()
	if known {
		if s := b.Token(id); s != nil && infoOf(s).Slug == slug {
			return s
		}
	}
	if current {
		return nil
	}
	return b.Token(x.rebuild(b)[slug])
}

// rebuild indexes a board; of equal slugs the lowest id wins.
func (x *slugIndex) rebuild(b *market.Board) map[string]market.ID {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.board == b {
		return x.ids
	}
	ids := make(map[string]market.ID, b.Len())
	for s := range b.All {
		slug := infoOf(s).Slug
		if first, taken := ids[slug]; slug != "" && (!taken || s.ID < first) {
			ids[slug] = s.ID
		}
	}
	x.board, x.ids = b, ids
	return ids
}

var (
	tokenParams = []string{"range", "detail", "fields", "at"}
	detailNames = []string{"basic", "full"}
)

// ranges are the spans that ?range= names, and the granularity that shows each best.
var (
	rangeNames = []string{"1h", "4h", "12h", "24h", "7d", "30d"}
	rangeSpans = []market.Millis{
		market.Hour, 4 * market.Hour, 12 * market.Hour, market.Day, 7 * market.Day, 30 * market.Day,
	}
)

const range24h = 3

func (a *API) parseToken(r *request) (*plan, *fault) {
	args := parseArgs(r.query, tokenParams)
	full := args.choice("detail", detailNames, 0) == 1
	span := args.choice("range", rangeNames, range24h)
	fields := args.fields()
	then, past := args.then()
	if past && (full || args.has("range")) {
		args.fail("at", "must not be given together with range or detail=full, which are about now")
	}
	if f := finishArgs(args); f != nil {
		return nil, f
	}
	if past {
		id, f := a.lookupThen(r.board, r.token)
		if f != nil {
			return nil, f
		}
		return a.planTokenThen(id, fields, &then, r.media(1)), nil
	}
	s, f := a.lookup(r.board, r.token)
	if f != nil {
		return nil, f
	}
	p := &plan{key: "/token " + idText(s.ID) + " " + strconv.FormatUint(uint64(fields), 10), media: r.media(1)}
	if !full {
		p.build = func(m *moment, out *output) *fault {
			out.body = append(appendToken(m.appendHead(out.body), m.board.Token(s.ID), fields), '}')
			return nil
		}
		return p, nil
	}
	p.key += " " + rangeNames[span]
	p.past = true
	p.build = func(m *moment, out *output) *fault { return a.appendFull(m, out, s, fields, span) }
	return p, nil
}

func idText(id market.ID) string { return strconv.FormatUint(uint64(id), 10) }

// appendTokens appends tokens as an array.
func appendTokens(dst []byte, tokens []*market.Snapshot) []byte {
	dst = append(dst, '[')
	for i, s := range slices.All(tokens) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendToken(dst, s)
	}
	return append(dst, ']')
}
