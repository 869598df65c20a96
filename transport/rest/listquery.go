package rest

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Limits of GET /tokens.
const (
	maxLimit     = 1000
	defaultLimit = 100
	maxStart     = 1_000_000
	maxItems     = 500
	maxSymbol    = 64
	maxSearch    = 64
	maxFieldName = 40
)

// Upper bounds of the filters: USD and 1/day.
var (
	maxUSD      = market.NewDecimal(1, 18)
	maxVelocity = market.NewDecimal(1, 6)
)

var listParams = []string{
	"start", "limit", "sort", "order", "market_cap_min", "market_cap_max", "volume_24h_min", "volume_24h_max",
	"velocity_min", "velocity_max", "cap_class", "ids", "symbols", "search", "fields", "flagged", "at",
}

// bounds is an inclusive range; Null leaves an end open.
type bounds struct{ min, max market.Decimal }

// tri is an optional yes or no.
type tri uint8

const (
	unset tri = iota
	yes
	no
)

// listQuery is a normalised GET /tokens: equal questions have equal keys.
type listQuery struct {
	start, limit int
	sort         sortKey
	order        int
	cap          bounds
	volume       bounds
	velocity     bounds
	classes      uint8       // bit set of capClass; 0 all
	ids          []market.ID // ascending, no duplicates
	symbols      []string    // upper case, ascending, no duplicates
	search       string      // lower case
	fields       selection
	flagged      tri
}

func parseList(a *args) listQuery {
	q := listQuery{
		start: a.count("start", maxStart, 1),
		limit: a.count("limit", maxLimit, defaultLimit),
		sort:  sortKey(a.choice("sort", sortNames, int(sortMarketCap))),
	}
	q.order = a.choice("order", orderNames, q.sort.natural())
	q.cap = a.bounds("market_cap", maxUSD)
	q.volume = a.bounds("volume_24h", maxUSD)
	q.velocity = a.bounds("velocity", maxVelocity)
	q.classes = a.classes()
	q.ids = a.ids()
	q.symbols = a.symbols()
	q.search = a.search()
	q.fields = a.fields()
	q.flagged = a.flag("flagged")
	return q
}

func (a *args) bounds(name string, limit market.Decimal) bounds {
	b := bounds{min: a.decimal(name+"_min", limit), max: a.decimal(name+"_max", limit)}
	if !b.min.IsNull() && !b.max.IsNull() && b.min.Cmp(b.max) > 0 {
		a.fail(name+"_min", "must not be above "+name+"_max")
	}
	return b
}

func (a *args) classes() (set uint8) {
	for _, item := range a.list("cap_class", int(numClasses)-1, maxFieldName) {
		i := slices.Index(classNames[:], item)
		if i < 1 {
			a.fail("cap_class", "must be one of: "+strings.Join(classNames[1:], ", "))
			return 0
		}
		set |= 1 << i
	}
	return set
}

func (a *args) ids() []market.ID {
	items := a.list("ids", maxItems, 10)
	if len(items) == 0 {
		return nil
	}
	ids := make([]market.ID, 0, len(items))
	for _, item := range items {
		n, ok := parseInt(item)
		if !ok || n < 1 || n > math.MaxUint32 {
			a.fail("ids", "must be whole numbers from 1 to 4294967295 separated by single commas")
			return nil
		}
		ids = append(ids, market.ID(n))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (a *args) symbols() []string {
	items := a.list("symbols", maxItems, maxSymbol)
	for i := range items {
		items[i] = strings.ToUpper(items[i])
	}
	slices.Sort(items)
	return slices.Compact(items)
}

func (a *args) search() string {
	text, ok := a.get("search")
	if !ok {
		return ""
	}
	if len(text) > maxSearch || strings.TrimSpace(text) == "" {
		a.fail("search", "must be text of 1 to "+strconv.Itoa(maxSearch)+" bytes that is not blank")
		return ""
	}
	return strings.ToLower(text)
}

// fields reads ?fields= of a token object; all where it is not given.
func (a *args) fields() selection {
	items := a.list("fields", len(selectors), maxFieldName)
	if items == nil {
		return selAll
	}
	sel, ok := parseSelection(items)
	if !ok {
		a.fail("fields", "holds an unknown name; see /api/v1/schema, or leave it out for all")
		return selAll
	}
	slices.Sort(items)
	if len(slices.Compact(items)) < len(items) {
		a.fail("fields", "holds a name twice")
	}
	return sel
}

func (a *args) flag(name string) tri {
	switch a.choice(name, []string{"true", "false"}, -1) {
	case 0:
		return yes
	case 1:
		return no
	}
	return unset
}

// key returns the normalised query as text.
func (q *listQuery) key() string {
	b := make([]byte, 0, 160)
	b = append(b, "/tokens"...)
	for _, n := range [...]int{q.start, q.limit, int(q.sort), q.order, int(q.classes), int(q.fields), int(q.flagged)} {
		b = strconv.AppendInt(append(b, ' '), int64(n), 10)
	}
	for _, r := range [...]bounds{q.cap, q.volume, q.velocity} {
		b = r.min.AppendText(append(b, ' '))
		b = r.max.AppendText(append(b, ' '))
	}
	b = append(b, ' ')
	for _, id := range q.ids {
		b = strconv.AppendUint(append(b, ','), uint64(id), 10)
	}
	b = append(b, ' ')
	for _, s := range q.symbols {
		b = append(append(b, ','), s...)
	}
	return string(append(append(b, 0), q.search...))
}
